/* Tensors, operators and their parameters.
 *
 * Every tensor is NHWC, dense: the channels of a pixel lie together, rows and pictures follow without padding. */
#ifndef DET_OPS_H
#define DET_OPS_H

#include "weights.h"

typedef enum det_op {
#define DET_OP(id, name) DET_OP_##id,
#include "ops.def"
#undef DET_OP
    DET_N_OPS
} det_op;

const char *det_op_name(det_op op);

typedef enum det_act { DET_ACT_NONE, DET_ACT_RELU, DET_ACT_SILU, DET_ACT_SIGMOID } det_act;

typedef struct det_shape {
    int n, h, w, c;
} det_shape;

static inline int64_t det_shape_values(det_shape s) {
    return (int64_t)s.n * s.h * s.w * s.c;
}

typedef int det_tensor_id; /* index into det_net.tensors; DET_NO_TENSOR: none, or the builder has failed */
enum { DET_NO_TENSOR = -1, DET_MAX_INPUTS = 8, DET_MAX_PARTS = 3, DET_N_LEVELS = 3 };

/* Convolutions of one shape side by side: each part makes its own channels of the output, in order. */
typedef struct det_conv_part {
    const det_weight *weight; /* [c_out, c_in / groups, k, k] */
    const det_weight *bias;   /* [c_out], or NULL */
} det_conv_part;

typedef struct det_conv_params {
    int k, stride, pad, groups;
    int n_parts;
    det_conv_part parts[DET_MAX_PARTS];
    det_act act;       /* of the convolution */
    bool has_residual; /* then inputs[1] is added */
    det_act post_act;  /* after the residual */
} det_conv_params;

typedef struct det_group_norm_params {
    int n_groups;
    float epsilon;
    const det_weight *weight, *bias; /* [c] */
    det_act act;
} det_group_norm_params;

typedef struct det_add_params {
    bool upsample; /* inputs[1] has half the height and width */
    det_act act;
} det_add_params;

typedef struct det_pool_params {
    int k, stride, pad;
    int n_chained; /* 3: the output is this pool, the pool of it, and the pool of that, side by side (SPPF); 0: this one alone */
} det_pool_params;

typedef struct det_attention_params {
    int n_heads, key_dim, value_dim; /* channels of a head: [key_dim q | key_dim k | value_dim v] */
} det_attention_params;

/* Heads: the inputs of each level, finest first. Priors count level by level, row by row, anchor by anchor. */
typedef struct det_decode_params {
    int n_levels;
    int n_classes;
    int strides[DET_N_LEVELS];
    int n_anchors;                          /* per cell */
    float cell_offset;                      /* prior point of cell (i, j): (j + offset, i + offset) * stride */
    int n_bins;                             /* DFL */
    int n_landmarks;                        /* SCRFD */
    const det_weight *scales[DET_N_LEVELS]; /* SCRFD and DFL: one value, factor of the box outputs; or NULL */
    const det_weight *anchors;              /* YOLOv5: [levels, anchors, 2], in strides */
} det_decode_params;

typedef struct det_node {
    det_op op;
    char name[DET_NAME_BYTES];
    int n_inputs;
    det_tensor_id inputs[DET_MAX_INPUTS];
    det_tensor_id output;
    det_tensor_id into; /* a concatenation that gets the output, too, at channel into_begin; or DET_NO_TENSOR */
    int into_begin;
    bool only_into; /* nobody reads the output itself: a kernel need not write it */
    union {
        det_conv_params conv;
        det_group_norm_params group_norm;
        det_add_params add;
        det_act act;
        det_pool_params pool;
        int slice_begin;                   /* first channel; the output's shape tells how many */
        int concat_begins[DET_MAX_INPUTS]; /* channel of the output where each input goes */
        det_attention_params attention;
        det_decode_params decode;
    } u;
} det_node;

/* Multiply-accumulates of a node, for inputs and output of these shapes; 0 for what is no product. */
int64_t det_node_macs(const det_node *node, const det_shape *inputs, det_shape output);

/* Values that a node reads and writes: inputs, output, parameters, each once. */
int64_t det_node_values(const det_node *node, const det_shape *inputs, det_shape output);

#endif
