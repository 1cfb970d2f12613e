/* Where a picture's pixels lie: one plane, or NV12's two, of rows of whole bytes. */
#ifndef DET_PLANES_H
#define DET_PLANES_H

#include <libdetect/detect.h>

static inline int det_n_planes(const det_image *image) {
    return image->format == DET_NV12 ? 2 : 1;
}

/* Of a row, without what may follow it: a stride is at least that. */
static inline size_t det_row_bytes(const det_image *image, int plane) {
    static const size_t pixel_bytes[] = {
        [DET_RGB8] = 3, [DET_BGR8] = 3, [DET_RGBA8] = 4, [DET_GRAY8] = 1, [DET_NV12] = 1};
    size_t width = (size_t)image->width;
    return plane ? (width + 1) / 2 * 2 : width * pixel_bytes[image->format];
}

static inline size_t det_plane_rows(const det_image *image, int plane) {
    size_t height = (size_t)image->height;
    return plane ? (height + 1) / 2 : height;
}

#endif
