/* What the tests of the public API share. They include detect.h alone and link the shared library. */
#ifndef DET_TEST_API_H
#define DET_TEST_API_H

#include "check.h"
#include "libdetect/detect.h"
#include "make_model.h"
#include "random.h"

#include <stdbool.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* The call must return `status`, with `fragment` in its message, which is one line. */
#define EXPECT(call, status, fragment)                                                                                 \
    do {                                                                                                               \
        det_status expect_got = (call);                                                                                \
        CHECK_MSG(expect_got == (status), "%s: %s", det_status_name(expect_got), det_last_error());                    \
        CHECK_MSG(strstr(det_last_error(), fragment) && !strchr(det_last_error(), '\n'), "the message is: %s",          \
                  det_last_error());                                                                                   \
    } while (0)

#define OK(call) CHECK_MSG((call) == DET_OK, "%s", det_last_error())

static inline det_model *open_made(const char *name) {
    bytes file = make_model(name, NULL);
    det_model *model;
    REQUIRE(det_model_open_memory(file.data, file.n, &model) == DET_OK, "%s: %s", name, det_last_error());
    bytes_free(&file);
    return model;
}

static inline det_context_options cpu_options(int max_batch, int n_threads) {
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CPU;
    options.max_batch = max_batch;
    options.n_threads = n_threads;
    return options;
}

static inline det_context *create(const det_model *model, const det_context_options *options) {
    det_context *context;
    REQUIRE(det_context_create(model, options, &context) == DET_OK, "%s", det_last_error());
    return context;
}

/* Random bytes; the caller frees planes. `padding`: bytes after each row. */
static inline det_image random_picture(int w, int h, int32_t format, int padding) {
    static const int pixel_bytes[] = {[DET_RGB8] = 3, [DET_BGR8] = 3, [DET_RGBA8] = 4, [DET_GRAY8] = 1, [DET_NV12] = 1};
    det_image image = {.width = w, .height = h, .format = format};
    uint64_t state = (uint64_t)w << 32 | (uint64_t)h;
    int64_t strides[] = {(int64_t)w * pixel_bytes[format] + padding, (w + 1) / 2 * 2 + padding};
    int n_rows[] = {h, (h + 1) / 2};
    for (int i = 0; i < (format == DET_NV12 ? 2 : 1); i++) {
        size_t n_bytes = (size_t)(strides[i] * n_rows[i]);
        uint8_t *plane = malloc(n_bytes);
        for (size_t k = 0; k < n_bytes; k++)
            plane[k] = (uint8_t)random_next(&state);
        image.planes[i] = plane;
        image.strides[i] = strides[i];
    }
    return image;
}

static inline void free_picture(det_image *image) {
    free((void *)(uintptr_t)image->planes[0]);
    free((void *)(uintptr_t)image->planes[1]);
}

/* Results of one run, with room for MAX_OBJECTS a picture. */
enum { MAX_OBJECTS = 300, MAX_PICTURES = 8 };

typedef struct results {
    det_object objects[MAX_PICTURES][MAX_OBJECTS];
    int32_t counts[MAX_PICTURES], cuts[MAX_PICTURES];
} results;

static inline det_output output_to(results *r) {
    return (det_output){.struct_size = sizeof(det_output),
                        .objects = r->objects[0],
                        .counts = r->counts,
                        .max_objects = MAX_OBJECTS,
                        .cuts = r->cuts};
}

static inline void run(det_context *context, const det_image *images, int n, results *r) {
    det_output output = output_to(r);
    memset(r, 0, sizeof *r);
    OK(det_run(context, images, n, &output));
}

/* The same bytes for picture i of a and picture j of b. */
static inline bool same_objects(const results *a, int i, const results *b, int j) {
    return a->counts[i] == b->counts[j] && a->cuts[i] == b->cuts[j] &&
           !memcmp(a->objects[i], b->objects[j], sizeof(det_object) * (size_t)a->counts[i]);
}

#endif
