/* Threads that belong to the library. */
#ifndef DET_THREAD_H
#define DET_THREAD_H

#include "status.h"

#include <pthread.h>

/* Starts a thread that takes no signals: those are the host's. 0, or an error number. */
int det_thread_start(pthread_t *handle, void *(*run)(void *argument), void *argument);

/* Cores that this process may use, at least 1; a quota of their time is not seen. */
int det_thread_cores(void);

#endif
