#include "rig.h"

#include "cpu/candidates.h"
#include "cpu/cpu.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, n_bytes)   ((void)(address), (void)(n_bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, n_bytes) ((void)(address), (void)(n_bytes))
#endif

enum { GUARD_BYTES = 64, GUARD = 0xa5, FILL = 0xff /* as a float: NaN */ };

/* -------------------------------------------------------------------------------------------------------- buffers */

static void *start_of(const rig_buffer *b) {
    return b->memory ? b->memory + GUARD_BYTES : NULL;
}

static void open_buffer(rig_buffer *b, size_t n_bytes) {
    size_t whole = (2 * GUARD_BYTES + n_bytes + 63) / 64 * 64;
    b->memory = aligned_alloc(64, whole);
    REQUIRE(b->memory, "%zu bytes", n_bytes);
    b->n_bytes = n_bytes;
    memset(b->memory, GUARD, whole);
    memset(start_of(b), FILL, n_bytes);
    ASAN_POISON_MEMORY_REGION(b->memory, GUARD_BYTES);
    ASAN_POISON_MEMORY_REGION(b->memory + GUARD_BYTES + n_bytes, GUARD_BYTES);
}

static bool intact(const rig_buffer *b) {
    uint8_t *before = b->memory, *after = b->memory + GUARD_BYTES + b->n_bytes;
    int n_changed = 0;
    ASAN_UNPOISON_MEMORY_REGION(before, GUARD_BYTES);
    ASAN_UNPOISON_MEMORY_REGION(after, GUARD_BYTES);
    for (int i = 0; b->memory && i < GUARD_BYTES; i++)
        n_changed += before[i] != GUARD || after[i] != GUARD;
    ASAN_POISON_MEMORY_REGION(before, GUARD_BYTES);
    ASAN_POISON_MEMORY_REGION(after, GUARD_BYTES);
    return n_changed == 0;
}

static void close_buffer(rig_buffer *b) {
    if (b->memory)
        ASAN_UNPOISON_MEMORY_REGION(b->memory, 2 * GUARD_BYTES + b->n_bytes);
    free(b->memory);
}

bool rig_guards_intact(const rig *r) {
    for (int i = 0; i < RIG_MAX_BUFFERS; i++) {
        if ((r->tensors[i].memory && !intact(&r->tensors[i])) ||
            (r->workspaces[i].memory && !intact(&r->workspaces[i])))
            return false;
    }
    return intact(&r->objects);
}

float *rig_values(const rig *r, det_tensor_id x) {
    return start_of(&r->tensors[x]);
}

/* ------------------------------------------------------------------------------------------------ what emit calls */

void rig_weight(rig *r, const char *name, const int64_t *shape, int n_dims, float low, float high) {
    memory_weights_add(&r->weights, name, shape, n_dims, low, high);
}

det_net *rig_net(rig *r) {
    det_net *net = &r->plan.net;
    if (!net->weights)
        REQUIRE(det_net_open(net, &r->weights.weights) == DET_OK, "%s", det_last_error());
    return net;
}

/* A node of pre-processing is the builder's only source of tensors; it is never run, so its shape may be any. */
det_tensor_id rig_input(rig *r, int h, int w, int c) {
    return det_preprocess(rig_net(r), (det_shape){r->batch, h, w, c});
}

/* ------------------------------------------------------------------------------------------------------- life, run */

static bool is_decode(det_op op) {
    return op == DET_OP_DECODE_SCRFD || op == DET_OP_DECODE_DFL || op == DET_OP_DECODE_YOLOV5;
}

static size_t output_bytes(const rig *r, const det_step *step);

static void *buffer_of(rig *r, det_tensor_id x, size_t n_bytes) {
    if (!r->tensors[x].memory)
        open_buffer(&r->tensors[x], n_bytes);
    return start_of(&r->tensors[x]);
}

static size_t tensor_bytes(det_shape shape) {
    return (size_t)det_shape_values(shape) * sizeof(float);
}

static size_t output_bytes(const rig *r, const det_step *step) {
    return is_decode(step->node->op) ? (size_t)r->plan.candidates_bytes : tensor_bytes(step->output_shape);
}

static void take_host_buffers(rig *r) {
    det_plan *plan = &r->plan;
    REQUIRE(plan->n_steps <= RIG_MAX_BUFFERS && plan->net.n_tensors <= RIG_MAX_BUFFERS, "%d steps", plan->n_steps);
    for (int i = 0; i < plan->n_steps; i++)
        buffer_of(r, plan->steps[i].node->output, output_bytes(r, &plan->steps[i]));
}

/* On the CPU: every tensor and workspace of the plan lies in a buffer between guards. */
static void move_into_buffers(rig *r) {
    det_plan *plan = &r->plan;
    for (int i = 0; i < plan->n_steps; i++) {
        det_step *step = &plan->steps[i];
        const det_node *node = step->node;
        step->output = start_of(&r->tensors[node->output]);
        if (step->into)
            step->into = buffer_of(r, node->into, tensor_bytes(step->into_shape));
        for (int j = 0; j < node->n_inputs; j++)
            step->inputs[j] = start_of(&r->tensors[node->inputs[j]]);
        open_buffer(&r->workspaces[i], step->workspace_bytes);
        step->workspace = start_of(&r->workspaces[i]);
    }
}

/* The one step of the row's operator; beside it only inputs, NMS with its decoder, the concatenation that the row asks
 * for, and the rest of a chain of pools may be left after fusing. */
static det_step *find_step(const rig *r) {
    det_step *found = NULL;
    for (int i = 0; i < r->plan.n_steps; i++) {
        det_op op = r->plan.steps[i].node->op;
        bool extra = op == DET_OP_PREPROCESS || op == DET_OP_NMS || (is_decode(op) && r->row->op == DET_OP_NMS) ||
                     (op == DET_OP_CONCAT && r->row->concatenated) || (op == DET_OP_MAX_POOL && r->row->n_parts > 1);
        if (op == r->row->op && !found)
            found = &r->plan.steps[i];
        else
            REQUIRE(extra, "%s %s: the plan has another %s", det_op_name(r->row->op), r->row->what, det_op_name(op));
    }
    bool view = r->layout.views && (r->row->op == DET_OP_SLICE || r->row->op == DET_OP_CONCAT);
    if (view && found && r->row->op == DET_OP_CONCAT && found->node->n_inputs < r->row->n_parts)
        return NULL; /* some inputs are views, and nothing but their makers puts them there */
    REQUIRE(found || view, "%s %s: it is not in the plan", det_op_name(r->row->op), r->row->what);
    return found;
}

bool rig_narrow;

static void open_device(rig *r, const det_context_options *options) {
    det_context_options own = *options;
    REQUIRE(det_backend_find(own.device, &r->plan.backend) == DET_OK, "%s", det_last_error());
    REQUIRE(r->plan.backend->open(&own, &r->plan.device) == DET_OK, "%s", det_last_error());
    r->layout = r->plan.backend->layout(r->plan.device);
    r->on_host = r->plan.backend->device_type == DET_DEVICE_CPU;
    if (r->on_host && rig_narrow)
        r->plan.device->wide = NULL;
}

/* The row's step; on a device a copy of it, with tensors on the host, that fill and the oracle see. */
static void take_step(rig *r) {
    det_step *step = find_step(r);
    take_host_buffers(r);
    if (r->on_host)
        move_into_buffers(r);
    r->step = step;
    if (!step || r->on_host)
        return;
    r->mirror = *step;
    r->mirror.output = start_of(&r->tensors[step->node->output]);
    for (int i = 0; i < step->node->n_inputs; i++)
        r->mirror.inputs[i] = start_of(&r->tensors[step->node->inputs[i]]);
    r->step = &r->mirror;
}

void rig_open(rig *r, const op_row *row, const det_context_options *options, int batch) {
    memset(r, 0, sizeof *r);
    r->row = row;
    r->batch = batch;
    memory_weights_open(&r->weights, row->what);
    det_model_info *info = &r->weights.weights.info;
    info->n_classes = DET_MAX(1, row->n_classes);
    info->n_landmarks = row->n_landmarks;
    info->resize = row->resize;
    info->mean = row->mean;
    info->scale = row->scale;
    info->pad_value = row->pad_value;
    open_device(r, options);
    row->emit(r, row);
    det_plan_options plan_options = {.max_batch = batch, .max_candidates = DET_MAX(1, row->max_candidates)};
    REQUIRE(det_plan_complete(&r->plan, &plan_options) == DET_OK, "%s %s: %s", det_op_name(row->op), row->what,
            det_last_error());
    take_step(r);
    if (!r->step)
        return;
    for (int i = 0; i < r->plan.n_steps; i++) {
        if (r->plan.steps[i].node == r->step->node)
            r->index = i;
    }
    open_buffer(&r->objects, sizeof(det_object) * (size_t)(RIG_MAX_OBJECTS * batch));
    r->output = (det_output){.struct_size = sizeof r->output,
                             .objects = start_of(&r->objects),
                             .counts = r->counts,
                             .max_objects = RIG_MAX_OBJECTS,
                             .cuts = r->cuts};
    if (row->fill)
        row->fill(r, row);
    if (!r->limits.class_scores) { /* which backends may read whatever runs */
        r->limits.class_scores = calloc((size_t)info->n_classes, sizeof(float));
        r->limits.class_logits = calloc((size_t)info->n_classes, sizeof(float));
    }
    for (int i = 0; i < r->step->node->n_inputs; i++) {
        size_t n_bytes = r->tensors[r->step->node->inputs[i]].n_bytes;
        r->inputs[i] = malloc(n_bytes);
        memcpy(r->inputs[i], r->step->inputs[i], n_bytes);
    }
}

void rig_close(rig *r) {
    for (int i = 0; i < DET_MAX_INPUTS; i++)
        free(r->inputs[i]);
    det_plan_close(&r->plan);
    r->plan.backend->close(r->plan.device);
    for (int i = 0; i < RIG_MAX_BUFFERS; i++) {
        close_buffer(&r->tensors[i]);
        close_buffer(&r->workspaces[i]);
    }
    close_buffer(&r->objects);
    memory_weights_close(&r->weights);
    for (int i = 0; i < RIG_BATCH; i++) {
        free((void *)(uintptr_t)r->images[i].planes[0]);
        free((void *)(uintptr_t)r->images[i].planes[1]);
    }
    free(r->limits.class_scores);
    free(r->limits.class_logits);
}

void rig_fill_tensors(rig *r, const op_row *row) {
    uint64_t state = random_from(row->what);
    for (int i = 0; i < r->plan.n_steps; i++) {
        det_step *step = &r->plan.steps[i];
        if (step->node->op != DET_OP_PREPROCESS)
            continue;
        float *x = rig_values(r, step->node->output);
        for (int64_t j = 0; j < det_shape_values(step->output_shape); j++)
            x[j] = random_in(&state, -2, 2);
    }
}

void rig_copy_inputs(rig *one, const rig *all, int index) {
    one->first_picture = index;
    for (int i = 0; i < one->step->node->n_inputs; i++) {
        size_t n_bytes = one->tensors[one->step->node->inputs[i]].n_bytes / (size_t)one->batch;
        memcpy(one->inputs[i], (const char *)all->inputs[i] + (size_t)index * n_bytes, n_bytes);
    }
}

/* What only a concatenation reads may be written there alone: so it is fetched from there. */
static void fetch_output(rig *r) {
    const det_step *step = r->step;
    if (!r->on_host || !step->into || !step->node->only_into)
        return;
    det_shape s = step->output_shape;
    const float *from = (const float *)step->into + step->node->into_begin;
    float *to = step->output;
    for (size_t i = 0; i < (size_t)s.n * s.h * s.w; i++)
        memcpy(to + i * s.c, from + i * step->into_shape.c, (size_t)s.c * sizeof(float));
}

/* Candidates on their way to NMS are best first on a device. */
static det_status send_candidates(const rig *r, const det_step *step) {
    int most = DET_MAX(1, r->row->max_candidates);
    for (int i = 0; i < r->batch; i++)
        det_candidates_sort(det_candidates_of(r->step->inputs[0], most, i));
    return r->plan.backend->write(r->plan.device, step->inputs[0], (size_t)r->plan.candidates_bytes,
                                  r->step->inputs[0]);
}

static det_status send_inputs(const rig *r, const det_step *step) {
    if (r->row->op == DET_OP_NMS)
        return send_candidates(r, step);
    for (int i = 0; i < step->node->n_inputs; i++)
        DET_TRY(r->plan.backend->set(r->plan.device, step->inputs[i], step->input_shapes[i], step->input_strides[i],
                                     r->step->inputs[i]));
    return DET_OK;
}

static det_status fetch_result(const rig *r, const det_step *step) {
    const det_backend *backend = r->plan.backend;
    if (r->row->op == DET_OP_NMS)
        return DET_OK;
    if (is_decode(r->row->op))
        return backend->read(r->plan.device, step->output, (size_t)r->plan.candidates_bytes, r->step->output);
    return backend->get(r->plan.device, step->output, step->output_shape, step->output_stride, r->step->output);
}

/* As the backend does it, which sees to its threads. */
static det_status run_step(rig *r, const det_frame *frame) {
    return r->plan.backend->run_steps(r->plan.device, &r->plan, frame, r->index, r->index + 1);
}

static det_status run_on_device(rig *r, const det_frame *frame) {
    const det_step *step = &r->plan.steps[r->index];
    DET_TRY(send_inputs(r, step));
    DET_TRY(run_step(r, frame));
    return fetch_result(r, step);
}

void rig_round_inputs(rig *r) {
    if (r->on_host || r->row->op == DET_OP_NMS)
        return;
    const det_step *step = &r->plan.steps[r->index];
    REQUIRE(send_inputs(r, step) == DET_OK, "%s", det_last_error());
    for (int i = 0; i < step->node->n_inputs; i++) {
        REQUIRE(r->plan.backend->get(r->plan.device, step->inputs[i], step->input_shapes[i], step->input_strides[i],
                                     r->inputs[i]) == DET_OK,
                "%s", det_last_error());
        memcpy(r->step->inputs[i], r->inputs[i], r->tensors[step->node->inputs[i]].n_bytes);
    }
}

det_status rig_run(rig *r, int n) {
    const det_node *node = r->step->node;
    det_frame frame = {r->images + r->first_picture, n, r->placements + r->first_picture, &r->output, &r->limits};
    memset(r->step->output, FILL, r->tensors[node->output].n_bytes);
    if (r->step->into)
        memset(r->step->into, FILL, r->tensors[node->into].n_bytes);
    memset(start_of(&r->objects), FILL, r->objects.n_bytes);
    for (int i = 0; i < node->n_inputs; i++)
        memcpy(r->step->inputs[i], r->inputs[i], r->tensors[node->inputs[i]].n_bytes);
    det_status status = r->on_host ? run_step(r, &frame) : run_on_device(r, &frame);
    fetch_output(r);
    return status;
}

det_step rig_question(const rig *r) {
    det_step question = *r->step;
    for (int i = 0; i < question.node->n_inputs; i++)
        question.inputs[i] = r->inputs[i];
    return question;
}

bool rig_concatenated(const rig *r) {
    const det_step *step = r->step;
    if (!r->row->concatenated || !r->on_host)
        return step->into == NULL;
    det_shape s = step->output_shape, whole = step->into_shape;
    const uint8_t *from = step->output, *to = step->into;
    size_t n = (size_t)s.n * s.h * s.w, begin = (size_t)step->node->into_begin * sizeof(float);
    size_t bytes = (size_t)s.c * sizeof(float), whole_bytes = (size_t)whole.c * sizeof(float);
    for (size_t i = 0; i < n; i++, from += bytes, to += whole_bytes) {
        if (memcmp(to + begin, from, bytes) != 0)
            return false;
        for (size_t k = 0; k < whole_bytes; k++) {
            if ((k < begin || k >= begin + bytes) && to[k] != FILL)
                return false;
        }
    }
    return true;
}

const void *rig_result(const rig *r, int index, size_t *n_bytes) {
    if (r->row->op == DET_OP_NMS) {
        *n_bytes = (size_t)r->counts[index] * sizeof(det_object);
        return r->output.objects + (size_t)index * RIG_MAX_OBJECTS;
    }
    if (is_decode(r->row->op)) {
        const det_candidate_list *list = det_candidates_of(r->step->output, DET_MAX(1, r->row->max_candidates), index);
        *n_bytes = sizeof *list + (size_t)list->n * sizeof list->items[0];
        return list;
    }
    *n_bytes = r->tensors[r->step->node->output].n_bytes / (size_t)r->batch;
    return (const char *)r->step->output + (size_t)index * *n_bytes;
}
