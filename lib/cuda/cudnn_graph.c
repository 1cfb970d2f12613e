/* A convolution as cuDNN's graph API sees it: convolution, bias, activation, residual, activation as one operation graph,
 * whose values between operations are virtual (they never reach memory) and in float. */
#include "cudnn_graph.h"

/* --------------------------------------------------------------------------------------------------- descriptors */

det_status det_cudnn_set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t n, const void *values) {
    CUDNN_TRY(cudnnBackendSetAttribute(d, name, type, n, values));
    return DET_OK;
}

det_status det_cudnn_get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t most, int64_t *n, void *values) {
    CUDNN_TRY(cudnnBackendGetAttribute(d, name, type, most, n, values));
    return DET_OK;
}

det_status det_cudnn_create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d) {
    *d = NULL;
    CUDNN_TRY(cudnnBackendCreateDescriptor(type, d));
    return DET_OK;
}

void det_cudnn_destroy(cudnnBackendDescriptor_t d) {
    if (d)
        cudnnBackendDestroyDescriptor(d);
}

det_status det_cudnn_forgive(det_status status) {
    if (status != DET_ERROR_DEVICE)
        return status;
    det_log(DET_LOG_DEBUG, "cuDNN refuses, something else will be tried: %s", det_last_error());
    return DET_OK;
}

det_status det_cudnn_set_descriptor(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                    cudnnBackendDescriptor_t value) {
    return det_cudnn_set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

det_status det_cudnn_finalize(cudnnBackendDescriptor_t d) {
    CUDNN_TRY(cudnnBackendFinalize(d));
    return DET_OK;
}

det_status det_cudnn_graph_create(det_cudnn_graph *g, cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d) {
    *d = NULL;
    if (g->n_descriptors == DET_MAX_DESCRIPTORS)
        DET_FAIL(DET_ERROR_INTERNAL, "a graph of more than %d descriptors", DET_MAX_DESCRIPTORS);
    DET_TRY(det_cudnn_create(type, d));
    g->descriptors[g->n_descriptors++] = *d;
    return DET_OK;
}

void det_cudnn_graph_leave(det_cudnn_graph *g) {
    if (--g->n_users > 0)
        return;
    while (g->n_descriptors > 0)
        cudnnBackendDestroyDescriptor(g->descriptors[--g->n_descriptors]);
    det_free(g);
}

static cudnnDataType_t data_type(det_type type) {
    return type == DET_TYPE_F16 ? CUDNN_DATA_HALF : type == DET_TYPE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* [n, c, h, w] with channels next to one another and `stride` elements between pixels. */
static det_status make_tensor(det_cudnn_graph *g, int64_t uid, cudnnDataType_t type, bool is_virtual,
                              const int64_t dims[4], int64_t stride, cudnnBackendDescriptor_t *d) {
    const int64_t strides[4] = {dims[2] * dims[3] * stride, 1, dims[3] * stride, stride}, alignment = 16;
    DET_TRY(det_cudnn_graph_create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, d));
    DET_TRY(det_cudnn_set(*d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid));
    DET_TRY(det_cudnn_set(*d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    DET_TRY(det_cudnn_set(*d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment));
    DET_TRY(det_cudnn_set(*d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims));
    DET_TRY(det_cudnn_set(*d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides));
    if (is_virtual)
        DET_TRY(det_cudnn_set(*d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual));
    return det_cudnn_finalize(*d);
}

/* A tensor of y's shape: the last operation's is y itself, the others' are virtual. */
static det_status make_result(det_cudnn_graph *g, const det_conv_problem *p, bool last, cudnnBackendDescriptor_t *d) {
    const int64_t dims[4] = {p->n, p->c_out, p->h_out, p->w_out};
    if (last)
        return make_tensor(g, DET_UID_Y, data_type(p->type), false, dims, p->y_stride, d);
    return make_tensor(g, g->next_uid++, CUDNN_DATA_FLOAT, true, dims, p->c_out, d);
}

/* ---------------------------------------------------------------------------------------------------- operations */

static det_status add_operation(det_cudnn_graph *g, cudnnBackendDescriptor_t operation) {
    DET_TRY(det_cudnn_finalize(operation));
    g->operations[g->n_operations++] = operation;
    return DET_OK;
}

static det_status make_convolution(det_cudnn_graph *g, const det_conv_problem *p, cudnnBackendDescriptor_t y) {
    const int64_t x_dims[4] = {p->n, p->c_in, p->h, p->w}, w_dims[4] = {p->c_out, p->c_in / p->groups, p->k, p->k};
    const int64_t n_dims = 2, strides[2] = {p->stride, p->stride}, dilations[2] = {1, 1}, pads[2] = {p->pad, p->pad};
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t x, w, conv, op;
    DET_TRY(make_tensor(g, DET_UID_X, data_type(p->type), false, x_dims, p->x_stride, &x));
    DET_TRY(make_tensor(g, DET_UID_WEIGHT, data_type(p->type), false, w_dims, p->c_in / p->groups, &w));
    DET_TRY(det_cudnn_graph_create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, &conv));
    DET_TRY(det_cudnn_set(conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &n_dims));
    DET_TRY(det_cudnn_set(conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute));
    DET_TRY(det_cudnn_set(conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    DET_TRY(det_cudnn_set(conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads));
    DET_TRY(det_cudnn_set(conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads));
    DET_TRY(det_cudnn_set(conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations));
    DET_TRY(det_cudnn_set(conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides));
    DET_TRY(det_cudnn_finalize(conv));
    DET_TRY(det_cudnn_graph_create(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, &op));
    DET_TRY(det_cudnn_set_descriptor(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x));
    DET_TRY(det_cudnn_set_descriptor(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w));
    DET_TRY(det_cudnn_set_descriptor(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y));
    DET_TRY(det_cudnn_set_descriptor(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, conv));
    DET_TRY(det_cudnn_set(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one));
    DET_TRY(det_cudnn_set(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero));
    return add_operation(g, op);
}

/* y = mode(x), or mode(x, b). */
static det_status make_pointwise(det_cudnn_graph *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                                 cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y) {
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t pointwise, op;
    DET_TRY(det_cudnn_graph_create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &pointwise));
    DET_TRY(det_cudnn_set(pointwise, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode));
    DET_TRY(det_cudnn_set(pointwise, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute));
    DET_TRY(det_cudnn_finalize(pointwise));
    DET_TRY(det_cudnn_graph_create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, &op));
    DET_TRY(det_cudnn_set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise));
    DET_TRY(det_cudnn_set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x));
    if (b)
        DET_TRY(det_cudnn_set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b));
    DET_TRY(det_cudnn_set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y));
    return add_operation(g, op);
}

static cudnnPointwiseMode_t mode_of(det_unit unit) {
    return unit == DET_UNIT_RELU   ? CUDNN_POINTWISE_RELU_FWD
           : unit == DET_UNIT_SILU ? CUDNN_POINTWISE_SWISH_FWD
                                   : CUDNN_POINTWISE_SIGMOID_FWD;
}

static det_status make_operations(det_cudnn_graph *g, const det_conv_problem *p) {
    const int64_t bias_dims[4] = {1, p->c_out, 1, 1}, y_dims[4] = {p->n, p->c_out, p->h_out, p->w_out};
    int left = p->has_bias + (p->unit != DET_UNIT_NONE) + p->has_residual + (p->post_unit != DET_UNIT_NONE);
    cudnnBackendDescriptor_t x, y, other;
    DET_TRY(make_result(g, p, left == 0, &x));
    DET_TRY(make_convolution(g, p, x));
    if (p->has_bias) {
        DET_TRY(make_tensor(g, DET_UID_BIAS, data_type(p->type), false, bias_dims, p->c_out, &other));
        DET_TRY(make_result(g, p, --left == 0, &y));
        DET_TRY(make_pointwise(g, CUDNN_POINTWISE_ADD, x, other, y));
        x = y;
    }
    if (p->unit != DET_UNIT_NONE) {
        DET_TRY(make_result(g, p, --left == 0, &y));
        DET_TRY(make_pointwise(g, mode_of(p->unit), x, NULL, y));
        x = y;
    }
    if (p->has_residual) {
        DET_TRY(make_tensor(g, DET_UID_RESIDUAL, data_type(p->type), false, y_dims, p->residual_stride, &other));
        DET_TRY(make_result(g, p, --left == 0, &y));
        DET_TRY(make_pointwise(g, CUDNN_POINTWISE_ADD, x, other, y));
        x = y;
    }
    if (p->post_unit != DET_UNIT_NONE) {
        DET_TRY(make_result(g, p, true, &y));
        DET_TRY(make_pointwise(g, mode_of(p->post_unit), x, NULL, y));
    }
    return DET_OK;
}

/* Nothing else can do it, or nothing else takes its views. Those engines need tensor cores, and share kernels of fused graphs
 * alone. */
bool det_cudnn_is_compiled(const det_conv_problem *p) {
    bool plain = p->unit == DET_UNIT_NONE || p->unit == DET_UNIT_RELU;
    bool is_view = p->x_stride != p->c_in || p->y_stride != p->c_out;
    bool is_bare = !p->has_bias && p->unit == DET_UNIT_NONE;
    if (!plain || p->has_residual || p->post_unit != DET_UNIT_NONE)
        return true;
    return is_view && !is_bare && (p->type != DET_TYPE_F32 || p->tf32);
}

static int form_of(const det_conv_problem *p) {
    int units = (int)p->unit * 4 + (int)p->post_unit;
    return 1 + (((int)p->type * 2 + p->has_bias) * 2 + p->has_residual) * 16 + units;
}

static det_status make_graph(det_cudnn_graph *g, det_device *device, const det_conv_problem *p) {
    const bool any_shape = det_has_kernel_caches() && det_cudnn_is_compiled(p);
    DET_TRY(make_operations(g, p));
    DET_TRY(det_cudnn_graph_create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &g->whole));
    DET_TRY(det_cudnn_set(g->whole, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_operations,
                          g->operations));
    DET_TRY(det_cudnn_set(g->whole, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &device->cudnn));
    if (any_shape)
        DET_TRY(det_cudnn_set(g->whole, CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED, CUDNN_TYPE_BOOLEAN, 1,
                              &any_shape));
    DET_TRY(det_cudnn_finalize(g->whole));
    g->form = any_shape ? form_of(p) : 0;
    return DET_OK;
}

det_status det_cudnn_graph_open(det_device *device, const det_conv_problem *problem, det_cudnn_graph **out) {
    det_cudnn_graph *g = det_alloc_array(1, sizeof *g);
    if (!g)
        return DET_ERROR_OUT_OF_MEMORY;
    g->n_users = 1;
    g->next_uid = DET_UID_VIRTUAL;
    det_status status = make_graph(g, device, problem);
    if (status == DET_OK)
        *out = g;
    else
        det_cudnn_graph_leave(g);
    return status;
}
