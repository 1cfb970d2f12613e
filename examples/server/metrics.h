/* What the server counts, in Prometheus' text format. All thread-safe. */
#ifndef METRICS_H
#define METRICS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

enum { METRICS_MAX_CODES = 16, METRICS_MAX_PATHS = 16, METRICS_N_BUCKETS = 12 };

typedef struct histogram {
    atomic_uint_fast64_t counts[METRICS_N_BUCKETS + 1]; /* the last: longer than every bucket */
    atomic_uint_fast64_t sum_us;
} histogram;

typedef struct metrics {
    /* By row of the route, and of the table of codes in metrics.c. */
    atomic_uint_fast64_t answers[METRICS_MAX_PATHS][METRICS_MAX_CODES];
    atomic_uint_fast64_t received_bytes, pictures, objects, closed_slow;
    atomic_int_fast64_t connections, requests; /* open now */
    histogram request_time, inference_time;    /* of pictures that were answered */
} metrics;

void metrics_count_answer(metrics *counted, int path, unsigned code);
void histogram_add(histogram *times, double milliseconds);

/* Appends everything. `path_name` says what a row is called, NULL behind the last. */
void metrics_print(metrics *counted, const char *(*path_name)(int row), FILE *file);

/* One number with its help and type lines, "counter" or "gauge". */
void metrics_print_number(FILE *file, const char *name, const char *type, const char *help, double value);

#endif
