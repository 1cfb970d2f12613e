#include "absent_device.h"

#include "check.h"

#include <cudnn.h>
#include <dlfcn.h>

cudnnStatus_t __real_cudnnBackendSetAttribute(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                              cudnnBackendAttributeType_t, int64_t, const void *);
cudnnStatus_t __wrap_cudnnBackendSetAttribute(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                              cudnnBackendAttributeType_t, int64_t, const void *);

static cudnnBackendDescriptor_t properties;

static cudnnStatus_t set_device(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name) {
    return __real_cudnnBackendSetAttribute(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &properties);
}

cudnnStatus_t __wrap_cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t n, const void *values) {
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE)
        return status;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE)
        return set_device(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    if (name == CUDNN_ATTR_ENGINEHEUR_MODE)
        status = set_device(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    if (name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX)
        status = set_device(d, CUDNN_ATTR_ENGINE_DEVICEPROP);
    return status == CUDNN_STATUS_SUCCESS ? __real_cudnnBackendSetAttribute(d, name, type, n, values) : status;
}

bool absent_device_open(const char *path) {
    static char text[16384];
    FILE *file = fopen(path, "r");
    REQUIRE(file, "%s", path);
    size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    return cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &properties) == CUDNN_STATUS_SUCCESS &&
           __real_cudnnBackendSetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                           (int64_t)n, text) == CUDNN_STATUS_SUCCESS &&
           cudnnBackendFinalize(properties) == CUDNN_STATUS_SUCCESS;
}

void absent_device_close(void) {
    cudnnBackendDestroyDescriptor(properties);
}

int absent_device_loads(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    const int *n = driver ? dlsym(driver, "fake_driver_loads") : NULL;
    return n ? *n : 0;
}
