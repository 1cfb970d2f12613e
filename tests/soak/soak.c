/* Works for a long time: soak SECONDS [THREADS]
 *
 * A round is everything that a program does: it opens models, makes contexts, runs pictures of all formats in batches of
 * several sizes, changes thresholds, reads profiles, makes mistakes, and gives all back. Every round must give the same
 * bytes, and memory must not grow after the first tenth of the time. Ends with one line of results. */
#include "api.h"

#include <time.h>
#include <unistd.h>

enum { N_PICTURES = 5, CONTEXTS_A_ROUND = 3, RUNS_A_CONTEXT = 20 };
#ifdef DET_SANITIZE
enum { GROWTH_KIB = 1 << 20 }; /* sanitizers keep what was given back */
#else
enum { GROWTH_KIB = 4096 };
#endif

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static long resident_kib(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file && fscanf(file, "%*d %ld", &pages) == 1, "no /proc/self/statm");
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t n) {
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return hash;
}

typedef struct soak {
    bytes files[2];
    det_image pictures[N_PICTURES];
    int n_threads;
    long n_runs, n_contexts, n_objects;
} soak;

static uint64_t use_context(soak *s, det_context *context, uint64_t hash) {
    static results r;
    det_thresholds t;
    det_thresholds_init(&t);
    det_profile profile = {.struct_size = sizeof profile};
    for (int i = 0; i < RUNS_A_CONTEXT; i++) {
        int n = 1 + i % 4;
        t.score = 0.3f + 0.02f * (float)(i % 5);
        OK(det_context_set_thresholds(context, i % 3 ? &t : NULL));
        run(context, s->pictures + i % (N_PICTURES - n + 1), n, &r);
        for (int k = 0; k < n; k++) {
            hash = hash_bytes(hash, &r.counts[k], sizeof r.counts[k]);
            hash = hash_bytes(hash, r.objects[k], sizeof(det_object) * (size_t)r.counts[k]);
            s->n_objects += r.counts[k];
        }
        OK(det_context_get_profile(context, &profile));
        CHECK(det_run(context, s->pictures, 99, NULL) == DET_ERROR_INVALID_ARGUMENT);
        s->n_runs++;
    }
    return hash;
}

static uint64_t go_round(soak *s) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int m = 0; m < COUNT(s->files); m++) {
        det_model *model;
        CHECK(det_model_open_memory(s->files[m].data, s->files[m].n / 2, &model) == DET_ERROR_BAD_MODEL);
        OK(det_model_open_memory(s->files[m].data, s->files[m].n, &model));
        for (int i = 0; i < CONTEXTS_A_ROUND; i++) {
            det_context_options options = cpu_options(4, s->n_threads);
            options.width = 160 + 32 * i;
            det_context *context = create(model, &options);
            hash = use_context(s, context, hash);
            det_context_destroy(context);
            s->n_contexts++;
        }
        det_model_close(model);
    }
    return hash;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 0;
    soak s = {.files = {make_model("damofd-0.5g-kps", NULL), make_model("yolo11-tiny", NULL)}, .n_threads = argc > 2 ? atoi(argv[2]) : 2};
    REQUIRE(seconds > 0, "usage: soak SECONDS [THREADS]");
    static const int32_t formats[N_PICTURES] = {DET_RGB8, DET_BGR8, DET_RGBA8, DET_GRAY8, DET_NV12};
    for (int i = 0; i < N_PICTURES; i++)
        s.pictures[i] = random_picture(200 + 31 * i, 150 + 17 * i, formats[i], i);
    double begin = now_s();
    uint64_t first = go_round(&s);
    long n_rounds = 1, early_kib = resident_kib(), late_kib = 0;
    while (now_s() - begin < seconds || n_rounds < 10) {
        uint64_t hash = go_round(&s);
        n_rounds++;
        CHECK_MSG(hash == first, "round %ld: %016llx, the first gave %016llx", n_rounds, (unsigned long long)hash, (unsigned long long)first);
        long kib = resident_kib();
        if (now_s() - begin < seconds / 10)
            early_kib = kib > early_kib ? kib : early_kib;
        else
            late_kib = kib > late_kib ? kib : late_kib;
    }
    CHECK_MSG(s.n_objects > 0, "nothing was found");
    CHECK_MSG(late_kib <= early_kib + GROWTH_KIB, "memory grew from %ld to %ld KiB", early_kib, late_kib);
    printf("%.0f s, %ld rounds, %ld models, %ld contexts, %ld runs, %ld objects, hash %016llx in every round, at most %ld KiB resident"
           " in the first tenth and %ld after\n", now_s() - begin, n_rounds, 2 * n_rounds, s.n_contexts, s.n_runs, s.n_objects,
           (unsigned long long)first, early_kib, late_kib);
    for (int i = 0; i < N_PICTURES; i++)
        free_picture(&s.pictures[i]);
    bytes_free(&s.files[0]);
    bytes_free(&s.files[1]);
    return check_report("soak");
}
