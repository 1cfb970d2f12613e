/* What cuDNN says of descriptors, right and wrong: the same from the fake and, where it is linked instead, from cuDNN
 * itself, which needs no GPU for that. */
#include "check.h"

#include <cudnn_graph.h>
#include <stdbool.h>
#include <stdint.h>

typedef cudnnBackendDescriptor_t descriptor;

static descriptor made[512];
static int n_made;

static descriptor make(cudnnBackendDescriptorType_t type) {
    descriptor d = NULL;
    CHECK(cudnnBackendCreateDescriptor(type, &d) == CUDNN_STATUS_SUCCESS);
    return made[n_made++] = d;
}

static cudnnStatus_t last; /* of set and finish */

#define SET(d, name, type, n, ...)                                                                                     \
    (last = cudnnBackendSetAttribute(d, CUDNN_ATTR_##name, CUDNN_TYPE_##type, n, __VA_ARGS__))
#define FINISH(d) (last = cudnnBackendFinalize(d))

static void good(const char *what) {
    CHECK_MSG(last == CUDNN_STATUS_SUCCESS, "%s: %s", what, cudnnGetErrorString(last));
}

static void bad(const char *what) {
    CHECK_MSG(CUDNN_STATUS_CATEGORY(last) == CUDNN_STATUS_BAD_PARAM, "%s: %s", what, cudnnGetErrorString(last));
}

typedef struct shape {
    int64_t n, c, h, w;
} shape;

static descriptor tensor_without_end(int64_t uid, shape s, cudnnDataType_t type, int64_t alignment) {
    descriptor d = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    int64_t dims[] = {s.n, s.c, s.h, s.w}, strides[] = {s.c * s.h * s.w, 1, s.w * s.c, s.c};
    SET(d, TENSOR_UNIQUE_ID, INT64, 1, &uid);
    SET(d, TENSOR_DATA_TYPE, DATA_TYPE, 1, &type);
    SET(d, TENSOR_BYTE_ALIGNMENT, INT64, 1, &alignment);
    SET(d, TENSOR_DIMENSIONS, INT64, 4, dims);
    SET(d, TENSOR_STRIDES, INT64, 4, strides);
    good("the attributes of a tensor");
    return d;
}

static descriptor tensor(int64_t uid, shape s, bool is_virtual) {
    descriptor d = tensor_without_end(uid, s, is_virtual ? CUDNN_DATA_FLOAT : CUDNN_DATA_HALF, 16);
    SET(d, TENSOR_IS_VIRTUAL, BOOLEAN, 1, &is_virtual);
    FINISH(d);
    good("a tensor");
    return d;
}

static void test_attributes(void) {
    const shape s = {1, 8, 4, 4};
    const int64_t two[] = {1, 2};
    const int32_t narrow = 1;
    descriptor d = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    FINISH(d);
    bad("a tensor without attributes");
    SET(d, TENSOR_UNIQUE_ID, INT32, 1, &narrow);
    bad("an attribute of another type");
    SET(d, TENSOR_UNIQUE_ID, INT64, 2, two);
    bad("two elements where there is one");
    SET(d, CONVOLUTION_DILATIONS, INT64, 2, two);
    bad("an attribute of another descriptor");
    d = tensor_without_end('a', s, CUDNN_DATA_HALF, 3);
    FINISH(d);
    bad("alignment to 3 bytes");
    d = tensor_without_end('a', s, CUDNN_DATA_FLOAT, 2);
    FINISH(d);
    bad("alignment to half an element");
    d = tensor('a', s, false);
    SET(d, TENSOR_UNIQUE_ID, INT64, 1, two);
    bad("an attribute of a finalized tensor");
    int64_t n = 0;
    CHECK(cudnnBackendGetAttribute(make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR),
                                   CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                   &n) != CUDNN_STATUS_SUCCESS);
}

static descriptor convolution(int64_t pad, int64_t stride) {
    descriptor d = make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    const int64_t n_dims = 2, pads[] = {pad, pad}, strides[] = {stride, stride}, ones[] = {1, 1};
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    FINISH(d);
    bad("a convolution without attributes");
    SET(d, CONVOLUTION_SPATIAL_DIMS, INT64, 1, &n_dims);
    SET(d, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, &compute);
    SET(d, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, &mode);
    SET(d, CONVOLUTION_PRE_PADDINGS, INT64, 2, pads);
    SET(d, CONVOLUTION_POST_PADDINGS, INT64, 2, pads);
    SET(d, CONVOLUTION_FILTER_STRIDES, INT64, 2, strides);
    FINISH(d);
    bad("a convolution without dilations");
    SET(d, CONVOLUTION_DILATIONS, INT64, 2, ones);
    good("the attributes of a convolution");
    FINISH(d);
    good("a convolution");
    return d;
}

static descriptor convolve(descriptor x, descriptor w, descriptor y, descriptor conv) {
    descriptor d = make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    const float one = 1, zero = 0;
    SET(d, OPERATION_CONVOLUTION_FORWARD_X, BACKEND_DESCRIPTOR, 1, &x);
    SET(d, OPERATION_CONVOLUTION_FORWARD_W, BACKEND_DESCRIPTOR, 1, &w);
    SET(d, OPERATION_CONVOLUTION_FORWARD_Y, BACKEND_DESCRIPTOR, 1, &y);
    SET(d, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, BACKEND_DESCRIPTOR, 1, &conv);
    SET(d, OPERATION_CONVOLUTION_FORWARD_ALPHA, FLOAT, 1, &one);
    SET(d, OPERATION_CONVOLUTION_FORWARD_BETA, FLOAT, 1, &zero);
    good("the attributes of an operation");
    FINISH(d);
    return d;
}

static void test_convolutions(void) {
    descriptor conv = convolution(1, 1), halving = convolution(1, 2);
    descriptor x = tensor('x', (shape){2, 8, 5, 7}, false), w = tensor('w', (shape){16, 8, 3, 3}, false);
    convolve(x, w, tensor('y', (shape){2, 16, 5, 7}, false), conv);
    good("a convolution");
    convolve(x, w, tensor('y', (shape){2, 16, 3, 4}, false), halving);
    good("a convolution of stride 2");
    convolve(x, tensor('w', (shape){16, 4, 3, 3}, false), tensor('y', (shape){2, 16, 5, 7}, false), conv);
    good("two groups");
    convolve(x, tensor('w', (shape){8, 1, 3, 3}, false), tensor('y', (shape){2, 8, 5, 7}, false), conv);
    good("depthwise");
    convolve(x, w, tensor('y', (shape){2, 16, 5, 6}, false), conv);
    bad("a column too few");
    convolve(x, w, tensor('y', (shape){2, 24, 5, 7}, false), conv);
    bad("more channels than filters");
    convolve(x, tensor('w', (shape){16, 3, 3, 3}, false), tensor('y', (shape){2, 16, 5, 7}, false), conv);
    bad("channels that are no multiple of the filters'");
}

static descriptor pointwise(cudnnPointwiseMode_t mode, descriptor x, descriptor b, descriptor y) {
    descriptor p = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR), d = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    SET(p, POINTWISE_MODE, POINTWISE_MODE, 1, &mode);
    SET(p, POINTWISE_MATH_PREC, DATA_TYPE, 1, &compute);
    FINISH(p);
    good("a pointwise descriptor");
    SET(d, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, &p);
    SET(d, OPERATION_POINTWISE_XDESC, BACKEND_DESCRIPTOR, 1, &x);
    if (b)
        SET(d, OPERATION_POINTWISE_BDESC, BACKEND_DESCRIPTOR, 1, &b);
    SET(d, OPERATION_POINTWISE_YDESC, BACKEND_DESCRIPTOR, 1, &y);
    good("the attributes of a pointwise operation");
    FINISH(d);
    return d;
}

static void test_pointwise(void) {
    const shape s = {2, 16, 5, 7};
    descriptor x = tensor('x', s, true), y = tensor('y', s, true), bias = tensor('b', (shape){1, 16, 1, 1}, false);
    pointwise(CUDNN_POINTWISE_ADD, x, bias, y);
    good("a bias");
    pointwise(CUDNN_POINTWISE_ADD, x, tensor('r', s, false), y);
    good("a residual");
    pointwise(CUDNN_POINTWISE_SWISH_FWD, x, NULL, y);
    good("SiLU");
    pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, y);
    good("ReLU");
    pointwise(CUDNN_POINTWISE_ADD, x, NULL, y);
    bad("an addition of nothing");
}

static descriptor graph(int n, descriptor *operations) {
    descriptor d = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    SET(d, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, n, operations);
    FINISH(d);
    return d;
}

/* Convolution, bias, SiLU, residual, ReLU. */
static void test_graph(void) {
    const shape s = {2, 16, 5, 7};
    descriptor x = tensor(1, (shape){2, 8, 5, 7}, false), w = tensor(2, (shape){16, 8, 3, 3}, false), steps[4],
               operations[5];
    for (int i = 0; i < 4; i++)
        steps[i] = tensor(10 + i, s, true);
    descriptor y = tensor(3, s, false), bias = tensor(4, (shape){1, 16, 1, 1}, false), residual = tensor(5, s, false);
    operations[0] = convolve(x, w, steps[0], convolution(1, 1));
    operations[1] = pointwise(CUDNN_POINTWISE_ADD, steps[0], bias, steps[1]);
    operations[2] = pointwise(CUDNN_POINTWISE_SWISH_FWD, steps[1], NULL, steps[2]);
    operations[3] = pointwise(CUDNN_POINTWISE_ADD, steps[2], residual, steps[3]);
    operations[4] = pointwise(CUDNN_POINTWISE_RELU_FWD, steps[3], NULL, y);
    graph(5, operations);
    good("a graph");
    descriptor unfinished = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    FINISH(unfinished);
    bad("a graph of nothing");
}

static cudnnStatus_t finish_pack(const int64_t *uids, int64_t n_uids, int64_t n_pointers) {
    static char a, b;
    void *pointers[] = {&a, &b}, *workspace = NULL;
    descriptor d = make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    SET(d, VARIANT_PACK_UNIQUE_IDS, INT64, n_uids, uids);
    SET(d, VARIANT_PACK_DATA_POINTERS, VOID_PTR, n_pointers, pointers);
    SET(d, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, &workspace);
    good("the attributes of a variant pack");
    return FINISH(d);
}

static void test_packs(void) {
    const int64_t uids[] = {1, 2};
    finish_pack(uids, 2, 2);
    good("a variant pack");
    finish_pack(uids, 2, 1);
    bad("an id without a pointer");
}

int main(void) {
    test_attributes();
    test_convolutions();
    test_pointwise();
    test_graph();
    test_packs();
    for (int i = 0; i < n_made; i++)
        CHECK(cudnnBackendDestroyDescriptor(made[i]) == CUDNN_STATUS_SUCCESS);
    return check_report("cuDNN's rules");
}
