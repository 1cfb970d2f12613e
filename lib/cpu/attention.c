/* softmax(q k^T / sqrt(key_dim)) v for each head over all positions: the small attention of YOLO11's C2PSA.
 *
 * A pixel's channels are, head by head, [q | k | v]. One task per picture, head and band of query rows. */
#include "cpu.h"

#include <math.h>
#include <string.h>

typedef struct attention_task {
    const det_step *step;
    int n_bands;
} attention_task;

static det_status prepare(det_device *device, det_step *step, const det_plan_facts *facts) {
    (void)facts;
    det_shape s = step->output_shape;
    step->workspace_bytes = (size_t)det_threads_count(device->threads) * (size_t)s.h * (size_t)s.w * sizeof(float);
    return DET_OK;
}

DET_CPU_CLONES static float dot(const float *a, const float *b, int n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

DET_CPU_CLONES static void add_scaled(float *y, const float *x, float factor, int n) {
    for (int i = 0; i < n; i++)
        y[i] += factor * x[i];
}

/* One query against all keys. `weights`: room for n values. */
static void attend(const float *query, const float *keys, const float *values, int stride, int n,
                   const det_attention_params *p, float *weights, float *y) {
    float scale = 1 / sqrtf((float)p->key_dim), highest = -INFINITY, sum = 0;
    for (int j = 0; j < n; j++) {
        weights[j] = scale * dot(query, keys + (size_t)j * stride, p->key_dim);
        highest = DET_MAX(highest, weights[j]);
    }
    for (int j = 0; j < n; j++) {
        weights[j] = expf(weights[j] - highest);
        sum += weights[j];
    }
    memset(y, 0, (size_t)p->value_dim * sizeof *y);
    for (int j = 0; j < n; j++)
        add_scaled(y, values + (size_t)j * stride, weights[j] / sum, p->value_dim);
}

static void run_band(void *context, int task, int thread) {
    const attention_task *t = context;
    const det_attention_params *p = &t->step->node->u.attention;
    det_shape in = t->step->input_shapes[0], out = t->step->output_shape;
    int n = in.h * in.w, band = task % t->n_bands, head = task / t->n_bands % p->n_heads;
    int picture = task / t->n_bands / p->n_heads;
    const float *x = det_cpu_picture(t->step->inputs[0], in, picture) + head * (2 * p->key_dim + p->value_dim);
    float *y = det_cpu_picture(t->step->output, out, picture) + head * p->value_dim;
    float *weights = (float *)t->step->workspace + (size_t)thread * n;
    int begin = det_cpu_band_begin(in.h, t->n_bands, band), end = det_cpu_band_begin(in.h, t->n_bands, band + 1);
    for (int i = begin * in.w; i < end * in.w; i++)
        attend(x + (size_t)i * in.c, x + p->key_dim, x + 2 * p->key_dim, in.c, n, p, weights, y + (size_t)i * out.c);
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    (void)stream;
    attention_task t = {step, det_cpu_bands(device, step->output_shape.h)};
    det_threads_run(device->threads, frame->n * step->node->u.attention.n_heads * t.n_bands, run_band, &t);
    return DET_OK;
}

const det_kernel det_cpu_attention = {.prepare = prepare, .run = run};
