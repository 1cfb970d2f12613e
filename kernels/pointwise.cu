/* Element by element: the end of a convolution, upsampling, copies, conversions. Bound by memory: every element once in
 * (for each input) and once out; [1,80,80,128] in half is 1.6 MB each way, 0.8 us on an H200. */
#include "common.cuh"

#include <limits.h>

namespace det {
namespace {

enum { POINTWISE_THREADS = 256 };

/* One thread for each of n items. */
inline bool grid_of(int64_t n, dim3 *grid) {
    if (n > INT_MAX - POINTWISE_THREADS)
        return false;
    *grid = dim3((unsigned)div_up<int64_t>(n, POINTWISE_THREADS));
    return true;
}

inline int64_t pixels_of(const det_view &v) {
    return (int64_t)v.n * v.h * v.w;
}

__device__ __forceinline__ int item_index() {
    return (int)(blockIdx.x * POINTWISE_THREADS + threadIdx.x);
}

/* --------------------------------------------------------------------------------------------------------- epilogue */

template <typename T> struct epilogue_job {
    const T *x, *residual;
    T *y;
    const float *bias;
    int n_items, n_vectors, w, h;
    int x_stride, y_stride, residual_stride, upsample;
    det_unit unit, post_unit;
};

/* Pixel of the residual for one of y. */
template <typename T> __device__ __forceinline__ size_t residual_pixel(const epilogue_job<T> &job, int pixel) {
    if (!job.upsample)
        return (size_t)pixel;
    int j = pixel % job.w, row = pixel / job.w; /* row: of all pictures, each of an even height */
    return (size_t)(row / 2) * (job.w / 2) + j / 2;
}

/* x, y and the residual may be the same memory: no loads through the constant cache. */
template <typename T> __global__ void __launch_bounds__(POINTWISE_THREADS) epilogue(epilogue_job<T> job) {
    constexpr int V = lanes_of<T>;
    int item = item_index();
    if (item >= job.n_items)
        return;
    int pixel = item / job.n_vectors, c = item % job.n_vectors * V;
    float x[V], residual[V] = {};
    load_vector(job.x + (size_t)pixel * job.x_stride + c, x);
    if (job.residual)
        load_vector(job.residual + residual_pixel(job, pixel) * job.residual_stride + c, residual);
#pragma unroll
    for (int i = 0; i < V; i++) {
        float biased = job.bias ? x[i] + __ldg(job.bias + c + i) : x[i];
        x[i] = activate<T>(activate<T>(biased, job.unit) + residual[i], job.post_unit);
    }
    store_vector(job.y + (size_t)pixel * job.y_stride + c, x);
}

template <typename T> cudaError_t launch_epilogue(const det_epilogue_args &a, cudaStream_t stream) {
    epilogue_job<T> job = {};
    dim3 grid;
    job.x = (const T *)a.x.data;
    job.residual = (const T *)a.residual.data;
    job.y = (T *)a.y.data;
    job.bias = a.bias;
    job.n_vectors = a.x.c / lanes_of<T>;
    job.w = a.y.w;
    job.h = a.y.h;
    job.x_stride = a.x.stride;
    job.y_stride = a.y.stride;
    job.residual_stride = a.residual.stride;
    job.upsample = a.upsample;
    job.unit = a.unit;
    job.post_unit = a.post_unit;
    int64_t n = pixels_of(a.y) * job.n_vectors;
    if (!grid_of(n, &grid))
        return cudaErrorInvalidValue;
    job.n_items = (int)n;
    return DET_LAUNCH(epilogue<T>, grid, POINTWISE_THREADS, 0, stream, job);
}

bool is_good(const det_epilogue_args &a) {
    if (!is_padded(a.type, a.x) || !is_padded(a.type, a.y) || !same_shape(a.x, a.y))
        return false;
    if (!a.residual.data)
        return !a.upsample;
    if (!is_padded(a.type, a.residual))
        return false;
    const det_view &r = a.residual;
    return a.upsample ? r.n == a.y.n && r.c == a.y.c && 2 * r.h == a.y.h && 2 * r.w == a.y.w : same_shape(r, a.y);
}

/* ------------------------------------------------------------------------------------------ upsample, copy, convert */

/* Elements move as they are: `bits` of their size. */
struct move_job {
    const void *x;
    void *y;
    int n_items, n_groups; /* groups of channels of a pixel of y that one thread moves */
    int x_stride, y_stride, x_c, w;
};

/* One input vector to four places. */
template <int BYTES> __global__ void __launch_bounds__(POINTWISE_THREADS) upsample(move_job job) {
    constexpr int V = 16 / BYTES;
    int item = item_index();
    if (item >= job.n_items)
        return;
    int pixel = item / job.n_groups, c = item % job.n_groups * V, row = pixel / job.w, j = pixel % job.w;
    uint4 bits = load16_constant((const char *)job.x + ((size_t)pixel * job.x_stride + c) * BYTES);
    size_t first = (size_t)row * 2 * job.w * 2 + 2 * j, below = (size_t)job.w * 2;
    char *y = (char *)job.y + (first * job.y_stride + c) * BYTES;
    store16(y, bits);
    store16(y + (size_t)job.y_stride * BYTES, bits);
    store16(y + below * job.y_stride * BYTES, bits);
    store16(y + (below + 1) * job.y_stride * BYTES, bits);
}

template <int BYTES> __global__ void __launch_bounds__(POINTWISE_THREADS) copy_vectors(move_job job) {
    constexpr int V = 16 / BYTES;
    int item = item_index();
    if (item >= job.n_items)
        return;
    int pixel = item / job.n_groups, c = item % job.n_groups * V;
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (c < job.x_c)
        bits = load16_constant((const char *)job.x + ((size_t)pixel * job.x_stride + c) * BYTES);
    store16((char *)job.y + ((size_t)pixel * job.y_stride + c) * BYTES, bits);
}

template <typename BITS> __global__ void __launch_bounds__(POINTWISE_THREADS) copy_elements(move_job job) {
    int item = item_index();
    if (item >= job.n_items)
        return;
    int pixel = item / job.n_groups, c = item % job.n_groups;
    BITS bits = c < job.x_c ? ((const BITS *)job.x)[(size_t)pixel * job.x_stride + c] : 0;
    ((BITS *)job.y)[(size_t)pixel * job.y_stride + c] = bits;
}

template <typename FROM, typename TO> __global__ void __launch_bounds__(POINTWISE_THREADS) convert(move_job job) {
    int item = item_index();
    if (item >= job.n_items)
        return;
    int pixel = item / job.n_groups, c = item % job.n_groups;
    float x = c < job.x_c ? to_float(((const FROM *)job.x)[(size_t)pixel * job.x_stride + c]) : 0;
    ((TO *)job.y)[(size_t)pixel * job.y_stride + c] = of<TO>(x);
}

/* One item for each group of `lanes` channels of each pixel of `over`. */
bool plan_move(const det_view &x, const det_view &y, const det_view &over, int lanes, move_job *job, dim3 *grid) {
    *job = {x.data, y.data, 0, over.c / lanes, x.stride, y.stride, x.c, x.w};
    int64_t n = pixels_of(over) * job->n_groups;
    job->n_items = (int)n;
    return grid_of(n, grid);
}

bool may_copy(const det_view &x, const det_view &y) {
    return is_view(x) && is_view(y) && x.n == y.n && x.h == y.h && x.w == y.w && y.c >= x.c;
}

} // namespace
} // namespace det

using namespace det;

cudaError_t det_launch_epilogue(const det_epilogue_args *args, cudaStream_t stream) {
    if (!is_good(*args))
        return cudaErrorInvalidValue;
    return with_type(args->type, [&](auto element) { return launch_epilogue<decltype(element)>(*args, stream); });
}

cudaError_t det_launch_upsample(det_type type, det_view x, det_view y, cudaStream_t stream) {
    move_job job;
    dim3 grid;
    if (!is_padded(type, x) || !is_padded(type, y) || x.n != y.n || 2 * x.h != y.h || 2 * x.w != y.w || x.c != y.c ||
        !plan_move(x, y, x, (int)(16 / type_bytes(type)), &job, &grid))
        return cudaErrorInvalidValue;
    if (type == DET_TYPE_F32)
        return DET_LAUNCH(upsample<4>, grid, POINTWISE_THREADS, 0, stream, job);
    return DET_LAUNCH(upsample<2>, grid, POINTWISE_THREADS, 0, stream, job);
}

cudaError_t det_launch_copy(det_type type, det_view x, det_view y, cudaStream_t stream) {
    move_job job;
    dim3 grid;
    bool vectors = is_padded(type, x) && is_padded(type, y), wide = type == DET_TYPE_F32;
    if (!may_copy(x, y) || !plan_move(x, y, y, vectors ? (int)(16 / type_bytes(type)) : 1, &job, &grid))
        return cudaErrorInvalidValue;
    if (vectors && wide)
        return DET_LAUNCH(copy_vectors<4>, grid, POINTWISE_THREADS, 0, stream, job);
    if (vectors)
        return DET_LAUNCH(copy_vectors<2>, grid, POINTWISE_THREADS, 0, stream, job);
    if (wide)
        return DET_LAUNCH(copy_elements<uint32_t>, grid, POINTWISE_THREADS, 0, stream, job);
    return DET_LAUNCH(copy_elements<uint16_t>, grid, POINTWISE_THREADS, 0, stream, job);
}

cudaError_t det_launch_convert(det_type from, det_view x, det_type to, det_view y, cudaStream_t stream) {
    move_job job;
    dim3 grid;
    if (!may_copy(x, y) || (from != DET_TYPE_F32 && to != DET_TYPE_F32) || !plan_move(x, y, y, 1, &job, &grid))
        return cudaErrorInvalidValue;
    if (from == DET_TYPE_F32)
        return with_type(to, [&](auto element) {
            return DET_LAUNCH((convert<float, decltype(element)>), grid, POINTWISE_THREADS, 0, stream, job);
        });
    return with_type(from, [&](auto element) {
        return DET_LAUNCH((convert<decltype(element), float>), grid, POINTWISE_THREADS, 0, stream, job);
    });
}
