/* A launcher on tensors under test: inputs and outputs are views of wider tensors between canaries; it runs in several
 * orders of blocks and threads and is compared with textbook answers. */
#ifndef DET_TEST_TENSOR_RIG_H
#define DET_TEST_TENSOR_RIG_H

#include "check.h"
#include "emulation.h"
#include "oracle.h"
#include "random.h"

#include <math.h>

enum { RIG_TENSORS = 4, RIG_MEMORIES = 4, RIG_FILL = 0xff };

typedef struct tensor {
    det_view view;
    int begin; /* first channel of the view in its pixel of view.stride channels */
    char *memory;
    size_t n_bytes;
    float *values; /* inputs: dense, as the elements have them */
} tensor;

typedef struct tensor_rig tensor_rig;
struct tensor_rig {
    char name[160];
    det_type type, y_type;
    tensor x[RIG_TENSORS], y[RIG_TENSORS];
    int n_x, n_y;
    cudaError_t (*launch)(const tensor_rig *r);
    /* The textbook answer for output i, [n, h, w, expected_c]; NULL: what the oracle says of `step`. */
    void (*expect)(const tensor_rig *r, int i, double *values);
    int expected_c;    /* the view's channels from here on must be zero; 0: there are none */
    double arithmetic; /* error of float arithmetic beside values of 1; the rounding to the type comes on top */

    /* For launch and expect. */
    det_node node;
    det_step step;
    det_weight weights[2];
    const void *what;
    void *memories[RIG_MEMORIES];
    float *dense[RIG_MEMORIES];
    int n_memories;
    uint64_t state;
};

static inline size_t tensor_pixels(const tensor *t) {
    return (size_t)t->view.n * t->view.h * t->view.w;
}

static inline tensor tensor_open(det_type type, int n, int h, int w, int c, int before, int after) {
    tensor t = {{NULL, n, h, w, c, before + c + after}, before, NULL, 0, NULL};
    t.n_bytes = tensor_pixels(&t) * (size_t)t.view.stride * emulation_element_bytes(type);
    t.memory = emulation_memory(t.n_bytes);
    t.view.data = t.memory + (size_t)before * emulation_element_bytes(type);
    return t;
}

/* Device memory with the elements of n values, which become what the elements say. */
static inline void *rig_elements(tensor_rig *r, det_type type, float *values, size_t n) {
    void *memory = emulation_memory(n * emulation_element_bytes(type));
    emulation_to_elements(type, values, memory, n);
    emulation_from_elements(type, memory, values, n);
    return r->memories[r->n_memories++] = memory;
}

static inline float *rig_random(tensor_rig *r, size_t n, float low, float high) {
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = random_in(&r->state, low, high);
    return values;
}

/* n random values and their elements, for weights; memories[i] and dense[i] belong together. */
static inline void rig_weights(tensor_rig *r, det_type type, size_t n, float low, float high) {
    int i = r->n_memories;
    r->dense[i] = rig_random(r, n, low, high);
    rig_elements(r, type, r->dense[i], n);
}

/* An input; `before` and `after` are channels of others beside it, NaN. */
static inline void rig_x(tensor_rig *r, int n, int h, int w, int c, int before, int after, float low, float high) {
    tensor *t = &r->x[r->n_x];
    *t = tensor_open(r->type, n, h, w, c, before, after);
    t->values = rig_random(r, tensor_pixels(t) * (size_t)c, low, high);
    size_t bytes = emulation_element_bytes(r->type), pixel_bytes = bytes * (size_t)t->view.stride;
    for (size_t i = 0; i < tensor_pixels(t); i++) {
        char *at = (char *)t->view.data + i * pixel_bytes;
        emulation_to_elements(r->type, t->values + i * (size_t)c, at, (size_t)c);
        emulation_from_elements(r->type, at, t->values + i * (size_t)c, (size_t)c);
    }
    r->step.inputs[r->n_x] = t->values;
    r->step.input_shapes[r->n_x] = (det_shape){n, h, w, c};
    r->step.input_strides[r->n_x++] = c;
}

static inline void rig_y(tensor_rig *r, int n, int h, int w, int c, int before, int after) {
    r->y[r->n_y++] = tensor_open(r->y_type, n, h, w, c, before, after);
    r->step.output_shape = (det_shape){n, h, w, r->expected_c ? r->expected_c : c};
}

static inline void rig_begin(tensor_rig *r, const char *name, det_type type) {
    static const char *const names[] = {"float", "half", "bfloat16"};
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s, %s", name, names[type]);
    r->type = r->y_type = type;
    r->state = random_from(name);
    r->step.node = &r->node;
    r->arithmetic = 2e-6;
}

/* Half a unit in the last place: of 24, 11 and 8 binary digits. */
static inline double rig_rounding(det_type type) {
    return type == DET_TYPE_F32 ? 0 : type == DET_TYPE_F16 ? 1.0 / 2048 : 1.0 / 256;
}

static inline bool all_fill(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)p[i] != RIG_FILL)
            return false;
    }
    return true;
}

/* What lies beside the view in its pixels is as it was. */
static inline void check_neighbours(const tensor_rig *r, const tensor *t) {
    size_t bytes = emulation_element_bytes(r->y_type), pixel = bytes * (size_t)t->view.stride;
    size_t before = bytes * (size_t)t->begin, own = bytes * (size_t)t->view.c;
    for (size_t i = 0; i < tensor_pixels(t); i++) {
        const char *at = t->memory + i * pixel;
        CHECK_MSG(all_fill(at, before) && all_fill(at + before + own, pixel - before - own), "%s: pixel %zu", r->name,
                  i);
    }
}

static inline void check_values(const tensor_rig *r, int index) {
    const tensor *t = &r->y[index];
    size_t c = (size_t)t->view.c, expected_c = r->expected_c ? (size_t)r->expected_c : c;
    size_t pixel = emulation_element_bytes(r->y_type) * (size_t)t->view.stride;
    double *expected = calloc(tensor_pixels(t) * expected_c, sizeof *expected), worst = 0;
    float *got = malloc(c * sizeof *got);
    if (r->expect)
        r->expect(r, index, expected);
    else
        oracle_tensor(&r->step, expected);
    for (size_t i = 0; i < tensor_pixels(t); i++) {
        emulation_from_elements(r->y_type, (const char *)t->view.data + i * pixel, got, c);
        for (size_t k = 0; k < c; k++) {
            double e = k < expected_c ? expected[i * expected_c + k] : 0, d = fabs((double)got[k] - e);
            double allowed = k < expected_c ? rig_rounding(r->y_type) * fabs(e) + r->arithmetic * fmax(1, fabs(e)) : 0;
            worst = d <= allowed ? worst : isnan(d) ? HUGE_VAL : fmax(worst, d / fmax(allowed, 1e-30));
        }
    }
    CHECK_MSG(worst == 0, "%s: output %d is off by %.3g of what is allowed", r->name, index, worst);
    free(got);
    free(expected);
}

static inline void rig_launch(const tensor_rig *r, unsigned order) {
    for (int i = 0; i < r->n_y; i++)
        memset(r->y[i].memory, RIG_FILL, r->y[i].n_bytes);
    emulation_set_order(order);
    cudaError_t error = r->launch(r);
    const char *failure = emulation_failure();
    CHECK_MSG(error == cudaSuccess && !failure, "%s: %d, %s", r->name, (int)error, failure ? failure : "no reason");
}

static inline void rig_end(tensor_rig *r) {
    for (int i = 0; i < RIG_TENSORS; i++) {
        emulation_memory_free(r->x[i].memory);
        emulation_memory_free(r->y[i].memory);
        free(r->x[i].values);
    }
    for (int i = 0; i < RIG_MEMORIES; i++) {
        emulation_memory_free(r->memories[i]);
        free(r->dense[i]);
    }
}

/* Runs in one order, checks; runs in others, compares bytes; frees all. */
static inline void rig_run(tensor_rig *r) {
    static const unsigned orders[] = {1, 5};
    char *first[RIG_TENSORS] = {0}, *inputs[RIG_TENSORS] = {0};
    for (int i = 0; i < r->n_x; i++)
        inputs[i] = memcpy(malloc(r->x[i].n_bytes), r->x[i].memory, r->x[i].n_bytes);
    rig_launch(r, 0);
    for (int i = 0; i < r->n_y; i++) {
        check_values(r, i);
        check_neighbours(r, &r->y[i]);
        first[i] = memcpy(malloc(r->y[i].n_bytes), r->y[i].memory, r->y[i].n_bytes);
    }
    for (size_t k = 0; k < sizeof orders / sizeof *orders; k++) {
        rig_launch(r, orders[k]);
        for (int i = 0; i < r->n_y; i++)
            CHECK_MSG(!memcmp(first[i], r->y[i].memory, r->y[i].n_bytes), "%s: other bytes in order %u", r->name,
                      orders[k]);
    }
    for (int i = 0; i < r->n_x; i++)
        CHECK_MSG(!memcmp(inputs[i], r->x[i].memory, r->x[i].n_bytes) && emulation_memory_intact(r->x[i].memory),
                  "%s: input %d was written to", r->name, i);
    for (int i = 0; i < r->n_y; i++)
        CHECK_MSG(emulation_memory_intact(r->y[i].memory), "%s: beyond output %d", r->name, i);
    for (int i = 0; i < r->n_memories; i++)
        CHECK_MSG(emulation_memory_intact(r->memories[i]), "%s: beyond memory %d", r->name, i);
    for (int i = 0; i < RIG_TENSORS; i++) {
        free(first[i]);
        free(inputs[i]);
    }
    rig_end(r);
}

#endif
