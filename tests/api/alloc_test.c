/* Host memory: every allocation of opening, creating and running fails once, and each time the failure is a status, all
 * memory comes back, and the next attempt works. Runs and thresholds take no memory at all. */
#include "api.h"

#include <stdatomic.h>
#include <unistd.h>

typedef struct counter {
    atomic_int n_calls, n_live;
    int fail_at; /* the number of the call that fails; 0: none */
} counter;

static void *allocate(void *user, size_t n_bytes, size_t alignment) {
    counter *c = user;
    if (atomic_fetch_add(&c->n_calls, 1) + 1 == c->fail_at)
        return NULL;
    void *pointer = aligned_alloc(alignment, n_bytes);
    if (pointer) {
        memset(pointer, 0xa5, n_bytes); /* nobody may count on zeros */
        atomic_fetch_add(&c->n_live, 1);
    }
    return pointer;
}

static void release(void *user, void *pointer) {
    counter *c = user;
    atomic_fetch_sub(&c->n_live, 1);
    free(pointer);
}

static counter counts;

static void hook(int fail_at) {
    const det_allocator allocator = {sizeof allocator, allocate, release, &counts};
    atomic_store(&counts.n_calls, 0);
    atomic_store(&counts.n_live, 0);
    counts.fail_at = fail_at;
    OK(det_set_allocator(&allocator));
}

/* Open, create, run, and give all back; the first failure, or DET_OK. */
static det_status live(const bytes *file, const char *path, const det_image *picture) {
    static results r;
    det_model *model;
    det_context *context = NULL;
    det_output output = output_to(&r);
    det_context_options options = cpu_options(2, 2);
    det_status status = path ? det_model_open(path, &model) : det_model_open_memory(file->data, file->n, &model);
    if (status == DET_OK)
        status = det_context_create(model, &options, &context);
    if (status == DET_OK)
        status = det_run(context, picture, 1, &output);
    det_context_destroy(context);
    det_model_close(model);
    return status;
}

static void test_failures(const char *name, const char *path, int step) {
    bytes file = make_model(name, NULL);
    det_image picture = random_picture(50, 40, DET_RGB8, 0);
    if (path)
        bytes_save(&file, path);
    hook(0);
    OK(live(&file, path, &picture));
    int n = atomic_load(&counts.n_calls);
    printf("  %-20s %d allocations\n", name, n);
    CHECK(n > 10 && atomic_load(&counts.n_live) == 0);
    for (int k = 1; k <= n; k += step) {
        hook(k);
        det_status status = live(&file, path, &picture);
        CHECK_MSG(status == DET_ERROR_OUT_OF_MEMORY, "%s: allocation %d fails: %s: %s", name, k, det_status_name(status), det_last_error());
        CHECK_MSG(strstr(det_last_error(), "out of host memory"), "%s: allocation %d: %s", name, k, det_last_error());
        CHECK_MSG(atomic_load(&counts.n_live) == 0, "%s: allocation %d fails: %d are lost", name, k, atomic_load(&counts.n_live));
    }
    hook(0);
    OK(live(&file, path, &picture));
    CHECK(atomic_load(&counts.n_calls) == n && atomic_load(&counts.n_live) == 0);
    OK(det_set_allocator(NULL));
    free_picture(&picture);
    bytes_free(&file);
}

/* Different sizes, formats, thresholds, also those that are refused. */
static void test_run_takes_nothing(const char *name) {
    static results r;
    det_image pictures[] = {random_picture(300, 200, DET_RGB8, 0), random_picture(31, 77, DET_NV12, 0)};
    bytes file = make_model(name, NULL);
    hook(0);
    det_model *model;
    OK(det_model_open_memory(file.data, file.n, &model));
    det_context_options options = cpu_options(2, 3);
    options.flags = DET_CONTEXT_PROFILE_LAYERS;
    det_context *context = create(model, &options);
    det_model_info info = {.struct_size = sizeof info};
    OK(det_model_get_info(model, &info));
    int before = atomic_load(&counts.n_calls);
    det_thresholds t;
    det_thresholds_init(&t);
    t.class_scores = (float[]){0.1f, 0.2f, 0.3f};
    t.class_enabled = (uint8_t[]){1, 1, 1};
    t.n_classes = info.n_classes;
    det_profile profile = {.struct_size = sizeof profile};
    for (int i = 0; i < 5; i++) {
        run(context, pictures, 1 + i % 2, &r);
        t.score = 0.1f * (float)i;
        OK(det_context_set_thresholds(context, i % 3 ? &t : NULL));
        OK(det_context_get_profile(context, &profile));
        CHECK(det_run(context, pictures, 3, NULL) == DET_ERROR_INVALID_ARGUMENT);
    }
    CHECK_MSG(atomic_load(&counts.n_calls) == before, "%s: runs took memory %d times", name, atomic_load(&counts.n_calls) - before);
    det_context_destroy(context);
    det_model_close(model);
    CHECK(atomic_load(&counts.n_live) == 0);
    OK(det_set_allocator(NULL));
    bytes_free(&file);
    free_picture(&pictures[0]);
    free_picture(&pictures[1]);
}

int main(void) {
    char path[] = "/tmp/libdetect-alloc-test-XXXXXX";
    int handle = mkstemp(path);
    REQUIRE(handle >= 0, "%s", path);
    close(handle);
    test_failures("yolo11-tiny", NULL, 1);
    test_failures("yolov5-tiny", path, 1);
    test_failures("damofd-0.5g-kps", NULL, 1);
    unlink(path);
    for (int i = 0; make_model_name(i); i++)
        test_run_takes_nothing(make_model_name(i));
    return check_report("alloc");
}
