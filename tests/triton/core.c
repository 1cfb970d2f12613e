#include "core.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

core_state core = {.api_major = 1, .fail_response_after = -1};

TRITONSERVER_Error *TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char *message) {
    TRITONSERVER_Error *error = calloc(1, sizeof *error);
    if (error == NULL)
        abort();
    error->code = code;
    snprintf(error->message, sizeof error->message, "%s", message);
    __atomic_add_fetch(&core.n_errors, 1, __ATOMIC_RELAXED);
    return error;
}

void TRITONSERVER_ErrorDelete(TRITONSERVER_Error *error) {
    free(error);
    __atomic_sub_fetch(&core.n_errors, 1, __ATOMIC_RELAXED);
}

const char *TRITONSERVER_ErrorMessage(TRITONSERVER_Error *error) {
    return error->message;
}

TRITONSERVER_Error *TRITONSERVER_LogMessage(TRITONSERVER_LogLevel level, const char *file, const int line,
                                            const char *message) {
    (void)level;
    fprintf(stderr, "%s:%d: %s\n", file, line, message);
    core.n_logged++;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ApiVersion(uint32_t *major, uint32_t *minor) {
    *major = core.api_major;
    *minor = 19;
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ models, instances */

TRITONSERVER_Error *TRITONBACKEND_ModelConfig(TRITONBACKEND_Model *model, const uint32_t version,
                                              TRITONSERVER_Message **config) {
    if (version != 1 || model->config == NULL)
        return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_UNSUPPORTED, "no configuration");
    *config = calloc(1, sizeof **config);
    if (*config == NULL)
        abort();
    (*config)->json = model->config;
    core.n_messages++;
    return NULL;
}

TRITONSERVER_Error *TRITONSERVER_MessageSerializeToJson(TRITONSERVER_Message *message, const char **json,
                                                        size_t *n_bytes) {
    *json = message->json;
    *n_bytes = strlen(message->json);
    return NULL;
}

TRITONSERVER_Error *TRITONSERVER_MessageDelete(TRITONSERVER_Message *message) {
    free(message);
    core.n_messages--;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelVersion(TRITONBACKEND_Model *model, uint64_t *version) {
    *version = model->version;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelRepository(TRITONBACKEND_Model *model, TRITONBACKEND_ArtifactType *type,
                                                  const char **location) {
    *type = TRITONBACKEND_ARTIFACT_FILESYSTEM;
    *location = model->repository;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelState(TRITONBACKEND_Model *model, void **state) {
    *state = model->state;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelSetState(TRITONBACKEND_Model *model, void *state) {
    model->state = state;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceKind(TRITONBACKEND_ModelInstance *instance,
                                                    TRITONSERVER_InstanceGroupKind *kind) {
    *kind = instance->kind;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceDeviceId(TRITONBACKEND_ModelInstance *instance, int32_t *id) {
    *id = instance->kind == TRITONSERVER_INSTANCEGROUPKIND_GPU ? 99 : 0; /* a GPU that no machine has */
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance *instance,
                                                     TRITONBACKEND_Model **model) {
    *model = instance->model;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance *instance, void **state) {
    *state = instance->state;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceSetState(TRITONBACKEND_ModelInstance *instance, void *state) {
    instance->state = state;
    return NULL;
}

/* Times must rise, and a request may not be gone yet. */
TRITONSERVER_Error *TRITONBACKEND_ModelInstanceReportStatistics(TRITONBACKEND_ModelInstance *instance,
                                                                TRITONBACKEND_Request *request, const bool success,
                                                                const uint64_t begin, const uint64_t compute_begin,
                                                                const uint64_t compute_end, const uint64_t end) {
    if (begin == 0 || compute_begin < begin || compute_end < compute_begin || end < compute_end ||
        request->n_released != 0 || success == request->failed)
        return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG, "wrong statistics");
    instance->n_reports++;
    instance->n_successes += success;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceReportBatchStatistics(TRITONBACKEND_ModelInstance *instance,
                                                                     const uint64_t n_pictures, const uint64_t begin,
                                                                     const uint64_t compute_begin,
                                                                     const uint64_t compute_end, const uint64_t end) {
    if (n_pictures == 0 || begin == 0 || compute_begin < begin || compute_end < compute_begin || end < compute_end)
        return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG, "wrong statistics");
    instance->n_pictures += n_pictures;
    return NULL;
}

/* --------------------------------------------------------------------------------------------- requests, responses */

TRITONSERVER_Error *TRITONBACKEND_RequestInput(TRITONBACKEND_Request *request, const char *name,
                                               TRITONBACKEND_Input **input) {
    if (strcmp(name, request->input_name) != 0)
        return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG, "no such input");
    *input = &request->input;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_InputProperties(TRITONBACKEND_Input *input, const char **name,
                                                  TRITONSERVER_DataType *type, const int64_t **shape, uint32_t *n_dims,
                                                  uint64_t *n_bytes, uint32_t *n_buffers) {
    *name = "IMAGE";
    *type = input->type;
    *shape = input->shape;
    *n_dims = input->n_dims;
    *n_bytes = input->n_bytes;
    *n_buffers = input->n_pieces;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_InputBuffer(TRITONBACKEND_Input *input, const uint32_t index, const void **buffer,
                                              uint64_t *n_bytes, TRITONSERVER_MemoryType *memory, int64_t *device) {
    if (index >= input->n_pieces)
        return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG, "no such buffer");
    *buffer = input->pieces[index];
    *n_bytes = input->piece_bytes[index];
    *memory = input->memory;
    *device = 0;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_RequestOutputCount(TRITONBACKEND_Request *request, uint32_t *n) {
    *n = request->n_outputs;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_RequestOutputName(TRITONBACKEND_Request *request, const uint32_t index,
                                                    const char **name) {
    *name = request->outputs[index];
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_RequestRelease(TRITONBACKEND_Request *request, uint32_t flags) {
    request->n_released += flags == TRITONSERVER_REQUEST_RELEASE_ALL;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ResponseNew(TRITONBACKEND_Response **response, TRITONBACKEND_Request *request) {
    if (core.fail_response_after == 0)
        return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_UNAVAILABLE, "no more responses");
    if (core.fail_response_after > 0)
        core.fail_response_after--;
    *response = &request->response;
    (*response)->request = request;
    request->n_created++;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ResponseDelete(TRITONBACKEND_Response *response) {
    response->request->n_deleted++;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response *response, TRITONBACKEND_Output **output,
                                                 const char *name, const TRITONSERVER_DataType type,
                                                 const int64_t *shape, const uint32_t n_dims) {
    if (response->n_outputs == CORE_MAX_OUTPUTS || n_dims > 4)
        return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG, "too many outputs");
    *output = &response->outputs[response->n_outputs++];
    **output = (TRITONBACKEND_Output){.name = name, .type = type, .n_dims = n_dims};
    memcpy((*output)->shape, shape, n_dims * sizeof *shape);
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output *output, void **buffer, const uint64_t n_bytes,
                                               TRITONSERVER_MemoryType *memory, int64_t *device) {
    *memory = core.gpu_outputs ? TRITONSERVER_MEMORY_GPU : TRITONSERVER_MEMORY_CPU;
    *device = 0;
    output->buffer = malloc(n_bytes);
    if (output->buffer == NULL)
        abort();
    output->n_bytes = n_bytes;
    *buffer = core.gpu_outputs ? NULL : output->buffer;
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ResponseSend(TRITONBACKEND_Response *response, const uint32_t flags,
                                               TRITONSERVER_Error *error) {
    TRITONBACKEND_Request *request = response->request;
    request->n_sent += flags == TRITONSERVER_RESPONSE_COMPLETE_FINAL;
    request->failed = error != NULL;
    snprintf(request->error, sizeof request->error, "%s", error != NULL ? error->message : "");
    return NULL;
}

void core_free_outputs(TRITONBACKEND_Request *request) {
    for (uint32_t i = 0; i < request->response.n_outputs; i++)
        free(request->response.outputs[i].buffer);
    request->response.n_outputs = 0;
}
