#include "backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

TRITONSERVER_Error *fail(TRITONSERVER_Error_Code code, const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return TRITONSERVER_ErrorNew(code, line);
}

TRITONSERVER_Error *fail_with(det_status status) {
    TRITONSERVER_Error_Code code = TRITONSERVER_ERROR_INTERNAL;
    if (status == DET_ERROR_INVALID_ARGUMENT || status == DET_ERROR_BAD_MODEL)
        code = TRITONSERVER_ERROR_INVALID_ARG;
    else if (status == DET_ERROR_IO)
        code = TRITONSERVER_ERROR_NOT_FOUND;
    else if (status == DET_ERROR_UNSUPPORTED)
        code = TRITONSERVER_ERROR_UNSUPPORTED;
    else if (status == DET_ERROR_NO_DEVICE || status == DET_ERROR_DEVICE || status == DET_ERROR_OUT_OF_MEMORY)
        code = TRITONSERVER_ERROR_UNAVAILABLE;
    return fail(code, "%s: %s", det_status_name(status), det_last_error());
}

static TRITONSERVER_Error *check_version(void) {
    uint32_t major, minor;
    TRY(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != TRITONBACKEND_API_VERSION_MAJOR)
        return fail(TRITONSERVER_ERROR_UNSUPPORTED, "Triton's backend API is %u, this backend was made for %d",
                    (unsigned)major, TRITONBACKEND_API_VERSION_MAJOR);
    return NULL;
}

static void free_model(model_state *state) {
    det_model_close(state->model);
    config_free(&state->config);
    free(state);
}

static TRITONSERVER_Error *open_model(TRITONBACKEND_Model *model, model_state *state) {
    TRY(config_read(model, &state->config));
    det_status status = det_model_open(state->config.model_path, &state->model);
    if (status != DET_OK)
        return fail_with(status);
    state->info.struct_size = sizeof state->info;
    status = det_model_get_info(state->model, &state->info);
    if (status != DET_OK)
        return fail_with(status);
    int32_t asked = state->config.max_objects;
    state->max_objects = asked > 0 ? asked : state->info.max_objects;
    state->config.thresholds.max_objects = state->max_objects;
    return TRITONBACKEND_ModelSetState(model, state);
}

TRITONSERVER_Error *TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model *model) {
    TRY(check_version());
    model_state *state = calloc(1, sizeof *state);
    if (state == NULL)
        return fail(TRITONSERVER_ERROR_INTERNAL, "out of memory");
    TRITONSERVER_Error *error = open_model(model, state);
    if (error != NULL)
        free_model(state);
    return error;
}

TRITONSERVER_Error *TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model *model) {
    void *state;
    TRY(TRITONBACKEND_ModelState(model, &state));
    free_model(state);
    return NULL;
}

static void free_instance(instance_state *state) {
    det_context_destroy(state->context);
    free(state->images);
    free(state->objects);
    free(state->counts);
    free(state);
}

static TRITONSERVER_Error *allocate(instance_state *state) {
    size_t n = (size_t)state->model->config.max_batch;
    state->images = calloc(n, sizeof *state->images);
    state->objects = calloc(n * (size_t)state->model->max_objects, sizeof *state->objects);
    state->counts = calloc(n, sizeof *state->counts);
    bool ok = state->images != NULL && state->objects != NULL && state->counts != NULL;
    return ok ? NULL : fail(TRITONSERVER_ERROR_INTERNAL, "out of memory for %zu pictures", n);
}

/* One context for every instance, on the instance's device: instance groups are Triton's to make. */
static TRITONSERVER_Error *open_instance(TRITONBACKEND_ModelInstance *instance, instance_state *state) {
    TRITONBACKEND_Model *model;
    void *of_model;
    TRITONSERVER_InstanceGroupKind kind;
    TRY(TRITONBACKEND_ModelInstanceModel(instance, &model));
    TRY(TRITONBACKEND_ModelState(model, &of_model));
    TRY(TRITONBACKEND_ModelInstanceKind(instance, &kind));
    TRY(TRITONBACKEND_ModelInstanceDeviceId(instance, &state->device));
    state->instance = instance;
    state->model = of_model;
    state->on_gpu = kind == TRITONSERVER_INSTANCEGROUPKIND_GPU;
    if (kind != TRITONSERVER_INSTANCEGROUPKIND_GPU && kind != TRITONSERVER_INSTANCEGROUPKIND_CPU)
        return fail(TRITONSERVER_ERROR_UNSUPPORTED, "instance_group: kind must be KIND_CPU or KIND_GPU");
    TRY(allocate(state));

    const model_config *config = &state->model->config;
    det_context_options options;
    det_context_options_init(&options);
    options.device = state->on_gpu ? DET_DEVICE_CUDA : DET_DEVICE_CPU;
    options.device_index = state->on_gpu ? state->device : 0;
    options.precision = config->precision;
    options.width = config->width;
    options.height = config->height;
    options.max_batch = config->max_batch;
    options.n_threads = config->n_threads;
    det_status status = det_context_create(state->model->model, &options, &state->context);
    if (status == DET_OK)
        status = det_context_set_thresholds(state->context, &config->thresholds);
    return status == DET_OK ? TRITONBACKEND_ModelInstanceSetState(instance, state) : fail_with(status);
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance *instance) {
    instance_state *state = calloc(1, sizeof *state);
    if (state == NULL)
        return fail(TRITONSERVER_ERROR_INTERNAL, "out of memory");
    TRITONSERVER_Error *error = open_instance(instance, state);
    if (error != NULL)
        free_instance(state);
    return error;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance *instance) {
    void *state;
    TRY(TRITONBACKEND_ModelInstanceState(instance, &state));
    free_instance(state);
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance *instance,
                                                       TRITONBACKEND_Request **requests, const uint32_t n_requests) {
    void *state;
    TRY(TRITONBACKEND_ModelInstanceState(instance, &state));
    return execute(state, requests, n_requests);
}
