/* GroupNorm with activation, in two kernels: moments of pieces of each picture, then all pieces' moments together,
 * and the values.
 *
 * Moments are taken around a value of the channel itself, and joined as means and sums of squared deviations, in
 * an order that follows from the shape alone: the same input gives the same bytes. Means are kept as differences
 * from the picture's first pixel, so that values far from zero lose nothing.
 *
 * Bound: x twice in (the second time from L2 when it fits), y once out: [1,80,80,64] in half is 2.5 MB, 0.6 us on
 * an H200, less than its two launches. For one picture it is latency that counts, so nothing is joined one after another
 * that can be joined side by side, and loads do not wait for one another. */
#include "common.cuh"

#include <limits.h>

namespace det {
namespace {

enum { NORM_THREADS = 256, MOST_PIECES = 16, LEAST_PIXELS = 128, MOST_CHANNELS = 2048 };

/* Mean, and deviations from it squared and summed. */
typedef float2 moments;

/* Those of `n` values, and of others that are this share of all. */
__device__ __forceinline__ moments join(moments a, float n, moments b, float share) {
    float d = b.x - a.x;
    return make_float2(fmaf(d, share, a.x), a.y + b.y + d * d * n * share);
}

template <typename T> struct norm_job {
    const T *x;
    T *y;
    const float *weight, *bias;
    moments *pieces; /* [n][n_pieces][c], means from the first pixel's value on */
    int n_pixels, c, y_c, n_groups, n_pieces, piece_pixels, x_stride, y_stride;
    float epsilon;
    det_unit unit;
};

/* LANES channels at once: a vector, or one. */
template <typename T, int LANES> __device__ __forceinline__ void load_lanes(const T *p, float (&x)[LANES]) {
    if constexpr (LANES == 1)
        x[0] = to_float(*p);
    else
        load_vector(p, x);
}

template <typename T, int LANES> __device__ __forceinline__ void store_lanes(T *p, const float (&x)[LANES]) {
    if constexpr (LANES == 1)
        *p = of<T>(x[0]);
    else
        store_vector(p, x);
}

/* How many of a piece's pixels one of the block's rows of threads takes. */
__device__ __forceinline__ int taken_by(int row, int n_pixels, int n_rows) {
    return row < n_pixels ? (n_pixels - row - 1) / n_rows + 1 : 0;
}

/* Of the block's rows of threads to the first, by halves; `mine`: pixels of this one. */
template <int LANES>
__device__ __forceinline__ void join_rows(moments (&found)[LANES][NORM_THREADS], float (&counts)[NORM_THREADS],
                                          int mine) {
    int row = (int)threadIdx.y, at = row * (int)blockDim.x + (int)threadIdx.x, half;
    float n = (float)mine;
    counts[row] = n;
    for (int live = (int)blockDim.y; live > 1; live = half) {
        half = (live + 1) / 2;
        __syncthreads();
        if (row + half >= live)
            continue;
        float others = counts[row + half], share = n + others > 0 ? others / (n + others) : 0;
#pragma unroll
        for (int lane = 0; lane < LANES; lane++)
            found[lane][at] = join(found[lane][at], n, found[lane][at + half * (int)blockDim.x], share);
        n += others;
        counts[row] = n;
    }
}

/* Block (piece, channels, picture); thread (group of LANES channels, row of pixels). */
template <typename T, int LANES> __global__ void __launch_bounds__(NORM_THREADS) norm_moments(norm_job<T> job) {
    DET_SHARED(found, moments[LANES][NORM_THREADS]);
    DET_SHARED(counts, float[NORM_THREADS]); /* pixels of each row */
    int c = (int)(blockIdx.y * blockDim.x + threadIdx.x) * LANES, first = (int)blockIdx.x * job.piece_pixels;
    int n_pixels = job.n_pixels - first < job.piece_pixels ? job.n_pixels - first : job.piece_pixels;
    int n_rows = (int)blockDim.y, row = (int)threadIdx.y, mine = taken_by(row, n_pixels, n_rows);
    float base[LANES] = {}, shift[LANES] = {}, sums[LANES] = {}, squares[LANES] = {};
    if (c < job.c && mine > 0) {
        const T *picture = job.x + (size_t)blockIdx.z * job.n_pixels * job.x_stride + c;
        const T *x = picture + (size_t)first * job.x_stride;
        load_lanes<T, LANES>(picture, base);
        load_lanes<T, LANES>(x + (size_t)row * job.x_stride, shift);
#pragma unroll 4
        for (int i = row + n_rows; i < n_pixels; i += n_rows) {
            float values[LANES];
            load_lanes<T, LANES>(x + (size_t)i * job.x_stride, values);
#pragma unroll
            for (int lane = 0; lane < LANES; lane++) {
                float d = values[lane] - shift[lane];
                sums[lane] += d;
                squares[lane] = fmaf(d, d, squares[lane]);
            }
        }
    }
    float part = 1 / (float)(mine > 0 ? mine : 1);
    int at = row * (int)blockDim.x + (int)threadIdx.x;
#pragma unroll
    for (int lane = 0; lane < LANES; lane++) {
        float d = sums[lane] * part, left = squares[lane] - sums[lane] * d;
        found[lane][at] = make_float2(shift[lane] - base[lane] + d, left > 0 ? left : 0);
    }
    join_rows<LANES>(found, counts, mine);
    size_t piece = (size_t)blockIdx.z * job.n_pieces + blockIdx.x;
#pragma unroll
    for (int lane = 0; lane < LANES; lane++) {
        if (row == 0 && c + lane < job.c)
            job.pieces[piece * job.c + c + lane] = found[lane][at];
    }
}

/* What the values of a channel need: (x - base - mean) * scale + bias. */
struct norm_scale {
    float base, mean, scale;
};

/* Of channel c of picture blockIdx.y, from all its pieces. */
template <typename T> __device__ __forceinline__ moments join_pieces(const norm_job<T> &job, int c) {
    const moments *pieces = job.pieces + (size_t)blockIdx.y * job.n_pieces * job.c + c;
    float sum = 0, squares = 0, mean;
#pragma unroll 8
    for (int p = 0; p < job.n_pieces; p++) {
        int left = job.n_pixels - p * job.piece_pixels;
        sum = fmaf((float)(left < job.piece_pixels ? left : job.piece_pixels), __ldg(pieces + p * job.c).x, sum);
    }
    mean = sum / (float)job.n_pixels;
#pragma unroll 8
    for (int p = 0; p < job.n_pieces; p++) {
        int left = job.n_pixels - p * job.piece_pixels;
        moments one = __ldg(pieces + p * job.c);
        float d = one.x - mean;
        squares += fmaf((float)(left < job.piece_pixels ? left : job.piece_pixels) * d, d, one.y);
    }
    return make_float2(mean, squares);
}

/* Of a group, whose `size` channels all have as many values. */
__device__ __forceinline__ moments join_channels(const moments *channels, int size, float n) {
    float sum = 0, squares = 0, mean;
    for (int i = 0; i < size; i++)
        sum += channels[i].x;
    mean = sum / (float)size;
    for (int i = 0; i < size; i++) {
        float d = channels[i].x - mean;
        squares += fmaf(n * d, d, channels[i].y);
    }
    return make_float2(mean, squares);
}

/* Joins all pieces of picture blockIdx.y: channel by channel, from the group's first value on, then the channels of each
 * group. */
template <typename T>
__device__ __forceinline__ void gather(const norm_job<T> &job, moments *channels, norm_scale *scales) {
    int size = job.c / job.n_groups;
    const T *first = job.x + (size_t)blockIdx.y * job.n_pixels * job.x_stride;
    for (int c = (int)threadIdx.x; c < job.c; c += NORM_THREADS) {
        moments all = join_pieces(job, c);
        float base = to_float(first[c / size * size]);
        channels[c] = make_float2(to_float(first[c]) - base + all.x, all.y);
        scales[c].base = base;
    }
    __syncthreads();
    float n = (float)job.n_pixels;
    for (int c = (int)threadIdx.x; c < job.c; c += NORM_THREADS) {
        moments all = join_channels(channels + c / size * size, size, n);
        scales[c].mean = all.x;
        scales[c].scale = __ldg(job.weight + c) / sqrtf(all.y / (n * (float)size) + job.epsilon);
    }
    __syncthreads();
}

/* Blocks (some, picture); all of them gather, which is little beside what each then writes. */
template <typename T, int LANES> __global__ void __launch_bounds__(NORM_THREADS) norm_values(norm_job<T> job) {
    DET_DYNAMIC_SHARED(memory);
    moments *channels = (moments *)memory;
    norm_scale *scales = (norm_scale *)(channels + job.c);
    gather(job, channels, scales);
    int n_groups = job.y_c / LANES, n_items = job.n_pixels * n_groups;
    for (int item = (int)(blockIdx.x * NORM_THREADS + threadIdx.x); item < n_items;
         item += (int)gridDim.x * NORM_THREADS) {
        size_t pixel = (size_t)blockIdx.y * job.n_pixels + item / n_groups;
        int c = item % n_groups * LANES;
        float values[LANES] = {};
        if (c < job.c) {
            load_lanes<T, LANES>(job.x + pixel * job.x_stride + c, values);
#pragma unroll
            for (int lane = 0; lane < LANES; lane++) {
                norm_scale s = scales[c + lane];
                float y = fmaf(values[lane] - s.base - s.mean, s.scale, __ldg(job.bias + c + lane));
                values[lane] = activate<T>(y, job.unit);
            }
        }
        store_lanes<T, LANES>(job.y + pixel * job.y_stride + c, values);
    }
}

int pieces_of(int n_pixels) {
    int n = n_pixels / LEAST_PIXELS;
    return n < 1 ? 1 : n > MOST_PIECES ? MOST_PIECES : n;
}

template <typename T, int LANES> cudaError_t launch_norm(const det_group_norm_args &a, cudaStream_t stream) {
    enum { BLOCKS = 512, ITEMS_PER_THREAD = 4 };
    norm_job<T> job = {};
    job.x = (const T *)a.x.data;
    job.y = (T *)a.y.data;
    job.weight = a.weight;
    job.bias = a.bias;
    job.pieces = (moments *)a.workspace;
    job.n_pixels = a.x.h * a.x.w;
    job.c = a.c;
    job.y_c = a.y.c;
    job.n_groups = a.n_groups;
    job.piece_pixels = div_up(job.n_pixels, pieces_of(job.n_pixels));
    job.n_pieces = div_up(job.n_pixels, job.piece_pixels);
    job.x_stride = a.x.stride;
    job.y_stride = a.y.stride;
    job.epsilon = a.epsilon;
    job.unit = a.unit;
    int groups = div_up(a.c, LANES), across = groups < WARP ? groups : (int)WARP;
    dim3 block((unsigned)across, (unsigned)(NORM_THREADS / across));
    dim3 grid((unsigned)job.n_pieces, (unsigned)div_up(groups, across), (unsigned)a.x.n);
    cudaError_t error = DET_LAUNCH((norm_moments<T, LANES>), grid, block, 0, stream, job);
    if (error != cudaSuccess)
        return error;
    int wanted = div_up(job.n_pixels * (a.y.c / LANES), NORM_THREADS * ITEMS_PER_THREAD),
        most = div_up<int>(BLOCKS, a.x.n);
    size_t shared_bytes = (size_t)a.c * (sizeof(moments) + sizeof(norm_scale));
    return DET_LAUNCH((norm_values<T, LANES>), dim3((unsigned)(wanted < most ? wanted : most), (unsigned)a.x.n),
                      NORM_THREADS, shared_bytes, stream, job);
}

bool is_good(const det_group_norm_args &a) {
    return is_view(a.x) && is_view(a.y) && a.x.n == a.y.n && a.x.h == a.y.h && a.x.w == a.y.w && a.c > 0 &&
           a.c <= MOST_CHANNELS && a.c <= a.x.c && a.c <= a.y.c && a.n_groups > 0 && a.c % a.n_groups == 0 &&
           a.x.n <= 65535 && (int64_t)a.x.h * a.x.w * a.y.c < INT_MAX / 2 && a.weight && a.bias && a.workspace;
}

} // namespace
} // namespace det

size_t det_group_norm_workspace(const det_group_norm_args *args) {
    return (size_t)args->x.n * det::pieces_of(args->x.h * args->x.w) * args->c * sizeof(det::moments);
}

cudaError_t det_launch_group_norm(const det_group_norm_args *args, cudaStream_t stream) {
    using namespace det;
    if (!is_good(*args))
        return cudaErrorInvalidValue;
    return with_type(args->type, [&](auto element) {
        using T = decltype(element);
        bool vectors = is_padded(args->type, args->x) && is_padded(args->type, args->y) && args->c % lanes_of<T> == 0;
        return vectors ? launch_norm<T, lanes_of<T>>(*args, stream) : launch_norm<T, 1>(*args, stream);
    });
}
