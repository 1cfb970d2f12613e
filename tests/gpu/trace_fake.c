/* The trace, when CUDA is the fake of tests/emulation. */
#include "trace.h"

#include "fake_cuda.h"

static gpu_trace now(void) {
    static const char *const allocations[] = {"cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost",
                                              "cudaMallocHost"};
    gpu_trace t = {.calls = fake_cuda_calls(0), .device_waits = fake_cuda_now().device_waits};
    for (int i = 0; i < (int)(sizeof allocations / sizeof allocations[0]); i++)
        t.allocations += fake_cuda_calls(allocations[i]);
    return t;
}

static gpu_trace before;

bool gpu_trace_start(void) {
    before = now();
    fake_cuda_tolerate(1); /* use of the default stream is a violation there, which is counted from now on */
    return true;
}

gpu_trace gpu_trace_stop(void) {
    gpu_trace t = now();
    int n_violations = fake_cuda_violations();
    fake_cuda_tolerate(0);
    return (gpu_trace){t.allocations - before.allocations, t.device_waits - before.device_waits, n_violations,
                       t.calls - before.calls};
}
