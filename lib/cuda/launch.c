/* The operators that our own kernels compute: from steps to the launchers of kernels.h. */
#include "cuda.h"

#include <string.h>

/* -------------------------------------------------------------------------------------------------------- views */

static det_view view_of(void *data, int n, det_shape s, int stride) {
    return (det_view){data, n, s.h, s.w, s.c, stride};
}

det_view det_cuda_input(const det_step *step, int i, int n) {
    return view_of(step->inputs[i], n, step->input_shapes[i], step->input_strides[i]);
}

det_view det_cuda_output(const det_step *step, int n) {
    return view_of(step->output, n, step->output_shape, step->output_stride);
}

det_view det_cuda_padded(const det_device *device, det_view view) {
    view.c = det_padded(device->type, view.c);
    return view;
}

det_unit det_cuda_unit(det_act act) {
    switch (act) {
    case DET_ACT_RELU:
        return DET_UNIT_RELU;
    case DET_ACT_SILU:
        return DET_UNIT_SILU;
    case DET_ACT_SIGMOID:
        return DET_UNIT_SIGMOID;
    default:
        return DET_UNIT_NONE;
    }
}

static det_view input(const det_device *device, const det_step *step, int i, int n) {
    return det_cuda_padded(device, det_cuda_input(step, i, n));
}

static det_view output(const det_device *device, const det_step *step, int n) {
    return det_cuda_padded(device, det_cuda_output(step, n));
}

static void free_state(det_device *device, void *state) {
    (void)device;
    det_free(state);
}

/* The runs below are called within det_runner_run or while the context is made: the device is current, and of the frame
 * only n is known, the batch size. */
#define RUN(name)                                                                                                      \
    static det_status run_##name(det_device *device, const det_step *step, const det_frame *frame, det_stream stream)

/* ------------------------------------------------------------------------------------------------------ pictures */

static det_status prepare_preprocess(det_device *device, det_step *step, const det_plan_facts *facts) {
    det_preprocess_args *args = det_alloc_array(1, sizeof *args);
    if (!args)
        return DET_ERROR_OUT_OF_MEMORY;
    const det_model_info *info = facts->model;
    step->state = args;
    *args = (det_preprocess_args){.type = device->type,
                                  .eight_bit = info->resize != DET_RESIZE_STRETCH,
                                  .mean = info->mean,
                                  .scale = info->scale,
                                  .pad = info->pad_value};
    return DET_OK;
}

RUN(preprocess) {
    det_preprocess_args args = *(const det_preprocess_args *)step->state;
    args.y = output(device, step, frame->n);
    CUDA_TRY(det_launch_preprocess(&args, det_cuda_block(device), stream));
    return DET_OK;
}

const det_kernel det_cuda_preprocess = {.prepare = prepare_preprocess, .run = run_preprocess, .release = free_state};

/* --------------------------------------------------------------------------------------------- tensors to tensors */

typedef struct norm_state {
    const void *weight, *bias;
} norm_state;

static void pack_values(const void *what, float *values) {
    const det_weight *w = what;
    memcpy(values, w->values, (size_t)w->n_values * sizeof *values);
}

static det_group_norm_args norm_args(const det_device *device, const det_step *step, int n, const norm_state *s) {
    const det_group_norm_params *p = &step->node->u.group_norm;
    return (det_group_norm_args){.type = device->type,
                                 .x = input(device, step, 0, n),
                                 .y = output(device, step, n),
                                 .c = step->output_shape.c,
                                 .n_groups = p->n_groups,
                                 .epsilon = p->epsilon,
                                 .weight = s->weight,
                                 .bias = s->bias,
                                 .unit = det_cuda_unit(p->act),
                                 .workspace = step->workspace};
}

static det_status prepare_group_norm(det_device *device, det_step *step, const det_plan_facts *facts) {
    const det_group_norm_params *p = &step->node->u.group_norm;
    norm_state *s = det_alloc_array(1, sizeof *s);
    if (!s)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = s;
    DET_TRY(det_cuda_weights(device, facts, step->node->name, "weight", DET_TYPE_F32, (size_t)p->weight->n_values,
                             pack_values, p->weight, &step->weights_bytes, &s->weight));
    DET_TRY(det_cuda_weights(device, facts, step->node->name, "bias", DET_TYPE_F32, (size_t)p->bias->n_values,
                             pack_values, p->bias, &step->weights_bytes, &s->bias));
    det_group_norm_args args = norm_args(device, step, step->output_shape.n, s);
    step->workspace_bytes = det_group_norm_workspace(&args);
    return DET_OK;
}

RUN(group_norm) {
    det_group_norm_args args = norm_args(device, step, frame->n, step->state);
    CUDA_TRY(det_launch_group_norm(&args, stream));
    return DET_OK;
}

const det_kernel det_cuda_group_norm = {.prepare = prepare_group_norm, .run = run_group_norm, .release = free_state};

RUN(add) {
    const det_add_params *p = &step->node->u.add;
    det_epilogue_args args = {.type = device->type,
                              .x = input(device, step, 0, frame->n),
                              .y = output(device, step, frame->n),
                              .residual = input(device, step, 1, frame->n),
                              .upsample = p->upsample,
                              .post_unit = det_cuda_unit(p->act)};
    CUDA_TRY(det_launch_epilogue(&args, stream));
    return DET_OK;
}

RUN(activation) {
    det_epilogue_args args = {.type = device->type,
                              .x = input(device, step, 0, frame->n),
                              .y = output(device, step, frame->n),
                              .unit = det_cuda_unit(step->node->u.act)};
    CUDA_TRY(det_launch_epilogue(&args, stream));
    return DET_OK;
}

RUN(upsample) {
    CUDA_TRY(
        det_launch_upsample(device->type, input(device, step, 0, frame->n), output(device, step, frame->n), stream));
    return DET_OK;
}

/* Alone, or the three of SPPF into thirds of the output. */
RUN(max_pool) {
    const det_pool_params *p = &step->node->u.pool;
    det_view x = input(device, step, 0, frame->n), y = output(device, step, frame->n);
    if (p->n_chained <= 1) {
        CUDA_TRY(det_launch_max_pool(device->type, x, y, p->k, p->stride, p->pad, stream));
        return DET_OK;
    }
    int c = step->input_shapes[0].c, ks[3];
    det_view ys[3];
    for (int i = 0; i < 3; i++) {
        ks[i] = (i + 1) * (p->k - 1) + 1;
        ys[i] = y;
        ys[i].data = (char *)y.data + (size_t)(i * c * det_type_bytes(device->type));
        ys[i].c = x.c;
    }
    CUDA_TRY(det_launch_spp(device->type, x, ks, ys, stream));
    return DET_OK;
}

RUN(avg_pool) {
    const det_pool_params *p = &step->node->u.pool;
    CUDA_TRY(det_launch_avg_pool(device->type, input(device, step, 0, frame->n), output(device, step, frame->n), p->k,
                                 p->stride, stream));
    return DET_OK;
}

/* The inputs that could not be views. */
RUN(concat) {
    det_shape out = step->output_shape;
    for (int i = 0; i < step->node->n_inputs; i++) {
        int begin = step->node->u.concat_begins[i], c = step->input_shapes[i].c;
        det_view y = det_cuda_output(step, frame->n);
        y.data = (char *)y.data + (size_t)(begin * det_type_bytes(device->type));
        y.c = begin + c == out.c ? det_padded(device->type, out.c) - begin : c; /* the last one clears the padding */
        CUDA_TRY(det_launch_copy(device->type, det_cuda_input(step, i, frame->n), y, stream));
    }
    return DET_OK;
}

/* One that could not be a view. */
RUN(slice) {
    det_view x = det_cuda_input(step, 0, frame->n);
    x.data = (char *)x.data + (size_t)(step->node->u.slice_begin * det_type_bytes(device->type));
    x.c = step->output_shape.c;
    CUDA_TRY(det_launch_copy(device->type, x, output(device, step, frame->n), stream));
    return DET_OK;
}

RUN(space_to_depth) {
    CUDA_TRY(det_launch_space_to_depth(device->type, det_cuda_input(step, 0, frame->n), output(device, step, frame->n),
                                       step->input_shapes[0].c, stream));
    return DET_OK;
}

RUN(attention) {
    const det_attention_params *p = &step->node->u.attention;
    det_attention_args args = {.type = device->type,
                               .x = det_cuda_input(step, 0, frame->n),
                               .y = det_cuda_output(step, frame->n),
                               .n_heads = p->n_heads,
                               .key_dim = p->key_dim,
                               .value_dim = p->value_dim};
    CUDA_TRY(det_launch_attention(&args, stream));
    det_view whole = output(device, step, frame->n);
    if (whole.c > args.y.c) /* attention knows the channels of its heads, not padding: the copy clears that */
        CUDA_TRY(det_launch_copy(device->type, args.y, whole, stream));
    return DET_OK;
}

static const char *refuse_attention(const det_step *step) {
    enum { MOST_DIM = 128 };
    const det_attention_params *p = &step->node->u.attention;
    return p->key_dim > MOST_DIM || p->value_dim > MOST_DIM ? "an attention of more than 128 channels a head" : NULL;
}

const det_kernel det_cuda_add = {.run = run_add};
const det_kernel det_cuda_activation = {.run = run_activation};
const det_kernel det_cuda_upsample = {.run = run_upsample};
const det_kernel det_cuda_max_pool = {.run = run_max_pool};
const det_kernel det_cuda_avg_pool = {.run = run_avg_pool};
const det_kernel det_cuda_concat = {.run = run_concat};
const det_kernel det_cuda_slice = {.run = run_slice};
const det_kernel det_cuda_space_to_depth = {.run = run_space_to_depth};
const det_kernel det_cuda_attention = {.refuse = refuse_attention, .run = run_attention};

/* ------------------------------------------------------------------------------------------------------- results */

static det_decode_level level_of(const det_step *step, int level, int inputs_per_level, int n) {
    const det_decode_params *p = &step->node->u.decode;
    int first = level * inputs_per_level;
    det_decode_level l = {.x = det_cuda_input(step, first, n),
                          .stride = p->strides[level],
                          .scale = p->scales[level] ? p->scales[level]->values[0] : 1};
    if (inputs_per_level > 1)
        l.classes = det_cuda_input(step, first + 1, n);
    for (int i = 0; p->anchors && i < p->n_anchors; i++) {
        for (int j = 0; j < 2; j++)
            l.anchors[i][j] = p->anchors->values[2 * (level * p->n_anchors + i) + j];
    }
    return l;
}

static det_decode_args decode_args(const det_device *device, const det_step *step, int n, int max_candidates) {
    const det_decode_params *p = &step->node->u.decode;
    det_op op = step->node->op;
    det_decode_args args = {.head = op == DET_OP_DECODE_SCRFD ? DET_HEAD_SCRFD
                                    : op == DET_OP_DECODE_DFL ? DET_HEAD_DFL
                                                              : DET_HEAD_YOLOV5,
                            .type = device->type,
                            .n_levels = p->n_levels,
                            .n_classes = op == DET_OP_DECODE_SCRFD ? 1 : p->n_classes,
                            .n_anchors = p->n_anchors,
                            .n_bins = p->n_bins,
                            .n_landmarks = p->n_landmarks,
                            .cell_offset = p->cell_offset,
                            .max_candidates = max_candidates,
                            .lists = step->output,
                            .workspace = step->workspace};
    for (int i = 0; i < p->n_levels; i++)
        args.levels[i] = level_of(step, i, step->node->n_inputs / p->n_levels, n);
    return args;
}

static const char *refuse_decode(const det_step *step) {
    return step->node->u.decode.n_anchors > (int)DET_COUNT(((det_decode_level *)0)->anchors)
               ? "more than 4 anchors a cell"
               : NULL;
}

static det_status prepare_decode(det_device *device, det_step *step, const det_plan_facts *facts) {
    int *max_candidates = det_alloc_array(1, sizeof *max_candidates);
    if (!max_candidates)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = max_candidates;
    *max_candidates = facts->max_candidates;
    det_decode_args args = decode_args(device, step, step->input_shapes[0].n, facts->max_candidates);
    step->workspace_bytes = det_decode_workspace(&args);
    return DET_OK;
}

RUN(decode) {
    det_decode_args args = decode_args(device, step, frame->n, *(const int *)step->state);
    CUDA_TRY(det_launch_decode(&args, det_cuda_block(device), stream));
    return DET_OK;
}

#define DECODE                                                                                                         \
    { .refuse = refuse_decode, .prepare = prepare_decode, .run = run_decode, .release = free_state }
const det_kernel det_cuda_decode_scrfd = DECODE;
const det_kernel det_cuda_decode_dfl = DECODE;
const det_kernel det_cuda_decode_yolov5 = DECODE;

static det_status prepare_nms(det_device *device, det_step *step, const det_plan_facts *facts) {
    (void)device;
    det_nms_args *args = det_alloc_array(1, sizeof *args);
    if (!args)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = args;
    *args = (det_nms_args){.batch = step->input_shapes[0].n,
                           .max_candidates = facts->max_candidates,
                           .n_landmarks = facts->model->n_landmarks,
                           .clip = facts->clip};
    step->workspace_bytes = det_nms_workspace(args);
    return DET_OK;
}

RUN(nms) {
    det_nms_args args = *(const det_nms_args *)step->state;
    args.batch = frame->n;
    args.lists = step->inputs[0];
    args.workspace = step->workspace;
    CUDA_TRY(det_launch_nms(&args, det_cuda_block(device), stream));
    return DET_OK;
}

const det_kernel det_cuda_nms = {.prepare = prepare_nms, .run = run_nms, .release = free_state};
