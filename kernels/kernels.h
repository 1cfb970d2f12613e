/* Launchers of the CUDA kernels: plain pointers, sizes and a stream, in C.
 *
 * They know nothing of lib/. Each checks what it is given, enqueues its kernels on `stream` and returns: cudaSuccess,
 * cudaErrorInvalidValue for arguments outside what the comment says, or what the launch answered. None allocates,
 * synchronises or reads device memory, so that all can be captured in a CUDA graph.
 *
 * Tensors are NHWC. A view may be a range of channels of a wider tensor: `stride` elements lie between two pixels, so
 * that concatenations and slices cost no copy. Where a launcher says "padded", c is a whole number of vectors
 * (8 elements of two bytes, 4 of four), data and stride are aligned to 16 bytes, and the kernel works on all c channels;
 * otherwise any c and stride will do, and the slower path is taken where a vector would not fit.
 *
 * Arithmetic is in float, whatever the elements are. */
#ifndef DET_KERNELS_H
#define DET_KERNELS_H

#include <cuda_runtime_api.h>
#include <libdetect/detect.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum det_type { DET_TYPE_F32, DET_TYPE_F16, DET_TYPE_BF16 } det_type;
typedef enum det_unit { DET_UNIT_NONE, DET_UNIT_RELU, DET_UNIT_SILU, DET_UNIT_SIGMOID } det_unit;

typedef struct det_view {
    void *data;
    int n, h, w, c;
    int stride; /* elements from one pixel to the next, at least c; rows and pictures follow without a gap */
} det_view;

/* ------------------------------------------------------------------------------------------- the parameter block
 *
 * What changes from run to run lies in one block of device memory, read by the kernels: a captured graph never
 * changes. The pointers in it are device pointers (or of host memory that the device can read). */

typedef struct det_picture {
    const uint8_t *planes[2];
    int64_t strides[2]; /* bytes from row to row */
    int32_t width, height, format; /* DET_RGB8 ... */
    /* input = source * scale + offset; the picture covers [x, x + w) x [y, y + h) of the network's input */
    float scale_x, scale_y, offset_x, offset_y;
    int32_t x, y, w, h;
    int32_t reserved;
} det_picture;

typedef struct det_block {
    const det_picture *pictures;           /* [n] */
    const float *class_scores;             /* [n_classes] candidates need score > this */
    const float *class_logits;             /* [n_classes] a logit at or below cannot pass; a little under the exact limit */
    det_object *objects;                   /* [n][row_objects] */
    int32_t *counts, *cuts;                /* [n]; cuts may be NULL */
    int32_t n;                             /* pictures of this run, at most the batch of the launch: the rest is left alone */
    int32_t max_objects, row_objects;      /* kept per picture, at most row_objects */
    int32_t class_agnostic, multi_label;
    float iou, lowest_logit;               /* the lowest of class_logits */
    int32_t reserved;
} det_block;

/* ------------------------------------------------------------------------------------------------------- pictures */

/* Pictures -> y [batch, h, w, c >= 3]: RGB resized, placed and normalised, (grey - mean) * scale, around it
 * (pad - mean) * scale; channels from 3 on are zero. eight_bit: OpenCV's arithmetic for 8-bit pictures, to the byte
 * (letterbox); else float. Pictures from block->n on become pad. */
typedef struct det_preprocess_args {
    det_type type;
    det_view y;
    int eight_bit;
    float mean, scale, pad;
} det_preprocess_args;
cudaError_t det_launch_preprocess(const det_preprocess_args *args, const det_block *block, cudaStream_t stream);

/* ---------------------------------------------------------------------------------------------- tensors to tensors */

/* Depthwise convolution, k 3, 5 or 7, stride 1 or 2, zero padding `pad`, bias and activation, then perhaps + residual
 * and another activation. Padded. weight [k][k][c] in `type`, bias [c] float or NULL, residual like y or data NULL. */
typedef struct det_depthwise_args {
    det_type type;
    det_view x, y, residual;
    const void *weight;
    const float *bias;
    int k, stride, pad;
    det_unit unit, post_unit;
} det_depthwise_args;
cudaError_t det_launch_depthwise(const det_depthwise_args *args, cudaStream_t stream);

/* y = post_unit(unit(x + bias) + residual), all parts but x optional (bias [c] float or NULL, residual.data NULL): the end
 * of a convolution whose library could not do it, a lone activation or addition. Padded; y may be x or residual. With
 * `upsample` the residual has half the height and width and is repeated. */
typedef struct det_epilogue_args {
    det_type type;
    det_view x, y, residual;
    const float *bias;
    int upsample;
    det_unit unit, post_unit;
} det_epilogue_args;
cudaError_t det_launch_epilogue(const det_epilogue_args *args, cudaStream_t stream);

/* GroupNorm over n_groups groups of the first `c` channels of x (c may be less than x.c: the rest of y is zero), with
 * weight and bias [c] float and an activation. Sums are taken in a fixed order: the same bytes every time.
 * workspace: det_group_norm_workspace(args) bytes. */
typedef struct det_group_norm_args {
    det_type type;
    det_view x, y;
    int c, n_groups;
    float epsilon;
    const float *weight, *bias;
    det_unit unit;
    void *workspace;
} det_group_norm_args;
size_t det_group_norm_workspace(const det_group_norm_args *args);
cudaError_t det_launch_group_norm(const det_group_norm_args *args, cudaStream_t stream);

/* y [n, 2h, 2w, c] = x repeated, nearest. Padded. */
cudaError_t det_launch_upsample(det_type type, det_view x, det_view y, cudaStream_t stream);
/* y = x, channel by channel, any c, stride and alignment: the copies that slices could not spare; elements from x.c to
 * y.c become zero. */
cudaError_t det_launch_copy(det_type type, det_view x, det_view y, cudaStream_t stream);
/* Between float [n, h, w, c] and `type`: from or to F32. For tests and taps. */
cudaError_t det_launch_convert(det_type from, det_view x, det_type to, det_view y, cudaStream_t stream);

/* k x k pools, borders ignored by max; avg without padding divides by k * k. Padded. */
cudaError_t det_launch_max_pool(det_type type, det_view x, det_view y, int k, int stride, int pad, cudaStream_t stream);
cudaError_t det_launch_avg_pool(det_type type, det_view x, det_view y, int k, int stride, cudaStream_t stream);
/* SPP and SPPF: max pools of windows ks[0] < ks[1] < ks[2] (odd, at most 13, 0 ends the list early), stride 1, borders
 * ignored, of one tile in shared memory, each into its own view. Padded. */
cudaError_t det_launch_spp(det_type type, det_view x, const int ks[3], const det_view ys[3], cudaStream_t stream);

/* y [n, h, w, >= 4c] of x [n, 2h, 2w, >= c], `c` channels of each pixel: (0,0), (1,0), (0,1), (1,1) as (row, column),
 * as Focus does. Elements of y from 4c on are zero. */
cudaError_t det_launch_space_to_depth(det_type type, det_view x, det_view y, int c, cudaStream_t stream);

/* softmax(q k^T / sqrt(key_dim)) v per head over all h * w positions. A pixel of x is, head by head,
 * [q key_dim | k key_dim | v value_dim]; y is [n, h, w, n_heads * value_dim]. key_dim and value_dim at most 128. */
typedef struct det_attention_args {
    det_type type;
    det_view x, y;
    int n_heads, key_dim, value_dim;
} det_attention_args;
cudaError_t det_launch_attention(const det_attention_args *args, cudaStream_t stream);

/* -------------------------------------------------------------------------------------------------------- results */

/* One box on its way to NMS, in pixels of the network's input. */
typedef struct det_kernel_candidate {
    float x1, y1, x2, y2, score;
    int32_t class_id, prior;
    float landmarks[5][2];
} det_kernel_candidate;

/* Of one picture, best first: higher score, then lower prior, then lower class. */
typedef struct det_kernel_list {
    int32_t n;
    int32_t cut; /* 1: more than max_candidates passed, the best are here */
    det_kernel_candidate items[];
} det_kernel_list;

typedef enum det_head { DET_HEAD_SCRFD, DET_HEAD_DFL, DET_HEAD_YOLOV5 } det_head;

/* Heads -> lists. Logits are compared with class_logits first; the exact score is then compared with class_scores.
 * Priors count level by level, row by row, anchor by anchor (YOLOv5: anchors outermost within a level).
 *   SCRFD:  x channels [n_anchors class | n_anchors x 4 distances | n_anchors x 2 n_landmarks], in strides from the
 *           point ((j + cell_offset) * stride, (i + cell_offset) * stride); distances times scale
 *   DFL:    x channels [4 sides x n_bins], classes [n_classes]; side = expectation of softmax(scale * x) * stride
 *   YOLOV5: x channels per anchor [x y w h objectness classes]; score = objectness * class
 * One label: the best class of a prior (the lowest of equals); multi_label: every class. */
typedef struct det_decode_level {
    det_view x, classes; /* classes: DFL alone */
    int stride;
    float scale;
    float anchors[4][2]; /* YOLOV5: width and height in strides */
} det_decode_level;

typedef struct det_decode_args {
    det_head head;
    det_type type;
    int n_levels, n_classes, n_anchors, n_bins, n_landmarks;
    float cell_offset;
    det_decode_level levels[3];
    int max_candidates;     /* 1 to 65536 */
    det_kernel_list *lists; /* det_list_bytes(max_candidates) for each picture, one after another */
    void *workspace;        /* det_decode_workspace(args) bytes: room for every prior and class */
} det_decode_args;
size_t det_list_bytes(int max_candidates);
size_t det_decode_workspace(const det_decode_args *args);
cudaError_t det_launch_decode(const det_decode_args *args, const det_block *block, cudaStream_t stream);

/* Lists -> objects, counts and cuts (DET_CUT_*) in pixels of the caller's pictures: greedy NMS, the lower of two boxes
 * goes when IoU > iou, class by class or class-agnostic. `batch` pictures in one launch. */
typedef struct det_nms_args {
    int batch, max_candidates, n_landmarks;
    int clip; /* boxes are clipped to the picture */
    det_kernel_list *lists;
    void *workspace; /* det_nms_workspace(args) bytes */
} det_nms_args;
size_t det_nms_workspace(const det_nms_args *args);
cudaError_t det_launch_nms(const det_nms_args *args, const det_block *block, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
