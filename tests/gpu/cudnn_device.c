/* Prints the properties of CUDA device 0 as cuDNN writes them down: with such a file, plans can be built and checked on a
 * machine without that device (tests/data/cudnn). */
#include "check.h"

#include <cudnn.h>

#define CUDNN_OK(call)                                                                                                 \
    do {                                                                                                               \
        cudnnStatus_t cudnn_status = (call);                                                                           \
        REQUIRE(cudnn_status == CUDNN_STATUS_SUCCESS, "%s", cudnnGetErrorString(cudnn_status));                        \
    } while (0)

int main(void) {
    cudnnBackendDescriptor_t device;
    int32_t index = 0;
    int64_t n = 0;
    CUDNN_OK(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &device));
    CUDNN_OK(cudnnBackendSetAttribute(device, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &index));
    CUDNN_OK(cudnnBackendFinalize(device));
    CUDNN_OK(cudnnBackendGetAttribute(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &n, NULL));
    char *text = calloc((size_t)n + 1, 1);
    CUDNN_OK(cudnnBackendGetAttribute(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, n, &n, text));
    printf("%s\n", text);
    free(text);
    cudnnBackendDestroyDescriptor(device);
    return 0;
}
