/* Microseconds of a clock that never goes back, and waiting by it. */
#ifndef DET_SERVING_CLOCK_H
#define DET_SERVING_CLOCK_H

#include "timing.h"

#include <pthread.h>
#include <stdbool.h>

static inline int64_t det_clock_us(void) {
    return det_clock_ns() / 1000;
}

/* A moment `delay_us` from `now_us`; negative or endless: INT64_MAX, which is never. */
static inline int64_t det_clock_after(int64_t now_us, int64_t delay_us) {
    return delay_us < 0 || delay_us > INT64_MAX - now_us ? INT64_MAX : now_us + delay_us;
}

/* Makes a condition for det_clock_wait of memory that is all zeros; false: it is as it was, which may be destroyed. */
static inline bool det_clock_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int error = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return error == 0;
}

/* Sleeps until a signal or until `until_us`, whichever comes first; INT64_MAX: a signal alone. */
static inline void det_clock_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until_us) {
    struct timespec until = {.tv_sec = (time_t)(until_us / 1000000), .tv_nsec = (long)(until_us % 1000000) * 1000};
    if (until_us == INT64_MAX)
        pthread_cond_wait(condition, mutex);
    else
        pthread_cond_timedwait(condition, mutex, &until);
}

#endif
