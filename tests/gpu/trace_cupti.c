/* The trace on a real device, by CUPTI's callbacks for every call of the driver, whoever makes it. */
#include "trace.h"

#include <cupti.h>
#include <stdatomic.h>

static atomic_llong n_allocations, n_device_waits, n_calls;
static CUpti_SubscriberHandle subscriber;

static void on_call(void *user, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void *info) {
    const CUpti_CallbackData *call = info;
    (void)user;
    if (domain != CUPTI_CB_DOMAIN_DRIVER_API || call->callbackSite != CUPTI_API_ENTER)
        return;
    atomic_fetch_add(&n_calls, 1);
    switch (id) {
    case CUPTI_DRIVER_TRACE_CBID_cuMemAlloc_v2:
    case CUPTI_DRIVER_TRACE_CBID_cuMemAllocPitch_v2:
    case CUPTI_DRIVER_TRACE_CBID_cuMemAllocManaged:
    case CUPTI_DRIVER_TRACE_CBID_cuMemAllocAsync:
    case CUPTI_DRIVER_TRACE_CBID_cuMemAllocHost_v2:
    case CUPTI_DRIVER_TRACE_CBID_cuMemHostAlloc:
    case CUPTI_DRIVER_TRACE_CBID_cuMemCreate:
    case CUPTI_DRIVER_TRACE_CBID_cuMemFree_v2:
    case CUPTI_DRIVER_TRACE_CBID_cuMemFreeAsync:
    case CUPTI_DRIVER_TRACE_CBID_cuMemFreeHost:
        atomic_fetch_add(&n_allocations, 1);
        break;
    case CUPTI_DRIVER_TRACE_CBID_cuCtxSynchronize:
        atomic_fetch_add(&n_device_waits, 1);
        break;
    default:
        break;
    }
}

bool gpu_trace_start(void) {
    atomic_store(&n_allocations, 0);
    atomic_store(&n_device_waits, 0);
    atomic_store(&n_calls, 0);
    return cuptiSubscribe(&subscriber, (CUpti_CallbackFunc)on_call, NULL) == CUPTI_SUCCESS &&
           cuptiEnableDomain(1, subscriber, CUPTI_CB_DOMAIN_DRIVER_API) == CUPTI_SUCCESS;
}

gpu_trace gpu_trace_stop(void) {
    cuptiUnsubscribe(subscriber);
    return (gpu_trace){atomic_load(&n_allocations), atomic_load(&n_device_waits), atomic_load(&n_calls)};
}
