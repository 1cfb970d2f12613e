#include "measure.h"

#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { WARM_UPS = 2 };

/* What the runs read and write. */
typedef struct noise {
    uint8_t *pixels; /* one picture of the network's input size, for every place of the batch */
    det_image *images;
    det_object *objects;
    int32_t *counts;
    float *samples; /* MEASURE_RUNS rows of MEASURE_STAGES + n_layers */
} noise;

/* Noise, because zeros take short cuts that pictures do not. */
static void fill_noise(uint8_t *bytes, size_t n_bytes) {
    uint32_t state = 1;
    for (size_t i = 0; i < n_bytes; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(state >> 24);
    }
}

static bool allocate_noise(const session *opened, noise *input) {
    const det_context_info *plan = &opened->plan;
    size_t n = (size_t)plan->max_batch;
    size_t n_bytes = 3 * (size_t)plan->width * (size_t)plan->height;
    input->pixels = malloc(n_bytes);
    input->images = calloc(n, sizeof *input->images);
    input->objects = calloc(n * (size_t)opened->info.max_objects, sizeof *input->objects);
    input->counts = calloc(n, sizeof *input->counts);
    input->samples = calloc(MEASURE_RUNS * (MEASURE_STAGES + (size_t)plan->n_layers), sizeof *input->samples);
    if (!input->pixels || !input->images || !input->objects || !input->counts || !input->samples)
        return false;
    fill_noise(input->pixels, n_bytes);
    for (size_t i = 0; i < n; i++)
        input->images[i] = (det_image){.planes = {input->pixels},
                                       .strides = {3 * (int64_t)plan->width},
                                       .width = plan->width,
                                       .height = plan->height,
                                       .format = DET_RGB8};
    return true;
}

static det_status run_once(session *opened, const noise *input, det_profile *profile) {
    const det_output output = {.struct_size = sizeof output,
                               .objects = input->objects,
                               .counts = input->counts,
                               .max_objects = opened->info.max_objects};
    det_status status = det_run(opened->context, input->images, opened->plan.max_batch, &output);
    return status == DET_OK ? det_context_get_profile(opened->context, profile) : status;
}

static int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The median of a column of the samples. */
static float median(const float *samples, size_t row_length, size_t column) {
    float values[MEASURE_RUNS];
    for (size_t run = 0; run < MEASURE_RUNS; run++)
        values[run] = samples[run * row_length + column];
    qsort(values, MEASURE_RUNS, sizeof values[0], compare_floats);
    return values[MEASURE_RUNS / 2];
}

static det_status take_samples(session *opened, const noise *input, det_profile *profile) {
    size_t row_length = MEASURE_STAGES + (size_t)opened->plan.n_layers;
    for (int run = -WARM_UPS; run < MEASURE_RUNS; run++) {
        det_status status = run_once(opened, input, profile);
        if (status != DET_OK)
            return status;
        if (run < 0)
            continue;
        float *row = input->samples + (size_t)run * row_length;
        row[MEASURE_UPLOAD] = profile->upload_ms;
        row[MEASURE_PREPROCESS] = profile->preprocess_ms;
        row[MEASURE_NETWORK] = profile->network_ms;
        row[MEASURE_DECODE] = profile->decode_ms;
        row[MEASURE_NMS] = profile->nms_ms;
        row[MEASURE_DOWNLOAD] = profile->download_ms;
        row[MEASURE_TOTAL] = profile->total_ms;
        for (int32_t i = 0; i < profile->n_layers && i < opened->plan.n_layers; i++)
            row[MEASURE_STAGES + i] = profile->layers[i].ms;
    }
    return DET_OK;
}

int measure_layers(session *opened, measured *times) {
    noise input = {0};
    size_t n_layers = (size_t)opened->plan.n_layers, row_length = MEASURE_STAGES + n_layers;
    *times = (measured){.layers.struct_size = sizeof times->layers, .layer_ms = calloc(n_layers + 1, sizeof(float))};
    int outcome = EXIT_MODEL;
    if (times->layer_ms == NULL || !allocate_noise(opened, &input)) {
        complain("out of memory for a run of %d pictures", (int)opened->plan.max_batch);
    } else if (take_samples(opened, &input, &times->layers) != DET_OK) {
        complain("%s", det_last_error());
    } else {
        for (size_t i = 0; i < MEASURE_STAGES; i++)
            times->stage_ms[i] = median(input.samples, row_length, i);
        for (size_t i = 0; i < n_layers; i++)
            times->layer_ms[i] = median(input.samples, row_length, MEASURE_STAGES + i);
        outcome = EXIT_DONE;
    }
    free(input.pixels);
    free(input.images);
    free(input.objects);
    free(input.counts);
    free(input.samples);
    return outcome;
}

void measure_free(measured *times) {
    free(times->layer_ms);
    *times = (measured){0};
}
