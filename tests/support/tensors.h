/* Reads float32 .safetensors files of references. */
#ifndef DET_TEST_TENSORS_H
#define DET_TEST_TENSORS_H

#include "json.h"

#include <stdint.h>

typedef struct tensor_file {
    det_json *header;
    uint8_t *bytes; /* whole file */
    const float *data;
} tensor_file;

typedef struct tensor {
    int n_dims, shape[6];
    int64_t n_values;
    const float *values; /* NULL when there is none of that name */
} tensor;

/* Ends the test when the file cannot be read. */
tensor_file tensor_file_open(const char *path);
void tensor_file_close(tensor_file *file);
tensor tensor_find(const tensor_file *file, const char *name);

#endif
