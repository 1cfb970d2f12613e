/* What all kernels share: the one way to launch, elements and vectors of them, activations, work within a warp.
 *
 * The same sources are compiled by nvcc and, for tests/emulation, by the host's compiler against a header that stands for
 * CUDA's. So kernels are launched through DET_LAUNCH alone, declare shared memory with the two macros below, and leave
 * inline PTX to the wrappers here. Every __global__ function has __launch_bounds__, so that it cannot need more registers
 * than its block has. */
#ifndef DET_COMMON_CUH
#define DET_COMMON_CUH

#include "kernels.h"

#include <math.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
/* DET_SHARED(tile, float[32][33]); one object of that type per block, aligned to 16 bytes. */
#define DET_SHARED(name, ...)                                                                                          \
    using name##_shared = __VA_ARGS__;                                                                                 \
    __shared__ __align__(16) name##_shared name
/* The bytes that the launch asked for, as an unsigned char array, aligned to 16 bytes; once per source file and name. */
#define DET_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#else
#include "emulator.h"
#define DET_SHARED(name, ...)                                                                                          \
    using name##_shared = __VA_ARGS__;                                                                                 \
    static const char name##_site = 0;                                                                                 \
    name##_shared &name = *(name##_shared *)emulation_shared(&name##_site, sizeof(name##_shared))
#define DET_DYNAMIC_SHARED(name) unsigned char *name = emulation_dynamic_shared()
#endif

/* Enqueues kernel<<<grid, block, shared_bytes, stream>>>(...) and returns what became of that; a kernel with commas in
 * its template arguments goes in parentheses. Empty grids are the caller's fault. */
#define DET_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                     \
    det::launch(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)

namespace det {

/* ------------------------------------------------------------------------------------------------------- launching */

template <typename T> struct same { using type = T; };

template <typename... P>
inline cudaError_t launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                          cudaStream_t stream, typename same<P>::type... args) {
#ifdef __CUDACC__
    (void)name;
    enum { SHARED_WITHOUT_ASKING = 48 * 1024 };
    if (shared_bytes > SHARED_WITHOUT_ASKING) {
        cudaError_t error =
            cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (error != cudaSuccess)
            return error;
    }
    void *pointers[] = {&args...};
    return cudaLaunchKernel((const void *)kernel, grid, block, pointers, shared_bytes, stream);
#else
    return emulation_enqueue(name, grid, block, shared_bytes, stream, (const void *)kernel, [=] { kernel(args...); });
#endif
}

template <typename T> __host__ __device__ constexpr T div_up(T a, T b) {
    return (a + b - 1) / b;
}

/* Calls f with an element of the type: with_type(type, [&](auto element) { using T = decltype(element); ... }). */
template <typename F> inline cudaError_t with_type(det_type type, F f) {
    switch (type) {
    case DET_TYPE_F32:
        return f(float());
    case DET_TYPE_F16:
        return f(__half());
    case DET_TYPE_BF16:
        return f(__nv_bfloat16());
    }
    return cudaErrorInvalidValue;
}

inline size_t type_bytes(det_type type) {
    return type == DET_TYPE_F32 ? 4 : 2;
}

inline bool is_view(const det_view &v) {
    return v.data && v.n > 0 && v.h > 0 && v.w > 0 && v.c > 0 && v.stride >= v.c;
}

/* "Padded", as kernels.h says. */
inline bool is_padded(det_type type, const det_view &v) {
    int lanes = (int)(16 / type_bytes(type));
    return is_view(v) && v.c % lanes == 0 && v.stride % lanes == 0 && (uintptr_t)v.data % 16 == 0;
}

inline bool same_shape(const det_view &a, const det_view &b) {
    return a.n == b.n && a.h == b.h && a.w == b.w && a.c == b.c;
}

/* -------------------------------------------------------------------------------------------------------- elements */

__device__ __forceinline__ float to_float(float x) {
    return x;
}
__device__ __forceinline__ float to_float(__half x) {
    return __half2float(x);
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

/* The nearest element: of<T>(x). */
template <typename T> __device__ __forceinline__ T of(float x);
template <> __device__ __forceinline__ float of<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ __half of<__half>(float x) {
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ __nv_bfloat16 of<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

/* How many elements a vector of 16 bytes holds. */
template <typename T> constexpr int lanes_of = 16 / (int)sizeof(T);

/* A vector of 16 bytes, as it lies in memory. Loads and stores of it want aligned addresses. */
template <typename T> struct alignas(16) vector { T lanes[lanes_of<T>]; };

/* Whatever type p has, one access of 16 bytes. */
__device__ __forceinline__ uint4 load16(const void *p) {
    return *(const uint4 *)p;
}
/* The same of memory that nobody writes during this kernel: weights, and inputs that are not outputs. */
__device__ __forceinline__ uint4 load16_constant(const void *p) {
    return __ldg((const uint4 *)p);
}
__device__ __forceinline__ void store16(void *p, uint4 bits) {
    *(uint4 *)p = bits;
}

template <typename T> __device__ __forceinline__ void unpack(uint4 bits, float (&x)[lanes_of<T>]) {
    const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < lanes_of<T>; i++) {
        T element;
        unsigned short half = (unsigned short)(words[i / 2 % 4] >> 16 * (i % 2));
        if (sizeof(T) == 4)
            memcpy(&element, &words[i % 4], sizeof element);
        else
            memcpy(&element, &half, sizeof element);
        x[i] = to_float(element);
    }
}

template <typename T> __device__ __forceinline__ uint4 pack(const float (&x)[lanes_of<T>]) {
    vector<T> v;
#pragma unroll
    for (int i = 0; i < lanes_of<T>; i++)
        v.lanes[i] = of<T>(x[i]);
    uint4 bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

template <typename T> __device__ __forceinline__ void load_vector(const T *p, float (&x)[lanes_of<T>]) {
    unpack<T>(load16(p), x);
}
template <typename T> __device__ __forceinline__ void load_vector_constant(const T *p, float (&x)[lanes_of<T>]) {
    unpack<T>(load16_constant(p), x);
}
template <typename T> __device__ __forceinline__ void store_vector(T *p, const float (&x)[lanes_of<T>]) {
    store16(p, pack<T>(x));
}

/* ----------------------------------------------------------------------------------------------------- activations */

/* Within 2^-11 of tanh: enough for elements of two bytes, and one instruction. */
__device__ __forceinline__ float tanh_fast(float x) {
#ifdef __CUDACC__
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return tanhf(x);
#endif
}

/* Exact to a rounding or two for float, fast for the rest. */
template <typename T> __device__ __forceinline__ float sigmoid(float x) {
    return fmaf(0.5f, tanh_fast(0.5f * x), 0.5f);
}
template <> __device__ __forceinline__ float sigmoid<float>(float x) {
    return 1 / (1 + expf(-x));
}

template <typename T> __device__ __forceinline__ float activate(float x, det_unit unit) {
    switch (unit) {
    case DET_UNIT_RELU:
        return x < 0 ? 0 : x; /* NaN stays */
    case DET_UNIT_SILU:
        return x * sigmoid<T>(x);
    case DET_UNIT_SIGMOID:
        return sigmoid<T>(x);
    default:
        return x;
    }
}

/* ----------------------------------------------------------------------------------------------------------- warps */

enum { WARP = 32 };
constexpr unsigned EVERY_LANE = 0xffffffffu;

/* Of blocks with one dimension. */
__device__ __forceinline__ int lane_index() {
    return (int)threadIdx.x % WARP;
}
__device__ __forceinline__ int warp_index() {
    return (int)threadIdx.x / WARP;
}

/* Every lane gets the sum, taken in the same order each time. All 32 lanes must call. */
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2)
        x += __shfl_xor_sync(EVERY_LANE, x, d);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2)
        x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, d));
    return x;
}

} // namespace det

#endif
