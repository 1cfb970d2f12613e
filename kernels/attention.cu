/* softmax(q k^T / sqrt(key_dim)) v for each head, without the matrix of weights ever being whole.
 *
 * A warp takes QUERIES queries of one head through all positions, 32 at a time: for the scores a lane is a
 * position, for the sums a lane is a channel of the value (or up to four). The largest score so far is subtracted,
 * and sums that were taken with a smaller one are scaled. Keys and values come through L1, which the block's warps
 * share.
 *
 * Bound by arithmetic outside the tensor cores: 2 n^2 (key_dim + value_dim) operations a head; 400 positions, 2
 * heads of 32 and 64: 61 MFLOP, 5 us on an H200 with some 800 warps, most of it latency. */
#include "common.cuh"

namespace det {
namespace {

enum { QUERIES = 4, WARPS = 4, MOST_DIM = 128 };

template <typename T> struct attention_job {
    const T *x;
    T *y;
    int n_positions, n_heads, key_dim, value_dim, x_stride, y_stride;
    int vectors; /* keys may be read by vectors */
    float scale; /* of scores, for powers of two */
};

/* What the warps of a block hold: queries, and the weights of the 32 positions at hand. */
struct attention_warp {
    float queries[MOST_DIM][QUERIES];
    float weights[WARP][QUERIES];
};

/* Adds `lanes` products of one key to the scores. */
template <int N>
__device__ __forceinline__ void add_products(const float (&key)[N], const float (*queries)[QUERIES],
                                             float (&scores)[QUERIES]) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        float4 q = *(const float4 *)queries[i];
        scores[0] = fmaf(key[i], q.x, scores[0]);
        scores[1] = fmaf(key[i], q.y, scores[1]);
        scores[2] = fmaf(key[i], q.z, scores[2]);
        scores[3] = fmaf(key[i], q.w, scores[3]);
    }
}

template <typename T>
__device__ __forceinline__ void score(const attention_job<T> &job, const T *key, const attention_warp &warp,
                                      float (&scores)[QUERIES]) {
    constexpr int V = lanes_of<T>;
    int d = 0;
    for (; job.vectors && d < job.key_dim; d += V) {
        float values[V];
        load_vector_constant(key + d, values);
        add_products(values, warp.queries + d, scores);
    }
    for (; d < job.key_dim; d++) {
        float value[1] = {to_float(key[d])};
        add_products(value, warp.queries + d, scores);
    }
}

/* The queries of this warp, scaled; those beyond the last position are zero. */
template <typename T>
__device__ __forceinline__ void load_queries(const attention_job<T> &job, const T *head, int first,
                                             attention_warp &warp) {
    for (int i = lane_index(); i < job.key_dim * QUERIES; i += WARP) {
        int q = i / job.key_dim, d = i % job.key_dim;
        bool inside = first + q < job.n_positions;
        warp.queries[d][q] = inside ? to_float(head[(size_t)(first + q) * job.x_stride + d]) * job.scale : 0;
    }
    __syncwarp();
}

/* Weights of the positions from `begin` on, into shared memory; brings sums taken so far to the new largest score. */
template <typename T, int PARTS>
__device__ __forceinline__ void weigh(const attention_job<T> &job, const T *keys, int begin, attention_warp &warp,
                                      float (&most)[QUERIES], float (&totals)[QUERIES], float (&sums)[QUERIES][PARTS]) {
    int position = begin + lane_index();
    bool inside = position < job.n_positions;
    float scores[QUERIES] = {};
    if (inside)
        score(job, keys + (size_t)position * job.x_stride, warp, scores);
#pragma unroll
    for (int q = 0; q < QUERIES; q++) {
        float larger = fmaxf(most[q], warp_max(inside ? scores[q] : -INFINITY));
        float weight = inside ? exp2f(scores[q] - larger) : 0, shrink = exp2f(most[q] - larger);
        most[q] = larger;
        totals[q] = fmaf(totals[q], shrink, warp_sum(weight));
        warp.weights[lane_index()][q] = weight;
#pragma unroll
        for (int part = 0; part < PARTS; part++)
            sums[q][part] *= shrink;
    }
    __syncwarp();
}

template <typename T, int PARTS>
__device__ __forceinline__ void add_values(const attention_job<T> &job, const T *values, int begin,
                                           const attention_warp &warp, float (&sums)[QUERIES][PARTS]) {
    int n = job.n_positions - begin < WARP ? job.n_positions - begin : (int)WARP;
#pragma unroll 4
    for (int i = 0; i < n; i++) {
        float4 weight = *(const float4 *)warp.weights[i];
        const T *value = values + (size_t)(begin + i) * job.x_stride;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            int d = part * WARP + lane_index();
            float v = d < job.value_dim ? to_float(value[d]) : 0;
            sums[0][part] = fmaf(v, weight.x, sums[0][part]);
            sums[1][part] = fmaf(v, weight.y, sums[1][part]);
            sums[2][part] = fmaf(v, weight.z, sums[2][part]);
            sums[3][part] = fmaf(v, weight.w, sums[3][part]);
        }
    }
    __syncwarp(); /* before the weights are written over */
}

/* Block (queries, head, picture). PARTS x 32 channels of the value at most. */
template <typename T, int PARTS> __global__ void __launch_bounds__(WARPS *WARP) attention(attention_job<T> job) {
    DET_SHARED(warps, attention_warp[WARPS]);
    attention_warp &warp = warps[warp_index()];
    int first = ((int)blockIdx.x * WARPS + warp_index()) * QUERIES, head_dim = 2 * job.key_dim + job.value_dim;
    size_t picture = (size_t)blockIdx.z * job.n_positions;
    const T *head = job.x + picture * job.x_stride + (size_t)blockIdx.y * head_dim;
    if (first >= job.n_positions) /* the whole warp */
        return;
    load_queries(job, head, first, warp);
    float most[QUERIES], totals[QUERIES] = {}, sums[QUERIES][PARTS] = {};
#pragma unroll
    for (int q = 0; q < QUERIES; q++)
        most[q] = -INFINITY;
    for (int begin = 0; begin < job.n_positions; begin += WARP) {
        weigh(job, head + job.key_dim, begin, warp, most, totals, sums);
        add_values(job, head + 2 * job.key_dim, begin, warp, sums);
    }
#pragma unroll
    for (int q = 0; q < QUERIES; q++) {
        if (first + q >= job.n_positions)
            break;
        T *y = job.y + (picture + first + q) * job.y_stride + (size_t)blockIdx.y * job.value_dim;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            int d = part * WARP + lane_index();
            if (d < job.value_dim)
                y[d] = of<T>(sums[q][part] / totals[q]);
        }
    }
}

template <typename T> cudaError_t launch_attention(const det_attention_args &a, cudaStream_t stream) {
    constexpr int V = lanes_of<T>;
    constexpr float LOG2_E = 1.44269504f;
    attention_job<T> job = {};
    job.x = (const T *)a.x.data;
    job.y = (T *)a.y.data;
    job.n_positions = a.x.h * a.x.w;
    job.n_heads = a.n_heads;
    job.key_dim = a.key_dim;
    job.value_dim = a.value_dim;
    job.x_stride = a.x.stride;
    job.y_stride = a.y.stride;
    job.vectors = a.key_dim % V == 0 && a.value_dim % V == 0 && a.x.stride % V == 0 && (uintptr_t)a.x.data % 16 == 0;
    job.scale = LOG2_E / sqrtf((float)a.key_dim);
    dim3 grid((unsigned)div_up<int>(job.n_positions, WARPS * QUERIES), (unsigned)a.n_heads, (unsigned)a.x.n);
    switch (div_up<int>(a.value_dim, WARP)) {
    case 1:
        return DET_LAUNCH((attention<T, 1>), grid, WARPS * WARP, 0, stream, job);
    case 2:
        return DET_LAUNCH((attention<T, 2>), grid, WARPS * WARP, 0, stream, job);
    default:
        return DET_LAUNCH((attention<T, 4>), grid, WARPS * WARP, 0, stream, job);
    }
}

bool is_good(const det_attention_args &a) {
    if (a.n_heads < 1 || a.key_dim < 1 || a.value_dim < 1 || a.key_dim > MOST_DIM || a.value_dim > MOST_DIM)
        return false;
    return is_view(a.x) && is_view(a.y) && a.x.n == a.y.n && a.x.h == a.y.h && a.x.w == a.y.w && a.x.n <= 65535 &&
           a.n_heads <= 65535 && a.x.c == a.n_heads * (2 * a.key_dim + a.value_dim) && a.y.c == a.n_heads * a.value_dim;
}

} // namespace
} // namespace det

cudaError_t det_launch_attention(const det_attention_args *args, cudaStream_t stream) {
    using namespace det;
    if (!is_good(*args))
        return cudaErrorInvalidValue;
    return with_type(args->type, [&](auto element) { return launch_attention<decltype(element)>(*args, stream); });
}
