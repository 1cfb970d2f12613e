#include "timebase.h"

#include <errno.h>
#include <math.h>
#include <sys/prctl.h>
#include <time.h>

static double machine_now(timebase *time) {
    (void)time;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void machine_sleep_until(timebase *time, double when_s) {
    (void)time;
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* the default lets a sleep end 50 microseconds late */
    double whole = floor(when_s);
    struct timespec when = {.tv_sec = (time_t)whole, .tv_nsec = (long)(1e9 * (when_s - whole))};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
        continue;
}

timebase *timebase_machine(void) {
    static timebase machine = {.now = machine_now, .sleep_until = machine_sleep_until};
    return &machine;
}
