/* The CPU backend: convolutions by oneDNN, the rest in plain C, spread over threads by picture and by row. */
#include "cpu.h"

#include "../plan.h"
#include "../thread.h"
#include "../timing.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MIN_BAND_ROWS = 2 };

/* ------------------------------------------------------------------------------------------------------ rows */

int det_cpu_bands(const det_device *device, int n_rows) {
    return DET_MAX(1, DET_MIN(det_threads_count(device->threads), n_rows / MIN_BAND_ROWS));
}

int det_cpu_band_begin(int n_rows, int n_bands, int band) {
    int size = (n_rows + n_bands - 1) / n_bands;
    return DET_MIN(n_rows, band * size);
}

void *det_cpu_alloc_large(size_t n_bytes) {
    void *memory = det_alloc(n_bytes);
#ifdef MADV_HUGEPAGE
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)memory + page - 1) / page * page, end = ((uintptr_t)memory + n_bytes) / page * page;
    if (memory && end > begin)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* a hint: that it may fail is no matter */
#endif
    return memory;
}

void det_cpu_free_state(det_device *device, void *state) {
    (void)device;
    det_free(state);
}

void det_cpu_write_into(const det_step *step, int picture, int begin, int end) {
    if (!step->into || (step->node->only_into && step->node->op == DET_OP_UPSAMPLE)) /* which wrote there itself */
        return;
    det_shape from = step->output_shape, to = step->into_shape;
    size_t first = (size_t)begin * from.w, n = (size_t)(end - begin) * from.w, n_bytes = (size_t)from.c * sizeof(float);
    const float *x = det_cpu_picture(step->output, from, picture) + first * from.c;
    float *y = det_cpu_picture(step->into, to, picture) + first * to.c + step->node->into_begin;
    for (size_t i = 0; i < n; i++)
        memcpy(y + i * to.c, x + i * from.c, n_bytes);
}

typedef struct rows_task {
    det_rows_call call;
    int n_bands, n_rows;
} rows_task;

static void run_rows(void *context, int task, int thread) {
    const rows_task *t = context;
    (void)thread;
    int band = task % t->n_bands;
    int begin = det_cpu_band_begin(t->n_rows, t->n_bands, band),
        end = det_cpu_band_begin(t->n_rows, t->n_bands, band + 1);
    if (begin == end)
        return;
    t->call.rows(&t->call, task / t->n_bands, begin, end);
    det_cpu_write_into(t->call.step, task / t->n_bands, begin, end);
}

void det_cpu_for_rows(det_device *device, const det_step *step, const det_frame *frame,
                      void (*rows)(const det_rows_call *call, int picture, int begin, int end)) {
    int n_rows = step->output_shape.h;
    rows_task t = {{step, frame, rows}, det_cpu_bands(device, n_rows), n_rows};
    det_threads_run(device->threads, frame->n * t.n_bands, run_rows, &t);
}

/* ---------------------------------------------------------------------------------------------------- device */

static void start_thread(void *user) {
    det_dnn_single_thread(user);
}

static void close_cpu(det_device *device) {
    if (!device)
        return;
    det_threads_close(device->threads);
    det_dnn_close(device->dnn);
    det_free(device);
}

static det_status open_cpu(det_context_options *options, det_device **out) {
    if (options->device_index != 0)
        DET_FAIL(DET_ERROR_NO_DEVICE, "device_index is %d; the CPU is device 0", options->device_index);
    if (options->device_uuid)
        DET_FAIL(DET_ERROR_NO_DEVICE, "the CPU has no UUID; %.64s was asked for", options->device_uuid);
    if (options->precision != DET_PRECISION_AUTO && options->precision != DET_FP32)
        DET_FAIL(DET_ERROR_UNSUPPORTED, "the CPU computes in fp32 alone: its precision is fp32 or auto");
    options->precision = DET_FP32;
    if (options->n_threads == 0)
        options->n_threads = DET_MIN(det_thread_cores(), DET_MAX_THREADS);
    det_device *device = det_alloc_array(1, sizeof *device);
    if (!device)
        return DET_ERROR_OUT_OF_MEMORY;
    snprintf(device->name, sizeof device->name, "CPU, %d thread%s", options->n_threads,
             options->n_threads == 1 ? "" : "s");
    device->wide = det_cpu_wide_code();
    det_status status = det_dnn_open(&device->dnn);
    if (status == DET_OK)
        status = det_threads_open(options->n_threads, start_thread, device->dnn, &device->threads);
    if (status != DET_OK) {
        close_cpu(device);
        return status;
    }
    *out = device;
    return DET_OK;
}

static const char *cpu_name(const det_device *device) {
    return device->name;
}

static det_status allocate_cpu(det_device *device, size_t n_bytes, void **memory) {
    (void)device;
    *memory = det_cpu_alloc_large(n_bytes);
    return *memory ? DET_OK : DET_ERROR_OUT_OF_MEMORY;
}

static void release_cpu(det_device *device, void *memory) {
    (void)device;
    det_free(memory);
}

/* Every step is timed: two calls of a clock that needs no system call. */
static det_status time_steps(det_plan *plan, const det_frame *frame, int begin, int end) {
    double before = det_clock_ms();
    for (int i = begin; i < end; i++) {
        DET_TRY(det_plan_run_step(plan, i, frame, NULL));
        double after = det_clock_ms();
        plan->steps[i].ms = (float)(after - before);
        before = after;
    }
    return DET_OK;
}

static det_status run_steps(det_device *device, det_plan *plan, const det_frame *frame, int begin, int end) {
    int n_threads = det_dnn_single_thread(device->dnn);
    det_status status = time_steps(plan, frame, begin, end);
    det_dnn_restore_threads(device->dnn, n_threads);
    return status;
}

static det_status run_cpu(det_device *device, det_plan *plan, const det_frame *frame, det_stream stream, bool wait) {
    (void)wait; /* done when this returns */
    if (stream)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_run_async: the CPU has no streams; pass NULL");
    return run_steps(device, plan, frame, 0, plan->n_steps);
}

static det_layout cpu_layout(const det_device *device) {
    (void)device;
    return (det_layout){.element_bytes = sizeof(float), .channel_multiple = 1, .residual_in_place = true};
}

static det_status cpu_times(det_device *device, det_plan *plan, det_stage_times *times) {
    (void)device;
    for (int i = 0; i < plan->n_steps; i++)
        *det_stage_of(times, plan->steps[i].node->op) += plan->steps[i].ms;
    return DET_OK;
}

static det_status get_cpu(det_device *device, const void *data, det_shape shape, int stride, float *values) {
    (void)device;
    (void)stride; /* dense */
    memcpy(values, data, (size_t)det_shape_values(shape) * sizeof *values);
    return DET_OK;
}

static det_status set_cpu(det_device *device, void *data, det_shape shape, int stride, const float *values) {
    (void)device;
    (void)stride;
    memcpy(data, values, (size_t)det_shape_values(shape) * sizeof *values);
    return DET_OK;
}

static det_status read_cpu(det_device *device, const void *data, size_t n_bytes, void *bytes) {
    (void)device;
    memcpy(bytes, data, n_bytes);
    return DET_OK;
}

static det_status write_cpu(det_device *device, void *data, size_t n_bytes, const void *bytes) {
    (void)device;
    memcpy(data, bytes, n_bytes);
    return DET_OK;
}

static const det_kernel *const kernels[DET_N_OPS] = {
#define DET_OP(id, name) [DET_OP_##id] = &det_cpu_##name,
#include "../ops.def"
#undef DET_OP
};

const det_backend det_cpu_backend = {
    .name = "CPU",
    .device_type = DET_DEVICE_CPU,
    .open = open_cpu,
    .close = close_cpu,
    .device_name = cpu_name,
    .layout = cpu_layout,
    .allocate = allocate_cpu,
    .release = release_cpu,
    .run = run_cpu,
    .times = cpu_times,
    .run_steps = run_steps,
    .get = get_cpu,
    .set = set_cpu,
    .read = read_cpu,
    .write = write_cpu,
    .kernels = kernels,
};
