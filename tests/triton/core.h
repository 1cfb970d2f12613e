/* As much of Triton's core as a backend calls, in one process: it keeps count of everything that has to come out even. */
#ifndef TRITON_CORE_H
#define TRITON_CORE_H

#include "triton_api.h"

enum { CORE_MAX_PIECES = 4, CORE_MAX_OUTPUTS = 8 };

struct TRITONSERVER_Error {
    TRITONSERVER_Error_Code code;
    char message[1024];
};

struct TRITONSERVER_Message {
    const char *json;
};

struct TRITONBACKEND_Model {
    const char *config, *repository;
    uint64_t version;
    void *state;
};

struct TRITONBACKEND_ModelInstance {
    TRITONBACKEND_Model *model;
    TRITONSERVER_InstanceGroupKind kind;
    void *state;
    int n_reports, n_successes;
    uint64_t n_pictures;
};

struct TRITONBACKEND_Input {
    TRITONSERVER_DataType type;
    int64_t shape[5];
    uint32_t n_dims, n_pieces;
    const uint8_t *pieces[CORE_MAX_PIECES];
    uint64_t n_bytes, piece_bytes[CORE_MAX_PIECES];
    TRITONSERVER_MemoryType memory;
};

struct TRITONBACKEND_Output {
    const char *name;
    TRITONSERVER_DataType type;
    int64_t shape[4];
    uint32_t n_dims;
    void *buffer;
    uint64_t n_bytes;
};

struct TRITONBACKEND_Response {
    TRITONBACKEND_Request *request;
    TRITONBACKEND_Output outputs[CORE_MAX_OUTPUTS];
    uint32_t n_outputs;
};

struct TRITONBACKEND_Request {
    const char *input_name;
    TRITONBACKEND_Input input;
    const char *outputs[CORE_MAX_OUTPUTS]; /* asked for */
    uint32_t n_outputs;
    TRITONBACKEND_Response response;
    int n_created, n_deleted, n_sent, n_released;
    bool failed;
    char error[1024];
};

/* What is broken on purpose, and what must be 0 at the end. */
typedef struct core_state {
    uint32_t api_major;
    int fail_response_after; /* -1: never; else that many responses can still be made */
    bool gpu_outputs;        /* offers device memory for outputs, whatever is wished */
    int n_errors, n_messages, n_logged;
} core_state;

extern core_state core;

/* Frees what the outputs of a request's response took. */
void core_free_outputs(TRITONBACKEND_Request *request);

#endif
