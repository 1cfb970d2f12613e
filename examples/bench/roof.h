/* What a machine could do at best: multiply-accumulates a second, and bytes a second from its memory. */
#ifndef BENCH_ROOF_H
#define BENCH_ROOF_H

#include "bench.h"

typedef struct roof {
    double macs_per_s, bytes_per_s; /* 0: not known */
    const char *source;             /* "measured", "computed", "given", "unknown" */
} roof;

/* Of the device of a context: as given; measured on the CPU, with as many threads as the context has; computed from what
 * NVML tells of a GPU. */
roof roof_of(const bench *b, const det_context_info *plan);

/* Measures the CPU for about `seconds`. */
roof roof_measure(int n_threads, double seconds);

#endif
