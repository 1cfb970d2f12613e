/* A Triton backend that runs libdetect's models. README.md describes its tensors. */
#ifndef TRITON_BACKEND_H
#define TRITON_BACKEND_H

#include "triton_api.h"

#include <libdetect/detect.h>

/* What config.pbtxt says, as far as it matters here. */
typedef struct model_config {
    char *model_path;    /* owned */
    int32_t max_batch;   /* pictures in a run, at least 1 */
    bool batched;        /* tensors begin with a batch dimension: max_batch_size is not 0 */
    int32_t max_objects; /* 0: the model's own */
    int32_t n_threads, width, height, precision;
    det_thresholds thresholds;
} model_config;

typedef struct model_state {
    model_config config;
    det_model *model;
    det_model_info info;
    int32_t max_objects;
} model_state;

typedef struct instance_state {
    TRITONBACKEND_ModelInstance *instance;
    const model_state *model;
    det_context *context;
    bool on_gpu;
    int32_t device;
    /* For one run: max_batch of each, max_objects rows. */
    det_image *images;
    det_object *objects;
    int32_t *counts;
} instance_state;

/* Success, or an error made from a format. */
TRITONSERVER_Error *fail(TRITONSERVER_Error_Code code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* From det_last_error. */
TRITONSERVER_Error *fail_with(det_status status);

/* config.c: reads the model's configuration. The caller frees it, after a failure, too. */
TRITONSERVER_Error *config_read(TRITONBACKEND_Model *model, model_config *config);
void config_free(model_config *config);

/* execute.c */
TRITONSERVER_Error *execute(instance_state *state, TRITONBACKEND_Request **requests, uint32_t n_requests);

/* Returns from the calling function with what it is given unless that is success. */
#define TRY(expression)                                                                                                \
    do {                                                                                                               \
        TRITONSERVER_Error *try_error = (expression);                                                                  \
        if (try_error != NULL)                                                                                         \
            return try_error;                                                                                          \
    } while (0)

#endif
