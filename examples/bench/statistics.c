#include "statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------- samples */

static bool grow(samples *s, size_t capacity) {
    double *values = realloc(s->values, capacity * sizeof *values);
    if (values == NULL) {
        s->failed = true;
        return false;
    }
    s->values = values;
    s->capacity = capacity;
    return true;
}

void samples_add(samples *s, double value) {
    if (s->n == s->capacity && !grow(s, s->capacity > 0 ? 2 * s->capacity : 1024))
        return;
    s->values[s->n++] = value;
}

void samples_reserve(samples *s, size_t capacity) {
    if (capacity > s->capacity && grow(s, capacity))
        memset(s->values + s->n, 0, (capacity - s->n) * sizeof *s->values);
}

void samples_free(samples *s) {
    free(s->values);
    *s = (samples){0};
}

/* --------------------------------------------------------------------------------------------------- percentiles */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void statistics_sort(double *values, size_t n) {
    if (n > 1)
        qsort(values, n, sizeof *values, compare);
}

double statistics_percentile(const double *sorted, size_t n, double p) {
    double place = p / 100.0 * (double)(n - 1);
    size_t low = (size_t)place;
    size_t high = low + 1 < n ? low + 1 : n - 1;
    return sorted[low] + (sorted[high] - sorted[low]) * (place - (double)low);
}

size_t statistics_needed(double p) {
    if (p >= 100)
        return 1; /* the maximum is what it is */
    double tail = p >= 50 ? (100 - p) / 100 : p / 100;
    return tail > 0 ? (size_t)ceil(STATISTICS_BEYOND / tail - 1e-9) : 1;
}

bool statistics_holds(size_t n, double p) {
    return n >= statistics_needed(p);
}

/* ------------------------------------------------------------------------------------------------------- moments */

double statistics_mean(const double *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return n > 0 ? sum / (double)n : 0;
}

double statistics_stdev(const double *values, size_t n) {
    if (n < 2)
        return 0;
    double mean = statistics_mean(values, n), sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (values[i] - mean) * (values[i] - mean);
    return sqrt(sum / (double)(n - 1));
}

double statistics_min(const double *values, size_t n) {
    double least = n > 0 ? values[0] : 0;
    for (size_t i = 1; i < n; i++)
        least = values[i] < least ? values[i] : least;
    return least;
}

double statistics_max(const double *values, size_t n) {
    double most = n > 0 ? values[0] : 0;
    for (size_t i = 1; i < n; i++)
        most = values[i] > most ? values[i] : most;
    return most;
}

double statistics_median(const double *values, size_t n) {
    if (n == 0)
        return 0;
    double *sorted = malloc(n * sizeof *sorted);
    if (sorted == NULL)
        return NAN; /* written as null */
    memcpy(sorted, values, n * sizeof *sorted);
    statistics_sort(sorted, n);
    double median = statistics_percentile(sorted, n, 50);
    free(sorted);
    return median;
}

double statistics_spread(const double *values, size_t n) {
    double median = statistics_median(values, n);
    return n > 1 && median > 0 ? (statistics_max(values, n) - statistics_min(values, n)) / median : 0;
}

/* ------------------------------------------------------------------------------------------------------- buckets */

static const double LEAST_BUCKET = 1e-3, BUCKET_RATIO = 1.005;

void buckets_add(buckets *b, double value) {
    double place = value > LEAST_BUCKET ? log(value / LEAST_BUCKET) / log(BUCKET_RATIO) : 0;
    b->counts[place < BUCKETS - 1 ? (int)place : BUCKETS - 1]++;
    b->min = b->n == 0 || value < b->min ? value : b->min;
    b->max = b->n == 0 || value > b->max ? value : b->max;
    double distance = value - b->mean;
    b->mean += distance / (double)++b->n;
    b->squares += distance * (value - b->mean);
}

void buckets_join(buckets *b, const buckets *other) {
    if (other->n == 0)
        return;
    for (int i = 0; i < BUCKETS; i++)
        b->counts[i] += other->counts[i];
    b->min = b->n == 0 || other->min < b->min ? other->min : b->min;
    b->max = b->n == 0 || other->max > b->max ? other->max : b->max;
    double n = (double)b->n, n_other = (double)other->n, distance = other->mean - b->mean;
    b->mean += distance * n_other / (n + n_other);
    b->squares += other->squares + distance * distance * n * n_other / (n + n_other);
    b->n += other->n;
}

double buckets_percentile(const buckets *b, double p) {
    double wanted = p / 100 * (double)(b->n - 1);
    size_t below = 0;
    int i = 0;
    while (i < BUCKETS - 1 && (double)(below + b->counts[i]) <= wanted)
        below += b->counts[i++];
    double middle = LEAST_BUCKET * pow(BUCKET_RATIO, i + 0.5);
    return middle < b->min ? b->min : middle > b->max ? b->max : middle;
}

double buckets_stdev(const buckets *b) {
    return b->n > 1 ? sqrt(b->squares / (double)(b->n - 1)) : 0;
}

void statistics_bins(const double *sorted, size_t n, double low, double high, int n_bins, size_t *counts) {
    memset(counts, 0, (size_t)n_bins * sizeof *counts);
    for (size_t i = 0; i < n; i++) {
        double place = high > low ? (sorted[i] - low) / (high - low) * n_bins : 0;
        int bin = place < 0 ? 0 : place >= n_bins ? n_bins - 1 : (int)place;
        counts[bin]++;
    }
}
