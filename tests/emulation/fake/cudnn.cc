/* cuDNN's C graph API: handles, descriptors and their attributes. */
#include "descriptor.h"

#include <cstdio>
#include <set>

namespace fake {
namespace {

std::set<Descriptor *> &descriptors() {
    static auto *d = new std::set<Descriptor *>;
    return *d;
}

std::set<cudnnHandle_t> &handles() {
    static auto *h = new std::set<cudnnHandle_t>;
    return *h;
}

thread_local char last_message[512];

/* Which attributes a kind of descriptor has: their type, and how many elements they hold. */
struct Rule {
    cudnnBackendDescriptorType_t descriptor;
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int least, most;
    bool required, settable;
};

#define RULE(descriptor, name, type, least, most, required)                                                            \
    { CUDNN_BACKEND_##descriptor##_DESCRIPTOR, CUDNN_ATTR_##name, CUDNN_TYPE_##type, least, most, required, true }
#define ANSWER(descriptor, name, type)                                                                                 \
    { CUDNN_BACKEND_##descriptor##_DESCRIPTOR, CUDNN_ATTR_##name, CUDNN_TYPE_##type, 0, 64, false, false }
const Rule rules[] = {
    RULE(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, 1, true),
    RULE(TENSOR, TENSOR_DIMENSIONS, INT64, 1, CUDNN_DIM_MAX, true),
    RULE(TENSOR, TENSOR_STRIDES, INT64, 1, CUDNN_DIM_MAX, true),
    RULE(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, 1, true),
    RULE(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, 1, true),
    RULE(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 1, 1, false),
    RULE(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, 1, 3, true),
    RULE(CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, 1, 3, true),
    RULE(CONVOLUTION, CONVOLUTION_DILATIONS, INT64, 1, 3, true),
    RULE(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, 1, 3, true),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_ALPHA, FLOAT, 1, 1, false),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_BETA, FLOAT, 1, 1, false),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_X, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_W, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_Y, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, 1, 1, true),
    RULE(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, 1, true),
    RULE(POINTWISE, POINTWISE_SWISH_BETA, DOUBLE, 1, 1, false),
    RULE(POINTWISE, POINTWISE_RELU_LOWER_CLIP, DOUBLE, 1, 1, false),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, BACKEND_DESCRIPTOR, 1, 1, false),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_ALPHA1, FLOAT, 1, 1, false),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_ALPHA2, FLOAT, 1, 1, false),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, 1, false),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, 16, true),
    RULE(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, 1, true),
    ANSWER(ENGINEHEUR, ENGINEHEUR_RESULTS, BACKEND_DESCRIPTOR),
    RULE(ENGINECFG, ENGINECFG_ENGINE, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(ENGINECFG, ENGINECFG_KNOB_CHOICES, BACKEND_DESCRIPTOR, 0, 64, false),
    RULE(KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE, KNOB_TYPE, 1, 1, true),
    RULE(KNOB_CHOICE, KNOB_CHOICE_KNOB_VALUE, INT64, 1, 1, true),
    RULE(ENGINE, ENGINE_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(ENGINE, ENGINE_GLOBAL_INDEX, INT64, 1, 1, true),
    ANSWER(ENGINE, ENGINE_NUMERICAL_NOTE, NUMERICAL_NOTE),
    ANSWER(ENGINE, ENGINE_BEHAVIOR_NOTE, BEHAVIOR_NOTE),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, 1, false),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, 1, 1, true),
    ANSWER(EXECUTION_PLAN, EXECUTION_PLAN_WORKSPACE_SIZE, INT64),
    RULE(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, 0, 32, false),
    RULE(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, 0, 32, false),
    RULE(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, 1, false),
#if CUDNN_VERSION >= 90800
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED, BOOLEAN, 1, 1, false),
    RULE(KERNEL_CACHE, KERNEL_CACHE_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_KERNEL_CACHE, BACKEND_DESCRIPTOR, 1, 1, false),
    RULE(ENGINEHEUR, ENGINEHEUR_DEVICEPROP, BACKEND_DESCRIPTOR, 1, 1, false),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_DEVICEPROP, BACKEND_DESCRIPTOR, 1, 1, false),
    RULE(DEVICEPROP, DEVICEPROP_DEVICE_ID, INT32, 1, 1, false),
    RULE(DEVICEPROP, DEVICEPROP_JSON_REPRESENTATION, CHAR, 1, 1 << 20, false),
#endif
};
#undef RULE
#undef ANSWER

const Rule *rule_of(const Descriptor &d, cudnnBackendAttributeName_t name) {
    for (const Rule &rule : rules)
        if (rule.descriptor == d.type && rule.name == name)
            return &rule;
    return nullptr;
}

size_t element_bytes(cudnnBackendAttributeType_t type) {
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
        return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    default: /* enumerations, float, int32 */
        return 4;
    }
}

/* cuDNN takes either for the numbers of an activation. */
bool type_fits(const Rule &rule, cudnnBackendAttributeType_t type) {
    return type == rule.type || (rule.type == CUDNN_TYPE_DOUBLE && type == CUDNN_TYPE_FLOAT);
}

cudnnStatus_t check_references(const Value &value) {
    for (int64_t i = 0; i < value.count; i++) {
        Descriptor *d;
        memcpy(&d, value.bytes.data() + 8 * i, sizeof d);
        if (!is_live(d))
            return refuse(CUDNN_STATUS_BAD_PARAM, "a descriptor that does not live");
        if (!d->finalized)
            return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a descriptor that is not finalized");
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_pointwise(Descriptor &d) {
    if (d.get(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT) != CUDNN_DATA_FLOAT)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake computes in float");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_heuristics(Descriptor &d) {
    Descriptor *graph = d.child(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    d.program = graph->program;
    d.made_of = {graph};
    d.engines = engines_for(*graph->program, d.get(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_HEUR_MODE_A));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_plan(Descriptor &d) {
    Descriptor *config = d.child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (config->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)
        return refuse(CUDNN_STATUS_BAD_PARAM, "not an engine configuration");
    if (!d.find(CUDNN_ATTR_EXECUTION_PLAN_HANDLE)) /* or a device's properties; but those plans are not run */
        return refuse(CUDNN_STATUS_BAD_PARAM, "a plan without a handle");
    d.program = config->program;
    d.engine = config->engine;
    d.made_of = {config};
    if (!d.engine->finalizes)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "engine %lld does not do this", (long long)d.engine->index);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_pack(Descriptor &d) {
    std::vector<int64_t> uids = d.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    size_t n_pointers = d.all<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size();
    if (uids.size() != n_pointers)
        return refuse(CUDNN_STATUS_BAD_PARAM, "%zu unique ids, %zu pointers", uids.size(), n_pointers);
    if (std::set<int64_t>(uids.begin(), uids.end()).size() != uids.size())
        return refuse(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "a unique id twice");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_kind(Descriptor &d) {
    switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        return finalize_tensor(d);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
        return finalize_convolution(d);
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR:
        return finalize_pointwise(d);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        return finalize_convolution_operation(d);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return finalize_pointwise_operation(d);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return finalize_graph(d);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        return finalize_heuristics(d);
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
        return finalize_engine(d);
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
        return finalize_config(d);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return finalize_plan(d);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return finalize_pack(d);
#if CUDNN_VERSION >= 90800
    case CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR: /* of kernels that this does not compile */
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR:
        return CUDNN_STATUS_SUCCESS;
#endif
    default:
        return refuse(CUDNN_STATUS_BAD_PARAM, "this kind is not finalized by its user");
    }
}

/* Fills in the caller's descriptors, made and not finalized, from `engines`. */
cudnnStatus_t give_engines(Descriptor &from, const std::vector<Engine> &engines, cudnnBackendDescriptorType_t type,
                           int64_t wanted, int64_t *given, void *array) {
    *given = 0;
    for (int64_t i = 0; i < wanted && i < (int64_t)engines.size(); i++) {
        Descriptor *to = ((Descriptor **)array)[i];
        if (!is_live(to) || to->type != type)
            return refuse(CUDNN_STATUS_BAD_PARAM, "results go into descriptors of their kind, made by the caller");
        to->finalized = true;
        to->program = from.program;
        to->engine = std::make_shared<Engine>(engines[(size_t)i]);
        to->made_of = from.made_of;
        ++*given;
    }
    if (wanted == 0)
        *given = (int64_t)engines.size();
    return CUDNN_STATUS_SUCCESS;
}

template <class T> void give(const std::vector<T> &values, int64_t wanted, int64_t *n, void *array) {
    for (int64_t i = 0; i < wanted && i < (int64_t)values.size(); i++)
        memcpy((char *)array + (size_t)i * sizeof(T), &values[(size_t)i], sizeof(T));
    if (n)
        *n = (int64_t)values.size();
}

} // namespace

cudnnStatus_t refuse(cudnnStatus_t status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_message, sizeof last_message, format, arguments);
    va_end(arguments);
    return status;
}

bool is_live(const Descriptor *d) {
    return descriptors().count((Descriptor *)(uintptr_t)d) > 0;
}

bool handle_is_live(cudnnHandle_t handle) {
    return handles().count(handle) > 0;
}

} // namespace fake

using namespace fake;

#define CUDNN_CALL(traits)                                                                                             \
    Call call(__func__, Library::cudnn, traits);                                                                       \
    if (call.planned && !((traits)&RELEASES))                                                                          \
    return refuse((cudnnStatus_t)call.planned, "planned failure, or a broken device")

size_t cudnnGetVersion(void) {
    return CUDNN_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status) {
    switch (status) {
    case CUDNN_STATUS_SUCCESS:
        return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
        return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_INTERNAL_ERROR:
        return "CUDNN_STATUS_INTERNAL_ERROR";
    default:
        return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_BAD_PARAM          ? "CUDNN_STATUS_BAD_PARAM"
               : CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED    ? "CUDNN_STATUS_NOT_SUPPORTED"
               : CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_EXECUTION_FAILED ? "CUDNN_STATUS_EXECUTION_FAILED"
                                                                                : "CUDNN_STATUS_INTERNAL_ERROR";
    }
}

void cudnnGetLastErrorString(char *message, size_t max_size) {
    if (max_size)
        snprintf(message, max_size, "%s", last_message);
    last_message[0] = 0;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    CUDNN_CALL(UNSAFE);
    if (!handle || current_device() >= n_devices())
        return refuse(CUDNN_STATUS_NOT_INITIALIZED, "no device");
    *handle = new cudnnContext{current_device(), nullptr};
    handles().insert(*handle);
    counts.cudnn_handles++;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    CUDNN_CALL(UNSAFE | DEVICE_WAIT | SPOILS | RELEASES);
    if (!handles().erase(handle)) {
        violation("%s: %p is no cuDNN handle", __func__, (void *)handle);
        return CUDNN_STATUS_BAD_PARAM;
    }
    run_all(handle->device);
    delete handle;
    counts.cudnn_handles--;
    return (cudnnStatus_t)call.planned;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    CUDNN_CALL(ANY);
    if (!handle_is_live(handle) || !check_stream(stream, __func__))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no handle, or no stream");
    if (stream_device(stream) != handle->device)
        return refuse(CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH, "the stream is of another device");
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream) {
    CUDNN_CALL(ANY);
    if (!handle_is_live(handle) || !stream)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no handle");
    *stream = handle->stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *descriptor) {
    CUDNN_CALL(ANY);
    if (!descriptor)
        return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "descriptor");
    auto *d = new Descriptor;
    d->type = type;
    descriptors().insert(d);
    counts.cudnn_descriptors++;
    *descriptor = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
    CUDNN_CALL(RELEASES);
    if (!descriptor)
        return CUDNN_STATUS_SUCCESS;
    if (!descriptors().erase((Descriptor *)descriptor)) {
        violation("%s: %p is no descriptor", __func__, descriptor);
        return CUDNN_STATUS_BAD_PARAM;
    }
    cudnnBackendDescriptorType_t type = ((Descriptor *)descriptor)->type;
    if (type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || type == CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR)
        spoils_captures(); /* kernels are unloaded */
    delete (Descriptor *)descriptor;
    counts.cudnn_descriptors--;
    return (cudnnStatus_t)call.planned;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *array) {
    CUDNN_CALL(ANY);
    auto *d = (Descriptor *)descriptor;
    if (!is_live(d))
        return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no descriptor");
    const Rule *rule = rule_of(*d, name);
    if (d->finalized || !rule || !rule->settable)
        return refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d cannot be set%s", (int)name,
                      d->finalized ? " any more" : "");
    if (!type_fits(*rule, type))
        return refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute %d is not of type %d", (int)name, (int)type);
    if (count < rule->least || count > rule->most || (count && !array))
        return refuse(CUDNN_STATUS_BAD_PARAM, "%lld elements for attribute %d", (long long)count, (int)name);
    size_t n_bytes = (size_t)count * element_bytes(type);
    Value value = {type, count, std::vector<char>((const char *)array, (const char *)array + n_bytes)};
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        cudnnStatus_t status = check_references(value);
        if (status != CUDNN_STATUS_SUCCESS)
            return status;
    }
    if (type == CUDNN_TYPE_HANDLE && !handle_is_live(*(const cudnnHandle_t *)array))
        return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no handle");
    d->values[name] = value;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
    CUDNN_CALL(ANY);
    auto *d = (Descriptor *)descriptor;
    if (!is_live(d) || d->finalized)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no descriptor, or finalized before");
    for (const Rule &rule : rules) {
        if (rule.descriptor == d->type && rule.required && !d->find(rule.name))
            return refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d is missing", (int)rule.name);
    }
    cudnnStatus_t status = finalize_kind(*d);
    d->finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *n, void *array) {
    CUDNN_CALL(ANY);
    auto *d = (Descriptor *)descriptor;
    if (!is_live(d) || !d->finalized)
        return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "no descriptor, or not finalized");
    const Rule *rule = rule_of(*d, name);
    if (!rule || !type_fits(*rule, type) || wanted < 0 || (wanted && !array))
        return refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d of type %d", (int)name, (int)type);
    int64_t given = 0;
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        status = give_engines(*d, d->engines, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, wanted, &given, array);
        break;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        status = give_engines(*d, {*d->engine}, CUDNN_BACKEND_ENGINE_DESCRIPTOR, wanted, &given, array);
        break;
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES: /* one */
        status = give_engines(*d, {*d->engine}, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, wanted, &given, array);
        break;
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE:
        give(std::vector<cudnnBackendKnobType_t>{CUDNN_KNOB_TYPE_SPLIT_K}, wanted, &given, array);
        break;
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE:
        give(std::vector<int64_t>{d->engine->split}, wanted, &given, array);
        break;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
        give(std::vector<int64_t>{d->engine->index}, wanted, &given, array);
        break;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        give(d->engine->notes, wanted, &given, array);
        break;
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
        if (d->engine->runtime_compiled)
            give(std::vector<cudnnBackendBehaviorNote_t>{CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION}, wanted, &given,
                 array);
        break;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        give(std::vector<int64_t>{d->engine->workspace_bytes}, wanted, &given, array);
        break;
    default:
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake does not answer attribute %d", (int)name);
    }
    if (n)
        *n = given;
    return status;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    CUDNN_CALL(ANY);
    auto *p = (Descriptor *)plan, *v = (Descriptor *)pack;
    if (!handle_is_live(handle) || !is_live(p) || !is_live(v) || p->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
        v->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no handle, plan or variant pack");
    if (!p->finalized || !v->finalized)
        return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "plan or variant pack");
    return execute(handle->stream, *p, *v);
}
