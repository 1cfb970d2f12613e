#include "staging.h"

#include "planes.h"

#include <string.h>

enum { PAGE_BYTES = 16384 };

size_t det_staging_bytes(const det_image *image) {
    size_t n_bytes = 0;
    for (int i = 0; i < det_n_planes(image); i++)
        n_bytes += det_row_bytes(image, i) * det_plane_rows(image, i);
    return n_bytes;
}

void det_staging_copy(det_image *image, void *to) {
    uint8_t *at = to;
    for (int i = 0; i < det_n_planes(image); i++) {
        const uint8_t *from = image->planes[i];
        size_t n_bytes = det_row_bytes(image, i), n_rows = det_plane_rows(image, i);
        image->planes[i] = at;
        for (size_t row = 0; row < n_rows; row++, at += n_bytes)
            memcpy(at, from + (int64_t)row * image->strides[i], n_bytes);
        image->strides[i] = (int64_t)n_bytes;
    }
}

size_t det_staging_capacity(const det_staging *s) {
    return (size_t)s->n_pages * PAGE_BYTES;
}

/* Joins the free blocks that follow a free one. */
static int join(det_staging *s, int at) {
    while (at - s->blocks[at] < s->n_pages && s->blocks[at - s->blocks[at]] < 0)
        s->blocks[at] += s->blocks[at - s->blocks[at]];
    return -s->blocks[at];
}

void *det_staging_take(det_staging *s, size_t n_bytes) {
    size_t wanted = (n_bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    if (wanted > (size_t)s->n_pages)
        return NULL;
    int n = (int)wanted;
    for (int at = 0; at < s->n_pages; at += s->blocks[at] < 0 ? -s->blocks[at] : s->blocks[at]) {
        int n_free = s->blocks[at] < 0 ? join(s, at) : 0;
        if (n_free < n)
            continue;
        if (n_free > n)
            s->blocks[at + n] = n - n_free;
        s->blocks[at] = n;
        s->used_bytes += (int64_t)n * PAGE_BYTES;
        return s->memory + (size_t)at * PAGE_BYTES;
    }
    return NULL;
}

void det_staging_give(det_staging *s, void *pointer) {
    int at = (int)((size_t)((uint8_t *)pointer - s->memory) / PAGE_BYTES);
    s->used_bytes -= (int64_t)s->blocks[at] * PAGE_BYTES;
    s->blocks[at] = -s->blocks[at];
}

det_status det_staging_open(det_staging *s, void *memory, size_t n_bytes) {
    *s = (det_staging){.memory = memory, .n_pages = (int)DET_MIN(n_bytes / PAGE_BYTES, INT32_MAX)};
    if (s->n_pages == 0)
        return DET_OK;
    s->blocks = det_alloc_array((size_t)s->n_pages, sizeof *s->blocks);
    if (!s->blocks)
        return DET_ERROR_OUT_OF_MEMORY;
    s->blocks[0] = -s->n_pages;
    return DET_OK;
}

void det_staging_close(det_staging *s) {
    det_free(s->blocks);
}
