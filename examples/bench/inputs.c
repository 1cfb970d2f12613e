#include "inputs.h"

#include "text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* SplitMix64, eight bytes at a time. */
void inputs_fill_noise(uint8_t *bytes, size_t n_bytes, uint64_t seed) {
    uint64_t state = seed;
    for (size_t i = 0; i < n_bytes; i += 8) {
        uint64_t x = state += 0x9e3779b97f4a7c15u;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        x ^= x >> 31;
        for (size_t k = i; k < i + 8 && k < n_bytes; k++, x >>= 8)
            bytes[k] = (uint8_t)x;
    }
}

det_image inputs_view(const image *picture) {
    return (det_image){.planes = {picture->pixels},
                       .strides = {3 * (int64_t)picture->width},
                       .width = picture->width,
                       .height = picture->height,
                       .format = DET_RGB8,
                       .memory = DET_MEMORY_HOST};
}

static bool make_noise(inputs *in, const options *given) {
    size_t n_bytes = 3 * (size_t)given->picture_width * (size_t)given->picture_height;
    for (size_t i = 0; i < in->n_found; i++) {
        image *picture = &in->pictures[i];
        *picture = (image){malloc(n_bytes), given->picture_width, given->picture_height};
        if (picture->pixels == NULL) {
            complain("out of memory for %zu pictures of %" PRId32 "x%" PRId32, in->n_found, given->picture_width,
                     given->picture_height);
            return false;
        }
        inputs_fill_noise(picture->pixels, n_bytes, (uint64_t)given->seed + (i << 48));
        in->n++;
    }
    return true;
}

/* Spread evenly over what there is, so that a few of many are not the first few. */
static bool read_pictures(inputs *in, size_t n_wanted) {
    const image_limits limits = image_default_limits();
    size_t n_read = in->n_found < n_wanted ? in->n_found : n_wanted;
    for (size_t i = 0; i < n_read; i++) {
        const char *path = in->files.paths[i * in->n_found / n_read];
        char error[IMAGE_ERROR_SIZE];
        if (!image_load(path, &limits, &in->pictures[i], error)) {
            complain("%s: %s", path, error);
            return false;
        }
        in->n++;
    }
    return true;
}

static bool make_views(inputs *in) {
    in->views = calloc(in->n + INPUTS_MAX_BATCH, sizeof *in->views);
    in->detections = calloc(in->n, sizeof *in->detections);
    if (in->views == NULL || in->detections == NULL) {
        complain("out of memory for %zu pictures", in->n);
        return false;
    }
    for (size_t i = 0; i < in->n + INPUTS_MAX_BATCH; i++)
        in->views[i] = inputs_view(&in->pictures[i % in->n]);
    return true;
}

int inputs_open(inputs *in, const options *given) {
    *in = (inputs){.noise = given->images.n == 0};
    for (int i = 0; i < given->images.n; i++)
        if (!files_add(&in->files, given->images.paths[i]))
            return EXIT_FAILED;
    size_t n_default = in->noise ? INPUTS_NOISE_PICTURES : INPUTS_FILE_PICTURES;
    size_t n_wanted = given->pictures > 0 ? (size_t)given->pictures : n_default;
    in->n_found = in->noise ? n_wanted : in->files.n_paths;
    in->pictures = calloc(in->n_found < n_wanted ? in->n_found : n_wanted, sizeof *in->pictures);
    if (in->pictures == NULL) {
        complain("out of memory for %zu pictures", n_wanted);
        return EXIT_FAILED;
    }
    bool ok = in->noise ? make_noise(in, given) : read_pictures(in, n_wanted);
    return ok && make_views(in) ? EXIT_DONE : EXIT_FAILED;
}

bool inputs_with_detections(const inputs *in, inputs *chosen) {
    *chosen = *in;
    chosen->views = calloc(in->n + INPUTS_MAX_BATCH, sizeof *chosen->views);
    if (chosen->views == NULL)
        return false;
    chosen->n = 0;
    for (size_t i = 0; i < in->n; i++)
        if (in->detections[i] > 0 || in->n_with_detections == 0)
            chosen->views[chosen->n++] = in->views[i];
    for (size_t i = 0; i < INPUTS_MAX_BATCH; i++)
        chosen->views[chosen->n + i] = chosen->views[i]; /* round and round, as those were filled before */
    return true;
}

void inputs_free(inputs *in) {
    for (size_t i = 0; i < in->n; i++)
        image_free(&in->pictures[i]);
    free(in->pictures);
    free(in->views);
    free(in->detections);
    files_free(&in->files);
    *in = (inputs){0};
}
