/* A thread's visits to a device: another one may be current there, and threads may be capturing streams. */
#include "cuda.h"

#include <pthread.h>

/* ------------------------------------------------------------------------------------------------- other devices
 *
 * A device that is not the thread's is entered by its primary context, which the driver puts on top of the thread's own.
 * cudaSetDevice would do, but the way back would begin a context on a device that the program may never use. */

static det_status find_function(const char *name, void *function) {
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    enum { CUDA_12 = 12000 };
    CUDA_TRY(cudaGetDriverEntryPointByVersion(name, function, CUDA_12, cudaEnableDefault, &found));
#else
    CUDA_TRY(cudaGetDriverEntryPoint(name, function, cudaEnableDefault, &found));
#endif
    if (found != cudaDriverEntryPointSuccess)
        DET_FAIL(DET_ERROR_DEVICE, "the driver has no %s", name);
    return DET_OK;
}

/* The driver's errors are the runtime's, by number. */
static det_status driver_fail(CUresult error, const char *call, const char *file, int line) {
    return det_cuda_fail((cudaError_t)error, call, file, line);
}
#define DRIVER_TRY(call) DET_LIBRARY_TRY(CUresult, CUDA_SUCCESS, driver_fail, call)

/* The context is never released: what the runtime and the libraries keep in it lives as long as the process. */
static det_status find_way(det_device *device, CUcontext *primary) {
    CUresult (*cuDeviceGet)(CUdevice *, int);
    CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *, CUdevice);
    CUdevice number;
    DET_TRY(find_function("cuDeviceGet", &cuDeviceGet));
    DET_TRY(find_function("cuDevicePrimaryCtxRetain", &cuDevicePrimaryCtxRetain));
    DET_TRY(find_function("cuCtxPushCurrent", &device->push));
    DET_TRY(find_function("cuCtxPopCurrent", &device->pop));
    DRIVER_TRY(cuDeviceGet(&number, device->index));
    DRIVER_TRY(cuDevicePrimaryCtxRetain(primary, number));
    return DET_OK;
}

void det_cuda_find_way(det_device *device, int n_devices) {
    CUcontext primary = NULL;
    if (n_devices < 2)
        return;
    if (find_way(device, &primary) == DET_OK)
        device->primary = primary;
    else
        det_log(DET_LOG_DEBUG, "devices are changed by cudaSetDevice: %s", det_last_error());
}

static cudaError_t arrive(const det_device *device, det_visit *visit) {
    visit->call = device->primary ? "cuCtxPushCurrent" : "cudaSetDevice";
    return device->primary ? (cudaError_t)device->push(device->primary) : cudaSetDevice(device->index);
}

static cudaError_t depart(const det_device *device, det_visit *visit) {
    CUcontext ours;
    visit->call = device->primary ? "cuCtxPopCurrent" : "cudaSetDevice";
    return device->primary ? (cudaError_t)device->pop(&ours) : cudaSetDevice(visit->previous);
}

/* ------------------------------------------------------------------------------------------------------- visits */

/* What the thread asks for is its own affair, whatever others capture; without that, CUDA forbids it to wait or to take
 * memory while any of them captures in the default mode, and spoils what is captured. */
static cudaError_t begin(const det_device *device, det_visit *visit) {
    *visit = (det_visit){.mode = cudaStreamCaptureModeThreadLocal, .call = "cudaThreadExchangeStreamCaptureMode"};
    cudaError_t error = cudaThreadExchangeStreamCaptureMode(&visit->mode);
    if (error != cudaSuccess)
        return error;
    visit->in_mode = true;
    visit->call = "cudaGetDevice";
    error = cudaGetDevice(&visit->previous);
    if (error != cudaSuccess || visit->previous == device->index)
        return error;
    error = arrive(device, visit);
    visit->moved = error == cudaSuccess;
    return error;
}

static cudaError_t end(const det_device *device, det_visit *visit) {
    cudaError_t back = visit->moved ? depart(device, visit) : cudaSuccess;
    cudaError_t mode = visit->in_mode ? cudaThreadExchangeStreamCaptureMode(&visit->mode) : cudaSuccess;
    if (back == cudaSuccess && mode != cudaSuccess)
        visit->call = "cudaThreadExchangeStreamCaptureMode";
    return back != cudaSuccess ? back : mode;
}

det_status det_cuda_enter(const det_device *device, det_visit *visit) {
    cudaError_t error = begin(device, visit);
    if (error == cudaSuccess)
        return DET_OK;
    det_status status = det_cuda_fail(error, visit->call, __FILE__, __LINE__);
    det_cuda_ignore(end(device, visit));
    return status;
}

det_status det_cuda_leave(const det_device *device, det_visit *visit, det_status status) {
    cudaError_t error = end(device, visit);
    det_cuda_ignore(error);
    return status == DET_OK && error != cudaSuccess ? det_cuda_fail(error, visit->call, __FILE__, __LINE__) : status;
}

void det_cuda_begin_release(const det_device *device, det_visit *visit) {
    det_cuda_ignore(begin(device, visit));
}

void det_cuda_end_release(const det_device *device, det_visit *visit) {
    det_cuda_ignore(end(device, visit));
}

/* ------------------------------------------------------------------------------------------------------ captures
 *
 * Handles of cuDNN and cublasLt wait for the whole device when they are destroyed, and kernels are unloaded with the plans
 * that were compiled for them. CUDA forbids both while a stream of the device is being captured, by whichever thread, and
 * spoils the capture. So within the library captures keep what is torn down waiting, and the other way round. */

static pthread_rwlock_t captures = PTHREAD_RWLOCK_INITIALIZER;

void det_cuda_begin_capture(void) {
    pthread_rwlock_rdlock(&captures);
}

void det_cuda_end_capture(void) {
    pthread_rwlock_unlock(&captures);
}

void det_cuda_begin_teardown(void) {
    pthread_rwlock_wrlock(&captures);
}

void det_cuda_end_teardown(void) {
    pthread_rwlock_unlock(&captures);
}
