/* layers: time, multiply-accumulates and bytes of every layer, and what share of the machine's roof it reaches. */
#include "analysis.h"
#include "bench.h"
#include "document.h"
#include "roof.h"

#include <stdlib.h>

typedef struct layer_times {
    det_context *context;
    int n;
    samples *layers; /* [n] milliseconds of every run */
} layer_times;

static bool take(void *data) {
    layer_times *times = data;
    det_profile p = {.struct_size = sizeof p};
    if (det_context_get_profile(times->context, &p) != DET_OK)
        return false;
    for (int i = 0; i < times->n && i < p.n_layers; i++)
        samples_add(&times->layers[i], (double)p.layers[i].ms);
    return true;
}

static json_t *layer_json(const det_layer_time *layer, double ms, double total_ms, const roof *limit) {
    double macs = (double)layer->macs, bytes = (double)layer->bytes, s = 1e-3 * ms;
    json_t *found = json_pack("{s:s, s:s, s:s, s:[i,i,i,i], s:f, s:f, s:I, s:f}", "name", layer->name, "op", layer->op,
                              "impl", layer->impl, "shape", layer->shape[0], layer->shape[1], layer->shape[2],
                              layer->shape[3], "ms", ms, "gmacs", 1e-9 * macs, "bytes", (json_int_t)layer->bytes,
                              "time_share", total_ms > 0 ? ms / total_ms : 0);
    double least = analysis_roof(macs, bytes, limit->macs_per_s, limit->bytes_per_s);
    bool known = limit->macs_per_s > 0 && limit->bytes_per_s > 0 && s > 0 && bytes > 0;
    bool compute = known && macs / limit->macs_per_s >= bytes / limit->bytes_per_s;
    json_object_set_new(found, "roof_share", known ? document_real(least / s) : json_null());
    json_object_set_new(found, "bound", !known ? json_null() : json_string(compute ? "compute" : "memory"));
    return found;
}

static bool report(json_t *row, const layer_times *times, const roof *limit) {
    det_profile p = {.struct_size = sizeof p};
    if (det_context_get_profile(times->context, &p) != DET_OK)
        return false;
    double total_ms = 0;
    for (int i = 0; i < times->n; i++)
        total_ms += statistics_median(times->layers[i].values, times->layers[i].n);
    json_t *list = json_array();
    for (int i = 0; i < times->n && i < p.n_layers; i++) {
        double ms = statistics_median(times->layers[i].values, times->layers[i].n);
        json_array_append_new(list, layer_json(&p.layers[i], ms, total_ms, limit));
    }
    json_object_set_new(row, "layers", list);
    json_object_set_new(row, "roof",
                        json_pack("{s:s, s:o, s:o}", "source", limit->source, "gmacs_per_s",
                                  document_told(limit->macs_per_s > 0 ? 1e-9 * limit->macs_per_s : -1), "gbytes_per_s",
                                  document_told(limit->bytes_per_s > 0 ? 1e-9 * limit->bytes_per_s : -1)));
    return true;
}

static bool measure(bench *b, detector *d, json_t *row, layer_times *times) {
    measurement m = {0};
    turns_plan plan = bench_turns_plan(b, d->batch);
    *times = (layer_times){.context = d->seats[0].context, .n = d->plan.n_layers};
    times->layers = calloc((size_t)times->n + 1, sizeof *times->layers);
    if (times->layers == NULL)
        return bench_fail(b, row, "out of memory for the layers");
    plan.counted = take;
    plan.counted_data = times;
    bool ok = bench_turns(b, d, &plan, row, &m);
    measurement_free(&m);
    roof limit = ok ? roof_of(b, &d->plan) : (roof){0};
    return ok && (report(row, times, &limit) || bench_fail(b, row, det_last_error()));
}

bool scenario_layers(bench *b) {
    setting how = bench_setting(b, b->given->batch, 1);
    how.flags = DET_CONTEXT_PROFILE_LAYERS;
    json_t *row = bench_row(b, SCENARIO_LAYERS, &how, 1);
    detector d;
    layer_times times = {0};
    bool out_of_memory;
    bool ok = bench_open(b, &d, &how, 1, row, &out_of_memory) && measure(b, &d, row, &times);
    for (int i = 0; times.layers != NULL && i < times.n; i++)
        samples_free(&times.layers[i]);
    free(times.layers);
    detector_close(&d);
    bench_add(b, row);
    return ok || out_of_memory;
}
