/* Convolutions through cuDNN's graph API: convolution, bias, activation, residual, activation as one operation graph,
 * whose values between operations are virtual (they never reach memory) and in float.
 *
 * cuDNN's heuristics answer with engine configurations, the most promising first; one that can be finalised into a plan
 * can be run. A plan's addresses are fixed once (bind), so that a run creates nothing.
 *
 * Seen in cuDNN 9.19: a SiLU, or an addition behind an activation, is done by an engine that is compiled at run time, 0.65
 * s for each plan, unless its graph is declared to be of any shape and shares a kernel cache with those of its form; then
 * only the first costs that. Engines that are not compiled at run time copy a tensor that is a view into their workspace
 * first; so a view's graph is declared to be of any shape, too, which leaves it to the compiled ones. */
#include "cuda.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DESCRIPTORS = 64, MAX_CONFIGS = 64, MAX_KNOBS = 24 };
enum { UID_X = 1, UID_WEIGHT, UID_Y, UID_BIAS, UID_RESIDUAL, UID_VIRTUAL };
static const size_t MAX_WORKSPACE_BYTES = (size_t)256 << 20;

/* All descriptors of one operation graph; the plans made of it keep it alive. */
typedef struct graph {
    cudnnBackendDescriptor_t cache; /* of the device, for its form; or NULL */
    int n_users, n_descriptors, n_operations;
    int64_t next_uid;
    cudnnBackendDescriptor_t descriptors[MAX_DESCRIPTORS];
    cudnnBackendDescriptor_t operations[6], whole;
} graph;

struct det_cudnn_conv {
    graph *graph;
    cudnnBackendDescriptor_t config, plan, pack;
    int64_t engine; /* its number */
    size_t workspace_bytes;
    bool has_bias, has_residual;
    char impl[32];
};

/* --------------------------------------------------------------------------------------------------- descriptors */

static det_status set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                      int64_t n, const void *values) {
    CUDNN_TRY(cudnnBackendSetAttribute(d, name, type, n, values));
    return DET_OK;
}

static det_status get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                      int64_t most, int64_t *n, void *values) {
    CUDNN_TRY(cudnnBackendGetAttribute(d, name, type, most, n, values));
    return DET_OK;
}

static det_status create_alone(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d) {
    *d = NULL;
    CUDNN_TRY(cudnnBackendCreateDescriptor(type, d));
    return DET_OK;
}

static void destroy(cudnnBackendDescriptor_t d) {
    if (d)
        cudnnBackendDestroyDescriptor(d);
}

/* What cuDNN cannot do (an operation, a graph, an engine) is no failure: something else is tried. A lack of memory is one. */
static det_status forgive(det_status status) {
    if (status != DET_ERROR_DEVICE)
        return status;
    det_log(DET_LOG_DEBUG, "cuDNN refuses, something else will be tried: %s", det_last_error());
    return DET_OK;
}

static det_status set_descriptor(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                 cudnnBackendDescriptor_t value) {
    return set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static det_status finalize(cudnnBackendDescriptor_t d) {
    CUDNN_TRY(cudnnBackendFinalize(d));
    return DET_OK;
}

/* *d: NULL after a failure. */
static det_status create(graph *g, cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d) {
    *d = NULL;
    if (g->n_descriptors == MAX_DESCRIPTORS)
        DET_FAIL(DET_ERROR_INTERNAL, "a graph of more than %d descriptors", MAX_DESCRIPTORS);
    DET_TRY(create_alone(type, d));
    g->descriptors[g->n_descriptors++] = *d;
    return DET_OK;
}

static void leave_graph(graph *g) {
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
static det_status make_tensor(graph *g, int64_t uid, cudnnDataType_t type, bool is_virtual, const int64_t dims[4],
                              int64_t stride, cudnnBackendDescriptor_t *d) {
    const int64_t strides[4] = {dims[2] * dims[3] * stride, 1, dims[3] * stride, stride}, alignment = 16;
    DET_TRY(create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, d));
    DET_TRY(set(*d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid));
    DET_TRY(set(*d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    DET_TRY(set(*d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment));
    DET_TRY(set(*d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims));
    DET_TRY(set(*d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides));
    if (is_virtual)
        DET_TRY(set(*d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual));
    return finalize(*d);
}

/* A tensor of y's shape: the last operation's is y itself, the others' are virtual. */
static det_status make_result(graph *g, const det_conv_problem *p, bool last, cudnnBackendDescriptor_t *d) {
    const int64_t dims[4] = {p->n, p->c_out, p->h_out, p->w_out};
    if (last)
        return make_tensor(g, UID_Y, data_type(p->type), false, dims, p->y_stride, d);
    return make_tensor(g, g->next_uid++, CUDNN_DATA_FLOAT, true, dims, p->c_out, d);
}

/* ---------------------------------------------------------------------------------------------------- operations */

static det_status add_operation(graph *g, cudnnBackendDescriptor_t operation) {
    DET_TRY(finalize(operation));
    g->operations[g->n_operations++] = operation;
    return DET_OK;
}

static det_status make_convolution(graph *g, const det_conv_problem *p, cudnnBackendDescriptor_t y) {
    const int64_t x_dims[4] = {p->n, p->c_in, p->h, p->w}, w_dims[4] = {p->c_out, p->c_in / p->groups, p->k, p->k};
    const int64_t n_dims = 2, strides[2] = {p->stride, p->stride}, dilations[2] = {1, 1}, pads[2] = {p->pad, p->pad};
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t x, w, conv, op;
    DET_TRY(make_tensor(g, UID_X, data_type(p->type), false, x_dims, p->x_stride, &x));
    DET_TRY(make_tensor(g, UID_WEIGHT, data_type(p->type), false, w_dims, p->c_in / p->groups, &w));
    DET_TRY(create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, &conv));
    DET_TRY(set(conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &n_dims));
    DET_TRY(set(conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute));
    DET_TRY(set(conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    DET_TRY(set(conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads));
    DET_TRY(set(conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads));
    DET_TRY(set(conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations));
    DET_TRY(set(conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides));
    DET_TRY(finalize(conv));
    DET_TRY(create(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, &op));
    DET_TRY(set_descriptor(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x));
    DET_TRY(set_descriptor(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w));
    DET_TRY(set_descriptor(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y));
    DET_TRY(set_descriptor(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, conv));
    DET_TRY(set(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one));
    DET_TRY(set(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero));
    return add_operation(g, op);
}

/* y = mode(x), or mode(x, b). */
static det_status make_pointwise(graph *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                                 cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y) {
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t pointwise, op;
    DET_TRY(create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &pointwise));
    DET_TRY(set(pointwise, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode));
    DET_TRY(set(pointwise, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute));
    DET_TRY(finalize(pointwise));
    DET_TRY(create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, &op));
    DET_TRY(set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise));
    DET_TRY(set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x));
    if (b)
        DET_TRY(set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b));
    DET_TRY(set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y));
    return add_operation(g, op);
}

static cudnnPointwiseMode_t mode_of(det_unit unit) {
    return unit == DET_UNIT_RELU   ? CUDNN_POINTWISE_RELU_FWD
           : unit == DET_UNIT_SILU ? CUDNN_POINTWISE_SWISH_FWD
                                   : CUDNN_POINTWISE_SIGMOID_FWD;
}

static det_status make_operations(graph *g, const det_conv_problem *p) {
    const int64_t bias_dims[4] = {1, p->c_out, 1, 1}, y_dims[4] = {p->n, p->c_out, p->h_out, p->w_out};
    int left = p->has_bias + (p->unit != DET_UNIT_NONE) + p->has_residual + (p->post_unit != DET_UNIT_NONE);
    cudnnBackendDescriptor_t x, y, other;
    DET_TRY(make_result(g, p, left == 0, &x));
    DET_TRY(make_convolution(g, p, x));
    if (p->has_bias) {
        DET_TRY(make_tensor(g, UID_BIAS, data_type(p->type), false, bias_dims, p->c_out, &other));
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
        DET_TRY(make_tensor(g, UID_RESIDUAL, data_type(p->type), false, y_dims, p->residual_stride, &other));
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

#if CUDNN_VERSION >= 90800
enum { HAS_KERNEL_CACHES = 1 };
#else
enum { HAS_KERNEL_CACHES = 0 };
#define CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR              (cudnnBackendDescriptorType_t)0
#define CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH            (cudnnBackendAttributeName_t)0
#define CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED (cudnnBackendAttributeName_t)0
#define CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE             (cudnnBackendAttributeName_t)0
#endif

/* Whether it is for an engine that is compiled at run time: nothing else can do it, or nothing else takes its views. Those
 * engines need tensor cores, and share kernels of fused graphs alone. */
static bool is_compiled(const det_conv_problem *p) {
    bool plain = p->unit == DET_UNIT_NONE || p->unit == DET_UNIT_RELU;
    bool is_view = p->x_stride != p->c_in || p->y_stride != p->c_out;
    bool is_bare = !p->has_bias && p->unit == DET_UNIT_NONE;
    if (!plain || p->has_residual || p->post_unit != DET_UNIT_NONE)
        return true;
    return is_view && !is_bare && (p->type != DET_TYPE_F32 || p->tf32);
}

static det_status fill_cache(cudnnBackendDescriptor_t cache, const graph *g) {
    DET_TRY(set_descriptor(cache, CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH, g->whole));
    return finalize(cache);
}

/* The kernel cache for graphs of this form, made with the first of them; NULL where this cuDNN has none. */
static det_status cache_for(det_kernel_caches *caches, const det_conv_problem *p, graph *g) {
    int form = ((((int)p->type * 2 + p->has_bias) * 4 + (int)p->unit) * 2 + p->has_residual) * 4 + (int)p->post_unit;
    for (int i = 0; i < caches->n; i++) {
        if (caches->items[i].form == form) {
            g->cache = caches->items[i].cache;
            return DET_OK;
        }
    }
    cudnnBackendDescriptor_t cache;
    if (caches->n == (int)DET_COUNT(caches->items))
        return DET_OK;
    det_status status = create_alone(CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR, &cache);
    if (status == DET_OK)
        status = fill_cache(cache, g);
    if (status != DET_OK) {
        destroy(cache);
        return forgive(status);
    }
    caches->items[caches->n].form = form;
    caches->items[caches->n++].cache = cache;
    g->cache = cache;
    return DET_OK;
}

void det_kernel_caches_close(det_kernel_caches *caches) {
    while (caches->n > 0)
        cudnnBackendDestroyDescriptor(caches->items[--caches->n].cache);
}

static det_status make_graph(graph *g, det_device *device, const det_conv_problem *p) {
    const bool any_shape = HAS_KERNEL_CACHES && is_compiled(p);
    DET_TRY(make_operations(g, p));
    DET_TRY(create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &g->whole));
    DET_TRY(
        set(g->whole, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_operations, g->operations));
    DET_TRY(set(g->whole, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &device->cudnn));
    if (any_shape)
        DET_TRY(set(g->whole, CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED, CUDNN_TYPE_BOOLEAN, 1, &any_shape));
    DET_TRY(finalize(g->whole));
    return any_shape ? cache_for(&device->caches, p, g) : DET_OK;
}

/* --------------------------------------------------------------------------------------------------------- plans */

/* What there is to know of an engine. */
typedef struct engine_notes {
    int64_t number, n_numerical;
    cudnnBackendNumericalNote_t numerical[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
} engine_notes;

static det_status read_engine(cudnnBackendDescriptor_t config, cudnnBackendDescriptor_t engine, engine_notes *notes) {
    int64_t n;
    DET_TRY(get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine));
    DET_TRY(get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, &notes->number));
    return get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
               &notes->n_numerical, notes->numerical);
}

static det_status notes_of(cudnnBackendDescriptor_t config, engine_notes *notes) {
    cudnnBackendDescriptor_t engine;
    DET_TRY(create_alone(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    det_status status = read_engine(config, engine, notes);
    destroy(engine);
    return status;
}

/* Whether an engine may be used: the same bytes every time, no narrower inputs, and in fp32 no tensor cores. */
static bool acceptable(const engine_notes *notes, const det_conv_problem *p) {
    bool good = true, strict = p->type == DET_TYPE_F32 && !p->tf32;
    for (int64_t i = 0; good && i < notes->n_numerical && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
        cudnnBackendNumericalNote_t note = notes->numerical[i];
        good = note != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC &&
               note != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION &&
               note != CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13 &&
               (note != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS || p->tf32) &&
               (note != CUDNN_NUMERICAL_NOTE_TENSOR_CORE || !strict);
    }
    return good;
}

void det_cudnn_conv_free(det_cudnn_conv *conv) {
    if (!conv)
        return;
    destroy(conv->pack);
    destroy(conv->plan);
    destroy(conv->config);
    leave_graph(conv->graph);
    det_free(conv);
}

static det_status finalize_plan(cudnnHandle_t handle, det_cudnn_conv *conv) {
    int64_t n, workspace = 0;
    DET_TRY(create_alone(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &conv->plan));
    DET_TRY(set(conv->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle));
    DET_TRY(set_descriptor(conv->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, conv->config));
    if (conv->graph->cache)
        DET_TRY(set_descriptor(conv->plan, CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE, conv->graph->cache));
    DET_TRY(finalize(conv->plan));
    DET_TRY(get(conv->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &workspace));
    conv->workspace_bytes = (size_t)workspace;
    return DET_OK;
}

/* *good: whether the configuration has become a plan that may be run. */
static det_status try_plan(cudnnHandle_t handle, const det_conv_problem *p, det_cudnn_conv *conv, bool *good) {
    engine_notes notes;
    DET_TRY(notes_of(conv->config, &notes));
    if (!acceptable(&notes, p))
        return DET_OK;
    DET_TRY(finalize_plan(handle, conv));
    conv->engine = notes.number;
    snprintf(conv->impl, sizeof conv->impl, "cudnn:%lld", (long long)conv->engine);
    *good = conv->workspace_bytes <= MAX_WORKSPACE_BYTES;
    return DET_OK;
}

/* Takes `config` over. *conv stays NULL when it cannot be run. */
static det_status make_plan(cudnnHandle_t handle, graph *g, const det_conv_problem *p, cudnnBackendDescriptor_t config,
                            det_cudnn_conv **out) {
    det_cudnn_conv *conv = det_alloc_array(1, sizeof *conv);
    if (!conv) {
        destroy(config);
        return DET_ERROR_OUT_OF_MEMORY;
    }
    bool good = false;
    g->n_users++;
    conv->graph = g;
    conv->config = config;
    conv->has_bias = p->has_bias;
    conv->has_residual = p->has_residual;
    det_status status = try_plan(handle, p, conv, &good);
    if (!good) {
        det_cudnn_conv_free(conv);
        return forgive(status);
    }
    *out = conv;
    return DET_OK;
}

static det_status read_heuristics(cudnnBackendDescriptor_t heuristics, const graph *g, cudnnBackendHeurMode_t mode,
                                  cudnnBackendDescriptor_t configs[MAX_CONFIGS], int64_t *n) {
    DET_TRY(set_descriptor(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->whole));
    DET_TRY(set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    DET_TRY(finalize(heuristics));
    for (int i = 0; i < MAX_CONFIGS; i++)
        DET_TRY(create_alone(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]));
    return get(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_CONFIGS, n, configs);
}

/* The configurations that one mode of the heuristics names. A mode that fails names none: another may. */
static det_status ask_heuristics(const graph *g, cudnnBackendHeurMode_t mode,
                                 cudnnBackendDescriptor_t configs[MAX_CONFIGS], int *n_configs) {
    cudnnBackendDescriptor_t heuristics;
    int64_t n = 0;
    memset(configs, 0, MAX_CONFIGS * sizeof *configs);
    det_status status = create_alone(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics);
    if (status == DET_OK)
        status = read_heuristics(heuristics, g, mode, configs, &n);
    destroy(heuristics);
    *n_configs = status == DET_OK ? (int)DET_MIN(n, MAX_CONFIGS) : 0;
    for (int i = *n_configs; i < MAX_CONFIGS; i++)
        destroy(configs[i]);
    return forgive(status);
}

static det_status find_plans(cudnnHandle_t handle, graph *g, const det_conv_problem *p, cudnnBackendHeurMode_t mode,
                             int most, det_cudnn_conv **convs, int *n) {
    cudnnBackendDescriptor_t configs[MAX_CONFIGS];
    int n_configs;
    det_status status = ask_heuristics(g, mode, configs, &n_configs);
    for (int i = 0; i < n_configs; i++) {
        if (*n == most || status != DET_OK) {
            destroy(configs[i]);
            continue;
        }
        det_cudnn_conv *conv = NULL;
        status = make_plan(handle, g, p, configs[i], &conv);
        if (conv)
            convs[(*n)++] = conv;
    }
    return status;
}

static det_status find_conv(det_device *device, graph *g, const det_conv_problem *problem, bool fallback, int most,
                            det_cudnn_conv **convs, int *n) {
    DET_TRY(find_plans(device->cudnn, g, problem, CUDNN_HEUR_MODE_A, most, convs, n));
    if (*n == 0)
        DET_TRY(find_plans(device->cudnn, g, problem, CUDNN_HEUR_MODE_B, most, convs, n));
    if (*n == 0 && fallback)
        DET_TRY(find_plans(device->cudnn, g, problem, CUDNN_HEUR_MODE_FALLBACK, most, convs, n));
    return DET_OK;
}

/* A graph for the caller, who leaves it. */
static det_status open_graph(det_device *device, const det_conv_problem *problem, graph **out) {
    graph *g = det_alloc_array(1, sizeof *g);
    if (!g)
        return DET_ERROR_OUT_OF_MEMORY;
    g->n_users = 1;
    g->next_uid = UID_VIRTUAL;
    det_status status = make_graph(g, device, problem);
    if (status == DET_OK)
        *out = g;
    else
        leave_graph(g);
    return status;
}

det_status det_cudnn_conv_find(det_device *device, const det_conv_problem *problem, bool fallback, int most,
                               det_cudnn_conv **convs, int *n) {
    graph *g = NULL;
    *n = 0;
    det_status status = open_graph(device, problem, &g);
    if (status != DET_OK)
        return forgive(status);
    status = find_conv(device, g, problem, fallback, most, convs, n);
    while (status != DET_OK && *n > 0)
        det_cudnn_conv_free(convs[--*n]);
    leave_graph(g);
    return status;
}

/* ------------------------------------------------------------------------------------------------- other batches */

/* The choices that an engine configuration is made of, as descriptors of `g`. */
static det_status read_knobs(graph *g, cudnnBackendDescriptor_t config, cudnnBackendDescriptor_t *knobs, int64_t *n) {
    for (int i = 0; i < MAX_KNOBS; i++)
        DET_TRY(create(g, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i]));
    return get(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_KNOBS, n, knobs);
}

static det_status copy_config(graph *g, const det_cudnn_conv *like, cudnnBackendDescriptor_t config) {
    cudnnBackendDescriptor_t engine, knobs[MAX_KNOBS];
    int64_t n = 0;
    DET_TRY(create(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    DET_TRY(set_descriptor(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g->whole));
    DET_TRY(set(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &like->engine));
    DET_TRY(finalize(engine));
    DET_TRY(read_knobs(g, like->config, knobs, &n));
    DET_TRY(set_descriptor(config, CUDNN_ATTR_ENGINECFG_ENGINE, engine));
    if (n > 0)
        DET_TRY(set(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, knobs));
    return finalize(config);
}

static det_status copy_plan(det_device *device, graph *g, const det_conv_problem *problem, const det_cudnn_conv *like,
                            det_cudnn_conv **conv) {
    cudnnBackendDescriptor_t config;
    DET_TRY(create_alone(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config));
    det_status status = copy_config(g, like, config);
    if (status == DET_OK)
        return make_plan(device->cudnn, g, problem, config, conv);
    destroy(config);
    return status;
}

det_status det_cudnn_conv_follow(det_device *device, const det_conv_problem *problem, const det_cudnn_conv *like,
                                 det_cudnn_conv **conv) {
    graph *g = NULL;
    *conv = NULL;
    det_status status = open_graph(device, problem, &g);
    if (status != DET_OK)
        return forgive(status);
    status = copy_plan(device, g, problem, like, conv);
    leave_graph(g);
    return forgive(status);
}

size_t det_cudnn_conv_workspace(const det_cudnn_conv *conv) {
    return conv->workspace_bytes;
}

const char *det_cudnn_conv_impl(const det_cudnn_conv *conv) {
    return conv->impl;
}

/* ------------------------------------------------------------------------------------------------------- running */

det_status det_cudnn_conv_bind(det_cudnn_conv *conv, const det_conv_data *data) {
    int64_t uids[5] = {UID_X, UID_WEIGHT, UID_Y};
    void *pointers[5] = {(void *)(uintptr_t)data->x, (void *)(uintptr_t)data->weight, data->y};
    int64_t n = 3;
    if (conv->has_bias) {
        uids[n] = UID_BIAS;
        pointers[n++] = (void *)(uintptr_t)data->bias;
    }
    if (conv->has_residual) {
        uids[n] = UID_RESIDUAL;
        pointers[n++] = (void *)(uintptr_t)data->residual;
    }
    void *workspace = data->workspace;
    destroy(conv->pack);
    DET_TRY(create_alone(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &conv->pack));
    DET_TRY(set(conv->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids));
    DET_TRY(set(conv->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers));
    DET_TRY(set(conv->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace));
    return finalize(conv->pack);
}

det_status det_cudnn_conv_run(const det_cudnn_conv *conv, cudnnHandle_t handle) {
    CUDNN_TRY(cudnnBackendExecute(handle, conv->plan, conv->pack));
    return DET_OK;
}
