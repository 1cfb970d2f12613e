/* A CUDA device that lives in host memory, for tests: the CUDA runtime, cuDNN's graph API and cublasLt, as far as
 * lib/cuda calls them, behind the real headers. It checks its caller more than it serves it.
 *
 * - Work is queued by stream and runs only when somebody waits, streams interleaved in an order drawn from a seed, so
 *   that a missing wait or host memory that is used again too early shows.
 * - Device memory can be touched by device work alone (the host gets SIGSEGV), lies between canaries, is NaN when
 *   fresh and gone when freed.
 * - What no correct program does (the default stream, a copy across an allocation's end, a pageable pointer in a graph,
 *   a dead handle, a double free, ...) is a violation: it is printed and ends the process, unless tolerated.
 *
 * Environment: DET_FAKE_CUDA_DEVICES (1), DET_FAKE_CUDA_MEMORY (bytes per device), DET_FAKE_CUDA_SEED (1),
 * DET_FAKE_CUDA_FAIL "function:k:code": as fake_cuda_fail; DET_FAKE_CUDA_LEAKS=1: a violation at exit for what is still
 * held then; DET_FAKE_CUDA_SPLIT=1: libraries choose another order of sums where there is little work. */
#ifndef DET_FAKE_CUDA_H
#define DET_FAKE_CUDA_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_CUDA_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Calls of one function, or of all (NULL), since the last fake_cuda_reset. */
FAKE_CUDA_API int64_t fake_cuda_calls(const char *function);
/* The functions that were called since then and can fail, in alphabetical order; NULL at the end. The names live until the
 * next reset. */
FAKE_CUDA_API const char *fake_cuda_function(int index);
/* The k-th call (from 1) from now on of `function`, or of any that can fail (NULL), returns `code` without effect (what
 * gives something back gives it back all the same). Code 0: what that library calls an unknown or internal error. k = 0: no
 * such failure any more. A runtime's error that the device does not recover from, such as cudaErrorIllegalAddress, is what
 * every later call answers, too. */
FAKE_CUDA_API void fake_cuda_fail(const char *function, int64_t k, int code);
/* Has that failure happened? */
FAKE_CUDA_API int fake_cuda_failed(void);
/* The k-th piece of device work from now on fails with `code`, which every later call answers, too: a sticky error. */
FAKE_CUDA_API void fake_cuda_fail_work(int64_t k, cudaError_t code);

/* What there is now, on all devices. */
typedef struct fake_cuda_state {
    int64_t device_allocations, device_bytes, host_allocations, host_bytes;
    int64_t streams, events, graphs, graph_execs, cudnn_handles, cudnn_descriptors, cublas_handles, cublas_descriptors;
    int64_t pending;         /* pieces of work that are queued */
    int64_t peak_bytes;      /* of one device, since the last reset */
    int64_t work;            /* pieces of work that ran since the last reset: kernels, copies, library calls */
    int64_t products;        /* multiply-accumulates of library calls that ran since the last reset */
    int64_t device_waits;    /* calls that wait for a whole device: cudaDeviceSynchronize, cudaFree, ... */
    int64_t pageable_copies; /* asynchronous copies from or to pageable memory */
} fake_cuda_state;
FAKE_CUDA_API fake_cuda_state fake_cuda_now(void);
/* Anything held? (bytes, handles, descriptors, pending work) */
FAKE_CUDA_API int fake_cuda_holds(const fake_cuda_state *state);

/* Whether anything has made that device's primary context. */
FAKE_CUDA_API int fake_cuda_begun(int device);
/* Forgets counts, planned failures and a sticky error. */
FAKE_CUDA_API void fake_cuda_reset(void);
/* Limit of device memory in bytes, of every device; 0: what the device reports. */
FAKE_CUDA_API void fake_cuda_limit_memory(int64_t n_bytes);
FAKE_CUDA_API void fake_cuda_seed(uint64_t seed);
/* From now on violations are counted, and the call fails where it can. Returns how many there were since. */
FAKE_CUDA_API void fake_cuda_tolerate(int on);
FAKE_CUDA_API int fake_cuda_violations(void);
/* Every run of cuDNN's engine of that number takes `ms` from now on; 0: as long as it takes. */
FAKE_CUDA_API void fake_cudnn_slow(int64_t engine, double ms);
/* Heuristics name nothing but the last resort. */
FAKE_CUDA_API void fake_cudnn_last_resort(int on);
/* One more violation. */
FAKE_CUDA_API void fake_cuda_violation(const char *what);
/* Copies between host and device memory, of whatever is there now, past all queues. */
FAKE_CUDA_API void fake_cuda_peek(void *host, const void *device, size_t n_bytes);
FAKE_CUDA_API void fake_cuda_poke(void *device, const void *host, size_t n_bytes);

#ifdef __cplusplus
}

#include <functional>
/* Queues a kernel: `run` does its work when the stream gets there, again at every replay of a graph. `arguments` are
 * its arguments by value: what looks like a pointer to host memory there, other than to `kernel`, is a violation. */
FAKE_CUDA_API cudaError_t fake_cuda_launch(const char *name, cudaStream_t stream, std::function<void()> run,
                                           const void *arguments, size_t n_bytes, const void *kernel);
#endif

#endif
