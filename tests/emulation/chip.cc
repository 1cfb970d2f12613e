/* What a program has that brings no CUDA runtime of its own (tests/emulation/fake is one): streams that run every kernel at
 * once, and the emulated chip's figures. */
#include "emulator.h"

cudaError_t emulation_enqueue(const char *name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t, const void *,
                              const std::function<void()> &thread, const void *, size_t) {
    return emulation_launch(name, grid, block, shared_bytes, thread);
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    const emulation_chip *chip = emulation_get_chip();
    *value = attribute == cudaDevAttrMultiProcessorCount ? chip->multiprocessors : (int)chip->shared_bytes;
    return cudaSuccess;
}
