/* detect-bench MODEL: environment, initialise, then for every setting every scenario, which warms up, measures and
 * summarises. */
#include "bench.h"
#include "find_model.h"
#include "document.h"
#include "environment.h"
#include "meter.h"
#include "output.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static scenario *const scenarios[N_SCENARIOS] = {scenario_latency, scenario_throughput, scenario_concurrency,
                                                 scenario_rate,    scenario_streams,    scenario_soak,
                                                 scenario_tune,    scenario_stages,     scenario_layers};

int scenario_steps(const bench *b, scenario_id id) {
    const options *g = b->given;
    enum { STAGES = 2, TUNE_SETTINGS = 3, RATES = 4 };
    switch (id) {
    case SCENARIO_THROUGHPUT:
        return g->batches.n;
    case SCENARIO_CONCURRENCY:
        return g->callers.n;
    case SCENARIO_RATE:
        return 1 + (g->rates.n > 0 ? g->rates.n : RATES);
    case SCENARIO_TUNE:
        return g->batches.n * (g->sizes.n > 1 ? g->sizes.n : TUNE_SETTINGS);
    case SCENARIO_STAGES:
    case SCENARIO_STREAMS:
        return STAGES;
    default:
        return 1;
    }
}

/* ------------------------------------------------------------------------------------------------------- settings */

/* One context for each core on the CPU, as few threads serve most pictures in all; two on a GPU, so that one picture
 * goes up while another is worked on. */
int bench_contexts(const bench *b) {
    enum { ON_GPU = 2, MOST = 16 };
    const options *g = b->given;
    if (g->contexts > 0)
        return g->contexts;
    if (b->setting.devices[0].device == DET_DEVICE_CUDA)
        return ON_GPU * b->setting.n_devices;
    int n = b->machine.n_usable / (g->threads > 0 ? g->threads : 1);
    return n < 1 ? 1 : n < MOST ? n : MOST;
}

int32_t bench_threads(const bench *b, int n_contexts) {
    if (b->given->threads > 0)
        return b->given->threads;
    int32_t each = b->machine.n_usable / n_contexts;
    return n_contexts == 1 ? 0 : each > 1 ? each : 1; /* 0: the library's own choice */
}

setting bench_setting(const bench *b, int32_t batch, int n_contexts) {
    setting how = b->setting;
    how.batch = batch;
    how.threads = bench_threads(b, n_contexts);
    if (n_contexts < how.n_devices)
        how.n_devices = n_contexts;
    return how;
}

turns_plan bench_turns_plan(const bench *b, int batch) {
    enum { LEAST = 3 };
    return (turns_plan){.repeats = b->given->repeats,
                        .seconds = b->given->seconds,
                        .least = LEAST,
                        .warm_up_s = b->given->warm_up_s,
                        .batch = batch};
}

/* ---------------------------------------------------------------------------------------------------- measurements */

bool bench_open(bench *b, detector *d, const setting *how, int n_contexts, json_t *row, bool *out_of_memory) {
    det_status status = detector_open(d, b->model, &b->in, how, n_contexts);
    *out_of_memory = status == DET_ERROR_OUT_OF_MEMORY;
    if (status == DET_OK) {
        row_plan(row, d);
        return true;
    }
    if (*out_of_memory)
        row_status(row, "out_of_memory", det_last_error());
    else if (status == DET_ERROR_UNSUPPORTED)
        row_status(row, "unsupported", det_last_error());
    else
        bench_fail(b, row, det_last_error());
    return false;
}

bool bench_turns(bench *b, detector *d, const turns_plan *plan, json_t *row, measurement *m) {
    resources used;
    meter_step(plan->warm_up_s + plan->repeats * plan->seconds);
    sampler_begin(b->sampler);
    bool ok = measure_turns(b->time, &d->target, plan, m);
    sampler_end(b->sampler, &used);
    meter_end_step();
    if (!ok)
        return bench_fail(b, row, m->latency_ms.failed ? "out of memory for the latencies" : detector_error(d));
    row_measurement(b, row, m, d);
    row_resources(b, row, &used);
    return true;
}

/* What the pictures hold by this setting, so that every row can say whether NMS had anything to do. */
static bool look_at_inputs(bench *b, detector *d) {
    b->in.n_detections = b->in.n_with_detections = 0;
    for (size_t i = 0; i < b->in.n; i++) {
        int64_t before = d->seats[0].n_objects;
        if (!d->target.serve(d->target.self, 0, (int64_t)i))
            return false;
        b->in.detections[i] = (int32_t)(d->seats[0].n_objects - before);
        b->in.n_detections += (size_t)b->in.detections[i];
        b->in.n_with_detections += b->in.detections[i] > 0;
    }
    return true;
}

static bool wants_accuracy(const options *given) {
    return given->labels != NULL || given->precisions.n > 1;
}

/* A setting that cannot be had is a row with a reason and a line; one that fails otherwise is an end to everything. */
static bool refuse(bench *b, json_t *row, det_status status, const char *message, bool *go_on) {
    *go_on = status == DET_ERROR_UNSUPPORTED || status == DET_ERROR_OUT_OF_MEMORY;
    complain("%s%s", *go_on ? "left out: " : "", message);
    row_status(row, status == DET_ERROR_UNSUPPORTED ? "unsupported" : *go_on ? "out_of_memory" : "failed", message);
    bench_add(b, row);
    return false;
}

bool bench_choose(bench *b, int32_t precision, int32_t width, int32_t height, scenario_id id, bool *go_on) {
    b->setting.precision = precision;
    b->setting.width = width;
    b->setting.height = height;
    b->accuracy = (accuracy){0};
    setting how = bench_setting(b, 1, 1);
    json_t *row = bench_row(b, id, &how, 1);
    if (precision == PRECISION_INT8)
        return refuse(b, row, DET_ERROR_UNSUPPORTED, "int8: libdetect has no int8 arithmetic", go_on);
    detector d;
    det_status status = detector_open(&d, b->model, &b->in, &how, 1);
    char message[512];
    snprintf(message, sizeof message, "%s: %s", b->model_path, status != DET_OK ? det_last_error() : "");
    bool ok = status == DET_OK;
    if (ok && !look_at_inputs(b, &d)) {
        snprintf(message, sizeof message, "%s: %s", b->model_path, detector_error(&d));
        status = DET_ERROR_DEVICE;
        ok = false;
    }
    detector_close(&d);
    if (!ok)
        return refuse(b, row, status, message, go_on);
    json_decref(row);
    *go_on = !wants_accuracy(b->given) ||
             accuracy_measure(b->given, b->model, &b->in, &how, &b->reference, &b->accuracy) == EXIT_DONE;
    b->any_failed = b->any_failed || !*go_on;
    return *go_on;
}

/* ------------------------------------------------------------------------------------------------------- the run */

/* fp32 first, as the others' boxes are measured against its. */
static integer_list order_precisions(const integer_list *given) {
    integer_list ordered = {.n = 0};
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < given->n; i++)
            if ((given->values[i] == DET_FP32) == (pass == 0))
                ordered.values[ordered.n++] = given->values[i];
    return ordered;
}

static bool run_scenarios(bench *b) {
    for (int id = 0; id < N_SCENARIOS; id++)
        if (id != SCENARIO_TUNE && wants(b->given, id) && !scenarios[id](b))
            return false;
    return true;
}

/* Returns false when something has made an end of it. */
static bool run_settings(bench *b) {
    const options *g = b->given;
    integer_list precisions = order_precisions(&g->precisions);
    scenario_id first = 0;
    while (!wants(g, first) || first == SCENARIO_TUNE)
        if (++first == N_SCENARIOS)
            return true;
    bool ok = true;
    for (int i = 0; ok && i < g->sizes.n; i++)
        for (int k = 0; ok && k < precisions.n; k++)
            if (bench_choose(b, precisions.values[k], g->sizes.width[i], g->sizes.height[i], first, &ok))
                ok = run_scenarios(b);
    return ok;
}

static int count_steps(const bench *b) {
    int n = 0;
    for (int id = 0; id < N_SCENARIOS; id++)
        if (wants(b->given, id))
            n += scenario_steps(b, id) * (id == SCENARIO_TUNE ? 1 : b->given->sizes.n * b->given->precisions.n);
    return n;
}

static bool any_measured(const json_t *rows) {
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (json_object_get(json_array_get(rows, i), "latency_ms") != NULL)
            return true;
    return false;
}

/* Longer runs are looked at less often: a day's would be nothing but looks. */
static double sampling_interval(const options *given) {
    static const double least = 0.1, most = 1, per_run = 1000;
    double interval = given->duration_s / per_run;
    return interval < least ? least : interval < most ? interval : most;
}

static int measure_all(bench *b) {
    const sampler_plan plan = {
        .root = "", .gpu = b->gpu, .interval_s = sampling_interval(b->given), .tick = meter_tick};
    b->sampler = sampler_start(&plan);
    if (b->sampler == NULL) {
        complain("out of memory, or of threads, for the sampler");
        return EXIT_FAILED;
    }
    meter_begin(count_steps(b));
    bool finished = run_settings(b);
    if (finished && wants(b->given, SCENARIO_TUNE))
        finished = scenario_tune(b);
    meter_end();
    sampler_stop(b->sampler);
    if (!any_measured(b->rows))
        return b->any_failed ? EXIT_FAILED : EXIT_MODEL;
    return finished && !b->any_failed ? EXIT_DONE : EXIT_FAILED;
}

static int open_model(bench *b) {
    const char *path = find_model(b->given->model, b->model_room, sizeof b->model_room);
    if (path == NULL) {
        complain("no model: this build comes without one; name one or set LIBDETECT_MODEL; 'detect models' says how to "
                 "make one");
        return EXIT_MODEL;
    }
    b->model_path = path;
    b->info.struct_size = sizeof b->info;
    double begin = timebase_now(b->time);
    if (det_model_open(path, &b->model) != DET_OK || det_model_get_info(b->model, &b->info) != DET_OK) {
        complain("%s", det_last_error());
        return EXIT_MODEL;
    }
    b->open_ms = 1e3 * (timebase_now(b->time) - begin);
    return EXIT_DONE;
}

static json_t *run_json(const bench *b, json_t *environment) {
    return json_pack("{s:o, s:o, s:o, s:o, s:O}", "label",
                     b->given->label != NULL ? json_string(b->given->label) : json_null(), "environment", environment,
                     "model", model_json(b), "settings", settings_json(b), "rows", b->rows);
}

int command_run(const options *given) {
    bench b = {.given = given, .time = timebase_machine(), .rows = json_array()};
    b.setting.n_devices = given->devices.n;
    memcpy(b.setting.devices, given->devices.values, sizeof b.setting.devices);
    int outcome = output_possible(given) ? open_model(&b) : EXIT_FAILED;
    if (outcome == EXIT_DONE)
        outcome = inputs_open(&b.in, given);
    if (outcome == EXIT_DONE)
        outcome = environment_read(&b);
    if (outcome == EXIT_DONE) {
        json_t *environment = environment_json(&b); /* before: what is at work then is not this */
        outcome = measure_all(&b);
        if (any_measured(b.rows)) {
            json_t *document = document_new(json_pack("[o]", run_json(&b, environment)));
            if (document == NULL)
                complain("out of memory for the results");
            if (document == NULL || !output_all(document, given))
                outcome = EXIT_FAILED;
            json_decref(document);
        } else {
            json_decref(environment);
        }
    }
    nvml_close(b.gpu);
    accuracy_reference_free(&b.reference);
    inputs_free(&b.in);
    det_model_close(b.model);
    json_decref(b.rows);
    return outcome;
}
