/* GroupNorm: sums over each group's channels and all positions, then scale, shift and activation.
 *
 * The sums of a picture are taken per band of rows and added up in order, so that they do not depend on which thread
 * was faster. */
#include "cpu.h"

#include <math.h>
#include <string.h>

/* Workspace: per picture and band, a sum and a sum of squares for each channel, in double precision. */
typedef struct norm_task {
    const det_step *step;
    double *sums; /* [n][bands][2][c] */
    int n_bands;
} norm_task;

static det_status prepare(det_device *device, det_step *step, const det_plan_facts *facts) {
    (void)facts;
    det_shape s = step->output_shape;
    step->workspace_bytes = (size_t)s.n * (size_t)det_cpu_bands(device, s.h) * 2 * (size_t)s.c * sizeof(double);
    return DET_OK;
}

DET_CPU_CLONES static void add_row_sums(const float *x, int w, int c, float *sum, float *squares) {
    for (int j = 0; j < w; j++, x += c) {
        for (int k = 0; k < c; k++) {
            sum[k] += x[k];
            squares[k] += x[k] * x[k];
        }
    }
}

enum { CHUNK = 64 }; /* channels summed in float over one row before they join the double sums */

static void sum_rows(const float *x, det_shape s, int n_rows, double *sums) {
    memset(sums, 0, 2 * (size_t)s.c * sizeof *sums);
    if (s.c <= CHUNK) {
        for (int i = 0; i < n_rows; i++, x += (size_t)s.w * s.c) {
            float sum[CHUNK] = {0}, squares[CHUNK] = {0};
            add_row_sums(x, s.w, s.c, sum, squares);
            for (int k = 0; k < s.c; k++) {
                sums[k] += sum[k];
                sums[s.c + k] += squares[k];
            }
        }
        return;
    }
    for (size_t j = 0; j < (size_t)n_rows * s.w; j++, x += s.c) {
        for (int k = 0; k < s.c; k++) {
            sums[k] += x[k];
            sums[s.c + k] += (double)x[k] * x[k];
        }
    }
}

static void sum_band(void *context, int task, int thread) {
    const norm_task *t = context;
    (void)thread;
    det_shape s = t->step->output_shape;
    int band = task % t->n_bands, begin = det_cpu_band_begin(s.h, t->n_bands, band);
    int end = det_cpu_band_begin(s.h, t->n_bands, band + 1);
    const float *x = det_cpu_picture(t->step->inputs[0], s, task / t->n_bands) + (size_t)begin * s.w * s.c;
    sum_rows(x, s, end - begin, t->sums + (size_t)task * 2 * s.c);
}

/* y = x * a + b for each channel, from the sums of a picture's bands. */
static void coefficients(const norm_task *t, int picture, int group, float *a, float *b) {
    const det_group_norm_params *p = &t->step->node->u.group_norm;
    det_shape s = t->step->output_shape;
    int size = s.c / p->n_groups, first = group * size;
    double sum = 0, squares = 0, n = (double)s.h * s.w * size;
    for (int band = 0; band < t->n_bands; band++) {
        const double *sums = t->sums + (size_t)(picture * t->n_bands + band) * 2 * s.c;
        for (int k = first; k < first + size; k++) {
            sum += sums[k];
            squares += sums[s.c + k];
        }
    }
    double mean = sum / n, variance = DET_MAX(squares / n - mean * mean, 0);
    double inverse = 1 / sqrt(variance + p->epsilon);
    for (int k = first; k < first + size; k++) {
        a[k] = (float)(inverse * p->weight->values[k]);
        b[k] = (float)(p->bias->values[k] - mean * inverse * p->weight->values[k]);
    }
}

DET_CPU_CLONES static void scale_relu(const float *x, const float *a, const float *b, float *y, int n_pixels, int c) {
    for (int j = 0; j < n_pixels; j++, x += c, y += c) {
        for (int k = 0; k < c; k++) {
            float value = x[k] * a[k] + b[k];
            y[k] = value > 0 ? value : 0;
        }
    }
}

DET_CPU_CLONES static void scale(const float *x, const float *a, const float *b, float *y, int n_pixels, int c) {
    for (int j = 0; j < n_pixels; j++, x += c, y += c) {
        for (int k = 0; k < c; k++)
            y[k] = x[k] * a[k] + b[k];
    }
}

enum { MAX_CHANNELS = 1024 };

static void scale_band(void *context, int task, int thread) {
    const norm_task *t = context;
    (void)thread;
    const det_group_norm_params *p = &t->step->node->u.group_norm;
    det_shape s = t->step->output_shape;
    int picture = task / t->n_bands, band = task % t->n_bands;
    float a[MAX_CHANNELS], b[MAX_CHANNELS];
    for (int group = 0; group < p->n_groups; group++)
        coefficients(t, picture, group, a, b);
    int begin = det_cpu_band_begin(s.h, t->n_bands, band), end = det_cpu_band_begin(s.h, t->n_bands, band + 1);
    size_t first = (size_t)begin * s.w * s.c;
    int n_pixels = (end - begin) * s.w;
    const float *x = det_cpu_picture(t->step->inputs[0], s, picture) + first;
    float *y = det_cpu_picture(t->step->output, s, picture) + first;
    if (p->act == DET_ACT_RELU) {
        scale_relu(x, a, b, y, n_pixels, s.c);
        return;
    }
    scale(x, a, b, y, n_pixels, s.c);
    det_cpu_activate_row(y, (size_t)n_pixels * s.c, p->act);
}

static const char *refuse(const det_step *step) {
    return step->output_shape.c > MAX_CHANNELS ? "more than 1024 channels" : NULL;
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    (void)stream;
    norm_task t = {step, step->workspace, det_cpu_bands(device, step->output_shape.h)};
    det_threads_run(device->threads, frame->n * t.n_bands, sum_band, &t);
    det_threads_run(device->threads, frame->n * t.n_bands, scale_band, &t);
    return DET_OK;
}

const det_kernel det_cpu_group_norm = {.refuse = refuse, .prepare = prepare, .run = run};
