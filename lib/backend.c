#include "backend.h"

#include "module.h"

#include <dlfcn.h>
#include <string.h>

#define CUDA_MODULE "libdetect_cuda.so.0"

static det_status find_cuda(const det_backend **backend) {
    void *module = det_module_open(CUDA_MODULE); /* stays open: the loader counts, and its code may be in use */
    if (!module)
        return DET_ERROR_NO_DEVICE;
    det_cuda_entry_fn entry;
    void *symbol = dlsym(module, DET_CUDA_ENTRY);
    memcpy(&entry, &symbol, sizeof entry);
    *backend = symbol ? entry(DET_BACKEND_ABI) : NULL;
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
