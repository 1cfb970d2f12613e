/* Writes model files (docs/model_file.md), good and bad. */
#ifndef DET_TEST_MODEL_FILE_H
#define DET_TEST_MODEL_FILE_H

#include <stddef.h>
#include <stdint.h>

/* A text that grows. Zeroed memory is the empty text. */
typedef struct text {
    char *chars; /* ends with 0; NULL while empty */
    size_t n, capacity;
} text;

void text_add(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As a JSON string, quotes included. */
void text_add_json(text *t, const char *s);
void text_free(text *t);

typedef struct bytes {
    uint8_t *data;
    size_t n;
} bytes;

void bytes_free(bytes *b);
/* Ends the test when the file cannot be written. */
void bytes_save(const bytes *b, const char *path);

typedef struct model_tensor {
    char name[128];
    int n_dims;
    int64_t shape[4];
    float *values; /* NULL: zeros */
} model_tensor;

int64_t model_tensor_values(const model_tensor *t);

/* Length, header and data, whatever those are. */
bytes model_file_from(const char *header, const void *data, size_t data_bytes);
/* A file of F32 tensors, described by `metadata`, the JSON of docs/model_file.md. */
bytes model_file_of(const char *metadata, const model_tensor *tensors, int n);

#endif
