/* The model file (docs/model_file.md): read, check all of it, look tensors up by name. */
#ifndef DET_WEIGHTS_H
#define DET_WEIGHTS_H

#include "json.h"

enum { DET_NAME_BYTES = 128, DET_MAX_DIMS = 4, DET_WEIGHTS_START_BYTES = 8 };

typedef struct det_weight {
    char name[DET_NAME_BYTES];
    int64_t shape[DET_MAX_DIMS]; /* the first n_dims count */
    int n_dims;
    int64_t n_values;
    const float *values;
} det_weight;

typedef struct det_weights {
    int n_tensors;
    det_weight *tensors; /* sorted by name */
    float *values;       /* of all tensors */
    int64_t n_values;
    det_json *metadata; /* the texts of `info` belong to it */
    const char **class_names;
    det_model_info info;
} det_weights;

/* What the first 8 bytes tell of a file of n_bytes: the length of its header, or that it is no model file. */
det_status det_weights_check_start(const uint8_t *data, uint64_t n_bytes, uint64_t *header_bytes);

/* Reads a model file's bytes. `out` is zeroed memory; det_weights_close gives back whatever it holds. */
det_status det_weights_read(const uint8_t *data, size_t n_bytes, det_weights *out);
void det_weights_close(det_weights *weights);

/* The tensor of that name, or NULL. */
const det_weight *det_weights_find(const det_weights *weights, const char *name);

/* "[64, 3, 3, 3]" into `text`; returns it. */
const char *det_shape_text(const int64_t *shape, int n_dims, char text[64]);

#endif
