/* softmax(q k^T / sqrt(key_dim)) v for each head over all positions: the small attention of YOLO11's C2PSA.
 *
 * A pixel's channels are, head by head, [q | k | v]. One task per picture, head and band of query rows. A task turns the
 * head's keys over once, so that a product with a query runs along positions, and takes four queries at a time, so that
 * every key and value is loaded for four. */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum { LANES = 16, QUERIES = 4 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

static int padded(int n) {
    return (n + LANES - 1) / LANES * LANES;
}

/* A thread's workspace: keys [key_dim][padded n], scores [QUERIES][padded n]. */
static size_t workspace_floats(const det_attention_params *p, int n) {
    return (size_t)(p->key_dim + QUERIES) * (size_t)padded(n);
}

static det_status prepare(det_device *device, det_step *step, const det_plan_facts *facts) {
    (void)facts;
    det_shape s = step->output_shape;
    step->workspace_bytes = (size_t)det_threads_count(device->threads) *
                            workspace_floats(&step->node->u.attention, s.h * s.w) * sizeof(float);
    return DET_OK;
}

/* keys[d][j] of positions j, zero beyond the last. */
static void turn_keys(const float *k, int stride, int n, int key_dim, float *keys) {
    int n_padded = padded(n);
    for (int d = 0; d < key_dim; d++) {
        for (int j = 0; j < n; j++)
            keys[d * n_padded + j] = k[(size_t)j * stride + d];
        for (int j = n; j < n_padded; j++)
            keys[d * n_padded + j] = 0;
    }
}

/* scores[i][j] = scale * q[i] . k[j] */
DET_CPU_CLONES static void multiply_keys(const float *const q[QUERIES], const float *keys, int key_dim, int n_padded,
                                         float scale, float *scores) {
    for (int j = 0; j < n_padded; j += LANES) {
        lanes sum[QUERIES] = {{0}};
        for (int d = 0; d < key_dim; d++) {
            lanes key;
            memcpy(&key, keys + (size_t)d * n_padded + j, sizeof key);
            for (int i = 0; i < QUERIES; i++)
                sum[i] += q[i][d] * key;
        }
        for (int i = 0; i < QUERIES; i++) {
            sum[i] *= scale;
            memcpy(scores + (size_t)i * n_padded + j, &sum[i], sizeof sum[i]);
        }
    }
}

/* e^x for x <= 0, to a few units in the last place: 2^(whole + rest), the rest by its series. Below -87 it is as good as
 * zero. NaN, from weights so large that scores overflow, stays NaN, but must not become an integer. */
static inline float exp_negative(float x) {
    float t = (x > -87.0f ? x : -87.0f) * 1.44269504f, whole = rintf(t), f = t - whole;
    float p = 1.52527338e-5f;
    p = p * f + 1.54035304e-4f;
    p = p * f + 1.33335581e-3f;
    p = p * f + 9.61812911e-3f;
    p = p * f + 5.55041087e-2f;
    p = p * f + 2.40226507e-1f;
    p = p * f + 6.93147181e-1f;
    p = p * f + 1.0f;
    int32_t bits = ((int32_t)whole + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power + (x - x);
}

DET_CPU_CLONES static void softmax(float *x, int n) {
    float highest = x[0], sum = 0;
#pragma omp simd reduction(max : highest)
    for (int j = 0; j < n; j++)
        highest = x[j] > highest ? x[j] : highest;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < n; j++) {
        x[j] = exp_negative(x[j] - highest);
        sum += x[j];
    }
    float factor = 1 / sum;
    for (int j = 0; j < n; j++)
        x[j] *= factor;
}

/* y[i][c] = sum over j of weights[i][j] v[j][c], for channels [0, c_end), a multiple of LANES. */
DET_CPU_CLONES static void multiply_values(const float *weights, int n_padded, const float *v, int stride, int n,
                                           int c_end, float *const y[QUERIES]) {
    for (int c = 0; c < c_end; c += LANES) {
        lanes sum[QUERIES] = {{0}};
        for (int j = 0; j < n; j++) {
            lanes value;
            memcpy(&value, v + (size_t)j * stride + c, sizeof value);
            for (int i = 0; i < QUERIES; i++)
                sum[i] += weights[(size_t)i * n_padded + j] * value;
        }
        for (int i = 0; i < QUERIES; i++)
            memcpy(y[i] + c, &sum[i], sizeof sum[i]);
    }
}

/* The channels that do not fill the lanes. */
static void multiply_rest(const float *weights, int n_padded, const float *v, int stride, int n, int c, int c_end,
                          float *const y[QUERIES]) {
    for (; c < c_end; c++) {
        for (int i = 0; i < QUERIES; i++) {
            float sum = 0;
            for (int j = 0; j < n; j++)
                sum += weights[(size_t)i * n_padded + j] * v[(size_t)j * stride + c];
            y[i][c] = sum;
        }
    }
}

typedef struct attention_task {
    const det_step *step;
    int n_bands;
} attention_task;

/* Queries [begin, end) of a head. The last group may count its last query more than once. */
static void attend(const det_attention_params *p, const float *x, float *y, int stride_in, int stride_out, int n,
                   int begin, int end, float *workspace) {
    float *keys = workspace, *scores = keys + (size_t)p->key_dim * padded(n);
    const float *v = x + 2 * p->key_dim;
    int whole = p->value_dim / LANES * LANES;
    turn_keys(x + p->key_dim, stride_in, n, p->key_dim, keys);
    for (int first = begin; first < end; first += QUERIES) {
        const float *q[QUERIES];
        float *out[QUERIES];
        for (int i = 0; i < QUERIES; i++) {
            int query = DET_MIN(first + i, end - 1);
            q[i] = x + (size_t)query * stride_in;
            out[i] = y + (size_t)query * stride_out;
        }
        multiply_keys(q, keys, p->key_dim, padded(n), 1 / sqrtf((float)p->key_dim), scores);
        for (int i = 0; i < QUERIES; i++)
            softmax(scores + (size_t)i * padded(n), n);
        multiply_values(scores, padded(n), v, stride_in, n, whole, out);
        multiply_rest(scores, padded(n), v, stride_in, n, whole, p->value_dim, out);
    }
}

static void run_band(void *context, int task, int thread) {
    const attention_task *t = context;
    const det_attention_params *p = &t->step->node->u.attention;
    det_shape in = t->step->input_shapes[0], out = t->step->output_shape;
    int n = in.h * in.w, band = task % t->n_bands, head = task / t->n_bands % p->n_heads;
    int picture = task / t->n_bands / p->n_heads;
    const float *x = det_cpu_picture(t->step->inputs[0], in, picture) + head * (2 * p->key_dim + p->value_dim);
    float *y = det_cpu_picture(t->step->output, out, picture) + head * p->value_dim;
    float *workspace = (float *)t->step->workspace + (size_t)thread * workspace_floats(p, n);
    int begin = det_cpu_band_begin(in.h, t->n_bands, band), end = det_cpu_band_begin(in.h, t->n_bands, band + 1);
    attend(p, x, y, in.c, out.c, n, begin * in.w, end * in.w, workspace);
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    (void)stream;
    attention_task t = {step, det_cpu_bands(device, step->output_shape.h)};
    det_threads_run(device->threads, frame->n * step->node->u.attention.n_heads * t.n_bands, run_band, &t);
    return DET_OK;
}

const det_kernel det_cpu_attention = {.prepare = prepare, .run = run};
