/* The module's door: errors, log and memory of lib/status.h, as the libdetect that opened this module has them. */
#include "cuda.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024 };

static const det_core *_Atomic core; /* set before anything else runs, and again to the same for every context */

#define FORMAT(message, format)                                                                                        \
    char message[MESSAGE_BYTES];                                                                                       \
    va_list arguments;                                                                                                 \
    va_start(arguments, format);                                                                                       \
    vsnprintf(message, sizeof message, format, arguments);                                                             \
    va_end(arguments)

det_status det_fail(det_status status, const char *format, ...) {
    FORMAT(message, format);
    return core->fail(status, message);
}

void det_fail_prefix(const char *format, ...) {
    FORMAT(message, format);
    core->fail_prefix(message);
}

const char *det_last_error(void) {
    return core->last_error();
}

bool det_log_wanted(int level) {
    return core->log_wanted(level);
}

void det_log(int level, const char *format, ...) {
    if (!core->log_wanted(level))
        return;
    FORMAT(message, format);
    core->log(level, message);
}

void *det_alloc(size_t n_bytes) {
    return core->alloc(n_bytes);
}

void *det_alloc_array(size_t n, size_t element_bytes) {
    return core->alloc_array(n, element_bytes);
}

void det_free(void *pointer) {
    core->free(pointer);
}

det_status det_cuda_run_step(det_plan *plan, int step, const det_frame *frame, det_stream stream) {
    return core->run_step(plan, step, frame, stream);
}

const det_backend *det_cuda_backend(int abi, const det_core *lent) {
    if (abi != DET_BACKEND_ABI)
        return NULL;
    core = lent;
    return &det_cuda;
}
