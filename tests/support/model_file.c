#include "model_file.h"

#include "check.h"

#include <stdarg.h>
#include <stdbool.h>

void text_add(text *t, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (t->n + (size_t)n + 1 > t->capacity) {
        t->capacity = 2 * (t->n + (size_t)n + 1);
        t->chars = realloc(t->chars, t->capacity);
        REQUIRE(t->chars, "%zu bytes", t->capacity);
    }
    va_start(arguments, format);
    vsnprintf(t->chars + t->n, (size_t)n + 1, format, arguments);
    va_end(arguments);
    t->n += (size_t)n;
}

void text_add_json(text *t, const char *s) {
    text_add(t, "\"");
    for (; *s; s++)
        text_add(t, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    text_add(t, "\"");
}

void text_free(text *t) {
    free(t->chars);
    memset(t, 0, sizeof *t);
}

void bytes_free(bytes *b) {
    free(b->data);
    memset(b, 0, sizeof *b);
}

void bytes_save(const bytes *b, const char *path) {
    FILE *file = fopen(path, "wb");
    REQUIRE(file, "%s cannot be opened", path);
    bool written = fwrite(b->data, 1, b->n, file) == b->n;
    REQUIRE(fclose(file) == 0 && written, "%s cannot be written", path);
}

int64_t model_tensor_values(const model_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

bytes model_file_from(const char *header, const void *data, size_t data_bytes) {
    size_t header_bytes = strlen(header);
    bytes file = {malloc(8 + header_bytes + data_bytes), 8 + header_bytes + data_bytes};
    REQUIRE(file.data, "%zu bytes", file.n);
    for (int i = 0; i < 8; i++)
        file.data[i] = (uint8_t)((uint64_t)header_bytes >> 8 * i);
    memcpy(file.data + 8, header, header_bytes);
    if (data_bytes)
        memcpy(file.data + 8 + header_bytes, data, data_bytes);
    return file;
}

bytes model_file_of(const char *metadata, const model_tensor *tensors, int n) {
    text header = {0};
    size_t n_values = 0;
    text_add(&header, "{\"__metadata__\":{\"libdetect\":");
    text_add_json(&header, metadata);
    text_add(&header, "}");
    for (int i = 0; i < n; i++) {
        const model_tensor *t = &tensors[i];
        text_add(&header, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", t->name);
        for (int j = 0; j < t->n_dims; j++)
            text_add(&header, "%s%lld", j ? "," : "", (long long)t->shape[j]);
        text_add(&header, "],\"data_offsets\":[%zu,", 4 * n_values);
        n_values += (size_t)model_tensor_values(t);
        text_add(&header, "%zu]}", 4 * n_values);
    }
    text_add(&header, "}");
    float *values = calloc(n_values + 1, sizeof *values), *at = values;
    for (int i = 0; i < n; i++) {
        if (tensors[i].values)
            memcpy(at, tensors[i].values, (size_t)model_tensor_values(&tensors[i]) * sizeof *at);
        at += model_tensor_values(&tensors[i]);
    }
    bytes file = model_file_from(header.chars, values, n_values * sizeof *values);
    text_free(&header);
    free(values);
    return file;
}
