/* Named ranges for NVIDIA's profilers (NVTX), where the compiler finds its headers; nothing is linked. A profiler announces
 * itself in the environment of what it starts; without one nothing is called, nor in programs that run with another user's
 * rights, whose environment is not to be trusted. */
#ifndef DET_CUDA_RANGES_H
#define DET_CUDA_RANGES_H

#include <stdbool.h>
#include <stdlib.h>

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

static inline bool det_has_profiler(void) {
    return secure_getenv("NVTX_INJECTION64_PATH") != NULL;
}
static inline void det_range_begin(bool wanted, const char *name) {
    if (wanted)
        nvtxRangePushA(name);
}
static inline void det_range_end(bool wanted) {
    if (wanted)
        nvtxRangePop();
}
#else
static inline bool det_has_profiler(void) {
    return false;
}
static inline void det_range_begin(bool wanted, const char *name) {
    (void)wanted;
    (void)name;
}
static inline void det_range_end(bool wanted) {
    (void)wanted;
}
#endif

#endif
