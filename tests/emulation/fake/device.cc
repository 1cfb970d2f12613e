/* Devices and their properties: an H200, as many as the environment says. */
#include "fake.h"

#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fake {
namespace {

thread_local int device_of_thread = 0; /* as the runtime has it */
thread_local std::vector<int> pushed;  /* by the driver: the last is current */
bool begun[64];                        /* devices with a primary context */
char primaries[64];                    /* whose addresses stand for them */

/* What the chip has, under the names that attributes use. */
enum {
    MAJOR = 9,
    MINOR = 0,
    MULTIPROCESSORS = 132,
    SHARED_BYTES = 48 << 10,
    SHARED_OPTIN_BYTES = 227 << 10,
    SHARED_MULTIPROCESSOR_BYTES = 228 << 10,
    L2_BYTES = 60 << 20,
    REGISTERS = 65536,
    THREADS = 1024,
    THREADS_MULTIPROCESSOR = 2048,
    BLOCKS_MULTIPROCESSOR = 32,
    WARP = 32,
    DRIVER_VERSION = 13000,
};

} // namespace

int current_device() {
    return pushed.empty() ? device_of_thread : pushed.back();
}

int n_devices() {
    const char *text = getenv("DET_FAKE_CUDA_DEVICES"); /* read at every call: a test may change it */
    return text ? atoi(text) : 1;
}

} // namespace fake

using namespace fake;

cudaError_t cudaGetDeviceCount(int *count) {
    RUNTIME_CALL(ANY);
    if (!count)
        return call.done(cudaErrorInvalidValue);
    *count = n_devices() < 0 ? 0 : n_devices();
    if (n_devices() < 0) /* -1: no driver */
        return call.done(cudaErrorInsufficientDriver);
    return call.done(*count ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    RUNTIME_CALL(ANY);
    if (device < 0 || device >= n_devices())
        return call.done(cudaErrorInvalidDevice);
    device_of_thread = device;
    if (!pushed.empty())
        pushed.back() = device;
    begun[device] = true;
    return call.done(cudaSuccess);
}

cudaError_t cudaGetDevice(int *device) {
    RUNTIME_CALL(ANY);
    *device = current_device();
    return call.done(cudaSuccess);
}

int fake_cuda_begun(int device) {
    Call call(__func__, Library::runtime, NO_DEVICE);
    return begun[device];
}

/* -------------------------------------------------------------------------------------------- the driver's functions */

namespace {

#define DRIVER_CALL(name)                                                                                              \
    Call call(name, Library::runtime, ANY);                                                                            \
    if (call.planned)                                                                                                  \
    return (CUresult)call.planned

CUresult device_get(CUdevice *device, int ordinal) {
    DRIVER_CALL("cuDeviceGet");
    *device = ordinal;
    return ordinal < n_devices() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult retain(CUcontext *context, CUdevice device) {
    DRIVER_CALL("cuDevicePrimaryCtxRetain");
    begun[device] = true;
    *context = (CUcontext)(void *)&primaries[device];
    return CUDA_SUCCESS;
}

CUresult push(CUcontext context) {
    DRIVER_CALL("cuCtxPushCurrent");
    pushed.push_back((int)((char *)(void *)context - primaries));
    return CUDA_SUCCESS;
}

CUresult pop(CUcontext *context) {
    DRIVER_CALL("cuCtxPopCurrent");
    if (pushed.empty()) {
        violation("cuCtxPopCurrent: nothing was pushed");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *context = (CUcontext)(void *)&primaries[pushed.back()];
    pushed.pop_back();
    return CUDA_SUCCESS;
}

const struct {
    const char *name;
    void *function;
} driver_functions[] = {{"cuDeviceGet", (void *)device_get},
                        {"cuDevicePrimaryCtxRetain", (void *)retain},
                        {"cuCtxPushCurrent", (void *)push},
                        {"cuCtxPopCurrent", (void *)pop}};

cudaError_t entry_point(Call &call, const char *name, void **function, cudaDriverEntryPointQueryResult *found) {
    *function = nullptr;
    *found = cudaDriverEntryPointSymbolNotFound;
    for (auto &row : driver_functions) {
        if (!strcmp(row.name, name)) {
            *function = row.function;
            *found = cudaDriverEntryPointSuccess;
        }
    }
    return call.done(cudaSuccess);
}

} // namespace

#if CUDART_VERSION >= 12050
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *found) {
    RUNTIME_CALL(ANY);
    return entry_point(call, name, function, found);
}
#else
cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long,
                                    cudaDriverEntryPointQueryResult *found) {
    RUNTIME_CALL(ANY);
    return entry_point(call, name, function, found);
}
#endif

cudaError_t cudaDriverGetVersion(int *version) {
    RUNTIME_CALL(ANY);
    *version = n_devices() < 0 ? 0 : DRIVER_VERSION; /* 0: there is none */
    return call.done(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    RUNTIME_CALL(ANY);
    *version = CUDART_VERSION;
    return call.done(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    RUNTIME_CALL(ANY);
    if (!p || device < 0 || device >= n_devices())
        return call.done(p ? cudaErrorInvalidDevice : cudaErrorInvalidValue);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "Emulated H200");
    for (int i = 0; i < 16; i++)
        p->uuid.bytes[i] = (char)(0x10 * device + i);
    p->totalGlobalMem = 143771ull << 20;
    p->sharedMemPerBlock = SHARED_BYTES;
    p->sharedMemPerBlockOptin = SHARED_OPTIN_BYTES;
    p->sharedMemPerMultiprocessor = SHARED_MULTIPROCESSOR_BYTES;
    p->reservedSharedMemPerBlock = 1 << 10;
    p->regsPerBlock = p->regsPerMultiprocessor = REGISTERS;
    p->warpSize = WARP;
    p->memPitch = 0x7fffffff;
    p->maxThreadsPerBlock = THREADS;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->totalConstMem = 64 << 10;
    p->major = MAJOR;
    p->minor = MINOR;
    p->textureAlignment = 512;
    p->multiProcessorCount = MULTIPROCESSORS;
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = p->ECCEnabled = 1;
    p->managedMemory = p->concurrentManagedAccess = p->streamPrioritiesSupported = 1;
    p->pciBusID = 0x17 + device;
    p->asyncEngineCount = 3;
    p->memoryBusWidth = 6144;
    p->l2CacheSize = L2_BYTES;
    p->persistingL2CacheMaxSize = L2_BYTES / 2;
    p->maxThreadsPerMultiProcessor = THREADS_MULTIPROCESSOR;
    p->maxBlocksPerMultiProcessor = BLOCKS_MULTIPROCESSOR;
    return call.done(cudaSuccess);
}

namespace {
const struct {
    cudaDeviceAttr attribute;
    int value;
} attributes[] = {
    {cudaDevAttrMaxThreadsPerBlock, THREADS},
    {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_BYTES},
    {cudaDevAttrMaxSharedMemoryPerBlockOptin, SHARED_OPTIN_BYTES},
    {cudaDevAttrMaxSharedMemoryPerMultiprocessor, SHARED_MULTIPROCESSOR_BYTES},
    {cudaDevAttrWarpSize, WARP},
    {cudaDevAttrMaxRegistersPerBlock, REGISTERS},
    {cudaDevAttrMultiProcessorCount, MULTIPROCESSORS},
    {cudaDevAttrMaxThreadsPerMultiProcessor, THREADS_MULTIPROCESSOR},
    {cudaDevAttrMaxBlocksPerMultiprocessor, BLOCKS_MULTIPROCESSOR},
    {cudaDevAttrComputeCapabilityMajor, MAJOR},
    {cudaDevAttrComputeCapabilityMinor, MINOR},
    {cudaDevAttrL2CacheSize, L2_BYTES},
    {cudaDevAttrCanMapHostMemory, 1},
    {cudaDevAttrConcurrentKernels, 1},
    {cudaDevAttrUnifiedAddressing, 1},
    {cudaDevAttrStreamPrioritiesSupported, 1},
    {cudaDevAttrIntegrated, 0},
    {cudaDevAttrPageableMemoryAccess, 0},
    {cudaDevAttrMemoryPoolsSupported, 1},
    {cudaDevAttrClockRate, 1980000},
    {cudaDevAttrMemoryClockRate, 3201000},
    {cudaDevAttrGlobalMemoryBusWidth, 6144},
    {cudaDevAttrAsyncEngineCount, 3},
};
} // namespace

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    RUNTIME_CALL(ANY);
    if (device < 0 || device >= n_devices())
        return call.done(cudaErrorInvalidDevice);
    for (auto &row : attributes) {
        if (row.attribute == attribute) {
            *value = row.value;
            return call.done(cudaSuccess);
        }
    }
    violation("%s: attribute %d is not known to the fake", __func__, (int)attribute);
    return call.done(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device) {
    RUNTIME_CALL(ANY);
    if (!id || size < 13 || device < 0 || device >= n_devices())
        return call.done(cudaErrorInvalidValue);
    snprintf(id, (size_t)size, "0000:%02X:00.0", 0x17 + device);
    return call.done(cudaSuccess);
}

cudaError_t cudaDeviceGetByPCIBusId(int *device, const char *id) {
    RUNTIME_CALL(ANY);
    unsigned domain, bus, slot;
    if (!device || !id || sscanf(id, "%x:%x:%x", &domain, &bus, &slot) != 3)
        return call.done(cudaErrorInvalidValue);
    *device = (int)bus - 0x17;
    return call.done(domain || slot || *device < 0 || *device >= n_devices() ? cudaErrorInvalidDevice : cudaSuccess);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    RUNTIME_CALL(ANY);
    *least = 0;
    *greatest = -5;
    return call.done(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void) {
    RUNTIME_CALL(UNSAFE | DEVICE_WAIT | SPOILS);
    run_all(current_device());
    return call.done(broken);
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value) {
    RUNTIME_CALL(ANY);
    if (!function || value < 0 ||
        (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value > SHARED_OPTIN_BYTES))
        return call.done(cudaErrorInvalidValue);
    return call.done(cudaSuccess);
}
