/* Convolution. Each picture is cut into bands of output rows, one task each: in NHWC a band of rows is itself a dense
 * picture, so each is an ordinary convolution, with padding above only at the top and below only at the bottom. */
#include "cpu.h"

/* Bands of one height and padding share a primitive. */
typedef struct band {
    int begin, end;       /* output rows */
    int in_begin, in_end; /* input rows */
    int pad_top, pad_bottom;
    det_dnn_conv *conv; /* owned by the first band of its kind */
    bool owner;
} band;

typedef struct conv_state {
    det_conv_state base;
    int n_bands, n_threads;
    size_t scratch_bytes; /* oneDNN's, of one thread */
    bool finishes;        /* oneDNN makes bare sums in a buffer of this thread's, and finish_rows ends them */
    size_t sums_bytes;    /* of that buffer */
    band *bands;
    float *bias; /* of several parts, joined; else NULL */
} conv_state;

enum {
    MIN_BAND_MACS = 200 * 1000, /* one thread pays more for another's help than it gains below this */
    MAX_SUMS_BYTES = 256 << 10, /* of a band: they are still in the second-level cache when they are finished */
};

static int count_bands(const det_device *device, const det_step *step, bool finishes) {
    const det_conv_params *p = &step->node->u.conv;
    det_shape out = step->output_shape;
    int64_t macs = (int64_t)out.h * out.w * out.c * (step->input_shapes[0].c / p->groups) * p->k * p->k;
    int64_t worth = DET_MAX(1, macs / MIN_BAND_MACS);
    int n_bands = (int)DET_MIN(worth, det_cpu_bands(device, out.h));
    if (!finishes)
        return n_bands;
    int64_t n_bytes = (int64_t)sizeof(float) * out.h * out.w * out.c;
    int n_rounds = (int)((n_bytes + (int64_t)n_bands * MAX_SUMS_BYTES - 1) / ((int64_t)n_bands * MAX_SUMS_BYTES));
    return DET_MIN(out.h, n_bands * n_rounds);
}

static band cut_band(const det_step *step, int n_bands, int index) {
    const det_conv_params *p = &step->node->u.conv;
    int h_in = step->input_shapes[0].h, h_out = step->output_shape.h;
    band b = {.begin = det_cpu_band_begin(h_out, n_bands, index), .end = det_cpu_band_begin(h_out, n_bands, index + 1)};
    int first = b.begin * p->stride - p->pad, last = (b.end - 1) * p->stride - p->pad + p->k;
    b.in_begin = DET_MAX(first, 0);
    b.in_end = DET_MIN(last, h_in);
    b.pad_top = b.in_begin - first;
    b.pad_bottom = last - b.in_end;
    return b;
}

static bool same_kind(const band *a, const band *b) {
    return a->end - a->begin == b->end - b->begin && a->in_end - a->in_begin == b->in_end - b->in_begin &&
           a->pad_top == b->pad_top && a->pad_bottom == b->pad_bottom;
}

static det_dnn_conv_shape shape_of(const det_step *step, const band *b, const float *bias, bool finishes) {
    const det_conv_params *p = &step->node->u.conv;
    det_shape in = step->input_shapes[0], out = step->output_shape;
    return (det_dnn_conv_shape){.h_in = b->in_end - b->in_begin,
                                .w_in = in.w,
                                .c_in = in.c,
                                .h_out = b->end - b->begin,
                                .w_out = out.w,
                                .c_out = out.c,
                                .k = p->k,
                                .stride = p->stride,
                                .groups = p->groups,
                                .pad_top = b->pad_top,
                                .pad_bottom = b->pad_bottom,
                                .pad_left = p->pad,
                                .pad_right = DET_MAX(0, (out.w - 1) * p->stride - p->pad + p->k - in.w),
                                .act = finishes ? DET_ACT_NONE : p->act,
                                .has_residual = p->has_residual && !finishes,
                                .residual_in_place = step->node->output == step->node->inputs[1],
                                .has_bias = bias != NULL,
                                .post_act = finishes ? DET_ACT_NONE : p->post_act};
}

static void release_bands(void *memory) {
    conv_state *state = memory;
    for (int i = 0; state->bands && i < state->n_bands; i++) {
        if (state->bands[i].owner)
            det_dnn_conv_destroy(state->bands[i].conv);
    }
    det_free(state->bands);
    det_free(state->bias);
    det_free(state);
}

/* One weight [c_out, c_in, k, k] and bias [c_out] from the parts, in *weights and *bias whatever happens. */
static det_status join_parts(const det_conv_params *p, float **weights, float **bias) {
    int64_t n_weights = 0, n_biases = 0;
    for (int i = 0; i < p->n_parts; i++) {
        n_weights += p->parts[i].weight->n_values;
        n_biases += p->parts[i].weight->shape[0];
    }
    float *w = *weights = det_alloc_array((size_t)n_weights, sizeof(float));
    float *b = *bias = det_alloc_array((size_t)n_biases, sizeof(float)); /* zero where a part has none */
    if (!w || !b)
        return DET_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < p->n_parts; i++) {
        const det_conv_part *part = &p->parts[i];
        for (int64_t j = 0; j < part->weight->n_values; j++)
            *w++ = part->weight->values[j];
        for (int64_t j = 0; j < part->weight->shape[0]; j++)
            *b++ = part->bias ? part->bias->values[j] : 0.0f;
    }
    return DET_OK;
}

static size_t whole_lines(size_t n_bytes) {
    return (n_bytes + 63) / 64 * 64;
}

static det_status make_bands(det_device *device, det_step *step, conv_state *state, const float *weights,
                             const float *bias) {
    det_dnn_weights *packed = NULL;
    for (int i = 0; i < state->n_bands; i++) {
        band *b = &state->bands[i];
        *b = cut_band(step, state->n_bands, i);
        if (b->begin == b->end)
            continue;
        for (int j = 0; j < i && !b->conv; j++) {
            if (same_kind(b, &state->bands[j]))
                b->conv = state->bands[j].conv;
        }
        if (b->conv)
            continue;
        det_dnn_conv_shape shape = shape_of(step, b, bias, state->finishes);
        det_dnn_weights *before = packed;
        DET_TRY(det_dnn_conv_create(device->dnn, &shape, weights, bias, state->n_threads, &packed, &b->conv));
        b->owner = true;
        if (packed != before)
            step->weights_bytes += det_dnn_weights_bytes(packed);
        state->scratch_bytes = DET_MAX(state->scratch_bytes, whole_lines(det_dnn_conv_scratch_bytes(b->conv)));
        if (state->finishes)
            state->sums_bytes = DET_MAX(state->sums_bytes, whole_lines(sizeof(float) * (size_t)(b->end - b->begin) *
                                                                       (size_t)shape.w_out * (size_t)shape.c_out));
    }
    return DET_OK;
}

/* Where this library's own code ends a convolution faster than oneDNN's: oneDNN takes twice as long for SiLU, and
 * cannot write into a concatenation. */
static bool wants_finish(const det_device *device, const det_step *step) {
    const det_conv_params *p = &step->node->u.conv;
    return device->wide && (p->act == DET_ACT_SILU || p->post_act == DET_ACT_SILU || step->into_shape.c > 0);
}

static det_status run_bands(det_device *device, const det_step *step, const det_frame *frame);

/* @param joined  the bias when it was made here, kept in the state from now on; or NULL */
static det_status prepare_bands(det_device *device, det_step *step, const float *weights, const float *bias,
                                float **joined) {
    conv_state *state = det_alloc_array(1, sizeof *state);
    if (!state)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = state; /* released by the plan, whatever happens */
    state->base = (det_conv_state){.run = run_bands, .release = release_bands};
    state->bias = *joined;
    *joined = NULL;
    state->n_threads = det_threads_count(device->threads);
    state->finishes = wants_finish(device, step);
    state->n_bands = count_bands(device, step, state->finishes);
    state->bands = det_alloc_array((size_t)state->n_bands, sizeof *state->bands);
    if (!state->bands)
        return DET_ERROR_OUT_OF_MEMORY;
    int n_threads = det_dnn_single_thread(device->dnn); /* primitives are made for the threads of their making */
    det_status status = make_bands(device, step, state, weights, bias);
    det_dnn_restore_threads(device->dnn, n_threads);
    DET_TRY(status);
    step->workspace_bytes = (state->scratch_bytes + state->sums_bytes) * (size_t)state->n_threads;
    step->impl = det_dnn_conv_impl(state->bands[0].conv);
    return DET_OK;
}

static det_status prepare(det_device *device, det_step *step, const det_plan_facts *facts) {
    (void)facts;
    const det_conv_params *p = &step->node->u.conv;
    const float *weights = p->parts[0].weight->values, *bias = p->parts[0].bias ? p->parts[0].bias->values : NULL;
    float *joined_weights = NULL, *joined_bias = NULL;
    det_status status = DET_OK;
    if (p->n_parts > 1) {
        status = join_parts(p, &joined_weights, &joined_bias);
        weights = joined_weights;
        bias = joined_bias;
    }
    if (status == DET_OK)
        status = device->wide && device->wide->winograd_fits(step)
                     ? device->wide->winograd_prepare(device, step, weights, bias)
                     : prepare_bands(device, step, weights, bias, &joined_bias);
    det_free(joined_weights);
    det_free(joined_bias);
    return status;
}

typedef struct conv_task {
    const det_step *step;
    const det_wide_code *wide;
    conv_state *state;
    det_status *statuses; /* [n_threads] of the first failure */
} conv_task;

static void run_band(void *context, int task, int thread) {
    const conv_task *t = context;
    const det_step *step = t->step;
    int picture = task / t->state->n_bands;
    const band *b = &t->state->bands[task % t->state->n_bands];
    if (!b->conv)
        return;
    det_shape in = step->input_shapes[0], out = step->output_shape;
    char *scratch = (char *)step->workspace + (size_t)thread * (t->state->scratch_bytes + t->state->sums_bytes);
    size_t row = (size_t)b->begin * out.w * out.c;
    float *y = det_cpu_picture(step->output, out, picture) + row;
    const float *x = det_cpu_picture(step->inputs[0], in, picture) + (size_t)b->in_begin * in.w * in.c;
    const float *residual = NULL;
    if (t->state->finishes)
        y = (float *)(scratch + t->state->scratch_bytes);
    else if (step->node->u.conv.has_residual)
        residual = det_cpu_picture(step->inputs[1], out, picture) + row;
    det_status status = det_dnn_conv_run(b->conv, thread, x, residual, y, scratch);
    if (status != DET_OK)
        t->statuses[thread] = status;
    if (t->state->finishes)
        t->wide->finish_rows(step, picture, b->begin, b->end, y);
    else
        det_cpu_write_into(step, picture, b->begin, b->end);
}

static det_status run_bands(det_device *device, const det_step *step, const det_frame *frame) {
    conv_state *state = step->state;
    det_status statuses[DET_MAX_THREADS] = {DET_OK};
    conv_task t = {step, device->wide, state, statuses};
    det_threads_run(device->threads, frame->n * state->n_bands, run_band, &t);
    for (int i = 0; i < state->n_threads; i++) {
        if (statuses[i] != DET_OK) /* another thread's message is its own */
            return i == 0 ? statuses[i] : det_fail(statuses[i], "oneDNN failed on thread %d", i);
    }
    return DET_OK;
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    (void)stream;
    const det_conv_state *state = step->state;
    return state->run(device, step, frame);
}

static void release(det_device *device, void *state) {
    (void)device;
    ((det_conv_state *)state)->release(state);
}

const det_kernel det_cpu_conv2d = {.prepare = prepare, .run = run, .release = release};
