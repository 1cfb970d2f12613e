#include "tensors.h"

#include "check.h"

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
    REQUIRE(det_json_read(path, (const char *)file.bytes + 8, (size_t)header_bytes, &file.header) == DET_OK, "%s",
            det_last_error());
    file.data = (const float *)(file.bytes + 8 + header_bytes);
    return file;
}

void tensor_file_close(tensor_file *file) {
    det_free(file->header);
    free(file->bytes);
}

tensor tensor_find(const tensor_file *file, const char *name) {
    tensor t = {.n_values = 1};
    const det_json *entry = det_json_get(file->header, name), *shape = det_json_get(entry, "shape");
    const det_json *offset = det_json_item(det_json_get(entry, "data_offsets"), 0);
    if (!shape || !offset)
        return (tensor){0};
    t.n_dims = shape->n;
    for (int i = 0; i < t.n_dims; i++) {
        t.shape[i] = (int)det_json_item(shape, i)->u.integer;
        t.n_values *= t.shape[i];
    }
    t.values = file->data + offset->u.integer / 4;
    return t;
}
