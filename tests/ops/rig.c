#include "rig.h"

#include "cpu/candidates.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, n_bytes) ((void)(address), (void)(n_bytes))
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
        if ((r->tensors[i].memory && !intact(&r->tensors[i])) || (r->workspaces[i].memory && !intact(&r->workspaces[i])))
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

/* Moves every tensor and workspace of the plan into a buffer between guards. */
static void take_buffers(rig *r) {
    det_plan *plan = &r->plan;
    REQUIRE(plan->n_steps <= RIG_MAX_BUFFERS && plan->net.n_tensors <= RIG_MAX_BUFFERS, "%d steps", plan->n_steps);
    for (int i = 0; i < plan->n_steps; i++) {
        det_step *step = &plan->steps[i];
        size_t n_bytes = is_decode(step->node->op) ? (size_t)plan->candidates_bytes
                                                   : (size_t)det_shape_values(step->output_shape) * sizeof(float);
        open_buffer(&r->tensors[step->node->output], n_bytes);
        open_buffer(&r->workspaces[i], step->workspace_bytes);
        step->output = start_of(&r->tensors[step->node->output]);
        step->workspace = start_of(&r->workspaces[i]);
        for (int j = 0; j < step->node->n_inputs; j++)
            step->inputs[j] = start_of(&r->tensors[step->node->inputs[j]]);
    }
}

/* The one step of the row's operator; beside it only inputs, and NMS with its decoder, may be left after fusing. */
static det_step *find_step(const rig *r) {
    det_step *found = NULL;
    for (int i = 0; i < r->plan.n_steps; i++) {
        det_op op = r->plan.steps[i].node->op;
        bool extra = op == DET_OP_PREPROCESS || op == DET_OP_NMS || (is_decode(op) && r->row->op == DET_OP_NMS);
        if (op == r->row->op && !found)
            found = &r->plan.steps[i];
        else
            REQUIRE(extra, "%s %s: the plan has another %s", det_op_name(r->row->op), r->row->what, det_op_name(op));
    }
    REQUIRE(found, "%s %s: it is not in the plan", det_op_name(r->row->op), r->row->what);
    return found;
}

void rig_open(rig *r, const op_row *row, det_device *device, int batch) {
    memset(r, 0, sizeof *r);
    r->row = row;
    r->device = device;
    r->batch = batch;
    memory_weights_open(&r->weights, row->what);
    det_model_info *info = &r->weights.weights.info;
    info->n_classes = DET_MAX(1, row->n_classes);
    info->n_landmarks = row->n_landmarks;
    info->resize = row->resize;
    info->mean = row->mean;
    info->scale = row->scale;
    info->pad_value = row->pad_value;
    r->plan.backend = &det_cpu_backend;
    r->plan.device = device;
    row->emit(r, row);
    det_plan_options options = {.max_batch = batch, .max_candidates = DET_MAX(1, row->max_candidates)};
    REQUIRE(det_plan_complete(&r->plan, &options) == DET_OK, "%s %s: %s", det_op_name(row->op), row->what, det_last_error());
    take_buffers(r);
    r->step = find_step(r);
    open_buffer(&r->objects, sizeof(det_object) * (size_t)(RIG_MAX_OBJECTS * batch));
    r->output = (det_output){.struct_size = sizeof r->output,
                             .objects = start_of(&r->objects),
                             .counts = r->counts,
                             .max_objects = RIG_MAX_OBJECTS,
                             .cuts = r->cuts};
}

void rig_close(rig *r) {
    det_plan_close(&r->plan);
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
        float *x = step->output;
        for (int64_t j = 0; j < det_shape_values(step->output_shape); j++)
            x[j] = random_in(&state, -2, 2);
    }
}

void rig_copy_inputs(rig *one, const rig *all, int index) {
    one->first_picture = index;
    for (int i = 0; i < one->step->node->n_inputs; i++) {
        size_t n_bytes = one->tensors[one->step->node->inputs[i]].n_bytes;
        memcpy(one->step->inputs[i], (const char *)all->step->inputs[i] + (size_t)index * n_bytes, n_bytes);
    }
}

det_status rig_run(rig *r, int n) {
    det_frame frame = {r->images + r->first_picture, n, r->placements + r->first_picture, &r->output, &r->limits};
    memset(r->step->output, FILL, r->tensors[r->step->node->output].n_bytes);
    memset(start_of(&r->objects), FILL, r->objects.n_bytes);
    return det_plan_run_step(&r->plan, (int)(r->step - r->plan.steps), &frame, NULL);
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
