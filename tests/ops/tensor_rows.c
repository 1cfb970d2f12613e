/* Rows for the operators that make tensors of tensors. */
#include "rig.h"

#include "oracle.h"

#include <math.h>
#include <stdlib.h>

/* Largest difference from the oracle, relative to its largest value. A value that was not written is NaN, and fails. */
static double tensor_error(const rig *r) {
    det_shape s = r->step->output_shape;
    int64_t n = det_shape_values(s);
    const float *ours = r->step->output;
    double *theirs = malloc((size_t)n * sizeof *theirs), worst = 0, largest = 0;
    det_step question = rig_question(r);
    oracle_tensor(&question, theirs);
    for (int64_t i = 0; i < n; i++) {
        double difference = fabs((double)ours[i] - theirs[i]);
        worst = difference <= worst ? worst : difference;
        largest = fmax(largest, fabs(theirs[i]));
    }
    free(theirs);
    return worst == 0 ? 0 : worst / largest;
}

/* The end of every emit: the activation that joins the operator, and the concatenation that wants the result behind
 * three other channels. */
static void finish(rig *r, const op_row *row, det_tensor_id y, det_act act) {
    det_net *net = rig_net(r);
    y = det_activation(net, y, act);
    if (row->result_kept)
        det_net_tap(net, "result", y);
    if (row->concatenated) {
        det_shape s = net->tensors[y].shape;
        det_concat(net, (det_tensor_id[]){rig_input(r, s.h, s.w, 3), y}, 2);
    }
}

/* ---------------------------------------------------------------------------------------------------- convolution */

/* n_parts: how many, of c_out / n_parts channels each, the rest going to the last; 0 stands for 1. */
static void emit_conv(rig *r, const op_row *row) {
    int n_parts = DET_MAX(1, row->n_parts), groups = DET_MAX(1, row->groups), k = DET_MAX(1, row->k);
    int c_outs[DET_MAX_PARTS];
    det_name_text names[DET_MAX_PARTS];
    float bound = sqrtf(3.0f / (float)(row->c / groups * k * k));
    for (int i = 0; i < n_parts; i++) {
        c_outs[i] = row->c_out / n_parts + (i == n_parts - 1 ? row->c_out % n_parts : 0);
        names[i] = det_name("part%d", i);
        int64_t shape[] = {c_outs[i], row->c / groups, k, k};
        rig_weight(r, det_name("part%d.weight", i).text, shape, 4, -bound, bound);
        if (!row->no_bias)
            rig_weight(r, det_name("part%d.bias", i).text, shape, 1, -1, 1);
    }
    det_conv_options options = {.k = k, .stride = row->stride, .groups = groups, .pad = row->pad, .act = row->act};
    options.no_bias = row->no_bias;
    det_net *net = rig_net(r);
    det_tensor_id x = rig_input(r, row->h, row->w, row->c), other = DET_NO_TENSOR;
    if (row->residual) {
        int pad = row->pad ? row->pad : k / 2, stride = DET_MAX(1, row->stride);
        other = rig_input(r, (row->h + 2 * pad - k) / stride + 1, (row->w + 2 * pad - k) / stride + 1, row->c_out);
    }
    x = det_conv2d_parts(net, x, n_parts, names, c_outs, options);
    if (row->residual)
        x = det_add(net, other, x);
    if (row->residual_kept)
        det_net_tap(net, "residual", other);
    finish(r, row, x, row->post_act);
}

static void emit_group_norm(rig *r, const op_row *row) {
    int64_t shape[] = {row->c};
    rig_weight(r, "gn.weight", shape, 1, 0.5f, 1.5f);
    rig_weight(r, "gn.bias", shape, 1, -1, 1);
    det_tensor_id x = rig_input(r, row->h, row->w, row->c);
    finish(r, row, det_group_norm(rig_net(r), x, "gn", row->groups, 1e-5f), row->act);
}

/* GroupNorm of values far from zero, where a difference of squares would lose its digits. */
static void fill_offset(rig *r, const op_row *row) {
    rig_fill_tensors(r, row);
    float *x = r->step->inputs[0];
    for (int64_t i = 0; i < det_shape_values(r->step->input_shapes[0]); i++)
        x[i] += 16;
}

/* ------------------------------------------------------------------------------------------------------ the others */

static void emit_add(rig *r, const op_row *row) {
    det_tensor_id x = rig_input(r, row->h, row->w, row->c);
    det_tensor_id y = rig_input(r, row->h, row->w, row->c);
    finish(r, row, det_add(rig_net(r), x, y), row->act);
}

static void emit_add_upsampled(rig *r, const op_row *row) {
    det_tensor_id half = rig_input(r, row->h / 2, row->w / 2, row->c);
    det_tensor_id x = rig_input(r, row->h, row->w, row->c);
    finish(r, row, det_add(rig_net(r), x, det_upsample(rig_net(r), half)), row->act);
}

static void emit_activation(rig *r, const op_row *row) {
    finish(r, row, rig_input(r, row->h, row->w, row->c), row->act);
}

static void emit_upsample(rig *r, const op_row *row) {
    finish(r, row, det_upsample(rig_net(r), rig_input(r, row->h, row->w, row->c)), DET_ACT_NONE);
}

static void emit_max_pool(rig *r, const op_row *row) {
    finish(r, row, det_max_pool(rig_net(r), rig_input(r, row->h, row->w, row->c), row->k, row->stride, row->pad), DET_ACT_NONE);
}

/* n_parts pools, each of the one before, behind what they pool in a concatenation (SPPF): one step where the device makes
 * views, else the first is tested. */
static void emit_pool_chain(rig *r, const op_row *row) {
    det_tensor_id xs[DET_MAX_INPUTS] = {rig_input(r, row->h, row->w, row->c)};
    for (int i = 0; i < row->n_parts; i++)
        xs[i + 1] = det_max_pool(rig_net(r), xs[i], row->k, row->stride, row->pad);
    det_concat(rig_net(r), xs, row->n_parts + 1);
}

static void emit_avg_pool(rig *r, const op_row *row) {
    finish(r, row, det_avg_pool(rig_net(r), rig_input(r, row->h, row->w, row->c), row->k, row->stride), DET_ACT_NONE);
}

/* n_parts inputs of c, c + 1, c + 2 ... channels. */
static void emit_concat(rig *r, const op_row *row) {
    det_tensor_id xs[DET_MAX_INPUTS];
    for (int i = 0; i < row->n_parts; i++)
        xs[i] = rig_input(r, row->h, row->w, row->c + i);
    det_concat(rig_net(r), xs, row->n_parts);
}

/* pad: the first channel. */
static void emit_slice(rig *r, const op_row *row) {
    finish(r, row, det_slice(rig_net(r), rig_input(r, row->h, row->w, row->c), row->pad, row->c_out), DET_ACT_NONE);
}

static void emit_space_to_depth(rig *r, const op_row *row) {
    finish(r, row, det_space_to_depth(rig_net(r), rig_input(r, row->h, row->w, row->c)), DET_ACT_NONE);
}

/* groups: heads; k: of the keys; c_out: channels of the values of one head. */
static void emit_attention(rig *r, const op_row *row) {
    det_attention_params p = {.n_heads = row->groups, .key_dim = row->k, .value_dim = row->c_out};
    det_attention(rig_net(r), rig_input(r, row->h, row->w, p.n_heads * (2 * p.key_dim + p.value_dim)), p);
}

/* Sums of many products in float: 5e-6 of the largest value; GroupNorm's, squared: 1e-5. One rounding or two: 1e-6.
 * Values that are only moved: none. */
#define ROW(op, what, tolerance, emit, ...)                                                                            \
    { op, what, tolerance, emit, rig_fill_tensors, tensor_error, __VA_ARGS__ }
#define CONV(what, ...) ROW(DET_OP_CONV2D, what, 5e-6, emit_conv, __VA_ARGS__)
#define NORM(what, ...) ROW(DET_OP_GROUP_NORM, what, 1e-5, emit_group_norm, __VA_ARGS__)
#define ADD(what, ...) ROW(DET_OP_ADD, what, 1e-6, emit_add, __VA_ARGS__)
#define ADD_UPSAMPLED(what, ...) ROW(DET_OP_ADD, what, 1e-6, emit_add_upsampled, __VA_ARGS__)
#define ACTIVATION(what, ...) ROW(DET_OP_ACTIVATION, what, 1e-6, emit_activation, __VA_ARGS__)
#define UPSAMPLE(what, ...) ROW(DET_OP_UPSAMPLE, what, 0, emit_upsample, __VA_ARGS__)
#define MAX_POOL(what, ...) ROW(DET_OP_MAX_POOL, what, 0, emit_max_pool, __VA_ARGS__)
#define POOL_CHAIN(what, ...)                                                                                          \
    ROW(DET_OP_MAX_POOL, what, 0, emit_pool_chain, .k = 5, .stride = 1, .pad = 2, .n_parts = 3, .concatenated = true,   \
        __VA_ARGS__)
#define AVG_POOL(what, ...) ROW(DET_OP_AVG_POOL, what, 1e-6, emit_avg_pool, __VA_ARGS__)
#define CONCAT(what, ...) ROW(DET_OP_CONCAT, what, 0, emit_concat, __VA_ARGS__)
#define SLICE(what, ...) ROW(DET_OP_SLICE, what, 0, emit_slice, __VA_ARGS__)
#define SPACE_TO_DEPTH(what, ...) ROW(DET_OP_SPACE_TO_DEPTH, what, 0, emit_space_to_depth, __VA_ARGS__)
#define ATTENTION(what, ...) ROW(DET_OP_ATTENTION, what, 5e-6, emit_attention, __VA_ARGS__)
#define RELU DET_ACT_RELU
#define SILU DET_ACT_SILU
#define SIGMOID DET_ACT_SIGMOID

const op_row tensor_rows[] = {
    CONV("1x1 of one pixel", .h = 1, .w = 1, .c = 1, .c_out = 1),
    CONV("3x3 of one pixel", .h = 1, .w = 1, .c = 1, .c_out = 17, .k = 3),
    CONV("7x7 of one pixel, stride 2", .h = 1, .w = 1, .c = 3, .c_out = 24, .k = 7, .stride = 2),
    CONV("1x1", .h = 5, .w = 7, .c = 65, .c_out = 24, .act = RELU),
    CONV("1x1 stride 2", .h = 9, .w = 5, .c = 17, .c_out = 65, .stride = 2),
    CONV("1x1 one row", .h = 1, .w = 29, .c = 24, .c_out = 3, .act = SIGMOID),
    CONV("3x3 one column", .h = 31, .w = 1, .c = 3, .c_out = 24, .k = 3, .act = SILU),
    CONV("3x3 stem", .h = 33, .w = 47, .c = 3, .c_out = 24, .k = 3, .stride = 2, .act = RELU),
    CONV("3x3 even sides stride 2", .h = 32, .w = 18, .c = 24, .c_out = 17, .k = 3, .stride = 2, .act = SILU),
    CONV("5x5", .h = 11, .w = 13, .c = 17, .c_out = 17, .k = 5),
    CONV("5x5 stride 2", .h = 12, .w = 9, .c = 24, .c_out = 65, .k = 5, .stride = 2, .act = RELU),
    CONV("6x6 stride 2 padded by 2", .h = 34, .w = 26, .c = 3, .c_out = 24, .k = 6, .stride = 2, .pad = 2, .act = SILU),
    CONV("7x7", .h = 9, .w = 11, .c = 24, .c_out = 17, .k = 7, .act = RELU),
    CONV("3x3 without bias", .h = 7, .w = 9, .c = 17, .c_out = 3, .k = 3, .no_bias = true),
    CONV("bands of 3x3", .h = 33, .w = 29, .c = 24, .c_out = 24, .k = 3, .act = RELU),
    CONV("bands of 3x3 stride 2", .h = 41, .w = 37, .c = 24, .c_out = 65, .k = 3, .stride = 2),
    CONV("bands of 1x1", .h = 29, .w = 37, .c = 65, .c_out = 24),
    CONV("bands of 7x7 depthwise", .h = 37, .w = 31, .c = 24, .c_out = 24, .k = 7, .groups = 24),
    CONV("bands with residual", .h = 31, .w = 33, .c = 24, .c_out = 24, .k = 3, .residual = true, .post_act = RELU),
    CONV("depthwise 3x3", .h = 9, .w = 7, .c = 65, .c_out = 65, .k = 3, .groups = 65, .act = RELU),
    CONV("depthwise 5x5 stride 2", .h = 13, .w = 11, .c = 17, .c_out = 17, .k = 5, .stride = 2, .groups = 17, .act = SILU),
    CONV("depthwise 7x7 of one pixel", .h = 1, .w = 1, .c = 24, .c_out = 24, .k = 7, .groups = 24),
    CONV("depthwise without bias", .h = 6, .w = 5, .c = 3, .c_out = 3, .k = 3, .groups = 3, .no_bias = true),
    CONV("three groups", .h = 7, .w = 9, .c = 24, .c_out = 33, .k = 3, .groups = 3, .act = RELU),
    CONV("residual", .h = 7, .w = 5, .c = 24, .c_out = 17, .residual = true),
    CONV("residual then relu", .h = 7, .w = 5, .c = 17, .c_out = 65, .k = 3, .residual = true, .post_act = RELU),
    CONV("silu then residual", .h = 8, .w = 9, .c = 24, .c_out = 24, .k = 3, .act = SILU, .residual = true),
    CONV("relu, residual, silu", .h = 5, .w = 9, .c = 3, .c_out = 24, .k = 3, .stride = 2, .act = RELU, .residual = true, .post_act = SILU),
    CONV("depthwise with residual", .h = 5, .w = 6, .c = 24, .c_out = 24, .k = 3, .groups = 24, .residual = true, .post_act = RELU),
    CONV("two parts", .h = 5, .w = 7, .c = 24, .c_out = 11, .k = 3, .n_parts = 2),
    CONV("residual that is kept", .h = 7, .w = 5, .c = 24, .c_out = 17, .k = 3, .residual = true, .residual_kept = true, .post_act = RELU),
    CONV("bands with kept residual", .h = 31, .w = 33, .c = 24, .c_out = 24, .k = 3, .act = SILU, .residual = true, .residual_kept = true),
    CONV("concatenated", .h = 7, .w = 9, .c = 17, .c_out = 24, .k = 3, .act = RELU, .concatenated = true),
    CONV("bands, concatenated", .h = 33, .w = 29, .c = 24, .c_out = 24, .k = 3, .concatenated = true),
    CONV("residual, concatenated", .h = 31, .w = 33, .c = 24, .c_out = 24, .k = 3, .residual = true, .post_act = SILU, .concatenated = true),
    CONV("three parts in bands", .h = 27, .w = 31, .c = 24, .c_out = 31, .k = 3, .n_parts = 3, .act = SIGMOID),
    CONV("tiles of one pixel", .h = 1, .w = 1, .c = 24, .c_out = 17, .k = 3, .act = SILU),
    CONV("whole tiles", .h = 8, .w = 12, .c = 32, .c_out = 32, .k = 3, .act = RELU),
    CONV("ragged tiles", .h = 14, .w = 11, .c = 20, .c_out = 40, .k = 3, .act = SILU),
    CONV("blocks of tiles", .h = 74, .w = 63, .c = 16, .c_out = 13, .k = 3, .act = SIGMOID),
    CONV("tiles with residual", .h = 17, .w = 18, .c = 48, .c_out = 80, .k = 3, .act = SILU, .residual = true, .post_act = RELU),
    CONV("tiles, concatenated", .h = 9, .w = 22, .c = 33, .c_out = 49, .k = 3, .act = SILU, .concatenated = true),
    CONV("tiles, concatenated and kept", .h = 6, .w = 7, .c = 16, .c_out = 24, .k = 3, .concatenated = true, .result_kept = true),
    CONV("rounds of 1x1", .h = 41, .w = 50, .c = 24, .c_out = 65, .act = SILU),
    CONV("rounds of 5x5 stride 2 with residual", .h = 83, .w = 81, .c = 3, .c_out = 65, .k = 5, .stride = 2, .act = SILU, .residual = true),
    CONV("silu, concatenated", .h = 9, .w = 7, .c = 24, .c_out = 17, .act = SILU, .concatenated = true),
    CONV("two parts without bias", .h = 3, .w = 4, .c = 17, .c_out = 10, .n_parts = 2, .no_bias = true),

    NORM("of one pixel", .h = 1, .w = 1, .c = 24, .groups = 3),
    NORM("one group", .h = 5, .w = 7, .c = 17, .groups = 1, .act = RELU),
    NORM("a group per channel", .h = 9, .w = 5, .c = 3, .groups = 3, .act = SILU),
    NORM("of one channel", .h = 3, .w = 2, .c = 1, .groups = 1),
    NORM("many channels", .h = 31, .w = 29, .c = 65, .groups = 13, .act = RELU),
    NORM("as in the heads", .h = 33, .w = 27, .c = 64, .groups = 16, .act = RELU),
    {DET_OP_GROUP_NORM, "far from zero", 1e-5, emit_group_norm, fill_offset, tensor_error, .h = 20, .w = 65, .c = 24, .groups = 3},

    ADD("one pixel", .h = 1, .w = 1, .c = 1),
    ADD("relu", .h = 7, .w = 5, .c = 17, .act = RELU),
    ADD("silu", .h = 13, .w = 3, .c = 65, .act = SILU),
    ADD_UPSAMPLED("upsampled", .h = 2, .w = 2, .c = 3),
    ADD_UPSAMPLED("upsampled, relu", .h = 14, .w = 10, .c = 24, .act = RELU),

    ADD("concatenated", .h = 13, .w = 3, .c = 17, .act = RELU, .concatenated = true),
    ADD_UPSAMPLED("upsampled, concatenated", .h = 6, .w = 10, .c = 3, .concatenated = true),

    ACTIVATION("relu", .h = 1, .w = 1, .c = 3, .act = RELU),
    ACTIVATION("silu", .h = 9, .w = 7, .c = 17, .act = SILU),
    ACTIVATION("sigmoid", .h = 5, .w = 3, .c = 65, .act = SIGMOID),
    ACTIVATION("concatenated", .h = 9, .w = 7, .c = 17, .act = SILU, .concatenated = true),

    UPSAMPLE("one pixel", .h = 1, .w = 1, .c = 17),
    UPSAMPLE("odd sides", .h = 5, .w = 7, .c = 3),
    UPSAMPLE("one channel", .h = 9, .w = 3, .c = 1),
    UPSAMPLE("concatenated", .h = 5, .w = 7, .c = 24, .concatenated = true),
    UPSAMPLE("concatenated and kept", .h = 4, .w = 3, .c = 17, .concatenated = true, .result_kept = true),
    CONV("concatenated and kept", .h = 7, .w = 9, .c = 3, .c_out = 24, .k = 3, .concatenated = true, .result_kept = true),

    MAX_POOL("2x2", .h = 8, .w = 6, .c = 17, .k = 2, .stride = 2),
    MAX_POOL("2x2 of odd sides", .h = 9, .w = 7, .c = 24, .k = 2, .stride = 2),
    MAX_POOL("5x5 of one pixel", .h = 1, .w = 1, .c = 3, .k = 5, .stride = 1, .pad = 2),
    MAX_POOL("5x5", .h = 11, .w = 9, .c = 65, .k = 5, .stride = 1, .pad = 2),
    MAX_POOL("13x13 of a smaller picture", .h = 5, .w = 7, .c = 1, .k = 13, .stride = 1, .pad = 6),
    MAX_POOL("3x3 stride 2", .h = 9, .w = 12, .c = 3, .k = 3, .stride = 2, .pad = 1),
    MAX_POOL("concatenated", .h = 11, .w = 9, .c = 17, .k = 5, .stride = 1, .pad = 2, .concatenated = true),
    POOL_CHAIN("SPPF", .h = 20, .w = 17, .c = 24),
    POOL_CHAIN("SPPF of a smaller picture", .h = 3, .w = 2, .c = 8),

    AVG_POOL("2x2", .h = 8, .w = 6, .c = 17, .k = 2, .stride = 2),
    AVG_POOL("2x2 of odd sides", .h = 9, .w = 7, .c = 65, .k = 2, .stride = 2),
    AVG_POOL("3x3", .h = 5, .w = 4, .c = 1, .k = 3, .stride = 1),
    AVG_POOL("concatenated", .h = 8, .w = 6, .c = 17, .k = 2, .stride = 2, .concatenated = true),

    CONCAT("one input", .h = 3, .w = 5, .c = 17, .n_parts = 1),
    CONCAT("two inputs", .h = 7, .w = 5, .c = 3, .n_parts = 2),
    CONCAT("eight inputs", .h = 5, .w = 1, .c = 1, .n_parts = 8),

    SLICE("whole", .h = 3, .w = 5, .c = 17, .c_out = 17),
    SLICE("last half", .h = 7, .w = 5, .c = 24, .c_out = 12, .pad = 12),
    SLICE("one channel from the middle", .h = 1, .w = 3, .c = 65, .c_out = 1, .pad = 31),
    SLICE("concatenated", .h = 7, .w = 5, .c = 24, .c_out = 12, .pad = 12, .concatenated = true),

    SPACE_TO_DEPTH("four pixels", .h = 2, .w = 2, .c = 1),
    SPACE_TO_DEPTH("pixels of colour", .h = 10, .w = 14, .c = 3),
    SPACE_TO_DEPTH("many channels", .h = 6, .w = 4, .c = 17),
    SPACE_TO_DEPTH("concatenated", .h = 10, .w = 14, .c = 3, .concatenated = true),

    ATTENTION("one position", .h = 1, .w = 1, .groups = 1, .k = 1, .c_out = 1),
    ATTENTION("two heads", .h = 5, .w = 7, .groups = 2, .k = 3, .c_out = 5),
    ATTENTION("as in YOLO11", .h = 9, .w = 7, .groups = 2, .k = 32, .c_out = 64),
};
const int n_tensor_rows = DET_COUNT(tensor_rows);
