/* Weights without a file: for networks that a test emits itself. */
#ifndef DET_TEST_MEMORY_WEIGHTS_H
#define DET_TEST_MEMORY_WEIGHTS_H

#include "check.h"
#include "random.h"
#include "weights.h"

enum { MEMORY_WEIGHTS_MAX = 32 };

typedef struct memory_weights {
    det_weights weights;
    det_weight store[MEMORY_WEIGHTS_MAX];
} memory_weights;

/* `m` is zeroed memory that does not move afterwards. */
static inline void memory_weights_open(memory_weights *m, const char *variant) {
    m->weights.tensors = m->store;
    m->weights.info = (det_model_info){.family = "test", .variant = variant, .n_classes = 1, .scale = 1};
}

/* Values from [low, high) that follow from the name, in memory of exactly their size. */
static inline void memory_weights_add(memory_weights *m, const char *name, const int64_t *shape, int n_dims, float low,
                                      float high) {
    REQUIRE(m->weights.n_tensors < MEMORY_WEIGHTS_MAX, "%s: too many weights", name);
    det_weight w = {.n_dims = n_dims, .n_values = 1};
    snprintf(w.name, sizeof w.name, "%s", name);
    for (int i = 0; i < n_dims; i++)
        w.n_values *= w.shape[i] = shape[i];
    float *values = malloc((size_t)w.n_values * sizeof *values);
    uint64_t state = random_from(name);
    for (int64_t i = 0; i < w.n_values; i++)
        values[i] = random_in(&state, low, high);
    w.values = values;
    int at = m->weights.n_tensors++; /* in order of names, as det_weights_find wants */
    for (; at > 0 && strcmp(m->store[at - 1].name, name) > 0; at--)
        m->store[at] = m->store[at - 1];
    m->store[at] = w;
}

static inline void memory_weights_close(memory_weights *m) {
    for (int i = 0; i < m->weights.n_tensors; i++)
        free((float *)(uintptr_t)m->store[i].values);
}

#endif
