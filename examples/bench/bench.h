/* A run of detect-bench: what all scenarios share, and the rows that they make. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "accuracy.h"
#include "detector.h"
#include "measurement.h"
#include "sampler.h"

#include <jansson.h>

typedef struct bench {
    const options *given;
    timebase *time;
    const char *model_path;
    char model_room[4096]; /* where the path lies when nobody named one */
    det_model *model;
    det_model_info info;
    double open_ms; /* reading the model */
    inputs in;
    nvml *gpu;
    nvml_description gpu_description;
    machine_description machine;
    sampler *sampler;
    json_t *rows;
    bool any_failed; /* something failed, or is invalid, or is not what it should be */

    /* Of the precision and size at hand. */
    setting setting;
    accuracy accuracy;
    accuracy_reference reference; /* what fp32 found */
} bench;

/* A scenario measures with b->setting and adds rows. False after complaining: nothing further can be measured. */
typedef bool scenario(bench *b);
scenario scenario_latency, scenario_throughput, scenario_concurrency, scenario_rate, scenario_streams, scenario_soak,
    scenario_tune, scenario_stages, scenario_layers;

/* How many steps of the progress bar a scenario takes. */
int scenario_steps(const bench *b, scenario_id id);

/* The detect-bench MODEL command. */
int command_run(const options *given);

/* ----------------------------------------------------------------------------------- what the scenarios are made of */

/* Makes a precision and an input size the setting at hand: tries a context, finds what the inputs hold, measures accuracy.
 * False when it cannot be measured: a row of scenario `id` says why, and *go_on is false when nothing else can be. */
bool bench_choose(bench *b, int32_t precision, int32_t width, int32_t height, scenario_id id, bool *go_on);

/* Contexts for scenarios with several callers, and their CPU threads. */
int bench_contexts(const bench *b);
int32_t bench_threads(const bench *b, int n_contexts);

/* The setting at hand with another batch; and with the threads of several contexts. */
setting bench_setting(const bench *b, int32_t batch, int n_contexts);

/* Opens a detector for a row. False when it cannot be: the row then says why; `out_of_memory` tells that from the rest. */
bool bench_open(bench *b, detector *d, const setting *how, int n_contexts, json_t *row, bool *out_of_memory);

/* The row of a place in a scenario, with what describes it; bench_add takes it over. */
json_t *bench_row(const bench *b, scenario_id id, const setting *how, int n_contexts);
void bench_add(bench *b, json_t *row);

void row_note(json_t *row, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Marks figures as not to be used. */
void row_invalid(bench *b, json_t *row, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A row without figures: "out_of_memory", "unsupported", "failed", "skipped". */
void row_status(json_t *row, const char *status, const char *message);

/* Latencies, throughput, phases, cost, what the inputs were. */
void row_measurement(bench *b, json_t *row, const measurement *m, const detector *d);
void row_resources(bench *b, json_t *row, const resources *used);
/* The description of a context: device, size, memory. */
void row_plan(json_t *row, const detector *d);

/* The figures of some numbers: how many, mean, deviation, percentiles with what they need, repeats, bins. */
json_t *summary_json(const samples *values, const double *medians, int n_repeats);

/* Measures requests one after another with everything around it: sampling, resources, the row. */
bool bench_turns(bench *b, detector *d, const turns_plan *plan, json_t *row, measurement *m);
turns_plan bench_turns_plan(const bench *b, int batch);

/* Complains, and marks the row. Always false. */
bool bench_fail(bench *b, json_t *row, const char *message);

#endif
