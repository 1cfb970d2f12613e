#include "roof.h"

#include "timebase.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 12, ROUNDS = 20000 }; /* chains: more than an FMA's latency times how many begin in a clock */
enum { COPY_BYTES = 64 * 1024 * 1024, PIECE_BYTES = 2 * 1024 * 1024 }; /* round and round, beyond most caches */

typedef struct worker {
    pthread_t thread;
    double seconds;
    double macs_per_s, bytes_per_s;
    float sum; /* keeps the loops from being dropped */
} worker;

/* Chains of products and sums in registers of so many floats. */
#define MULTIPLY_ADD(name, lanes, attributes)                                                                          \
    typedef float name##_register __attribute__((vector_size(4 * (lanes))));                                           \
    attributes static float name(void) {                                                                               \
        const name##_register zero = {0}, factor = zero + 0.999f, addend = zero + 0.001f;                              \
        name##_register chains[CHAINS];                                                                                \
        for (int i = 0; i < CHAINS; i++)                                                                               \
            chains[i] = addend * (float)i;                                                                             \
        for (int round = 0; round < ROUNDS; round++)                                                                   \
            for (int i = 0; i < CHAINS; i++)                                                                           \
                chains[i] = chains[i] * factor + addend;                                                               \
        float sum = 0;                                                                                                 \
        for (int i = 0; i < CHAINS; i++)                                                                               \
            for (int k = 0; k < (lanes); k++)                                                                          \
                sum += chains[i][k];                                                                                   \
        return sum;                                                                                                    \
    }

MULTIPLY_ADD(with_4, 4, )
#ifdef __x86_64__
MULTIPLY_ADD(with_8, 8, __attribute__((target("avx2,fma"))))
MULTIPLY_ADD(with_16, 16, __attribute__((target("avx512f"))))
#endif

/* The widest that this CPU has. */
static float multiply_add(int *n_lanes) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        *n_lanes = 16;
        return with_16();
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        *n_lanes = 8;
        return with_8();
    }
#endif
    *n_lanes = 4;
    return with_4();
}

/* The best of many short pieces, for each thread: whoever else is at work on this machine does not lower the roof. */
static void compute(worker *w) {
    timebase *time = timebase_machine();
    int n_lanes;
    for (double end = timebase_now(time) + w->seconds / 2, now; (now = timebase_now(time)) < end;) {
        w->sum += multiply_add(&n_lanes);
        double rate = (double)ROUNDS * CHAINS * n_lanes / (timebase_now(time) - now);
        w->macs_per_s = rate > w->macs_per_s ? rate : w->macs_per_s;
    }
}

/* Copying reads and writes: both count. */
static void copy(worker *w) {
    timebase *time = timebase_machine();
    char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
    size_t at = 0;
    if (from != NULL && to != NULL) {
        memset(from, 1, COPY_BYTES);
        memset(to, 2, COPY_BYTES);
        for (double end = timebase_now(time) + w->seconds / 2, now; (now = timebase_now(time)) < end;) {
            memcpy(to + at, from + at, PIECE_BYTES);
            double rate = 2.0 * PIECE_BYTES / (timebase_now(time) - now);
            w->bytes_per_s = rate > w->bytes_per_s ? rate : w->bytes_per_s;
            at = (at + PIECE_BYTES) % COPY_BYTES;
        }
        w->sum += to[at];
    }
    free(from);
    free(to);
}

static void *body(void *argument) {
    worker *w = argument;
    compute(w);
    copy(w);
    return NULL;
}

roof roof_measure(int n_threads, double seconds) {
    roof found = {.source = "measured"};
    worker *workers = calloc((size_t)n_threads, sizeof *workers);
    int n_started = 0;
    for (; workers != NULL && n_started < n_threads; n_started++) {
        workers[n_started].seconds = seconds;
        if (pthread_create(&workers[n_started].thread, NULL, body, &workers[n_started]) != 0)
            break;
    }
    for (int i = 0; i < n_started; i++) {
        pthread_join(workers[i].thread, NULL);
        found.macs_per_s += workers[i].macs_per_s;
        found.bytes_per_s += workers[i].bytes_per_s;
    }
    free(workers);
    return n_started == n_threads ? found : (roof){.source = "unknown"};
}

roof roof_of(const bench *b, const det_context_info *plan) {
    static const double seconds = 0.4;
    const options *g = b->given;
    if (g->roof_gmacs > 0)
        return (roof){1e9 * g->roof_gmacs, 1e9 * g->roof_gbytes, "given"};
    if (plan->device == DET_DEVICE_CPU)
        return roof_measure(plan->n_threads, seconds);
    if (b->gpu == NULL)
        return (roof){.source = "unknown"};
    roof found = {nvml_peak_macs(&b->gpu_description, plan->precision), nvml_bandwidth(&b->gpu_description),
                  "computed"};
    if (found.macs_per_s <= 0)
        found.source = "unknown";
    return found;
}
