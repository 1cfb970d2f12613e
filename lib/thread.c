#include "thread.h"

#include <sched.h>
#include <signal.h>
#include <unistd.h>

int det_thread_start(pthread_t *handle, void *(*run)(void *argument), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(handle, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int det_thread_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return DET_MAX(1, CPU_COUNT(&set));
    return DET_MAX(1, (int)sysconf(_SC_NPROCESSORS_ONLN));
}
