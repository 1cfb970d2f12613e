/* Pictures -> the network's input, in one pass: resized, placed, converted, normalised, padded.
 *
 * Bilinear with pixel centres at .5 and borders repeated. Positions are found in double and rounded to float, and in
 * 8-bit arithmetic weights and sums are whole numbers, so the bytes are those of OpenCV's INTER_LINEAR. A block makes a
 * tile of one picture: the taps of its rows and columns are found once. A thread makes a pixel with one store of 16
 * bytes, where the tensor is padded. */
#include "common.cuh"

using namespace det;

namespace {

enum {
    TILE_W = 32,
    ROWS = 8,
    PIXELS = 2,
    TILE_H = ROWS * PIXELS,
    WEIGHT_ONE = 2048 /* OpenCV's INTER_RESIZE_COEF_SCALE */
};

struct target {
    det_view y;
    float mean, scale, pad; /* pad is normalised */
    int wide;               /* 1: stores of 16 bytes; an int, so that no byte of an argument is left to chance */
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

/* How the channels of a pixel lie: side by side, once for all three, or in two planes of which one has half the size. */
enum arrangement { PACKED, GREY, YUV };

__device__ __forceinline__ arrangement arrangement_of(int format) {
    return format == DET_NV12 ? YUV : format == DET_GRAY8 ? GREY : PACKED;
}

__device__ __forceinline__ int pixel_bytes(int format) {
    return format == DET_RGBA8 ? 4 : format == DET_RGB8 || format == DET_BGR8 ? 3 : 1;
}

/* The tap of a row as what the pixels of a tile read: where the two rows begin, in both planes. */
template <typename W> struct alignas(16) row_tap {
    const uint8_t *low[2], *high[2];
    W low_weight, high_weight;
};

template <typename W> __device__ row_tap<W> row_of(const det_picture &p, int y) {
    tap<W> t = locate<W>(y - p.y, p.height, p.h);
    row_tap<W> row = {};
    row.low[0] = p.planes[0] + t.low * p.strides[0];
    row.high[0] = p.planes[0] + t.high * p.strides[0];
    if (p.format == DET_NV12) {
        row.low[1] = p.planes[1] + t.low / 2 * p.strides[1];
        row.high[1] = p.planes[1] + t.high / 2 * p.strides[1];
    }
    row.low_weight = t.low_weight;
    row.high_weight = t.high_weight;
    return row;
}

/* The tap of a column, in bytes. */
template <typename W> __device__ tap<W> column_of(const det_picture &p, int x) {
    tap<W> t = locate<W>(x - p.x, p.width, p.w);
    t.low *= pixel_bytes(p.format);
    t.high *= pixel_bytes(p.format);
    return t;
}

template <typename W> __device__ __forceinline__ W between(const uint8_t *low, const uint8_t *high, const tap<W> &x) {
    return (W)__ldg(low) * x.low_weight + (W)__ldg(high) * x.high_weight;
}

/* The three channels of a row, interpolated along x. */
template <arrangement A, typename W>
__device__ __forceinline__ void row_values(const uint8_t *const (&planes)[2], const tap<W> &x, W (&v)[3]) {
    const uint8_t *low = planes[0] + x.low, *high = planes[0] + x.high;
    v[0] = between(low, high, x);
    if (A == YUV) {
        low = planes[1] + (x.low & ~1);
        high = planes[1] + (x.high & ~1);
    }
#pragma unroll
    for (int k = 1; k < 3; k++)
        v[k] = A == GREY ? v[0] : between(low + (A == YUV ? k - 1 : k), high + (A == YUV ? k - 1 : k), x);
}

/* From two rows to a grey level. In 8 bits: each row of 8 + 11 bits loses 4 before its product and 16 after, and the sum
 * is rounded by the last two. */
__device__ __forceinline__ float blend(int a, int b, const row_tap<int> &y) {
    return (float)((((a >> 4) * y.low_weight >> 16) + ((b >> 4) * y.high_weight >> 16) + 2) >> 2);
}
__device__ __forceinline__ float blend(float a, float b, const row_tap<float> &y) {
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

template <typename T> __device__ __forceinline__ T *pixel_at(const target &t, int picture, int x, int y) {
    return (T *)t.y.data + (((size_t)picture * t.y.h + y) * t.y.w + x) * t.y.stride;
}

template <typename T> __device__ __forceinline__ void store_pixel(const target &t, T *y, const float (&rgb)[3]) {
    if (t.wide) {
        float first[lanes_of<T>] = {rgb[0], rgb[1], rgb[2]}, zeros[lanes_of<T>] = {0};
        store_vector(y, first);
#pragma unroll 1
        for (int k = lanes_of<T>; k < t.y.c; k += lanes_of<T>)
            store_vector(y + k, zeros);
        return;
    }
    for (int k = 0; k < 3; k++)
        y[k] = of<T>(rgb[k]);
#pragma unroll 1
    for (int k = 3; k < t.y.c; k++)
        y[k] = of<T>(0);
}

/* A thread's part of a tile: pixels of one column, all read before one is written. Beside the picture, its border is
 * read for nothing. */
template <typename T, arrangement A, typename W>
__device__ __forceinline__ void make_pixels(const target &t, const det_picture &p, int picture, int x, int top,
                                            const tap<W> &column, const row_tap<W> *rows) {
    W low[PIXELS][3], high[PIXELS][3];
#pragma unroll
    for (int i = 0; i < PIXELS; i++) {
        row_values<A>(rows[threadIdx.y + i * ROWS].low, column, low[i]);
        row_values<A>(rows[threadIdx.y + i * ROWS].high, column, high[i]);
    }
    int y = top + (int)threadIdx.y;
    T *pixel = pixel_at<T>(t, picture, x, y);
#pragma unroll
    for (int i = 0; i < PIXELS; i++, y += ROWS, pixel += (size_t)ROWS * t.y.w * t.y.stride) {
        float rgb[3];
        for (int k = 0; k < 3; k++)
            rgb[k] = blend(low[i][k], high[i][k], rows[threadIdx.y + i * ROWS]);
        if (A == YUV)
            yuv_to_rgb(rgb);
        bool inside = x >= p.x && x < p.x + p.w && y >= p.y && y < p.y + p.h;
        for (int k = 0; k < 3; k++)
            rgb[k] = inside ? (rgb[k] - t.mean) * t.scale : t.pad;
        if (A == PACKED && p.format == DET_BGR8) {
            float blue = rgb[0];
            rgb[0] = rgb[2];
            rgb[2] = blue;
        }
        if (y < t.y.h)
            store_pixel(t, pixel, rgb);
    }
}

/* The same where there is no picture. */
template <typename T> __device__ void make_padding(const target &t, int picture, int x, int top) {
    const float rgb[3] = {t.pad, t.pad, t.pad};
    for (int y = top + (int)threadIdx.y; x < t.y.w && y < min(top + TILE_H, t.y.h); y += ROWS)
        store_pixel(t, pixel_at<T>(t, picture, x, y), rgb);
}

template <typename T, typename W>
__global__ void __launch_bounds__(TILE_W *ROWS, 4)
    preprocess(const __grid_constant__ target t, const det_block *block) {
    DET_SHARED(columns, tap<W>[TILE_W]);
    DET_SHARED(rows, row_tap<W>[TILE_H]);
    int picture = (int)blockIdx.z, left = (int)blockIdx.x * TILE_W, top = (int)blockIdx.y * TILE_H;
    int x = left + (int)threadIdx.x;
    bool given = picture < block->n;
    det_picture p = given ? block->pictures[picture] : det_picture();
    if (!given || left >= p.x + p.w || left + TILE_W <= p.x || top >= p.y + p.h || top + TILE_H <= p.y) {
        make_padding<T>(t, picture, x, top);
        return;
    }
    if (threadIdx.y == 0)
        columns[threadIdx.x] = column_of<W>(p, x);
    if (threadIdx.y == 1 && threadIdx.x < TILE_H)
        rows[threadIdx.x] = row_of<W>(p, top + (int)threadIdx.x);
    __syncthreads();
    if (x >= t.y.w)
        return;
    arrangement a = arrangement_of(p.format);
    if (a == PACKED)
        make_pixels<T, PACKED>(t, p, picture, x, top, columns[threadIdx.x], rows);
    else if (a == GREY)
        make_pixels<T, GREY>(t, p, picture, x, top, columns[threadIdx.x], rows);
    else
        make_pixels<T, YUV>(t, p, picture, x, top, columns[threadIdx.x], rows);
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
