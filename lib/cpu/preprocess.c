/* Pictures of any size and format -> the network's input: resized, placed, normalised, RGB.
 *
 * Bilinear with pixel centres at .5 and borders repeated, in the arithmetic of the authors' pipelines. Those that
 * letterbox resize 8-bit pictures with OpenCV, whose INTER_LINEAR has weights of 11 bits and rounds to a grey level in
 * its own way: the same bytes come out here. DAMO-YOLO, which stretches, resizes in float.
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

/* A thread's scratch, for one picture. */
typedef struct scratch {
    tap *columns;     /* [w] */
    float *rows[2];   /* [w][3] interpolated source rows ... */
    int row_index[2]; /* ... and which they are, or -1 */
} scratch;

static size_t scratch_bytes(int w) {
    return ((size_t)w * (sizeof(tap) + 2 * 3 * sizeof(float)) + 63) / 64 * 64;
}

static scratch scratch_at(void *memory, int w) {
    scratch s = {.columns = memory, .row_index = {-1, -1}};
    s.rows[0] = (float *)(s.columns + w);
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

static inline float between(const tap *t, uint8_t low, uint8_t high) {
    return (float)low * t->low_weight + (float)high * t->high_weight;
}

/* A pixel of three or four bytes at once. */
typedef uint8_t bytes4 __attribute__((vector_size(4)));
typedef float floats4 __attribute__((vector_size(16)));

static inline floats4 load4(const uint8_t *bytes) {
    bytes4 v;
    memcpy(&v, bytes, sizeof v);
    return __builtin_convertvector(v, floats4);
}

/* Pixels of `size` bytes; four bytes are read of each, so the source's last pixel, if it has three, goes another way. */
static inline __attribute__((always_inline)) void interpolate_packed(const uint8_t *row, int n_in, const tap *t, int w,
                                                                     int size, bool reversed, float *y) {
    for (int j = 0; j < w; j++, t++, y += 3) {
        const uint8_t *a = row + (size_t)t->low * size, *b = row + (size_t)t->high * size;
        if (size == 4 || t->high < n_in - 1) {
            floats4 v = load4(a) * t->low_weight + load4(b) * t->high_weight;
            y[0] = v[reversed ? 2 : 0];
            y[1] = v[1];
            y[2] = v[reversed ? 0 : 2];
        } else {
            for (int k = 0; k < 3; k++)
                y[reversed ? 2 - k : k] = between(t, a[k], b[k]);
        }
    }
}

DET_CPU_CLONES static void interpolate_rgb(const uint8_t *row, int n_in, const tap *t, int w, float *y) {
    interpolate_packed(row, n_in, t, w, 3, false, y);
}

DET_CPU_CLONES static void interpolate_bgr(const uint8_t *row, int n_in, const tap *t, int w, float *y) {
    interpolate_packed(row, n_in, t, w, 3, true, y);
}

DET_CPU_CLONES static void interpolate_rgba(const uint8_t *row, int n_in, const tap *t, int w, float *y) {
    interpolate_packed(row, n_in, t, w, 4, false, y);
}

static void interpolate_grey(const uint8_t *row, const tap *t, int w, float *y) {
    for (int j = 0; j < w; j++, t++, y += 3)
        y[0] = y[1] = y[2] = between(t, row[t->low], row[t->high]);
}

static void interpolate_nv12(const uint8_t *luma, const uint8_t *chroma, const tap *t, int w, float *y) {
    for (int j = 0; j < w; j++, t++, y += 3) {
        const uint8_t *a = chroma + t->low / 2 * 2, *b = chroma + t->high / 2 * 2;
        y[0] = between(t, luma[t->low], luma[t->high]);
        y[1] = between(t, a[0], b[0]);
        y[2] = between(t, a[1], b[1]);
    }
}

static void interpolate_row(const det_image *image, int i, const tap *columns, int w, float *y) {
    const uint8_t *row = (const uint8_t *)image->planes[0] + i * image->strides[0];
    switch (image->format) {
    case DET_RGB8:
        interpolate_rgb(row, image->width, columns, w, y);
        break;
    case DET_BGR8:
        interpolate_bgr(row, image->width, columns, w, y);
        break;
    case DET_RGBA8:
        interpolate_rgba(row, image->width, columns, w, y);
        break;
    case DET_GRAY8:
        interpolate_grey(row, columns, w, y);
        break;
    default: /* DET_NV12 */
        interpolate_nv12(row, (const uint8_t *)image->planes[1] + i / 2 * image->strides[1], columns, w, y);
    }
}

/* The interpolated source row `i`, from a buffer when it is there; row `keep` is not dropped for it. */
static const float *source_row(const det_image *image, scratch *s, int w, int i, int keep) {
    for (int k = 0; k < 2; k++) {
        if (s->row_index[k] == i)
            return s->rows[k];
    }
    int k = s->row_index[0] == keep;
    interpolate_row(image, i, s->columns, w, s->rows[k]);
    s->row_index[k] = i;
    return s->rows[k];
}

/* OpenCV's way from two rows of 8 + 11 bits to grey levels: each product loses 4 bits before and 16 after, the sum is
 * rounded by the last two. */
DET_CPU_CLONES static void blend_eight_bit(const float *a, const float *b, int low, int high, float mean, float scale,
                                           float *y, int n) {
    for (int i = 0; i < n; i++) {
        int grey = ((((int)a[i] >> 4) * low >> 16) + (((int)b[i] >> 4) * high >> 16) + 2) >> 2;
        y[i] = ((float)grey - mean) * scale;
    }
}

DET_CPU_CLONES static void blend(const float *a, const float *b, float low, float high, float mean, float scale, float *y,
                                 int n) {
    for (int i = 0; i < n; i++)
        y[i] = (a[i] * low + b[i] * high - mean) * scale;
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
static void picture_row(const preprocess_state *state, scratch *s, const det_image *image, const det_placement *p, int i,
                        float *y) {
    tap t = locate(i, image->height, p->h, state->eight_bit);
    const float *a = source_row(image, s, p->w, t.low, t.high), *b = source_row(image, s, p->w, t.high, t.low);
    bool yuv = image->format == DET_NV12; /* normalised after its conversion */
    float mean = yuv ? 0 : state->mean, scale = yuv ? 1 : state->scale;
    if (state->eight_bit)
        blend_eight_bit(a, b, (int)t.low_weight, (int)t.high_weight, mean, scale, y, 3 * p->w);
    else
        blend(a, b, t.low_weight, t.high_weight, mean, scale, y, 3 * p->w);
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
    for (int j = 0; j < p->w; j++)
        t.columns[j] = locate(j, image->width, p->w, state->eight_bit);
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

static void release(det_device *device, void *state) {
    (void)device;
    det_free(state);
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    (void)stream;
    const preprocess_state *state = step->state;
    preprocess_task t = {step, frame};
    det_threads_run(device->threads, frame->n * state->n_bands, run_band, &t);
    return DET_OK;
}

const det_kernel det_cpu_preprocess = {.prepare = prepare, .run = run, .release = release};
