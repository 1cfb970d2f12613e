/* Enough of libcuda.so.1 for cuDNN's run-time compiler on a machine without a GPU: it compiles, and what it loads goes
 * nowhere. There is no device, and nothing runs. */
enum { SUCCESS = 0, NO_DEVICE = 100 };
#define DRIVER __attribute__((visibility("default")))

/* What is looked up and not called. */
#define NOT_HERE(name)                                                                                                 \
    DRIVER int name(void);                                                                                             \
    int name(void) {                                                                                                   \
        return NO_DEVICE;                                                                                              \
    }
NOT_HERE(cuInit)
NOT_HERE(cuDriverGetVersion)
NOT_HERE(cuDeviceGet)
NOT_HERE(cuDeviceGetCount)
NOT_HERE(cuGetErrorName)
NOT_HERE(cuGetErrorString)
NOT_HERE(cuCtxGetCurrent)
NOT_HERE(cuCtxGetLimit)
NOT_HERE(cuCtxPopCurrent)
NOT_HERE(cuCtxPushCurrent)
NOT_HERE(cuStreamGetCtx)
NOT_HERE(cuLinkCreate)
NOT_HERE(cuLinkAddData)
NOT_HERE(cuLinkComplete)
NOT_HERE(cuLinkDestroy)
NOT_HERE(cuLaunchKernel)
NOT_HERE(cuLaunchKernelEx)
NOT_HERE(cuLaunchCooperativeKernel)
NOT_HERE(cuLibraryLoadFromFile)
NOT_HERE(cuKernelSetAttribute)
NOT_HERE(cuKernelGetAttribute)
NOT_HERE(cuOccupancyMaxPotentialClusterSize)
NOT_HERE(cuTensorMapEncodeTiled)
NOT_HERE(cuTensorMapEncodeIm2col)

DRIVER int cuLibraryLoadData(void **library, ...);
DRIVER int cuLibraryGetKernel(void **kernel, ...);
DRIVER int cuLibraryUnload(void *library);
DRIVER int cuModuleLoadData(void **module, ...);
DRIVER int cuModuleGetFunction(void **function, ...);
DRIVER int cuModuleUnload(void *module);

static char somewhere;

/* How many modules were loaded: cuDNN loads what it has compiled. */
extern DRIVER int fake_driver_loads;
int fake_driver_loads;

int cuLibraryLoadData(void **library, ...) {
    *library = &somewhere;
    __atomic_fetch_add(&fake_driver_loads, 1, __ATOMIC_RELAXED);
    return SUCCESS;
}

int cuLibraryGetKernel(void **kernel, ...) {
    *kernel = &somewhere;
    return SUCCESS;
}

int cuLibraryUnload(void *library) {
    (void)library;
    return SUCCESS;
}

/* The same by the driver's older names, which cuDNN 9.28 is linked with. */
int cuModuleLoadData(void **module, ...) {
    return cuLibraryLoadData(module);
}

int cuModuleGetFunction(void **function, ...) {
    return cuLibraryGetKernel(function);
}

int cuModuleUnload(void *module) {
    return cuLibraryUnload(module);
}
