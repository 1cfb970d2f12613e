#include "metrics.h"

#include <inttypes.h>

/* The last row stands for every other code. */
static const unsigned codes[] = {200, 400, 404, 405, 408, 411, 413, 415, 500, 503, 0};
enum { N_CODES = sizeof codes / sizeof codes[0] };
_Static_assert((int)N_CODES <= (int)METRICS_MAX_CODES, "the table of answers is too narrow");

static const double bucket_ms[METRICS_N_BUCKETS] = {1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10000};

void metrics_count_answer(metrics *counted, int path, unsigned code) {
    int row = 0;
    while (row < N_CODES - 1 && codes[row] != code)
        row++;
    atomic_fetch_add(&counted->answers[path][row], 1);
}

void histogram_add(histogram *times, double milliseconds) {
    int bucket = 0;
    while (bucket < METRICS_N_BUCKETS && milliseconds > bucket_ms[bucket])
        bucket++;
    atomic_fetch_add(&times->counts[bucket], 1);
    atomic_fetch_add(&times->sum_us, (uint_fast64_t)(milliseconds * 1e3));
}

static void print_head(FILE *file, const char *name, const char *type, const char *help) {
    fprintf(file, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_print_number(FILE *file, const char *name, const char *type, const char *help, double value) {
    print_head(file, name, type, help);
    fprintf(file, "%s %.15g\n", name, value);
}

static void print_histogram(histogram *times, const char *name, const char *help, FILE *file) {
    print_head(file, name, "histogram", help);
    uint64_t total = 0;
    for (int i = 0; i < METRICS_N_BUCKETS; i++) {
        total += atomic_load(&times->counts[i]);
        fprintf(file, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bucket_ms[i] / 1e3, total);
    }
    total += atomic_load(&times->counts[METRICS_N_BUCKETS]);
    fprintf(file, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, total);
    fprintf(file, "%s_sum %.6f\n%s_count %" PRIu64 "\n", name, (double)atomic_load(&times->sum_us) / 1e6, name, total);
}

static void print_answers(metrics *counted, const char *(*path_name)(int row), FILE *file) {
    print_head(file, "detect_answers_total", "counter", "Answers by path and status code.");
    for (int path = 0; path_name(path) != NULL; path++) {
        for (int row = 0; row < N_CODES; row++) {
            uint64_t n = atomic_load(&counted->answers[path][row]);
            if (n == 0)
                continue;
            fprintf(file, "detect_answers_total{path=\"%s\",code=\"", path_name(path));
            if (codes[row] != 0)
                fprintf(file, "%u", codes[row]);
            else
                fputs("other", file);
            fprintf(file, "\"} %" PRIu64 "\n", n);
        }
    }
}

void metrics_print(metrics *counted, const char *(*path_name)(int row), FILE *file) {
    print_answers(counted, path_name, file);
    metrics_print_number(file, "detect_connections", "gauge", "Connections that are open.",
                         (double)atomic_load(&counted->connections));
    metrics_print_number(file, "detect_requests", "gauge", "Requests that have begun and are not yet answered.",
                         (double)atomic_load(&counted->requests));
    metrics_print_number(file, "detect_received_bytes_total", "counter", "Bytes of bodies received.",
                         (double)atomic_load(&counted->received_bytes));
    metrics_print_number(file, "detect_closed_slow_total", "counter", "Connections closed for being too slow.",
                         (double)atomic_load(&counted->closed_slow));
    metrics_print_number(file, "detect_pictures_total", "counter", "Pictures answered with their objects.",
                         (double)atomic_load(&counted->pictures));
    metrics_print_number(file, "detect_objects_total", "counter", "Objects in these pictures.",
                         (double)atomic_load(&counted->objects));
    print_histogram(&counted->request_time, "detect_request_seconds",
                    "From the first line of a request to its answer, pictures only.", file);
    print_histogram(&counted->inference_time, "detect_inference_seconds",
                    "From a decoded picture to its objects, waiting for a batch included.", file);
}
