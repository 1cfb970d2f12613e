/* Which engines heuristics name, and what a plan does. The choice follows what cuDNN 9 answers for an H200: fusions of
 * other than bias and ReLU are for tensor cores alone, engines that round fp32 to TF32 come first, some that are named
 * cannot be finalised. */
#include "descriptor.h"

#include <chrono>
#include <cmath>
#include <thread>

namespace fake {
namespace {

const int64_t WORKSPACE_BYTES = 4112; /* not a round number */

int64_t slow_engine = -1;
double slow_ms = 0;
bool last_resort = false;

bool bias_or_relu_alone(const Program &p) {
    for (const Pointwise &step : p.steps) {
        bool bias = step.mode == CUDNN_POINTWISE_ADD && step.other.n * step.other.h * step.other.w == 1;
        if (!bias && step.mode != CUDNN_POINTWISE_RELU_FWD)
            return false;
    }
    return p.steps.size() <= 2;
}

std::vector<Engine> all_engines(const Program &p, cudnnBackendHeurMode_t mode) {
    const auto tensor_cores = std::vector<cudnnBackendNumericalNote_t>{CUDNN_NUMERICAL_NOTE_TENSOR_CORE};
    bool f32 = p.convolution.x.type == CUDA_R_32F, grouped = p.convolution.groups() > 1;
    bool depthwise = p.convolution.groups() == p.convolution.x.c && grouped;
    Engine last = {0, {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}, false, true, false, 0};
    Engine compiled = {7, tensor_cores, true, true, f32, 0};
    Engine fails = {41, tensor_cores, false, false, f32, 0};
    std::vector<Engine> engines;
    if (mode == CUDNN_HEUR_MODE_FALLBACK) {
        if (bias_or_relu_alone(p))
            engines.push_back(last);
        if (!f32)
            engines.push_back(compiled);
        return engines;
    }
    if (last_resort)
        return engines;
    if (depthwise && !p.steps.empty()) {
        compiled = {8, {}, true, true, false, 0};
        return f32 ? engines : std::vector<Engine>{compiled};
    }
    if (bias_or_relu_alone(p)) {
        engines.push_back(fails);
        engines.push_back({10, tensor_cores, false, true, f32, WORKSPACE_BYTES});
        engines.push_back({29, {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, false, true, false, 0});
        engines.push_back({44, {}, false, true, false, WORKSPACE_BYTES});
        engines.push_back(last);
    } else {
        engines.push_back(compiled);
        fails.index = 8;
        engines.push_back(fails);
    }
    return engines;
}

} // namespace

std::vector<Engine> engines_for(const Program &p, cudnnBackendHeurMode_t mode) {
    std::vector<Engine> engines = all_engines(p, mode);
    const Tensor &y = p.convolution.y;
    for (Engine &engine : engines)
        engine.split = split_for(y.n * y.h * y.w);
    return engines;
}

/* One that its user asks for by number, with no choice made. */
cudnnStatus_t finalize_engine(Descriptor &d) {
    Descriptor *graph = d.child(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    int64_t index = d.get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, -1);
    if (graph->type != CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
        return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "not an operation graph");
    for (auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
        for (const Engine &engine : all_engines(*graph->program, mode))
            if (engine.index == index && !d.engine)
                d.engine = std::make_shared<Engine>(engine);
    if (!d.engine)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "engine %lld does not do this graph", (long long)index);
    d.program = graph->program;
    d.made_of = {graph};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_config(Descriptor &d) {
    Descriptor *engine = d.child(CUDNN_ATTR_ENGINECFG_ENGINE);
    if (engine->type != CUDNN_BACKEND_ENGINE_DESCRIPTOR)
        return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "not an engine");
    d.program = engine->program;
    d.engine = std::make_shared<Engine>(*engine->engine);
    d.made_of = {engine};
    for (Descriptor *choice : d.all<Descriptor *>(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES)) {
        if (choice->type != CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)
            return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "not a choice");
        d.engine->split = choice->engine->split;
    }
    return CUDNN_STATUS_SUCCESS;
}

namespace {

struct Binding {
    const void *x, *w;
    void *y, *workspace;
    std::vector<const void *> others; /* of each step, NULL where it has none */
};

float apply(const Pointwise &step, float x, float other) {
    switch (step.mode) {
    case CUDNN_POINTWISE_ADD:
        return x + other;
    case CUDNN_POINTWISE_RELU_FWD:
        return x > 0 ? x : x == x ? 0 : x;
    case CUDNN_POINTWISE_SWISH_FWD:
        return x / (1 + std::exp(-(float)step.swish_beta * x));
    case CUDNN_POINTWISE_SIGMOID_FWD:
        return 1 / (1 + std::exp(-x));
    default:
        return x;
    }
}

float rounded(cudaDataType type, float x) {
    uint16_t bits;
    if (type == CUDA_R_32F)
        return x;
    store(type, &bits, 0, x);
    return load(type, &bits, 0);
}

void run_step(const Pointwise &step, const void *other, const Tensor &shape, float *values) {
    for (int64_t i = 0; i < shape.n; i++)
        for (int64_t y = 0; y < shape.h; y++)
            for (int64_t x = 0; x < shape.w; x++) {
                const Tensor &o = step.other;
                int64_t at = step.has_other ? o.at(o.n > 1 ? i : 0, o.h > 1 ? y : 0, o.w > 1 ? x : 0) : 0;
                for (int64_t c = 0; c < shape.c; c++, values++) {
                    float b = step.has_other ? load(o.type, other, at + (o.c > 1 ? c : 0)) : 0;
                    *values = rounded(step.result, apply(step, *values, b));
                }
            }
}

void run(const Program &p, const Engine &engine, const Binding &b) {
    Convolution c = p.convolution;
    c.tf32 = engine.tf32;
    c.split = engine.split;
    std::vector<float> values((size_t)(c.y.n * c.y.h * c.y.w * c.y.c));
    if (engine.index == slow_engine)
        std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(slow_ms));
    convolve(c, b.x, b.w, values.data());
    for (float &value : values)
        value = rounded(c.y.type, value);
    for (size_t i = 0; i < p.steps.size(); i++)
        run_step(p.steps[i], b.others[i], p.y, values.data());
    if (engine.workspace_bytes) /* nobody else has anything there */
        memset(b.workspace, 0xff, (size_t)engine.workspace_bytes);
    const float *from = values.data();
    for (int64_t i = 0; i < p.y.n; i++)
        for (int64_t y = 0; y < p.y.h; y++)
            for (int64_t x = 0; x < p.y.w; x++)
                for (int64_t k = 0; k < p.y.c; k++)
                    store(p.y.type, b.y, p.y.at(i, y, x) + k, *from++);
}

/* The pointer of a unique id, checked. */
cudnnStatus_t pointer_of(const Descriptor &pack, int64_t uid, const Tensor &t, size_t alignment, int device,
                         void **data) {
    auto uids = pack.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    auto pointers = pack.all<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (size_t i = 0; i < uids.size(); i++) {
        if (uids[i] != uid)
            continue;
        *data = pointers[i];
        return on_device(*data, t.n_bytes(), device, alignment, "cudnnBackendExecute")
                   ? CUDNN_STATUS_SUCCESS
                   : refuse(CUDNN_STATUS_BAD_PARAM, "the pointer of unique id %lld", (long long)uid);
    }
    return refuse(CUDNN_STATUS_BAD_PARAM, "unique id %lld has no pointer", (long long)uid);
}

bool lives(const Descriptor &d) {
    for (const Descriptor *part : d.made_of)
        if (!is_live(part) || !lives(*part))
            return false;
    return true;
}

cudnnStatus_t bind(const Program &p, const Descriptor &pack, const Engine &engine, int device, Binding *b) {
    void *x = nullptr, *w = nullptr, *other;
    cudnnStatus_t status = pointer_of(pack, p.x_uid, p.convolution.x, p.x_alignment, device, &x);
    if (status == CUDNN_STATUS_SUCCESS)
        status = pointer_of(pack, p.w_uid, p.convolution.w, p.w_alignment, device, &w);
    if (status == CUDNN_STATUS_SUCCESS)
        status = pointer_of(pack, p.y_uid, p.y, p.y_alignment, device, &b->y);
    b->x = x;
    b->w = w;
    bool shares = status == CUDNN_STATUS_SUCCESS && overlap(p.y, b->y, p.convolution.x, b->x);
    for (size_t i = 0; status == CUDNN_STATUS_SUCCESS && i < p.steps.size(); i++) {
        other = nullptr;
        if (p.steps[i].has_other) {
            status = pointer_of(pack, p.steps[i].other_uid, p.steps[i].other, p.other_alignment, device, &other);
            shares |= status == CUDNN_STATUS_SUCCESS && overlap(p.y, b->y, p.steps[i].other, other);
        }
        b->others.push_back(other);
    }
    if (shares) {
        violation("cudnnBackendExecute: the result lies over an input");
        return refuse(CUDNN_STATUS_BAD_PARAM, "the result lies over an input");
    }
    b->workspace = pack.get<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, nullptr);
    if (status == CUDNN_STATUS_SUCCESS && engine.workspace_bytes &&
        !on_device(b->workspace, (size_t)engine.workspace_bytes, device, 16, "cudnnBackendExecute: the workspace"))
        return refuse(CUDNN_STATUS_BAD_PARAM, "the workspace");
    return status;
}

} // namespace

cudnnStatus_t execute(cudaStream_t stream, const Descriptor &plan, const Descriptor &pack) {
    if (!lives(plan)) {
        violation("cudnnBackendExecute: a descriptor that the plan was made of has been destroyed");
        return refuse(CUDNN_STATUS_BAD_PARAM, "a descriptor that the plan was made of has been destroyed");
    }
    if (!check_stream(stream, "cudnnBackendExecute"))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no stream");
    Binding binding;
    cudnnStatus_t status = bind(*plan.program, pack, *plan.engine, stream_device(stream), &binding);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    auto program = plan.program;
    auto engine = plan.engine;
    cudaError_t error = enqueue("cudnn", stream, [program, engine, binding] { run(*program, *engine, binding); });
    return error == cudaSuccess ? CUDNN_STATUS_SUCCESS
                                : refuse(CUDNN_STATUS_EXECUTION_FAILED_CUDART, "%s", cudaGetErrorName(error));
}

} // namespace fake

void fake_cudnn_slow(int64_t engine, double ms) {
    fake::slow_engine = engine;
    fake::slow_ms = ms;
}

void fake_cudnn_last_resort(int on) {
    fake::last_resort = on;
}
