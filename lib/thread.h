/* Threads that belong to the library. */
#ifndef DET_THREAD_H
#define DET_THREAD_H

#include "status.h"

#include <pthread.h>

/* Starts a thread that takes no signals: those are the host's. 0, or an error number. */
int det_thread_start(pthread_t *handle, void *(*run)(void *argument), void *argument);

#endif
