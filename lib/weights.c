#include "weights.h"

#include "metadata.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 4 << 20, MAX_TENSORS = 4096, LENGTH_BYTES = DET_WEIGHTS_START_BYTES };

/* Where a tensor lies in the file, for the checks that need file order. */
typedef struct extent {
    uint64_t begin, end; /* bytes from the end of the header */
    bool half;
    det_weight *weight;
} extent;

const char *det_shape_text(const int64_t *shape, int n_dims, char text[64]) {
    size_t n = 0;
    text[n++] = '[';
    for (int i = 0; i < n_dims && n < 48; i++)
        n += (size_t)snprintf(text + n, 64 - n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + n, 64 - n, "]");
    return text;
}

/* `data_offsets`: two non-negative integers. */
static bool read_offsets(const det_json *entry, extent *e) {
    const det_json *offsets = det_json_get(entry, "data_offsets");
    const det_json *begin = det_json_item(offsets, 0), *end = det_json_item(offsets, 1);
    if (!end || offsets->n != 2 || begin->kind != DET_JSON_INTEGER || end->kind != DET_JSON_INTEGER)
        return false;
    if (begin->u.integer < 0 || end->u.integer < begin->u.integer)
        return false;
    e->begin = (uint64_t)begin->u.integer;
    e->end = (uint64_t)end->u.integer;
    return true;
}

static det_status read_shape(const det_json *entry, det_weight *w) {
    const det_json *shape = det_json_get(entry, "shape");
    if (!shape || shape->kind != DET_JSON_ARRAY || shape->n > DET_MAX_DIMS)
        DET_FAIL(DET_ERROR_BAD_MODEL, "tensor '%s': shape is not an array of 0 to %d sizes", w->name, DET_MAX_DIMS);
    w->n_dims = shape->n;
    w->n_values = 1;
    for (int i = 0; i < w->n_dims; i++) {
        const det_json *size = det_json_item(shape, i);
        int64_t value = size->kind == DET_JSON_INTEGER ? size->u.integer : 0;
        if (value < 1 || value > INT32_MAX || w->n_values > INT64_MAX / 8 / value)
            DET_FAIL(DET_ERROR_BAD_MODEL,
                     "tensor '%s': size %d of its shape is not from 1 to 2147483647, or the whole is too large",
                     w->name, i);
        w->shape[i] = value;
        w->n_values *= value;
    }
    return DET_OK;
}

static det_status read_entry(const det_json *entry, uint64_t data_bytes, extent *e) {
    det_weight *w = e->weight;
    const char *name = entry->key;
    size_t length = strlen(name);
    if (length < 1 || length >= DET_NAME_BYTES)
        DET_FAIL(DET_ERROR_BAD_MODEL, "a tensor's name has %zu bytes; 1 to %d are allowed", length, DET_NAME_BYTES - 1);
    memcpy(w->name, name, length + 1);
    DET_TRY(read_shape(entry, w));
    const char *dtype = det_json_text(det_json_get(entry, "dtype"));
    e->half = dtype && !strcmp(dtype, "F16");
    if (!dtype || (strcmp(dtype, "F32") != 0 && !e->half))
        DET_FAIL(DET_ERROR_BAD_MODEL, "tensor '%s': dtype is '%s'; F32 and F16 are allowed", name,
                 dtype ? dtype : "missing");
    if (!read_offsets(entry, e))
        DET_FAIL(DET_ERROR_BAD_MODEL, "tensor '%s': data_offsets is not a pair of rising byte offsets", name);
    uint64_t expected = (uint64_t)w->n_values * (e->half ? 2 : 4);
    if (e->end - e->begin != expected)
        DET_FAIL(DET_ERROR_BAD_MODEL, "tensor '%s': its shape needs %llu bytes, data_offsets give %llu", name,
                 (unsigned long long)expected, (unsigned long long)(e->end - e->begin));
    if (e->end > data_bytes)
        DET_FAIL(DET_ERROR_BAD_MODEL, "tensor '%s': ends at byte %llu of %llu; the file is truncated", name,
                 (unsigned long long)e->end, (unsigned long long)data_bytes);
    return DET_OK;
}

static int by_offset(const void *a, const void *b) {
    const extent *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const det_weight *)a)->name, ((const det_weight *)b)->name);
}

/* One after another from the first byte to the last. */
static det_status check_tiling(const extent *extents, int n, uint64_t data_bytes) {
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        if (extents[i].begin != at)
            DET_FAIL(DET_ERROR_BAD_MODEL, "tensor '%s': begins at byte %llu, %s byte %llu where the one before it ends",
                     extents[i].weight->name, (unsigned long long)extents[i].begin,
                     extents[i].begin < at ? "overlapping" : "leaving a gap after", (unsigned long long)at);
        at = extents[i].end;
    }
    if (at != data_bytes)
        DET_FAIL(DET_ERROR_BAD_MODEL, "the tensors end at byte %llu of %llu: bytes are left over",
                 (unsigned long long)at, (unsigned long long)data_bytes);
    return DET_OK;
}

static float half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half >> 15) << 31, exponent = (half >> 10) & 31, mantissa = half & 1023;
    float value;
    if (exponent == 0) {
        value = ldexpf((float)mantissa, -24);
        return sign ? -value : value;
    }
    uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static det_status copy_values(const uint8_t *bytes, const extent *e, float *out) {
    det_weight *w = e->weight;
    for (int64_t i = 0; i < w->n_values; i++) {
        if (e->half)
            out[i] = half_to_float((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
        else
            memcpy(&out[i], bytes + 4 * i, 4);
        if (!isfinite(out[i]))
            DET_FAIL(DET_ERROR_BAD_MODEL, "tensor '%s': value %lld is not finite", w->name, (long long)i);
    }
    w->values = out;
    return DET_OK;
}

static det_status read_tensors(det_json *header, const uint8_t *data, uint64_t data_bytes, extent *extents,
                               det_weights *out) {
    int n = 0;
    for (const det_json *entry = header->first; entry; entry = entry->next) {
        if (!strcmp(entry->key, "__metadata__"))
            continue;
        extents[n].weight = &out->tensors[n];
        DET_TRY(read_entry(entry, data_bytes, &extents[n]));
        out->n_values += extents[n].weight->n_values; /* cannot overflow: each is at most data_bytes / 2 */
        n++;
    }
    qsort(extents, (size_t)n, sizeof *extents, by_offset);
    DET_TRY(check_tiling(extents, n, data_bytes));
    out->n_tensors = n;
    out->values = det_alloc((size_t)out->n_values * sizeof(float));
    if (!out->values)
        return DET_ERROR_OUT_OF_MEMORY;
    float *values = out->values;
    for (int i = 0; i < n; i++) {
        DET_TRY(copy_values(data + extents[i].begin, &extents[i], values));
        values += extents[i].weight->n_values;
    }
    qsort(out->tensors, (size_t)n, sizeof *out->tensors, by_name);
    return DET_OK;
}

static det_status read_header(det_json *header, const uint8_t *data, uint64_t data_bytes, det_weights *out) {
    size_t n_entries = (size_t)header->n, n_tensors = n_entries - (det_json_get(header, "__metadata__") != NULL);
    if (n_tensors > MAX_TENSORS)
        DET_FAIL(DET_ERROR_BAD_MODEL, "%zu tensors; at most %d are allowed", n_tensors, MAX_TENSORS);
    DET_TRY(det_metadata_read(header, out));
    out->tensors = det_alloc_array(n_entries, sizeof *out->tensors);
    extent *extents = det_alloc_array(n_entries, sizeof *extents);
    det_status status = DET_ERROR_OUT_OF_MEMORY;
    if (out->tensors && extents)
        status = read_tensors(header, data, data_bytes, extents, out);
    det_free(extents);
    return status;
}

det_status det_weights_check_start(const uint8_t *data, uint64_t n_bytes, uint64_t *header_bytes) {
    if (n_bytes < LENGTH_BYTES)
        DET_FAIL(DET_ERROR_BAD_MODEL, "not a model file: %llu bytes, a header needs at least %d",
                 (unsigned long long)n_bytes, LENGTH_BYTES);
    uint64_t length = 0;
    for (int i = 0; i < LENGTH_BYTES; i++)
        length |= (uint64_t)data[i] << 8 * i;
    if (length > MAX_HEADER_BYTES)
        DET_FAIL(
            DET_ERROR_BAD_MODEL,
            "not a model file: a header of %llu bytes, at most %d are allowed; a checkpoint must be converted first "
            "(python3 -m libdetect.convert IN OUT)",
            (unsigned long long)length, MAX_HEADER_BYTES);
    if (length > n_bytes - LENGTH_BYTES)
        DET_FAIL(DET_ERROR_BAD_MODEL, "truncated: a header of %llu bytes in a file of %llu", (unsigned long long)length,
                 (unsigned long long)n_bytes);
    *header_bytes = length;
    return DET_OK;
}

det_status det_weights_read(const uint8_t *data, size_t n_bytes, det_weights *out) {
    uint64_t header_bytes = 0;
    det_json *header = NULL;
    DET_TRY(det_weights_check_start(data, n_bytes, &header_bytes));
    DET_TRY(det_json_read("the header", (const char *)data + LENGTH_BYTES, (size_t)header_bytes, &header));
    det_status status =
        read_header(header, data + LENGTH_BYTES + header_bytes, n_bytes - LENGTH_BYTES - header_bytes, out);
    det_free(header);
    return status;
}

void det_weights_close(det_weights *weights) {
    det_free(weights->metadata);
    det_free(weights->class_names);
    det_free(weights->tensors);
    det_free(weights->values);
    memset(weights, 0, sizeof *weights);
}

const det_weight *det_weights_find(const det_weights *weights, const char *name) {
    int low = 0, high = weights->n_tensors;
    while (low < high) {
        int middle = (low + high) / 2;
        int order = strcmp(name, weights->tensors[middle].name);
        if (order == 0)
            return &weights->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
