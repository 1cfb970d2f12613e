/* What cuDNN asks of tensors, convolutions and operation graphs. */
#include "descriptor.h"

#include <set>

namespace fake {
namespace {

bool type_of(cudnnDataType_t from, cudaDataType *to) {
    switch (from) {
    case CUDNN_DATA_FLOAT:
        *to = CUDA_R_32F;
        return true;
    case CUDNN_DATA_HALF:
        *to = CUDA_R_16F;
        return true;
    case CUDNN_DATA_BFLOAT16:
        *to = CUDA_R_16BF;
        return true;
    default:
        return false;
    }
}

/* Dimensions are n, c, h, w. */
Tensor tensor_of(const Descriptor &d) {
    auto dims = d.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS), strides = d.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    Tensor t = {};
    type_of(d.get(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT), &t.type);
    t.n = dims[0];
    t.c = dims[1];
    t.h = dims[2];
    t.w = dims[3];
    t.picture_stride = strides[0];
    t.row_stride = strides[2];
    t.pixel_stride = strides[3];
    return t;
}

bool is_virtual(const Descriptor &d) {
    return d.get(CUDNN_ATTR_TENSOR_IS_VIRTUAL, (char)0);
}

int64_t uid_of(const Descriptor &d) {
    return d.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
}

size_t alignment_of(const Descriptor &d) {
    return (size_t)d.get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1);
}

cudnnStatus_t check_tensors(std::initializer_list<const Descriptor *> tensors) {
    for (const Descriptor *t : tensors)
        if (t->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR)
            return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "not a tensor");
    return CUDNN_STATUS_SUCCESS;
}

/* How many positions a window has along one axis. */
int64_t positions(int64_t size, int64_t before, int64_t after, int64_t window, int64_t stride) {
    return (size + before + after - window) / stride + 1;
}

} // namespace

cudnnStatus_t finalize_tensor(Descriptor &d) {
    auto dims = d.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS), strides = d.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    cudaDataType type;
    if (!type_of(d.get(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT), &type))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "the fake knows float, half and bfloat16");
    if (dims.size() != strides.size())
        return refuse(CUDNN_STATUS_BAD_PARAM, "%zu dimensions, %zu strides", dims.size(), strides.size());
    if (dims.size() != 4)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake knows 4 dimensions");
    for (size_t i = 0; i < 4; i++)
        if (dims[i] < 1 || strides[i] < 1)
            return refuse(CUDNN_STATUS_BAD_PARAM, "dimension %zu is %lld, its stride %lld", i, (long long)dims[i],
                          (long long)strides[i]);
    int64_t alignment = (int64_t)alignment_of(d);
    if (alignment <= 0 || alignment % (int64_t)type_bytes(type))
        return refuse(CUDNN_STATUS_BAD_PARAM, "alignment to %lld bytes", (long long)alignment);
    Tensor t = tensor_of(d);
    bool nhwc = strides[1] == 1 && t.pixel_stride >= t.c && t.row_stride >= t.w * t.pixel_stride &&
                t.picture_stride >= t.h * t.row_stride;
    if (!nhwc)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "the fake knows NHWC");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_convolution(Descriptor &d) {
    static const cudnnBackendAttributeName_t lists[] = {
        CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_ATTR_CONVOLUTION_DILATIONS,
        CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES};
    int64_t n_dims = d.get<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0);
    if (n_dims != 2)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake knows 2 spatial dimensions");
    for (auto name : lists)
        if ((int64_t)d.all<int64_t>(name).size() != n_dims)
            return refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d does not have %lld elements", (int)name,
                          (long long)n_dims);
    for (int64_t stride : d.all<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES))
        if (stride < 1)
            return refuse(CUDNN_STATUS_BAD_PARAM, "stride %lld", (long long)stride);
    for (int64_t dilation : d.all<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS))
        if (dilation != 1)
            return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake knows dilation 1");
    if (d.get(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT) != CUDNN_DATA_FLOAT ||
        d.get(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION) != CUDNN_CROSS_CORRELATION)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake knows cross-correlation, computed in float");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_convolution_operation(Descriptor &d) {
    const Descriptor *x = d.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X),
                     *w = d.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
                     *y = d.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y),
                     *conv = d.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    cudnnStatus_t status = check_tensors({x, w, y});
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (conv->type != CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)
        return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "not a convolution");
    if (d.get(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0f) != 1 ||
        d.get(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0f) != 0)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake knows alpha 1 and beta 0");
    auto before = conv->all<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
         after = conv->all<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS),
         strides = conv->all<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    Convolution c = {tensor_of(*x), tensor_of(*w), tensor_of(*y), before[0], before[1],
                     strides[0],    strides[1],    false,         1};
    if (c.x.c % c.w.c || c.y.c != c.w.n || c.w.n % c.groups() || c.y.n != c.x.n)
        return refuse(CUDNN_STATUS_BAD_PARAM, "channels %lld -> %lld do not fit filters [%lld, %lld]", (long long)c.x.c,
                      (long long)c.y.c, (long long)c.w.n, (long long)c.w.c);
    if (c.y.h != positions(c.x.h, before[0], after[0], c.w.h, strides[0]) ||
        c.y.w != positions(c.x.w, before[1], after[1], c.w.w, strides[1]))
        return refuse(CUDNN_STATUS_BAD_PARAM, "%lld x %lld is not what the windows give", (long long)c.y.h,
                      (long long)c.y.w);
    if (c.w.pixel_stride != c.w.c || c.w.row_stride != c.w.w * c.w.c || c.w.picture_stride != c.w.h * c.w.row_stride)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "filters are dense: KRSC");
    if (c.x.type != c.w.type)
        return refuse(CUDNN_STATUS_BAD_PARAM, "input and filters are of different types");
    d.program = std::make_shared<Program>();
    d.program->convolution = c;
    d.made_of = {(Descriptor *)(uintptr_t)x, (Descriptor *)(uintptr_t)w, (Descriptor *)(uintptr_t)y};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_pointwise_operation(Descriptor &d) {
    Descriptor *x = d.child(CUDNN_ATTR_OPERATION_POINTWISE_XDESC), *y = d.child(CUDNN_ATTR_OPERATION_POINTWISE_YDESC),
               *other = d.child(CUDNN_ATTR_OPERATION_POINTWISE_BDESC),
               *pointwise = d.child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    cudnnStatus_t status = check_tensors({x, y});
    if (status == CUDNN_STATUS_SUCCESS && other)
        status = check_tensors({other});
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (pointwise->type != CUDNN_BACKEND_POINTWISE_DESCRIPTOR)
        return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "not a pointwise descriptor");
    auto mode = pointwise->get(CUDNN_ATTR_POINTWISE_MODE, CUDNN_POINTWISE_IDENTITY);
    static const std::set<cudnnPointwiseMode_t> known = {CUDNN_POINTWISE_ADD, CUDNN_POINTWISE_RELU_FWD,
                                                         CUDNN_POINTWISE_SWISH_FWD, CUDNN_POINTWISE_SIGMOID_FWD,
                                                         CUDNN_POINTWISE_IDENTITY};
    if (!known.count(mode))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake does not know pointwise mode %d", (int)mode);
    if ((mode == CUDNN_POINTWISE_ADD) != (other != nullptr))
        return refuse(CUDNN_STATUS_BAD_PARAM, "a second input is for additions");
    Tensor from = tensor_of(*x), to = tensor_of(*y);
    bool fits = from.n == to.n && from.h == to.h && from.w == to.w && from.c == to.c;
    if (other) {
        Tensor o = tensor_of(*other);
        fits = fits && (o.n == to.n || o.n == 1) && (o.h == to.h || o.h == 1) && (o.w == to.w || o.w == 1) &&
               (o.c == to.c || o.c == 1);
    }
    if (!fits)
        return refuse(CUDNN_STATUS_BAD_PARAM, "the shapes do not fit");
    d.made_of = {x, y};
    if (other)
        d.made_of.push_back(other);
    return CUDNN_STATUS_SUCCESS;
}

namespace {

Pointwise step_of(const Descriptor &operation) {
    const Descriptor *pointwise = operation.child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR),
                     *other = operation.child(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    Pointwise step = {};
    step.mode = pointwise->get(CUDNN_ATTR_POINTWISE_MODE, CUDNN_POINTWISE_IDENTITY);
    step.swish_beta = 1;
    if (const Value *beta = pointwise->find(CUDNN_ATTR_POINTWISE_SWISH_BETA))
        step.swish_beta = beta->type == CUDNN_TYPE_FLOAT ? pointwise->get(CUDNN_ATTR_POINTWISE_SWISH_BETA, 1.0f)
                                                         : pointwise->get(CUDNN_ATTR_POINTWISE_SWISH_BETA, 1.0);
    step.has_other = other != nullptr;
    if (other) {
        step.other = tensor_of(*other);
        step.other_uid = uid_of(*other);
    }
    step.result = tensor_of(*operation.child(CUDNN_ATTR_OPERATION_POINTWISE_YDESC)).type;
    return step;
}

/* One number for one tensor, and one tensor for one number. */
cudnnStatus_t check_uids(const std::vector<Descriptor *> &operations) {
    std::map<int64_t, Descriptor *> tensors;
    for (Descriptor *operation : operations)
        for (Descriptor *tensor : operation->made_of)
            if (!tensors.emplace(uid_of(*tensor), tensor).second && tensors[uid_of(*tensor)] != tensor)
                return refuse(CUDNN_STATUS_BAD_PARAM, "unique id %lld stands for two tensors",
                              (long long)uid_of(*tensor));
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

/* A convolution, and then pointwise operations, each on the result of the one before. */
cudnnStatus_t finalize_graph(Descriptor &d) {
    auto operations = d.all<Descriptor *>(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    if (operations[0]->type != CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "the fake's graphs begin with a convolution");
    cudnnStatus_t status = check_uids(operations);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    auto program = std::make_shared<Program>(*operations[0]->program);
    const Descriptor *x = operations[0]->made_of[0], *w = operations[0]->made_of[1], *y = operations[0]->made_of[2];
    if (is_virtual(*x) || is_virtual(*w))
        return refuse(CUDNN_STATUS_BAD_PARAM, "an input that nothing makes");
    program->x_uid = uid_of(*x);
    program->w_uid = uid_of(*w);
    program->x_alignment = alignment_of(*x);
    program->w_alignment = alignment_of(*w);
    program->other_alignment = 1;
    for (size_t i = 1; i < operations.size(); i++) {
        const Descriptor &operation = *operations[i];
        if (operation.type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR || operation.made_of[0] != y)
            return refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "operation %zu does not continue the one before",
                          i);
        if (!is_virtual(*y))
            return refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "a value on the way is not virtual");
        program->steps.push_back(step_of(operation));
        if (operation.made_of.size() == 3)
            program->other_alignment = alignment_of(*operation.made_of[2]);
        y = operation.made_of[1];
    }
    if (is_virtual(*y))
        return refuse(CUDNN_STATUS_BAD_PARAM, "the result is virtual");
    program->y_uid = uid_of(*y);
    program->y_alignment = alignment_of(*y);
    program->y = tensor_of(*y);
    d.program = program;
    d.made_of = operations;
    return CUDNN_STATUS_SUCCESS;
}

} // namespace fake
