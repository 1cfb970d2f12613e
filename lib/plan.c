#include "plan.h"

#include "arena.h"
#include "fuse.h"
#include "models/models.h"
#include "views.h"

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

/* Channels of a pixel in memory. */
static int padded(int c, const det_layout *layout) {
    return (c + layout->channel_multiple - 1) / layout->channel_multiple * layout->channel_multiple;
}

/* A tensor is touched at `step`: what holds its memory lives from its first writer to its last reader. */
static void live(const det_net *net, const det_layout *layout, det_span *spans, det_tensor_id tensor, int step) {
    bool kept = net->tensors[tensor].kept;
    tensor = det_view_root(net, tensor, NULL);
    det_span *span = &spans[tensor];
    det_shape s = net->tensors[tensor].shape;
    if (span->first < 0)
        span->first = step;
    span->last = DET_MAX(span->last, kept ? net->n_nodes : step);
    span->n_bytes = (int64_t)s.n * s.h * s.w * padded(s.c, layout) * layout->element_bytes;
}

static det_status place(det_plan *plan, const det_layout *layout, det_span *spans) {
    const det_net *net = &plan->net;
    for (int i = 0; i < net->n_tensors; i++)
        spans[i] = (det_span){.first = -1};
    for (int i = 0; i < net->n_nodes; i++) {
        const det_node *node = &net->nodes[i];
        live(net, layout, spans, node->output, i);
        if (node->into != DET_NO_TENSOR)
            live(net, layout, spans, node->into, i);
        for (int j = 0; j < node->n_inputs; j++)
            live(net, layout, spans, node->inputs[j], i);
    }
    return det_arena_place(spans, net->n_tensors, &plan->arena_bytes);
}

static det_status take(det_plan *plan, int64_t n_bytes, const char *what, void **memory) {
    det_status status = plan->backend->allocate(plan->device, (size_t)n_bytes, memory);
    if (status != DET_OK)
        det_fail_prefix("%s of %lld bytes", what, (long long)n_bytes);
    return status;
}

static void *locate(const det_plan *plan, const det_layout *layout, const det_span *spans, det_tensor_id tensor) {
    int begin;
    det_tensor_id root = det_view_root(&plan->net, tensor, &begin);
    return (char *)plan->arena + spans[root].offset + (size_t)begin * (size_t)layout->element_bytes;
}

static det_status allocate(det_plan *plan, const det_layout *layout, const det_span *spans) {
    DET_TRY(take(plan, plan->arena_bytes, "arena", &plan->arena));
    DET_TRY(take(plan, plan->workspace_bytes, "workspace", &plan->workspace));
    DET_TRY(take(plan, plan->candidates_bytes, "candidates", &plan->candidates));
    for (int i = 0; i < plan->n_steps; i++) {
        det_step *step = &plan->steps[i];
        const det_node *node = step->node;
        for (int j = 0; j < node->n_inputs; j++)
            step->inputs[j] = locate(plan, layout, spans, node->inputs[j]);
        step->output = locate(plan, layout, spans, node->output);
        if (node->into != DET_NO_TENSOR)
            step->into = locate(plan, layout, spans, node->into);
        step->workspace = plan->workspace;
        if (is_decode(node->op))
            step->output = plan->candidates;
        if (node->op == DET_OP_NMS)
            step->inputs[0] = plan->candidates;
    }
    return DET_OK;
}

static det_status place_and_allocate(det_plan *plan, const det_layout *layout) {
    det_span *spans = det_alloc_array((size_t)plan->net.n_tensors, sizeof *spans);
    if (!spans)
        return DET_ERROR_OUT_OF_MEMORY;
    det_status status = place(plan, layout, spans);
    if (status == DET_OK)
        status = allocate(plan, layout, spans);
    det_free(spans);
    return status;
}

/* Elements from one pixel to the next. */
static int pixel_stride(const det_net *net, const det_layout *layout, det_tensor_id tensor) {
    return padded(net->tensors[det_view_root(net, tensor, NULL)].shape.c, layout);
}

static det_status make_steps(det_plan *plan, const det_layout *layout) {
    const det_net *net = &plan->net;
    plan->steps = det_alloc_array((size_t)net->n_nodes, sizeof *plan->steps);
    if (!plan->steps)
        return DET_ERROR_OUT_OF_MEMORY;
    plan->n_steps = net->n_nodes;
    for (int i = 0; i < net->n_nodes; i++) {
        det_step *step = &plan->steps[i];
        step->node = &net->nodes[i];
        step->output_shape = net->tensors[step->node->output].shape;
        step->output_stride = pixel_stride(net, layout, step->node->output);
        if (step->node->into != DET_NO_TENSOR)
            step->into_shape = net->tensors[step->node->into].shape;
        for (int j = 0; j < step->node->n_inputs; j++) {
            step->input_shapes[j] = net->tensors[step->node->inputs[j]].shape;
            step->input_strides[j] = pixel_stride(net, layout, step->node->inputs[j]);
        }
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
    det_layout layout = plan->backend->layout(plan->device);
    DET_TRY(det_fuse(&plan->net, &layout));
    for (int i = 0; options->keep_taps && i < plan->net.n_taps; i++)
        plan->net.tensors[plan->net.taps[i].tensor].kept = true;
    plan->profile_layers = options->profile_layers;
    plan->candidates_bytes = options->max_batch * (int64_t)det_candidates_bytes(options->max_candidates);
    DET_TRY(make_steps(plan, &layout));
    det_plan_facts facts = {&plan->net.weights->info, options->shared, options->max_candidates, plan->net.clip};
    if (plan->backend->warm)
        plan->backend->warm(plan->device, plan->steps, plan->n_steps, &facts);
    DET_TRY(choose(plan, &facts));
    DET_TRY(place_and_allocate(plan, &layout));
    return plan->backend->finish ? plan->backend->finish(plan->device, plan, &facts) : DET_OK;
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
