#include "detectors.h"

#include "clock.h"
#include "log.h"
#include "metrics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct detectors {
    det_pool *pool;
};

/* Told to the client in other words: det_last_error speaks of devices and files. */
static outcome outcome_of(det_status status) {
    switch (status) {
    case DET_OK:
        return OUTCOME_OK;
    case DET_ERROR_QUEUE_FULL:
    case DET_ERROR_OUT_OF_MEMORY:
        return OUTCOME_BUSY;
    case DET_ERROR_DEADLINE:
        return OUTCOME_LATE;
    default:
        return OUTCOME_FAILED;
    }
}

static void answered(void *user, const det_answer *answer) {
    job *finished = user;
    outcome how = outcome_of(answer->status);
    if (how == OUTCOME_FAILED)
        complain("%s: %s", det_status_name(answer->status), answer->message);
    finished->n_objects = answer->n_objects;
    finished->inference_ms = clock_ms() - finished->begin_ms;
    job_finish(finished, how);
}

void detectors_submit(detectors *all, job *submitted) {
    const image *picture = &submitted->picture;
    const det_image pixels = {.planes = {picture->pixels},
                              .strides = {3 * (int64_t)picture->width},
                              .width = picture->width,
                              .height = picture->height,
                              .format = DET_RGB8};
    double left_ms = submitted->deadline_ms - clock_ms();
    if (left_ms <= 0) {
        job_finish(submitted, OUTCOME_LATE);
        return;
    }
    det_request request;
    det_request_init(&request);
    request.objects = submitted->objects;
    request.max_objects = submitted->asked.thresholds.max_objects;
    request.deadline_us = (int64_t)(left_ms * 1e3) + 1;
    request.thresholds = &submitted->asked.thresholds;
    det_status status = det_pool_submit(all->pool, &pixels, &request, answered, submitted, NULL);
    if (status == DET_OK)
        return; /* answered() has it, or had it already */
    outcome how = outcome_of(status);
    if (how == OUTCOME_FAILED)
        complain("%s", det_last_error());
    job_finish(submitted, how);
}

/* A device's name need not be of the characters that a label may hold. */
static void print_label(FILE *file, const char *text) {
    for (; *text != '\0'; text++)
        putc(*text == '"' || *text == '\\' || (unsigned char)*text < 0x20 ? '?' : *text, file);
}

static void print_context(FILE *file, det_pool *pool, int32_t index) {
    det_pool_context_stats stats = {.struct_size = sizeof stats};
    if (det_pool_get_context_stats(pool, index, &stats) != DET_OK)
        return;
    fprintf(file, "detect_context_pictures_total{context=\"%" PRId32 "\",device=\"", index);
    print_label(file, stats.device_name);
    fprintf(file, "\",in_service=\"%" PRId32 "\"} %" PRId64 "\n", stats.in_service, stats.n_pictures);
}

static void print_batches(FILE *file, const det_pool_stats *stats) {
    fputs("# HELP detect_batches_total Runs by the number of their pictures.\n# TYPE detect_batches_total counter\n",
          file);
    for (int32_t i = 0; i < DET_POOL_BATCH_SIZES; i++)
        if (stats->batches[i] > 0)
            fprintf(file, "detect_batches_total{pictures=\"%" PRId32 "\"} %" PRId64 "\n", i, stats->batches[i]);
}

void detectors_print_metrics(detectors *all, FILE *file) {
    det_pool_stats stats = {.struct_size = sizeof stats};
    if (det_pool_get_stats(all->pool, &stats) != DET_OK)
        return;
    const struct {
        const char *name, *type, *help;
        int64_t value;
    } rows[] = {
        {"detect_contexts_in_service", "gauge", "Contexts whose device works.", stats.n_in_service},
        {"detect_pool_waiting", "gauge", "Pictures in the pool's queue.", stats.n_waiting},
        {"detect_pool_running", "gauge", "Pictures in runs.", stats.n_running},
        {"detect_pool_submitted_total", "counter", "Pictures that the pool has taken.", stats.n_submitted},
        {"detect_pool_rejected_total", "counter", "Pictures that found the pool's queue full.", stats.n_rejected},
        {"detect_pool_retried_total", "counter", "Pictures run again after a device failed.", stats.n_retried},
        {"detect_pool_expired_total", "counter", "Pictures whose deadline passed in the queue.", stats.n_expired},
        {"detect_pool_wait_us_total", "counter", "Microseconds that pictures waited for a run.", stats.wait_us},
        {"detect_pool_run_us_total", "counter", "Microseconds that runs took.", stats.run_us},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        metrics_print_number(file, rows[i].name, rows[i].type, rows[i].help, (double)rows[i].value);
    print_batches(file, &stats);
    fputs("# HELP detect_context_pictures_total Pictures by the context that ran them.\n"
          "# TYPE detect_context_pictures_total counter\n",
          file);
    for (int32_t i = 0; i < stats.n_contexts; i++)
        print_context(file, all->pool, i);
}

detectors *detectors_open(const settings *given, const det_model *model) {
    detectors *all = calloc(1, sizeof *all);
    if (all == NULL) {
        complain("out of memory");
        return NULL;
    }
    det_context_options contexts[MAX_DEVICES];
    det_pool_device devices[MAX_DEVICES];
    for (int32_t i = 0; i < given->n_devices; i++) {
        contexts[i] = given->context;
        choose_device(&contexts[i], &given->devices[i]);
        devices[i] = (det_pool_device){.options = &contexts[i], .n_contexts = given->n_contexts};
    }
    det_pool_options options;
    det_pool_options_init(&options);
    options.devices = devices;
    options.n_devices = given->n_devices;
    options.max_batch = given->context.max_batch;
    options.max_delay_us = given->delay_us;
    options.capacity = given->max_queue;
    options.max_objects = given->max_objects;
    if (det_pool_create(model, &options, &all->pool) == DET_OK)
        return all;
    complain("%s", det_last_error());
    free(all);
    return NULL;
}

void detectors_close(detectors *all) {
    if (all == NULL)
        return;
    det_pool_destroy(all->pool);
    free(all);
}
