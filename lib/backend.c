#include "plan.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUDA_MODULE "libdetect_cuda.so.0"

/* The module is the file that LIBDETECT_CUDA_MODULE names, or lies beside libdetect, or where the system's loader
 * looks. */
static void *open_module(void) {
    Dl_info self;
    char path[4096];
    const char *named = secure_getenv("LIBDETECT_CUDA_MODULE");
    if (named && *named)
        return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    if (dladdr((const void *)&det_cpu_backend, &self) && self.dli_fname) {
        const char *slash = strrchr(self.dli_fname, '/');
        int n = slash ? (int)(slash - self.dli_fname) : 0;
        if (slash && snprintf(path, sizeof path, "%.*s/%s", n, self.dli_fname, CUDA_MODULE) < (int)sizeof path) {
            void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
            if (module)
                return module;
        }
    }
    return dlopen(CUDA_MODULE, RTLD_NOW | RTLD_LOCAL);
}

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
    void *module = open_module(); /* stays open: the loader counts, and its code may be in use */
    if (!module) {
        const char *reason = dlerror();
        DET_FAIL(DET_ERROR_NO_DEVICE, "the CUDA module cannot be opened: %s", reason ? reason : CUDA_MODULE);
    }
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
