/* Which implementations convolutions get, on the fake device: the faster one by TUNE, the last resort with a warning. */
#include "api/api.h"
#include "fake_cuda.h"

static det_model *model;
static det_image picture;
static int n_warnings;

static void listen(void *user, int level, const char *message) {
    (void)user;
    n_warnings += level == DET_LOG_WARNING && strstr(message, "only its fallback engine for the convolution '");
}

static det_context *make(int32_t device, uint32_t flags) {
    det_context_options options;
    det_context_options_init(&options);
    options.device = device;
    options.precision = DET_FP32;
    options.flags = flags;
    options.width = options.height = 32;
    return create(model, &options);
}

/* Layers that have this implementation. */
static int n_by(det_context *context, const char *impl) {
    det_profile profile = {.struct_size = sizeof profile};
    int n = 0;
    OK(det_context_get_profile(context, &profile));
    for (int i = 0; i < profile.n_layers; i++)
        n += profile.layers[i].impl && !strcmp(profile.layers[i].impl, impl);
    return n;
}

/* In fp32, bias and ReLU: the heuristics put engine 44 before the last, 0. With TUNE products may go there, too. */
static void test_tune(void) {
    det_context *plain = make(DET_DEVICE_CUDA, 0);
    int n = n_by(plain, "cudnn:44");
    CHECK_MSG(n > 0 && n_by(plain, "cudnn:0") == 0, "%d layers by the first", n);
    det_context_destroy(plain);
    fake_cudnn_slow(44, 3);
    det_context *tuned = make(DET_DEVICE_CUDA, DET_CONTEXT_TUNE);
    CHECK_MSG(n_by(tuned, "cudnn:44") == 0 && n_by(tuned, "cudnn:0") >= n, "%d and %d layers", n_by(tuned, "cudnn:44"),
              n_by(tuned, "cudnn:0"));
    det_context_destroy(tuned);
    fake_cudnn_slow(0, 3);
    tuned = make(DET_DEVICE_CUDA, DET_CONTEXT_TUNE);
    CHECK_MSG(n_by(tuned, "cudnn:0") == 0 && n_by(tuned, "cudnn:44") >= n, "%d and %d layers", n_by(tuned, "cudnn:0"),
              n_by(tuned, "cudnn:44"));
    det_context_destroy(tuned);
    fake_cudnn_slow(-1, 0);
}

/* A warning for each convolution, by its name, and boxes all the same. */
static void test_last_resort(void) {
    static results ours, theirs;
    det_context *cpu = make(DET_DEVICE_CPU, 0);
    CHECK(n_warnings == 0);
    fake_cudnn_last_resort(1);
    det_context *cuda = make(DET_DEVICE_CUDA, 0);
    int n = n_by(cuda, "cudnn:0 + epilogue");
    CHECK_MSG(n > 0 && n_warnings == n, "%d layers, %d warnings", n, n_warnings);
    CHECK(n_by(cuda, "cudnn:44") == 0);
    run(cpu, &picture, 1, &theirs);
    run(cuda, &picture, 1, &ours);
    CHECK_MSG(theirs.counts[0] > 0 && ours.counts[0] == theirs.counts[0], "%d objects, %d on the CPU", ours.counts[0],
              theirs.counts[0]);
    fake_cudnn_last_resort(0);
    det_context_destroy(cuda);
    det_context_destroy(cpu);
}

int main(void) {
    det_set_log(listen, DET_LOG_WARNING, NULL);
    model = open_made("damofd-0.5g");
    picture = random_picture(40, 30, DET_RGB8, 0);
    test_tune();
    test_last_resort();
    free_picture(&picture);
    det_model_close(model);
    return check_report("choice of implementations");
}
