/* Pictures -> the network's input, in one pass: resized, placed, converted, normalised, padded.
 *
 * Bilinear with pixel centres at .5 and borders repeated. Positions are found in double and rounded to float, and in
 * 8-bit arithmetic weights and sums are whole numbers, so the bytes are those of OpenCV's INTER_LINEAR. A block makes a
 * tile of one picture: the taps of its rows and columns are found once. A thread makes a pixel with one store of 16
 * bytes, where the tensor is padded. */
#include "common.cuh"

using namespace det;

namespace {

enum { TILE_W = 32, TILE_H = 16, ROWS = 8, WEIGHT_ONE = 2048 /* OpenCV's INTER_RESIZE_COEF_SCALE */ };

struct target {
    det_view y;
    float mean, scale, pad; /* pad is normalised */
    bool wide;              /* stores of 16 bytes */
};

/* Between pixels `low` and `high` of a row or column, with these weights. */
template <typename W> struct alignas(16) tap {
    int low, high;
    W low_weight, high_weight;
};

__device__ __forceinline__ void weigh(float weight, tap<int> *t) {
    t->low_weight = (int)rintf((1 - weight) * WEIGHT_ONE);
    t->high_weight = (int)rintf(weight * WEIGHT_ONE);
}
__device__ __forceinline__ void weigh(float weight, tap<float> *t) {
    t->low_weight = 1 - weight;
    t->high_weight = weight;
}

/* The tap of position `i` of `n_out` among `n_in` pixels. */
template <typename W> __device__ tap<W> locate(int i, int n_in, int n_out) {
    float x = (float)__dadd_rn(__dmul_rn(i + 0.5, (double)n_in / n_out), -0.5), whole = floorf(x);
    int first = (int)whole;
    tap<W> t;
    t.low = max(0, min(first, n_in - 1));
    t.high = max(0, min(first + 1, n_in - 1));
    weigh(x - whole, &t);
    return t;
}

/* Where the channels of a picture's pixels lie: channel 0 in plane 0, the others there or in plane 1 at half size. */
struct source {
    const uint8_t *planes[2];
    int64_t strides[2];
    int step, halving, offsets[3]; /* bytes; halving: 1 when rows and columns of plane 1 stand for two */
};

__device__ source source_of(const det_picture &p) {
    bool yuv = p.format == DET_NV12, packed = p.format == DET_RGB8 || p.format == DET_BGR8 || p.format == DET_RGBA8;
    source s;
    s.planes[0] = p.planes[0];
    s.planes[1] = yuv ? p.planes[1] : p.planes[0];
    s.strides[0] = p.strides[0];
    s.strides[1] = yuv ? p.strides[1] : p.strides[0];
    s.step = p.format == DET_RGBA8 ? 4 : packed ? 3 : 1;
    s.halving = yuv;
    s.offsets[0] = p.format == DET_BGR8 ? 2 : 0;
    s.offsets[1] = packed ? 1 : 0;
    s.offsets[2] = p.format == DET_BGR8 ? 0 : packed ? 2 : yuv ? 1 : 0;
    return s;
}

/* The three channels of row `i`, interpolated along x. */
template <typename W> __device__ __forceinline__ void row_values(const source &s, int i, const tap<W> &x, W (&v)[3]) {
    const uint8_t *first = s.planes[0] + i * s.strides[0], *rest = s.planes[1] + (i >> s.halving) * s.strides[1];
    int low = x.low * s.step, high = x.high * s.step;
    int rest_low = low & ~s.halving, rest_high = high & ~s.halving;
    v[0] = (W)__ldg(first + low + s.offsets[0]) * x.low_weight + (W)__ldg(first + high + s.offsets[0]) * x.high_weight;
#pragma unroll
    for (int k = 1; k < 3; k++)
        v[k] = (W)__ldg(rest + rest_low + s.offsets[k]) * x.low_weight +
               (W)__ldg(rest + rest_high + s.offsets[k]) * x.high_weight;
}

/* From two rows to a grey level. In 8 bits: each row of 8 + 11 bits loses 4 before its product and 16 after, and the sum
 * is rounded by the last two. */
__device__ __forceinline__ float blend(int a, int b, const tap<int> &y) {
    return (float)((((a >> 4) * y.low_weight >> 16) + ((b >> 4) * y.high_weight >> 16) + 2) >> 2);
}
__device__ __forceinline__ float blend(float a, float b, const tap<float> &y) {
    return a * y.low_weight + b * y.high_weight;
}

__device__ __forceinline__ float clamp_grey(float x) {
    return x < 0 ? 0 : x > 255 ? 255 : x;
}

/* BT.601, video range. */
__device__ __forceinline__ void yuv_to_rgb(float (&x)[3]) {
    float y = 1.164383f * (x[0] - 16), u = x[1] - 128, v = x[2] - 128;
    x[0] = clamp_grey(y + 1.596027f * v);
    x[1] = clamp_grey(y - 0.391762f * u - 0.812968f * v);
    x[2] = clamp_grey(y + 2.017232f * u);
}

template <typename T> __device__ __forceinline__ void store_pixel(const target &t, size_t at, const float (&rgb)[3]) {
    T *y = (T *)t.y.data + at * t.y.stride;
    if (t.wide) {
        float first[lanes_of<T>] = {rgb[0], rgb[1], rgb[2]}, zeros[lanes_of<T>] = {0};
        store_vector(y, first);
        for (int k = lanes_of<T>; k < t.y.c; k += lanes_of<T>)
            store_vector(y + k, zeros);
        return;
    }
    for (int k = 0; k < 3; k++)
        y[k] = of<T>(rgb[k]);
    for (int k = 3; k < t.y.c; k++)
        y[k] = of<T>(0);
}

template <typename T, typename W>
__global__ void __launch_bounds__(TILE_W *ROWS) preprocess(const __grid_constant__ target t, const det_block *block) {
    DET_SHARED(columns, tap<W>[TILE_W]);
    DET_SHARED(rows, tap<W>[TILE_H]);
    int picture = (int)blockIdx.z, x = (int)blockIdx.x * TILE_W + (int)threadIdx.x, top = (int)blockIdx.y * TILE_H;
    bool given = picture < block->n;
    det_picture p = {};
    if (given) {
        p = block->pictures[picture];
        if (threadIdx.y == 0)
            columns[threadIdx.x] = locate<W>(x - p.x, p.width, p.w);
        if (threadIdx.y == 1 && threadIdx.x < TILE_H)
            rows[threadIdx.x] = locate<W>(top + (int)threadIdx.x - p.y, p.height, p.h);
    }
    __syncthreads();
    if (x >= t.y.w)
        return;
    source s = source_of(p);
#pragma unroll
    for (int r = (int)threadIdx.y; r < TILE_H; r += ROWS) {
        int y = top + r;
        if (y >= t.y.h)
            return;
        float rgb[3] = {t.pad, t.pad, t.pad};
        if (given && x >= p.x && x < p.x + p.w && y >= p.y && y < p.y + p.h) {
            W low[3], high[3];
            row_values(s, rows[r].low, columns[threadIdx.x], low);
            row_values(s, rows[r].high, columns[threadIdx.x], high);
            for (int k = 0; k < 3; k++)
                rgb[k] = blend(low[k], high[k], rows[r]);
            if (p.format == DET_NV12)
                yuv_to_rgb(rgb);
            for (int k = 0; k < 3; k++)
                rgb[k] = (rgb[k] - t.mean) * t.scale;
        }
        store_pixel<T>(t, ((size_t)picture * t.y.h + y) * t.y.w + x, rgb);
    }
}

} // namespace

cudaError_t det_launch_preprocess(const det_preprocess_args *args, const det_block *block, cudaStream_t stream) {
    const det_view &y = args->y;
    if (!is_view(y) || y.c < 3 || y.n > 65535 || y.h > 65535 * TILE_H || !block)
        return cudaErrorInvalidValue;
    target t = {y, args->mean, args->scale, (args->pad - args->mean) * args->scale, is_padded(args->type, y)};
    dim3 grid((unsigned)div_up(y.w, (int)TILE_W), (unsigned)div_up(y.h, (int)TILE_H), (unsigned)y.n);
    return with_type(args->type, [&](auto element) {
        using T = decltype(element);
        if (args->eight_bit)
            return DET_LAUNCH((preprocess<T, int>), grid, dim3(TILE_W, ROWS), 0, stream, t, block);
        return DET_LAUNCH((preprocess<T, float>), grid, dim3(TILE_W, ROWS), 0, stream, t, block);
    });
}
