/* Convolution: our kernel for depthwise ones, cublasLt or cuDNN for the rest.
 *
 * A library that can do the whole (bias, activation, residual, activation) does it in one pass. What it cannot do is left
 * to one more kernel over its output, the epilogue. */
#include "cuda.h"

#include <stdio.h>

enum { REPEATS = 12 };

/* What a library runs for one batch size: one of these, or both NULL for depthwise convolutions. */
typedef struct engine {
    det_cudnn_conv *cudnn;
    det_lt_conv *lt;
} engine;

typedef struct conv_state {
    det_conv_problem problem; /* whole, of max_batch pictures */
    engine engine;
    engine smaller[DET_MAX_SIZES - 1]; /* the same, for the smaller batch sizes */
    bool epilogue;                     /* left to the epilogue kernel: what `library` does not say */
    det_conv_problem library;
    const void *weight, *bias; /* in the element type */
    const float *exact_bias;   /* in float: depthwise and epilogue */
    det_conv_data data;
    char impl[48];
} conv_state;

/* ------------------------------------------------------------------------------------------------------- weights */

typedef struct packing {
    const det_conv_params *params;
    int c_in, c_out, c_group; /* padded; c_group: input channels of one group */
    bool one_group;           /* groups are too narrow for vectors, and computed as one */
} packing;

/* [c_out, c_in / groups, k, k] of all parts -> [c_out, k, k, c_group], zeros in the padding; groups that became one
 * have zeros where they do not meet. */
static void pack_filters(const void *what, float *values) {
    const packing *p = what;
    int k = p->params->k, row = 0, n_groups = p->one_group ? p->params->groups : 1;
    for (int part = 0; part < p->params->n_parts; part++) {
        const det_weight *w = p->params->parts[part].weight;
        int c = (int)w->shape[1];
        for (int64_t o = 0; o < w->shape[0]; o++, row++) {
            int first = (int)(o * n_groups / w->shape[0]) * c;
            for (int i = 0; i < c; i++) {
                for (int j = 0; j < k * k; j++)
                    values[((size_t)row * k * k + j) * p->c_group + first + i] = w->values[(o * c + i) * k * k + j];
            }
        }
    }
}

/* [c, 1, k, k] -> [k, k, c]. */
static void pack_depthwise(const void *what, float *values) {
    const packing *p = what;
    const det_weight *w = p->params->parts[0].weight;
    int taps = p->params->k * p->params->k;
    for (int64_t c = 0; c < w->shape[0]; c++) {
        for (int j = 0; j < taps; j++)
            values[(size_t)j * p->c_out + c] = w->values[c * taps + j];
    }
}

static void pack_bias(const void *what, float *values) {
    const packing *p = what;
    for (int part = 0; part < p->params->n_parts; part++) {
        const det_conv_part *source = &p->params->parts[part];
        for (int64_t i = 0; i < source->weight->shape[0]; i++)
            *values++ = source->bias ? source->bias->values[i] : 0.0f;
    }
}

static bool has_bias(const det_conv_params *p) {
    for (int i = 0; i < p->n_parts; i++) {
        if (p->parts[i].bias)
            return true;
    }
    return false;
}

static bool is_depthwise(const det_step *step) {
    const det_conv_params *p = &step->node->u.conv;
    return p->groups > 1 && p->groups == step->input_shapes[0].c && p->groups == step->output_shape.c;
}

static det_status load_weights(det_device *device, det_step *step, const det_plan_facts *facts, conv_state *s) {
    const det_conv_params *p = &step->node->u.conv;
    const det_conv_problem *q = &s->problem;
    bool depthwise = is_depthwise(step);
    packing what = {p, q->c_in, q->c_out, q->c_in / q->groups, !depthwise && q->groups < p->groups};
    size_t n = (size_t)(depthwise ? q->c_out : q->c_out * what.c_group) * (size_t)(p->k * p->k);
    const char *name = step->node->name;
    DET_TRY(det_cuda_weights(device, facts, name, "weight", q->type, n, depthwise ? pack_depthwise : pack_filters,
                             &what, &step->weights_bytes, &s->weight));
    if (!q->has_bias)
        return DET_OK;
    const void *exact;
    DET_TRY(det_cuda_weights(device, facts, name, "exact_bias", DET_TYPE_F32, (size_t)q->c_out, pack_bias, &what,
                             &step->weights_bytes, &exact));
    s->exact_bias = exact;
    return det_cuda_weights(device, facts, name, "bias", q->type, (size_t)q->c_out, pack_bias, &what,
                            &step->weights_bytes, &s->bias);
}

/* -------------------------------------------------------------------------------------------------------- choice */

/* Groups of whole vectors stay; narrower ones become one group, most of whose weights are zero. */
static int groups_of(const det_device *device, const det_step *step) {
    int groups = step->node->u.conv.groups, vector = det_type_vector(device->type);
    bool whole = step->input_shapes[0].c / groups % vector == 0 && step->output_shape.c / groups % vector == 0;
    return is_depthwise(step) || whole ? groups : 1;
}

static det_conv_problem problem_of(const det_device *device, const det_step *step) {
    const det_conv_params *p = &step->node->u.conv;
    det_shape in = step->input_shapes[0], out = step->output_shape;
    return (det_conv_problem){.type = device->type,
                              .tf32 = device->precision == DET_TF32,
                              .n = in.n,
                              .h = in.h,
                              .w = in.w,
                              .c_in = det_padded(device->type, in.c),
                              .x_stride = step->input_strides[0],
                              .h_out = out.h,
                              .w_out = out.w,
                              .c_out = det_padded(device->type, out.c),
                              .y_stride = step->output_stride,
                              .residual_stride = p->has_residual ? step->input_strides[1] : 0,
                              .k = p->k,
                              .stride = p->stride,
                              .pad = p->pad,
                              .groups = groups_of(device, step),
                              .has_bias = has_bias(p),
                              .has_residual = p->has_residual,
                              .unit = det_cuda_unit(p->act),
                              .post_unit = det_cuda_unit(p->post_act)};
}

/* The problem without all that an epilogue can do. */
static det_conv_problem bare(const det_conv_problem *whole) {
    det_conv_problem p = *whole;
    p.has_bias = p.has_residual = false;
    p.unit = p.post_unit = DET_UNIT_NONE;
    return p;
}

static bool is_product(const det_conv_problem *p) {
    return p->k == 1 && p->stride == 1 && p->pad == 0 && p->groups == 1;
}

/* What cublasLt has epilogues for; sets whether that is all. */
static det_conv_problem product_part(const det_conv_problem *whole, bool *all) {
    det_conv_problem p = *whole;
    *all = !whole->has_residual && (whole->unit == DET_UNIT_NONE || whole->unit == DET_UNIT_RELU);
    if (!*all) {
        p.unit = p.post_unit = DET_UNIT_NONE;
        p.has_residual = false;
    }
    return p;
}

bool det_cuda_conv_problem(const det_device *device, const det_step *step, det_conv_problem *problem) {
    bool all;
    if (step->node->op != DET_OP_CONV2D || is_depthwise(step))
        return false;
    *problem = problem_of(device, step);
    product_part(problem, &all);
    return device->tune || !is_product(problem) || !all;
}

static void use_cudnn(conv_state *s, const det_conv_problem *library, bool whole, det_cudnn_conv *conv) {
    s->engine.cudnn = conv;
    s->library = *library;
    s->epilogue = !whole;
    snprintf(s->impl, sizeof s->impl, "%s%s", det_cudnn_conv_impl(conv), s->epilogue ? " + epilogue" : "");
}

static void use_lt(conv_state *s, const det_conv_problem *library, bool whole, det_lt_conv *conv) {
    s->engine.lt = conv;
    s->library = *library;
    s->epilogue = !whole;
    snprintf(s->impl, sizeof s->impl, "cublasLt%s", s->epilogue ? " + epilogue" : "");
}

static det_status try_cudnn(det_device *device, conv_state *s, const det_conv_problem *library, bool fallback) {
    det_cudnn_conv *conv = NULL;
    int n = 0;
    DET_TRY(det_cudnn_conv_find(device, library, fallback, 1, &conv, &n));
    if (n > 0)
        use_cudnn(s, library, library == &s->problem, conv);
    return DET_OK;
}

static det_status try_lt(det_device *device, conv_state *s, bool only_whole) {
    bool all;
    det_conv_problem part = product_part(&s->problem, &all);
    det_lt_conv *conv = NULL;
    int n = 0;
    if (!is_product(&s->problem) || (only_whole && !all))
        return DET_OK;
    DET_TRY(det_lt_conv_find(device->lt, &part, 1, &conv, &n));
    if (n > 0)
        use_lt(s, &part, all, conv);
    return DET_OK;
}

/* Without a clock: whole products by cublasLt, whole convolutions by cuDNN, then those that need an epilogue, then what
 * cuDNN keeps as the last resort. */
static det_status choose(det_device *device, const det_step *step, conv_state *s) {
    const det_conv_problem part = bare(&s->problem);
    DET_TRY(try_lt(device, s, true));
    if (!s->engine.lt)
        DET_TRY(try_cudnn(device, s, &s->problem, false));
    if (!s->engine.lt && !s->engine.cudnn)
        DET_TRY(try_cudnn(device, s, &part, false));
    if (!s->engine.lt && !s->engine.cudnn)
        DET_TRY(try_lt(device, s, false));
    if (s->engine.lt || s->engine.cudnn)
        return DET_OK;
    DET_TRY(try_cudnn(device, s, &part, true));
    if (!s->engine.cudnn)
        CUDA_TRY(det_cuda_lasting_error(device)); /* a broken device looks as if it could do nothing */
    if (!s->engine.cudnn)
        DET_FAIL(DET_ERROR_UNSUPPORTED, "neither cuDNN nor cublasLt can compute it");
    det_log(DET_LOG_WARNING, "cuDNN has only its fallback engine for the convolution '%s' of %d -> %d channels, k %d",
            step->node->name, s->problem.c_in, s->problem.c_out, s->problem.k);
    return DET_OK;
}

/* ------------------------------------------------------------------------------------------------------- running */

static det_view view(void *data, int n, const det_conv_problem *p, int stride) {
    return (det_view){data, n, p->h_out, p->w_out, p->c_out, stride};
}

/* n: one of the batch sizes. */
static const engine *engine_for(const conv_state *s, int n) {
    int i = 0;
    while (1 << i < n)
        i++;
    return n == s->problem.n ? &s->engine : &s->smaller[i];
}

static det_status run_epilogue(const conv_state *s, int n, const det_conv_data *data, cudaStream_t stream) {
    const det_conv_problem *p = &s->problem;
    det_view y = view(data->y, n, p, p->y_stride);
    det_epilogue_args args = {.type = p->type,
                              .x = y,
                              .y = y,
                              .bias = p->has_bias && !s->library.has_bias ? s->exact_bias : NULL,
                              .unit = p->unit,
                              .post_unit = p->post_unit};
    if (p->has_residual)
        args.residual = view((void *)(uintptr_t)data->residual, n, p, p->residual_stride);
    CUDA_TRY(det_launch_epilogue(&args, stream));
    return DET_OK;
}

static det_status run_depthwise(const conv_state *s, int n, const det_conv_data *data, cudaStream_t stream) {
    const det_conv_problem *p = &s->problem;
    det_depthwise_args args = {.type = p->type,
                               .x = {(void *)(uintptr_t)data->x, n, p->h, p->w, p->c_in, p->x_stride},
                               .y = view(data->y, n, p, p->y_stride),
                               .weight = data->weight,
                               .bias = s->exact_bias,
                               .k = p->k,
                               .stride = p->stride,
                               .pad = p->pad,
                               .unit = p->unit,
                               .post_unit = p->post_unit};
    if (p->has_residual)
        args.residual = view((void *)(uintptr_t)data->residual, n, p, p->residual_stride);
    CUDA_TRY(det_launch_depthwise(&args, stream));
    return DET_OK;
}

static det_status run_conv(det_device *device, const conv_state *s, int n, const det_conv_data *data,
                           cudaStream_t stream) {
    const engine *e = engine_for(s, n);
    if (e->lt)
        DET_TRY(det_lt_conv_run(e->lt, device->lt, data, stream));
    else if (e->cudnn)
        DET_TRY(det_cudnn_conv_run(e->cudnn, device->cudnn));
    else
        return run_depthwise(s, n, data, stream);
    return s->epilogue ? run_epilogue(s, n, data, stream) : DET_OK;
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    const conv_state *s = step->state;
    return run_conv(device, s, frame->n, &s->data, stream);
}

/* ------------------------------------------------------------------------------------------------ the timed choice */

static size_t workspace_of(const engine *e) {
    return e->lt ? det_lt_conv_workspace(e->lt) : e->cudnn ? det_cudnn_conv_workspace(e->cudnn) : 0;
}

static det_status time_runs(det_device *device, const conv_state *s, const det_conv_data *data, cudaEvent_t begin,
                            cudaEvent_t end, float *ms) {
    *ms = 1e30f;
    for (int i = 0; i < REPEATS; i++) {
        float once;
        CUDA_TRY(cudaEventRecord(begin, device->stream));
        DET_TRY(run_conv(device, s, s->problem.n, data, device->stream));
        CUDA_TRY(cudaEventRecord(end, device->stream));
        CUDA_TRY(cudaEventSynchronize(end));
        CUDA_TRY(cudaEventElapsedTime(&once, begin, end));
        *ms = DET_MIN(*ms, once);
    }
    return DET_OK;
}

/* Numbers of 0.5 to 1 and their negatives: multiplying zeros takes less power, so the clocks would be higher. */
static void make_noise(det_type type, uint32_t *words, size_t n) {
    const uint32_t keep = type == DET_TYPE_F16 ? 0x83ff83ff : type == DET_TYPE_BF16 ? 0x807f807f : 0x807fffff;
    const uint32_t exponent = type == DET_TYPE_F16 ? 0x38003800 : type == DET_TYPE_BF16 ? 0x3f003f00 : 0x3f000000;
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
        words[i] = ((uint32_t)(state >> 32) & keep) | exponent;
    }
}

/* Doubles what is there until all is filled. */
static det_status spread(det_device *device, char *memory, size_t n_there, size_t n_bytes) {
    for (; n_there < n_bytes; n_there *= 2)
        CUDA_TRY(cudaMemcpyAsync(memory + n_there, memory, DET_MIN(n_there, n_bytes - n_there),
                                 cudaMemcpyDeviceToDevice, device->stream));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    return DET_OK;
}

static det_status fill(det_device *device, const det_conv_problem *p, char *memory, size_t n_bytes) {
    enum { WORDS = 1 << 14 };
    uint32_t *noise = det_alloc_array(WORDS, sizeof *noise);
    if (!noise)
        return DET_ERROR_OUT_OF_MEMORY;
    make_noise(p->type, noise, WORDS);
    size_t n_first = DET_MIN(n_bytes, WORDS * sizeof *noise);
    cudaError_t error = cudaMemcpyAsync(memory, noise, n_first, cudaMemcpyHostToDevice, device->stream);
    det_status status = error == cudaSuccess ? spread(device, memory, n_first, n_bytes)
                                             : det_cuda_fail(error, "cudaMemcpyAsync", __FILE__, __LINE__);
    det_free(noise);
    return status;
}

/* In memory of its own, which is given back. */
static det_status time_conv(det_device *device, const conv_state *s, cudaEvent_t begin, cudaEvent_t end, float *ms) {
    const det_conv_problem *p = &s->problem;
    size_t element = (size_t)det_type_bytes(p->type), n_out = (size_t)p->n * p->h_out * p->w_out;
    size_t sizes[] = {(size_t)p->n * p->h * p->w * p->x_stride * element, n_out * p->y_stride * element,
                      n_out * p->residual_stride * element, workspace_of(&s->engine)};
    char *memory;
    size_t n_bytes = 0, offsets[DET_COUNT(sizes)];
    for (size_t i = 0; i < DET_COUNT(sizes); i++) {
        offsets[i] = n_bytes;
        n_bytes += (sizes[i] + 255) / 256 * 256;
    }
    DET_TRY(det_cuda_allocate(device, n_bytes, (void **)&memory));
    det_conv_data data = {.x = memory,
                          .weight = s->weight,
                          .bias = s->bias,
                          .residual = memory + offsets[2],
                          .y = memory + offsets[1],
                          .workspace = memory + offsets[3]};
    det_status status = fill(device, p, memory, n_bytes);
    if (status == DET_OK && s->engine.cudnn)
        status = det_cudnn_conv_bind(s->engine.cudnn, &data);
    if (status == DET_OK)
        status = time_runs(device, s, &data, begin, end, ms);
    det_cuda_release(device, memory);
    return status;
}

static void drop(engine *e) {
    det_cudnn_conv_free(e->cudnn);
    det_lt_conv_free(e->lt);
    *e = (engine){NULL, NULL};
}

/* Keeps the faster of what `best` holds and `tried`, and frees the other. */
static det_status keep_faster(det_device *device, conv_state *best, float *best_ms, conv_state *tried,
                              cudaEvent_t begin, cudaEvent_t end) {
    float ms;
    det_status status = time_conv(device, tried, begin, end, &ms);
    if (status == DET_OK)
        det_log(DET_LOG_DEBUG, "tune: %s takes %.1f us", tried->impl, 1e3 * (double)ms);
    if (status != DET_OK || ms >= *best_ms) {
        drop(&tried->engine);
        return status;
    }
    drop(&best->engine);
    *best = *tried;
    *best_ms = ms;
    return DET_OK;
}

static det_status tune_lt(det_device *device, conv_state *s, float *ms, cudaEvent_t begin, cudaEvent_t end) {
    bool all;
    const det_conv_problem part = product_part(&s->problem, &all);
    det_lt_conv *convs[DET_MAX_TRIED];
    int n = 0;
    if (!is_product(&s->problem))
        return DET_OK;
    DET_TRY(det_lt_conv_find(device->lt, &part, DET_MAX_TRIED, convs, &n));
    det_status status = DET_OK;
    for (int i = 0; i < n; i++) {
        if (status != DET_OK) {
            det_lt_conv_free(convs[i]);
            continue;
        }
        conv_state tried = *s;
        tried.engine.cudnn = NULL;
        use_lt(&tried, &part, all, convs[i]);
        status = keep_faster(device, s, ms, &tried, begin, end);
    }
    return status;
}

static det_status tune_cudnn(det_device *device, conv_state *s, float *ms, cudaEvent_t begin, cudaEvent_t end) {
    det_cudnn_conv *convs[DET_MAX_TRIED];
    int n = 0;
    DET_TRY(det_cudnn_conv_find(device, &s->problem, false, DET_MAX_TRIED, convs, &n));
    det_status status = DET_OK;
    for (int i = 0; i < n; i++) {
        if (status != DET_OK) {
            det_cudnn_conv_free(convs[i]);
            continue;
        }
        conv_state tried = *s;
        tried.engine.lt = NULL;
        use_cudnn(&tried, &s->problem, true, convs[i]);
        status = keep_faster(device, s, ms, &tried, begin, end);
    }
    return status;
}

static det_status tune_among(det_device *device, conv_state *s, cudaEvent_t begin, cudaEvent_t end) {
    float ms;
    DET_TRY(time_conv(device, s, begin, end, &ms));
    DET_TRY(tune_lt(device, s, &ms, begin, end));
    return tune_cudnn(device, s, &ms, begin, end);
}

static det_status make_events(cudaEvent_t *begin, cudaEvent_t *end) {
    CUDA_TRY(cudaEventCreate(begin));
    CUDA_TRY(cudaEventCreate(end));
    return DET_OK;
}

static det_status tune(det_device *device, conv_state *s) {
    cudaEvent_t begin = NULL, end = NULL;
    det_status status = make_events(&begin, &end);
    if (status == DET_OK)
        status = tune_among(device, s, begin, end);
    if (begin)
        det_cuda_ignore(cudaEventDestroy(begin));
    if (end)
        det_cuda_ignore(cudaEventDestroy(end));
    return status;
}

/* ------------------------------------------------------------------------------------------- the other batch sizes */

/* The engine that was chosen, with the same choices, for the smaller batch sizes: so a picture gives the same bytes in all
 * of them. Where a library refuses, the context goes without that size. */
static det_status follow(det_device *device, const det_step *step, conv_state *s) {
    det_conv_problem p = s->library;
    for (int i = 0; 1 << i < s->problem.n; i++) {
        engine *e = &s->smaller[i];
        p.n = 1 << i;
        if (s->engine.lt)
            DET_TRY(det_lt_conv_follow(device->lt, &p, s->engine.lt, &e->lt));
        else
            DET_TRY(det_cudnn_conv_follow(device, &p, s->engine.cudnn, &e->cudnn));
        if (e->lt || e->cudnn || device->no_size[i])
            continue;
        device->no_size[i] = true;
        det_log(DET_LOG_INFO, "runs of %d pictures will take the time of more: '%s' cannot be had by %s for so few",
                p.n, step->node->name, s->impl);
    }
    return DET_OK;
}

/* ------------------------------------------------------------------------------------------------------- kernel */

static const char *refuse(const det_step *step) {
    const det_conv_params *p = &step->node->u.conv;
    if (is_depthwise(step))
        return (p->k == 3 || p->k == 5 || p->k == 7) && p->stride <= 2
                   ? NULL
                   : "a depthwise convolution with k other than 3, 5, 7";
    return NULL;
}

static det_status choose_and_load(det_device *device, det_step *step, const det_plan_facts *facts, conv_state *s) {
    DET_TRY(load_weights(device, step, facts, s));
    if (is_depthwise(step)) {
        snprintf(s->impl, sizeof s->impl, "depthwise");
        return DET_OK;
    }
    DET_TRY(choose(device, step, s));
    if (device->tune)
        DET_TRY(tune(device, s));
    return follow(device, step, s);
}

static det_status prepare(det_device *device, det_step *step, const det_plan_facts *facts) {
    conv_state *s = det_alloc_array(1, sizeof *s);
    if (!s)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = s; /* released by the plan, whatever happens */
    s->problem = problem_of(device, step);
    det_visit visit;
    DET_TRY(det_cuda_enter(device, &visit));
    det_status status = det_cuda_leave(device, &visit, choose_and_load(device, step, facts, s));
    step->workspace_bytes = workspace_of(&s->engine);
    for (size_t i = 0; i < DET_COUNT(s->smaller); i++)
        step->workspace_bytes = DET_MAX(step->workspace_bytes, workspace_of(&s->smaller[i]));
    step->impl = s->impl;
    return status;
}

det_status det_cuda_conv_bind(det_device *device, det_step *step) {
    (void)device;
    conv_state *s = step->state;
    s->data = (det_conv_data){.x = step->inputs[0],
                              .weight = s->weight,
                              .bias = s->bias,
                              .residual = s->problem.has_residual ? step->inputs[1] : NULL,
                              .y = step->output,
                              .workspace = step->workspace};
    if (s->engine.cudnn)
        DET_TRY(det_cudnn_conv_bind(s->engine.cudnn, &s->data));
    for (size_t i = 0; i < DET_COUNT(s->smaller); i++) {
        if (s->smaller[i].cudnn)
            DET_TRY(det_cudnn_conv_bind(s->smaller[i].cudnn, &s->data));
    }
    return DET_OK;
}

static void release(det_device *device, void *state) {
    conv_state *s = state;
    det_visit visit;
    det_cuda_begin_release(device, &visit);
    det_runner_stop(device); /* whose kernels may be this one's */
    drop(&s->engine);
    for (size_t i = 0; i < DET_COUNT(s->smaller); i++)
        drop(&s->smaller[i]);
    det_cuda_end_release(device, &visit);
    det_free(state);
}

const det_kernel det_cuda_conv2d = {.refuse = refuse, .prepare = prepare, .run = run, .release = release};
