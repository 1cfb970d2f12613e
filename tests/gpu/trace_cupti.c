/* The trace on a real device, by CUPTI's callbacks for every call of the driver and of any runtime, whoever makes it. */
#include "trace.h"

#include <cupti.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

static atomic_llong n_allocations, n_device_waits, n_on_default_stream, n_calls;
static CUpti_SubscriberHandle subscriber;

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Names begin so: versions come behind, and what later releases add. */
static const char *const allocations[] = {
    "cuMemAlloc",      "cuMemFree",        "cuMemHostAlloc", "cuMemHostRegister", "cuMemCreate",    "cuMemRelease",
    "cuMemPoolCreate", "cuMemPoolDestroy", "cuArrayCreate",  "cuArray3DCreate",   "cuArrayDestroy", "cuMipmappedArray",
    "cudaMalloc",      "cudaFree",         "cudaHostAlloc",  "cudaHostRegister",
};
static const char *const device_waits[] = {"cuCtxSynchronize", "cudaDeviceSynchronize", "cudaThreadSynchronize"};
enum { NO_STREAM = -1 };

/* Where the stream is among the parameters of the calls that put work into one; those without it are for the default one. */
static const struct {
    CUpti_CallbackDomain domain;
    CUpti_CallbackId id;
    int offset;
} work[] = {
#define DRIVER(name)                                                                                                   \
    { CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_##name, (int)offsetof(name##_params, hStream) }
#define RUNTIME(name)                                                                                                  \
    { CUPTI_CB_DOMAIN_RUNTIME_API, CUPTI_RUNTIME_TRACE_CBID_##name, (int)offsetof(name##_params, stream) }
    DRIVER(cuLaunchKernel),
    DRIVER(cuGraphLaunch),
    DRIVER(cuMemcpyAsync),
    DRIVER(cuMemcpyHtoDAsync_v2),
    DRIVER(cuMemcpyDtoHAsync_v2),
    DRIVER(cuMemsetD8Async),
    DRIVER(cuMemsetD32Async),
    RUNTIME(cudaLaunchKernel_v7000),
    RUNTIME(cudaGraphLaunch_v10000),
    RUNTIME(cudaMemcpyAsync_v3020),
    RUNTIME(cudaMemsetAsync_v3020),
    {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuMemcpyHtoD_v2, NO_STREAM},
    {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuMemcpyDtoH_v2, NO_STREAM},
    {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuMemsetD8_v2, NO_STREAM},
    {CUPTI_CB_DOMAIN_RUNTIME_API, CUPTI_RUNTIME_TRACE_CBID_cudaMemcpy_v3020, NO_STREAM},
    {CUPTI_CB_DOMAIN_RUNTIME_API, CUPTI_RUNTIME_TRACE_CBID_cudaMemset_v3020, NO_STREAM},
};

static bool begins_with_one(const char *name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!strncmp(name, list[i], strlen(list[i])))
            return true;
    }
    return false;
}

static bool is_default(CUstream stream) {
    return !stream || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

static bool is_on_default_stream(CUpti_CallbackDomain domain, CUpti_CallbackId id, const void *parameters) {
    if (domain == CUPTI_CB_DOMAIN_DRIVER_API && id == CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx)
        return is_default(((const cuLaunchKernelEx_params *)parameters)->config->hStream);
    for (size_t i = 0; i < COUNT(work); i++) {
        if (work[i].domain == domain && work[i].id == id)
            return work[i].offset == NO_STREAM ||
                   is_default(*(const CUstream *)(const void *)((const char *)parameters + work[i].offset));
    }
    return false;
}

static void on_call(void *user, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void *info) {
    const CUpti_CallbackData *call = info;
    (void)user;
    if (call->callbackSite != CUPTI_API_ENTER)
        return;
    atomic_fetch_add(&n_calls, 1);
    if (begins_with_one(call->functionName, allocations, COUNT(allocations)))
        atomic_fetch_add(&n_allocations, 1);
    if (begins_with_one(call->functionName, device_waits, COUNT(device_waits)))
        atomic_fetch_add(&n_device_waits, 1);
    if (is_on_default_stream(domain, id, call->functionParams))
        atomic_fetch_add(&n_on_default_stream, 1);
}

bool gpu_trace_start(void) {
    atomic_store(&n_allocations, 0);
    atomic_store(&n_device_waits, 0);
    atomic_store(&n_on_default_stream, 0);
    atomic_store(&n_calls, 0);
    return cuptiSubscribe(&subscriber, (CUpti_CallbackFunc)on_call, NULL) == CUPTI_SUCCESS &&
           cuptiEnableDomain(1, subscriber, CUPTI_CB_DOMAIN_DRIVER_API) == CUPTI_SUCCESS &&
           cuptiEnableDomain(1, subscriber, CUPTI_CB_DOMAIN_RUNTIME_API) == CUPTI_SUCCESS;
}

gpu_trace gpu_trace_stop(void) {
    cuptiUnsubscribe(subscriber);
    return (gpu_trace){atomic_load(&n_allocations), atomic_load(&n_device_waits), atomic_load(&n_on_default_stream),
                       atomic_load(&n_calls)};
}
