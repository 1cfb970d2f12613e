/* The operators that make tensors. */
#include "oracle.h"

#include <math.h>
#include <stdlib.h>

/* Value (n, i, j, c) of an input. */
static double value(const det_step *step, int input, int n, int i, int j, int c) {
    det_shape s = step->input_shapes[input];
    return ((const float *)step->inputs[input])[(((size_t)n * s.h + i) * s.w + j) * s.c + c];
}

static double activate(double x, det_act act) {
    switch (act) {
    case DET_ACT_RELU:
        return x > 0 ? x : 0;
    case DET_ACT_SILU:
        return x / (1 + exp(-x));
    case DET_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case DET_ACT_NONE:
        break;
    }
    return x;
}

/* Runs the statement that follows for every n, i, j, c of a shape; *y++ = ... then fills the output in order. */
#define FOR_EACH(s)                                                                                                    \
    for (int n = 0; n < (s).n; n++)                                                                                    \
        for (int i = 0; i < (s).h; i++)                                                                                \
            for (int j = 0; j < (s).w; j++)                                                                            \
                for (int c = 0; c < (s).c; c++)

/* ----------------------------------------------------------------------------------------------- convolution, norm */

/* Output channel `c` of `part` at (i, j). */
static double convolve(const det_step *step, const det_conv_part *part, int n, int i, int j, int c) {
    const det_conv_params *p = &step->node->u.conv;
    det_shape in = step->input_shapes[0];
    int group_in = in.c / p->groups, group_out = (int)part->weight->shape[0] / p->groups;
    int first = c / group_out * group_in;
    double sum = part->bias ? part->bias->values[c] : 0;
    for (int u = 0; u < p->k; u++) {
        for (int v = 0; v < p->k; v++) {
            int y = i * p->stride - p->pad + u, x = j * p->stride - p->pad + v;
            if (y < 0 || y >= in.h || x < 0 || x >= in.w)
                continue;
            for (int k = 0; k < group_in; k++)
                sum += value(step, 0, n, y, x, first + k) *
                       (double)part->weight->values[((size_t)(c * group_in + k) * p->k + u) * p->k + v];
        }
    }
    return sum;
}

static void conv2d(const det_step *step, double *y) {
    const det_conv_params *p = &step->node->u.conv;
    FOR_EACH(step->output_shape) {
        int part = 0, channel = c;
        while (channel >= p->parts[part].weight->shape[0])
            channel -= (int)p->parts[part++].weight->shape[0];
        double x = activate(convolve(step, &p->parts[part], n, i, j, channel), p->act);
        if (p->has_residual)
            x += value(step, 1, n, i, j, c);
        *y++ = activate(x, p->post_act);
    }
}

static void group_norm(const det_step *step, double *y) {
    const det_group_norm_params *p = &step->node->u.group_norm;
    det_shape s = step->output_shape;
    int size = s.c / p->n_groups;
    double count = (double)s.h * s.w * size;
    double *mean = calloc((size_t)(s.n * p->n_groups), sizeof *mean);
    double *variance = calloc((size_t)(s.n * p->n_groups), sizeof *variance);
    FOR_EACH(s)
        mean[n * p->n_groups + c / size] += value(step, 0, n, i, j, c) / count;
    FOR_EACH(s) {
        int group = n * p->n_groups + c / size;
        double d = value(step, 0, n, i, j, c) - mean[group];
        variance[group] += d * d / count;
    }
    FOR_EACH(s) {
        int group = n * p->n_groups + c / size;
        double x = (value(step, 0, n, i, j, c) - mean[group]) / sqrt(variance[group] + (double)p->epsilon);
        *y++ = activate(x * (double)p->weight->values[c] + (double)p->bias->values[c], p->act);
    }
    free(mean);
    free(variance);
}

/* ------------------------------------------------------------------------------------------------ value by value */

static void add(const det_step *step, double *y) {
    const det_add_params *p = &step->node->u.add;
    int ratio = p->upsample ? 2 : 1;
    FOR_EACH(step->output_shape)
        *y++ = activate(value(step, 0, n, i, j, c) + value(step, 1, n, i / ratio, j / ratio, c), p->act);
}

static void activation(const det_step *step, double *y) {
    FOR_EACH(step->output_shape)
        *y++ = activate(value(step, 0, n, i, j, c), step->node->u.act);
}

static void upsample(const det_step *step, double *y) {
    FOR_EACH(step->output_shape)
        *y++ = value(step, 0, n, i / 2, j / 2, c);
}

static void concat(const det_step *step, double *y) {
    FOR_EACH(step->output_shape) {
        int input = 0, channel = c;
        while (channel >= step->input_shapes[input].c)
            channel -= step->input_shapes[input++].c;
        *y++ = value(step, input, n, i, j, channel);
    }
}

static void slice(const det_step *step, double *y) {
    FOR_EACH(step->output_shape)
        *y++ = value(step, 0, n, i, j, step->node->u.slice_begin + c);
}

static void space_to_depth(const det_step *step, double *y) {
    static const int rows[] = {0, 1, 0, 1}, columns[] = {0, 0, 1, 1};
    int c_in = step->input_shapes[0].c;
    FOR_EACH(step->output_shape)
        *y++ = value(step, 0, n, 2 * i + rows[c / c_in], 2 * j + columns[c / c_in], c % c_in);
}

/* -------------------------------------------------------------------------------------------------------- windows */

/* Of the values of a window that lie inside the picture. */
static double pooled(const det_step *step, det_pool_params p, int n, int i, int j, int c, bool average) {
    det_shape in = step->input_shapes[0];
    double sum = 0, most = -INFINITY;
    for (int y = i * p.stride - p.pad; y < i * p.stride - p.pad + p.k; y++) {
        for (int x = j * p.stride - p.pad; x < j * p.stride - p.pad + p.k; x++) {
            if (y < 0 || y >= in.h || x < 0 || x >= in.w)
                continue;
            sum += value(step, 0, n, y, x, c);
            most = fmax(most, value(step, 0, n, y, x, c));
        }
    }
    return average ? sum / (p.k * p.k) : most;
}

/* Alone or, one behind another, as n_chained pools, each of the one before: what such a one sees of the input is wider. */
static void max_pool(const det_step *step, double *y) {
    const det_pool_params *p = &step->node->u.pool;
    int c_in = step->input_shapes[0].c;
    FOR_EACH(step->output_shape) {
        int n_pools = c / c_in + 1;
        det_pool_params seen = {.k = n_pools * (p->k - 1) + 1, .stride = p->stride, .pad = n_pools * p->pad};
        *y++ = pooled(step, seen, n, i, j, c % c_in, false);
    }
}

static void avg_pool(const det_step *step, double *y) {
    FOR_EACH(step->output_shape)
        *y++ = pooled(step, step->node->u.pool, n, i, j, c, true);
}

/* ------------------------------------------------------------------------------------------------------ attention */

static void attention(const det_step *step, double *y) {
    const det_attention_params *p = &step->node->u.attention;
    det_shape s = step->input_shapes[0];
    int n_positions = s.h * s.w;
    double *weights = calloc((size_t)n_positions, sizeof *weights);
    FOR_EACH(step->output_shape) {
        int q = c / p->value_dim * (2 * p->key_dim + p->value_dim), k = q + p->key_dim, v = k + p->key_dim;
        double sum = 0, mixed = 0;
        for (int at = 0; at < n_positions; at++) {
            double product = 0;
            for (int d = 0; d < p->key_dim; d++)
                product += value(step, 0, n, i, j, q + d) * value(step, 0, n, at / s.w, at % s.w, k + d);
            weights[at] = exp(product / sqrt(p->key_dim));
            sum += weights[at];
        }
        for (int at = 0; at < n_positions; at++)
            mixed += weights[at] / sum * value(step, 0, n, at / s.w, at % s.w, v + c % p->value_dim);
        *y++ = mixed;
    }
    free(weights);
}

void oracle_tensor(const det_step *step, double *y) {
    static void (*const functions[DET_N_OPS])(const det_step *step, double *y) = {
        [DET_OP_CONV2D] = conv2d,       [DET_OP_GROUP_NORM] = group_norm, [DET_OP_ADD] = add,
        [DET_OP_ACTIVATION] = activation, [DET_OP_UPSAMPLE] = upsample,     [DET_OP_MAX_POOL] = max_pool,
        [DET_OP_AVG_POOL] = avg_pool,   [DET_OP_CONCAT] = concat,         [DET_OP_SLICE] = slice,
        [DET_OP_SPACE_TO_DEPTH] = space_to_depth, [DET_OP_ATTENTION] = attention,
    };
    functions[step->node->op](step, y);
}
