/* The CUDA backend as a program sees it: gpu_test [--only TEST] | N_CYCLES | --cycles SECONDS
 *
 * Small made networks, compared with the CPU's boxes and with themselves: the same bytes a hundred times, alone and in
 * any batch, from host, pinned and device memory, on the caller's streams, in a graph of the caller's; nothing allocated
 * and no device waited for during runs; out of memory and back. Runs as it is against the fake device of tests/emulation.
 * N_CYCLES, --cycles: nothing but contexts made, run and destroyed at flat memory, so many or for so long. */
#include "../api/api.h"
#include "trace.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef GPU_TEST_SECONDS
#define GPU_TEST_SECONDS 60 /* for one test, then it has hung */
#endif

enum { BATCH = 4, DETERMINISM_RUNS = 100 };

static const char *test_name; /* of this process */

/* Nothing has been found out: that must not look like a test that has passed. */
static void skip(const char *why) {
    printf("SKIP %s: %s\n", test_name, why);
    exit(CHECK_SKIP);
}

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

/* How far scores may be apart, and corners in pixels. */
typedef struct nearness {
    float score, pixels;
} nearness;

static const nearness near_fp32 = {1e-3f, 0.05f}, near_fp16 = {1e-2f, 0.5f};

/* How many objects of picture i of `a` that are sure (their score is not near the threshold) are not among those of picture
 * k of `b`. */
static int n_missing(const results *a, int i, const results *b, int k, float sure, nearness most) {
    int n = 0;
    for (const det_object *o = a->objects[i]; o < a->objects[i] + a->counts[i]; o++) {
        bool found = o->score <= sure;
        for (const det_object *p = b->objects[k]; p < b->objects[k] + b->counts[k] && !found; p++)
            found =
                o->class_id == p->class_id && fabsf(o->score - p->score) < most.score && distance(o, p) < most.pixels;
        n += !found;
    }
    return n;
}

static float threshold_of(const det_model *model) {
    det_model_info info = {.struct_size = sizeof info};
    OK(det_model_get_info(model, &info));
    return info.score_threshold;
}

/* All families, in fp32: the CPU's objects. */
static void test_beside_cpu(const det_model *first) {
    static results ours, theirs;
    (void)first;
    for (int i = 0; make_model_name(i); i++) {
        det_model *model = open_made(make_model_name(i));
        float sure = threshold_of(model) + near_fp32.score;
        det_context_options options = cpu_options(1, 2);
        det_context *cpu = create(model, &options), *cuda = cuda_context(model, 1, DET_FP32, 0);
        for (int32_t format = DET_RGB8; format <= DET_NV12; format++) {
            det_image picture = random_picture(90, 71, format, 3);
            run(cpu, &picture, 1, &theirs);
            run(cuda, &picture, 1, &ours);
            int n_ours = n_missing(&ours, 0, &theirs, 0, sure, near_fp32);
            int n_theirs = n_missing(&theirs, 0, &ours, 0, sure, near_fp32);
            CHECK_MSG(theirs.counts[0] > 0 && n_ours == 0 && n_theirs == 0,
                      "%s, format %d: %d objects on the GPU, %d on the CPU; %d and %d are alone", make_model_name(i),
                      format, ours.counts[0], theirs.counts[0], n_ours, n_theirs);
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

/* Contexts for fewer pictures may have other kernels, which round in another order: then a box that is nearly as good as
 * another may take its place. */
static void check_smaller(const det_model *model, int32_t precision, const det_image images[BATCH],
                          const results *all) {
    static results r;
    bool full = precision == DET_FP32;
    nearness most = full ? near_fp32 : near_fp16;
    float sure = threshold_of(model) + most.score;
    for (int n = 1; n < BATCH; n++) {
        det_context *context = cuda_context(model, n, precision, 0);
        run(context, &images[BATCH - n], n, &r);
        for (int k = 0; k < n; k++) {
            int of = BATCH - n + k, n_alone = n_missing(all, of, &r, k, sure, most);
            CHECK_MSG(r.counts[k] > 0 && n_alone <= (full ? 0 : 1 + all->counts[of] / 20),
                      "%d of %d objects of picture %d are not found by a context for %d", n_alone, all->counts[of], of,
                      n);
        }
        det_context_destroy(context);
    }
}

static void test_repeats(const det_model *model, int32_t precision) {
    static results first, again;
    det_image images[BATCH];
    pictures_of(images);
    det_context *context = cuda_context(model, BATCH, precision, 0);
    run(context, images, BATCH, &first);
    for (int k = 0; k < BATCH; k++)
        CHECK(first.counts[k] > 0);
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
    check_smaller(model, precision, images, &first);
    det_context_destroy(context);
    free_pictures(images);
}

static void test_repeats_fp32(const det_model *model) {
    test_repeats(model, DET_FP32);
}

static void test_repeats_fp16(const det_model *model) {
    test_repeats(model, DET_FP16);
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
        det_context_destroy(other);
    }
    det_context *tuned = cuda_context(model, 1, DET_FP32, DET_CONTEXT_TUNE);
    run(tuned, &picture, 1, &r);
    CHECK(r.counts[0] > 0);
    det_context_destroy(tuned);
    det_context_destroy(context);
    free_picture(&picture);
}

enum { N_STAGES = 4 };

/* What pre-processing, network, decode and NMS took by their layers. */
static void add_layers(const det_profile *profile, float sums[N_STAGES]) {
    memset(sums, 0, N_STAGES * sizeof *sums);
    for (int i = 0; i < profile->n_layers; i++) {
        const char *op = profile->layers[i].op;
        int stage = !strcmp(op, "preprocess") ? 0 : !strncmp(op, "decode", 6) ? 2 : !strcmp(op, "nms") ? 3 : 1;
        sums[stage] += profile->layers[i].ms;
    }
}

static bool near(float a, float b) {
    return fabsf(a - b) <= 0.02f + 0.1f * b;
}

/* The stages follow one another, so together they are the whole; and each is what its layers are, where those are timed. */
static bool is_plausible(const det_profile *p, bool layers) {
    const float stages[N_STAGES] = {p->preprocess_ms, p->network_ms, p->decode_ms, p->nms_ms};
    float sum = p->upload_ms + p->download_ms, sums[N_STAGES];
    bool good = p->upload_ms > 0 && p->download_ms > 0;
    add_layers(p, sums);
    for (int i = 0; i < N_STAGES; i++) {
        sum += stages[i];
        good = good && stages[i] > 0 && (layers ? near(sums[i], stages[i]) : sums[i] == 0);
    }
    return good && near(sum, p->total_ms);
}

static void print_profile(const char *name, const det_profile *p) {
    float sums[N_STAGES];
    add_layers(p, sums);
    printf("  %-10s upload %.3f, pre-process %.3f, network %.3f, decode %.3f, NMS %.3f, download %.3f, total %.3f ms; "
           "by layers %.3f, %.3f, %.3f, %.3f\n",
           name, (double)p->upload_ms, (double)p->preprocess_ms, (double)p->network_ms, (double)p->decode_ms,
           (double)p->nms_ms, (double)p->download_ms, (double)p->total_ms, (double)sums[0], (double)sums[1],
           (double)sums[2], (double)sums[3]);
}

/* Other processes may come in between any two events: the times need to be right in one run of some. */
static void test_profile(const det_model *model) {
    static const struct {
        const char *name;
        uint32_t flags;
    } kinds[] = {{"graph", 0}, {"no graph", DET_CONTEXT_NO_GRAPH}, {"layers", DET_CONTEXT_PROFILE_LAYERS}};
    static results r;
    det_image picture = random_picture(77, 55, DET_RGB8, 0);
    for (int i = 0; i < COUNT(kinds); i++) {
        det_context *context = cuda_context(model, 1, DET_FP16, kinds[i].flags);
        det_profile profile = {.struct_size = sizeof profile};
        bool good = false;
        for (int k = 0; k < 10 && !good; k++) {
            run(context, &picture, 1, &r);
            OK(det_context_get_profile(context, &profile));
            good = is_plausible(&profile, kinds[i].flags == DET_CONTEXT_PROFILE_LAYERS);
        }
        print_profile(kinds[i].name, &profile);
        CHECK_MSG(good, "the times do not fit together, %s", kinds[i].name);
        det_context_destroy(context);
    }
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

static atomic_int n_refused_graphs;

static void on_log(void *user, int level, const char *message) {
    (void)user;
    if (strstr(message, "no CUDA graph"))
        atomic_fetch_add(&n_refused_graphs, 1);
    fprintf(stderr, "libdetect: level %d: %s\n", level, message);
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

static void check_beside(const det_model *model, const det_image *picture, const results *alone) {
    static beside lives[4];
    pthread_t threads[COUNT(lives)];
    pthread_barrier_t begin;
    REQUIRE(pthread_barrier_init(&begin, NULL, COUNT(lives)) == 0, "no barrier");
    for (int i = 0; i < COUNT(lives); i++) {
        lives[i] =
            (beside){.model = model, .picture = picture, .begin = &begin, .flags = i % 2 ? DET_CONTEXT_NO_GRAPH : 0};
        REQUIRE(pthread_create(&threads[i], NULL, live_beside, &lives[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < COUNT(lives); i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&begin);
    for (int i = 0; i < COUNT(lives); i++) {
        CHECK_MSG(lives[i].status == DET_OK, "context %d: %s", i, lives[i].error);
        CHECK_MSG(same_objects(alone, 0, &lives[i].r, 0), "context %d beside others", i);
    }
}

/* Contexts that are made, run and destroyed at once share weights and compiled kernels, and are as good as one alone, graph
 * and all; those without a graph give the same kernels to cuDNN side by side. */
static void test_beside(const det_model *model) {
    static results alone;
    det_image picture = random_picture(77, 55, DET_RGB8, 0);
    det_context *context = cuda_context(model, 2, DET_FP16, 0);
    run(context, &picture, 1, &alone);
    CHECK(alone.counts[0] > 0);
    det_context_destroy(context); /* so that they begin with nothing */
    det_set_log(on_log, DET_LOG_WARNING, NULL);
    for (int i = 0; i < 3; i++)
        check_beside(model, &picture, &alone);
    CHECK_MSG(n_refused_graphs == 0, "%d contexts have no CUDA graph", n_refused_graphs);
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
static void check_capture(const det_model *model, bool on_host) {
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

static void test_capture(const det_model *model) {
    check_capture(model, false);
    check_capture(model, true);
}

/* ----------------------------------------------------------------------------------------------------- frugality */

#define SEEN(call, counter)                                                                                            \
    do {                                                                                                               \
        gpu_trace_start();                                                                                             \
        (void)(call);                                                                                                  \
        CHECK_MSG(gpu_trace_stop().counter >= 1, "the trace has not seen %s", #call);                                  \
    } while (0)

/* What the trace must not find in runs it finds here. */
static void check_the_trace(void) {
    void *device = NULL, *pinned = NULL;
    SEEN(cudaMalloc(&device, 1 << 20), allocations);
    SEEN(cudaHostAlloc(&pinned, 1 << 20, cudaHostAllocDefault), allocations);
    SEEN(cudaDeviceSynchronize(), device_waits);
    SEEN(cudaMemsetAsync(device, 0, 1 << 20, NULL), on_default_stream);
    SEEN(cudaFree(device), allocations);
    SEEN(cudaFreeHost(pinned), allocations);
    cudaGetLastError(); /* the fake refuses the default stream */
}

typedef struct traced {
    det_context *context;
    det_image host[BATCH], device[BATCH];
    det_output output; /* in device memory */
    cudaStream_t stream;
} traced;

/* From host to host and from device to device, at once and on the caller's stream. */
static void run_traced(const traced *t) {
    static results r;
    for (int i = 0; i < 3 * BATCH; i++) {
        int n = 1 + i % BATCH;
        run(t->context, t->host, n, &r);
        OK(det_run(t->context, t->device, n, &t->output));
        OK(det_run_async(t->context, t->device, n, &t->output, t->stream));
        OK(det_run_async(t->context, t->host, n, &t->output, t->stream));
    }
    CUDA_OK(cudaStreamSynchronize(t->stream));
}

/* From the first run on. */
static void check_frugality(const det_model *model, traced *t, uint32_t flags) {
    t->context = cuda_context(model, BATCH, DET_FP16, flags);
    gpu_trace_start();
    run_traced(t);
    gpu_trace found = gpu_trace_stop();
    CHECK_MSG(found.allocations == 0 && found.device_waits == 0 && found.on_default_stream == 0 && found.calls > 0,
              "%s graph: %lld allocations, %lld device waits, %lld uses of the default stream, %lld calls",
              flags ? "without" : "with", (long long)found.allocations, (long long)found.device_waits,
              (long long)found.on_default_stream, (long long)found.calls);
    det_context_destroy(t->context);
}

static void test_trace(const det_model *model) {
    traced t = {.output = device_output()};
    if (!gpu_trace_start())
        skip("nothing here can count calls of CUDA");
    gpu_trace_stop();
    pictures_of(t.host);
    for (int i = 0; i < BATCH; i++)
        t.device[i] = on_device(&t.host[i]);
    CUDA_OK(cudaStreamCreateWithFlags(&t.stream, cudaStreamNonBlocking));
    det_set_log(on_log, DET_LOG_WARNING, NULL);
    check_frugality(model, &t, 0);
    check_frugality(model, &t, DET_CONTEXT_NO_GRAPH);
    CHECK(n_refused_graphs == 0);
    check_the_trace();
    CUDA_OK(cudaStreamDestroy(t.stream));
    for (int i = 0; i < BATCH; i++)
        cudaFree((void *)(uintptr_t)t.device[i].planes[0]);
    free_output(&t.output);
    free_pictures(t.host);
}

/* More than max_image_bytes. */
static void test_large_picture(const det_model *model) {
    static results r;
    det_context *context = cuda_context(model, 1, DET_FP16, 0);
    det_image large = random_picture(700, 600, DET_RGBA8, 0);
    run(context, &large, 1, &r);
    CHECK(r.counts[0] > 0);
    free_picture(&large);
    det_context_destroy(context);
}

/* ---------------------------------------------------------------------------------------------------------- memory */

/* In KiB. */
typedef struct usage {
    long long device, host;
} usage;

/* What libraries may take for themselves as a process begins; pages that the allocator keeps; and what the driver hands out
 * at once. */
static const usage slack_at_first = {64 * 1024, 32 * 1024}, slack = {2 * 1024, 32 * 1024};

#ifdef __SANITIZE_ADDRESS__
/* What it keeps of freed memory, by default up to 256 MiB, would look like growth. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);

const char *__asan_default_options(void) {
    return "quarantine_size_mb=8:thread_local_quarantine_size_kb=64";
}
#endif

static long long resident_pages(void) {
    long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lld %lld", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident;
}

static usage usage_now(void) {
    size_t free_now, total;
    CUDA_OK(cudaMemGetInfo(&free_now, &total));
    return (usage){(long long)(total - free_now) / 1024, resident_pages() * (sysconf(_SC_PAGESIZE) / 1024)};
}

static bool has_grown(usage from, usage to, usage most) {
    return to.device - from.device > most.device || to.host - from.host > most.host;
}

static void check_too_large(const det_model *model) {
    det_context_options options = cuda_options(256, DET_FP32);
    options.width = options.height = 8192;
    det_context *none;
    EXPECT(det_context_create(model, &options, &none), DET_ERROR_OUT_OF_MEMORY, "bytes");
    CHECK(none == NULL);
}

static void test_out_of_memory(const det_model *model) {
    static results before, r;
    det_image picture = random_picture(66, 66, DET_RGB8, 0);
    det_context *context = cuda_context(model, 1, DET_FP16, 0);
    run(context, &picture, 1, &before);
    CHECK(before.counts[0] > 0);
    usage first = usage_now();
    check_too_large(model);
    usage second = usage_now();
    check_too_large(model);
    usage third = usage_now();
    CHECK_MSG(!has_grown(first, second, slack_at_first) && third.device <= second.device,
              "KiB of the device in use: %lld, %lld, %lld", first.device, second.device, third.device);
    run(context, &picture, 1, &r);
    CHECK(same_objects(&before, 0, &r, 0));
    det_context *smaller = cuda_context(model, 1, DET_FP16, 0);
    run(smaller, &picture, 1, &r);
    CHECK(same_objects(&before, 0, &r, 0));
    det_context_destroy(smaller);
    det_context_destroy(context);
    free_picture(&picture);
}

/* Everything is given back, what contexts share among it: none is left between two of them. */
static void test_cycles(const det_model *model) {
    enum { N = 12 };
    static results r;
    det_image picture = random_picture(66, 66, DET_RGB8, 0);
    usage first = {0}, middle = {0};
    for (int i = 0; i < N; i++) {
        det_context *context = cuda_context(model, 1, i % 2 ? DET_FP16 : DET_FP32, 0);
        run(context, &picture, 1, &r);
        det_context_destroy(context);
        if (i == 1)
            first = usage_now();
        if (i == N / 2 - 1)
            middle = usage_now();
    }
    usage end = usage_now();
    CHECK_MSG(!has_grown(first, end, slack_at_first) && !has_grown(middle, end, slack),
              "KiB in use: device %lld, %lld, %lld, host %lld, %lld, %lld", first.device, middle.device, end.device,
              first.host, middle.host, end.host);
    free_picture(&picture);
}

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* For so many cycles or so long, whichever ends first. One context stays, so that what cuDNN has compiled does. */
static void soak(const det_model *model, double n_cycles, double seconds) {
    static results r, expected;
    det_image picture = random_picture(66, 66, DET_RGB8, 0);
    det_context *anchor = cuda_context(model, 1, DET_FP16, 0);
    run(anchor, &picture, 1, &expected);
    double begin = seconds_now(), passed = 0;
    usage warm = {0};
    int n = 0, n_wrong = 0;
    for (bool is_warm = false; n < n_cycles && passed < seconds; passed = seconds_now() - begin) {
        det_context *context = cuda_context(model, 1, DET_FP16, 0);
        run(context, &picture, 1, &r);
        n_wrong += !same_objects(&expected, 0, &r, 0);
        det_context_destroy(context);
        n++;
        if (!is_warm && (n >= n_cycles / 4 || passed >= seconds / 4)) {
            is_warm = true;
            warm = usage_now();
        }
    }
    usage end = usage_now();
    printf("cycles: %d contexts made and destroyed in %.1f s, device memory %lld KiB more, host memory %lld KiB more\n",
           n, passed, end.device - warm.device, end.host - warm.host);
    CHECK(n > 1 && n_wrong == 0 && expected.counts[0] > 0);
    CHECK(!has_grown(warm, end, slack));
    det_context_destroy(anchor);
    free_picture(&picture);
}

/* --------------------------------------------------------------------------------------------------------- devices */

static void uuid_of(int device, char uuid[48], char *name) {
    struct cudaDeviceProp properties;
    CUDA_OK(cudaGetDeviceProperties(&properties, device));
    int n = sprintf(uuid, "GPU-");
    for (int i = 0; i < 16; i++)
        n += sprintf(uuid + n, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
                     (unsigned char)properties.uuid.bytes[i]);
    strcpy(name, properties.name);
}

/* By UUID, which counts more than the index, and by index. */
static void check_device(const det_model *model, int device, const det_image *picture, const results *expected) {
    static results r;
    char uuid[48], name[256];
    uuid_of(device, uuid, name);
    for (int by_index = 0; by_index < 2; by_index++) {
        det_context_options options = cuda_options(1, DET_FP16);
        options.device_uuid = by_index ? NULL : uuid;
        options.device_index = by_index ? device : 99;
        det_context *context = create(model, &options);
        det_context_info info = {.struct_size = sizeof info};
        OK(det_context_get_info(context, &info));
        CHECK_MSG(info.device == DET_DEVICE_CUDA && info.device_index == device && info.precision == DET_FP16 &&
                      !strcmp(info.device_name, name) && info.weights_bytes > 0 && info.arena_bytes > 0,
                  "%s is device %d, not %d", uuid, info.device_index, device);
        run(context, picture, 1, &r);
        CHECK_MSG(expected->counts[0] > 0 && same_objects(expected, 0, &r, 0), "device %d gives other bytes", device);
        det_context_destroy(context);
    }
}

static void test_devices(const det_model *model) {
    static results expected;
    int n_devices = 0;
    CUDA_OK(cudaGetDeviceCount(&n_devices));
    det_image picture = random_picture(66, 66, DET_RGB8, 0);
    det_context *context = cuda_context(model, 1, DET_FP16, 0);
    run(context, &picture, 1, &expected);
    for (int i = 0; i < n_devices; i++)
        check_device(model, i, &picture, &expected);
    printf("  devices 0 to %d\n", n_devices - 1);
    det_context_destroy(context);
    det_context_options options = cuda_options(1, DET_FP16);
    options.device_index = 99;
    EXPECT(det_context_create(model, &options, &context), DET_ERROR_NO_DEVICE, "device_index is 99");
    options.device_uuid = "GPU-00000000-0000-0000-0000-00000000beef";
    EXPECT(det_context_create(model, &options, &context), DET_ERROR_NO_DEVICE, "beef");
    free_picture(&picture);
}

/* ----------------------------------------------------------------------------------------------------------- tests */

/* The most valuable first: a run on a device may be cut off. */
static const struct {
    const char *name;
    void (*run)(const det_model *model);
} tests[] = {
    {"repeats_fp16", test_repeats_fp16},
    {"trace", test_trace},
    {"capture", test_capture},
    {"streams", test_streams},
    {"device_memory", test_device_memory},
    {"out_of_memory", test_out_of_memory},
    {"profile", test_profile},
    {"repeats_fp32", test_repeats_fp32},
    {"beside", test_beside},
    {"devices", test_devices},
    {"flags", test_flags},
    {"large_picture", test_large_picture},
    {"threads", test_threads},
    {"beside_cpu", test_beside_cpu},
    {"cycles", test_cycles},
};

static int find_devices(void) {
    int n_devices = 0;
    return cudaGetDeviceCount(&n_devices) == cudaSuccess && n_devices > 0 ? 0 : CHECK_SKIP;
}

/* In a process of its own, which alone touches CUDA: what breaks the device or hangs in one test does not in the next. -1: a
 * look for devices. */
static int run_apart(const det_model *model, int test) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0 && test < 0)
        exit(find_devices());
    if (child == 0) {
        alarm(GPU_TEST_SECONDS);
        test_name = tests[test].name;
        tests[test].run(model);
        exit(check_report(test_name));
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 1;
    if (WIFSIGNALED(status))
        printf("%s: ended by signal %d (%s)\n", test < 0 ? "devices" : tests[test].name, WTERMSIG(status),
               strsignal(WTERMSIG(status)));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int run_tests(const det_model *model, const char *only) {
    int n = 0, n_failed = 0, n_skipped = 0;
    for (int i = 0; i < COUNT(tests); i++) {
        if (only && strcmp(only, tests[i].name) != 0)
            continue;
        int status = run_apart(model, i);
        n++;
        n_skipped += status == CHECK_SKIP;
        n_failed += status != 0 && status != CHECK_SKIP;
    }
    printf("gpu: %d tests, %d failed, %d skipped\n", n, n_failed, n_skipped);
    return n_failed > 0 || n == n_skipped;
}

int main(int argc, char **argv) {
    const char *only = argc == 3 && !strcmp(argv[1], "--only") ? argv[2] : NULL;
    double seconds = argc == 3 && !strcmp(argv[1], "--cycles") ? atof(argv[2]) : 0;
    double n_cycles = argc == 2 ? atof(argv[1]) : 0;
    REQUIRE(argc == 1 || only || seconds > 0 || n_cycles > 0,
            "usage: gpu_test [--only TEST] | N_CYCLES | --cycles SECONDS");
    det_model *model = open_made(make_model_name(0));
    int status = run_apart(model, -1);
    if (status == CHECK_SKIP)
        printf("SKIP: there is no CUDA device\n");
    if (status == 0 && (seconds > 0 || n_cycles > 0)) {
        soak(model, n_cycles > 0 ? n_cycles : HUGE_VAL, seconds > 0 ? seconds : HUGE_VAL);
        status = check_failures > 0;
    } else if (status == 0) {
        status = run_tests(model, only);
    }
    det_model_close(model);
    return status;
}
