#include "module.h"
#include "plan.h"

#include <dlfcn.h>
#include <string.h>

#define CUDA_MODULE "libdetect_cuda.so.0"

static det_status fail_text(det_status status, const char *message) {
    return det_fail(status, "%s", message);
}

static void fail_prefix_text(const char *prefix) {
    det_fail_prefix("%s", prefix);
}

static void log_text(int level, const char *message) {
    det_log(level, "%s", message);
}

static const det_core core = {
    .fail = fail_text,
    .fail_prefix = fail_prefix_text,
    .last_error = det_last_error,
    .log_wanted = det_log_wanted,
    .log = log_text,
    .alloc = det_alloc,
    .alloc_array = det_alloc_array,
    .free = det_free,
    .run_step = det_plan_run_step,
};

static det_status find_cuda(const det_backend **backend) {
    void *module = det_module_open(CUDA_MODULE); /* stays open: the loader counts, and its code may be in use */
    if (!module)
        return DET_ERROR_NO_DEVICE;
    det_cuda_entry_fn entry;
    void *symbol = dlsym(module, DET_CUDA_ENTRY);
    memcpy(&entry, &symbol, sizeof entry);
    *backend = symbol ? entry(DET_BACKEND_ABI, &core) : NULL;
    if (!*backend)
        DET_FAIL(DET_ERROR_NO_DEVICE, "%s is not of this version of libdetect", CUDA_MODULE);
    return DET_OK;
}

det_status det_backend_find(int32_t device, const det_backend **backend) {
    switch (device) {
    case DET_DEVICE_CPU:
        *backend = &det_cpu_backend;
        return DET_OK;
    case DET_DEVICE_CUDA:
        return find_cuda(backend);
    default:
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "device %d is none of DET_DEVICE_*", device);
    }
}
