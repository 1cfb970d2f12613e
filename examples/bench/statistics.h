/* Arithmetic on samples. Nothing here knows what was measured. */
#ifndef BENCH_STATISTICS_H
#define BENCH_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>

/* A percentile holds when at least this many samples lie beyond it: 100 samples for P95, 500 for P99. */
enum { STATISTICS_BEYOND = 5 };

/* Numbers that are added one by one. Starts zeroed. */
typedef struct samples {
    double *values;
    size_t n, capacity;
    bool failed; /* memory ran out: later additions are lost */
} samples;

void samples_add(samples *s, double value);
/* Takes memory for `capacity` values and touches it, so that adding them neither allocates nor faults. */
void samples_reserve(samples *s, size_t capacity);
void samples_free(samples *s);

void statistics_sort(double *values, size_t n);

/* The value below which p percent of n sorted values lie, between neighbours in proportion; n >= 1, 0 <= p <= 100. */
double statistics_percentile(const double *sorted, size_t n, double p);

/* Whether n samples are enough for percentile p. */
bool statistics_holds(size_t n, double p);

/* The least number of samples with which percentile p holds; 100 has none and gives 1. */
size_t statistics_needed(double p);

/* All of these take unsorted values and leave them as they are; 0 for none. */
double statistics_mean(const double *values, size_t n);
double statistics_stdev(const double *values, size_t n); /* of a sample: n - 1; 0 for fewer than two */
double statistics_median(const double *values, size_t n);
double statistics_min(const double *values, size_t n);
double statistics_max(const double *values, size_t n);

/* (largest - smallest) / median: what repeats differ by. 0 for fewer than two. */
double statistics_spread(const double *values, size_t n);

/* A distribution in fixed memory: buckets half a percent wide, from a microsecond to a thousand seconds when the values
 * are milliseconds. Starts zeroed. */
enum { BUCKETS = 4160 };

typedef struct buckets {
    size_t counts[BUCKETS];
    size_t n;
    double mean, squares, min, max; /* squares: of the distances from the mean, summed */
} buckets;

void buckets_add(buckets *b, double value);
void buckets_join(buckets *b, const buckets *other);
/* To half a percent; n >= 1. */
double buckets_percentile(const buckets *b, double p);
double buckets_stdev(const buckets *b);

/* Counts sorted values in n_bins bins of equal width from `low` to `high`; what lies above goes to the last. */
void statistics_bins(const double *sorted, size_t n, double low, double high, int n_bins, size_t *counts);

#endif
