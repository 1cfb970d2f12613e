/* Every call of the CUDA runtime, cuDNN and cublasLt that can fail does, in turn, on the fake device of tests/emulation: in
 * what makes contexts, runs them, times them, pools them and destroys them. Pieces of work that fail on the device, too.
 *
 * Each time the failure is the status of its kind with one line that names the call, or the results are right all the same.
 * Nothing stays behind, on the device or on the host, and nothing is on its way. The same context then runs as ever, unless
 * the error is one that the device does not recover from: then every later call of the context says so.
 *
 * Functions are found by counting, not by a list. Those that are called often fail at some of their calls only, with the
 * codes in turn; DET_FAULTS=all tries every call with every code. The context is on device 1 and the thread on device 0,
 * so that what changes devices fails, too.
 *
 * device_faults_test [making|running|ACT]: what makes contexts alone, or what runs them, or one act. */
#include "api.h"
#include "child.h"
#include "fake_cuda.h"

#include <cublasLt.h>
#include <cudnn.h>
#include <math.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { DEVICE = 1, BATCH = 2, SIDE = 32, MAX_CALLS = 64, MOST_FAILURES = 5 };

/* Calls that fail with every code where there are no more, and whether some between the first and the last do. */
#ifdef DET_SANITIZE /* which takes four times as long */
enum { FEW = 1, BETWEEN = 0 };
#else
enum { FEW = 2, BETWEEN = 1 };
#endif

#define CUDA_OK(call) REQUIRE((call) == cudaSuccess, "%s", cudaGetErrorName(cudaGetLastError()))

/* ---------------------------------------------------------------------------------------------------------- faults */

typedef struct code {
    int value;
    det_status status;
    bool lasts; /* the device does not recover from it */
} code;

static const code runtime_codes[] = {{cudaErrorMemoryAllocation, DET_ERROR_OUT_OF_MEMORY, false},
                                     {cudaErrorInvalidValue, DET_ERROR_DEVICE, false},
                                     {cudaErrorIllegalAddress, DET_ERROR_DEVICE, true},
                                     {cudaErrorNotSupported, DET_ERROR_DEVICE, false},
                                     {cudaErrorNoDevice, DET_ERROR_NO_DEVICE, false},
                                     {cudaErrorLaunchFailure, DET_ERROR_DEVICE, true}};
static const code cudnn_codes[] = {{CUDNN_STATUS_NOT_SUPPORTED, DET_ERROR_DEVICE, false},
                                   {CUDNN_STATUS_ALLOC_FAILED, DET_ERROR_OUT_OF_MEMORY, false},
                                   {CUDNN_STATUS_EXECUTION_FAILED, DET_ERROR_DEVICE, false},
                                   {CUDNN_STATUS_INTERNAL_ERROR, DET_ERROR_DEVICE, false}};
static const code cublas_codes[] = {{CUBLAS_STATUS_ALLOC_FAILED, DET_ERROR_OUT_OF_MEMORY, false},
                                    {CUBLAS_STATUS_NOT_SUPPORTED, DET_ERROR_DEVICE, false},
                                    {CUBLAS_STATUS_EXECUTION_FAILED, DET_ERROR_DEVICE, false}};
static const code work_codes[] = {{cudaErrorIllegalAddress, DET_ERROR_DEVICE, true},
                                  {cudaErrorLaunchFailure, DET_ERROR_DEVICE, true}};

static const char WORK[] = "work on the device"; /* a piece of it, in place of a function */

/* Call number `at` of `function` answers `code`. */
typedef struct fault {
    const char *function;
    long at;
    const code *code;
} fault;

static const code *codes_of(const char *function, int *n) {
    if (function == WORK)
        return *n = COUNT(work_codes), work_codes;
    if (!strncmp(function, "cudnn", 5))
        return *n = COUNT(cudnn_codes), cudnn_codes;
    if (!strncmp(function, "cublas", 6))
        return *n = COUNT(cublas_codes), cublas_codes;
    return *n = COUNT(runtime_codes), runtime_codes;
}

/* What an act calls when nothing fails. */
typedef struct calls {
    char function[48]; /* "": pieces of work on the device */
    long n;
} calls;

static const fault *armed;
static atomic_bool told; /* a log line named the armed call */
static bool counting;
static calls counted[MAX_CALLS];
static int n_counted;

/* From here on calls fail by plan, or are counted. Acts that begin with calls of their own do it again behind those. */
static void begin_watch(void) {
    if (armed && armed->function != WORK)
        fake_cuda_fail(armed->function, armed->at, armed->code->value);
    if (counting)
        fake_cuda_reset();
}

/* Calls from here on are the test's. Work goes on failing. */
static void end_watch(void) {
    if (armed && !fake_cuda_failed())
        fake_cuda_fail(NULL, 0, 0);
    for (; counting && fake_cuda_function(n_counted); n_counted++) {
        REQUIRE(n_counted < MAX_CALLS - 1, "more functions than MAX_CALLS");
        calls *c = &counted[n_counted];
        snprintf(c->function, sizeof c->function, "%s", fake_cuda_function(n_counted));
        c->n = (long)fake_cuda_calls(c->function);
    }
    counting = false;
}

static void arm(const fault *f) {
    armed = f;
    atomic_store(&told, false);
    if (f->function == WORK)
        fake_cuda_fail_work(f->at, (cudaError_t)f->code->value);
    begin_watch();
}

static bool disarm(void) {
    bool fired =
        armed->function == WORK ? cudaPeekAtLastError() == (cudaError_t)armed->code->value : fake_cuda_failed();
    fake_cuda_fail_work(0, cudaSuccess);
    end_watch();
    armed = NULL;
    return fired;
}

/* Kernels are launched by launchers of ours; once the device is broken, the next call may be the one that says so. */
static bool names(const char *message, const fault *f) {
    if (f->code->lasts)
        return strstr(message, cudaGetErrorName((cudaError_t)f->code->value)) || strstr(message, "EXECUTION_FAILED");
    return strstr(message, strcmp(f->function, "cudaLaunchKernel") ? f->function : "det_launch_");
}

static void listen(void *user, int level, const char *message) {
    (void)user;
    (void)level;
    if (armed && names(message, armed))
        atomic_store(&told, true);
}

/* ----------------------------------------------------------------------------------------------- what must not leak */

static atomic_long n_blocks;

static void *allocate(void *user, size_t n_bytes, size_t alignment) {
    (void)user;
    atomic_fetch_add(&n_blocks, 1);
    return aligned_alloc(alignment, n_bytes);
}

static void release(void *user, void *memory) {
    (void)user;
    atomic_fetch_sub(&n_blocks, 1);
    free(memory);
}

typedef struct holdings {
    fake_cuda_state device;
    long host;
} holdings;

static holdings now_held(void) {
    return (holdings){fake_cuda_now(), atomic_load(&n_blocks)};
}

/* What is held that was not, or the other way round; NULL when it is the same and nothing is on its way. */
static const char *changed(const holdings *before) {
    holdings now = now_held();
    const fake_cuda_state *a = &before->device, *b = &now.device;
    return a->device_allocations != b->device_allocations || a->device_bytes != b->device_bytes ? "device memory"
           : a->host_allocations != b->host_allocations                                         ? "pinned memory"
           : a->streams != b->streams                                                           ? "streams"
           : a->events != b->events                                                             ? "events"
           : a->graphs != b->graphs || a->graph_execs != b->graph_execs                         ? "graphs"
           : a->cudnn_handles != b->cudnn_handles || a->cublas_handles != b->cublas_handles     ? "handles"
           : a->cudnn_descriptors != b->cudnn_descriptors                                       ? "cuDNN descriptors"
           : a->cublas_descriptors != b->cublas_descriptors                                     ? "cublasLt descriptors"
           : b->pending                                                                         ? "queued work"
           : before->host != now.host                                                           ? "host memory"
                                                                                                : NULL;
}

/* ------------------------------------------------------------------------------------------------------------ rigs */

typedef struct setting {
    const char *model;
    int32_t precision;
    uint32_t flags;
} setting;

/* A model with what its runs need; the context is made when an act needs one. */
typedef struct rig {
    const setting *setting;
    det_model *model;
    det_context *context;
    cudaStream_t stream; /* the caller's */
    det_image host[BATCH], device[BATCH], large[BATCH];
    det_output on_device;
    results expected, expected_large, got;
    uint64_t choices;   /* of the context that gave the expected results */
    char message[1024]; /* of an act that failed */
} rig;

static det_context_options options_of(const setting *s) {
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CUDA;
    options.device_index = DEVICE;
    options.max_batch = BATCH;
    options.width = options.height = SIDE;
    options.precision = s->precision;
    options.n_threads = 2; /* compile, while a context is made */
    options.flags = s->flags;
    options.max_candidates = MAX_OBJECTS;
    options.max_image_bytes = 1 << 14;
    return options;
}

static det_status make_context(rig *r) {
    det_context_options options = options_of(r->setting);
    return det_context_create(r->model, &options, &r->context);
}

static void drop_context(rig *r) {
    det_context_destroy(r->context);
    r->context = NULL;
}

static void *device_memory(size_t n_bytes) {
    void *memory;
    CUDA_OK(cudaMalloc(&memory, n_bytes));
    return memory;
}

static det_image on_device(const det_image *image) {
    det_image copy = *image;
    copy.memory = DET_MEMORY_DEVICE;
    for (int i = 0; i < 2 && image->planes[i]; i++) {
        size_t n_bytes = (size_t)image->strides[i] * (size_t)(i ? (image->height + 1) / 2 : image->height);
        copy.planes[i] = device_memory(n_bytes);
        fake_cuda_poke((void *)(uintptr_t)copy.planes[i], image->planes[i], n_bytes);
    }
    return copy;
}

/* Which implementations the layers have: a fault may leave a layer with another, which rounds otherwise. */
static uint64_t choices_of(det_context *context) {
    det_profile profile = {.struct_size = sizeof profile};
    uint64_t hash = 0;
    OK(det_context_get_profile(context, &profile));
    for (int i = 0; i < profile.n_layers; i++) {
        for (const char *c = profile.layers[i].impl; *c; c++)
            hash = hash * 31 + (uint64_t)*c;
    }
    return hash;
}

static void open_rig(rig *r, const setting *s) {
    memset(r, 0, sizeof *r);
    r->setting = s;
    r->model = open_made(s->model);
    r->host[0] = random_picture(40, 30, DET_RGB8, 0);
    r->host[1] = random_picture(33, 50, DET_NV12, 2);
    for (int i = 0; i < BATCH; i++)
        r->large[i] = random_picture(80, 90, DET_RGBA8, 0);
    CUDA_OK(cudaSetDevice(DEVICE));
    CUDA_OK(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking));
    for (int i = 0; i < BATCH; i++)
        r->device[i] = on_device(&r->host[i]);
    r->on_device = (det_output){.struct_size = sizeof(det_output),
                                .objects = device_memory(sizeof r->got.objects),
                                .counts = device_memory(sizeof r->got.counts),
                                .max_objects = MAX_OBJECTS,
                                .memory = DET_MEMORY_DEVICE,
                                .cuts = device_memory(sizeof r->got.cuts)};
    CUDA_OK(cudaSetDevice(0));
    REQUIRE(make_context(r) == DET_OK, "%s", det_last_error());
    run(r->context, r->host, BATCH, &r->expected);
    run(r->context, r->large, BATCH, &r->expected_large);
    r->choices = choices_of(r->context);
    drop_context(r);
    REQUIRE(r->expected.counts[0] > 0 && r->expected.counts[1] > 0, "%s finds nothing", s->model);
}

static bool near(const det_object *a, const det_object *b) {
    return a->class_id == b->class_id && fabsf(a->score - b->score) < 0.02f && fabsf(a->x1 - b->x1) < 0.5f &&
           fabsf(a->y1 - b->y1) < 0.5f && fabsf(a->x2 - b->x2) < 0.5f && fabsf(a->y2 - b->y2) < 0.5f;
}

/* Each of a's objects but a few, which may be at a threshold, has its like in b. */
static bool is_within(const results *a, const results *b, int picture) {
    int n_alone = 0;
    for (int i = 0; i < a->counts[picture]; i++) {
        bool found = false;
        for (int j = 0; j < b->counts[picture] && !found; j++)
            found = near(&a->objects[picture][i], &b->objects[picture][j]);
        n_alone += !found;
    }
    return n_alone <= a->counts[picture] / 10;
}

static bool is_like(const results *a, const results *b) {
    return is_within(a, b, 0) && is_within(b, a, 0) && is_within(a, b, 1) && is_within(b, a, 1);
}

static bool as_expected(const results *got, const results *expected) {
    return same_objects(got, 0, expected, 0) && same_objects(got, 1, expected, 1);
}

/* ------------------------------------------------------------------------------------------------------------ acts
 *
 * Each does one thing with the rig's context while a fault is armed; DET_OK with its results in r->got. */

static void fetch(rig *r) {
    fake_cuda_peek(r->got.objects, r->on_device.objects, sizeof r->got.objects);
    fake_cuda_peek(r->got.counts, r->on_device.counts, sizeof r->got.counts);
    fake_cuda_peek(r->got.cuts, r->on_device.cuts, sizeof r->got.cuts);
}

static det_status run_host(rig *r) {
    det_output output = output_to(&r->got);
    return det_run(r->context, r->host, BATCH, &output);
}

/* Other thresholds in between must leave no trace. */
static det_status act_thresholds(rig *r) {
    det_thresholds thresholds;
    det_thresholds_init(&thresholds);
    thresholds.score = 0.9f;
    det_status status = det_context_set_thresholds(r->context, &thresholds);
    if (status == DET_OK)
        status = run_host(r);
    det_status back = det_context_set_thresholds(r->context, NULL);
    return status != DET_OK ? status : back != DET_OK ? back : run_host(r);
}

static det_status act_device_memory(rig *r) {
    det_status status = det_run(r->context, r->device, BATCH, &r->on_device);
    if (status == DET_OK)
        fetch(r);
    return status;
}

/* The caller waits for his stream, which tells him of work that failed. */
static det_status await(rig *r) {
    end_watch();
    cudaError_t error = cudaStreamSynchronize(r->stream);
    snprintf(r->message, sizeof r->message, "%s", cudaGetErrorName(error));
    return error == cudaSuccess ? DET_OK : DET_ERROR_DEVICE;
}

static det_status act_stream(rig *r) {
    det_output output = output_to(&r->got);
    det_status status = det_run_async(r->context, r->host, BATCH, &output, r->stream);
    return status == DET_OK ? await(r) : status;
}

/* The runs before the one that failed, which are on their way. */
static void await_others(void) {
    end_watch();
    (void)cudaSetDevice(DEVICE);
    (void)cudaDeviceSynchronize();
    (void)cudaSetDevice(0);
}

/* Behind a run on the context's own stream, which it has to wait for. */
static det_status act_stream_device_memory(rig *r) {
    det_status status = det_run_async(r->context, r->device, BATCH, &r->on_device, NULL);
    if (status == DET_OK)
        status = det_run_async(r->context, r->device, BATCH, &r->on_device, r->stream);
    if (status != DET_OK)
        await_others();
    else
        status = await(r);
    fetch(r);
    return status;
}

/* Five runs on their way: the last waits for the first. */
static det_status act_queue(rig *r) {
    det_output output = output_to(&r->got);
    det_status status = DET_OK;
    for (int i = 0; i < 5 && status == DET_OK; i++)
        status = det_run_async(r->context, r->host, BATCH, &output, r->stream);
    if (status == DET_OK)
        return await(r);
    await_others();
    return status;
}

/* Pictures larger than there is room for. */
static det_status act_large(rig *r) {
    det_output output = output_to(&r->got);
    det_status status = run_host(r);
    return status == DET_OK ? det_run(r->context, r->large, BATCH, &output) : status;
}

static det_status capture(rig *r) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec;
    CUDA_OK(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal));
    begin_watch();
    det_status status = det_run_async(r->context, r->device, BATCH, &r->on_device, r->stream);
    end_watch();
    cudaError_t ended = cudaStreamEndCapture(r->stream, &graph);
    (void)cudaGetLastError();
    if (status == DET_OK && ended == cudaSuccess) {
        CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
        CUDA_OK(cudaGraphLaunch(exec, r->stream));
        status = await(r);
        fetch(r);
        (void)cudaGraphExecDestroy(exec);
    }
    if (graph)
        (void)cudaGraphDestroy(graph);
    return status == DET_OK && ended != cudaSuccess ? DET_ERROR_INTERNAL : status;
}

static det_status act_profile(rig *r) {
    det_profile profile = {.struct_size = sizeof profile};
    det_status status = run_host(r);
    if (status == DET_OK)
        status = det_context_get_profile(r->context, &profile);
    return status == DET_OK && !(profile.total_ms > 0) ? DET_ERROR_INTERNAL : status;
}

static det_status act_create(rig *r) {
    return make_context(r);
}

/* Beside another context of the model, whose weights the two share. */
static det_status act_create_second(rig *r) {
    det_context *first = r->context;
    det_status status = make_context(r);
    if (status == DET_OK)
        det_context_destroy(r->context);
    r->context = first;
    return status;
}

/* A run is still on its way. */
static det_status act_destroy(rig *r) {
    drop_context(r);
    return DET_OK;
}

static void keep_answer(rig *r, const det_answer *answer, int i) {
    r->got.counts[i] = answer->n_objects;
    r->got.cuts[i] = answer->cuts;
    if (answer->status != DET_OK)
        snprintf(r->message, sizeof r->message, "%s", answer->message);
}

/* A device that has failed is out of service, and the pool with it: what it failed with is in the message. */
static det_status use_pool(rig *r, det_pool *pool) {
    det_status result = DET_OK;
    uint64_t tickets[BATCH];
    for (int i = 0; i < BATCH && result == DET_OK; i++) {
        det_request request;
        det_request_init(&request);
        request.objects = r->got.objects[i];
        request.max_objects = MAX_OBJECTS;
        request.pixels = DET_PIXELS_COPIED;
        result = det_pool_submit(pool, &r->host[i], &request, NULL, NULL, &tickets[i]);
        det_answer answer = {.struct_size = sizeof answer};
        if (result == DET_OK)
            result = det_pool_wait(pool, tickets[i], -1, &answer);
        keep_answer(r, &answer, i);
    }
    return result;
}

static det_status act_pool(rig *r) {
    det_context_options context = options_of(r->setting);
    det_pool_device device = {.options = &context, .n_contexts = 1};
    det_pool_options options;
    det_pool_options_init(&options);
    options.devices = &device;
    options.n_devices = 1;
    options.staging_bytes = 1 << 16;
    det_pool *pool;
    det_status status = det_pool_create(r->model, &options, &pool);
    if (status == DET_OK)
        status = use_pool(r, pool);
    det_pool_destroy(pool);
    return status;
}

typedef struct act {
    const char *name;
    det_status (*run)(rig *r);
    bool makes;  /* begins without a context */
    bool spends; /* the context is not used again */
    bool large;  /* the results are those of the large pictures */
    bool blind;  /* there are no results */
    bool ends;   /* it destroys a context, too, and that has no status */
} act;

static const act creates = {.name = "create", .run = act_create, .makes = true, .blind = true},
                 creates_second = {.name = "create beside another",
                                   .run = act_create_second,
                                   .blind = true,
                                   .ends = true},
                 runs = {.name = "run", .run = run_host},
                 thresholds = {.name = "run with thresholds", .run = act_thresholds},
                 runs_in_device_memory = {.name = "run in device memory", .run = act_device_memory},
                 runs_in_stream = {.name = "run in the caller's stream", .run = act_stream},
                 runs_in_both = {.name = "run in device memory in two streams", .run = act_stream_device_memory},
                 queues = {.name = "five runs at once", .run = act_queue},
                 grows = {.name = "run of large pictures", .run = act_large, .spends = true, .large = true},
                 captures = {.name = "capture", .run = capture, .spends = true},
                 profiles = {.name = "profile", .run = act_profile},
                 destroys = {.name = "destroy", .run = act_destroy, .spends = true, .blind = true, .ends = true},
                 pools = {.name = "pool", .run = act_pool, .makes = true, .ends = true};

/* --------------------------------------------------------------------------------------------------------- judging */

/* What a thread does to visit a device. Behind it something may be given back, which has no status. */
static bool is_of_a_visit(const char *function) {
    return !strcmp(function, "cudaGetDevice") || !strcmp(function, "cudaSetDevice") ||
           !strcmp(function, "cuCtxPushCurrent") || !strcmp(function, "cuCtxPopCurrent") ||
           !strcmp(function, "cudaThreadExchangeStreamCaptureMode");
}

static bool gives_back(const char *function) {
    return strstr(function, "Destroy") || strstr(function, "Free");
}

/* Runs that fail wait for what they had enqueued: the caller may do with his memory what he likes. */
static void scribble(rig *r) {
    memset(&r->got, 0xee, sizeof r->got);
}

static const char *judge_success(const rig *r, const act *a, const fault *f) {
    /* one of a pool's contexts may have been left with another engine, of which the log tells */
    bool right = a->blind || as_expected(&r->got, a->large ? &r->expected_large : &r->expected);
    if (!right && !(a == &pools && atomic_load(&told) && is_like(&r->got, &r->expected)))
        return "success, but the results are others";
    if (!f->code->lasts && !atomic_load(&told) && !gives_back(f->function) && !is_of_a_visit(f->function) && !a->ends)
        return "success, and no word of the failure in the log";
    return NULL;
}

static const char *judge_failure(rig *r, const act *a, const fault *f, det_status status) {
    const char *message = r->message[0] ? r->message : det_last_error();
    bool pool_is_out = a == &pools && status == DET_ERROR_NO_DEVICE && f->code->status == DET_ERROR_DEVICE;
    if (status != f->code->status && !pool_is_out)
        return det_status_name(status);
    if (!is_line(message))
        return "no line that says why";
    if (!names(message, f))
        return "the message does not name the call";
    return NULL;
}

/* On a device that does not recover nothing succeeds. */
static const char *judge_broken(rig *r) {
    det_profile profile = {.struct_size = sizeof profile};
    if (run_host(r) != DET_ERROR_DEVICE)
        return "a run succeeds on a broken device";
    if (det_context_get_profile(r->context, &profile) != DET_ERROR_DEVICE)
        return "a profile of a broken device";
    if (run_host(r) != DET_ERROR_DEVICE || !is_line(det_last_error()))
        return "a second run succeeds on a broken device";
    return NULL;
}

static const char *judge_alive(rig *r, const act *a, const fault *f) {
    bool no_way_back = !strcmp(f->function, "cuCtxPopCurrent");
    int device = -1;
    if (cudaPeekAtLastError() != cudaSuccess)
        return "an error is left for the caller's next question";
    if (cudaGetDevice(&device) != cudaSuccess || (device != 0 && !no_way_back))
        return "the thread's device was changed";
    if (!r->context)
        return NULL;
    if (a == &captures && capture(r) != DET_OK && !strstr(det_last_error(), "captured before"))
        return "no second capture";
    if (run_host(r) != DET_OK)
        return "the context does not run as before";
    bool as_before = choices_of(r->context) == r->choices;
    if (as_before ? !as_expected(&r->got, &r->expected) : !is_like(&r->got, &r->expected))
        return "the results are not those from before";
    return NULL;
}

/* The act under the fault; what is wrong with how it went, or NULL. `before`: what was held without a context, and is for
 * the next fault what is held now, so that a leak is told once. */
static const char *judge(rig *r, const act *a, const fault *f, holdings *before) {
    if (!a->makes && !r->context)
        REQUIRE(make_context(r) == DET_OK, "%s", det_last_error());
    det_output output = output_to(&r->got);
    if (a == &destroys)
        OK(det_run_async(r->context, r->host, BATCH, &output, NULL));
    holdings with_context = now_held();
    r->message[0] = '\0';
    scribble(r);
    arm(f);
    det_status status = a->run(r);
    bool fired = disarm();
    const char *wrong = NULL;
    bool varies = a == &pools || r->setting->flags & DET_CONTEXT_TUNE; /* by threads and by clocks */
    if (!fired && (!varies || status != DET_OK))
        wrong = "the call did not come";
    if (fired)
        wrong = status == DET_OK ? judge_success(r, a, f) : judge_failure(r, a, f, status);
    if (!wrong && status != DET_OK && a->makes && r->context)
        wrong = "a context was handed out with the failure";
    if (!wrong && status != DET_OK && !f->code->lasts && fake_cuda_now().pending)
        wrong = "work was left on its way";
    if (!wrong && !a->spends && !a->makes && !f->code->lasts && changed(&with_context))
        wrong = changed(&with_context);
    if (!wrong && fired && f->code->lasts && r->context)
        wrong = judge_broken(r);
    if (!wrong && !(fired && f->code->lasts))
        wrong = judge_alive(r, a, f);
    if (r->context && (wrong || a->spends || a->makes || f->code->lasts))
        drop_context(r);
    if (!r->context) {
        wrong = wrong ? wrong : changed(before);
        *before = now_held();
    }
    if (f->code->lasts)
        fake_cuda_reset();
    (void)cudaSetDevice(0);
    return wrong;
}

/* ------------------------------------------------------------------------------------------------------- campaigns */

static void count_calls(rig *r, const act *a) {
    det_output output = output_to(&r->got);
    if (!a->makes)
        REQUIRE(make_context(r) == DET_OK, "%s", det_last_error());
    if (a == &destroys)
        OK(det_run_async(r->context, r->host, BATCH, &output, NULL));
    counting = true;
    begin_watch();
    REQUIRE(a->run(r) == DET_OK, "%s: %s", a->name, det_last_error());
    end_watch();
    counted[n_counted++] = (calls){.n = (long)fake_cuda_now().work};
    drop_context(r);
}

/* Written by the child, read when that has crashed. */
typedef struct progress {
    char trying[256];
    int n_tried;
} progress;

static progress *shared;
static bool all_of_them;

static bool try_fault(rig *r, const act *a, const fault *f, holdings *before) {
    snprintf(shared->trying, sizeof shared->trying, "call %ld of %.40s answers %d", f->at, f->function, f->code->value);
    shared->n_tried++;
    const char *wrong = judge(r, a, f, before);
    if (wrong)
        fprintf(stderr, "%s %s: %s: %s; the message is: %s\n", r->setting->model, a->name, shared->trying, wrong,
                r->message[0] ? r->message : det_last_error());
    return !wrong;
}

/* The next call to try after call `at` of n: the first few, then some on the way to the last. */
static long next_call(long at, long n, int n_between) {
    if (all_of_them || at < FEW || at == n)
        return at + 1;
    long step = 1 + (n - FEW) / (n_between + 1);
    return at + step < n ? at + step : n;
}

static int try_function(rig *r, const act *a, const calls *c, int n_between, holdings *before) {
    const char *function = c->function[0] ? c->function : WORK;
    int n_codes, n_wrong = 0, turn = 0;
    const code *codes = codes_of(function, &n_codes);
    bool each_code = all_of_them || c->n <= FEW;
    for (long at = 1; at <= c->n; at = next_call(at, c->n, n_between), turn++) {
        for (int i = 0; i < (each_code ? n_codes : 1) && n_wrong < MOST_FAILURES; i++) {
            fault f = {function, at, &codes[each_code ? i : turn % n_codes]};
            n_wrong += !try_fault(r, a, &f, before);
        }
    }
    return n_wrong;
}

typedef struct row {
    const setting *setting;
    const act *act;
    int n_between; /* calls to try between the first and the last */
} row;

/* In a child. */
static int try_row(const void *what) {
    const row *w = what;
    static rig r;
    open_rig(&r, w->setting);
    holdings before = now_held();
    int n_wrong = 0;
    count_calls(&r, w->act);
    REQUIRE(!changed(&before), "%s without any fault: %s", w->act->name, changed(&before));
    for (int i = 0; i < n_counted; i++)
        n_wrong += try_function(&r, w->act, &counted[i], BETWEEN * w->n_between, &before);
    if (r.context)
        drop_context(&r);
    const char *left = changed(&before);
    if (left)
        fprintf(stderr, "%s %s: lost in the end: %s\n", w->setting->model, w->act->name, left);
    return n_wrong > 0 || left;
}

static const setting graph_f16 = {"yolov5-least", DET_FP16, 0},
                     plain_f32 = {"damofd-0.5g", DET_FP32, DET_CONTEXT_NO_GRAPH},
                     graph_f32 = {"damofd-0.5g", DET_FP32, 0},
                     plain_f16 = {"yolov5-least", DET_FP16, DET_CONTEXT_NO_GRAPH},
                     tuned_f32 = {"yolov5-least", DET_FP32, DET_CONTEXT_TUNE | DET_CONTEXT_PROFILE_LAYERS};

static const row rows[] = {
    {&graph_f16, &creates, 1},        {&plain_f32, &creates, 0},
    {&tuned_f32, &creates, 0},        {&graph_f16, &creates_second, 0},
    {&graph_f16, &runs, 1},           {&plain_f32, &runs, 1},
    {&graph_f32, &thresholds, 0},     {&graph_f16, &runs_in_device_memory, 0},
    {&graph_f32, &runs_in_stream, 1}, {&plain_f16, &runs_in_stream, 1},
    {&graph_f16, &runs_in_both, 0},   {&graph_f16, &queues, 1},
    {&graph_f16, &grows, 0},          {&graph_f16, &captures, 1},
    {&tuned_f32, &profiles, 0},       {&graph_f16, &profiles, 0},
    {&graph_f16, &destroys, 1},       {&graph_f16, &pools, 0},
};

static bool is_wanted(const act *a, const char *which) {
    bool making = a->makes || a == &creates_second;
    return !which || !strcmp(which, a->name) || !strcmp(which, making ? "making" : "running");
}

int main(int argc, char **argv) {
    const char *which = getenv("DET_FAULTS");
    const det_allocator allocator = {.struct_size = sizeof allocator, .allocate = allocate, .release = release};
    all_of_them = which && !strcmp(which, "all");
    setenv("DET_FAKE_CUDA_DEVICES", "2", 1);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED, "no memory");
    OK(det_set_allocator(&allocator));
    det_set_log(listen, DET_LOG_DEBUG, NULL);
    for (int i = 0; i < COUNT(rows); i++) {
        if (!is_wanted(rows[i].act, argc > 1 ? argv[1] : NULL))
            continue;
        shared->n_tried = 0;
        int status = in_child(try_row, &rows[i]);
        CHECK_MSG(status == 0, "%s %s: exit status %d; the last was: %s", rows[i].setting->model, rows[i].act->name,
                  status, shared->trying);
        printf("  %-14s %-36s %5d faults\n", rows[i].setting->model, rows[i].act->name, shared->n_tried);
    }
    return check_report("faults of the device");
}
