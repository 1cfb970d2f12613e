/* The emulator's kernels in the fake's streams. Compiled, like the kernels, against the emulation's headers. */
#include "emulator.h"

cudaError_t fake_cuda_launch(const char *name, cudaStream_t stream, std::function<void()> run, const void *arguments,
                             size_t n_bytes, const void *kernel);
extern "C" void fake_cuda_violation(const char *what);

namespace {

const struct chip_of_the_fake {
    chip_of_the_fake() {
        static const emulation_chip h200 = {227 * 1024, 48 * 1024, 132};
        emulation_set_chip(&h200);
    }
} chip;

} // namespace

cudaError_t emulation_enqueue(const char *name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                              const void *kernel, const std::function<void()> &thread, const void *held,
                              size_t n_bytes) {
    auto run = [=] {
        emulation_launch(name, grid, block, shared_bytes, thread);
        if (const char *failure = emulation_failure())
            fake_cuda_violation(failure);
    };
    return fake_cuda_launch(name, stream, run, held, n_bytes, kernel);
}
