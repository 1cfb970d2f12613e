/* Pictures of any size and format -> the network's input: resized, placed, normalised, RGB.
 *
 * Bilinear with pixel centres at .5 and borders repeated, in the arithmetic of the authors' pipelines. Those that
 * letterbox resize 8-bit pictures with OpenCV, whose INTER_LINEAR has weights of 11 bits and rounds to a grey level in
 * its own way: the same bytes come out here. A stretched picture stays in float.
 *
 * Each source row is interpolated along x once, into one of two row buffers; two of those give an output row. NV12
 * stays Y, Cb, Cr until the end, for the conversion is linear. */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum { WEIGHT_ONE = 2048 }; /* OpenCV's INTER_RESIZE_COEF_SCALE */

typedef struct preprocess_state {
    float mean, scale, pad; /* pad is normalised */
    bool eight_bit;         /* OpenCV's arithmetic for 8-bit pictures */
    size_t scratch_bytes;   /* of one thread */
    int n_bands;
} preprocess_state;

/* Between pixels `low` and `high` of a row or column, with these weights (in 8-bit arithmetic whole numbers). */
typedef struct tap {
    int low, high;
    float low_weight, high_weight;
} tap;

/* A thread's scratch, for one picture. Pixels are gathered as words of three bytes, then unpacked into planes: both
 * loops are wide then. */
typedef struct scratch {
    int *low, *high;                  /* [w] taps of the output columns */
    float *low_weight, *high_weight;  /* [w] */
    uint32_t *low_pixel, *high_pixel; /* [w] */
    float *rows[2];                   /* [3][w] interpolated source rows ... */
    int row_index[2];                 /* ... and which they are, or -1 */
} scratch;

enum { SCRATCH_WORDS = 6 + 2 * 3 };

static size_t scratch_bytes(int w) {
    return ((size_t)w * SCRATCH_WORDS * sizeof(float) + 63) / 64 * 64;
}

static scratch scratch_at(void *memory, int w) {
    scratch s = {.low = memory, .row_index = {-1, -1}};
    s.high = s.low + w;
    s.low_weight = (float *)(s.high + w);
    s.high_weight = s.low_weight + w;
    s.low_pixel = (uint32_t *)(s.high_weight + w);
    s.high_pixel = s.low_pixel + w;
    s.rows[0] = (float *)(s.high_pixel + w);
    s.rows[1] = s.rows[0] + 3 * (size_t)w;
    return s;
}

/* The tap of position `i` of `n_out` among `n_in` pixels. Positions are rounded to float, as OpenCV does. */
static tap locate(int i, int n_in, int n_out, bool eight_bit) {
    float x = (float)((i + 0.5) * ((double)n_in / n_out) - 0.5);
    float whole = floorf(x), weight = x - whole;
    int first = (int)whole;
    tap t = {DET_MAX(0, DET_MIN(first, n_in - 1)), DET_MAX(0, DET_MIN(first + 1, n_in - 1)), 1 - weight, weight};
    if (eight_bit) {
        t.low_weight = rintf(t.low_weight * WEIGHT_ONE);
        t.high_weight = rintf(t.high_weight * WEIGHT_ONE);
    }
    return t;
}

static void locate_columns(scratch *s, int n_in, int n_out, bool eight_bit) {
    for (int j = 0; j < n_out; j++) {
        tap t = locate(j, n_in, n_out, eight_bit);
        s->low[j] = t.low;
        s->high[j] = t.high;
        s->low_weight[j] = t.low_weight;
        s->high_weight[j] = t.high_weight;
    }
}

/* Pixels at columns x[0 .. w) as words of three bytes, the first lowest. Rows of three bytes a pixel are read by fours
 * but for their last pixel. */
static void gather_packed(const uint8_t *row, int n_in, int size, const int *x, int w, uint32_t *pixels) {
    for (int j = 0; j < w; j++) {
        const uint8_t *p = row + (size_t)x[j] * size;
        if (size == 4 || x[j] < n_in - 1)
            memcpy(&pixels[j], p, 4);
        else
            pixels[j] = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
    }
}

static void gather_grey(const uint8_t *row, const int *x, int w, uint32_t *pixels) {
    for (int j = 0; j < w; j++)
        pixels[j] = row[x[j]] * 0x010101u;
}

static void gather_nv12(const uint8_t *luma, const uint8_t *chroma, const int *x, int w, uint32_t *pixels) {
    for (int j = 0; j < w; j++) {
        const uint8_t *c = chroma + x[j] / 2 * 2;
        pixels[j] = luma[x[j]] | (uint32_t)c[0] << 8 | (uint32_t)c[1] << 16;
    }
}

static void gather(const det_image *image, int i, const int *x, int w, uint32_t *pixels) {
    const uint8_t *row = (const uint8_t *)image->planes[0] + i * image->strides[0];
    switch (image->format) {
    case DET_RGB8:
    case DET_BGR8:
        gather_packed(row, image->width, 3, x, w, pixels);
        break;
    case DET_RGBA8:
        gather_packed(row, image->width, 4, x, w, pixels);
        break;
    case DET_GRAY8:
        gather_grey(row, x, w, pixels);
        break;
    default: /* DET_NV12 */
        gather_nv12(row, (const uint8_t *)image->planes[1] + i / 2 * image->strides[1], x, w, pixels);
    }
}

DET_CPU_CLONES static void interpolate(const uint32_t *low, const uint32_t *high, const float *low_weight,
                                       const float *high_weight, int shift, float *y, int w) {
    for (int j = 0; j < w; j++)
        y[j] =
            (float)(int)(low[j] >> shift & 255) * low_weight[j] + (float)(int)(high[j] >> shift & 255) * high_weight[j];
}

/* Source row `i` interpolated along x, from a buffer when it is there; row `keep` is not dropped for it. */
static const float *source_row(const det_image *image, scratch *s, int w, int i, int keep) {
    for (int k = 0; k < 2; k++) {
        if (s->row_index[k] == i)
            return s->rows[k];
    }
    int k = s->row_index[0] == keep;
    gather(image, i, s->low, w, s->low_pixel);
    gather(image, i, s->high, w, s->high_pixel);
    for (int plane = 0; plane < 3; plane++) {
        int shift = 8 * (image->format == DET_BGR8 ? 2 - plane : plane);
        interpolate(s->low_pixel, s->high_pixel, s->low_weight, s->high_weight, shift, s->rows[k] + plane * w, w);
    }
    s->row_index[k] = i;
    return s->rows[k];
}

/* Both blends take planes of w values and write pixels. OpenCV's way from two rows of 8 + 11 bits to grey levels: each
 * product loses 4 bits before and 16 after, the sum is rounded by the last two. */
static inline float eight_bit(float a, float b, int low, int high) {
    return (float)(((((int)a >> 4) * low >> 16) + (((int)b >> 4) * high >> 16) + 2) >> 2);
}

DET_CPU_CLONES static void blend_eight_bit(const float *a, const float *b, int low, int high, float mean, float scale,
                                           float *restrict y, int w) {
    for (int j = 0; j < w; j++) {
        y[3 * j] = (eight_bit(a[j], b[j], low, high) - mean) * scale;
        y[3 * j + 1] = (eight_bit(a[w + j], b[w + j], low, high) - mean) * scale;
        y[3 * j + 2] = (eight_bit(a[2 * w + j], b[2 * w + j], low, high) - mean) * scale;
    }
}

DET_CPU_CLONES static void blend(const float *a, const float *b, float low, float high, float mean, float scale,
                                 float *restrict y, int w) {
    for (int j = 0; j < w; j++) {
        y[3 * j] = (a[j] * low + b[j] * high - mean) * scale;
        y[3 * j + 1] = (a[w + j] * low + b[w + j] * high - mean) * scale;
        y[3 * j + 2] = (a[2 * w + j] * low + b[2 * w + j] * high - mean) * scale;
    }
}

static float clamp_grey(float x) {
    return x < 0 ? 0 : x > 255 ? 255 : x;
}

/* BT.601, video range, in place. */
static void yuv_to_rgb(float *x, int n_pixels, float mean, float scale) {
    for (int i = 0; i < n_pixels; i++, x += 3) {
        float y = 1.164383f * (x[0] - 16), u = x[1] - 128, v = x[2] - 128;
        x[0] = (clamp_grey(y + 1.596027f * v) - mean) * scale;
        x[1] = (clamp_grey(y - 0.391762f * u - 0.812968f * v) - mean) * scale;
        x[2] = (clamp_grey(y + 2.017232f * u) - mean) * scale;
    }
}

static void fill(float *y, float value, int n) {
    for (int i = 0; i < n; i++)
        y[i] = value;
}

/* Row `i` of the part of the input that the picture covers, to y. */
static void picture_row(const preprocess_state *state, scratch *s, const det_image *image, const det_placement *p,
                        int i, float *y) {
    tap t = locate(i, image->height, p->h, state->eight_bit);
    const float *a = source_row(image, s, p->w, t.low, t.high), *b = source_row(image, s, p->w, t.high, t.low);
    bool yuv = image->format == DET_NV12; /* normalised after its conversion */
    float mean = yuv ? 0 : state->mean, scale = yuv ? 1 : state->scale;
    if (state->eight_bit)
        blend_eight_bit(a, b, (int)t.low_weight, (int)t.high_weight, mean, scale, y, p->w);
    else
        blend(a, b, t.low_weight, t.high_weight, mean, scale, y, p->w);
    if (yuv)
        yuv_to_rgb(y, p->w, state->mean, state->scale);
}

typedef struct preprocess_task {
    const det_step *step;
    const det_frame *frame;
} preprocess_task;

static void run_band(void *context, int task, int thread) {
    const preprocess_task *job = context;
    const preprocess_state *state = job->step->state;
    det_shape s = job->step->output_shape;
    int picture = task / state->n_bands, band = task % state->n_bands;
    const det_image *image = &job->frame->images[picture];
    const det_placement *p = &job->frame->placements[picture];
    scratch t = scratch_at((char *)job->step->workspace + (size_t)thread * state->scratch_bytes, s.w);
    locate_columns(&t, image->width, p->w, state->eight_bit);
    int end = det_cpu_band_begin(s.h, state->n_bands, band + 1);
    for (int i = det_cpu_band_begin(s.h, state->n_bands, band); i < end; i++) {
        float *y = det_cpu_picture(job->step->output, s, picture) + (size_t)i * s.w * 3;
        if (i < p->y || i >= p->y + p->h) {
            fill(y, state->pad, 3 * s.w);
            continue;
        }
        fill(y, state->pad, 3 * p->x);
        picture_row(state, &t, image, p, i - p->y, y + 3 * p->x);
        fill(y + 3 * (p->x + p->w), state->pad, 3 * (s.w - p->x - p->w));
    }
}

static det_status prepare(det_device *device, det_step *step, const det_plan_facts *facts) {
    preprocess_state *state = det_alloc_array(1, sizeof *state);
    if (!state)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = state;
    state->mean = facts->model->mean;
    state->scale = facts->model->scale;
    state->pad = (facts->model->pad_value - state->mean) * state->scale;
    state->eight_bit = facts->model->resize != DET_RESIZE_STRETCH;
    state->n_bands = det_cpu_bands(device, step->output_shape.h);
    state->scratch_bytes = scratch_bytes(step->output_shape.w);
    step->workspace_bytes = state->scratch_bytes * (size_t)det_threads_count(device->threads);
    return DET_OK;
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    (void)stream;
    const preprocess_state *state = step->state;
    preprocess_task t = {step, frame};
    det_threads_run(device->threads, frame->n * state->n_bands, run_band, &t);
    return DET_OK;
}

const det_kernel det_cpu_preprocess = {.prepare = prepare, .run = run, .release = det_cpu_free_state};
