#include "roof.h"

#include "timebase.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Sixteen floats; on narrower machines the compiler makes several registers of one. */
typedef float wide __attribute__((vector_size(64)));
enum { LANES = 16, CHAINS = 12, ROUNDS = 20000 }; /* chains: more than an FMA's latency times its rate */
enum { COPY_BYTES = 64 * 1024 * 1024 };           /* for each thread: beyond any cache */

#if defined(__x86_64__) && !defined(DET_SANITIZE) && defined(__gnu_linux__)
#define FOR_EVERY_CPU __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FOR_EVERY_CPU
#endif

typedef struct worker {
    pthread_t thread;
    double seconds;
    double macs, mac_s, bytes, byte_s;
    float sum; /* keeps the loops from being dropped */
    bool failed;
} worker;

FOR_EVERY_CPU static float multiply_add(int rounds) {
    wide chains[CHAINS], factor, addend;
    for (int k = 0; k < LANES; k++) {
        factor[k] = 0.999f;
        addend[k] = 0.001f;
    }
    for (int i = 0; i < CHAINS; i++)
        chains[i] = addend * (float)i;
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < CHAINS; i++)
            chains[i] = chains[i] * factor + addend;
    float sum = 0;
    for (int i = 0; i < CHAINS; i++)
        for (int k = 0; k < LANES; k++)
            sum += chains[i][k];
    return sum;
}

static void compute(worker *w) {
    timebase *time = timebase_machine();
    double begin = timebase_now(time);
    do {
        w->sum += multiply_add(ROUNDS);
        w->macs += (double)ROUNDS * CHAINS * LANES;
        w->mac_s = timebase_now(time) - begin;
    } while (w->mac_s < w->seconds / 2);
}

/* Copying reads and writes: both count. */
static void copy(worker *w) {
    timebase *time = timebase_machine();
    char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
    if (from != NULL && to != NULL) {
        memset(from, 1, COPY_BYTES);
        memset(to, 2, COPY_BYTES);
        double begin = timebase_now(time);
        do {
            memcpy(to, from, COPY_BYTES);
            from[0] = to[COPY_BYTES - 1];
            w->bytes += 2.0 * COPY_BYTES;
            w->byte_s = timebase_now(time) - begin;
        } while (w->byte_s < w->seconds / 2);
        w->sum += from[0];
    } else {
        w->failed = true;
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
        found.macs_per_s += workers[i].macs / workers[i].mac_s;
        found.bytes_per_s += workers[i].failed ? 0 : workers[i].bytes / workers[i].byte_s;
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
    roof found = {nvml_peak_macs(&b->gpu_description, plan->precision), nvml_bandwidth(&b->gpu_description), "computed"};
    if (found.macs_per_s <= 0)
        found.source = "unknown";
    return found;
}
