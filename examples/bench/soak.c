/* soak: a closed loop for as long as it is told, in which every output must be the same bytes as the first time, memory
 * must stay, and nothing may take much longer than the rest. */
#include "document.h"
#include "load.h"
#include "meter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What memory may grow by, for the allocator's own movements. */
static const double TOLERATED_BYTES = 4.0 * 1024 * 1024;

typedef struct soak {
    int n_repeats;
    double duration_s;
    buckets *parts;       /* [n_repeats] latencies, milliseconds */
    uint64_t *expected;   /* [pictures] hash of the batch that begins with each */
    int64_t *n_differing; /* [workers] */
    bool learning;
} soak;

static void free_soak(soak *s) {
    free(s->parts);
    free(s->expected);
    free(s->n_differing);
}

static bool allocate_soak(soak *s, const bench *b, int n_workers) {
    *s = (soak){.n_repeats = b->given->repeats, .duration_s = b->given->duration_s};
    s->parts = calloc((size_t)s->n_repeats + 1, sizeof *s->parts); /* the last is their sum */
    s->expected = calloc(b->in.n, sizeof *s->expected);
    s->n_differing = calloc((size_t)n_workers, sizeof *s->n_differing);
    return s->parts != NULL && s->expected != NULL && s->n_differing != NULL;
}

/* FNV-1a */
static uint64_t add_to_hash(uint64_t hash, const void *data, size_t n_bytes) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

/* A detector's `after`: every output against what this batch gave at first. */
static bool compare_output(detector *d, int worker, int64_t number) {
    soak *s = d->after_data;
    const seat *mine = &d->seats[worker];
    uint64_t hash = add_to_hash(0xcbf29ce484222325u, mine->counts, (size_t)d->batch * sizeof *mine->counts);
    for (int i = 0; i < d->batch; i++)
        hash = add_to_hash(hash, mine->objects + (size_t)i * (size_t)d->max_objects,
                           (size_t)mine->counts[i] * sizeof *mine->objects);
    size_t place = (uint64_t)number * (uint64_t)d->batch % d->in->n;
    if (s->learning)
        s->expected[place] = hash;
    else
        s->n_differing[worker] += hash != s->expected[place];
    return true;
}

/* The requests whose batches begin with each picture; after as many as there are pictures they repeat. */
static bool learn(detector *d, soak *s) {
    s->learning = true;
    for (size_t i = 0; i < d->in->n; i++)
        if (!d->target.serve(d->target.self, 0, (int64_t)i))
            return false;
    s->learning = false;
    return true;
}

static void keep(void *data, const request_log *log, const request *r) {
    soak *s = data;
    int part = (int)((r->ended - log->begin) / s->duration_s * s->n_repeats);
    buckets_add(&s->parts[part < s->n_repeats ? part : s->n_repeats - 1], 1e3 * (r->ended - r->due));
}

static json_t *percentile(const buckets *all, double p) {
    return json_pack("{s:f, s:I, s:I, s:b}", "value", buckets_percentile(all, p), "n", (json_int_t)all->n, "needs",
                     (json_int_t)statistics_needed(p), "enough", statistics_holds(all->n, p));
}

static json_t *latencies(const soak *s, const buckets *all, double *medians) {
    json_t *repeats = json_array();
    for (int i = 0; i < s->n_repeats; i++) {
        medians[i] = s->parts[i].n > 0 ? buckets_percentile(&s->parts[i], 50) : NAN;
        json_array_append_new(repeats, document_real(medians[i]));
    }
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:f}", "n", (json_int_t)all->n, "mean", all->mean,
                     "stdev", buckets_stdev(all), "min", all->min, "max", all->max, "p50", percentile(all, 50), "p95",
                     percentile(all, 95), "p99", percentile(all, 99), "repeats", repeats, "spread",
                     statistics_spread(medians, (size_t)s->n_repeats));
}

static void report(bench *b, json_t *row, const soak *s, const detector *d, const request_log *log,
                   const resources *used) {
    buckets *all = &s->parts[s->n_repeats];
    measurement m = {.n_repeats = s->n_repeats, .measured_s = log->end - log->begin};
    for (int i = 0; i < s->n_repeats; i++) {
        buckets_join(all, &s->parts[i]);
        m.throughputs[i] = (double)s->parts[i].n * d->batch * s->n_repeats / m.measured_s;
    }
    row_measurement(b, row, &m, d);
    json_object_set_new(row, "latency_ms", latencies(s, all, m.medians_ms));
    row_resources(b, row, used);
    int64_t n_differing = 0;
    for (int i = 0; i < d->target.n_workers; i++)
        n_differing += s->n_differing[i];
    double growth = used->gpu_memory_growth > used->rss_growth ? used->gpu_memory_growth : used->rss_growth;
    bool flat = growth <= TOLERATED_BYTES;
    double median = buckets_percentile(all, 50);
    json_object_set_new(row, "soak",
                        json_pack("{s:I, s:I, s:b, s:f, s:f, s:f}", "outputs", (json_int_t)all->n, "differing",
                                  (json_int_t)n_differing, "memory_flat", flat, "memory_growth_bytes", growth, "jitter",
                                  buckets_stdev(all) / all->mean, "max_over_median", all->max / median));
    if (n_differing > 0)
        row_invalid(b, row, "%lld of %lld outputs differ from the first of the same pictures", (long long)n_differing,
                    (long long)all->n);
    if (!flat)
        row_invalid(b, row, "memory grew by %.1f MiB", growth / (1024 * 1024));
}

static bool run(bench *b, detector *d, soak *s, json_t *row) {
    const closed_plan plan = {.n_callers = d->target.n_workers,
                              .warm_up_s = b->given->warm_up_s,
                              .measure_s = s->duration_s,
                              .least = (size_t)s->n_repeats,
                              .keep = keep,
                              .keep_data = s};
    resources used;
    request_log log;
    d->after = compare_output;
    d->after_data = s;
    if (!learn(d, s))
        return bench_fail(b, row, detector_error(d));
    meter_step(plan.measure_s);
    sampler_begin(b->sampler);
    loop_closed(b->time, &d->target, &plan, &log);
    sampler_end(b->sampler, &used);
    meter_end_step();
    if (log.failed || log.no_memory)
        return bench_fail(b, row, log.failed ? detector_error(d) : "out of memory for a thread");
    report(b, row, s, d, &log, &used);
    return true;
}

bool scenario_soak(bench *b) {
    int n_contexts = bench_contexts(b);
    setting how = bench_setting(b, b->given->batch, n_contexts);
    json_t *row = bench_row(b, SCENARIO_SOAK, &how, n_contexts);
    detector d;
    soak s = {0};
    bool out_of_memory;
    bool ok = load_open(b, &d, &how, n_contexts, row, &out_of_memory);
    if (ok && !allocate_soak(&s, b, n_contexts))
        ok = bench_fail(b, row, "out of memory for the outputs' hashes");
    ok = ok && run(b, &d, &s, row);
    detector_close(&d);
    free_soak(&s);
    bench_add(b, row);
    return ok || out_of_memory;
}
