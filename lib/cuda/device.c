/* Devices: found, opened, described; their memory and their errors. */
#include "../thread.h"
#include "cuda.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ------------------------------------------------------------------------------------------------------- errors */

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static det_status status_of(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation:
        return DET_ERROR_OUT_OF_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorStubLibrary:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNoKernelImageForDevice:
        return DET_ERROR_NO_DEVICE;
    default:
        return DET_ERROR_DEVICE;
    }
}

det_status det_cuda_fail(cudaError_t error, const char *call, const char *file, int line) {
    (void)cudaGetLastError(); /* one that lasts comes back by itself */
    int length = (int)strcspn(call, "(");
    return det_fail(status_of(error), "%.*s -> %s: %s (%s:%d)", length, call, cudaGetErrorName(error),
                    cudaGetErrorString(error), file_name(file), line);
}

det_status det_cudnn_fail(cudnnStatus_t status, const char *call, const char *file, int line) {
    (void)cudaGetLastError(); /* cuDNN and cublasLt leave theirs */
    int length = (int)strcspn(call, "(");
    det_status ours = status == CUDNN_STATUS_ALLOC_FAILED ||
                              status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ||
                              status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED
                          ? DET_ERROR_OUT_OF_MEMORY
                          : DET_ERROR_DEVICE;
    char reason[256] = "";
    cudnnGetLastErrorString(reason, sizeof reason);
    return det_fail(ours, "%.*s -> %s%s%s (%s:%d)", length, call, cudnnGetErrorString(status), reason[0] ? ": " : "",
                    reason, file_name(file), line);
}

det_status det_cublas_fail(cublasStatus_t status, const char *call, const char *file, int line) {
    (void)cudaGetLastError();
    int length = (int)strcspn(call, "(");
    det_status ours = status == CUBLAS_STATUS_ALLOC_FAILED ? DET_ERROR_OUT_OF_MEMORY : DET_ERROR_DEVICE;
    return det_fail(ours, "%.*s -> %s (%s:%d)", length, call, cublasLtGetStatusName(status), file_name(file), line);
}

/* ------------------------------------------------------------------------------------------------------- device */

/* A question that only a broken device fails, asked so that it does not spoil what the thread may be capturing. */
cudaError_t det_cuda_lasting_error(const det_device *device) {
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    det_cuda_ignore(cudaThreadExchangeStreamCaptureMode(&mode));
    cudaError_t error = cudaStreamQuery(device->stream);
    det_cuda_ignore(error);
    det_cuda_ignore(cudaThreadExchangeStreamCaptureMode(&mode));
    return error == cudaErrorNotReady ? cudaSuccess : error;
}

/* "GPU-8a3f0c2e-...", or "MIG-..." of an instance of a GPU. */
static bool is_uuid(const cudaUUID_t *uuid, const char *wanted) {
    enum { PREFIX = 4 };
    char text[48];
    int n = 0;
    for (int i = 0; i < 16; i++) {
        bool dash = i == 4 || i == 6 || i == 8 || i == 10;
        n += snprintf(text + n, sizeof text - (size_t)n, dash ? "-%02x" : "%02x", (unsigned char)uuid->bytes[i]);
    }
    return (!strncasecmp(wanted, "GPU-", PREFIX) || !strncasecmp(wanted, "MIG-", PREFIX)) &&
           !strcasecmp(wanted + PREFIX, text);
}

static det_status find_uuid(const char *wanted, int n_devices, int *index) {
    for (int i = 0; i < n_devices; i++) {
        struct cudaDeviceProp properties;
        CUDA_TRY(cudaGetDeviceProperties(&properties, i));
        if (is_uuid(&properties.uuid, wanted)) {
            *index = i;
            return DET_OK;
        }
    }
    DET_FAIL(DET_ERROR_NO_DEVICE, "none of the %d CUDA device%s has the UUID %s", n_devices, n_devices == 1 ? "" : "s",
             wanted);
}

enum { LEAST_MAJOR = 8 }; /* what the module is built for, at the least */

static det_status find_device(det_context_options *options, struct cudaDeviceProp *properties, int *count) {
    int n_devices = 0, driver = 0;
    CUDA_TRY(cudaDriverGetVersion(&driver));
    if (driver == 0)
        DET_FAIL(DET_ERROR_NO_DEVICE, "there is no NVIDIA driver on this machine");
    CUDA_TRY(cudaGetDeviceCount(&n_devices));
    if (n_devices == 0)
        DET_FAIL(DET_ERROR_NO_DEVICE, "there is no CUDA device");
    if (options->device_uuid)
        DET_TRY(find_uuid(options->device_uuid, n_devices, &options->device_index));
    if (options->device_index >= n_devices)
        DET_FAIL(DET_ERROR_NO_DEVICE, "device_index is %d; there %s %d CUDA device%s", options->device_index,
                 n_devices == 1 ? "is" : "are", n_devices, n_devices == 1 ? "" : "s");
    CUDA_TRY(cudaGetDeviceProperties(properties, options->device_index));
    if (properties->major < LEAST_MAJOR)
        DET_FAIL(DET_ERROR_NO_DEVICE, "%s has compute capability %d.%d; %d.0 is the least", properties->name,
                 properties->major, properties->minor, LEAST_MAJOR);
    if (options->precision == DET_PRECISION_AUTO)
        options->precision = DET_FP16;
    *count = n_devices;
    return DET_OK;
}

static det_status make_handles(det_device *device) {
    CUDA_TRY(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking));
    CUDNN_TRY(cudnnCreate(&device->cudnn));
    CUDNN_TRY(cudnnSetStream(device->cudnn, device->stream));
    CUBLAS_TRY(cublasLtCreate(&device->lt));
    return DET_OK;
}

static det_status open_libraries(det_device *device) {
    det_visit visit;
    DET_TRY(det_cuda_enter(device, &visit));
    return det_cuda_leave(device, &visit, make_handles(device));
}

static void close_cuda(det_device *device) {
    if (!device)
        return;
    det_visit visit;
    det_cuda_begin_release(device, &visit);
    det_runner_close(device);
    det_cuda_store_close(device);
    det_cuda_begin_teardown();
    if (device->lt)
        cublasLtDestroy(device->lt);
    if (device->cudnn)
        cudnnDestroy(device->cudnn);
    det_cuda_end_teardown();
    if (device->stream)
        det_cuda_ignore(cudaStreamDestroy(device->stream));
    det_cuda_end_release(device, &visit);
    det_free(device);
}

static det_status open_cuda(det_context_options *options, det_device **out) {
    struct cudaDeviceProp properties;
    int n_devices = 0;
    DET_TRY(find_device(options, &properties, &n_devices));
    det_device *device = det_alloc_array(1, sizeof *device);
    if (!device)
        return DET_ERROR_OUT_OF_MEMORY;
    device->n_threads = options->n_threads ? options->n_threads : det_thread_cores();
    options->n_threads = 1; /* of runs */
    device->index = options->device_index;
    device->precision = options->precision;
    device->type = options->precision == DET_FP16   ? DET_TYPE_F16
                   : options->precision == DET_BF16 ? DET_TYPE_BF16
                                                    : DET_TYPE_F32;
    device->tune = options->flags & DET_CONTEXT_TUNE;
    device->no_graph = options->flags & (DET_CONTEXT_NO_GRAPH | DET_CONTEXT_PROFILE_LAYERS);
    device->max_image_bytes = options->max_image_bytes;
    snprintf(device->name, sizeof device->name, "%.100s", properties.name);
    det_cuda_find_way(device, n_devices);
    det_status status = open_libraries(device);
    if (status != DET_OK) {
        close_cuda(device);
        return status;
    }
    *out = device;
    return DET_OK;
}

static const char *cuda_name(const det_device *device) {
    return device->name;
}

static det_layout cuda_layout(const det_device *device) {
    return (det_layout){.element_bytes = det_type_bytes(device->type),
                        .channel_multiple = det_type_vector(device->type),
                        .views = true};
}

/* ------------------------------------------------------------------------------------------------------- memory */

det_status det_cuda_allocate(det_device *device, size_t n_bytes, void **memory) {
    det_visit visit;
    *memory = NULL;
    DET_TRY(det_cuda_enter(device, &visit));
    cudaError_t error = cudaMalloc(memory, n_bytes ? n_bytes : 1);
    det_status status = DET_OK;
    if (error != cudaSuccess) {
        *memory = NULL;
        status = det_cuda_fail(error, "cudaMalloc", __FILE__, __LINE__);
        det_fail_prefix("%zu bytes on %s", n_bytes, device->name);
    }
    status = det_cuda_leave(device, &visit, status);
    if (status != DET_OK) {
        det_cuda_release(device, *memory);
        *memory = NULL;
    }
    return status;
}

void det_cuda_release(det_device *device, void *memory) {
    if (!memory)
        return;
    det_visit visit;
    det_cuda_begin_release(device, &visit);
    det_cuda_begin_teardown();
    det_cuda_ignore(cudaFree(memory));
    det_cuda_end_teardown();
    det_cuda_end_release(device, &visit);
}

void det_cuda_release_pinned(det_device *device, void *memory) {
    if (!memory)
        return;
    det_visit visit;
    det_cuda_begin_release(device, &visit);
    det_cuda_begin_teardown();
    det_cuda_ignore(cudaFreeHost(memory));
    det_cuda_end_teardown();
    det_cuda_end_release(device, &visit);
}

static det_status allocate_pinned(det_device *device, size_t n_bytes, void **memory) {
    det_visit visit;
    *memory = NULL;
    DET_TRY(det_cuda_enter(device, &visit));
    cudaError_t error = cudaHostAlloc(memory, n_bytes, cudaHostAllocPortable);
    det_status status = DET_OK;
    if (error != cudaSuccess) {
        *memory = NULL;
        status = det_cuda_fail(error, "cudaHostAlloc", __FILE__, __LINE__);
        det_fail_prefix("%zu bytes of pinned memory", n_bytes);
    }
    status = det_cuda_leave(device, &visit, status);
    if (status != DET_OK) {
        det_cuda_release_pinned(device, *memory);
        *memory = NULL;
    }
    return status;
}

/* ------------------------------------------------------------------------------------------------ for the tests */

static det_status copy_here(det_device *device, void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind) {
    CUDA_TRY(cudaMemcpyAsync(to, from, n_bytes, kind, device->stream));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    return DET_OK;
}

static det_status copy(det_device *device, void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind) {
    det_visit visit;
    DET_TRY(det_cuda_enter(device, &visit));
    return det_cuda_leave(device, &visit, copy_here(device, to, from, n_bytes, kind));
}

static det_status read_cuda(det_device *device, const void *data, size_t n_bytes, void *bytes) {
    return copy(device, bytes, data, n_bytes, cudaMemcpyDeviceToHost);
}

static det_status write_cuda(det_device *device, void *data, size_t n_bytes, const void *bytes) {
    return copy(device, data, bytes, n_bytes, cudaMemcpyHostToDevice);
}

static det_status convert_here(det_device *device, det_type from, det_view x, det_type to, det_view y) {
    CUDA_TRY(det_launch_convert(from, x, to, y, device->stream));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    return DET_OK;
}

static det_status convert(det_device *device, det_type from, det_view x, det_type to, det_view y) {
    det_visit visit;
    DET_TRY(det_cuda_enter(device, &visit));
    return det_cuda_leave(device, &visit, convert_here(device, from, x, to, y));
}

/* A dense float copy on the device, converted from or to the tensor. */
static det_status get_cuda(det_device *device, const void *data, det_shape s, int stride, float *values) {
    size_t n_bytes = (size_t)det_shape_values(s) * sizeof(float);
    void *dense;
    DET_TRY(det_cuda_allocate(device, n_bytes, &dense));
    det_view there = {(void *)(uintptr_t)data, s.n, s.h, s.w, s.c, stride}, here = {dense, s.n, s.h, s.w, s.c, s.c};
    det_status status = convert(device, device->type, there, DET_TYPE_F32, here);
    if (status == DET_OK)
        status = read_cuda(device, dense, n_bytes, values);
    det_cuda_release(device, dense);
    return status;
}

static det_status set_padded(det_device *device, det_view there, const float *values) {
    det_view here = there;
    here.stride = there.c;
    size_t n_bytes = (size_t)there.n * there.h * there.w * there.c * sizeof(float);
    DET_TRY(det_cuda_allocate(device, n_bytes, &here.data));
    det_status status = write_cuda(device, here.data, n_bytes, values);
    if (status == DET_OK)
        status = convert(device, DET_TYPE_F32, here, device->type, there);
    det_cuda_release(device, here.data);
    return status;
}

/* Behind the last channel comes zero. */
static det_status set_cuda(det_device *device, void *data, det_shape s, int stride, const float *values) {
    size_t n_pixels = (size_t)s.n * s.h * s.w;
    int c = DET_MIN(det_padded(device->type, s.c), stride);
    float *padded = det_alloc_array(n_pixels * (size_t)c, sizeof *padded);
    if (!padded)
        return DET_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < n_pixels; i++)
        memcpy(padded + i * c, values + i * s.c, (size_t)s.c * sizeof *padded);
    det_status status = set_padded(device, (det_view){data, s.n, s.h, s.w, c, stride}, padded);
    det_free(padded);
    return status;
}

static const det_kernel *const kernels[DET_N_OPS] = {
#define DET_OP(id, name) [DET_OP_##id] = &det_cuda_##name,
#include "../ops.def"
#undef DET_OP
};

const det_backend det_cuda = {
    .name = "CUDA",
    .device_type = DET_DEVICE_CUDA,
    .open = open_cuda,
    .close = close_cuda,
    .device_name = cuda_name,
    .layout = cuda_layout,
    .allocate = det_cuda_allocate,
    .release = det_cuda_release,
    .run = det_runner_run,
    .warm = det_cuda_warm,
    .finish = det_runner_open,
    .times = det_runner_times,
    .run_steps = det_runner_run_steps,
    .get = get_cuda,
    .set = set_cuda,
    .read = read_cuda,
    .write = write_cuda,
    .kernels = kernels,
    .allocate_pinned = allocate_pinned,
    .release_pinned = det_cuda_release_pinned,
};
