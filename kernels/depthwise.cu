/* Depthwise convolution with bias, activation, residual, activation.
 *
 * A thread makes COLUMNS neighbouring pixels of one row for one vector of channels: it reads each input vector of a row
 * of the window once, and keeps that row of weights in registers, in float. Threads of a block lie side by side in
 * channels (whole sectors), then columns, then rows, so that what rows and columns share comes from L1.
 *
 * Bound: every element once in, once out, 4 bytes in half: [1,160,160,40] is 4.1 MB, 1 us on an H200. 49 products for
 * each element make k = 7 bound by arithmetic instead, some 60 instructions an element: 2.3 us. */
#include "common.cuh"

namespace det {
namespace {

enum { DEPTHWISE_THREADS = 256, COLUMN_GROUPS = 4 };

template <typename T> struct depthwise_job {
    const T *x, *residual, *weight;
    T *y;
    const float *bias;
    int h, w, h_out, w_out, n_vectors, n_chunks; /* chunks: of vectors, blockDim.x each */
    int x_stride, y_stride, residual_stride, pad;
    det_unit unit, post_unit;
};

/* Adds row u of the window to the sums: `row` is its first pixel. */
template <typename T, int K, int STRIDE, int COLUMNS>
__device__ __forceinline__ void add_row(const depthwise_job<T> &job, const T *row, const T *weight, int first,
                                        float (&sums)[COLUMNS][lanes_of<T>]) {
    constexpr int V = lanes_of<T>, N = (COLUMNS - 1) * STRIDE + K;
    uint4 pixels[N], weights[K];
    float w[K][V];
#pragma unroll
    for (int q = 0; q < N; q++) { /* all are on their way before the first is needed */
        int j = first + q;
        pixels[q] = j >= 0 && j < job.w ? load16_constant(row + (size_t)j * job.x_stride) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int v = 0; v < K; v++)
        weights[v] = load16_constant(weight + v * job.n_vectors * V);
#pragma unroll
    for (int v = 0; v < K; v++)
        unpack<T>(weights[v], w[v]);
#pragma unroll
    for (int q = 0; q < N; q++) {
        float x[V];
        unpack<T>(pixels[q], x);
#pragma unroll
        for (int t = 0; t < COLUMNS; t++) {
            const int v = q - t * STRIDE; /* known when unrolled */
            if (v < 0 || v >= K)
                continue;
#pragma unroll
            for (int i = 0; i < V; i++)
                sums[t][i] = fmaf(x[i], w[v][i], sums[t][i]);
        }
    }
}

template <typename T>
__device__ __forceinline__ void finish(const depthwise_job<T> &job, float (&sums)[lanes_of<T>], size_t pixel, int c) {
    float residual[lanes_of<T>] = {};
    if (job.residual)
        load_vector(job.residual + pixel * job.residual_stride + c, residual);
#pragma unroll
    for (int i = 0; i < lanes_of<T>; i++) {
        float x = activate<T>(sums[i], job.unit);
        sums[i] = activate<T>(x + residual[i], job.post_unit);
    }
    store_vector(job.y + pixel * job.y_stride + c, sums);
}

template <typename T, int K, int STRIDE, int COLUMNS>
__global__ void __launch_bounds__(DEPTHWISE_THREADS, 2) depthwise(depthwise_job<T> job) {
    constexpr int V = lanes_of<T>;
    int vector = (int)(blockIdx.x % job.n_chunks * blockDim.x + threadIdx.x);
    int column = (int)(blockIdx.x / job.n_chunks * blockDim.y + threadIdx.y) * COLUMNS;
    int row = (int)(blockIdx.y * blockDim.z + threadIdx.z), c = vector * V;
    if (vector >= job.n_vectors || column >= job.w_out || row >= job.h_out)
        return;
    float sums[COLUMNS][V];
#pragma unroll
    for (int i = 0; i < V; i++) {
        float bias = job.bias ? __ldg(job.bias + c + i) : 0;
#pragma unroll
        for (int t = 0; t < COLUMNS; t++)
            sums[t][i] = bias;
    }
    const T *picture = job.x + (size_t)blockIdx.z * job.h * job.w * job.x_stride + c;
#pragma unroll 1
    for (int u = 0; u < K; u++) {
        int i = row * STRIDE - job.pad + u;
        if (i < 0 || i >= job.h)
            continue;
        add_row<T, K, STRIDE>(job, picture + (size_t)i * job.w * job.x_stride,
                              job.weight + (size_t)u * K * job.n_vectors * V + c, column * STRIDE - job.pad, sums);
    }
    size_t pixel = ((size_t)blockIdx.z * job.h_out + row) * job.w_out + column;
#pragma unroll
    for (int t = 0; t < COLUMNS; t++) {
        if (column + t < job.w_out)
            finish(job, sums[t], pixel + t, c);
    }
}

template <typename T, int K, int STRIDE>
cudaError_t launch_depthwise(const det_depthwise_args &a, cudaStream_t stream) {
    constexpr int V = lanes_of<T>, COLUMNS = STRIDE == 1 ? 4 : 2;
    depthwise_job<T> job = {};
    job.x = (const T *)a.x.data;
    job.residual = (const T *)a.residual.data;
    job.weight = (const T *)a.weight;
    job.y = (T *)a.y.data;
    job.bias = a.bias;
    job.h = a.x.h;
    job.w = a.x.w;
    job.h_out = a.y.h;
    job.w_out = a.y.w;
    job.n_vectors = a.x.c / V;
    job.n_chunks = div_up(job.n_vectors, 16);
    job.x_stride = a.x.stride;
    job.y_stride = a.y.stride;
    job.residual_stride = a.residual.stride;
    job.pad = a.pad;
    job.unit = a.unit;
    job.post_unit = a.post_unit;
    int groups = div_up(a.y.w, COLUMNS);
    dim3 block;
    block.x = (unsigned)div_up(job.n_vectors, job.n_chunks);
    block.y = (unsigned)(groups < COLUMN_GROUPS ? groups : COLUMN_GROUPS);
    block.z = DEPTHWISE_THREADS / (block.x * block.y);
    block.z = block.z > 8 ? 8 : block.z; /* more rows share no more, and make fewer blocks of small maps */
    dim3 grid((unsigned)job.n_chunks * div_up((unsigned)groups, block.y), div_up((unsigned)a.y.h, block.z),
              (unsigned)a.y.n);
    return DET_LAUNCH((depthwise<T, K, STRIDE, COLUMNS>), grid, block, 0, stream, job);
}

template <typename T, int K> cudaError_t with_stride(const det_depthwise_args &a, cudaStream_t stream) {
    return a.stride == 1 ? launch_depthwise<T, K, 1>(a, stream) : launch_depthwise<T, K, 2>(a, stream);
}

bool is_good(const det_depthwise_args &a) {
    if (!is_padded(a.type, a.x) || !is_padded(a.type, a.y) || !a.weight || (uintptr_t)a.weight % 16 || a.pad < 0)
        return false;
    if ((a.k != 3 && a.k != 5 && a.k != 7) || (a.stride != 1 && a.stride != 2) || a.y.n > 65535)
        return false;
    if (a.residual.data && (!is_padded(a.type, a.residual) || !same_shape(a.residual, a.y)))
        return false;
    return a.x.n == a.y.n && a.x.c == a.y.c && a.x.h + 2 * a.pad >= a.k && a.x.w + 2 * a.pad >= a.k &&
           a.y.h == (a.x.h + 2 * a.pad - a.k) / a.stride + 1 && a.y.w == (a.x.w + 2 * a.pad - a.k) / a.stride + 1;
}

} // namespace
} // namespace det

cudaError_t det_launch_depthwise(const det_depthwise_args *args, cudaStream_t stream) {
    using namespace det;
    if (!is_good(*args))
        return cudaErrorInvalidValue;
    return with_type(args->type, [&](auto element) {
        using T = decltype(element);
        return args->k == 3   ? with_stride<T, 3>(*args, stream)
               : args->k == 5 ? with_stride<T, 5>(*args, stream)
                              : with_stride<T, 7>(*args, stream);
    });
}
