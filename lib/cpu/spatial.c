/* Additions, activations, pooling, and the operators that only move values. */
#include "cpu.h"

#include <math.h>
#include <string.h>

static const float *input_row(const det_rows_call *call, int index, int picture, int y) {
    det_shape s = call->step->input_shapes[index];
    return det_cpu_picture(call->step->inputs[index], s, picture) + (size_t)y * s.w * s.c;
}

static float *output_row(const det_rows_call *call, int picture, int y) {
    det_shape s = call->step->output_shape;
    return det_cpu_picture(call->step->output, s, picture) + (size_t)y * s.w * s.c;
}

/* --------------------------------------------------------------------------------------------- activations, add */

static float activate(float x, det_act act) {
    switch (act) {
    case DET_ACT_RELU:
        return x > 0 ? x : 0;
    case DET_ACT_SILU:
        return x / (1 + expf(-x));
    case DET_ACT_SIGMOID:
        return 1 / (1 + expf(-x));
    case DET_ACT_NONE:
        break;
    }
    return x;
}

void det_cpu_activate_row(float *x, size_t n, det_act act) {
    if (act == DET_ACT_NONE)
        return;
    for (size_t i = 0; i < n; i++)
        x[i] = activate(x[i], act);
}

static void activation_rows(const det_rows_call *call, int picture, int begin, int end) {
    det_shape s = call->step->output_shape;
    size_t n = (size_t)(end - begin) * s.w * s.c;
    float *y = output_row(call, picture, begin);
    memcpy(y, input_row(call, 0, picture, begin), n * sizeof *y);
    det_cpu_activate_row(y, n, call->step->node->u.act);
}

DET_CPU_CLONES static void add_values(const float *a, const float *b, float *y, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void add_rows(const det_rows_call *call, int picture, int begin, int end) {
    det_shape s = call->step->output_shape;
    const det_add_params *p = &call->step->node->u.add;
    size_t row = (size_t)s.w * s.c, pixel = (size_t)s.c;
    for (int i = begin; i < end; i++) {
        const float *a = input_row(call, 0, picture, i);
        float *y = output_row(call, picture, i);
        if (p->upsample) {
            const float *b = input_row(call, 1, picture, i / 2);
            for (int j = 0; j < s.w; j++)
                add_values(a + j * pixel, b + (size_t)(j / 2) * pixel, y + j * pixel, pixel);
        } else {
            add_values(a, input_row(call, 1, picture, i), y, row);
        }
        det_cpu_activate_row(y, row, p->act);
    }
}

/* ------------------------------------------------------------------------------------------------------ pooling */

DET_CPU_CLONES static void max_values(const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

static void max_pool_rows(const det_rows_call *call, int picture, int begin, int end) {
    det_shape in = call->step->input_shapes[0], out = call->step->output_shape;
    det_pool_params p = call->step->node->u.pool;
    size_t c = (size_t)out.c;
    for (int i = begin; i < end; i++) {
        float *y = output_row(call, picture, i);
        int top = DET_MAX(0, i * p.stride - p.pad), bottom = DET_MIN(in.h, i * p.stride - p.pad + p.k);
        for (int j = 0; j < out.w; j++, y += c) {
            int left = DET_MAX(0, j * p.stride - p.pad), right = DET_MIN(in.w, j * p.stride - p.pad + p.k);
            memcpy(y, input_row(call, 0, picture, top) + left * c, c * sizeof *y);
            for (int v = top; v < bottom; v++) {
                for (int u = left; u < right; u++)
                    max_values(input_row(call, 0, picture, v) + u * c, y, c);
            }
        }
    }
}

static void avg_pool_rows(const det_rows_call *call, int picture, int begin, int end) {
    det_shape out = call->step->output_shape;
    det_pool_params p = call->step->node->u.pool;
    size_t c = (size_t)out.c;
    float factor = 1.0f / (float)(p.k * p.k);
    for (int i = begin; i < end; i++) {
        float *y = output_row(call, picture, i);
        for (int j = 0; j < out.w; j++, y += c) {
            memset(y, 0, c * sizeof *y);
            for (int v = 0; v < p.k; v++) {
                for (int u = 0; u < p.k; u++)
                    add_values(y, input_row(call, 0, picture, i * p.stride + v) + (size_t)(j * p.stride + u) * c, y, c);
            }
            for (size_t k = 0; k < c; k++)
                y[k] *= factor;
        }
    }
}

/* ------------------------------------------------------------------------------------------------------ movement */

/* Straight into a concatenation when nobody else reads the result. */
static void upsample_rows(const det_rows_call *call, int picture, int begin, int end) {
    const det_step *step = call->step;
    bool direct = step->node->only_into;
    det_shape out = direct ? step->into_shape : step->output_shape;
    float *first = direct ? (float *)step->into + step->node->into_begin : step->output;
    size_t c = (size_t)step->output_shape.c, stride = (size_t)out.c;
    for (int i = begin; i < end; i++) {
        const float *x = input_row(call, 0, picture, i / 2);
        float *y = det_cpu_picture(first, out, picture) + (size_t)i * out.w * stride;
        for (int j = 0; j < out.w; j++)
            memcpy(y + j * stride, x + (size_t)(j / 2) * c, c * sizeof *y);
    }
}

static void concat_rows(const det_rows_call *call, int picture, int begin, int end) {
    const det_step *step = call->step;
    det_shape out = step->output_shape;
    for (int k = 0; k < step->node->n_inputs; k++) {
        size_t c = (size_t)step->input_shapes[k].c, n = (size_t)(end - begin) * out.w;
        const float *x = input_row(call, k, picture, begin);
        float *y = output_row(call, picture, begin) + step->node->u.concat_begins[k];
        for (size_t j = 0; j < n; j++)
            memcpy(y + j * out.c, x + j * c, c * sizeof *y);
    }
}

static void slice_rows(const det_rows_call *call, int picture, int begin, int end) {
    det_shape in = call->step->input_shapes[0], out = call->step->output_shape;
    const float *x = input_row(call, 0, picture, begin) + call->step->node->u.slice_begin;
    float *y = output_row(call, picture, begin);
    size_t n = (size_t)(end - begin) * out.w;
    for (size_t j = 0; j < n; j++)
        memcpy(y + j * out.c, x + j * in.c, (size_t)out.c * sizeof *y);
}

/* Channel order of the four pixels: top-left, bottom-left, top-right, bottom-right. */
static void space_to_depth_rows(const det_rows_call *call, int picture, int begin, int end) {
    det_shape in = call->step->input_shapes[0], out = call->step->output_shape;
    size_t c = (size_t)in.c;
    for (int i = begin; i < end; i++) {
        const float *top = input_row(call, 0, picture, 2 * i), *bottom = input_row(call, 0, picture, 2 * i + 1);
        float *y = output_row(call, picture, i);
        for (int j = 0; j < out.w; j++, y += 4 * c, top += 2 * c, bottom += 2 * c) {
            memcpy(y, top, c * sizeof *y);
            memcpy(y + c, bottom, c * sizeof *y);
            memcpy(y + 2 * c, top + c, c * sizeof *y);
            memcpy(y + 3 * c, bottom + c, c * sizeof *y);
        }
    }
}

#define ROW_KERNEL(name)                                                                                               \
    static det_status run_##name(det_device *device, const det_step *step, const det_frame *frame,                     \
                                 det_stream stream) {                                                                  \
        (void)stream;                                                                                                  \
        det_cpu_for_rows(device, step, frame, name##_rows);                                                            \
        return DET_OK;                                                                                                 \
    }                                                                                                                  \
    const det_kernel det_cpu_##name = {.run = run_##name};

ROW_KERNEL(activation)
ROW_KERNEL(add)
ROW_KERNEL(max_pool)
ROW_KERNEL(avg_pool)
ROW_KERNEL(upsample)
ROW_KERNEL(concat)
ROW_KERNEL(slice)
ROW_KERNEL(space_to_depth)
