/* Running: pictures and the parameter block up, one CUDA graph of all kernels, results down.
 *
 * Everything that changes from run to run lies in the parameter block, so a graph is captured once for each batch size (all
 * work on the same memory), and a run replays the smallest that has room for its pictures. The block is
 * written into one of a few pinned slots and copied to the device in the order of the stream; a slot is used again when
 * its copy is done. NMS writes the few objects it keeps straight into pinned host memory (or where the caller's device
 * memory is), so nothing has to be copied down. Nothing here waits for the device but the caller's own wait, and a fifth
 * run for the first of four that are on their way. */
#include "runner.h"

#include <string.h>

enum { DEFAULT_IMAGE_BYTES = 1920 * 1088 * 3 };

const det_block *det_cuda_block(const det_device *device) {
    return (const det_block *)(void *)device->runner->block;
}

/* ---------------------------------------------------------------------------------------------------------- memory */

static det_status pinned(size_t n_bytes, char **memory) {
    CUDA_TRY(cudaHostAlloc((void **)memory, n_bytes, cudaHostAllocPortable | cudaHostAllocMapped));
    memset(*memory, 0, n_bytes);
    return DET_OK;
}

static det_status make_events(det_runner *r, bool layers) {
    for (int i = 0; i < DET_N_EVENTS; i++)
        CUDA_TRY(cudaEventCreate(&r->events[i]));
    for (int i = 0; i <= DET_N_SLOTS; i++)
        CUDA_TRY(cudaEventCreateWithFlags(&r->slots[i].done, cudaEventDisableTiming));
    if (!layers)
        return DET_OK;
    r->step_events = det_alloc_array((size_t)r->n_steps + 1, sizeof *r->step_events);
    if (!r->step_events)
        return DET_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i <= r->n_steps; i++)
        CUDA_TRY(cudaEventCreate(&r->step_events[i]));
    return DET_OK;
}

static det_status take_memory(det_device *device, det_runner *r) {
    size_t batch = (size_t)r->max_batch, classes = (size_t)r->n_classes * sizeof(float);
    r->pictures_offset = det_aligned(sizeof(det_block));
    r->scores_offset = r->pictures_offset + det_aligned(batch * sizeof(det_picture));
    r->logits_offset = r->scores_offset + det_aligned(classes);
    r->block_bytes = r->logits_offset + det_aligned(classes);
    r->objects_offset = det_aligned(2 * batch * sizeof(int32_t));
    DET_TRY(det_cuda_allocate(device, r->block_bytes, (void **)&r->block));
    DET_TRY(det_cuda_allocate(device, batch * r->image_bytes, (void **)&r->images));
    for (int i = 0; i <= DET_N_SLOTS; i++)
        DET_TRY(pinned(r->block_bytes, &r->slots[i].block));
    return pinned(r->objects_offset + batch * (size_t)r->max_objects * sizeof(det_object), &r->results);
}

static void destroy_event(cudaEvent_t event) {
    if (event)
        det_cuda_ignore(cudaEventDestroy(event));
}

static void await_end(const det_device *device) {
    const det_runner *r = device->runner;
    if (r && r->has_run)
        det_cuda_ignore(cudaEventSynchronize(r->events[DET_AT_END]));
}

void det_runner_stop(det_device *device) {
    await_end(device);
    if (device->runner)
        det_graphs_close(device->runner);
}

void det_runner_close(det_device *device) {
    det_runner *r = device->runner;
    if (!r)
        return;
    det_runner_stop(device);
    for (int i = 0; i < DET_N_EVENTS; i++)
        destroy_event(r->events[i]);
    for (int i = 0; r->step_events && i <= r->n_steps; i++)
        destroy_event(r->step_events[i]);
    for (int i = 0; i <= DET_N_SLOTS; i++) {
        destroy_event(r->slots[i].done);
        det_cuda_release_pinned(device, r->slots[i].block);
    }
    det_cuda_release_pinned(device, r->results);
    det_cuda_release(device, r->block);
    det_cuda_release(device, r->images);
    det_cuda_release(device, r->captured_images);
    det_free(r->step_events);
    det_free(r);
    device->runner = NULL;
}

static det_status bind_convolutions(det_device *device, det_plan *plan) {
    for (int i = 0; i < plan->n_steps; i++) {
        if (plan->steps[i].node->op == DET_OP_CONV2D)
            DET_TRY(det_cuda_conv_bind(device, &plan->steps[i]));
    }
    return DET_OK;
}

static det_status open_runner(det_device *device, det_plan *plan, const det_plan_facts *facts) {
    det_runner *r = device->runner;
    r->max_batch = plan->steps[0].output_shape.n;
    r->n_classes = facts->model->n_classes;
    r->max_objects = facts->max_candidates;
    r->n_steps = plan->n_steps;
    r->profiled = det_has_profiler();
    r->image_bytes = det_aligned((size_t)(device->max_image_bytes ? device->max_image_bytes : DEFAULT_IMAGE_BYTES));
    DET_TRY(make_events(r, plan->profile_layers));
    DET_TRY(take_memory(device, r));
    DET_TRY(bind_convolutions(device, plan));
    DET_TRY(det_graphs_open(device, plan));
    plan->workspace_bytes += (int64_t)(r->block_bytes + (size_t)r->max_batch * r->image_bytes);
    return DET_OK;
}

det_status det_runner_open(det_device *device, det_plan *plan, const det_plan_facts *facts) {
    device->runner = det_alloc_array(1, sizeof *device->runner);
    if (!device->runner)
        return DET_ERROR_OUT_OF_MEMORY;
    det_visit visit;
    DET_TRY(det_cuda_enter(device, &visit));
    return det_cuda_leave(device, &visit, open_runner(device, plan, facts)); /* closed with the device */
}

/* --------------------------------------------------------------------------------------------------------- the run */

static det_status check_capture(const det_runner *r, bool wait) {
    if (wait)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_run waits, which a stream that is being captured cannot");
    if (r->captured)
        DET_FAIL(DET_ERROR_UNSUPPORTED, "a run of this context was captured before; one graph has room in a context");
    return DET_OK;
}

static det_slot *next_slot(det_runner *r) {
    det_slot *s = &r->slots[r->next_slot];
    r->next_slot = (r->next_slot + 1) % DET_N_SLOTS;
    return s;
}

/* Until no run reads it any more. */
static det_status await_slot(const det_slot *s) {
    if (s->used)
        CUDA_TRY(cudaEventSynchronize(s->done));
    return DET_OK;
}

static det_status enqueue(det_device *device, det_plan *plan, const det_frame *frame, det_slot *s, cudaStream_t stream,
                          bool capturing, bool wait) {
    det_runner *r = device->runner;
    const det_graph *graph = det_graph_for(r, frame->n);
    /* Two runs of one context share its memory. One handle may be two streams: each thread's own, or a destroyed one. */
    if (!capturing && r->has_run)
        CUDA_TRY(cudaStreamWaitEvent(stream, r->events[DET_AT_END], 0));
    if (!capturing)
        DET_TRY(det_runner_mark(r, DET_AT_BEGIN, stream, false));
    DET_TRY(det_upload(r, frame, s, true, stream));
    if (!capturing)
        DET_TRY(det_runner_mark(r, DET_AT_UPLOADED, stream, false));
    if (graph->exec && !capturing)
        DET_TRY(det_graph_launch(r, graph, stream));
    else
        DET_TRY(det_runner_launch(device, plan, graph->n, 0, plan->n_steps, stream, capturing));
    if (frame->output->memory == DET_MEMORY_HOST && !wait)
        CUDA_TRY(cudaLaunchHostFunc(stream, det_deliver, &s->delivery));
    r->captured = r->captured || capturing;
    if (capturing)
        return DET_OK;
    r->has_run = true;
    s->used = true;
    CUDA_TRY(cudaEventRecord(s->done, stream));
    return det_runner_mark(r, DET_AT_END, stream, false);
}

static det_status await_results(const det_runner *r, const det_slot *s) {
    CUDA_TRY(cudaEventSynchronize(r->events[DET_AT_END]));
    if (s->delivery.output.memory == DET_MEMORY_HOST)
        det_deliver((void *)(uintptr_t)&s->delivery);
    return DET_OK;
}

/* After a run that failed: nothing is on its way, so that its pictures and results are the caller's again, and its slot is
 * free. What was captured is the caller's to throw away. */
static void settle(const det_device *device, cudaStream_t stream) {
    enum cudaStreamCaptureStatus capture_status = cudaStreamCaptureStatusNone;
    det_cuda_ignore(cudaStreamIsCapturing(stream, &capture_status));
    if (capture_status != cudaStreamCaptureStatusNone)
        return;
    await_end(device);
    det_cuda_ignore(cudaStreamSynchronize(stream));
    device->runner->has_run = false; /* the events are of different runs */
}

static det_status run(det_device *device, det_plan *plan, const det_frame *frame, cudaStream_t stream, bool wait) {
    det_runner *r = device->runner;
    enum cudaStreamCaptureStatus capture_status;
    CUDA_TRY(cudaStreamIsCapturing(stream, &capture_status));
    bool capturing = capture_status != cudaStreamCaptureStatusNone;
    det_slot *s = capturing ? &r->slots[DET_CAPTURED_SLOT] : next_slot(r);
    DET_TRY(capturing ? check_capture(r, wait) : await_slot(s));
    DET_TRY(det_make_room(device, frame, capturing));
    DET_TRY(enqueue(device, plan, frame, s, stream, capturing, wait));
    return wait ? await_results(r, s) : DET_OK;
}

static det_status check_device(const det_device *device) {
    if (device->broken != cudaSuccess)
        DET_FAIL(DET_ERROR_DEVICE, "%s failed before: %s; its contexts can only be destroyed", device->name,
                 cudaGetErrorString(device->broken));
    return DET_OK;
}

det_status det_runner_run(det_device *device, det_plan *plan, const det_frame *frame, det_stream stream, bool wait) {
    det_runner *r = device->runner;
    cudaStream_t on = stream ? (cudaStream_t)stream : device->stream;
    bool captured = r->captured;
    det_visit visit;
    DET_TRY(check_device(device));
    DET_TRY(det_cuda_enter(device, &visit));
    det_range_begin(r->profiled, "libdetect run");
    det_status status = run(device, plan, frame, on, wait);
    det_range_end(r->profiled);
    status = det_cuda_leave(device, &visit, status);
    if (status == DET_OK)
        return DET_OK;
    r->captured = captured;
    det_cuda_begin_release(device, &visit);
    settle(device, on);
    det_cuda_end_release(device, &visit);
    if (status == DET_ERROR_DEVICE)
        device->broken = det_cuda_lasting_error(device);
    return status;
}

static det_status run_alone(det_device *device, det_plan *plan, const det_frame *frame, int begin, int end) {
    det_runner *r = device->runner;
    det_slot *s = &r->slots[0];
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    bool pixels = begin == 0; /* only pre-processing looks at them */
    if (pixels)
        DET_TRY(det_make_room(device, frame, false));
    DET_TRY(det_upload(r, frame, s, pixels, device->stream));
    DET_TRY(det_runner_launch(device, plan, det_graph_for(r, frame->n)->n, begin, end, device->stream, false));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    if (plan->steps[end - 1].node->op == DET_OP_NMS && frame->output->memory == DET_MEMORY_HOST)
        det_deliver(&s->delivery);
    return DET_OK;
}

det_status det_runner_run_steps(det_device *device, det_plan *plan, const det_frame *frame, int begin, int end) {
    det_visit visit;
    DET_TRY(det_cuda_enter(device, &visit));
    return det_cuda_leave(device, &visit, run_alone(device, plan, frame, begin, end));
}

/* ----------------------------------------------------------------------------------------------------------- times */

static det_status between(const det_runner *r, int from, int to, float *ms) {
    CUDA_TRY(cudaEventElapsedTime(ms, r->events[from], r->events[to]));
    return DET_OK;
}

static det_status read_times(det_runner *r, det_plan *plan, det_stage_times *times) {
    if (!r->has_run) /* or the last one failed */
        return DET_OK;
    CUDA_TRY(cudaEventSynchronize(r->events[DET_AT_END]));
    DET_TRY(between(r, DET_AT_BEGIN, DET_AT_UPLOADED, &times->upload));
    DET_TRY(between(r, DET_AT_UPLOADED, DET_AT_PREPROCESSED, &times->preprocess));
    DET_TRY(between(r, DET_AT_PREPROCESSED, DET_AT_NETWORK, &times->network));
    DET_TRY(between(r, DET_AT_NETWORK, DET_AT_DECODED, &times->decode));
    DET_TRY(between(r, DET_AT_DECODED, DET_AT_NMS, &times->nms));
    DET_TRY(between(r, DET_AT_NMS, DET_AT_END, &times->download));
    DET_TRY(between(r, DET_AT_BEGIN, DET_AT_END, &times->total));
    for (int i = 0; r->step_events && i < plan->n_steps; i++)
        CUDA_TRY(cudaEventElapsedTime(&plan->steps[i].ms, r->step_events[i], r->step_events[i + 1]));
    return DET_OK;
}

det_status det_runner_times(det_device *device, det_plan *plan, det_stage_times *times) {
    det_visit visit;
    DET_TRY(check_device(device));
    DET_TRY(det_cuda_enter(device, &visit));
    return det_cuda_leave(device, &visit, read_times(device->runner, plan, times));
}
