/* Pictures of any size and format -> the network's input: resized, placed, normalised, RGB.
 *
 * Bilinear with pixel centres at .5, borders repeated, as OpenCV's INTER_LINEAR, but without its rounding to 8 bits
 * between the steps. An output row is made in two passes that the compiler turns into wide instructions: two source
 * rows are blended whole, as they lie in memory; then every output value gathers its two neighbours in that row, by
 * tables that already know the format's channel order. NV12 stays Y, Cb, Cr until the end: the conversion is linear. */
#include "cpu.h"

#include <math.h>

enum { MAX_ROW_VALUES = 4 * 16384 };

typedef struct preprocess_state {
    float mean, scale, pad; /* pad is normalised */
    size_t scratch_bytes;   /* of one thread */
    int n_bands;
} preprocess_state;

/* A thread's scratch, for one picture: output value i lies between values left[i] and right[i] of the blended row. */
typedef struct tables {
    int *left, *right; /* [3 w] */
    float *weight;     /* [3 w] of the right one */
    float *row;        /* [MAX_ROW_VALUES] */
} tables;

static size_t scratch_bytes(int w) {
    size_t n = 3 * (size_t)w * (2 * sizeof(int) + sizeof(float)) + MAX_ROW_VALUES * sizeof(float);
    return (n + 63) / 64 * 64;
}

static tables tables_at(void *memory, int w) {
    tables t;
    t.row = memory;
    t.weight = t.row + MAX_ROW_VALUES;
    t.left = (int *)(t.weight + 3 * (size_t)w);
    t.right = t.left + 3 * (size_t)w;
    return t;
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

/* Place in a row of the value for channel `k` (R, G, B; of NV12 Y, Cb, Cr, the chroma row behind the luma row). */
static int value_index(const det_image *image, int x, int k) {
    switch (image->format) {
    case DET_RGB8:
        return 3 * x + k;
    case DET_BGR8:
        return 3 * x + 2 - k;
    case DET_RGBA8:
        return 4 * x + k;
    case DET_GRAY8:
        return x;
    default: /* DET_NV12 */
        return k == 0 ? x : image->width + x / 2 * 2 + k - 1;
    }
}

static void fill_tables(const tables *t, const det_image *image, int w) {
    for (int j = 0; j < w; j++) {
        int left, right;
        float weight;
        locate(j, image->width, w, &left, &right, &weight);
        for (int k = 0; k < 3; k++) {
            t->left[3 * j + k] = value_index(image, left, k);
            t->right[3 * j + k] = value_index(image, right, k);
            t->weight[3 * j + k] = weight;
        }
    }
}

DET_CPU_CLONES static void blend_rows(const uint8_t *a, const uint8_t *b, float weight, float *y, int n) {
    for (int i = 0; i < n; i++)
        y[i] = (float)a[i] + ((float)b[i] - (float)a[i]) * weight;
}

/* Blends source rows `top` and `bottom` into t->row. */
static void blend(const tables *t, const det_image *image, int top, int bottom, float weight) {
    static const int values_per_pixel[] = {[DET_RGB8] = 3, [DET_BGR8] = 3, [DET_RGBA8] = 4, [DET_GRAY8] = 1, [DET_NV12] = 1};
    const uint8_t *plane = image->planes[0];
    blend_rows(plane + top * image->strides[0], plane + bottom * image->strides[0], weight, t->row,
               image->width * values_per_pixel[image->format]);
    if (image->format == DET_NV12) {
        const uint8_t *chroma = image->planes[1];
        blend_rows(chroma + top / 2 * image->strides[1], chroma + bottom / 2 * image->strides[1], weight,
                   t->row + image->width, (image->width + 1) / 2 * 2);
    }
}

DET_CPU_CLONES static void gather(const float *row, const int *left, const int *right, const float *weight, float mean,
                                  float scale, float *y, int n) {
    for (int i = 0; i < n; i++)
        y[i] = (row[left[i]] + (row[right[i]] - row[left[i]]) * weight[i] - mean) * scale;
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
static void picture_row(const preprocess_state *state, const tables *t, const det_image *image, const det_placement *p,
                        int i, float *y) {
    int top, bottom;
    float weight;
    locate(i, image->height, p->h, &top, &bottom, &weight);
    blend(t, image, top, bottom, weight);
    if (image->format == DET_NV12) {
        gather(t->row, t->left, t->right, t->weight, 0, 1, y, 3 * p->w);
        yuv_to_rgb(y, p->w, state->mean, state->scale);
    } else {
        gather(t->row, t->left, t->right, t->weight, state->mean, state->scale, y, 3 * p->w);
    }
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
    tables t = tables_at((char *)job->step->workspace + (size_t)thread * state->scratch_bytes, s.w);
    fill_tables(&t, image, p->w);
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
