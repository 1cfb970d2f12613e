/* What the library must leave alone, and what must leave it alone, on the fake device of tests/emulation: other devices than the
 * context's, streams that others capture, and the library's own captures while contexts come and go. */
#include "api.h"
#include "fake_cuda.h"

#include <pthread.h>
#include <stdatomic.h>

#define CUDA_OK(call) REQUIRE((call) == cudaSuccess, "%s", cudaGetErrorName(cudaGetLastError()))

static det_model *model;
static det_image picture;
static atomic_int n_again, n_without_graphs; /* lines of the log */

static void listen(void *user, int level, const char *message) {
    (void)user;
    (void)level;
    atomic_fetch_add(&n_again, strstr(message, "captured again") != NULL);
    atomic_fetch_add(&n_without_graphs, strstr(message, "no CUDA graph") != NULL);
}

static det_context *context_on(int device) {
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CUDA;
    options.device_index = device;
    options.n_threads = 2;
    options.max_batch = 2;
    return create(model, &options);
}

static det_status run_once(det_context *context) {
    static _Thread_local results r;
    det_output output = output_to(&r);
    return det_run(context, &picture, 1, &output);
}

/* ------------------------------------------------------------------------------------------------- other devices */

/* The device that the thread would use, and never did, is not begun. */
static void test_other_device(void) {
    int device = -1;
    det_context *context = context_on(1);
    OK(run_once(context));
    det_context_destroy(context);
    CUDA_OK(cudaGetDevice(&device));
    CHECK_MSG(device == 0, "the thread's device is %d", device);
    CHECK(fake_cuda_begun(1) && !fake_cuda_begun(0));
}

/* -------------------------------------------------------------------------------------------- captures of others */

static void *run_beside(void *argument) {
    OK(run_once(argument));
    return NULL;
}

/* Somebody captures in the default mode, which forbids other threads to wait, unless they say that it is not their affair. */
static void test_foreign_capture(void) {
    det_context *context = context_on(0);
    cudaStream_t stream;
    cudaGraph_t graph = NULL;
    pthread_t other;
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    REQUIRE(pthread_create(&other, NULL, run_beside, context) == 0, "no thread");
    pthread_join(other, NULL);
    cudaError_t error = cudaStreamEndCapture(stream, &graph);
    CHECK_MSG(error == cudaSuccess, "the capture ends with %s", cudaGetErrorName(error));
    if (graph)
        CUDA_OK(cudaGraphDestroy(graph));
    CUDA_OK(cudaStreamDestroy(stream));
    det_context_destroy(context);
}

/* ------------------------------------------------------------------------------------------------- own captures */

static int64_t n_launched(det_context *context) {
    int64_t before = fake_cuda_calls("cudaGraphLaunch");
    OK(run_once(context));
    return fake_cuda_calls("cudaGraphLaunch") - before;
}

/* A program that waits for the whole device in the moment of a capture: the next attempt succeeds. */
static void test_spoilt_capture(void) {
    atomic_store(&n_again, 0);
    fake_cuda_fail("cudaStreamEndCapture", 1, cudaErrorStreamCaptureInvalidated);
    det_context *context = context_on(0);
    CHECK(fake_cuda_failed() && atomic_load(&n_again) == 1 && atomic_load(&n_without_graphs) == 0);
    CHECK(n_launched(context) == 1);
    det_context_destroy(context);
}

static void *come_and_go(void *argument) {
    enum { TIMES = 12 };
    (void)argument;
    for (int i = 0; i < TIMES; i++) {
        det_context *context = context_on(0);
        OK(run_once(context));
        det_context_destroy(context);
    }
    return NULL;
}

/* Contexts that go, and threads that have compiled, spoil no capture of contexts that come. */
static void test_many(void) {
    pthread_t threads[3];
    atomic_store(&n_again, 0);
    for (int i = 0; i < COUNT(threads); i++)
        REQUIRE(pthread_create(&threads[i], NULL, come_and_go, NULL) == 0, "no thread");
    for (int i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    CHECK_MSG(atomic_load(&n_again) == 0 && atomic_load(&n_without_graphs) == 0,
              "%d captures were spoilt, %d contexts have no graph", atomic_load(&n_again),
              atomic_load(&n_without_graphs));
}

int main(void) {
    setenv("DET_FAKE_CUDA_DEVICES", "2", 1);
    det_set_log(listen, DET_LOG_INFO, NULL);
    model = open_made("yolov5-least");
    picture = random_picture(40, 30, DET_RGB8, 0);
    test_other_device(); /* first: later ones begin device 0 */
    test_foreign_capture();
    test_spoilt_capture();
    test_many();
    free_picture(&picture);
    det_model_close(model);
    return check_report("visits to devices");
}
