/* A picture as the kernel that pre-processes it reads it. */
#ifndef DET_CUDA_PICTURE_H
#define DET_CUDA_PICTURE_H

#include "../backend.h"
#include "kernels.h"

static inline det_picture det_picture_of(const det_image *image, const det_placement *p) {
    return (det_picture){.planes = {image->planes[0], image->planes[1]},
                         .strides = {image->strides[0], image->strides[1]},
                         .width = image->width,
                         .height = image->height,
                         .format = image->format,
                         .scale_x = p->scale_x,
                         .scale_y = p->scale_y,
                         .offset_x = p->offset_x,
                         .offset_y = p->offset_y,
                         .x = p->x,
                         .y = p->y,
                         .w = p->w,
                         .h = p->h};
}

#endif
