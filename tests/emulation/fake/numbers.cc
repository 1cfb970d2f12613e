/* Half precision by its bits, so that the fake's arithmetic shares nothing with the kernels'. */
#include "fake.h"

#include <cstring>

namespace fake {
namespace {

uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Drops the lowest n bits, to nearest even; what overflows becomes infinite. Not for NaN. */
uint32_t round_off(uint32_t bits, int n) {
    uint32_t half = (1u << (n - 1)) - 1, odd = bits >> n & 1;
    return (bits + half + odd) >> n << n;
}

float from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31)
        return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) { /* fraction * 2^-24 */
        float x = (float)fraction * (1.0f / (1 << 24));
        return sign ? -x : x;
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t to_half(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7fff);
    if (magnitude < 113u << 23) { /* below 2^-14: adding 0.5 leaves multiples of 2^-24, rounded as they should be */
        float shifted = float_of(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of(shifted) - bits_of(0.5f)));
    }
    uint32_t rounded = round_off(magnitude, 13);
    if (rounded >= 143u << 23)
        return (uint16_t)(sign | 0x7c00);
    return (uint16_t)(sign | (rounded - (112u << 23)) >> 13);
}

const float *half_table() {
    static const float *table = [] {
        auto *t = new float[65536];
        for (int i = 0; i < 65536; i++)
            t[i] = from_half((uint16_t)i);
        return t;
    }();
    return table;
}

} // namespace

size_t type_bytes(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : 2;
}

float load(cudaDataType type, const void *p, int64_t index) {
    switch (type) {
    case CUDA_R_32F:
        return ((const float *)p)[index];
    case CUDA_R_16F:
        return half_table()[((const uint16_t *)p)[index]];
    default: /* CUDA_R_16BF */
        return float_of((uint32_t)((const uint16_t *)p)[index] << 16);
    }
}

void store(cudaDataType type, void *p, int64_t index, float value) {
    switch (type) {
    case CUDA_R_32F:
        ((float *)p)[index] = value;
        break;
    case CUDA_R_16F:
        ((uint16_t *)p)[index] = to_half(value);
        break;
    default:
        ((uint16_t *)p)[index] = value == value ? (uint16_t)(round_off(bits_of(value), 16) >> 16) : 0x7fff;
    }
}

float round_tf32(float value) {
    return value == value ? float_of(round_off(bits_of(value), 13)) : value;
}

} // namespace fake
