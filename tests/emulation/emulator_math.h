/* CUDA's vector types, small functions and two-byte floats for the host's compiler. Elements of two bytes can be
 * converted and nothing else: kernels calculate in float. Sources that include this are compiled without contraction of
 * products and sums, so that the functions that forbid it need no care. */
#ifndef DET_EMULATOR_MATH_H
#define DET_EMULATOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

template <typename T> struct emulation_same { using type = T; };

struct alignas(8) uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};

inline uint2 make_uint2(unsigned x, unsigned y) {
    return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}
inline int2 make_int2(int x, int y) {
    return {x, y};
}
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}

#define DET_MIN_MAX(T)                                                                                                 \
    inline T min(T a, T b) {                                                                                           \
        return b < a ? b : a;                                                                                          \
    }                                                                                                                  \
    inline T max(T a, T b) {                                                                                           \
        return a < b ? b : a;                                                                                          \
    }
DET_MIN_MAX(int)
DET_MIN_MAX(unsigned)
DET_MIN_MAX(long)
DET_MIN_MAX(unsigned long)
DET_MIN_MAX(long long)
DET_MIN_MAX(unsigned long long)
#undef DET_MIN_MAX

inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fsub_rn(float a, float b) {
    return a - b;
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline double __dmul_rn(double a, double b) {
    return a * b;
}
inline double __dadd_rn(double a, double b) {
    return a + b;
}
inline float __expf(float x) {
    return expf(x);
}
inline float __fdividef(float a, float b) {
    return a / b;
}
inline float rsqrtf(float x) {
    return 1 / sqrtf(x);
}

inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
inline int __ffs(int x) {
    return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
    return __builtin_ffsll(x);
}
inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
inline int __clzll(long long x) {
    return x ? __builtin_clzll((unsigned long long)x) : 64;
}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

template <typename T> inline T __ldg(const T *p) {
    return *p;
}

/* --------------------------------------------------------------------------------------------- half and bfloat16 */

struct __half {
    unsigned short bits;
};
struct __nv_bfloat16 {
    unsigned short bits;
};

inline float __half2float(__half h) {
    unsigned sign = (unsigned)(h.bits & 0x8000) << 16, rest = h.bits & 0x7fffu;
    if (rest >= 0x7c00)
        return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ff) << 13);
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest << 13) * 0x1p112f));
}

/* To nearest, ties to even, as all arithmetic here. */
inline __half __float2half_rn(float x) {
    unsigned bits = __float_as_uint(x), rest = bits & 0x7fffffff, half;
    if (rest > 0x7f800000)
        half = 0x7fff; /* NaN */
    else if (rest >= 0x47800000)
        half = 0x7c00;          /* 65536 and more */
    else if (rest < 0x38800000) /* below the normal halves: 2^-24 becomes the float's last bit */
        half = __float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000;
    else
        half = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
    return {(unsigned short)(half | (bits >> 16 & 0x8000))};
}

inline float __bfloat162float(__nv_bfloat16 h) {
    return __uint_as_float((unsigned)h.bits << 16);
}

inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return {0x7fff};
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

#endif
