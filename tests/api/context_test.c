/* Lives and descriptions: what info and profile say, structs of other versions, models that close before their
 * contexts, and a context that two threads want. */
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

/* ------------------------------------------------------------------------------------------------------------- info */

static void test_model_info(void) {
    det_model *model = open_made("damofd-0.5g-kps");
    det_model_info info = {.struct_size = sizeof info};
    OK(det_model_get_info(model, &info));
    CHECK(info.struct_size == sizeof info);
    CHECK(!strcmp(info.family, "damofd") && !strcmp(info.variant, "0.5g-kps") && !strcmp(info.licence, "none"));
    CHECK(!strcmp(info.source, "damofd-0.5g-kps") && !strcmp(info.source_sha256, ""));
    CHECK(info.n_classes == 1 && !strcmp(info.class_names[0], "class 0") && info.n_landmarks == 5);
    CHECK(info.input_width == 64 && info.input_height == 64 && info.resize == DET_RESIZE_LETTERBOX_TOP);
    CHECK(info.pad_value == 0 && info.mean == 127.5f && info.scale == 1 / 128.0f);
    CHECK(info.score_threshold == 0.5f && info.iou_threshold == 0.5f && info.multi_label == 0 && info.max_objects == 100);
    CHECK(info.n_parameters > 250000 && info.n_parameters < 280000);
    det_model_close(model);
}

static det_context_info info_of(const det_context *context) {
    det_context_info info = {.struct_size = sizeof info};
    OK(det_context_get_info(context, &info));
    return info;
}

static void test_context_info(const det_model *model) {
    det_context_options options = cpu_options(3, 2);
    det_context *context = create(model, &options);
    det_context_info info = info_of(context);
    CHECK(info.device == DET_DEVICE_CPU && info.device_index == 0 && info.precision == DET_FP32);
    CHECK(info.width == 64 && info.height == 64 && info.max_batch == 3 && info.n_threads == 2);
    CHECK(info.n_layers > 10 && info.macs > 0 && info.weights_bytes > 0 && info.arena_bytes > 0 && info.workspace_bytes > 0);
    CHECK(info.device_name && strlen(info.device_name) > 0);
    det_context_destroy(context);
    options.width = 128;
    options.height = 96;
    options.precision = DET_FP32;
    context = create(model, &options);
    det_context_info larger = info_of(context);
    CHECK(larger.width == 128 && larger.height == 96 && larger.n_layers == info.n_layers);
    CHECK(larger.macs == 3 * info.macs && larger.weights_bytes > 0 && larger.arena_bytes > 2 * info.arena_bytes);
    det_context_destroy(context);
    det_context_info defaults = info_of(context = create(model, NULL));
    CHECK(defaults.width == 64 && defaults.max_batch == 1 && defaults.n_threads >= 1 && defaults.macs == info.macs);
    det_context_destroy(context);
}

/* ---------------------------------------------------------------------------------------------------------- profile */

static void test_profile(const det_model *model, bool layers) {
    det_context_options options = cpu_options(2, 1);
    options.flags = layers ? DET_CONTEXT_PROFILE_LAYERS : 0;
    det_context *context = create(model, &options);
    det_profile p = {.struct_size = sizeof p, .total_ms = -1, .network_ms = -1};
    det_context_info info = info_of(context);
    OK(det_context_get_profile(context, &p));
    CHECK(p.total_ms == 0 && p.preprocess_ms == 0 && p.network_ms == 0 && p.decode_ms == 0 && p.nms_ms == 0);
    CHECK(p.n_layers == info.n_layers && p.layers);
    static results r;
    det_image picture = random_picture(50, 40, DET_RGB8, 0);
    run(context, &picture, 1, &r);
    OK(det_context_get_profile(context, &p));
    float stages = p.upload_ms + p.preprocess_ms + p.network_ms + p.decode_ms + p.nms_ms + p.download_ms, sum = 0;
    CHECK_MSG(p.network_ms > 0 && p.preprocess_ms > 0 && p.decode_ms > 0 && p.nms_ms > 0 && p.total_ms >= 0.999f * stages,
              "stages %g ms of %g", (double)stages, (double)p.total_ms);
    int64_t macs = 0;
    for (int i = 0; i < p.n_layers; i++) {
        const det_layer_time *l = &p.layers[i];
        CHECK(l->name && l->name[0] && l->op && l->op[0] && l->impl && l->impl[0] && l->ms >= 0);
        CHECK(!l->reserved && l->bytes >= 0);
        CHECK(strcmp(l->op, "conv2d") != 0 || l->bytes > 4 * (int64_t)l->shape[0] * l->shape[1] * l->shape[2] * l->shape[3]);
        CHECK(strcmp(l->op, "conv2d") != 0 || (l->macs > 0 && l->shape[0] == 2 && l->shape[1] > 0 && l->shape[3] > 0));
        macs += l->macs;
        sum += l->ms;
    }
    CHECK_MSG(macs == 2 * info.macs, "layers have %lld multiply-accumulates, a picture %lld", (long long)macs, (long long)info.macs);
    CHECK_MSG(layers ? sum > 0.999f * stages && sum < 1.001f * stages : sum == 0, "layers %g ms, stages %g", (double)sum, (double)stages);
    CHECK(!strcmp(p.layers[0].op, "preprocess") && !strcmp(p.layers[p.n_layers - 1].op, "nms"));
    free_picture(&picture);
    det_context_destroy(context);
}

/* -------------------------------------------------------------------------------------------- structs of other sizes */

enum { UNTOUCHED = 0xee, ROOM = 512 };

/* A getter must fill as much as a struct of any size has room for, and nothing beyond. */
static void test_getter(const char *name, det_status (*get)(void *of, void *info), void *of, size_t size) {
    static _Alignas(16) uint8_t whole[ROOM], part[ROOM];
    memcpy(whole, &size, sizeof size);
    OK(get(of, whole));
    for (size_t n = 2 * sizeof size; n <= size + 64; n++) {
        memset(part, UNTOUCHED, sizeof part);
        memcpy(part, &n, sizeof n);
        OK(get(of, part));
        size_t filled = n < size ? n : size, n_touched = 0;
        for (size_t i = filled; i < ROOM; i++)
            n_touched += part[i] != UNTOUCHED;
        CHECK_MSG(!memcmp(part + sizeof n, whole + sizeof n, filled - sizeof n) && n_touched == 0, "%s of %zu bytes", name, n);
    }
}

static det_status get_model_info(void *of, void *info) {
    return det_model_get_info(of, info);
}

static det_status get_context_info(void *of, void *info) {
    return det_context_get_info(of, info);
}

static det_status get_profile(void *of, void *info) {
    return det_context_get_profile(of, info);
}

/* Options of an older, shorter version keep the defaults of what they lack; of a newer one, the rest must be zero. */
static void test_option_sizes(const det_model *model) {
    struct {
        det_context_options known;
        uint8_t more[24];
    } newer = {.known = cpu_options(2, 1)};
    det_context *context;
    newer.known.width = 96;
    newer.known.max_batch = 2;
    const struct {
        size_t size;
        int width, max_batch;
    } rows[] = {{offsetof(det_context_options, width), 64, 1},
                {offsetof(det_context_options, height), 96, 1},
                {offsetof(det_context_options, n_threads), 96, 2},
                {sizeof(det_context_options), 96, 2},
                {sizeof newer, 96, 2}};
    for (int i = 0; i < COUNT(rows); i++) {
        newer.known.struct_size = rows[i].size;
        OK(det_context_create(model, &newer.known, &context));
        CHECK(info_of(context).width == rows[i].width && info_of(context).max_batch == rows[i].max_batch);
        det_context_destroy(context);
    }
    newer.more[20] = 1;
    EXPECT(det_context_create(model, &newer.known, &context), DET_ERROR_UNSUPPORTED, "det_context_options: byte ");
}

static void test_threshold_sizes(det_context *context) {
    static results all, r;
    struct {
        det_thresholds known;
        uint8_t more[16];
    } newer;
    det_image picture = random_picture(50, 40, DET_RGB8, 0);
    det_thresholds_init(&newer.known);
    memset(newer.more, 0, sizeof newer.more);
    newer.known.score = 0.2f;
    OK(det_context_set_thresholds(context, &newer.known));
    run(context, &picture, 1, &all);
    newer.known.max_objects = 1;
    newer.known.struct_size = offsetof(det_thresholds, max_objects); /* from before it had that field */
    OK(det_context_set_thresholds(context, &newer.known));
    run(context, &picture, 1, &r);
    CHECK(all.counts[0] > 1 && same_objects(&all, 0, &r, 0));
    newer.known.struct_size = sizeof newer;
    OK(det_context_set_thresholds(context, &newer.known));
    run(context, &picture, 1, &r);
    CHECK(r.counts[0] == 1);
    newer.more[3] = 1;
    EXPECT(det_context_set_thresholds(context, &newer.known), DET_ERROR_UNSUPPORTED, "det_thresholds: byte ");
    OK(det_context_set_thresholds(context, NULL));
    free_picture(&picture);
}

static void test_output_sizes(det_context *context) {
    static results r;
    struct {
        det_output known;
        uint8_t more[16];
    } newer = {.known = output_to(&r)};
    det_image picture = random_picture(50, 40, DET_RGB8, 0);
    r.cuts[0] = UNTOUCHED;
    newer.known.struct_size = offsetof(det_output, cuts); /* the least */
    OK(det_run(context, &picture, 1, &newer.known));
    CHECK(r.cuts[0] == UNTOUCHED && r.counts[0] > 0);
    newer.known.struct_size = sizeof newer;
    OK(det_run(context, &picture, 1, &newer.known));
    CHECK(r.cuts[0] == 0);
    newer.more[0] = 1;
    EXPECT(det_run(context, &picture, 1, &newer.known), DET_ERROR_UNSUPPORTED, "det_output: byte 40 is set");
    free_picture(&picture);
}

/* ------------------------------------------------------------------------------------------------------------- lives */

static void test_model_closes_first(void) {
    static results before, after;
    det_model *model = open_made("damofd-0.5g");
    det_context_options options = cpu_options(1, 2);
    det_context *first = create(model, &options), *second = create(model, &options);
    det_image picture = random_picture(100, 80, DET_RGB8, 0);
    run(first, &picture, 1, &before);
    det_model_close(model);
    run(first, &picture, 1, &after);
    CHECK(before.counts[0] > 0 && same_objects(&before, 0, &after, 0));
    det_context_destroy(first);
    run(second, &picture, 1, &after);
    CHECK(same_objects(&before, 0, &after, 0));
    CHECK(info_of(second).n_layers > 0);
    OK(det_context_set_thresholds(second, NULL));
    det_context_destroy(second);
    free_picture(&picture);
}

/* The file's bytes may go right after opening. */
static void test_bytes_go(void) {
    bytes file = make_model("yolov5-tiny", NULL);
    det_model *model;
    OK(det_model_open_memory(file.data, file.n, &model));
    memset(file.data, 0, file.n);
    bytes_free(&file);
    det_model_info info = {.struct_size = sizeof info};
    OK(det_model_get_info(model, &info));
    CHECK(!strcmp(info.family, "yolov5") && !strcmp(info.class_names[2], "class 2"));
    det_context_destroy(create(model, NULL));
    det_model_close(model);
}

/* ------------------------------------------------------------------------------------------------------------ threads */

typedef struct rival {
    det_context *context;
    det_image picture;
    atomic_bool stop;
    atomic_int n_bad; /* calls that were neither DET_OK nor DET_ERROR_BUSY */
} rival;

static void *run_again_and_again(void *argument) {
    rival *r = argument;
    results *own = malloc(sizeof *own);
    det_output output = output_to(own);
    while (!atomic_load(&r->stop)) {
        det_status status = det_run(r->context, &r->picture, 1, &output);
        atomic_fetch_add(&r->n_bad, status != DET_OK && status != DET_ERROR_BUSY);
    }
    free(own);
    return NULL;
}

/* Calls until each function has met a busy context. Its message is this thread's own. */
static void test_busy(const det_model *model) {
    static results own;
    det_context_options options = cpu_options(1, 1);
    options.width = options.height = 256;
    rival r = {.context = create(model, &options), .picture = random_picture(300, 200, DET_RGB8, 0)};
    det_output output = output_to(&own);
    det_profile profile = {.struct_size = sizeof profile};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run_again_and_again, &r) == 0, "thread");
    bool busy[3] = {false};
    for (time_t end = time(NULL) + 30; time(NULL) < end && !(busy[0] && busy[1] && busy[2]);) {
        det_status statuses[] = {det_run(r.context, &r.picture, 1, &output), det_context_set_thresholds(r.context, NULL),
                                 det_context_get_profile(r.context, &profile)};
        for (int i = 0; i < COUNT(statuses); i++) {
            busy[i] = busy[i] || statuses[i] == DET_ERROR_BUSY;
            CHECK(statuses[i] == DET_OK || statuses[i] == DET_ERROR_BUSY);
        }
    }
    CHECK_MSG(busy[0] && busy[1] && busy[2], "busy: run %d, thresholds %d, profile %d", busy[0], busy[1], busy[2]);
    CHECK_MSG(strstr(det_last_error(), "the context is in use by another thread"), "%s", det_last_error());
    atomic_store(&r.stop, true);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&r.n_bad) == 0);
    run(r.context, &r.picture, 1, &own);
    det_context_destroy(r.context);
    free_picture(&r.picture);
}

/* Contexts of one model on threads of their own: each gives what it gives alone. */
typedef struct worker {
    const det_model *model;
    det_image picture;
    results *results;
    bool same;
} worker;

static void *work(void *argument) {
    worker *w = argument;
    det_context_options options = cpu_options(1, 2);
    det_context *context = create(w->model, &options);
    results *own = malloc(sizeof *own);
    det_output output = output_to(own);
    w->same = true;
    for (int i = 0; i < 20; i++) {
        memset(own, 0, sizeof *own);
        w->same = w->same && det_run(context, &w->picture, 1, &output) == DET_OK && same_objects(own, 0, w->results, 0);
    }
    w->same = w->same && det_run(context, NULL, 1, &output) != DET_OK && strstr(det_last_error(), "images is NULL");
    det_context_destroy(context);
    free(own);
    return NULL;
}

static void test_side_by_side(const det_model *model) {
    enum { N = 3 };
    static results alone[N];
    worker workers[N];
    pthread_t threads[N];
    det_context_options options = cpu_options(1, 2);
    det_context *context = create(model, &options);
    EXPECT(det_run(context, NULL, 1, NULL), DET_ERROR_INVALID_ARGUMENT, "images is NULL");
    EXPECT(det_context_set_thresholds(NULL, NULL), DET_ERROR_INVALID_ARGUMENT, "det_context_set_thresholds");
    for (int i = 0; i < N; i++) {
        workers[i] = (worker){model, random_picture(60 + i, 50, DET_RGB8, 0), &alone[i], false};
        run(context, &workers[i].picture, 1, &alone[i]);
    }
    for (int i = 0; i < N; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, &workers[i]) == 0, "thread %d", i);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        CHECK_MSG(workers[i].same, "thread %d found other objects", i);
        free_picture(&workers[i].picture);
    }
    CHECK(strstr(det_last_error(), "det_context_set_thresholds")); /* the others' messages are theirs */
    det_context_destroy(context);
}

int main(void) {
    CHECK(sizeof(det_image) == 64 && sizeof(det_object) == 64 && sizeof(det_layer_time) == 64);
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", DET_VERSION_MAJOR, DET_VERSION_MINOR, DET_VERSION_PATCH);
    CHECK(!strcmp(det_version(), version));
    CHECK_MSG(strstr(det_build_info(), version) && strstr(det_build_info(), "oneDNN "), "%s", det_build_info());
    det_model *model = open_made("yolov8-tiny");
    det_context_options options = cpu_options(1, 1);
    det_context *context = create(model, &options);
    test_model_info();
    test_context_info(model);
    test_profile(model, false);
    test_profile(model, true);
    test_getter("det_model_info", get_model_info, model, sizeof(det_model_info));
    test_getter("det_context_info", get_context_info, context, sizeof(det_context_info));
    test_getter("det_profile", get_profile, context, sizeof(det_profile));
    test_option_sizes(model);
    test_threshold_sizes(context);
    test_output_sizes(context);
    test_model_closes_first();
    test_bytes_go();
    test_busy(model);
    test_side_by_side(model);
    det_context_destroy(context);
    det_model_close(model);
    return check_report("context");
}
