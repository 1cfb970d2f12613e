/* Rows of results. */
#include "analysis.h"
#include "bench.h"
#include "document.h"
#include "text.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const device_names[] = {"auto", "cpu", "cuda"}; /* by DET_DEVICE_* */

/* --------------------------------------------------------------------------------------------------------- notes */

static void add_text(json_t *row, const char *key, const char *format, va_list arguments) {
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    json_t *list = json_object_get(row, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
            return;
    json_array_append_new(list, json_string(text));
}

void row_note(json_t *row, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_text(row, "notes", format, arguments);
    va_end(arguments);
}

void row_invalid(bench *b, json_t *row, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_text(row, "invalid", format, arguments);
    va_end(arguments);
    b->any_failed = true;
}

void row_status(json_t *row, const char *status, const char *message) {
    json_object_set_new(row, "status", json_string(status));
    json_object_set_new(row, "message", json_string(message));
}

bool bench_fail(bench *b, json_t *row, const char *message) {
    complain("%s: %s", document_text(row, "scenario"), message);
    row_status(row, "failed", message);
    b->any_failed = true;
    return false;
}

/* ---------------------------------------------------------------------------------------------------------- rows */

static json_t *accuracy_json(const accuracy *a) {
    json_t *found = json_pack("{s:I}", "pictures", (json_int_t)a->n_pictures);
    if (a->has_ap) {
        json_object_set_new(found, "ap", document_real(a->ap));
        json_object_set_new(found, "ap50", document_real(a->ap50));
        json_object_set_new(found, "labels", json_integer((json_int_t)a->n_labels));
    }
    if (a->has_drift)
        json_object_set_new(found, "drift",
                            json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "reference_objects", (json_int_t)a->n_reference,
                                      "matched", (json_int_t)a->n_matched, "surplus", (json_int_t)a->n_surplus,
                                      "box_mean_px", a->box_mean, "box_max_px", a->box_max, "score_max", a->score_max));
    return found;
}

json_t *bench_row(const bench *b, scenario_id id, const setting *how, int n_contexts) {
    int32_t width = how->width > 0 ? how->width : b->info.input_width;
    int32_t height = how->height > 0 ? how->height : b->info.input_height;
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:[i,i], s:i, s:i, s:i, s:[], s:[]}", "scenario", scenario_names[id],
                            "status", "ok", "device", device_names[how->devices[0].device], "precision",
                            precision_name(how->precision), "input", width, height, "batch", how->batch, "contexts",
                            n_contexts, "devices", how->n_devices, "invalid", "notes");
    if (b->accuracy.has_ap || b->accuracy.has_drift)
        json_object_set_new(row, "accuracy", accuracy_json(&b->accuracy));
    return row;
}

void bench_add(bench *b, json_t *row) {
    json_array_append_new(b->rows, row);
}

void row_plan(json_t *row, const detector *d) {
    const det_context_info *p = &d->plan;
    json_object_set_new(row, "device", json_string(device_names[p->device]));
    json_object_set_new(row, "device_name", json_string(p->device_name));
    json_object_set_new(row, "precision", json_string(precision_name(p->precision)));
    json_object_set_new(row, "input", json_pack("[i,i]", p->width, p->height));
    json_object_set_new(row, "threads", json_integer(p->n_threads));
    json_object_set_new(row, "gmacs", json_real(1e-9 * (double)p->macs));
    json_object_set_new(row, "memory_bytes", json_integer((json_int_t)detector_bytes(d)));
}

/* ------------------------------------------------------------------------------------------------------- figures */

static json_t *percentile_json(const double *sorted, size_t n, double p) {
    return json_pack("{s:o, s:I, s:I, s:b}", "value", document_real(statistics_percentile(sorted, n, p)), "n",
                     (json_int_t)n, "needs", (json_int_t)statistics_needed(p), "enough", statistics_holds(n, p));
}

/* The distribution for a chart. The last bin takes the slowest percent, which would squeeze everything else. */
static json_t *bins_json(const double *sorted, size_t n) {
    enum { BINS = 40 };
    size_t counts[BINS];
    double low = sorted[0], high = statistics_percentile(sorted, n, 99);
    statistics_bins(sorted, n, low, high, BINS, counts);
    json_t *list = json_array();
    for (int i = 0; i < BINS; i++)
        json_array_append_new(list, json_integer((json_int_t)counts[i]));
    return json_pack("{s:f, s:f, s:o}", "low", low, "high", high, "counts", list);
}

static json_t *reals_json(const double *values, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, document_real(values[i]));
    return list;
}

json_t *summary_json(const samples *values, const double *medians, int n_repeats) {
    samples sorted = {0};
    samples_reserve(&sorted, values->n);
    if (values->n == 0 || sorted.failed) {
        samples_free(&sorted);
        return json_null();
    }
    memcpy(sorted.values, values->values, values->n * sizeof *values->values);
    size_t n = values->n;
    statistics_sort(sorted.values, n);
    const double *v = sorted.values;
    json_t *found = json_pack("{s:I, s:f, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:f, s:o}", "n", (json_int_t)n, "mean",
                              statistics_mean(v, n), "stdev", statistics_stdev(v, n), "min", v[0], "max", v[n - 1],
                              "p50", percentile_json(v, n, 50), "p95", percentile_json(v, n, 95), "p99",
                              percentile_json(v, n, 99), "repeats", reals_json(medians, n_repeats), "spread",
                              statistics_spread(medians, (size_t)n_repeats), "bins", bins_json(v, n));
    samples_free(&sorted);
    return found;
}

static void row_cost(const bench *b, json_t *row, double throughput) {
    const options *g = b->given;
    if (g->price <= 0 || throughput <= 0)
        return;
    json_t *cost = json_pack("{s:f}", "per_1000", analysis_cost_per_1000(g->price, throughput));
    if (g->daily > 0) {
        monthly m = analysis_monthly(g->price, throughput, g->daily);
        json_object_set_new(cost, "month_busy", json_real(m.busy));
        json_object_set_new(cost, "month_machines", json_real(m.machines));
        json_object_set_new(cost, "month_always", json_real(m.always));
    }
    json_object_set_new(row, "cost", cost);
}

/* What the pictures were, and whether they reached NMS. */
static void row_inputs(const bench *b, json_t *row) {
    const image *first = &b->in.pictures[0];
    bool same = true;
    for (size_t i = 1; i < b->in.n; i++)
        same = same && b->in.pictures[i].width == first->width && b->in.pictures[i].height == first->height;
    json_t *found = json_pack("{s:s, s:I, s:I}", "kind", b->in.noise ? "noise" : "pictures", "pictures",
                              (json_int_t)b->in.n, "with_detections", (json_int_t)b->in.n_with_detections);
    json_object_set_new(found, "size", same ? json_pack("[i,i]", first->width, first->height) : json_null());
    json_object_set_new(found, "detections_per_picture", json_real((double)b->in.n_detections / (double)b->in.n));
    json_object_set_new(row, "inputs", found);
    if (b->in.n_detections == 0)
        row_note(row, "%s never reached NMS: no picture has a detection", b->in.noise ? "noise" : "these pictures");
}

void row_measurement(bench *b, json_t *row, const measurement *m, const detector *d) {
    double throughput = measurement_throughput(m);
    row_plan(row, d);
    row_inputs(b, row);
    json_object_set_new(row, "latency_ms", summary_json(&m->latency_ms, m->medians_ms, m->n_repeats));
    json_object_set_new(row, "throughput",
                        json_pack("{s:o, s:o, s:f}", "value", document_real(throughput), "repeats",
                                  reals_json(m->throughputs, m->n_repeats), "spread",
                                  statistics_spread(m->throughputs, (size_t)m->n_repeats)));
    if (m->waiting_ms.n > 0)
        json_object_set_new(row, "waiting_ms", summary_json(&m->waiting_ms, NULL, 0));
    json_object_set_new(row, "phases",
                        json_pack("{s:f, s:f, s:o, s:i, s:f, s:f}", "open_model_ms", b->open_ms, "create_context_ms",
                                  1e3 * d->create_s, "first_run_ms",
                                  m->n_warm_ups > 0 ? document_real(m->first_ms) : json_null(), "warm_up_runs",
                                  m->n_warm_ups, "warm_up_s", m->warm_up_s, "measured_s", m->measured_s));
    row_cost(b, row, throughput);
}

void row_resources(bench *b, json_t *row, const resources *used) {
    static const double disturbing = 0.1; /* cores */
    json_t *found =
        json_pack("{s:f, s:i, s:f, s:f, s:o, s:o, s:f, s:I}", "seconds", used->seconds, "samples", used->n_samples,
                  "cpu_cores", used->cpu_cores, "other_cores", used->other_cores, "rss_mean_bytes",
                  document_told(used->rss_mean), "rss_max_bytes", document_told(used->rss_max), "rss_growth_bytes",
                  used->rss_growth, "cpu_throttled", (json_int_t)used->n_cpu_throttled);
    if (used->has_gpu) {
        char text[160];
        json_t *gpu =
            json_pack("{s:o, s:o, s:f, s:o, s:o, s:o, s:o, s:o, s:s}", "utilisation_percent",
                      document_told(used->gpu_utilisation), "memory_max_bytes", document_told(used->gpu_memory_max),
                      "memory_growth_bytes", used->gpu_memory_growth, "temperature_max_c",
                      document_told(used->gpu_temperature_max), "power_mean_w", document_told(used->gpu_power_mean),
                      "power_max_w", document_told(used->gpu_power_max), "sm_mhz_mean",
                      document_told(used->gpu_sm_mhz_mean), "sm_mhz_min", document_told(used->gpu_sm_mhz_min),
                      "throttled", nvml_throttle_text(used->gpu_throttle, text));
        json_object_set_new(found, "gpu", gpu);
    }
    json_object_set_new(row, "resources", found);
    char reason[256];
    if (resources_throttling(used, reason)[0] != '\0')
        row_invalid(b, row, "%s", reason);
    if (used->other_cores > disturbing)
        row_note(row, "others took CPU time meanwhile: not to be trusted");
}
