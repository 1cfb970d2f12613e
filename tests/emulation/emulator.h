/* CUDA for the host's compiler: enough of it to run this project's kernels on a machine that has no GPU.
 *
 * One system thread runs the blocks of a grid one after another, and the threads of a block in turns: each goes on until
 * it ends, or waits for others at a barrier or in an exchange within its warp. Nothing runs in step that the program
 * does not force to, so that a missing barrier shows as a wrong result, in one order of threads or in another.
 *
 * Failures - a barrier that some threads never reach, lanes that are missing from a warp's exchange, shared memory beyond
 * what the chip has - are printed, kept for emulation_failure(), and end the launch with cudaErrorLaunchFailure. */
#ifndef DET_EMULATOR_H
#define DET_EMULATOR_H

#include "emulation.h"
#include "emulator_math.h"

#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

/* ---------------------------------------------------------------------------------------------- for common.cuh */

cudaError_t emulation_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                             const std::function<void()> &thread);
/* The same when the stream gets there. On its own the emulator runs every kernel at once; tests/emulation/fake has streams.
 * `thread` holds the arguments by value, and `kernel` that it calls. */
cudaError_t emulation_enqueue(const char *name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                              const void *kernel, const std::function<void()> &thread, const void *held,
                              size_t n_bytes);
template <typename F>
inline cudaError_t emulation_enqueue(const char *name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                                     const void *kernel, F thread) {
    return emulation_enqueue(name, grid, block, shared_bytes, stream, kernel, thread, &thread, sizeof thread);
}
/* The block's object of this declaration: full of NaN when the block begins. */
void *emulation_shared(const void *site, size_t n_bytes);
unsigned char *emulation_dynamic_shared();
const emulation_chip *emulation_get_chip();

/* ------------------------------------------------------------------------------------------- for device functions */

/* Waits until every lane of the mask is in the same exchange, then gives what `source` brought; ballots give which
 * lanes brought something other than zero. */
enum emulation_exchange_kind { EMULATION_SHUFFLE, EMULATION_BALLOT, EMULATION_WARP_BARRIER };
uint64_t emulation_exchange(emulation_exchange_kind kind, unsigned mask, uint64_t value, int source, const char *file,
                            int line);
void emulation_barrier(const char *file, int line);
int emulation_lane();

#define DET_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(DET_WHERE) {
    emulation_barrier(file, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, DET_WHERE) {
    emulation_exchange(EMULATION_WARP_BARRIER, mask, 0, 0, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, DET_WHERE) {
    return (unsigned)emulation_exchange(EMULATION_BALLOT, mask, predicate != 0, 0, file, line);
}
inline int __any_sync(unsigned mask, int predicate, DET_WHERE) {
    return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, DET_WHERE) {
    return __ballot_sync(mask, predicate, file, line) == mask;
}

template <typename T> inline T emulation_shuffle(unsigned mask, T value, int source, const char *file, int line) {
    static_assert(sizeof(T) <= 8, "shuffles move at most eight bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emulation_exchange(EMULATION_SHUFFLE, mask, bits, source, file, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* Within segments of `width` lanes, as CUDA has it: who would read beyond its segment reads itself. */
template <typename T> inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, DET_WHERE) {
    return emulation_shuffle(mask, value, (emulation_lane() & ~(width - 1)) | (source & (width - 1)), file, line);
}
template <typename T> inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, DET_WHERE) {
    int lane = emulation_lane(), source = lane - (int)delta;
    return emulation_shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, file, line);
}
template <typename T> inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, DET_WHERE) {
    int lane = emulation_lane(), source = lane + (int)delta;
    return emulation_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
template <typename T> inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, DET_WHERE) {
    int lane = emulation_lane(), source = lane ^ bits;
    return emulation_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
#undef DET_WHERE

/* One thread runs at a time, so these are atomic. They give the old value. */
template <typename T> inline T emulation_replace(T *p, T value) {
    T old = *p;
    *p = value;
    return old;
}
template <typename T> inline T atomicAdd(T *p, typename emulation_same<T>::type x) {
    return emulation_replace(p, (T)(*p + x));
}
template <typename T> inline T atomicMin(T *p, typename emulation_same<T>::type x) {
    return emulation_replace(p, x < *p ? x : *p);
}
template <typename T> inline T atomicMax(T *p, typename emulation_same<T>::type x) {
    return emulation_replace(p, x > *p ? x : *p);
}
template <typename T> inline T atomicOr(T *p, typename emulation_same<T>::type x) {
    return emulation_replace(p, *p | x);
}
template <typename T> inline T atomicAnd(T *p, typename emulation_same<T>::type x) {
    return emulation_replace(p, *p & x);
}
template <typename T> inline T atomicExch(T *p, typename emulation_same<T>::type x) {
    return emulation_replace(p, x);
}
template <typename T>
inline T atomicCAS(T *p, typename emulation_same<T>::type expected, typename emulation_same<T>::type x) {
    return emulation_replace(p, *p == expected ? x : *p);
}
inline void __threadfence() {
}
inline void __threadfence_block() {
}

#endif
