/* Windows and rearrangements: pools, SPP, space to depth. All are bound by memory. */
#include "common.cuh"

#include <limits.h>

namespace det {
namespace {

enum { SPATIAL_THREADS = 256 };

/* ------------------------------------------------------------------------------------------------------------ pools */

template <typename T> struct pool_job {
    const T *x;
    T *y;
    int n_items, n_vectors, h, w, h_out, w_out, x_stride, y_stride;
    int k, stride, pad;
};

/* A thread makes one vector of one pixel; its window comes from L1 and L2 for the most part. */
template <typename T, bool MAX> __global__ void __launch_bounds__(SPATIAL_THREADS) pool(pool_job<T> job) {
    constexpr int V = lanes_of<T>;
    int item = (int)(blockIdx.x * SPATIAL_THREADS + threadIdx.x);
    if (item >= job.n_items)
        return;
    int pixel = item / job.n_vectors, c = item % job.n_vectors * V;
    int j = pixel % job.w_out, i = pixel / job.w_out % job.h_out, n = pixel / job.w_out / job.h_out;
    float y[V];
#pragma unroll
    for (int lane = 0; lane < V; lane++)
        y[lane] = MAX ? -INFINITY : 0;
    for (int u = i * job.stride - job.pad; u < i * job.stride - job.pad + job.k; u++) {
        for (int v = j * job.stride - job.pad; v < j * job.stride - job.pad + job.k; v++) {
            if (u < 0 || u >= job.h || v < 0 || v >= job.w)
                continue;
            float x[V];
            load_vector_constant(job.x + (((size_t)n * job.h + u) * job.w + v) * job.x_stride + c, x);
#pragma unroll
            for (int lane = 0; lane < V; lane++)
                y[lane] = MAX ? fmaxf(y[lane], x[lane]) : y[lane] + x[lane];
        }
    }
#pragma unroll
    for (int lane = 0; lane < V; lane++)
        y[lane] = MAX ? y[lane] : y[lane] / (float)(job.k * job.k);
    store_vector(job.y + (size_t)pixel * job.y_stride + c, y);
}

template <typename T, bool MAX>
cudaError_t launch_pool(const det_view &x, const det_view &y, int k, int stride, int pad, cudaStream_t stream) {
    int64_t n = (int64_t)y.n * y.h * y.w * (y.c / lanes_of<T>);
    if (n > INT_MAX - SPATIAL_THREADS)
        return cudaErrorInvalidValue;
    pool_job<T> job = {(const T *)x.data,
                       (T *)y.data,
                       (int)n,
                       y.c / lanes_of<T>,
                       x.h,
                       x.w,
                       y.h,
                       y.w,
                       x.stride,
                       y.stride,
                       k,
                       stride,
                       pad};
    return DET_LAUNCH((pool<T, MAX>), (unsigned)div_up<int64_t>(n, SPATIAL_THREADS), SPATIAL_THREADS, 0, stream, job);
}

/* Every window has a pixel of x in it. */
bool may_pool(det_type type, const det_view &x, const det_view &y, int k, int stride, int pad) {
    return is_padded(type, x) && is_padded(type, y) && x.n == y.n && x.c == y.c && k > 0 && stride > 0 && pad >= 0 &&
           pad < k && x.h + 2 * pad >= k && x.w + 2 * pad >= k && y.h == (x.h + 2 * pad - k) / stride + 1 &&
           y.w == (x.w + 2 * pad - k) / stride + 1 && (y.h - 1) * stride - pad < x.h && (y.w - 1) * stride - pad < x.w;
}

/* -------------------------------------------------------------------------------------------------------------- SPP */

enum { TILE = 16, MOST_HALO = 6, WIDE = TILE + 2 * MOST_HALO, N_WINDOWS = 3 };

template <typename T> struct spp_job {
    const T *x;
    T *ys[N_WINDOWS];
    int y_strides[N_WINDOWS], halos[N_WINDOWS], n_windows;
    int h, w, n_tiles_x, x_stride;
};

template <typename T> __device__ __forceinline__ void take_larger(float (&most)[lanes_of<T>], uint4 bits) {
    float x[lanes_of<T>];
    unpack<T>(bits, x);
#pragma unroll
    for (int lane = 0; lane < lanes_of<T>; lane++)
        most[lane] = fmaxf(most[lane], x[lane]);
}

template <typename T> __device__ __forceinline__ void smallest(float (&most)[lanes_of<T>]) {
#pragma unroll
    for (int lane = 0; lane < lanes_of<T>; lane++)
        most[lane] = -INFINITY;
}

/* A window's maximum is the maximum over its rows of their maxima: 13 + 5 + 9 + 13 reads of shared memory instead of
 * 25 + 81 + 169. A block makes TILE x TILE pixels of one vector of channels; x is read (28 / 16)^2 times, from L2. */
template <typename T> __global__ void __launch_bounds__(TILE *TILE) spp(const __grid_constant__ spp_job<T> job) {
    DET_SHARED(tile, uint4[WIDE][WIDE]);
    DET_SHARED(rows, uint4[N_WINDOWS][WIDE][TILE]);
    int c = (int)blockIdx.y * lanes_of<T>, n = (int)blockIdx.z, thread = (int)threadIdx.x;
    int top = (int)blockIdx.x / job.n_tiles_x * TILE, left = (int)blockIdx.x % job.n_tiles_x * TILE;
    float most[lanes_of<T>];
    for (int at = thread; at < WIDE * WIDE; at += TILE * TILE) {
        int i = top - MOST_HALO + at / WIDE, j = left - MOST_HALO + at % WIDE;
        smallest<T>(most);
        uint4 bits = pack<T>(most);
        if (i >= 0 && i < job.h && j >= 0 && j < job.w)
            bits = load16_constant(job.x + (((size_t)n * job.h + i) * job.w + j) * job.x_stride + c);
        tile[at / WIDE][at % WIDE] = bits;
    }
    __syncthreads();
    for (int at = thread; at < WIDE * TILE; at += TILE * TILE) {
        int i = at / TILE, j = at % TILE, reach = 0;
        smallest<T>(most);
        take_larger<T>(most, tile[i][j + MOST_HALO]);
        for (int k = 0; k < job.n_windows; k++) {
            for (; reach < job.halos[k]; reach++) {
                take_larger<T>(most, tile[i][j + MOST_HALO - reach - 1]);
                take_larger<T>(most, tile[i][j + MOST_HALO + reach + 1]);
            }
            rows[k][i][j] = pack<T>(most);
        }
    }
    __syncthreads();
    int i = thread / TILE, j = thread % TILE;
    if (top + i >= job.h || left + j >= job.w)
        return;
    size_t pixel = ((size_t)n * job.h + top + i) * job.w + left + j;
    for (int k = 0; k < job.n_windows; k++) {
        smallest<T>(most);
        for (int d = -job.halos[k]; d <= job.halos[k]; d++)
            take_larger<T>(most, rows[k][i + MOST_HALO + d][j]);
        store_vector(job.ys[k] + pixel * job.y_strides[k] + c, most);
    }
}

template <typename T>
cudaError_t launch_spp(const det_view &x, const int ks[N_WINDOWS], const det_view ys[N_WINDOWS], cudaStream_t stream) {
    spp_job<T> job = {};
    job.x = (const T *)x.data;
    job.h = x.h;
    job.w = x.w;
    job.x_stride = x.stride;
    job.n_tiles_x = div_up<int>(x.w, TILE);
    for (; job.n_windows < N_WINDOWS && ks[job.n_windows]; job.n_windows++) {
        int k = job.n_windows;
        job.ys[k] = (T *)ys[k].data;
        job.y_strides[k] = ys[k].stride;
        job.halos[k] = ks[k] / 2;
    }
    dim3 grid((unsigned)(job.n_tiles_x * div_up<int>(x.h, TILE)), (unsigned)(x.c / lanes_of<T>), (unsigned)x.n);
    return DET_LAUNCH(spp<T>, grid, TILE * TILE, 0, stream, job);
}

bool may_spp(det_type type, const det_view &x, const int ks[N_WINDOWS], const det_view ys[N_WINDOWS]) {
    bool good = is_padded(type, x) && ks[0] > 0 && x.n <= 65535 && x.c / (int)(16 / type_bytes(type)) <= 65535;
    for (int k = 0, before = 0; good && k < N_WINDOWS && ks[k]; before = ks[k++])
        good = ks[k] % 2 == 1 && ks[k] > before && ks[k] / 2 <= MOST_HALO && is_padded(type, ys[k]) &&
               same_shape(x, ys[k]);
    return good;
}

/* --------------------------------------------------------------------------------------------------- space to depth */

template <typename T> struct depth_job {
    const T *x;
    T *y;
    int n_items, n_groups, h, w, c, x_stride, y_stride;
};

/* A thread gathers LANES channels of one pixel of y. */
template <typename T, int LANES> __global__ void __launch_bounds__(SPATIAL_THREADS) space_to_depth(depth_job<T> job) {
    int item = (int)(blockIdx.x * SPATIAL_THREADS + threadIdx.x);
    if (item >= job.n_items)
        return;
    int pixel = item / job.n_groups, first = item % job.n_groups * LANES;
    int j = pixel % job.w, row = pixel / job.w; /* of all pictures */
    float y[LANES];
#pragma unroll
    for (int lane = 0; lane < LANES; lane++) {
        int part = (first + lane) / job.c, from = (first + lane) % job.c; /* parts: (0,0), (1,0), (0,1), (1,1) */
        size_t source = ((size_t)2 * row + part % 2) * 2 * job.w + 2 * j + part / 2;
        y[lane] = part < 4 ? to_float(job.x[source * job.x_stride + from]) : 0;
    }
    T *to = job.y + (size_t)pixel * job.y_stride + first;
    if constexpr (LANES == lanes_of<T>)
        store_vector(to, y);
    else
        *to = of<T>(y[0]);
}

template <typename T, int LANES>
cudaError_t launch_depth(const det_view &x, const det_view &y, int c, cudaStream_t stream) {
    int64_t n = (int64_t)y.n * y.h * y.w * (y.c / LANES);
    if (n > INT_MAX - SPATIAL_THREADS)
        return cudaErrorInvalidValue;
    depth_job<T> job = {(const T *)x.data, (T *)y.data, (int)n, y.c / LANES, y.h, y.w, c, x.stride, y.stride};
    return DET_LAUNCH((space_to_depth<T, LANES>), (unsigned)div_up<int64_t>(n, SPATIAL_THREADS), SPATIAL_THREADS, 0,
                      stream, job);
}

} // namespace
} // namespace det

using namespace det;

cudaError_t det_launch_max_pool(det_type type, det_view x, det_view y, int k, int stride, int pad,
                                cudaStream_t stream) {
    if (!may_pool(type, x, y, k, stride, pad))
        return cudaErrorInvalidValue;
    return with_type(type,
                     [&](auto element) { return launch_pool<decltype(element), true>(x, y, k, stride, pad, stream); });
}

cudaError_t det_launch_avg_pool(det_type type, det_view x, det_view y, int k, int stride, cudaStream_t stream) {
    if (!may_pool(type, x, y, k, stride, 0))
        return cudaErrorInvalidValue;
    return with_type(type,
                     [&](auto element) { return launch_pool<decltype(element), false>(x, y, k, stride, 0, stream); });
}

cudaError_t det_launch_spp(det_type type, det_view x, const int ks[3], const det_view ys[3], cudaStream_t stream) {
    if (!may_spp(type, x, ks, ys))
        return cudaErrorInvalidValue;
    return with_type(type, [&](auto element) { return launch_spp<decltype(element)>(x, ks, ys, stream); });
}

cudaError_t det_launch_space_to_depth(det_type type, det_view x, det_view y, int c, cudaStream_t stream) {
    if (!is_view(x) || !is_view(y) || c < 1 || x.c < c || y.c < 4 * c || x.n != y.n || x.h != 2 * y.h || x.w != 2 * y.w)
        return cudaErrorInvalidValue;
    return with_type(type, [&](auto element) {
        using T = decltype(element);
        return is_padded(type, y) ? launch_depth<T, lanes_of<T>>(x, y, c, stream) : launch_depth<T, 1>(x, y, c, stream);
    });
}
