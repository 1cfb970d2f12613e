/* Many threads and one model; contexts that come and go. Worth running under ThreadSanitizer too, where the numbers are
 * smaller: threads_test shared | churn | all. */
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#ifdef DET_SANITIZE
enum { N_THREADS = 16, CONTEXTS_EACH = 4, RUNS_EACH = 6, N_CREATED = 100, GROWTH_KIB = 1 << 20 };
#else
enum { N_THREADS = 16, CONTEXTS_EACH = 4, RUNS_EACH = 25, N_CREATED = 10000, GROWTH_KIB = 2048 };
#endif

/* ----------------------------------------------------------------------------------------------- one model, all of it */

static det_model *model;
static det_image pictures[3];
static results expected[3];
static det_context *fought_over;
static atomic_int n_busy, n_ran, n_wrong;

/* Every thread has contexts of its own, of one or two threads each, and tries one that belongs to all. */
static void *work(void *argument) {
    int index = (int)(intptr_t)argument;
    det_context *contexts[CONTEXTS_EACH];
    results *r = calloc(1, sizeof *r);
    det_output output = output_to(r);
    for (int i = 0; i < CONTEXTS_EACH; i++) {
        det_context_options options = cpu_options(1, 1 + (index + i) % 2);
        contexts[i] = create(model, &options);
    }
    for (int i = 0; i < RUNS_EACH; i++) {
        int which = (index + i) % COUNT(pictures);
        if (det_run(contexts[i % CONTEXTS_EACH], &pictures[which], 1, &output) != DET_OK || !same_objects(r, 0, &expected[which], 0))
            atomic_fetch_add(&n_wrong, 1);
        det_model_info info = {.struct_size = sizeof info};
        if (det_model_get_info(model, &info) != DET_OK || info.n_classes != 3)
            atomic_fetch_add(&n_wrong, 1);
        det_status status = det_run(fought_over, &pictures[which], 1, &output);
        atomic_fetch_add(status == DET_OK ? &n_ran : &n_busy, 1);
        if (status == DET_OK ? !same_objects(r, 0, &expected[which], 0) : status != DET_ERROR_BUSY || !strstr(det_last_error(), "in use by another thread"))
            atomic_fetch_add(&n_wrong, 1);
    }
    for (int i = 0; i < CONTEXTS_EACH; i++)
        det_context_destroy(contexts[i]);
    free(r);
    return NULL;
}

static void test_shared(void) {
    model = open_made("yolov8-tiny");
    det_context_options options = cpu_options(1, 2);
    fought_over = create(model, &options);
    for (int i = 0; i < COUNT(pictures); i++) {
        pictures[i] = random_picture(60 + 20 * i, 90 - 20 * i, DET_RGB8, 0);
        run(fought_over, &pictures[i], 1, &expected[i]);
    }
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i) == 0, "thread %d", i);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_MSG(atomic_load(&n_wrong) == 0, "%d results were wrong", atomic_load(&n_wrong));
    CHECK(atomic_load(&n_ran) > 0 && atomic_load(&n_ran) + atomic_load(&n_busy) == N_THREADS * RUNS_EACH);
    printf("  %d threads of %d contexts; one more was had %d times and busy %d times\n", N_THREADS, CONTEXTS_EACH, atomic_load(&n_ran),
           atomic_load(&n_busy));
    det_context_destroy(fought_over);
    det_model_close(model);
    for (int i = 0; i < COUNT(pictures); i++)
        free_picture(&pictures[i]);
}

/* The model is given up while contexts are made from it and run: who has a context may close the model. */
static void *outlive(void *argument) {
    det_model *own = argument;
    det_context_options options = cpu_options(1, 1);
    det_context *context = create(own, &options);
    det_model_close(own);
    results *r = calloc(1, sizeof *r);
    det_image picture = random_picture(30, 40, DET_RGB8, 0);
    det_output output = output_to(r);
    if (det_run(context, &picture, 1, &output) != DET_OK)
        atomic_fetch_add(&n_wrong, 1);
    det_context_destroy(context);
    free_picture(&picture);
    free(r);
    return NULL;
}

static void test_outlive(void) {
    bytes file = make_model("yolov5-tiny", NULL);
    pthread_t threads[8];
    for (int i = 0; i < COUNT(threads); i++) {
        det_model *own;
        OK(det_model_open_memory(file.data, file.n, &own));
        REQUIRE(pthread_create(&threads[i], NULL, outlive, own) == 0, "thread %d", i);
    }
    for (int i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&n_wrong) == 0);
    bytes_free(&file);
}

/* ------------------------------------------------------------------------------------------------- coming and going */

static long resident_kib(void) {
    long pages = 0;
    FILE *stream = fopen("/proc/self/statm", "r");
    REQUIRE(stream && fscanf(stream, "%*d %ld", &pages) == 1, "no /proc/self/statm");
    fclose(stream);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void test_churn(void) {
    bytes file = make_model("yolov5-least", NULL);
    det_image picture = random_picture(32, 32, DET_RGB8, 0);
    long early_kib = 0, late_kib = 0;
    for (int i = 0; i < N_CREATED; i++) {
        static results r;
        det_model *own;
        OK(det_model_open_memory(file.data, file.n, &own));
        det_context_options options = cpu_options(1, 1 + i % 2);
        options.width = options.height = 32;
        det_context *context = create(own, &options);
        run(context, &picture, 1, &r);
        det_context_destroy(context);
        det_model_close(own);
        long *most = i < N_CREATED / 10 ? &early_kib : &late_kib;
        if (i % 50 == 49)
            *most = resident_kib() > *most ? resident_kib() : *most;
    }
    CHECK_MSG(late_kib <= early_kib + GROWTH_KIB, "memory grew from %ld to %ld KiB", early_kib, late_kib);
    printf("  %d models and contexts: %ld KiB resident in the first tenth, at most %ld after\n", N_CREATED, early_kib, late_kib);
    bytes_free(&file);
    free_picture(&picture);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "all";
    if (strcmp(what, "churn") != 0) {
        test_shared();
        test_outlive();
    }
    if (strcmp(what, "shared") != 0)
        test_churn();
    return check_report("threads");
}
