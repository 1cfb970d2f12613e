/* The kernels from tensors to tensors against textbook loops: every element type, odd sizes, views of wider tensors.
 * Tolerance: half a unit in the last place of the element type, and 2e-6 for float arithmetic (1e-5 where sums are
 * long); what copies or chooses among values must be exact. */
#include "tensor_rig.h"

static const det_type types[] = {DET_TYPE_F32, DET_TYPE_F16, DET_TYPE_BF16};

#define FOR_TYPES(type) for (int type##_i = 0, type = types[0]; type##_i < 3; type = types[++type##_i % 3])

static int lanes(det_type type) {
    return 16 / (int)emulation_element_bytes(type);
}

static det_act act_of(det_unit unit) {
    return (det_act)unit; /* the same in the same order */
}

/* -------------------------------------------------------------------------------------------------------- depthwise */

typedef struct depthwise_row {
    int k, stride, n, h, w, vectors;
    bool bias, residual, strided;
    det_unit unit, post_unit;
} depthwise_row;

static const depthwise_row depthwise_rows[] = {
    {3, 1, 1, 1, 1, 1, false, false, false, DET_UNIT_NONE, DET_UNIT_NONE},
    {3, 1, 2, 7, 5, 5, true, false, true, DET_UNIT_RELU, DET_UNIT_NONE},
    {3, 2, 2, 9, 12, 3, true, false, false, DET_UNIT_SILU, DET_UNIT_NONE},
    {3, 2, 1, 1, 2, 1, true, false, true, DET_UNIT_NONE, DET_UNIT_NONE},
    {5, 1, 2, 7, 13, 2, true, true, true, DET_UNIT_SILU, DET_UNIT_RELU},
    {5, 2, 1, 8, 5, 17, true, false, true, DET_UNIT_SIGMOID, DET_UNIT_NONE},
    {7, 1, 1, 20, 17, 2, true, true, false, DET_UNIT_NONE, DET_UNIT_RELU},
    {7, 2, 2, 11, 9, 5, true, false, true, DET_UNIT_RELU, DET_UNIT_NONE},
    {7, 2, 1, 1, 1, 1, true, true, true, DET_UNIT_NONE, DET_UNIT_SILU},
};

static cudaError_t launch_depthwise(const tensor_rig *r) {
    const depthwise_row *row = r->what;
    det_depthwise_args args = {
        r->type, r->x[0].view, r->y[0].view, {0},       r->memories[0], row->bias ? r->memories[1] : NULL,
        row->k,  row->stride,  row->k / 2,   row->unit, row->post_unit};
    if (row->residual)
        args.residual = r->x[1].view;
    return det_launch_depthwise(&args, NULL);
}

/* The oracle wants [c, 1, k, k]; the device has [k, k, c]. */
static float *turned(const float *weight, int k, int c) {
    float *values = malloc(sizeof *values * (size_t)(k * k * c));
    for (int i = 0; i < k * k; i++) {
        for (int j = 0; j < c; j++)
            values[j * k * k + i] = weight[i * c + j];
    }
    return values;
}

static void test_depthwise(const depthwise_row *row, det_type type) {
    tensor_rig r;
    char name[96];
    int c = row->vectors * lanes(type), beside = row->strided ? lanes(type) : 0;
    int h = (row->h + row->k / 2 * 2 - row->k) / row->stride + 1,
        w = (row->w + row->k / 2 * 2 - row->k) / row->stride + 1;
    snprintf(name, sizeof name, "depthwise %d stride %d [%d,%d,%d,%d]", row->k, row->stride, row->n, row->h, row->w, c);
    rig_begin(&r, name, type);
    r.what = row;
    r.launch = launch_depthwise;
    rig_x(&r, row->n, row->h, row->w, c, beside, 2 * beside, -2, 2);
    if (row->residual)
        rig_x(&r, row->n, h, w, c, 0, beside, -2, 2);
    rig_y(&r, row->n, h, w, c, 2 * beside, beside);
    rig_weights(&r, type, (size_t)(row->k * row->k * c), -0.5f, 0.5f);
    rig_weights(&r, DET_TYPE_F32, (size_t)c, -1, 1);
    float *weight = turned(r.dense[0], row->k, c);
    r.weights[0] = (det_weight){.shape = {c, 1, row->k, row->k}, .n_dims = 4, .values = weight};
    r.weights[1] = (det_weight){.shape = {c}, .n_dims = 1, .values = r.dense[1]};
    r.node.op = DET_OP_CONV2D;
    r.node.u.conv = (det_conv_params){.k = row->k,
                                      .stride = row->stride,
                                      .pad = row->k / 2,
                                      .groups = c,
                                      .n_parts = 1,
                                      .parts = {{&r.weights[0], row->bias ? &r.weights[1] : NULL}},
                                      .act = act_of(row->unit),
                                      .has_residual = row->residual,
                                      .post_act = act_of(row->post_unit)};
    r.arithmetic = 1e-5;
    rig_run(&r);
    free(weight);
}

/* --------------------------------------------------------------------------------------------------------- epilogue */

typedef struct epilogue_row {
    int n, h, w, vectors;
    bool bias, residual, upsample, strided;
    det_unit unit, post_unit;
} epilogue_row;

static const epilogue_row epilogue_rows[] = {
    {1, 1, 1, 1, true, false, false, false, DET_UNIT_SILU, DET_UNIT_NONE},
    {2, 7, 5, 3, true, true, false, true, DET_UNIT_RELU, DET_UNIT_SILU},
    {2, 6, 4, 2, false, true, true, true, DET_UNIT_NONE, DET_UNIT_RELU},
    {1, 2, 2, 1, false, true, true, false, DET_UNIT_NONE, DET_UNIT_NONE},
    {1, 5, 3, 33, false, false, false, true, DET_UNIT_SIGMOID, DET_UNIT_NONE},
};

static cudaError_t launch_epilogue(const tensor_rig *r) {
    const epilogue_row *row = r->what;
    det_epilogue_args args = {r->type,       r->x[0].view, r->y[0].view,  {0}, row->bias ? r->memories[0] : NULL,
                              row->upsample, row->unit,    row->post_unit};
    if (row->residual)
        args.residual = r->x[1].view;
    return det_launch_epilogue(&args, NULL);
}

static double unit(double x, det_unit unit) {
    return unit == DET_UNIT_RELU      ? fmax(x, 0)
           : unit == DET_UNIT_SILU    ? x / (1 + exp(-x))
           : unit == DET_UNIT_SIGMOID ? 1 / (1 + exp(-x))
                                      : x;
}

static void expect_epilogue(const tensor_rig *r, int output, double *y) {
    const epilogue_row *row = r->what;
    const det_view *v = &r->y[output].view;
    for (int i = 0; i < v->n * v->h; i++) {
        for (int j = 0; j < v->w; j++) {
            for (int c = 0; c < v->c; c++) {
                size_t at = ((size_t)i * v->w + j) * v->c + c, half = ((size_t)(i / 2) * (v->w / 2) + j / 2) * v->c + c;
                double x = (double)r->x[0].values[at] + (row->bias ? (double)r->dense[0][c] : 0);
                double residual = row->residual ? (double)r->x[1].values[row->upsample ? half : at] : 0;
                y[at] = unit(unit(x, row->unit) + residual, row->post_unit);
            }
        }
    }
}

static void test_epilogue(const epilogue_row *row, det_type type) {
    tensor_rig r;
    char name[96];
    int c = row->vectors * lanes(type), beside = row->strided ? lanes(type) : 0, ratio = row->upsample ? 2 : 1;
    snprintf(name, sizeof name, "epilogue [%d,%d,%d,%d]%s", row->n, row->h, row->w, c,
             row->upsample ? " upsampling" : "");
    rig_begin(&r, name, type);
    r.what = row;
    r.launch = launch_epilogue;
    r.expect = expect_epilogue;
    rig_x(&r, row->n, row->h, row->w, c, 0, beside, -3, 3);
    if (row->residual)
        rig_x(&r, row->n, row->h / ratio, row->w / ratio, c, beside, 0, -3, 3);
    rig_y(&r, row->n, row->h, row->w, c, beside, beside);
    rig_weights(&r, DET_TYPE_F32, (size_t)c, -1, 1);
    rig_run(&r);
}

/* ------------------------------------------------------------------------------- upsample, copy, convert, rearrange */

typedef struct move_row {
    enum { UPSAMPLE, COPY, TO_FLOAT, FROM_FLOAT, DEPTH } kind;
    int n, h, w, c, y_c, before, after; /* channels of y, and beside x and y */
} move_row;

static const move_row move_rows[] = {
    {UPSAMPLE, 1, 1, 1, 8, 8, 0, 0},   {UPSAMPLE, 2, 7, 5, 24, 24, 8, 16}, {COPY, 1, 1, 1, 1, 1, 0, 0},
    {COPY, 2, 5, 7, 16, 16, 8, 8},     {COPY, 2, 5, 7, 16, 32, 0, 8},      {COPY, 2, 3, 5, 7, 7, 3, 1},
    {COPY, 1, 4, 4, 3, 8, 0, 0},       {COPY, 1, 3, 3, 8, 8, 1, 0},        {TO_FLOAT, 2, 3, 5, 7, 7, 1, 2},
    {TO_FLOAT, 1, 4, 4, 16, 16, 0, 0}, {FROM_FLOAT, 2, 3, 5, 7, 8, 0, 0},  {FROM_FLOAT, 1, 9, 2, 24, 24, 8, 8},
    {DEPTH, 1, 2, 2, 3, 12, 0, 0},     {DEPTH, 2, 6, 10, 3, 16, 0, 0},     {DEPTH, 2, 4, 6, 3, 16, 5, 8},
    {DEPTH, 1, 4, 4, 8, 32, 8, 0},     {DEPTH, 1, 2, 4, 3, 13, 1, 2},
};

static cudaError_t launch_move(const tensor_rig *r) {
    const move_row *row = r->what;
    switch (row->kind) {
    case UPSAMPLE:
        return det_launch_upsample(r->type, r->x[0].view, r->y[0].view, NULL);
    case COPY:
        return det_launch_copy(r->type, r->x[0].view, r->y[0].view, NULL);
    case DEPTH:
        return det_launch_space_to_depth(r->type, r->x[0].view, r->y[0].view, row->c, NULL);
    default:
        return det_launch_convert(r->type, r->x[0].view, r->y_type, r->y[0].view, NULL);
    }
}

static void expect_same(const tensor_rig *r, int output, double *y) {
    (void)output;
    for (size_t i = 0; i < tensor_pixels(&r->x[0]) * (size_t)r->x[0].view.c; i++)
        y[i] = (double)r->x[0].values[i];
}

static void test_move(const move_row *row, det_type type) {
    static const char *const names[] = {"upsample", "copy", "to float", "from float", "space to depth"};
    tensor_rig r;
    char name[96];
    bool up = row->kind == UPSAMPLE, depth = row->kind == DEPTH;
    snprintf(name, sizeof name, "%s [%d,%d,%d,%d -> %d]", names[row->kind], row->n, row->h, row->w, row->c, row->y_c);
    rig_begin(&r, name, row->kind == FROM_FLOAT ? DET_TYPE_F32 : type);
    r.y_type = row->kind == TO_FLOAT ? DET_TYPE_F32 : type;
    r.what = row;
    r.launch = launch_move;
    r.expect = up || depth ? NULL : expect_same;
    r.expected_c = depth ? 4 * row->c : row->c;
    r.arithmetic = row->kind == FROM_FLOAT && type != DET_TYPE_F32 ? 1e-9 : 0;
    r.node.op = depth ? DET_OP_SPACE_TO_DEPTH : DET_OP_UPSAMPLE;
    rig_x(&r, row->n, row->h, row->w, row->c, row->before, row->after, -2, 2);
    rig_y(&r, row->n,
          up      ? 2 * row->h
          : depth ? row->h / 2
                  : row->h,
          up      ? 2 * row->w
          : depth ? row->w / 2
                  : row->w,
          row->y_c, row->after, row->before);
    rig_run(&r);
}

/* ------------------------------------------------------------------------------------------------------------ pools */

typedef struct pool_row {
    enum { MAX, AVERAGE, SPP } kind;
    int n, h, w, vectors, k, stride, pad, ks[3];
    bool strided;
} pool_row;

static const pool_row pool_rows[] = {
    {MAX, 1, 1, 1, 1, 5, 1, 2, {0}, false},          {MAX, 2, 7, 5, 3, 3, 2, 1, {0}, true},
    {MAX, 1, 8, 6, 2, 2, 2, 0, {0}, true},           {MAX, 1, 9, 9, 1, 13, 1, 6, {0}, false},
    {AVERAGE, 2, 7, 6, 2, 2, 1, 0, {0}, true},       {AVERAGE, 1, 6, 8, 1, 2, 2, 0, {0}, false},
    {SPP, 1, 1, 1, 1, 0, 0, 0, {5, 9, 13}, true},    {SPP, 2, 7, 5, 2, 0, 0, 0, {5, 9, 13}, true},
    {SPP, 1, 20, 35, 1, 0, 0, 0, {5, 9, 13}, false}, {SPP, 1, 17, 16, 1, 0, 0, 0, {3, 7, 0}, true},
    {SPP, 1, 16, 17, 1, 0, 0, 0, {1, 0, 0}, false},
};

static cudaError_t launch_pool(const tensor_rig *r) {
    const pool_row *row = r->what;
    if (row->kind == SPP) {
        det_view ys[3] = {r->y[0].view, r->y[1].view, r->y[2].view};
        return det_launch_spp(r->type, r->x[0].view, row->ks, ys, NULL);
    }
    return row->kind == MAX
               ? det_launch_max_pool(r->type, r->x[0].view, r->y[0].view, row->k, row->stride, row->pad, NULL)
               : det_launch_avg_pool(r->type, r->x[0].view, r->y[0].view, row->k, row->stride, NULL);
}

static void expect_pool(const tensor_rig *r, int output, double *y) {
    const pool_row *row = r->what;
    det_node node = r->node;
    det_step step = r->step;
    step.node = &node;
    if (row->kind == SPP)
        node.u.pool = (det_pool_params){.k = row->ks[output], .stride = 1, .pad = row->ks[output] / 2};
    oracle_tensor(&step, y);
}

static void test_pool(const pool_row *row, det_type type) {
    static const char *const names[] = {"max pool", "average pool", "SPP"};
    tensor_rig r;
    char name[96];
    int c = row->vectors * lanes(type), beside = row->strided ? lanes(type) : 0;
    snprintf(name, sizeof name, "%s [%d,%d,%d,%d]", names[row->kind], row->n, row->h, row->w, c);
    rig_begin(&r, name, type);
    r.what = row;
    r.launch = launch_pool;
    r.expect = expect_pool;
    r.arithmetic = row->kind == AVERAGE ? 1e-6 : 0;
    r.node.op = row->kind == AVERAGE ? DET_OP_AVG_POOL : DET_OP_MAX_POOL;
    r.node.u.pool = (det_pool_params){.k = row->k, .stride = row->stride, .pad = row->pad};
    rig_x(&r, row->n, row->h, row->w, c, beside, 0, -9, 3);
    if (row->kind != SPP)
        rig_y(&r, row->n, (row->h + 2 * row->pad - row->k) / row->stride + 1,
              (row->w + 2 * row->pad - row->k) / row->stride + 1, c, 0, beside);
    for (int i = 0; row->kind == SPP && i < 3 && row->ks[i]; i++)
        rig_y(&r, row->n, row->h, row->w, c, (i + 1) * beside, (2 - i) * beside);
    rig_run(&r);
}

/* --------------------------------------------------------------------------------------------- GroupNorm, attention */

typedef struct norm_row {
    int n, h, w, c, x_c, n_groups, beside;
    float low, high;
    det_unit unit;
} norm_row;

static const norm_row norm_rows[] = {
    {1, 1, 1, 8, 8, 2, 0, -2, 2, DET_UNIT_NONE},         {2, 7, 5, 24, 24, 3, 8, -2, 2, DET_UNIT_RELU},
    {2, 20, 17, 64, 64, 16, 8, -2, 2, DET_UNIT_SILU},    {1, 9, 7, 10, 10, 5, 1, -2, 2, DET_UNIT_NONE},
    {2, 5, 6, 12, 16, 4, 0, -2, 2, DET_UNIT_RELU},       {1, 40, 52, 16, 16, 1, 0, -2, 2, DET_UNIT_NONE},
    {1, 30, 30, 32, 32, 4, 0, 999, 1001, DET_UNIT_NONE}, {1, 12, 11, 320, 320, 32, 0, -2, 2, DET_UNIT_NONE},
    {1, 1, 300, 1, 1, 1, 2, 50, 51, DET_UNIT_SIGMOID},
};

static cudaError_t launch_norm(const tensor_rig *r) {
    const norm_row *row = r->what;
    det_group_norm_args args = {r->type, r->x[0].view,   r->y[0].view,   row->c,    row->n_groups,
                                1e-5f,   r->memories[0], r->memories[1], row->unit, r->memories[2]};
    return det_launch_group_norm(&args, NULL);
}

/* The oracle's tensor has the normalised channels alone. */
static void expect_norm(const tensor_rig *r, int output, double *y) {
    const norm_row *row = r->what;
    size_t n = tensor_pixels(&r->x[0]);
    float *values = malloc(n * (size_t)row->c * sizeof *values);
    det_step step = r->step;
    (void)output;
    for (size_t i = 0; i < n; i++)
        memcpy(values + i * (size_t)row->c, r->x[0].values + i * (size_t)row->x_c, (size_t)row->c * sizeof *values);
    step.inputs[0] = values;
    step.input_shapes[0].c = row->c;
    oracle_tensor(&step, y);
    free(values);
}

static void test_norm(const norm_row *row, det_type type) {
    tensor_rig r;
    char name[96];
    snprintf(name, sizeof name, "GroupNorm %d [%d,%d,%d,%d of %d]", row->n_groups, row->n, row->h, row->w, row->c,
             row->x_c);
    rig_begin(&r, name, type);
    r.what = row;
    r.launch = launch_norm;
    r.expect = expect_norm;
    r.expected_c = row->c;
    rig_x(&r, row->n, row->h, row->w, row->x_c, row->beside, row->beside, row->low, row->high);
    rig_y(&r, row->n, row->h, row->w, row->x_c, 0, row->beside);
    rig_weights(&r, DET_TYPE_F32, (size_t)row->c, 0.5f, 1.5f);
    rig_weights(&r, DET_TYPE_F32, (size_t)row->c, -1, 1);
    det_group_norm_args sizes = {.x = r.x[0].view, .c = row->c};
    r.memories[r.n_memories++] = emulation_memory(det_group_norm_workspace(&sizes));
    for (int i = 0; i < 2; i++)
        r.weights[i] = (det_weight){.shape = {row->c}, .n_dims = 1, .n_values = row->c, .values = r.dense[i]};
    r.node.op = DET_OP_GROUP_NORM;
    r.node.u.group_norm =
        (det_group_norm_params){row->n_groups, 1e-5f, &r.weights[0], &r.weights[1], act_of(row->unit)};
    r.arithmetic = 1e-5;
    rig_run(&r);
}

typedef struct attention_row {
    int n, h, w, n_heads, key_dim, value_dim, beside;
    float reach; /* of the inputs */
} attention_row;

static const attention_row attention_rows[] = {
    {1, 1, 1, 1, 32, 64, 0, 2}, {2, 7, 5, 2, 32, 64, 8, 2},  {1, 4, 8, 2, 16, 32, 0, 2}, {1, 9, 9, 1, 128, 128, 0, 2},
    {1, 3, 5, 3, 5, 7, 1, 2},   {1, 17, 4, 1, 32, 96, 8, 9}, {1, 2, 2, 1, 1, 1, 0, 2},
};

static cudaError_t launch_attention(const tensor_rig *r) {
    const attention_row *row = r->what;
    det_attention_args args = {r->type, r->x[0].view, r->y[0].view, row->n_heads, row->key_dim, row->value_dim};
    return det_launch_attention(&args, NULL);
}

static void test_attention(const attention_row *row, det_type type) {
    tensor_rig r;
    char name[96];
    snprintf(name, sizeof name, "attention [%d,%d,%d] of %d heads %d %d", row->n, row->h, row->w, row->n_heads,
             row->key_dim, row->value_dim);
    rig_begin(&r, name, type);
    r.what = row;
    r.launch = launch_attention;
    rig_x(&r, row->n, row->h, row->w, row->n_heads * (2 * row->key_dim + row->value_dim), row->beside, 0, -row->reach,
          row->reach);
    rig_y(&r, row->n, row->h, row->w, row->n_heads * row->value_dim, 0, row->beside);
    r.node.op = DET_OP_ATTENTION;
    r.node.u.attention = (det_attention_params){row->n_heads, row->key_dim, row->value_dim};
    r.arithmetic = row->reach > 2 ? 1e-4 : 1e-5; /* scores of hundreds: their floats' digits, in an exponent */
    rig_run(&r);
}

/* -------------------------------------------------------------------------------------------------- what is refused */

static void test_refusals(void) {
    char *memory = emulation_memory(1 << 16);
    det_view x = {memory, 1, 4, 4, 8, 8}, y = {memory + 4096, 1, 4, 4, 8, 8}, bent = x, narrow = x, odd = x, tall = y;
    bent.data = memory + 2;
    narrow.stride = 4;
    odd.c = 7;
    tall.h = 5;
    det_depthwise_args depthwise = {DET_TYPE_F16, x, y, {0}, memory, NULL, 3, 1, 1, DET_UNIT_NONE, DET_UNIT_NONE};
    det_depthwise_args bad = depthwise;
    bad.k = 4;
    CHECK(det_launch_depthwise(&bad, NULL) == cudaErrorInvalidValue);
    bad = depthwise;
    bad.x = bent;
    CHECK(det_launch_depthwise(&bad, NULL) == cudaErrorInvalidValue);
    bad = depthwise;
    bad.y = tall;
    CHECK(det_launch_depthwise(&bad, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_copy(DET_TYPE_F16, narrow, y, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_copy(DET_TYPE_F16, x, tall, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_convert(DET_TYPE_F16, x, DET_TYPE_BF16, y, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_upsample(DET_TYPE_F16, x, y, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_max_pool(DET_TYPE_F16, odd, odd, 3, 1, 1, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_max_pool(DET_TYPE_F16, x, y, 3, 2, 1, NULL) == cudaErrorInvalidValue);
    det_view ys[3] = {y, y, y};
    CHECK(det_launch_spp(DET_TYPE_F16, x, (const int[]){5, 5, 0}, ys, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_spp(DET_TYPE_F16, x, (const int[]){5, 9, 15}, ys, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_space_to_depth(DET_TYPE_F16, x, y, 2, NULL) == cudaErrorInvalidValue);
    det_group_norm_args norm = {DET_TYPE_F16,  x,     y, 8, 3, 0, (float *)(void *)memory, (float *)(void *)memory,
                                DET_UNIT_NONE, memory};
    CHECK(det_launch_group_norm(&norm, NULL) == cudaErrorInvalidValue);
    det_attention_args attention = {DET_TYPE_F16, x, y, 1, 2, 8};
    CHECK(det_launch_attention(&attention, NULL) == cudaErrorInvalidValue);
    CHECK(emulation_launches() == 0);
    emulation_memory_free(memory);
}

/* A chip with less shared memory than a kernel asks for. */
static void test_small_chip(void) {
    static const emulation_chip small = {16 << 10, 16 << 10, 1};
    char *memory = emulation_memory(1 << 16);
    det_view x = {memory, 1, 2, 2, 2048, 2048}, y = {memory + (1 << 15), 1, 2, 2, 2048, 2048};
    det_group_norm_args norm = {DET_TYPE_F16,  x,     y, 2048, 4, 1, (float *)(void *)memory, (float *)(void *)memory,
                                DET_UNIT_NONE, memory};
    emulation_set_chip(&small);
    CHECK(det_launch_group_norm(&norm, NULL) != cudaSuccess);
    CHECK(emulation_failure() != NULL);
    emulation_set_chip(NULL);
    emulation_memory_free(memory);
}

#define TEST_ROWS(kind)                                                                                                \
    for (size_t i = 0; i < sizeof kind##_rows / sizeof *kind##_rows; i++)                                              \
        FOR_TYPES(type)                                                                                                \
    test_##kind(&kind##_rows[i], (det_type)type)

int main(void) {
    TEST_ROWS(depthwise);
    TEST_ROWS(epilogue);
    TEST_ROWS(move);
    TEST_ROWS(pool);
    TEST_ROWS(norm);
    TEST_ROWS(attention);
    emulation_launches();
    test_refusals();
    test_small_chip();
    return check_report("tensor kernels");
}
