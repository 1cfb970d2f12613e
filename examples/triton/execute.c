/* Requests in, responses out. From the moment that all responses exist the requests are ours: whatever happens, each gets
 * one response and is released. */
#include "backend.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A request under way. */
typedef struct work {
    TRITONBACKEND_Request *request;
    TRITONBACKEND_Response *response;
    TRITONSERVER_Error *error; /* what to answer instead of results */
    int64_t n_pictures, height, width;
    const uint8_t *pixels; /* n_pictures x height x width x 3 */
    uint8_t *gathered;     /* the same, when it came in pieces */
    bool on_device;
    det_object *objects; /* n_pictures x max_objects */
    int32_t *counts;     /* n_pictures */
} work;

typedef struct times {
    uint64_t begin, compute_begin, compute_end, end;
} times;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* For failures that change nothing any more. */
static void report(TRITONSERVER_Error *error) {
    if (error == NULL)
        return;
    TRITONSERVER_Error *unheard =
        TRITONSERVER_LogMessage(TRITONSERVER_LOG_ERROR, __FILE__, __LINE__, TRITONSERVER_ErrorMessage(error));
    if (unheard != NULL)
        TRITONSERVER_ErrorDelete(unheard);
    TRITONSERVER_ErrorDelete(error);
}

static TRITONSERVER_Error *check_shape(const instance_state *state, work *w, TRITONSERVER_DataType type,
                                       const int64_t *shape, uint32_t n_dims, uint64_t n_bytes) {
    enum { MAX_SIDE = 16384 };
    bool batched = state->model->config.batched;
    if (type != TRITONSERVER_TYPE_UINT8 || n_dims != (batched ? 4u : 3u))
        return fail(TRITONSERVER_ERROR_INVALID_ARG, "IMAGE must be UINT8 %sheight x width x 3", batched ? "n x " : "");
    const int64_t *side = shape + (batched ? 1 : 0);
    w->n_pictures = batched ? shape[0] : 1;
    w->height = side[0];
    w->width = side[1];
    if (w->n_pictures < 1 || w->n_pictures > state->model->config.max_batch || w->height < 1 || w->height > MAX_SIDE ||
        w->width < 1 || w->width > MAX_SIDE || side[2] != 3)
        return fail(TRITONSERVER_ERROR_INVALID_ARG,
                    "IMAGE has shape %lld x %lld x %lld x %lld, which is no RGB picture", (long long)w->n_pictures,
                    (long long)w->height, (long long)w->width, (long long)side[2]);
    if (n_bytes != (uint64_t)(w->n_pictures * w->height * w->width * 3))
        return fail(TRITONSERVER_ERROR_INVALID_ARG, "IMAGE has %llu bytes, which is not its shape",
                    (unsigned long long)n_bytes);
    return NULL;
}

/* A tensor may come in several pieces, each in memory of its own kind. */
static TRITONSERVER_Error *gather(work *w, TRITONBACKEND_Input *input, uint32_t n_buffers, uint64_t n_bytes) {
    w->gathered = malloc(n_bytes);
    if (w->gathered == NULL)
        return fail(TRITONSERVER_ERROR_UNAVAILABLE, "out of memory for %llu bytes", (unsigned long long)n_bytes);
    uint64_t at = 0;
    for (uint32_t i = 0; i < n_buffers; i++) {
        const void *piece;
        uint64_t n_piece;
        TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
        int64_t device = 0;
        TRY(TRITONBACKEND_InputBuffer(input, i, &piece, &n_piece, &memory, &device));
        if (memory == TRITONSERVER_MEMORY_GPU || n_piece > n_bytes - at)
            return fail(TRITONSERVER_ERROR_UNSUPPORTED, "IMAGE came in pieces that cannot be put together");
        memcpy(w->gathered + at, piece, n_piece);
        at += n_piece;
    }
    w->pixels = w->gathered;
    return at == n_bytes ? NULL : fail(TRITONSERVER_ERROR_INVALID_ARG, "IMAGE is shorter than it says");
}

static TRITONSERVER_Error *read_input(const instance_state *state, work *w) {
    TRITONBACKEND_Input *input;
    const char *name;
    TRITONSERVER_DataType type;
    const int64_t *shape;
    uint32_t n_dims, n_buffers;
    uint64_t n_bytes;
    TRY(TRITONBACKEND_RequestInput(w->request, "IMAGE", &input));
    TRY(TRITONBACKEND_InputProperties(input, &name, &type, &shape, &n_dims, &n_bytes, &n_buffers));
    TRY(check_shape(state, w, type, shape, n_dims, n_bytes));
    if (n_buffers != 1)
        return gather(w, input, n_buffers, n_bytes);
    const void *buffer;
    uint64_t n_buffer;
    TRITONSERVER_MemoryType memory = state->on_gpu ? TRITONSERVER_MEMORY_GPU : TRITONSERVER_MEMORY_CPU;
    int64_t device = state->on_gpu ? state->device : 0;
    TRY(TRITONBACKEND_InputBuffer(input, 0, &buffer, &n_buffer, &memory, &device));
    w->pixels = buffer;
    w->on_device = memory == TRITONSERVER_MEMORY_GPU;
    if (n_buffer != n_bytes || (w->on_device && (!state->on_gpu || device != state->device)))
        return fail(TRITONSERVER_ERROR_UNSUPPORTED, "IMAGE lies where this instance cannot read it");
    return NULL;
}

static TRITONSERVER_Error *make_room(const instance_state *state, work *w) {
    size_t n = (size_t)w->n_pictures;
    w->objects = calloc(n * (size_t)state->model->max_objects, sizeof *w->objects);
    w->counts = calloc(n, sizeof *w->counts);
    bool ok = w->objects != NULL && w->counts != NULL;
    return ok ? NULL : fail(TRITONSERVER_ERROR_UNAVAILABLE, "out of memory for the results of %zu pictures", n);
}

/* Picture `index` of all that the requests hold together. */
typedef struct place {
    work *of;
    int64_t index;
} place;

/* The next picture of a request that still works out; false behind the last. */
static bool next_picture(work *all, uint32_t n, place *at) {
    at->index++;
    while (at->of < all + n && (at->of->error != NULL || at->index >= at->of->n_pictures)) {
        at->of++;
        at->index = 0;
    }
    return at->of < all + n;
}

static det_image picture_at(const place *at) {
    const work *w = at->of;
    return (det_image){
        .planes = {w->pixels + at->index * w->height * w->width * 3},
        .strides = {w->width * 3},
        .width = (int32_t)w->width,
        .height = (int32_t)w->height,
        .format = DET_RGB8,
        .memory = w->on_device ? DET_MEMORY_DEVICE : DET_MEMORY_HOST,
    };
}

/* Runs `n` pictures and hands the results out. A failure belongs to every request that has a picture among them. */
static void run(instance_state *state, const place *places, int32_t n) {
    size_t n_rows = (size_t)state->model->max_objects;
    for (int32_t i = 0; i < n; i++)
        state->images[i] = picture_at(&places[i]);
    const det_output output = {.struct_size = sizeof output,
                               .objects = state->objects,
                               .counts = state->counts,
                               .max_objects = state->model->max_objects};
    det_status status = det_run(state->context, state->images, n, &output);
    for (int32_t i = 0; i < n; i++) {
        work *w = places[i].of;
        if (status != DET_OK && w->error == NULL)
            w->error = fail_with(status);
        if (status != DET_OK)
            continue;
        w->counts[places[i].index] = state->counts[i];
        memcpy(w->objects + (size_t)places[i].index * n_rows, state->objects + (size_t)i * n_rows,
               (size_t)state->counts[i] * sizeof *w->objects);
    }
}

/* Triton keeps a batch within max_batch_size; should it not, the pictures are run in several batches. */
static void run_all(instance_state *state, work *all, uint32_t n) {
    enum { MOST = 256 };
    place places[MOST], at = {all, -1};
    int32_t n_places = 0;
    while (next_picture(all, n, &at)) {
        places[n_places++] = at;
        if (n_places == state->model->config.max_batch) {
            run(state, places, n_places);
            n_places = 0;
        }
    }
    if (n_places > 0)
        run(state, places, n_places);
}

/* An output tensor: one number or more of every object, or of every picture. */
typedef struct output_row {
    const char *name;
    TRITONSERVER_DataType type;
    int64_t n_columns; /* 4 bytes each */
    bool per_object;
} output_row;

static const output_row output_rows[] = {
    {"BOXES", TRITONSERVER_TYPE_FP32, 4, true},    {"SCORES", TRITONSERVER_TYPE_FP32, 1, true},
    {"CLASSES", TRITONSERVER_TYPE_INT32, 1, true}, {"LANDMARKS", TRITONSERVER_TYPE_FP32, 10, true},
    {"COUNTS", TRITONSERVER_TYPE_INT32, 1, false},
};

/* Rows behind the last object are zeros. */
static void fill(const work *w, const output_row *row, size_t max_objects, uint8_t *to) {
    static const size_t offsets[] = {offsetof(det_object, x1), offsetof(det_object, score),
                                     offsetof(det_object, class_id), offsetof(det_object, landmarks)};
    size_t n_bytes = 4 * (size_t)row->n_columns;
    if (!row->per_object) {
        memcpy(to, w->counts, n_bytes * (size_t)w->n_pictures);
        return;
    }
    size_t offset = offsets[row - output_rows];
    for (size_t i = 0; i < (size_t)w->n_pictures * max_objects; i++)
        memcpy(to + i * n_bytes, (const uint8_t *)&w->objects[i] + offset, n_bytes);
}

static TRITONSERVER_Error *write_output(const instance_state *state, const work *w, const output_row *row) {
    int64_t shape[4];
    uint32_t n_dims = 0;
    if (state->model->config.batched)
        shape[n_dims++] = w->n_pictures;
    if (row->per_object)
        shape[n_dims++] = state->model->max_objects;
    if (row->n_columns > 1 || !row->per_object)
        shape[n_dims++] = row->n_columns;
    uint64_t n_bytes = 4 * (uint64_t)row->n_columns * (uint64_t)w->n_pictures;
    if (row->per_object)
        n_bytes *= (uint64_t)state->model->max_objects;
    TRITONBACKEND_Output *output;
    void *buffer;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t device = 0;
    TRY(TRITONBACKEND_ResponseOutput(w->response, &output, row->name, row->type, shape, n_dims));
    TRY(TRITONBACKEND_OutputBuffer(output, &buffer, n_bytes, &memory, &device));
    if (memory == TRITONSERVER_MEMORY_GPU)
        return fail(TRITONSERVER_ERROR_UNSUPPORTED, "%s: there is no host memory for it", row->name);
    fill(w, row, (size_t)state->model->max_objects, buffer);
    return NULL;
}

static TRITONSERVER_Error *write_outputs(const instance_state *state, const work *w) {
    uint32_t n;
    TRY(TRITONBACKEND_RequestOutputCount(w->request, &n));
    for (uint32_t i = 0; i < n; i++) {
        const char *name;
        TRY(TRITONBACKEND_RequestOutputName(w->request, i, &name));
        const output_row *row = output_rows, *end = row + sizeof output_rows / sizeof output_rows[0];
        while (row < end && strcmp(row->name, name) != 0)
            row++;
        if (row == end)
            return fail(TRITONSERVER_ERROR_INVALID_ARG, "there is no output '%s'", name);
        TRY(write_output(state, w, row));
    }
    return NULL;
}

/* Sends the response, whatever it has become, and gives the request back. */
static void finish(const instance_state *state, work *w, const times *t) {
    bool success = w->error == NULL;
    report(TRITONBACKEND_ResponseSend(w->response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, w->error));
    report(TRITONBACKEND_ModelInstanceReportStatistics(state->instance, w->request, success, t->begin, t->compute_begin,
                                                       t->compute_end, t->end));
    report(TRITONBACKEND_RequestRelease(w->request, TRITONSERVER_REQUEST_RELEASE_ALL));
    if (w->error != NULL)
        TRITONSERVER_ErrorDelete(w->error);
    free(w->gathered);
    free(w->objects);
    free(w->counts);
}

static TRITONSERVER_Error *create_responses(work *all, TRITONBACKEND_Request **requests, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        all[i].request = requests[i];
        TRITONSERVER_Error *error = TRITONBACKEND_ResponseNew(&all[i].response, requests[i]);
        if (error == NULL)
            continue;
        while (i-- > 0)
            report(TRITONBACKEND_ResponseDelete(all[i].response));
        return error;
    }
    return NULL;
}

TRITONSERVER_Error *execute(instance_state *state, TRITONBACKEND_Request **requests, uint32_t n_requests) {
    times t = {.begin = now_ns()};
    work *all = calloc(n_requests, sizeof *all);
    if (all == NULL)
        return fail(TRITONSERVER_ERROR_UNAVAILABLE, "out of memory");
    TRITONSERVER_Error *error = create_responses(all, requests, n_requests);
    if (error != NULL) {
        free(all);
        return error;
    }
    uint64_t n_pictures = 0;
    for (uint32_t i = 0; i < n_requests; i++) {
        all[i].error = read_input(state, &all[i]);
        if (all[i].error == NULL)
            all[i].error = make_room(state, &all[i]);
        n_pictures += all[i].error == NULL ? (uint64_t)all[i].n_pictures : 0;
    }
    t.compute_begin = now_ns();
    run_all(state, all, n_requests);
    t.compute_end = now_ns();
    for (uint32_t i = 0; i < n_requests; i++)
        if (all[i].error == NULL)
            all[i].error = write_outputs(state, &all[i]);
    t.end = now_ns();
    for (uint32_t i = 0; i < n_requests; i++)
        finish(state, &all[i], &t);
    if (n_pictures > 0)
        report(TRITONBACKEND_ModelInstanceReportBatchStatistics(state->instance, n_pictures, t.begin, t.compute_begin,
                                                                t.compute_end, t.end));
    free(all);
    return NULL;
}
