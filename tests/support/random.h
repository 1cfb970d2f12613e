/* Numbers that are the same on every machine: SplitMix64. */
#ifndef DET_TEST_RANDOM_H
#define DET_TEST_RANDOM_H

#include <stdint.h>

/* A state that follows from a text (FNV-1a). */
static inline uint64_t random_from(const char *name) {
    uint64_t state = 0xcbf29ce484222325u;
    for (; *name; name++)
        state = (state ^ (uint8_t)*name) * 0x100000001b3u;
    return state;
}

static inline uint64_t random_next(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* 0 .. n - 1 */
static inline int random_below(uint64_t *state, int n) {
    return (int)(random_next(state) % (uint64_t)n);
}

/* low <= x < high */
static inline float random_in(uint64_t *state, float low, float high) {
    return low + (high - low) * (float)(random_next(state) >> 40) * (1.0f / (1 << 24));
}

#endif
