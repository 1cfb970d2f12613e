#include "tensors.h"

#include "check.h"

#include <jansson.h>

tensor_file tensor_file_open(const char *path) {
    tensor_file file = {0};
    FILE *stream = fopen(path, "rb");
    REQUIRE(stream, "%s cannot be opened", path);
    fseek(stream, 0, SEEK_END);
    long n_bytes = ftell(stream);
    rewind(stream);
    file.bytes = malloc((size_t)n_bytes);
    REQUIRE(file.bytes && fread(file.bytes, 1, (size_t)n_bytes, stream) == (size_t)n_bytes, "%s", path);
    fclose(stream);
    uint64_t header_bytes;
    memcpy(&header_bytes, file.bytes, 8);
    file.header = json_loadb((const char *)file.bytes + 8, (size_t)header_bytes, 0, NULL);
    REQUIRE(file.header, "%s has no JSON header", path);
    file.data = (const float *)(file.bytes + 8 + header_bytes);
    return file;
}

void tensor_file_close(tensor_file *file) {
    json_decref(file->header);
    free(file->bytes);
}

tensor tensor_find(const tensor_file *file, const char *name) {
    tensor t = {.n_values = 1};
    const json_t *entry = json_object_get(file->header, name);
    if (!entry)
        return (tensor){0};
    const json_t *shape = json_object_get(entry, "shape");
    t.n_dims = (int)json_array_size(shape);
    for (int i = 0; i < t.n_dims; i++) {
        t.shape[i] = (int)json_integer_value(json_array_get(shape, (size_t)i));
        t.n_values *= t.shape[i];
    }
    t.values = file->data + json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0)) / 4;
    return t;
}
