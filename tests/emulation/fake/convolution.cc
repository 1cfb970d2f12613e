/* The convolution: blocks of output pixels and channels, so that whole networks take seconds. */
#include "convolution.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FOR_WIDE_REGISTERS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_WIDE_REGISTERS
#endif

namespace fake {
namespace {

enum { PIXELS = 4, CHANNELS = 16 };

/* sums[p][k] += x[p][c] * w[c][k] */
FOR_WIDE_REGISTERS void accumulate(const float *const x[PIXELS], const float *w, int64_t n, float (*sums)[CHANNELS]) {
    for (int64_t c = 0; c < n; c++)
        for (int p = 0; p < PIXELS; p++)
            for (int k = 0; k < CHANNELS; k++)
                sums[p][k] += x[p][c] * w[c * CHANNELS + k];
}

std::vector<float> dense(const Tensor &t, const void *data, bool tf32) {
    std::vector<float> values((size_t)(t.n * t.h * t.w * t.c));
    float *to = values.data();
    for (int64_t i = 0; i < t.n; i++)
        for (int64_t y = 0; y < t.h; y++)
            for (int64_t x = 0; x < t.w; x++)
                for (int64_t c = 0; c < t.c; c++)
                    *to++ = load(t.type, data, t.at(i, y, x) + c);
    if (tf32)
        std::transform(values.begin(), values.end(), values.begin(), round_tf32);
    return values;
}

/* One block of CHANNELS output channels of a group: weights as [tap][c][CHANNELS], zero behind the last channel. */
std::vector<float> block_of(const Convolution &c, const std::vector<float> &w, int64_t first, int64_t n) {
    int64_t taps = c.w.h * c.w.w, depth = c.w.c;
    std::vector<float> block((size_t)(taps * depth * CHANNELS), 0.0f);
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < taps * depth; i++)
            block[(size_t)(i * CHANNELS + k)] = w[(size_t)((first + k) * taps * depth + i)];
    return block;
}

/* One row of output pixels of one block of channels. */
void convolve_row(const Convolution &c, const float *x, const float *block, const float *zeros, int64_t row,
                  int64_t c_in, int64_t first, int64_t n, float *y) {
    for (int64_t begin = 0; begin < c.y.w; begin += PIXELS) {
        float sums[2][PIXELS][CHANNELS] = {};
        for (int64_t tap = 0; tap < c.w.h * c.w.w; tap++) {
            int64_t i = row * c.stride_h - c.pad_h + tap / c.w.w;
            const float *sources[PIXELS];
            for (int64_t p = 0; p < PIXELS; p++) {
                int64_t j = (begin + p) * c.stride_w - c.pad_w + tap % c.w.w;
                bool inside = i >= 0 && i < c.x.h && j >= 0 && j < c.x.w;
                sources[p] = inside ? x + (i * c.x.w + j) * c.x.c + c_in : zeros;
            }
            int64_t part = c.split == 2 ? c.w.c / 2 : c.w.c;
            const float *weights = block + tap * c.w.c * CHANNELS;
            accumulate(sources, weights, part, sums[0]);
            for (const float *&source : sources)
                source += part;
            accumulate(sources, weights + part * CHANNELS, c.w.c - part, sums[1]);
        }
        for (int i = 0; i < PIXELS * CHANNELS && c.split == 2; i++)
            sums[0][i / CHANNELS][i % CHANNELS] += sums[1][i / CHANNELS][i % CHANNELS];
        for (int64_t p = 0; p < std::min<int64_t>(PIXELS, c.y.w - begin); p++)
            memcpy(y + (begin + p) * c.y.c + first, sums[0][p], (size_t)n * sizeof(float));
    }
}

} // namespace

void convolve(const Convolution &c, const void *x, const void *w, float *y) {
    std::vector<float> in = dense(c.x, x, c.tf32), weights = dense(c.w, w, c.tf32);
    std::vector<float> zeros((size_t)c.w.c, 0.0f);
    int64_t group_out = c.y.c / c.groups();
    counts.products += c.y.n * c.y.h * c.y.w * c.y.c * c.w.h * c.w.w * c.w.c;
    for (int64_t first = 0; first < c.y.c;) {
        int64_t group = first / group_out, n = std::min<int64_t>(CHANNELS, (group + 1) * group_out - first);
        std::vector<float> block = block_of(c, weights, first, n);
        for (int64_t row = 0; row < c.y.n * c.y.h; row++)
            convolve_row(c, in.data() + row / c.y.h * c.x.h * c.x.w * c.x.c, block.data(), zeros.data(), row % c.y.h,
                         group * c.w.c, first, n, y + row * c.y.w * c.y.c);
        first += n;
    }
}

int64_t split_for(int64_t pixels) {
    static const bool splits = getenv("DET_FAKE_CUDA_SPLIT") != nullptr;
    return splits && pixels < 200 ? 2 : 1;
}

bool overlap(const Tensor &a, const void *a_data, const Tensor &b, const void *b_data) {
    auto a_begin = (uintptr_t)a_data, b_begin = (uintptr_t)b_data;
    if (a_begin > b_begin)
        return overlap(b, b_data, a, a_data);
    if (a_begin + a.n_bytes() <= b_begin)
        return false;
    if (a.type != b.type || a.pixel_stride != b.pixel_stride)
        return true;
    /* b begins so many channels behind some pixel of a's */
    int64_t shift = (int64_t)((b_begin - a_begin) / type_bytes(a.type)) % a.pixel_stride;
    return shift < a.c || shift + b.c > a.pixel_stride;
}

} // namespace fake
