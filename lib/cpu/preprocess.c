/* Pictures of any size and format -> the network's input: resized, placed, normalised, RGB.
 *
 * Bilinear with pixel centres at .5, borders repeated, as OpenCV's INTER_LINEAR, but without its rounding to 8 bits
 * between the steps. Each source row is interpolated along x once, into one of two row buffers; two of those give an
 * output row. */
#include "cpu.h"

#include <math.h>
#include <string.h>

typedef struct preprocess_state {
    float mean, scale, pad; /* pad is normalised */
    size_t scratch_bytes;   /* of one thread */
    int n_bands;
} preprocess_state;

/* A thread's scratch, for one picture. */
typedef struct columns {
    int *left, *right; /* [w] source columns of each output column */
    float *weight;     /* [w] of the right one */
    float *rows[2];    /* [w][3] interpolated source rows ... */
    int row_index[2];  /* ... and which they are, or -1 */
} columns;

static size_t columns_bytes(int w) {
    size_t n = (size_t)w;
    return (n * (2 * sizeof(int) + sizeof(float) + 2 * 3 * sizeof(float)) + 63) / 64 * 64;
}

static columns columns_at(void *memory, int w) {
    columns c = {.row_index = {-1, -1}};
    c.left = memory;
    c.right = c.left + w;
    c.weight = (float *)(c.right + w);
    c.rows[0] = c.weight + w;
    c.rows[1] = c.rows[0] + 3 * (size_t)w;
    return c;
}

/* Where position `i` of `n_out` lies between two of `n_in` pixels. */
static void locate(int i, int n_in, int n_out, int *low, int *high, float *weight) {
    double x = (i + 0.5) * n_in / n_out - 0.5;
    double whole = floor(x);
    int first = (int)whole;
    *weight = (float)(x - whole);
    *low = DET_MAX(0, DET_MIN(first, n_in - 1));
    *high = DET_MAX(0, DET_MIN(first + 1, n_in - 1));
}

typedef struct rgb {
    float r, g, b;
} rgb;

static float clamp_grey(float x) {
    return x < 0 ? 0 : x > 255 ? 255 : x;
}

/* BT.601, video range. */
static rgb from_yuv(uint8_t luma, uint8_t cb, uint8_t cr) {
    float y = 1.164383f * ((float)luma - 16), u = (float)cb - 128, v = (float)cr - 128;
    return (rgb){clamp_grey(y + 1.596027f * v), clamp_grey(y - 0.391762f * u - 0.812968f * v),
                 clamp_grey(y + 2.017232f * u)};
}

static inline void blend(float *out, rgb a, rgb b, float weight) {
    out[0] = a.r + (b.r - a.r) * weight;
    out[1] = a.g + (b.g - a.g) * weight;
    out[2] = a.b + (b.b - a.b) * weight;
}

static inline void interpolate_packed(const uint8_t *row, const columns *c, int w, int size, int red, int blue, float *out) {
    for (int j = 0; j < w; j++, out += 3) {
        const uint8_t *a = row + (size_t)c->left[j] * size, *b = row + (size_t)c->right[j] * size;
        blend(out, (rgb){a[red], a[1], a[blue]}, (rgb){b[red], b[1], b[blue]}, c->weight[j]);
    }
}

static void interpolate_grey(const uint8_t *row, const columns *c, int w, float *out) {
    for (int j = 0; j < w; j++, out += 3) {
        float a = row[c->left[j]], b = row[c->right[j]];
        out[0] = out[1] = out[2] = a + (b - a) * c->weight[j];
    }
}

static void interpolate_nv12(const uint8_t *luma, const uint8_t *chroma, const columns *c, int w, float *out) {
    for (int j = 0; j < w; j++, out += 3) {
        int a = c->left[j], b = c->right[j];
        const uint8_t *ca = chroma + a / 2 * 2, *cb = chroma + b / 2 * 2;
        blend(out, from_yuv(luma[a], ca[0], ca[1]), from_yuv(luma[b], cb[0], cb[1]), c->weight[j]);
    }
}

static void interpolate_row(const det_image *image, int y, const columns *c, int w, float *out) {
    const uint8_t *row = (const uint8_t *)image->planes[0] + y * image->strides[0];
    switch (image->format) {
    case DET_RGB8:
        interpolate_packed(row, c, w, 3, 0, 2, out);
        break;
    case DET_BGR8:
        interpolate_packed(row, c, w, 3, 2, 0, out);
        break;
    case DET_RGBA8:
        interpolate_packed(row, c, w, 4, 0, 2, out);
        break;
    case DET_GRAY8:
        interpolate_grey(row, c, w, out);
        break;
    default: /* DET_NV12 */
        interpolate_nv12(row, (const uint8_t *)image->planes[1] + y / 2 * image->strides[1], c, w, out);
    }
}

/* The interpolated source row `y`, from a buffer when it is there; never drops row `keep`. */
static const float *source_row(const det_image *image, columns *c, int w, int y, int keep) {
    for (int i = 0; i < 2; i++) {
        if (c->row_index[i] == y)
            return c->rows[i];
    }
    int i = c->row_index[0] == keep;
    interpolate_row(image, y, c, w, c->rows[i]);
    c->row_index[i] = y;
    return c->rows[i];
}

DET_CPU_CLONES static void normalise(const float *a, const float *b, float weight, float mean, float scale, float *y,
                                     int n) {
    for (int i = 0; i < n; i++)
        y[i] = (a[i] + (b[i] - a[i]) * weight - mean) * scale;
}

static void fill(float *y, float value, int n) {
    for (int i = 0; i < n; i++)
        y[i] = value;
}

typedef struct preprocess_task {
    const det_step *step;
    const det_frame *frame;
} preprocess_task;

static void run_band(void *context, int task, int thread) {
    const preprocess_task *t = context;
    const preprocess_state *state = t->step->state;
    det_shape s = t->step->output_shape;
    int picture = task / state->n_bands, band = task % state->n_bands;
    const det_image *image = &t->frame->images[picture];
    det_placement p = t->frame->placements[picture];
    columns c = columns_at((char *)t->step->workspace + (size_t)thread * state->scratch_bytes, s.w);
    for (int j = 0; j < p.w; j++)
        locate(j, image->width, p.w, &c.left[j], &c.right[j], &c.weight[j]);
    int end = det_cpu_band_begin(s.h, state->n_bands, band + 1);
    for (int i = det_cpu_band_begin(s.h, state->n_bands, band); i < end; i++) {
        float *y = det_cpu_picture(t->step->output, s, picture) + (size_t)i * s.w * 3;
        if (i < p.y || i >= p.y + p.h) {
            fill(y, state->pad, 3 * s.w);
            continue;
        }
        int top, bottom;
        float weight;
        locate(i - p.y, image->height, p.h, &top, &bottom, &weight);
        const float *a = source_row(image, &c, p.w, top, bottom), *b = source_row(image, &c, p.w, bottom, top);
        fill(y, state->pad, 3 * p.x);
        normalise(a, b, weight, state->mean, state->scale, y + 3 * p.x, 3 * p.w);
        fill(y + 3 * (p.x + p.w), state->pad, 3 * (s.w - p.x - p.w));
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
    state->n_bands = det_cpu_bands(device, step->output_shape.h);
    state->scratch_bytes = columns_bytes(step->output_shape.w);
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
