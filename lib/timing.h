/* A clock that never goes back. */
#ifndef DET_TIMING_H
#define DET_TIMING_H

#include <stdint.h>
#include <time.h>

static inline int64_t det_clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline double det_clock_ms(void) {
    return 1e-6 * (double)det_clock_ns();
}

#endif
