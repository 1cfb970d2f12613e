#include "plan.h"

#include "arena.h"
#include "fuse.h"
#include "models/models.h"

#include <string.h>

static void name_step(const det_step *step) {
    det_shape s = step->input_shapes[0];
    det_fail_prefix("%s '%s' [%d,%d,%d,%d]", det_op_name(step->node->op), step->node->name, s.n, s.h, s.w, s.c);
}

static bool is_decode(det_op op) {
    return op == DET_OP_DECODE_SCRFD || op == DET_OP_DECODE_DFL || op == DET_OP_DECODE_YOLOV5;
}

static det_status choose(det_plan *plan, const det_plan_facts *facts) {
    for (int i = 0; i < plan->n_steps; i++) {
        det_step *step = &plan->steps[i];
        const det_kernel *kernel = plan->backend->kernels[step->node->op];
        const char *reason = kernel->refuse ? kernel->refuse(step) : NULL;
        det_status status = DET_OK;
        if (reason)
            status = det_fail(DET_ERROR_UNSUPPORTED, "not supported on %s: %s", plan->backend->name, reason);
        else if (kernel->prepare)
            status = kernel->prepare(plan->device, step, facts);
        if (status != DET_OK) {
            name_step(step);
            return status;
        }
        plan->weights_bytes += (int64_t)step->weights_bytes;
        plan->workspace_bytes = DET_MAX(plan->workspace_bytes, (int64_t)step->workspace_bytes);
        if (det_log_wanted(DET_LOG_DEBUG))
            det_log(DET_LOG_DEBUG, "plan: %s '%s' -> [%d,%d,%d,%d] by %s", det_op_name(step->node->op),
                    step->node->name, step->output_shape.n, step->output_shape.h, step->output_shape.w,
                    step->output_shape.c, step->impl ? step->impl : plan->backend->name);
    }
    return DET_OK;
}

/* A tensor is written at `step`: it lives from its first writer on. */
static void live(const det_net *net, det_span *spans, det_tensor_id tensor, int step) {
    det_span *span = &spans[tensor];
    if (span->first < 0)
        span->first = step;
    span->last = net->tensors[tensor].kept ? net->n_nodes : DET_MAX(span->last, step);
    span->n_bytes = det_shape_values(net->tensors[tensor].shape) * (int64_t)sizeof(float);
}

static det_status place(det_plan *plan, det_span *spans) {
    const det_net *net = &plan->net;
    for (int i = 0; i < net->n_tensors; i++)
        spans[i] = (det_span){.first = -1};
    for (int i = 0; i < net->n_nodes; i++) {
        const det_node *node = &net->nodes[i];
        live(net, spans, node->output, i);
        if (node->into != DET_NO_TENSOR)
            live(net, spans, node->into, i);
        for (int j = 0; j < node->n_inputs; j++)
            spans[node->inputs[j]].last = DET_MAX(spans[node->inputs[j]].last, i);
    }
    return det_arena_place(spans, net->n_tensors, &plan->arena_bytes);
}

static det_status take(det_plan *plan, int64_t n_bytes, const char *what, void **memory) {
    det_status status = plan->backend->allocate(plan->device, (size_t)n_bytes, memory);
    if (status != DET_OK)
        det_fail_prefix("%s of %lld bytes", what, (long long)n_bytes);
    return status;
}

static det_status allocate(det_plan *plan, const det_span *spans) {
    DET_TRY(take(plan, plan->arena_bytes, "arena", &plan->arena));
    DET_TRY(take(plan, plan->workspace_bytes, "workspace", &plan->workspace));
    DET_TRY(take(plan, plan->candidates_bytes, "candidates", &plan->candidates));
    for (int i = 0; i < plan->n_steps; i++) {
        det_step *step = &plan->steps[i];
        const det_node *node = step->node;
        for (int j = 0; j < node->n_inputs; j++)
            step->inputs[j] = (char *)plan->arena + spans[node->inputs[j]].offset;
        step->output = (char *)plan->arena + spans[node->output].offset;
        if (node->into != DET_NO_TENSOR)
            step->into = (char *)plan->arena + spans[node->into].offset;
        step->workspace = plan->workspace;
        if (is_decode(node->op))
            step->output = plan->candidates;
        if (node->op == DET_OP_NMS)
            step->inputs[0] = plan->candidates;
    }
    return DET_OK;
}

static det_status place_and_allocate(det_plan *plan) {
    det_span *spans = det_alloc_array((size_t)plan->net.n_tensors, sizeof *spans);
    if (!spans)
        return DET_ERROR_OUT_OF_MEMORY;
    det_status status = place(plan, spans);
    if (status == DET_OK)
        status = allocate(plan, spans);
    det_free(spans);
    return status;
}

static det_status make_steps(det_plan *plan) {
    const det_net *net = &plan->net;
    plan->steps = det_alloc_array((size_t)net->n_nodes, sizeof *plan->steps);
    if (!plan->steps)
        return DET_ERROR_OUT_OF_MEMORY;
    plan->n_steps = net->n_nodes;
    for (int i = 0; i < net->n_nodes; i++) {
        det_step *step = &plan->steps[i];
        step->node = &net->nodes[i];
        step->output_shape = net->tensors[step->node->output].shape;
        if (step->node->into != DET_NO_TENSOR)
            step->into_shape = net->tensors[step->node->into].shape;
        for (int j = 0; j < step->node->n_inputs; j++)
            step->input_shapes[j] = net->tensors[step->node->inputs[j]].shape;
    }
    return DET_OK;
}

det_status det_plan_build(det_plan *plan, const det_weights *weights, const det_plan_options *options) {
    DET_TRY(det_net_open(&plan->net, weights));
    det_shape input = {options->max_batch, options->height, options->width, 3};
    DET_TRY(det_models_build(&plan->net, input));
    return det_plan_complete(plan, options);
}

det_status det_plan_complete(det_plan *plan, const det_plan_options *options) {
    DET_TRY(det_net_finish(&plan->net));
    DET_TRY(det_fuse(&plan->net, plan->backend->residual_in_place));
    for (int i = 0; options->keep_taps && i < plan->net.n_taps; i++)
        plan->net.tensors[plan->net.taps[i].tensor].kept = true;
    plan->profile_layers = options->profile_layers;
    plan->candidates_bytes =
        (int64_t)options->max_batch *
        (int64_t)(sizeof(det_candidate_list) + (size_t)options->max_candidates * sizeof(det_candidate));
    DET_TRY(make_steps(plan));
    det_plan_facts facts = {&plan->net.weights->info, options->max_candidates, plan->net.clip};
    DET_TRY(choose(plan, &facts));
    return place_and_allocate(plan);
}

void det_plan_close(det_plan *plan) {
    for (int i = 0; i < plan->n_steps; i++) {
        const det_kernel *kernel = plan->backend->kernels[plan->steps[i].node->op];
        if (kernel->release && plan->steps[i].state)
            kernel->release(plan->device, plan->steps[i].state);
    }
    plan->backend->release(plan->device, plan->arena);
    plan->backend->release(plan->device, plan->workspace);
    plan->backend->release(plan->device, plan->candidates);
    det_free(plan->steps);
    det_net_close(&plan->net);
}

det_status det_plan_run_step(det_plan *plan, int index, const det_frame *frame, det_stream stream) {
    const det_step *step = &plan->steps[index];
    det_status status = plan->backend->kernels[step->node->op]->run(plan->device, step, frame, stream);
    if (status != DET_OK)
        name_step(step);
    return status;
}
