/* Closed and open loops with everything around them: warm-up of every context, sampling, the row. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench.h"

/* Opens contexts for several callers and lets each of them run. False: the row says why. */
bool load_open(bench *b, detector *d, const setting *how, int n_contexts, json_t *row, bool *out_of_memory);

/* What the contexts can do when they are never idle: pictures a second; 0 after a failure, which the row tells. */
double load_capacity(bench *b, detector *d, json_t *row);

/* n callers in a closed loop; `log` is the caller's to free. */
bool load_closed(bench *b, detector *d, int n_callers, json_t *row, measurement *m, request_log *log);

/* Requests at fixed times; adds "offered" to the row, and what became of it. */
typedef struct offered {
    int64_t n_requests, n_unserved;
    double rate;     /* requests a second that were due */
    double achieved; /* that were answered within the duration */
    bool sustained;  /* nothing given up, and at most 1 % short */
} offered;

bool load_offered(bench *b, detector *d, const open_plan *plan, json_t *row, measurement *m, offered *found);

#endif
