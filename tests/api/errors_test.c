/* Every documented failure of every function: the status, the message, and that nothing was touched. */
#include "api.h"

#include <math.h>
#include <unistd.h>

static const size_t bad_sizes[] = {0, 1, 7, 5000, SIZE_MAX};

/* ----------------------------------------------------------------------------------------------------------- models */

static void test_open(void) {
    det_model *model = (det_model *)&model;
    const uint8_t byte = 0;
    EXPECT(det_model_open(NULL, &model), DET_ERROR_INVALID_ARGUMENT, "path is NULL");
    CHECK(model == NULL);
    EXPECT(det_model_open("x", NULL), DET_ERROR_INVALID_ARGUMENT, "model is NULL");
    model = (det_model *)&model;
    EXPECT(det_model_open("/no/such/file", &model), DET_ERROR_IO, "'/no/such/file': cannot be opened: No such file");
    CHECK(model == NULL);
    EXPECT(det_model_open("/tmp", &model), DET_ERROR_IO, "'/tmp': not a regular file");
    EXPECT(det_model_open("/dev/null", &model), DET_ERROR_IO, "'/dev/null': not a regular file");
    EXPECT(det_model_open_memory(NULL, 0, &model), DET_ERROR_INVALID_ARGUMENT, "data is NULL");
    EXPECT(det_model_open_memory(&byte, 1, NULL), DET_ERROR_INVALID_ARGUMENT, "model is NULL");
    model = (det_model *)&model;
    EXPECT(det_model_open_memory(&byte, 1, &model), DET_ERROR_BAD_MODEL, "not a model file");
    CHECK(model == NULL);
    det_model_close(NULL);
}

/* A file is read as memory is, and its name stands before the message. */
static void test_open_file(void) {
    char path[] = "/tmp/libdetect-errors-test-XXXXXX";
    int handle = mkstemp(path);
    REQUIRE(handle >= 0, "%s", path);
    close(handle);
    det_model *model;
    EXPECT(det_model_open(path, &model), DET_ERROR_BAD_MODEL, "': not a model file: 0 bytes");
    CHECK(strstr(det_last_error(), path) == det_last_error() + 1);
    bytes file = make_model("yolov5-tiny", NULL);
    bytes_save(&file, path);
    OK(det_model_open(path, &model));
    det_model_close(model);
    file.n -= 1;
    bytes_save(&file, path);
    EXPECT(det_model_open(path, &model), DET_ERROR_BAD_MODEL, "the file is truncated");
    CHECK(model == NULL);
    bytes_free(&file);
    unlink(path);
}

static void test_model_info(const det_model *model) {
    det_model_info info = {.struct_size = sizeof info};
    EXPECT(det_model_get_info(NULL, &info), DET_ERROR_INVALID_ARGUMENT, "model is NULL");
    EXPECT(det_model_get_info(model, NULL), DET_ERROR_INVALID_ARGUMENT, "info is NULL");
    for (int i = 0; i < COUNT(bad_sizes); i++) {
        info.struct_size = bad_sizes[i];
        EXPECT(det_model_get_info(model, &info), DET_ERROR_INVALID_ARGUMENT, "det_model_info: struct_size is ");
        CHECK(info.family == NULL);
    }
}

/* --------------------------------------------------------------------------------------------------------- contexts */

/* Options with one field set to something that must be refused. */
#define OPTIONS_FAIL(status, fragment, ...)                                                                            \
    do {                                                                                                               \
        det_context_options o = cpu_options(1, 1);                                                                     \
        det_context *refused = (det_context *)&o;                                                                      \
        __VA_ARGS__;                                                                                                   \
        EXPECT(det_context_create(model, &o, &refused), status, fragment);                                             \
        CHECK(refused == NULL);                                                                                        \
    } while (0)

static void test_options(const det_model *model) {
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "device is -1; 0 to 2 is allowed", o.device = -1);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "device is 3", o.device = 3);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "device_index is -1", o.device_index = -1);
    OPTIONS_FAIL(DET_ERROR_NO_DEVICE, "device_index is 1; the CPU is device 0", o.device_index = 1);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "precision is -1", o.precision = -1);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "precision is 5", o.precision = 5);
    OPTIONS_FAIL(DET_ERROR_UNSUPPORTED, "the CPU computes in fp32 alone", o.precision = DET_TF32);
    OPTIONS_FAIL(DET_ERROR_UNSUPPORTED, "the CPU computes in fp32 alone", o.precision = DET_FP16);
    OPTIONS_FAIL(DET_ERROR_UNSUPPORTED, "the CPU computes in fp32 alone", o.precision = DET_BF16);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "width is 33, not a multiple of 32; the nearest are 32 and 64", o.width = 33);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "height is 639, not a multiple of 32; the nearest are 608 and 640", o.height = 639);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "width is 31; multiples of 32 from 32 to 8192 are allowed, the nearest is 32", o.width = 31);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "height is -32; ", o.height = -32);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "width is 8224; multiples of 32 from 32 to 8192 are allowed, the nearest is 8192", o.width = 8224);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "height is 2147483647; ", o.height = INT32_MAX);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_batch is 257; 0 to 256 is allowed", o.max_batch = 257);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_batch is -1", o.max_batch = -1);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "n_threads is 257; 0 to 256 is allowed", o.n_threads = 257);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "n_threads is -1", o.n_threads = -1);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_candidates is 65537; 0 to 65536 is allowed", o.max_candidates = 65537);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_candidates is -1", o.max_candidates = -1);
    OPTIONS_FAIL(DET_ERROR_UNSUPPORTED, "flags is 0x8", o.flags = 8);
    OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_image_bytes is -1", o.max_image_bytes = -1);
    for (int i = 0; i < COUNT(bad_sizes); i++)
        OPTIONS_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_context_options: struct_size is ", o.struct_size = bad_sizes[i]);
    det_context *context = (det_context *)&context;
    EXPECT(det_context_create(NULL, NULL, &context), DET_ERROR_INVALID_ARGUMENT, "model is NULL");
    CHECK(context == NULL);
    EXPECT(det_context_create(model, NULL, NULL), DET_ERROR_INVALID_ARGUMENT, "context is NULL");
    det_context_options_init(NULL);
    det_thresholds_init(NULL);
    det_context_destroy(NULL);
}

/* More memory than there can be is a status, too. */
static void test_too_large(const det_model *model) {
    det_context_options o = cpu_options(256, 1);
    o.width = o.height = 8192;
    det_context *context = (det_context *)&o;
    EXPECT(det_context_create(model, &o, &context), DET_ERROR_OUT_OF_MEMORY, "");
    CHECK(context == NULL);
}

/* Where there is no CUDA: one line that says so, and AUTO takes the CPU. */
static void test_no_cuda(const det_model *model) {
    det_context_options o = cpu_options(1, 1);
    det_context *context;
    det_context_info info = {.struct_size = sizeof info};
    o.device = DET_DEVICE_CUDA;
    det_status status = det_context_create(model, &o, &context);
    bool cuda = status == DET_OK;
    if (!cuda) {
        EXPECT(status, DET_ERROR_NO_DEVICE, "");
        CHECK(context == NULL && strlen(det_last_error()) > 10);
    }
    det_context_destroy(context);
    o.device = DET_DEVICE_AUTO;
    OK(det_context_create(model, &o, &context));
    OK(det_context_get_info(context, &info));
    CHECK(info.device == (cuda ? DET_DEVICE_CUDA : DET_DEVICE_CPU));
    det_context_destroy(context);
}

static void test_context_info(det_context *context) {
    det_context_info info = {.struct_size = sizeof info};
    det_profile profile = {.struct_size = sizeof profile};
    EXPECT(det_context_get_info(NULL, &info), DET_ERROR_INVALID_ARGUMENT, "context is NULL");
    EXPECT(det_context_get_info(context, NULL), DET_ERROR_INVALID_ARGUMENT, "info is NULL");
    EXPECT(det_context_get_profile(NULL, &profile), DET_ERROR_INVALID_ARGUMENT, "context is NULL");
    EXPECT(det_context_get_profile(context, NULL), DET_ERROR_INVALID_ARGUMENT, "profile is NULL");
    for (int i = 0; i < COUNT(bad_sizes); i++) {
        info.struct_size = profile.struct_size = bad_sizes[i];
        EXPECT(det_context_get_info(context, &info), DET_ERROR_INVALID_ARGUMENT, "det_context_info: struct_size is ");
        EXPECT(det_context_get_profile(context, &profile), DET_ERROR_INVALID_ARGUMENT, "det_profile: struct_size is ");
    }
}

/* ------------------------------------------------------------------------------------------------------- thresholds */

/* Refused thresholds leave those in force alone: the results stay the same bytes. */
#define THRESHOLDS_FAIL(status, fragment, ...)                                                                         \
    do {                                                                                                               \
        det_thresholds t;                                                                                              \
        det_thresholds_init(&t);                                                                                       \
        t.n_classes = 3;                                                                                               \
        t.score = 0.9f; /* would change the results */                                                                 \
        __VA_ARGS__;                                                                                                   \
        EXPECT(det_context_set_thresholds(context, &t), status, fragment);                                             \
        run(context, &picture, 1, &after);                                                                             \
        CHECK(same_objects(&before, 0, &after, 0));                                                                    \
    } while (0)

static void test_thresholds(det_context *context) {
    static results before, after;
    det_image picture = random_picture(50, 40, DET_RGB8, 0);
    const float nans[] = {0.5f, NAN, 0.5f}, high[] = {0.5f, 0.5f, 1.5f}, fine[] = {-1, 0, 1};
    run(context, &picture, 1, &before);
    CHECK(before.counts[0] > 0);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "score is 1.5", t.score = 1.5f);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "score is ", t.score = NAN);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "score is inf", t.score = INFINITY);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "iou 1.001", t.iou = 1.001f);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "iou ", t.iou = NAN);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_objects is 0; 1 to 65536 is allowed", t.max_objects = 0);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_objects is 65537", t.max_objects = 65537);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "n_classes is 2; the model has 3", t.class_scores = fine; t.n_classes = 2);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "n_classes is 0; the model has 3", t.class_enabled = (uint8_t[]){1, 1, 1}; t.n_classes = 0);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "class_scores[1] is ", t.class_scores = nans);
    THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "class_scores[2] is 1.5", t.class_scores = high);
    for (int i = 0; i < COUNT(bad_sizes); i++)
        THRESHOLDS_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_thresholds: struct_size is ", t.struct_size = bad_sizes[i]);
    EXPECT(det_context_set_thresholds(NULL, NULL), DET_ERROR_INVALID_ARGUMENT, "context is NULL");
    free_picture(&picture);
}

/* -------------------------------------------------------------------------------------------------------------- run */

/* A run of two pictures, one of them or the output spoiled: refused, and not a byte written. */
#define RUN_FAILS(fragment, ...)                                                                                       \
    do {                                                                                                               \
        det_image images[] = {pictures[0], pictures[1]};                                                               \
        det_output output = output_to(&written);                                                                       \
        __VA_ARGS__;                                                                                                   \
        EXPECT(det_run(context, images, 2, &output), DET_ERROR_INVALID_ARGUMENT, fragment);                            \
        EXPECT(det_run_async(context, images, 2, &output, NULL), DET_ERROR_INVALID_ARGUMENT, fragment);                \
        CHECK(!memcmp(&written, &untouched, sizeof written));                                                          \
    } while (0)

static void test_images(det_context *context, const det_image *pictures) {
    static results written, untouched;
    RUN_FAILS("images[0]: format -1", images[0].format = -1);
    RUN_FAILS("images[1]: format 5", images[1].format = 5);
    RUN_FAILS("images[0]: 0x40 pixels", images[0].width = 0);
    RUN_FAILS("images[0]: 50x0 pixels", images[0].height = 0);
    RUN_FAILS("images[1]: -1x", images[1].width = -1);
    RUN_FAILS("images[0]: 16385x40 pixels; sides of 1 to 16384 are allowed", images[0].width = 16385);
    RUN_FAILS("images[0]: 50x16385", images[0].height = 16385);
    RUN_FAILS("images[0]: memory is 1; this device reads host memory", images[0].memory = DET_MEMORY_DEVICE);
    RUN_FAILS("images[0]: memory is 2", images[0].memory = 2);
    RUN_FAILS("images[1]: planes[0] is NULL", images[1].planes[0] = NULL);
    RUN_FAILS("images[0]: strides[0] is 149 bytes, a row has 150", images[0].strides[0] = 149);
    RUN_FAILS("images[0]: strides[0] is 150 bytes, a row has 200", images[0].format = DET_RGBA8);
    RUN_FAILS("images[0]: strides[0] is -150 bytes", images[0].strides[0] = -150);
    RUN_FAILS("images[0]: strides[0] is 49 bytes, a row has 50", images[0].format = DET_GRAY8; images[0].strides[0] = 49);
    RUN_FAILS("images[0]: planes[1] is NULL", images[0].format = DET_NV12);
    RUN_FAILS("images[1]: strides[1] is 33 bytes, a row has 34", images[1].format = DET_NV12; images[1].planes[1] = images[1].planes[0];
              images[1].strides[1] = 33);
    RUN_FAILS("images[0]: reserved is not zero", images[0].reserved[0] = 1);
    RUN_FAILS("images[1]: reserved is not zero", images[1].reserved[1] = 1);
    RUN_FAILS("output: objects is NULL", output.objects = NULL);
    RUN_FAILS("output: counts is NULL", output.counts = NULL);
    RUN_FAILS("output: max_objects is 0; at least 1", output.max_objects = 0);
    RUN_FAILS("output: max_objects is -1", output.max_objects = -1);
    RUN_FAILS("output: memory is 1; this device writes host memory", output.memory = DET_MEMORY_DEVICE);
    RUN_FAILS("output: memory is 7", output.memory = 7);
    RUN_FAILS("det_output: struct_size is 31", output.struct_size = 31);
    for (int i = 0; i < COUNT(bad_sizes); i++)
        RUN_FAILS("det_output: struct_size is ", output.struct_size = bad_sizes[i]);
}

static void test_run(det_context *context) {
    static results r;
    det_image pictures[] = {random_picture(50, 40, DET_RGB8, 0), random_picture(33, 60, DET_BGR8, 1)};
    det_output output = output_to(&r);
    int stream;
    test_images(context, pictures);
    EXPECT(det_run(NULL, pictures, 1, &output), DET_ERROR_INVALID_ARGUMENT, "context is NULL");
    EXPECT(det_run(context, NULL, 1, &output), DET_ERROR_INVALID_ARGUMENT, "images is NULL");
    EXPECT(det_run(context, pictures, 1, NULL), DET_ERROR_INVALID_ARGUMENT, "output is NULL");
    EXPECT(det_run(context, pictures, 0, &output), DET_ERROR_INVALID_ARGUMENT, "0 pictures; this context takes 1 to 2 (max_batch)");
    EXPECT(det_run(context, pictures, 3, &output), DET_ERROR_INVALID_ARGUMENT, "3 pictures");
    EXPECT(det_run(context, pictures, -1, &output), DET_ERROR_INVALID_ARGUMENT, "-1 pictures");
    EXPECT(det_run_async(context, pictures, 1, &output, &stream), DET_ERROR_INVALID_ARGUMENT, "the CPU has no streams; pass NULL");
    OK(det_run(context, pictures, 2, &output)); /* after all that */
    CHECK(r.counts[0] > 0);
    free_picture(&pictures[0]);
    free_picture(&pictures[1]);
}

int main(void) {
    CHECK(!strcmp(det_last_error(), ""));
    det_model *model = open_made("yolov8-tiny");
    det_context_options options = cpu_options(2, 2);
    det_context *context = create(model, &options);
    test_open();
    test_open_file();
    test_model_info(model);
    test_options(model);
    test_too_large(model);
    test_no_cuda(model);
    test_context_info(context);
    test_thresholds(context);
    test_run(context);
    det_context_destroy(context);
    det_model_close(model);
    return check_report("errors");
}
