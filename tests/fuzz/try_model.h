/* What the targets share that end in a model: open, plan for a small picture, run. */
#ifndef DET_FUZZ_TRY_MODEL_H
#define DET_FUZZ_TRY_MODEL_H

#include "libdetect/detect.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* A failure has a message of one line, and gives nothing. */
static void check_status(det_status status, const void *object) {
    if ((status == DET_OK) != (object != NULL) || (status != DET_OK && strlen(det_last_error()) == 0) ||
        strpbrk(det_last_error(), "\n\r\x1b") || status == DET_ERROR_INTERNAL)
        abort();
}

static void run_model(det_context *context, int n_classes) {
    enum { SIDE = 20, MAX_OBJECTS = 16 };
    static uint8_t pixels[SIDE * SIDE * 3];
    det_image image = {.planes = {pixels}, .strides = {SIDE * 3}, .width = SIDE, .height = SIDE, .format = DET_RGB8};
    det_object objects[MAX_OBJECTS];
    int32_t count;
    det_output output = {.struct_size = sizeof output, .objects = objects, .counts = &count, .max_objects = MAX_OBJECTS};
    if (det_run(context, &image, 1, &output) != DET_OK || count < 0 || count > MAX_OBJECTS)
        abort();
    for (int i = 0; i < count; i++) {
        if (objects[i].class_id < 0 || objects[i].class_id >= n_classes || !(objects[i].score > 0))
            abort();
    }
}

/* The time of a try is bounded: an input of 32 x 32 pixels, one thread, and the library's own limits. */
static void try_model(const uint8_t *data, size_t n_bytes) {
    det_model *model;
    det_status status = det_model_open_memory(data, n_bytes, &model);
    check_status(status, model);
    if (!model)
        return;
    det_model_info info = {.struct_size = sizeof info};
    if (det_model_get_info(model, &info) != DET_OK || info.n_classes < 1 || !info.class_names[info.n_classes - 1])
        abort();
    det_context_options options;
    det_context *context;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CPU;
    options.width = options.height = 32;
    options.n_threads = 1;
    options.max_candidates = 64;
    status = det_context_create(model, &options, &context);
    check_status(status, context);
    det_model_close(model);
    if (context)
        run_model(context, info.n_classes);
    det_context_destroy(context);
}

#endif
