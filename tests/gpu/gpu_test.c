/* The CUDA backend as a program sees it: gpu_test [N_CYCLES]
 *
 * Small made networks on device 0, compared with the CPU's boxes and with themselves: the same bytes a hundred times,
 * alone and in any batch, from host, pinned and device memory, on the caller's streams, in a graph of the caller's;
 * nothing allocated and no device waited for during runs; out of memory and back. Runs as it is against the fake device
 * of tests/emulation. N_CYCLES: contexts made and destroyed, at flat memory (20). */
#include "../api/api.h"
#include "trace.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <pthread.h>
#include <unistd.h>

enum { BATCH = 4, DETERMINISM_RUNS = 100 };

#define CUDA_OK(call) REQUIRE((call) == cudaSuccess, "%s", cudaGetErrorString(cudaGetLastError()))

static det_context_options cuda_options(int max_batch, int32_t precision) {
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CUDA;
    options.max_batch = max_batch;
    options.precision = precision;
    options.max_image_bytes = 1 << 20;
    return options;
}

static det_context *cuda_context(const det_model *model, int max_batch, int32_t precision, uint32_t flags) {
    det_context_options options = cuda_options(max_batch, precision);
    options.flags = flags;
    return create(model, &options);
}

/* ------------------------------------------------------------------------------------------------ beside the CPU */

/* In pixels of the picture, the largest of all corners and landmarks. */
static float distance(const det_object *a, const det_object *b) {
    const float *p = &a->x1, *q = &b->x1, *k = &a->landmarks[0][0], *l = &b->landmarks[0][0];
    float most = 0;
    for (int i = 0; i < 4; i++)
        most = fmaxf(most, fabsf(p[i] - q[i]));
    for (int i = 0; i < 10; i++)
        most = fmaxf(most, fabsf(k[i] - l[i]));
    return most;
}

/* Every object of `a` that is sure (its score is not near the threshold) is among those of `b`. */
static int n_missing(const results *a, const results *b, float sure) {
    int n = 0;
    for (int i = 0; i < a->counts[0]; i++) {
        const det_object *o = &a->objects[0][i];
        bool found = o->score <= sure;
        for (int j = 0; j < b->counts[0] && !found; j++) {
            const det_object *p = &b->objects[0][j];
            found = o->class_id == p->class_id && fabsf(o->score - p->score) < 1e-3f && distance(o, p) < 0.05f;
        }
        n += !found;
    }
    return n;
}

/* All families, in fp32: the CPU's objects. */
static void test_beside_cpu(void) {
    static results ours, theirs;
    for (int i = 0; make_model_name(i); i++) {
        det_model *model = open_made(make_model_name(i));
        det_model_info info = {.struct_size = sizeof info};
        OK(det_model_get_info(model, &info));
        det_context_options options = cpu_options(1, 2);
        det_context *cpu = create(model, &options), *cuda = cuda_context(model, 1, DET_FP32, 0);
        for (int32_t format = DET_RGB8; format <= DET_NV12; format++) {
            det_image picture = random_picture(90, 71, format, 3);
            run(cpu, &picture, 1, &theirs);
            run(cuda, &picture, 1, &ours);
            float sure = info.score_threshold + 1e-3f;
            CHECK_MSG(
                theirs.counts[0] > 0 && n_missing(&theirs, &ours, sure) == 0 && n_missing(&ours, &theirs, sure) == 0,
                "%s, format %d: %d objects on the GPU, %d on the CPU; %d and %d are alone", info.variant, format,
                ours.counts[0], theirs.counts[0], n_missing(&ours, &theirs, sure), n_missing(&theirs, &ours, sure));
            free_picture(&picture);
        }
        printf("  %-24s %d objects\n", make_model_name(i), ours.counts[0]);
        det_context_destroy(cpu);
        det_context_destroy(cuda);
        det_model_close(model);
    }
}

/* --------------------------------------------------------------------------------------------------- beside itself */

static void pictures_of(det_image images[BATCH]) {
    for (int i = 0; i < BATCH; i++)
        images[i] = random_picture(60 + 13 * i, 90 - 7 * i, i % 2 ? DET_BGR8 : DET_RGB8, i);
}

static void free_pictures(det_image images[BATCH]) {
    for (int i = 0; i < BATCH; i++)
        free_picture(&images[i]);
}

static void test_repeats(const det_model *model, int32_t precision) {
    static results first, again;
    det_image images[BATCH];
    pictures_of(images);
    det_context *context = cuda_context(model, BATCH, precision, 0), *one = cuda_context(model, 1, precision, 0);
    run(context, images, BATCH, &first);
    CHECK(first.counts[0] > 0);
    for (int i = 0; i < DETERMINISM_RUNS; i++) {
        run(context, images, BATCH, &again);
        for (int k = 0; k < BATCH; k++)
            CHECK(same_objects(&first, k, &again, k));
    }
    for (int n = 1; n < BATCH; n++) {
        for (int begin = 0; begin + n <= BATCH; begin++) {
            run(context, &images[begin], n, &again);
            for (int k = 0; k < n; k++)
                CHECK_MSG(same_objects(&first, begin + k, &again, k), "picture %d in a run of %d", begin + k, n);
        }
    }
    for (int k = 0; k < BATCH; k++) {
        if (precision == DET_FP32) { /* other batch sizes may have other kernels, which round in another order */
            run(one, &images[k], 1, &again);
            CHECK(again.counts[0] > 0);
        }
    }
    det_context_destroy(context);
    det_context_destroy(one);
    free_pictures(images);
}

static void test_flags(const det_model *model) {
    static results plain, r;
    const uint32_t flags[] = {DET_CONTEXT_NO_GRAPH, DET_CONTEXT_PROFILE_LAYERS};
    det_image picture = random_picture(77, 55, DET_RGB8, 0);
    det_context *context = cuda_context(model, 1, DET_FP16, 0);
    run(context, &picture, 1, &plain);
    for (int i = 0; i < COUNT(flags); i++) {
        det_context *other = cuda_context(model, 1, DET_FP16, flags[i]);
        run(other, &picture, 1, &r);
        CHECK(same_objects(&plain, 0, &r, 0));
        det_profile profile = {.struct_size = sizeof profile};
        OK(det_context_get_profile(other, &profile));
        float layers = 0;
        for (int k = 0; k < profile.n_layers; k++)
            layers += profile.layers[k].ms;
        CHECK(profile.total_ms > 0 && profile.network_ms > 0 &&
              (layers > 0) == (flags[i] == DET_CONTEXT_PROFILE_LAYERS));
        det_context_destroy(other);
    }
    det_context *tuned = cuda_context(model, 1, DET_FP32, DET_CONTEXT_TUNE);
    run(tuned, &picture, 1, &r);
    CHECK(r.counts[0] > 0);
    det_context_destroy(tuned);
    det_context_destroy(context);
    free_picture(&picture);
}

/* However many threads compile while it is made, a context is the same. */
static void test_threads(const det_model *model) {
    static results one, r;
    det_image picture = random_picture(77, 55, DET_RGB8, 0);
    for (int n = 1; n <= 5; n += 2) {
        det_context_options options = cuda_options(1, DET_FP16);
        options.n_threads = n;
        det_context *context = create(model, &options);
        run(context, &picture, 1, n == 1 ? &one : &r);
        CHECK(n == 1 ? one.counts[0] > 0 : same_objects(&one, 0, &r, 0));
        det_context_destroy(context);
    }
    free_picture(&picture);
}

typedef struct beside {
    const det_model *model;
    const det_image *picture;
    pthread_barrier_t *begin;
    uint32_t flags;
    det_status status;
    char error[256]; /* the thread's */
    results r;
} beside;

static det_status create_and_run(beside *b) {
    det_context_options options = cuda_options(2, DET_FP16);
    options.flags = b->flags;
    det_context *context = NULL;
    det_output output = output_to(&b->r);
    det_status status = det_context_create(b->model, &options, &context);
    for (int i = 0; i < 20 && status == DET_OK; i++)
        status = det_run(context, b->picture, 1, &output);
    det_context_destroy(context);
    return status;
}

static void *live_beside(void *argument) {
    beside *b = argument;
    pthread_barrier_wait(b->begin);
    b->status = create_and_run(b);
    snprintf(b->error, sizeof b->error, "%s", det_last_error());
    return NULL;
}

/* Contexts that are made, run and destroyed at once share weights and compiled kernels, and are as good as one alone; those
 * without a graph give the same kernels to cuDNN side by side. */
static void test_beside(const det_model *model) {
    static results alone;
    static beside lives[4];
    pthread_t threads[COUNT(lives)];
    det_image picture = random_picture(77, 55, DET_RGB8, 0);
    det_context *context = cuda_context(model, 2, DET_FP16, 0);
    run(context, &picture, 1, &alone);
    det_context_destroy(context); /* so that they begin with nothing */
    pthread_barrier_t begin;
    REQUIRE(pthread_barrier_init(&begin, NULL, COUNT(lives)) == 0, "no barrier");
    for (int i = 0; i < COUNT(lives); i++) {
        lives[i] =
            (beside){.model = model, .picture = &picture, .begin = &begin, .flags = i % 2 ? DET_CONTEXT_NO_GRAPH : 0};
        REQUIRE(pthread_create(&threads[i], NULL, live_beside, &lives[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < COUNT(lives); i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&begin);
    for (int i = 0; i < COUNT(lives); i++) {
        CHECK_MSG(lives[i].status == DET_OK, "context %d: %s", i, lives[i].error);
        CHECK_MSG(alone.counts[0] > 0 && same_objects(&alone, 0, &lives[i].r, 0), "context %d beside others", i);
    }
    free_picture(&picture);
}

/* ---------------------------------------------------------------------------------------------- memory and streams */

/* The picture on the device; its rows stay as far apart. */
static det_image on_device(const det_image *image) {
    det_image copy = *image;
    void *plane;
    size_t n_bytes = (size_t)(image->strides[0] * image->height);
    CUDA_OK(cudaMalloc(&plane, n_bytes));
    cudaStream_t stream;
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA_OK(cudaMemcpyAsync(plane, image->planes[0], n_bytes, cudaMemcpyHostToDevice, stream));
    CUDA_OK(cudaStreamSynchronize(stream));
    CUDA_OK(cudaStreamDestroy(stream));
    copy.planes[0] = plane;
    copy.memory = DET_MEMORY_DEVICE;
    return copy;
}

/* Room for results on the device, and their way back. */
static det_output device_output(void) {
    void *objects, *counts, *cuts;
    CUDA_OK(cudaMalloc(&objects, sizeof(((results *)0)->objects)));
    CUDA_OK(cudaMalloc(&counts, sizeof(((results *)0)->counts)));
    CUDA_OK(cudaMalloc(&cuts, sizeof(((results *)0)->cuts)));
    return (det_output){.struct_size = sizeof(det_output),
                        .objects = objects,
                        .counts = counts,
                        .max_objects = MAX_OBJECTS,
                        .memory = DET_MEMORY_DEVICE,
                        .cuts = cuts};
}

static void fetch(const det_output *output, cudaStream_t stream, results *r) {
    CUDA_OK(cudaMemcpyAsync(r->objects, output->objects, sizeof r->objects, cudaMemcpyDeviceToHost, stream));
    CUDA_OK(cudaMemcpyAsync(r->counts, output->counts, sizeof r->counts, cudaMemcpyDeviceToHost, stream));
    CUDA_OK(cudaMemcpyAsync(r->cuts, output->cuts, sizeof r->cuts, cudaMemcpyDeviceToHost, stream));
    CUDA_OK(cudaStreamSynchronize(stream));
}

static void free_output(const det_output *output) {
    cudaFree(output->objects);
    cudaFree(output->counts);
    cudaFree(output->cuts);
}

static void test_device_memory(const det_model *model) {
    static results host, r;
    det_image picture = random_picture(81, 64, DET_RGB8, 7), device = on_device(&picture);
    det_context *context = cuda_context(model, 1, DET_FP16, 0);
    det_output output = device_output();
    cudaStream_t stream;
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    run(context, &picture, 1, &host);
    run(context, &device, 1, &r);
    CHECK(same_objects(&host, 0, &r, 0));
    OK(det_run_async(context, &device, 1, &output, stream));
    fetch(&output, stream, &r);
    CHECK(same_objects(&host, 0, &r, 0));
    OK(det_run(context, &picture, 1, &output));
    fetch(&output, stream, &r);
    CHECK(same_objects(&host, 0, &r, 0));
    CUDA_OK(cudaStreamDestroy(stream));
    cudaFree((void *)(uintptr_t)device.planes[0]);
    free_output(&output);
    det_context_destroy(context);
    free_picture(&picture);
}

/* Many runs on their way at once, on two streams with two contexts, their results in pageable memory. */
static void test_streams(const det_model *model) {
    enum { N_RUNS = 8 };
    static results expected[N_RUNS], found[2][N_RUNS];
    det_image images[N_RUNS];
    cudaStream_t streams[2];
    det_context *contexts[2];
    for (int i = 0; i < 2; i++) {
        contexts[i] = cuda_context(model, 1, DET_FP16, 0);
        CUDA_OK(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
    }
    for (int i = 0; i < N_RUNS; i++) {
        images[i] = random_picture(50 + 9 * i, 60, DET_RGB8, i);
        run(contexts[0], &images[i], 1, &expected[i]);
    }
    memset(found, 0, sizeof found);
    for (int i = 0; i < N_RUNS; i++) {
        for (int k = 0; k < 2; k++) {
            det_output output = output_to(&found[k][i]);
            /* the first context changes streams as it goes */
            OK(det_run_async(contexts[k], &images[i], 1, &output, k == 0 && i % 3 == 2 ? streams[1] : streams[k]));
        }
    }
    for (int k = 0; k < 2; k++)
        CUDA_OK(cudaStreamSynchronize(streams[k]));
    for (int i = 0; i < N_RUNS; i++)
        CHECK(same_objects(&expected[i], 0, &found[0][i], 0) && same_objects(&expected[i], 0, &found[1][i], 0));
    for (int k = 0; k < 2; k++) {
        det_context_destroy(contexts[k]);
        CUDA_OK(cudaStreamDestroy(streams[k]));
    }
    for (int i = 0; i < N_RUNS; i++)
        free_picture(&images[i]);
}

static cudaGraphExec_t capture_run(det_context *context, const det_image *picture, const det_image *too_large,
                                   det_output *output, cudaStream_t stream) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    EXPECT(det_run_async(context, too_large, 1, output, stream), DET_ERROR_UNSUPPORTED, "max_image_bytes");
    OK(det_run_async(context, picture, 1, output, stream));
    EXPECT(det_run_async(context, picture, 1, output, stream), DET_ERROR_UNSUPPORTED, "captured before");
    CUDA_OK(cudaStreamEndCapture(stream, &graph));
    CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
    CUDA_OK(cudaGraphDestroy(graph));
    return exec;
}

static void replay(cudaGraphExec_t exec, const det_output *output, cudaStream_t stream, const results *expected) {
    static results r;
    CUDA_OK(cudaMemsetAsync(output->objects, 0, sizeof r.objects, stream));
    CUDA_OK(cudaGraphLaunch(exec, stream));
    fetch(output, stream, &r);
    CHECK(same_objects(expected, 0, &r, 0));
}

/* A run within a graph that the caller captures, replayed; the picture in device memory, or in host memory that stays. */
static void test_capture(const det_model *model, bool on_host) {
    static results expected, r;
    det_image picture = random_picture(66, 66, DET_RGB8, 0), lasting = picture;
    size_t n_bytes = (size_t)picture.strides[0] * (size_t)picture.height;
    void *pinned;
    CUDA_OK(cudaMallocHost(&pinned, n_bytes));
    memcpy(pinned, picture.planes[0], n_bytes);
    lasting.planes[0] = pinned;
    det_image device = on_device(&picture), large = random_picture(2000, 1100, DET_RGBA8, 0);
    det_context *context = cuda_context(model, 1, DET_FP16, 0);
    det_output output = device_output();
    cudaStream_t stream;
    run(context, &picture, 1, &expected);
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    cudaGraphExec_t exec = capture_run(context, on_host ? &lasting : &device, &large, &output, stream);
    for (int i = 0; i < 3; i++)
        replay(exec, &output, stream, &expected);
    run(context, &picture, 1, &r); /* the context still runs by itself */
    CHECK(same_objects(&expected, 0, &r, 0));
    run(context, &large, 1, &r); /* which makes the room for pictures grow: the graph keeps its own */
    replay(exec, &output, stream, &expected);
    CUDA_OK(cudaGraphExecDestroy(exec));
    CUDA_OK(cudaStreamDestroy(stream));
    cudaFree((void *)(uintptr_t)device.planes[0]);
    CUDA_OK(cudaFreeHost(pinned));
    free_output(&output);
    det_context_destroy(context);
    free_picture(&picture);
    free_picture(&large);
}

/* ----------------------------------------------------------------------------------------------------- frugality */

static void test_trace(const det_model *model) {
    static results r;
    det_image images[BATCH];
    pictures_of(images);
    det_context *context = cuda_context(model, BATCH, DET_FP16, 0);
    run(context, images, BATCH, &r);
    if (!gpu_trace_start()) {
        printf("  SKIP the trace: nothing here can count calls of the driver\n");
    } else {
        for (int i = 0; i < 10; i++)
            run(context, images, 1 + i % BATCH, &r);
        gpu_trace t = gpu_trace_stop();
        CHECK_MSG(t.allocations == 0 && t.device_waits == 0 && t.calls > 0,
                  "%lld allocations, %lld device waits, %lld calls", (long long)t.allocations,
                  (long long)t.device_waits, (long long)t.calls);
    }
    det_image large = random_picture(700, 600, DET_RGBA8, 0); /* more than max_image_bytes */
    run(context, &large, 1, &r);
    CHECK(r.counts[0] > 0);
    free_picture(&large);
    det_context_destroy(context);
    free_pictures(images);
}

static size_t free_bytes(void) {
    size_t free_now, total;
    CUDA_OK(cudaMemGetInfo(&free_now, &total));
    return free_now;
}

static void test_out_of_memory(const det_model *model) {
    static results r;
    det_image picture = random_picture(66, 66, DET_RGB8, 0);
    det_context *context = cuda_context(model, 1, DET_FP16, 0);
    size_t before = free_bytes();
    det_context_options options = cuda_options(256, DET_FP32);
    options.width = options.height = 8192;
    det_context *none;
    EXPECT(det_context_create(model, &options, &none), DET_ERROR_OUT_OF_MEMORY, "bytes");
    CHECK(none == NULL && free_bytes() == before);
    run(context, &picture, 1, &r);
    CHECK(r.counts[0] > 0);
    det_context_destroy(context);
    free_picture(&picture);
}

static void test_devices(const det_model *model) {
    struct cudaDeviceProp properties;
    CUDA_OK(cudaGetDeviceProperties(&properties, 0));
    char uuid[48] = "GPU-";
    for (int i = 0, n = 4; i < 16; i++)
        n += sprintf(uuid + n, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
                     (unsigned char)properties.uuid.bytes[i]);
    det_context_options options = cuda_options(1, DET_FP16);
    det_context *context;
    options.device_uuid = uuid;
    options.device_index = 99; /* the UUID counts */
    context = create(model, &options);
    det_context_info info = {.struct_size = sizeof info};
    OK(det_context_get_info(context, &info));
    CHECK(info.device == DET_DEVICE_CUDA && info.device_index == 0 && info.precision == DET_FP16 &&
          !strcmp(info.device_name, properties.name) && info.weights_bytes > 0 && info.arena_bytes > 0);
    det_context_destroy(context);
    options.device_uuid = "GPU-00000000-0000-0000-0000-00000000beef";
    EXPECT(det_context_create(model, &options, &context), DET_ERROR_NO_DEVICE, "beef");
    options.device_uuid = NULL;
    EXPECT(det_context_create(model, &options, &context), DET_ERROR_NO_DEVICE, "device_index is 99");
}

static long resident_pages(void) {
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident;
}

static void test_cycles(const det_model *model, int n) {
    static results r;
    det_image picture = random_picture(66, 66, DET_RGB8, 0);
    size_t device = 0;
    long pages = 0;
    for (int i = 0; i < n; i++) {
        det_context *context = cuda_context(model, 1, i % 2 ? DET_FP16 : DET_FP32, 0);
        run(context, &picture, 1, &r);
        det_context_destroy(context);
        if (i == n / 4) { /* what libraries keep for themselves is taken by now */
            device = free_bytes();
            pages = resident_pages();
        }
    }
    long grown = (resident_pages() - pages) * (sysconf(_SC_PAGESIZE) / 1024);
    printf("  %d contexts: %lld bytes of the device and %ld KiB of the host not given back\n", n,
           (long long)device - (long long)free_bytes(), grown);
    CHECK(free_bytes() == device && grown < 32 * 1024);
    free_picture(&picture);
}

int main(int argc, char **argv) {
    int n_devices = 0, n_cycles = argc > 1 ? atoi(argv[1]) : 20;
    if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
        printf("SKIP: there is no CUDA device\n");
        return CHECK_SKIP;
    }
    det_model *model = open_made(make_model_name(0));
    test_beside_cpu();
    test_repeats(model, DET_FP32);
    test_repeats(model, DET_FP16);
    test_flags(model);
    test_threads(model);
    test_beside(model);
    test_device_memory(model);
    test_streams(model);
    test_capture(model, false);
    test_capture(model, true);
    test_trace(model);
    test_out_of_memory(model);
    test_devices(model);
    test_cycles(model, n_cycles);
    det_model_close(model);
    return check_report("gpu");
}
