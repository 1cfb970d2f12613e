/* Pictures and the parameter block up, results down. */
#include "../planes.h"
#include "picture.h"
#include "runner.h"

#include <string.h>

/* -------------------------------------------------------------------------------------------------------- pictures */

static size_t plane_bytes(const det_image *image, int plane) {
    return det_row_bytes(image, plane) * det_plane_rows(image, plane);
}

/* Of a plane in the picture's room on the device. */
static size_t plane_offset(const det_image *image, int plane) {
    return plane ? det_aligned(plane_bytes(image, 0)) : 0;
}

static size_t bytes_of(const det_image *image) {
    int last = det_n_planes(image) - 1;
    return plane_offset(image, last) + plane_bytes(image, last);
}

/* Bytes of the largest picture in host memory; 0 without any. */
static size_t largest(const det_frame *frame) {
    size_t most = 0;
    for (int i = 0; i < frame->n; i++) {
        if (frame->images[i].memory == DET_MEMORY_HOST)
            most = DET_MAX(most, det_aligned(bytes_of(&frame->images[i])));
    }
    return most;
}

det_status det_make_room(det_device *device, const det_frame *frame, bool capturing) {
    det_runner *r = device->runner;
    size_t most = largest(frame);
    if (most <= r->image_bytes)
        return DET_OK;
    if (capturing)
        DET_FAIL(DET_ERROR_UNSUPPORTED,
                 "a picture of %zu bytes; a run that is captured has room for %zu "
                 "(max_image_bytes)",
                 most, r->image_bytes);
    det_log(DET_LOG_INFO, "room for pictures of %zu bytes, %zu until now (max_image_bytes)", most, r->image_bytes);
    char *images;
    if (r->has_run)
        CUDA_TRY(cudaEventSynchronize(r->events[DET_AT_END]));
    DET_TRY(det_cuda_allocate(device, (size_t)r->max_batch * most, (void **)&images));
    if (r->captured && !r->captured_images)
        r->captured_images = r->images; /* a graph of the caller's copies into it */
    else
        det_cuda_release(device, r->images);
    r->images = images;
    r->image_bytes = most;
    return DET_OK;
}

static det_status upload_picture(const det_image *image, char *room, det_picture *picture, cudaStream_t stream) {
    for (int i = 0; i < det_n_planes(image); i++) {
        size_t row_bytes = det_row_bytes(image, i), stride = (size_t)image->strides[i];
        char *to = room + plane_offset(image, i);
        if (stride == row_bytes)
            CUDA_TRY(cudaMemcpyAsync(to, image->planes[i], plane_bytes(image, i), cudaMemcpyHostToDevice, stream));
        else
            CUDA_TRY(cudaMemcpy2DAsync(to, row_bytes, image->planes[i], stride, row_bytes, det_plane_rows(image, i),
                                       cudaMemcpyHostToDevice, stream));
        picture->planes[i] = (const uint8_t *)to;
        picture->strides[i] = (int64_t)row_bytes;
    }
    return DET_OK;
}

/* Describes the pictures; with `pixels`, those in host memory are copied. */
static det_status bring_pictures(det_runner *r, const det_frame *frame, det_slot *s, bool pixels, cudaStream_t stream) {
    for (int i = 0; i < frame->n; i++) {
        const det_image *image = &frame->images[i];
        det_picture *picture = (det_picture *)(void *)(s->block + r->pictures_offset) + i;
        *picture = det_picture_of(image, &frame->placements[i]);
        if (pixels && image->memory == DET_MEMORY_HOST)
            DET_TRY(upload_picture(image, r->images + (size_t)i * r->image_bytes, picture, stream));
    }
    return DET_OK;
}

/* ---------------------------------------------------------------------------------------------- the parameter block */

static void fill_block(det_runner *r, const det_frame *frame, det_slot *s) {
    const det_output *output = frame->output;
    const det_limits *limits = frame->limits;
    det_block *b = (det_block *)(void *)s->block;
    float *scores = (float *)(void *)(s->block + r->scores_offset),
          *logits = (float *)(void *)(s->block + r->logits_offset);
    float lowest = limits->class_logits[0];
    for (int i = 0; i < r->n_classes; i++) {
        scores[i] = limits->class_scores[i];
        logits[i] = limits->class_logits[i];
        lowest = DET_MIN(lowest, logits[i]);
    }
    bool here = output->memory == DET_MEMORY_HOST;
    int most = DET_MIN(DET_MIN(limits->max_objects, output->max_objects), r->max_objects);
    *b = (det_block){.pictures = (const det_picture *)(void *)(r->block + r->pictures_offset),
                     .class_scores = (const float *)(void *)(r->block + r->scores_offset),
                     .class_logits = (const float *)(void *)(r->block + r->logits_offset),
                     .objects = here ? (det_object *)(void *)(r->results + r->objects_offset) : output->objects,
                     .counts = here ? (int32_t *)(void *)r->results : output->counts,
                     .cuts = here ? (int32_t *)(void *)r->results + r->max_batch : output->cuts,
                     .n = frame->n,
                     .max_objects = most,
                     .row_objects = here ? most : output->max_objects,
                     .class_agnostic = limits->class_agnostic,
                     .multi_label = limits->multi_label,
                     .iou = limits->iou,
                     .lowest_logit = lowest};
    s->delivery = (det_delivery){r, *output, frame->n, most};
}

static det_status bring_block(det_runner *r, const det_frame *frame, det_slot *s, cudaStream_t stream) {
    fill_block(r, frame, s);
    CUDA_TRY(cudaMemcpyAsync(r->block, s->block, r->block_bytes, cudaMemcpyHostToDevice, stream));
    return DET_OK;
}

det_status det_upload(det_runner *r, const det_frame *frame, det_slot *s, bool pixels, cudaStream_t stream) {
    det_range_begin(r->profiled, "upload");
    det_status status = bring_pictures(r, frame, s, pixels, stream);
    if (status == DET_OK)
        status = bring_block(r, frame, s, stream);
    det_range_end(r->profiled);
    return status;
}

/* -------------------------------------------------------------------------------------------------------------- results */

void det_deliver(void *user) {
    const det_delivery *d = user;
    const det_runner *r = d->runner;
    det_range_begin(r->profiled, "download");
    const int32_t *counts = (const int32_t *)(const void *)r->results, *cuts = counts + r->max_batch;
    const det_object *objects = (const det_object *)(const void *)(r->results + r->objects_offset);
    for (int i = 0; i < d->n; i++) {
        int n = DET_MAX(0, DET_MIN(counts[i], d->row_objects));
        memcpy(d->output.objects + (size_t)i * (size_t)d->output.max_objects,
               objects + (size_t)i * (size_t)d->row_objects, (size_t)n * sizeof *objects);
        d->output.counts[i] = n;
        if (d->output.cuts)
            d->output.cuts[i] = cuts[i];
    }
    det_range_end(r->profiled);
}
