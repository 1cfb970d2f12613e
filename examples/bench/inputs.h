/* The pictures that are detected in: from files, or seeded noise. */
#ifndef BENCH_INPUTS_H
#define BENCH_INPUTS_H

#include "files.h"
#include "image_io.h"
#include "options.h"

enum { INPUTS_NOISE_PICTURES = 8, INPUTS_FILE_PICTURES = 64, INPUTS_MAX_BATCH = 256 };

typedef struct inputs {
    bool noise;
    file_list files;  /* empty with noise */
    image *pictures;  /* [n] */
    det_image *views; /* [n + INPUTS_MAX_BATCH]: the pictures round and round, so that any batch is a piece of it */
    size_t n;
    size_t n_found;      /* pictures that there were; more than n when only some were read */
    int32_t *detections; /* [n] at the model's own thresholds, by the setting at hand */
    size_t n_with_detections, n_detections;
} inputs;

/* Reads --images, or makes noise. Returns EXIT_DONE, or EXIT_FAILED after complaining; free it in either case. */
int inputs_open(inputs *in, const options *given);
void inputs_free(inputs *in);

/* The pictures with detections alone, or all when none has any: with views of their own, which the caller frees, and the
 * rest borrowed from `in`. False when memory runs out. */
bool inputs_with_detections(const inputs *in, inputs *chosen);

/* The `batch` pictures of a request. */
static inline const det_image *inputs_batch(const inputs *in, int64_t number, int batch) {
    return in->views + (uint64_t)number * (uint64_t)batch % in->n;
}

/* Uniform noise, the same for a seed everywhere. */
void inputs_fill_noise(uint8_t *bytes, size_t n_bytes, uint64_t seed);

/* A picture as the library takes it. */
det_image inputs_view(const image *picture);

#endif
