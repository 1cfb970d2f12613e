/* The kernels of a run: one by one, or as the CUDA graph of their batch size. */
#include "runner.h"

/* --------------------------------------------------------------------------------------------------- one by one */

det_status det_runner_mark(const det_runner *r, int at, cudaStream_t stream, bool in_graph) {
    CUDA_TRY(
        cudaEventRecordWithFlags(r->events[at], stream, in_graph ? cudaEventRecordExternal : cudaEventRecordDefault));
    return DET_OK;
}

/* The event behind the stage of `op`, which ends when the next step belongs to another. */
static int end_of_stage(det_op op) {
    return op == DET_OP_PREPROCESS     ? DET_AT_PREPROCESSED
           : op == DET_OP_NMS          ? DET_AT_NMS
           : op >= DET_OP_DECODE_SCRFD ? DET_AT_DECODED
                                       : DET_AT_NETWORK;
}

static const char *name_of(const det_node *node) {
    static const char *const operators[] = {
#define DET_OP(id, name) [DET_OP_##id] = #name,
#include "../ops.def"
#undef DET_OP
    };
    return node->name[0] ? node->name : operators[node->op];
}

static det_status launch_step(const det_runner *r, det_plan *plan, int step, const det_frame *batch,
                              cudaStream_t stream) {
    det_range_begin(r->profiled, name_of(plan->steps[step].node));
    det_status status = det_cuda_run_step(plan, step, batch, stream);
    det_range_end(r->profiled);
    return status;
}

det_status det_runner_launch(det_device *device, det_plan *plan, int n, int begin, int end, cudaStream_t stream,
                             bool in_graph) {
    det_runner *r = device->runner;
    const det_frame batch = {.n = n};
    bool layers = r->step_events && !in_graph;
    CUDNN_TRY(cudnnSetStream(device->cudnn, stream));
    if (layers)
        CUDA_TRY(cudaEventRecord(r->step_events[begin], stream));
    for (int i = begin; i < end; i++) {
        DET_TRY(launch_step(r, plan, i, &batch, stream));
        if (layers)
            CUDA_TRY(cudaEventRecord(r->step_events[i + 1], stream));
        int stage = end_of_stage(plan->steps[i].node->op);
        if (i + 1 == end || end_of_stage(plan->steps[i + 1].node->op) != stage)
            DET_TRY(det_runner_mark(r, stage, stream, in_graph));
    }
    if (stream != device->stream) /* the caller's, which may be gone when the handle is used next */
        CUDNN_TRY(cudnnSetStream(device->cudnn, device->stream));
    return DET_OK;
}

/* ------------------------------------------------------------------------------------------------------- graphs */

static void list_sizes(const det_device *device, det_runner *r) {
    for (int i = 0, n = 0; n < r->max_batch; i++) {
        n = det_batch_size(r->max_batch, i);
        if (n == r->max_batch || !device->no_size[i])
            r->graphs[r->n_graphs++].n = n;
    }
}

/* Runs of no pictures: every kernel is loaded before graphs are captured. */
static det_status warm_up(det_device *device, det_plan *plan) {
    det_runner *r = device->runner;
    CUDA_TRY(cudaMemsetAsync(r->block, 0, r->block_bytes, device->stream));
    for (int i = 0; i < r->n_graphs; i++)
        DET_TRY(det_runner_launch(device, plan, r->graphs[i].n, 0, plan->n_steps, device->stream, false));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    return DET_OK;
}

static void drop(det_graph *graph) {
    if (graph->exec)
        det_cuda_ignore(cudaGraphExecDestroy(graph->exec));
    graph->exec = NULL;
}

static det_status instantiate(det_graph *graph, cudaGraph_t captured) {
    CUDA_TRY(cudaGraphInstantiate(&graph->exec, captured, 0));
    return DET_OK;
}

static det_status end_capture(det_device *device, det_graph *graph, det_status status) {
    cudaGraph_t captured = NULL;
    cudaError_t error = cudaStreamEndCapture(device->stream, &captured);
    det_cuda_ignore(error);
    if (status == DET_OK && error != cudaSuccess)
        status = det_cuda_fail(error, "cudaStreamEndCapture", __FILE__, __LINE__);
    if (status == DET_OK)
        status = instantiate(graph, captured);
    if (captured)
        det_cuda_ignore(cudaGraphDestroy(captured));
    DET_TRY(status);
    CUDA_TRY(cudaGraphUpload(graph->exec, device->stream));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    return DET_OK;
}

static det_status capture_once(det_device *device, det_plan *plan, det_graph *graph) {
    CUDA_TRY(cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal));
    det_range_begin(device->runner->profiled, "libdetect capture");
    det_status status = det_runner_launch(device, plan, graph->n, 0, plan->n_steps, device->stream, true);
    det_range_end(device->runner->profiled);
    return end_capture(device, graph, status);
}

/* Again where the program waited for the whole device in that moment, on whatever thread: CUDA forbids the two together. */
static det_status capture(det_device *device, det_plan *plan, det_graph *graph) {
    enum { ATTEMPTS = 5 };
    det_cuda_begin_capture();
    det_status status = capture_once(device, plan, graph);
    for (int i = 1; i < ATTEMPTS && status == DET_ERROR_DEVICE && !det_cuda_lasting_error(device); i++) {
        det_log(DET_LOG_INFO, "a CUDA graph is captured again: %s", det_last_error());
        drop(graph);
        status = capture_once(device, plan, graph);
    }
    det_cuda_end_capture();
    return status;
}

/* A refused capture is no failure: the kernels are launched one by one then. A broken device is. */
static det_status capture_all(det_device *device, det_plan *plan) {
    det_runner *r = device->runner;
    det_status status = DET_OK;
    for (int i = 0; i < r->n_graphs && status == DET_OK; i++)
        status = capture(device, plan, &r->graphs[i]);
    if (status == DET_OK || det_cuda_lasting_error(device) != cudaSuccess)
        return status;
    det_log(DET_LOG_WARNING, "no CUDA graph, kernels are launched one by one: %s", det_last_error());
    det_graphs_close(r);
    return DET_OK;
}

det_status det_graphs_open(det_device *device, det_plan *plan) {
    list_sizes(device, device->runner);
    DET_TRY(warm_up(device, plan));
    return device->no_graph ? DET_OK : capture_all(device, plan);
}

void det_graphs_close(det_runner *r) {
    for (int i = 0; i < r->n_graphs; i++)
        drop(&r->graphs[i]);
}

const det_graph *det_graph_for(const det_runner *r, int n) {
    const det_graph *graph = r->graphs;
    while (graph->n < n)
        graph++;
    return graph;
}

static det_status replay(const det_graph *graph, cudaStream_t stream) {
    CUDA_TRY(cudaGraphLaunch(graph->exec, stream));
    return DET_OK;
}

det_status det_graph_launch(const det_runner *r, const det_graph *graph, cudaStream_t stream) {
    det_range_begin(r->profiled, "graph");
    det_status status = replay(graph, stream);
    det_range_end(r->profiled);
    return status;
}
