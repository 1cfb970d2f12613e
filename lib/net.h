/* The builder: a network is a C function that calls these in the order of its paper's figure.
 *
 * Shapes are known as nodes are emitted. The first error sticks: later calls return DET_NO_TENSOR and do nothing, so
 * that a network's code holds no error handling; det_net_finish reports it. Parameters are looked up by name as their
 * node is emitted, and what is missing is gathered, to be reported whole. */
#ifndef DET_NET_H
#define DET_NET_H

#include "ops.h"

/* printf into a name that lives until the end of the full expression: det_name("block.%d", i).text */
typedef struct det_name_text {
    char text[DET_NAME_BYTES];
} det_name_text;
det_name_text det_name(const char *format, ...) DET_PRINTF(1, 2);

typedef struct det_tensor {
    det_shape shape;
    bool kept; /* a test reads it after the run */
    /* A view: channels [begin, begin + shape.c) of another tensor; or DET_NO_TENSOR for one with memory of its own. */
    det_tensor_id parent;
    int begin;
} det_tensor;

/* A tensor that tests look at: "neck.p3". */
typedef struct det_tap {
    char name[32];
    det_tensor_id tensor;
} det_tap;

enum { DET_MAX_TAPS = 24, DET_MAX_SIDE = 8192, DET_MAX_BATCH = 256 };

typedef struct det_net {
    const det_weights *weights;
    bool *weight_used; /* by index of weights->tensors */
    det_status status; /* the first error */
    int n_missing, missing_capacity;
    det_name_text *missing; /* names that the checkpoint does not have */

    int n_tensors, tensor_capacity;
    det_tensor *tensors;
    int n_nodes, node_capacity;
    det_node *nodes;
    int n_taps;
    det_tap taps[DET_MAX_TAPS];
    int64_t macs; /* of one picture */
    int n_priors; /* of one picture, set by the decode node */
    bool clip;    /* boxes are clipped to the picture */
} det_net;

/* `net` is zeroed memory; det_net_close gives back whatever it holds. */
det_status det_net_open(det_net *net, const det_weights *weights);
void det_net_close(det_net *net);
/* The sticky error; missing and left over tensors; else DET_OK. */
det_status det_net_finish(det_net *net);

/* Questions to the checkpoint, for what follows from it: does "<name>.weight" exist, and its output channels. */
bool det_net_has(const det_net *net, const char *name);
int det_net_c_out(det_net *net, const char *name);

det_tensor_id det_preprocess(det_net *net, det_shape shape);

/* Convolution "<name>.weight", "<name>.bias"; c_out 0: the checkpoint's. */
typedef struct det_conv_options {
    int k, stride, groups; /* 0 stands for 1 */
    int pad;               /* 0 stands for k / 2 */
    bool no_bias;
    det_act act;
} det_conv_options;
det_tensor_id det_conv2d(det_net *net, det_tensor_id x, const char *name, int c_out, det_conv_options options);
/* Several convolutions of one input, their outputs one after another along the channels. */
det_tensor_id det_conv2d_parts(det_net *net, det_tensor_id x, int n_parts, const det_name_text *names,
                               const int *c_outs, det_conv_options options);
det_tensor_id det_group_norm(det_net *net, det_tensor_id x, const char *name, int n_groups, float epsilon);
det_tensor_id det_activation(det_net *net, det_tensor_id x, det_act act);
det_tensor_id det_add(det_net *net, det_tensor_id x, det_tensor_id y);
det_tensor_id det_upsample(det_net *net, det_tensor_id x);
det_tensor_id det_max_pool(det_net *net, det_tensor_id x, int k, int stride, int pad);
det_tensor_id det_avg_pool(det_net *net, det_tensor_id x, int k, int stride);
det_tensor_id det_concat(det_net *net, const det_tensor_id *xs, int n);
det_tensor_id det_slice(det_net *net, det_tensor_id x, int begin, int c);
det_tensor_id det_space_to_depth(det_net *net, det_tensor_id x);
det_tensor_id det_attention(det_net *net, det_tensor_id qkv, det_attention_params params);

/* The end of a network: heads (n_levels times inputs_per_level tensors, level by level) -> candidates -> objects. */
void det_decode(det_net *net, det_op op, const det_tensor_id *heads, int inputs_per_level, det_decode_params params);

/* A single parameter that is no layer's weight or bias, of the given shape. */
const det_weight *det_param(det_net *net, const char *name, const int64_t *shape, int n_dims);

/* Names a tensor for the tests. */
void det_net_tap(det_net *net, const char *name, det_tensor_id x);

#endif
