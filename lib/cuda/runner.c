/* Running: pictures and the parameter block up, one CUDA graph of all kernels, results down.
 *
 * Everything that changes from run to run lies in the parameter block, so a graph is captured once for each batch size (all
 * work on the same memory), and a run replays the smallest that has room for its pictures. The block is
 * written into one of a few pinned slots and copied to the device in the order of the stream; a slot is used again when
 * its copy is done. NMS writes the few objects it keeps straight into pinned host memory (or where the caller's device
 * memory is), so nothing has to be copied down. Nothing here waits for the device but the caller's own wait, and a fifth
 * run for the first of four that are on their way. */
#include "cuda.h"
#include "ranges.h"

#include <stdio.h>
#include <string.h>

enum { N_SLOTS = 4, CAPTURED_SLOT = N_SLOTS, DEFAULT_IMAGE_BYTES = 1920 * 1088 * 3, ALIGNMENT = 256 };

/* Where a run of the device stands; the first and the last are recorded beside the graph, the rest within. */
enum { AT_BEGIN, AT_UPLOADED, AT_PREPROCESSED, AT_NETWORK, AT_DECODED, AT_NMS, AT_END, N_EVENTS };

/* For the host function that hands results over behind a run. */
typedef struct delivery {
    det_runner *runner;
    det_output output;
    int n, row_objects;
} delivery;

typedef struct slot {
    char *block;      /* pinned, block_bytes */
    cudaEvent_t done; /* the run, delivery included */
    bool used;
    delivery delivery;
} slot;

/* For runs of up to n pictures. */
typedef struct batch_size {
    int n;
    cudaGraphExec_t graph; /* NULL: kernels are launched one by one */
} batch_size;

struct det_runner {
    int max_batch, n_classes, max_objects; /* most objects per picture */
    size_t block_bytes, pictures_offset, scores_offset, logits_offset;
    char *block; /* device */
    slot slots[N_SLOTS + 1];
    int next_slot;
    char *images;          /* device, max_batch x image_bytes: where host pictures are copied */
    char *captured_images; /* the room that there was when a caller captured a run, once it has become too small */
    size_t image_bytes;
    char *results; /* pinned: counts [max_batch], cuts [max_batch], objects */
    size_t objects_offset;
    cudaEvent_t events[N_EVENTS], *step_events; /* step_events: one per step and one before, when layers are timed */
    int n_steps;
    cudaStream_t last_stream;
    bool profiled;          /* somebody looks at ranges */
    bool has_run, captured; /* captured: by a caller, with the slot for that */
    int n_sizes;
    batch_size sizes[DET_MAX_SIZES]; /* ascending, max_batch is the last */
};

const det_block *det_cuda_block(const det_device *device) {
    return (const det_block *)(void *)device->runner->block;
}

static size_t aligned(size_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---------------------------------------------------------------------------------------------------------- memory */

static det_status pinned(size_t n_bytes, char **memory) {
    CUDA_TRY(cudaHostAlloc((void **)memory, n_bytes, cudaHostAllocPortable | cudaHostAllocMapped));
    memset(*memory, 0, n_bytes);
    return DET_OK;
}

static det_status make_events(det_runner *r, bool layers) {
    for (int i = 0; i < N_EVENTS; i++)
        CUDA_TRY(cudaEventCreate(&r->events[i]));
    for (int i = 0; i <= N_SLOTS; i++)
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
    r->pictures_offset = aligned(sizeof(det_block));
    r->scores_offset = r->pictures_offset + aligned(batch * sizeof(det_picture));
    r->logits_offset = r->scores_offset + aligned(classes);
    r->block_bytes = r->logits_offset + aligned(classes);
    r->objects_offset = aligned(2 * batch * sizeof(int32_t));
    DET_TRY(det_cuda_allocate(device, r->block_bytes, (void **)&r->block));
    DET_TRY(det_cuda_allocate(device, batch * r->image_bytes, (void **)&r->images));
    for (int i = 0; i <= N_SLOTS; i++)
        DET_TRY(pinned(r->block_bytes, &r->slots[i].block));
    return pinned(r->objects_offset + batch * (size_t)r->max_objects * sizeof(det_object), &r->results);
}

static void destroy_event(cudaEvent_t event) {
    if (event)
        det_cuda_ignore(cudaEventDestroy(event));
}

void det_runner_wait(const det_device *device) {
    const det_runner *r = device->runner;
    if (r && r->has_run)
        det_cuda_ignore(cudaEventSynchronize(r->events[AT_END]));
}

static void destroy_graphs(det_runner *r) {
    for (int i = 0; i < r->n_sizes; i++) {
        if (r->sizes[i].graph)
            det_cuda_ignore(cudaGraphExecDestroy(r->sizes[i].graph));
        r->sizes[i].graph = NULL;
    }
}

void det_runner_close(det_device *device) {
    det_runner *r = device->runner;
    if (!r)
        return;
    det_runner_wait(device);
    destroy_graphs(r);
    for (int i = 0; i < N_EVENTS; i++)
        destroy_event(r->events[i]);
    for (int i = 0; r->step_events && i <= r->n_steps; i++)
        destroy_event(r->step_events[i]);
    for (int i = 0; i <= N_SLOTS; i++) {
        destroy_event(r->slots[i].done);
        if (r->slots[i].block)
            det_cuda_ignore(cudaFreeHost(r->slots[i].block));
    }
    if (r->results)
        det_cuda_ignore(cudaFreeHost(r->results));
    det_cuda_release(device, r->block);
    det_cuda_release(device, r->images);
    det_cuda_release(device, r->captured_images);
    det_free(r->step_events);
    det_free(r);
    device->runner = NULL;
}

/* ----------------------------------------------------------------------------------------------------------- steps */

static det_status mark(const det_runner *r, int at, cudaStream_t stream, bool in_graph) {
    CUDA_TRY(
        cudaEventRecordWithFlags(r->events[at], stream, in_graph ? cudaEventRecordExternal : cudaEventRecordDefault));
    return DET_OK;
}

/* The event behind the stage of `op`, which ends when the next step belongs to another. */
static int end_of_stage(det_op op) {
    return op == DET_OP_PREPROCESS     ? AT_PREPROCESSED
           : op == DET_OP_NMS          ? AT_NMS
           : op >= DET_OP_DECODE_SCRFD ? AT_DECODED
                                       : AT_NETWORK;
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

/* n: pictures, one of the batch sizes. */
static det_status launch_steps(det_device *device, det_plan *plan, int n, int begin, int end, cudaStream_t stream,
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
            DET_TRY(mark(r, stage, stream, in_graph));
    }
    return DET_OK;
}

static det_status bind_convolutions(det_device *device, det_plan *plan) {
    for (int i = 0; i < plan->n_steps; i++) {
        if (plan->steps[i].node->op == DET_OP_CONV2D)
            DET_TRY(det_cuda_conv_bind(device, &plan->steps[i]));
    }
    return DET_OK;
}

/* Runs of no pictures: every kernel is loaded before graphs are captured. */
static det_status warm_up(det_device *device, det_plan *plan) {
    det_runner *r = device->runner;
    CUDA_TRY(cudaMemsetAsync(r->block, 0, r->block_bytes, device->stream));
    for (int i = 0; i < r->n_sizes; i++)
        DET_TRY(launch_steps(device, plan, r->sizes[i].n, 0, plan->n_steps, device->stream, false));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    return DET_OK;
}

static det_status instantiate(batch_size *size, cudaGraph_t graph) {
    CUDA_TRY(cudaGraphInstantiate(&size->graph, graph, 0));
    return DET_OK;
}

static det_status end_capture(det_device *device, batch_size *size, det_status status) {
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(device->stream, &graph);
    det_cuda_ignore(error);
    if (status == DET_OK && error != cudaSuccess)
        status = det_cuda_fail(error, "cudaStreamEndCapture", __FILE__, __LINE__);
    if (status == DET_OK)
        status = instantiate(size, graph);
    if (graph)
        det_cuda_ignore(cudaGraphDestroy(graph));
    DET_TRY(status);
    CUDA_TRY(cudaGraphUpload(size->graph, device->stream));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    return DET_OK;
}

static det_status capture(det_device *device, det_plan *plan, batch_size *size) {
    CUDA_TRY(cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal));
    det_range_begin(device->runner->profiled, "libdetect capture");
    det_status status = launch_steps(device, plan, size->n, 0, plan->n_steps, device->stream, true);
    det_range_end(device->runner->profiled);
    return end_capture(device, size, status);
}

/* A refused capture is no failure: the kernels are launched one by one then. A broken device is. */
static det_status capture_all(det_device *device, det_plan *plan) {
    det_runner *r = device->runner;
    det_status status = DET_OK;
    for (int i = 0; i < r->n_sizes && status == DET_OK; i++)
        status = capture(device, plan, &r->sizes[i]);
    if (status == DET_OK || det_cuda_lasting_error(device) != cudaSuccess)
        return status;
    det_log(DET_LOG_WARNING, "no CUDA graph, kernels are launched one by one: %s", det_last_error());
    destroy_graphs(r);
    return DET_OK;
}

static void list_sizes(const det_device *device, det_runner *r) {
    for (int i = 0, n = 0; n < r->max_batch; i++) {
        n = det_batch_size(r->max_batch, i);
        if (n == r->max_batch || !device->no_size[i])
            r->sizes[r->n_sizes++].n = n;
    }
}

static const batch_size *size_for(const det_runner *r, int n) {
    const batch_size *size = r->sizes;
    while (size->n < n)
        size++;
    return size;
}

static det_status open_runner(det_device *device, det_plan *plan, const det_plan_facts *facts) {
    det_runner *r = device->runner;
    r->max_batch = plan->steps[0].output_shape.n;
    r->n_classes = facts->model->n_classes;
    r->max_objects = facts->max_candidates;
    r->n_steps = plan->n_steps;
    r->profiled = det_has_profiler();
    r->image_bytes = aligned((size_t)(device->max_image_bytes ? device->max_image_bytes : DEFAULT_IMAGE_BYTES));
    list_sizes(device, r);
    DET_TRY(make_events(r, plan->profile_layers));
    DET_TRY(take_memory(device, r));
    DET_TRY(bind_convolutions(device, plan));
    DET_TRY(warm_up(device, plan));
    if (!device->no_graph)
        DET_TRY(capture_all(device, plan));
    plan->workspace_bytes += (int64_t)(r->block_bytes + (size_t)r->max_batch * r->image_bytes);
    return DET_OK;
}

det_status det_runner_open(det_device *device, det_plan *plan, const det_plan_facts *facts) {
    device->runner = det_alloc_array(1, sizeof *device->runner);
    if (!device->runner)
        return DET_ERROR_OUT_OF_MEMORY;
    int previous;
    DET_TRY(det_cuda_enter(device, &previous));
    return det_cuda_leave(device, previous, open_runner(device, plan, facts)); /* closed with the device */
}

/* -------------------------------------------------------------------------------------------------------- pictures */

typedef struct plane {
    size_t row_bytes, rows, offset; /* offset: in the picture's room on the device */
} plane;

static int planes_of(const det_image *image, plane planes[2]) {
    static const size_t pixel_bytes[] = {
        [DET_RGB8] = 3, [DET_BGR8] = 3, [DET_RGBA8] = 4, [DET_GRAY8] = 1, [DET_NV12] = 1};
    size_t w = (size_t)image->width, h = (size_t)image->height;
    planes[0] = (plane){w * pixel_bytes[image->format], h, 0};
    if (image->format != DET_NV12)
        return 1;
    planes[1] = (plane){(w + 1) / 2 * 2, (h + 1) / 2, aligned(w * h)};
    return 2;
}

static size_t bytes_of(const det_image *image) {
    plane p[2];
    int n = planes_of(image, p);
    return p[n - 1].offset + p[n - 1].row_bytes * p[n - 1].rows;
}

/* Makes room for host pictures that are larger than any before: the one time that a run takes memory. */
static det_status make_room(det_device *device, const det_frame *frame) {
    det_runner *r = device->runner;
    size_t most = r->image_bytes;
    for (int i = 0; i < frame->n; i++) {
        if (frame->images[i].memory == DET_MEMORY_HOST)
            most = DET_MAX(most, aligned(bytes_of(&frame->images[i])));
    }
    if (most == r->image_bytes)
        return DET_OK;
    det_log(DET_LOG_INFO, "room for pictures of %zu bytes, %zu until now (max_image_bytes)", most, r->image_bytes);
    char *images;
    if (r->has_run)
        CUDA_TRY(cudaEventSynchronize(r->events[AT_END]));
    DET_TRY(det_cuda_allocate(device, (size_t)r->max_batch * most, (void **)&images));
    if (r->captured && !r->captured_images)
        r->captured_images = r->images; /* a graph of the caller's copies into it */
    else
        det_cuda_release(device, r->images);
    r->images = images;
    r->image_bytes = most;
    return DET_OK;
}

static det_status upload_picture(const det_image *image, char *room, det_picture *picture, cudaStream_t stream) {
    plane planes[2];
    int n = planes_of(image, planes);
    for (int i = 0; i < n; i++) {
        const plane *p = &planes[i];
        char *to = room + p->offset;
        if ((size_t)image->strides[i] == p->row_bytes)
            CUDA_TRY(cudaMemcpyAsync(to, image->planes[i], p->row_bytes * p->rows, cudaMemcpyHostToDevice, stream));
        else
            CUDA_TRY(cudaMemcpy2DAsync(to, p->row_bytes, image->planes[i], (size_t)image->strides[i], p->row_bytes,
                                       p->rows, cudaMemcpyHostToDevice, stream));
        picture->planes[i] = (const uint8_t *)to;
        picture->strides[i] = (int64_t)p->row_bytes;
    }
    return DET_OK;
}

/* Describes the pictures; with `pixels`, those in host memory are copied. */
static det_status bring_pictures(det_runner *r, const det_frame *frame, slot *s, bool pixels, cudaStream_t stream) {
    for (int i = 0; i < frame->n; i++) {
        const det_image *image = &frame->images[i];
        const det_placement *p = &frame->placements[i];
        det_picture *picture = (det_picture *)(void *)(s->block + r->pictures_offset) + i;
        *picture = (det_picture){.planes = {image->planes[0], image->planes[1]},
                                 .strides = {image->strides[0], image->strides[1]},
                                 .width = image->width,
                                 .height = image->height,
                                 .format = image->format,
                                 .scale_x = p->scale_x,
                                 .scale_y = p->scale_y,
                                 .offset_x = p->offset_x,
                                 .offset_y = p->offset_y,
                                 .x = p->x,
                                 .y = p->y,
                                 .w = p->w,
                                 .h = p->h};
        if (pixels && image->memory == DET_MEMORY_HOST)
            DET_TRY(upload_picture(image, r->images + (size_t)i * r->image_bytes, picture, stream));
    }
    return DET_OK;
}

/* --------------------------------------------------------------------------------------------- the parameter block */

static void fill_block(det_runner *r, const det_frame *frame, slot *s) {
    const det_output *output = frame->output;
    const det_limits *limits = frame->limits;
    det_block *b = (det_block *)(void *)s->block;
    float *scores = (float *)(void *)(s->block + r->scores_offset),
          *logits = (float *)(void *)(s->block + r->logits_offset);
    float lowest = limits->class_logits[0];
    for (int i = 0; i < r->n_classes; i++) {
        scores[i] = limits->class_scores[i];
        logits[i] = limits->class_logits[i];
        lowest = DET_MIN(lowest, logits[i]);
    }
    bool here = output->memory == DET_MEMORY_HOST;
    int most = DET_MIN(DET_MIN(limits->max_objects, output->max_objects), r->max_objects);
    *b = (det_block){.pictures = (const det_picture *)(void *)(r->block + r->pictures_offset),
                     .class_scores = (const float *)(void *)(r->block + r->scores_offset),
                     .class_logits = (const float *)(void *)(r->block + r->logits_offset),
                     .objects = here ? (det_object *)(void *)(r->results + r->objects_offset) : output->objects,
                     .counts = here ? (int32_t *)(void *)r->results : output->counts,
                     .cuts = here ? (int32_t *)(void *)r->results + r->max_batch : output->cuts,
                     .n = frame->n,
                     .max_objects = most,
                     .row_objects = here ? most : output->max_objects,
                     .class_agnostic = limits->class_agnostic,
                     .multi_label = limits->multi_label,
                     .iou = limits->iou,
                     .lowest_logit = lowest};
    s->delivery = (delivery){r, *output, frame->n, most};
}

/* From pinned memory to the caller's. */
static void deliver(void *user) {
    const delivery *d = user;
    const det_runner *r = d->runner;
    det_range_begin(r->profiled, "download");
    const int32_t *counts = (const int32_t *)(const void *)r->results, *cuts = counts + r->max_batch;
    const det_object *objects = (const det_object *)(const void *)(r->results + r->objects_offset);
    for (int i = 0; i < d->n; i++) {
        int n = DET_MAX(0, DET_MIN(counts[i], d->row_objects));
        memcpy(d->output.objects + (size_t)i * (size_t)d->output.max_objects,
               objects + (size_t)i * (size_t)d->row_objects, (size_t)n * sizeof *objects);
        d->output.counts[i] = n;
        if (d->output.cuts)
            d->output.cuts[i] = cuts[i];
    }
    det_range_end(r->profiled);
}

/* --------------------------------------------------------------------------------------------------------- the run */

/* A slot of pinned memory that no run reads any more. */
static det_status take_slot(det_runner *r, bool capturing, slot **out) {
    if (capturing && r->captured)
        DET_FAIL(DET_ERROR_UNSUPPORTED, "a run of this context was captured before; one graph has room in a context");
    slot *s = &r->slots[capturing ? CAPTURED_SLOT : r->next_slot];
    if (!capturing)
        r->next_slot = (r->next_slot + 1) % N_SLOTS;
    if (s->used && !capturing)
        CUDA_TRY(cudaEventSynchronize(s->done));
    *out = s;
    return DET_OK;
}

static det_status bring_block(det_runner *r, const det_frame *frame, slot *s, cudaStream_t stream) {
    fill_block(r, frame, s);
    CUDA_TRY(cudaMemcpyAsync(r->block, s->block, r->block_bytes, cudaMemcpyHostToDevice, stream));
    return DET_OK;
}

static det_status upload(det_runner *r, const det_frame *frame, slot *s, cudaStream_t stream) {
    det_range_begin(r->profiled, "upload");
    det_status status = bring_pictures(r, frame, s, true, stream);
    if (status == DET_OK)
        status = bring_block(r, frame, s, stream);
    det_range_end(r->profiled);
    return status;
}

static det_status replay(const batch_size *size, cudaStream_t stream) {
    CUDA_TRY(cudaGraphLaunch(size->graph, stream));
    return DET_OK;
}

static det_status launch_graph(const det_runner *r, const batch_size *size, cudaStream_t stream) {
    det_range_begin(r->profiled, "graph");
    det_status status = replay(size, stream);
    det_range_end(r->profiled);
    return status;
}

static det_status enqueue(det_device *device, det_plan *plan, const det_frame *frame, slot *s, cudaStream_t stream,
                          bool capturing, bool wait) {
    det_runner *r = device->runner;
    const batch_size *size = size_for(r, frame->n);
    if (!capturing && r->has_run && stream != r->last_stream) /* two runs of one context share its memory */
        CUDA_TRY(cudaStreamWaitEvent(stream, r->events[AT_END], 0));
    if (!capturing)
        DET_TRY(mark(r, AT_BEGIN, stream, false));
    DET_TRY(upload(r, frame, s, stream));
    if (!capturing)
        DET_TRY(mark(r, AT_UPLOADED, stream, false));
    if (size->graph && !capturing)
        DET_TRY(launch_graph(r, size, stream));
    else
        DET_TRY(launch_steps(device, plan, size->n, 0, plan->n_steps, stream, capturing));
    if (frame->output->memory == DET_MEMORY_HOST && !wait)
        CUDA_TRY(cudaLaunchHostFunc(stream, deliver, &s->delivery));
    r->captured = r->captured || capturing;
    if (capturing)
        return DET_OK;
    r->has_run = true;
    r->last_stream = stream;
    s->used = true;
    CUDA_TRY(cudaEventRecord(s->done, stream));
    return mark(r, AT_END, stream, false);
}

static det_status await_results(const det_runner *r, const slot *s) {
    CUDA_TRY(cudaEventSynchronize(r->events[AT_END]));
    if (s->delivery.output.memory == DET_MEMORY_HOST)
        deliver((void *)(uintptr_t)&s->delivery);
    return DET_OK;
}

/* After a run that failed: nothing is on its way, so that its pictures and results are the caller's again, and its slot is
 * free. What was captured is the caller's to throw away. */
static void settle(const det_device *device, cudaStream_t stream) {
    enum cudaStreamCaptureStatus capture_status = cudaStreamCaptureStatusNone;
    det_cuda_ignore(cudaStreamIsCapturing(stream, &capture_status));
    if (capture_status != cudaStreamCaptureStatusNone)
        return;
    det_runner_wait(device);
    det_cuda_ignore(cudaStreamSynchronize(stream));
    device->runner->has_run = false; /* the events are of different runs */
}

static det_status run(det_device *device, det_plan *plan, const det_frame *frame, cudaStream_t stream, bool wait) {
    det_runner *r = device->runner;
    enum cudaStreamCaptureStatus capture_status;
    CUDA_TRY(cudaStreamIsCapturing(stream, &capture_status));
    bool capturing = capture_status != cudaStreamCaptureStatusNone;
    slot *s = NULL;
    if (capturing && wait)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_run waits, which a stream that is being captured cannot");
    if (!capturing)
        DET_TRY(make_room(device, frame));
    DET_TRY(take_slot(r, capturing, &s));
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
    int previous;
    DET_TRY(check_device(device));
    DET_TRY(det_cuda_enter(device, &previous));
    det_range_begin(r->profiled, "libdetect run");
    det_status status = run(device, plan, frame, on, wait);
    det_range_end(r->profiled);
    status = det_cuda_leave(device, previous, status);
    if (status == DET_OK)
        return DET_OK;
    r->captured = captured;
    settle(device, on);
    if (status == DET_ERROR_DEVICE)
        device->broken = det_cuda_lasting_error(device);
    return status;
}

static det_status run_alone(det_device *device, det_plan *plan, const det_frame *frame, int begin, int end) {
    det_runner *r = device->runner;
    slot *s = &r->slots[0];
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    bool pixels = begin == 0; /* only pre-processing looks at them */
    if (pixels)
        DET_TRY(make_room(device, frame));
    DET_TRY(bring_pictures(r, frame, s, pixels, device->stream));
    DET_TRY(bring_block(r, frame, s, device->stream));
    DET_TRY(launch_steps(device, plan, size_for(r, frame->n)->n, begin, end, device->stream, false));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    if (plan->steps[end - 1].node->op == DET_OP_NMS && frame->output->memory == DET_MEMORY_HOST)
        deliver(&s->delivery);
    return DET_OK;
}

det_status det_runner_run_steps(det_device *device, det_plan *plan, const det_frame *frame, int begin, int end) {
    int previous;
    DET_TRY(det_cuda_enter(device, &previous));
    return det_cuda_leave(device, previous, run_alone(device, plan, frame, begin, end));
}

/* ----------------------------------------------------------------------------------------------------------- times */

static det_status between(const det_runner *r, int from, int to, float *ms) {
    CUDA_TRY(cudaEventElapsedTime(ms, r->events[from], r->events[to]));
    return DET_OK;
}

static det_status read_times(det_runner *r, det_plan *plan, det_stage_times *times) {
    if (!r->has_run) /* or the last one failed */
        return DET_OK;
    CUDA_TRY(cudaEventSynchronize(r->events[AT_END]));
    DET_TRY(between(r, AT_BEGIN, AT_UPLOADED, &times->upload));
    DET_TRY(between(r, AT_UPLOADED, AT_PREPROCESSED, &times->preprocess));
    DET_TRY(between(r, AT_PREPROCESSED, AT_NETWORK, &times->network));
    DET_TRY(between(r, AT_NETWORK, AT_DECODED, &times->decode));
    DET_TRY(between(r, AT_DECODED, AT_NMS, &times->nms));
    DET_TRY(between(r, AT_NMS, AT_END, &times->download));
    DET_TRY(between(r, AT_BEGIN, AT_END, &times->total));
    for (int i = 0; r->step_events && i < plan->n_steps; i++)
        CUDA_TRY(cudaEventElapsedTime(&plan->steps[i].ms, r->step_events[i], r->step_events[i + 1]));
    return DET_OK;
}

det_status det_runner_times(det_device *device, det_plan *plan, det_stage_times *times) {
    int previous;
    DET_TRY(check_device(device));
    DET_TRY(det_cuda_enter(device, &previous));
    return det_cuda_leave(device, previous, read_times(device->runner, plan, times));
}
