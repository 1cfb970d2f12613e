/* oneDNN behind one file: versions 2 and 3 of its API. Convolutions of one picture on one thread. */
#ifndef DET_CPU_DNN_H
#define DET_CPU_DNN_H

#include "../ops.h"

typedef struct det_dnn det_dnn; /* engine and stream */
det_status det_dnn_open(det_dnn **dnn);
void det_dnn_close(det_dnn *dnn);

/* Makes oneDNN work on the calling thread alone from now on, and returns what det_dnn_restore_threads wants: this
 * library spreads the work itself, over threads that sleep while they wait. */
int det_dnn_single_thread(const det_dnn *dnn);
void det_dnn_restore_threads(const det_dnn *dnn, int n_threads);

/* A convolution of one dense NHWC picture, or of a band of its rows. */
typedef struct det_dnn_conv_shape {
    int h_in, w_in, c_in, h_out, w_out, c_out;
    int k, stride, groups;
    int pad_top, pad_bottom, pad_left, pad_right;
    det_act act;
    bool has_residual, has_bias;
    bool residual_in_place; /* y holds the residual: oneDNN's faster kernels can only add that */
    det_act post_act;
} det_dnn_conv_shape;

typedef struct det_dnn_conv det_dnn_conv;

/* Weights repacked for a convolution; several convolutions that want the same form share them. */
typedef struct det_dnn_weights det_dnn_weights;

/* Builds the convolution, for use by n_threads threads at a time.
 * @param weights  [c_out, c_in / groups, k, k]; read during the call alone
 * @param bias     [c_out], borrowed for the convolution's life; NULL when the shape has none
 * @param packed   in: repacked weights of a sibling or NULL; out: those that this one uses, with a reference more */
det_status det_dnn_conv_create(det_dnn *dnn, const det_dnn_conv_shape *shape, const float *weights, const float *bias,
                               int n_threads, det_dnn_weights **packed, det_dnn_conv **conv);
void det_dnn_conv_destroy(det_dnn_conv *conv);
size_t det_dnn_conv_scratch_bytes(const det_dnn_conv *conv);
size_t det_dnn_weights_bytes(const det_dnn_weights *weights);
const char *det_dnn_conv_impl(const det_dnn_conv *conv);
/* On thread `thread` of n_threads. scratch: det_dnn_conv_scratch_bytes, this thread's own. */
det_status det_dnn_conv_run(det_dnn_conv *conv, int thread, const float *x, const float *residual, float *y,
                            void *scratch);

#endif
