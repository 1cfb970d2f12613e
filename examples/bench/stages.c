/* stages: what a picture spends its time on, alone and in the pipeline. Alone: one context, nothing else in flight. In the
 * pipeline: all contexts busy, where stages of different pictures overlap and stand in each other's way. */
#include "bench.h"
#include "document.h"
#include "load.h"
#include "meter.h"

#include <stdlib.h>

enum { N_STAGES = 6 };
static const char *const stage_names[N_STAGES] = {"upload", "preprocess", "network", "decode", "nms", "download"};

/* Milliseconds of every run of one worker. */
typedef struct stage_times {
    samples stages[N_STAGES], total;
} stage_times;

static void free_times(stage_times *times, int n) {
    for (int i = 0; times != NULL && i < n; i++) {
        for (int k = 0; k < N_STAGES; k++)
            samples_free(&times[i].stages[k]);
        samples_free(&times[i].total);
    }
    free(times);
}

static bool take(stage_times *to, det_context *context) {
    det_profile p = {.struct_size = sizeof p};
    if (det_context_get_profile(context, &p) != DET_OK)
        return false;
    const float values[N_STAGES] = {p.upload_ms, p.preprocess_ms, p.network_ms, p.decode_ms, p.nms_ms, p.download_ms};
    for (int i = 0; i < N_STAGES; i++)
        samples_add(&to->stages[i], (double)values[i]);
    samples_add(&to->total, (double)p.total_ms);
    return true;
}

/* Medians by stage of all workers together. */
static json_t *stages_json(const stage_times *times, int n_workers) {
    json_t *found = json_object();
    size_t n_runs = 0;
    for (int k = 0; k <= N_STAGES; k++) {
        samples all = {0};
        for (int i = 0; i < n_workers; i++) {
            const samples *mine = k < N_STAGES ? &times[i].stages[k] : &times[i].total;
            for (size_t j = 0; j < mine->n; j++)
                samples_add(&all, mine->values[j]);
        }
        json_object_set_new(found, k < N_STAGES ? stage_names[k] : "total",
                            document_real(statistics_median(all.values, all.n)));
        n_runs = all.n;
        samples_free(&all);
    }
    json_object_set_new(found, "runs", json_integer((json_int_t)n_runs));
    return found;
}

/* --------------------------------------------------------------------------------------------------------- alone */

typedef struct alone {
    stage_times *times;
    detector *d;
} alone;

static bool take_alone(void *data) {
    const alone *a = data;
    return take(a->times, a->d->seats[0].context);
}

static bool measure_alone(bench *b, const inputs *in, json_t *row, json_t *stages, bool *out_of_memory) {
    setting how = bench_setting(b, b->given->batch, 1);
    detector d;
    alone a = {calloc(1, sizeof *a.times), &d};
    measurement m = {0};
    bool ok = bench_open(b, &d, &how, 1, row, out_of_memory);
    if (ok && a.times == NULL)
        ok = bench_fail(b, row, "out of memory for the stages");
    if (ok) {
        turns_plan plan = bench_turns_plan(b, d.batch);
        plan.counted = take_alone;
        plan.counted_data = &a;
        d.in = in;
        ok = bench_turns(b, &d, &plan, row, &m);
    }
    if (ok)
        json_object_set_new(stages, "alone", stages_json(a.times, 1));
    detector_close(&d);
    measurement_free(&m);
    free_times(a.times, 1);
    return ok;
}

/* -------------------------------------------------------------------------------------------------- the pipeline */

/* A detector's `after`. Contexts have warmed up before it is set. */
static bool take_busy(detector *d, int worker, int64_t number) {
    (void)number;
    return take((stage_times *)d->after_data + worker, d->seats[worker].context);
}

static bool measure_pipeline(bench *b, const inputs *in, json_t *row, json_t *stages, bool *out_of_memory) {
    int n = bench_contexts(b);
    setting how = bench_setting(b, b->given->batch, n);
    detector d;
    stage_times *times = calloc((size_t)n, sizeof *times);
    bool ok = load_open(b, &d, &how, n, row, out_of_memory);
    if (ok && times == NULL)
        ok = bench_fail(b, row, "out of memory for the stages");
    d.in = in;
    d.after = take_busy;
    d.after_data = times;
    double throughput = ok ? load_capacity(b, &d, row) : 0;
    ok = throughput > 0;
    if (ok) {
        json_t *found = stages_json(times, n);
        json_object_set_new(found, "contexts", json_integer(n));
        json_object_set_new(found, "threads", json_integer(d.plan.n_threads));
        json_object_set_new(found, "throughput", json_real(throughput));
        json_object_set_new(stages, "pipeline", found);
    }
    detector_close(&d);
    free_times(times, n);
    return ok;
}

bool scenario_stages(bench *b) {
    setting how = bench_setting(b, b->given->batch, 1);
    json_t *row = bench_row(b, SCENARIO_STAGES, &how, 1), *stages = json_object();
    inputs chosen;
    bool out_of_memory = false;
    json_object_set_new(row, "stages", stages);
    bool ok = inputs_with_detections(&b->in, &chosen) || bench_fail(b, row, "out of memory for the pictures");
    json_object_set_new(stages, "nms_reached", json_boolean(b->in.n_with_detections > 0));
    if (ok && b->in.n_with_detections > 0 && chosen.n < b->in.n)
        row_note(row, "timed on the %zu of %zu pictures that have detections", chosen.n, b->in.n);
    ok = ok && measure_pipeline(b, &chosen, row, stages, &out_of_memory) &&
         measure_alone(b, &chosen, row, stages, &out_of_memory); /* last: the row's own figures are of one context */
    free(chosen.views);
    bench_add(b, row);
    return ok || out_of_memory;
}
