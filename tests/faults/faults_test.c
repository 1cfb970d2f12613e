/* Every call that can fail does, in turn: memory, threads, locks, files. Each time the failure is a status with one line to
 * say why, nothing is lost, what had succeeded works on, and the next attempt gives the same results as ever.
 *
 * Each try is a process of its own, so that a crash is seen for what it is. DET_FAULTS=all tries every call; otherwise some
 * calls of the most frequent kinds are left out. */
#include "api.h"
#include "child.h"
#include "faults.h"

enum { N_THREADS = 3, SOME = 50 };

static char path[] = "/tmp/libdetect-faults-test-XXXXXX";
static det_image pictures[2];
static results expected, got;
static bool fired_in_run;

/* Runs until the fault is behind; the context must survive it. */
static det_status run_twice(det_context *context, results *r) {
    det_output output = output_to(r);
    det_status status = det_run(context, pictures, 2, &output);
    if (status == DET_OK)
        return DET_OK;
    fired_in_run = true;
    char message[1024];
    snprintf(message, sizeof message, "%s", det_last_error());
    fault_disarm();
    if (det_run(context, pictures, 2, &output) != DET_OK || !same_objects(r, 0, &expected, 0) ||
        !same_objects(r, 1, &expected, 1)) {
        fprintf(stderr, "after '%s' the context fails: %s\n", message, det_last_error());
        _exit(1);
    }
    return status;
}

static det_status live(results *r) {
    det_model *model = NULL;
    det_context *context = NULL;
    det_context_options options = cpu_options(2, N_THREADS);
    det_profile profile = {.struct_size = sizeof profile};
    memset(r, 0, sizeof *r);
    det_status status = det_model_open(path, &model);
    if (status == DET_OK)
        status = det_context_create(model, &options, &context);
    if (status == DET_OK)
        status = run_twice(context, r);
    if (status == DET_OK)
        status = det_context_get_profile(context, &profile);
    det_context_destroy(context);
    det_model_close(model);
    return status;
}

/* The same by a pool of two contexts. */
static det_status live_pooled(results *r) {
    det_model *model = NULL;
    det_pool *pool = NULL;
    const det_context_options one_thread = cpu_options(1, 1);
    const det_pool_device device = {.options = &one_thread, .n_contexts = 2};
    det_pool_options options;
    det_pool_options_init(&options);
    options.devices = &device;
    options.n_devices = 1;
    memset(r, 0, sizeof *r);
    det_status status = det_model_open(path, &model);
    if (status == DET_OK)
        status = det_pool_create(model, &options, &pool);
    for (int i = 0; i < 2 && status == DET_OK; i++) {
        det_answer answer = {.struct_size = sizeof answer};
        det_request request;
        uint64_t ticket;
        det_request_init(&request);
        request.objects = r->objects[i];
        request.max_objects = MAX_OBJECTS;
        status = det_pool_submit(pool, &pictures[i], &request, NULL, NULL, &ticket);
        if (status == DET_OK)
            status = det_pool_wait(pool, ticket, -1, &answer);
        r->counts[i] = answer.n_objects;
        r->cuts[i] = answer.cuts;
    }
    det_pool_destroy(pool);
    det_model_close(model);
    return status;
}

static bool is_expected(const results *r) {
    return same_objects(r, 0, &expected, 0) && same_objects(r, 1, &expected, 1);
}

typedef struct fault {
    det_status (*live)(results *r);
    fault_kind kind;
    long at;
    det_status wanted;
    bool
        warm; /* after a life without faults: what libraries keep for good is there already, and memory can be counted */
} fault;

/* What is wrong with how a call failed, or NULL. */
static const char *judge(const fault *f) {
    fault_kind kind = f->kind;
    if (f->warm && (f->live(&got) != DET_OK || f->live(&got) != DET_OK))
        return "no life before the fault";
    long before = fault_live_blocks(), own_before = fault_own_blocks();
    fault_arm(kind, f->at);
    det_status status = f->live(&got);
    bool fired = fault_calls() >= f->at;
    fault_disarm();
    if (!fired)
        return "the call did not come";
    if (status == DET_OK && !is_expected(&got))
        return "success, but the results are others";
    if (status != f->wanted &&
        !(status == DET_OK && (kind == FAULT_NEW || kind == FAULT_MEMORY))) /* oneDNN and qsort help themselves */
        return det_status_name(status);
    if (status != DET_OK && !is_line(det_last_error()))
        return "no line that says why";
    if (f->live(&got) != DET_OK || !is_expected(&got))
        return "the next life fails";
    if (f->warm && (kind == FAULT_NEW ? fault_own_blocks() != own_before : fault_live_blocks() != before))
        return "memory is lost"; /* oneDNN loses some of its own where it throws */
    return NULL;
}

static int try_fault(const void *what) {
    const fault *f = what;
    const char *wrong = judge(f);
    if (wrong)
        fprintf(stderr, "%s %ld%s: %s; the message is: %s\n", fault_names[f->kind], f->at, f->warm ? ", warm" : "",
                wrong, det_last_error());
    return wrong != NULL;
}

static long count_calls(det_status (*life)(results *r), fault_kind kind) {
    int ends[2];
    long n = -1;
    REQUIRE(pipe(ends) == 0, "no pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        fault_arm(kind, 0);
        det_status status = life(&got);
        n = status == DET_OK ? fault_calls() : -1;
        fault_disarm();
        _exit(write(ends[1], &n, sizeof n) != sizeof n);
    }
    REQUIRE(child > 0 && waitpid(child, NULL, 0) == child && read(ends[0], &n, sizeof n) == sizeof n && n >= 0, "%s",
            fault_names[kind]);
    close(ends[0]);
    close(ends[1]);
    return n;
}

static const struct {
    det_status (*live)(results *r);
    fault_kind kind;
    det_status wanted;
    long least; /* calls that there must be */
} rows[] = {
    {live, FAULT_MEMORY, DET_ERROR_OUT_OF_MEMORY, 100},
    {live, FAULT_NEW, DET_ERROR_OUT_OF_MEMORY, 100},
    {live, FAULT_THREAD, DET_ERROR_OUT_OF_MEMORY, N_THREADS - 1},
    {live, FAULT_LOCK, DET_ERROR_OUT_OF_MEMORY, 4},
    {live, FAULT_OPEN, DET_ERROR_IO, 1},
    {live, FAULT_READ, DET_ERROR_IO, 2},
    {live, FAULT_END, DET_ERROR_IO, 2},
    {live, FAULT_SIGNAL, DET_OK, 2},
    {live, FAULT_SHORT, DET_OK, 2},
    {live, FAULT_STAT, DET_ERROR_IO, 1},
    {live, FAULT_MAP, DET_ERROR_OUT_OF_MEMORY, 10},
    {live_pooled, FAULT_THREAD, DET_ERROR_OUT_OF_MEMORY, 3}, /* two workers and the clerk */
    {live_pooled, FAULT_LOCK, DET_ERROR_OUT_OF_MEMORY, 70},  /* a condition for each of 64 requests among them */
};

static void test_kind(int row, bool all) {
    fault_kind kind = rows[row].kind;
    long n = count_calls(rows[row].live, kind), step = all ? 1 : 1 + n / SOME;
    CHECK_MSG(n >= rows[row].least, "%s: %ld calls", fault_names[kind], n);
    int n_tried = 0, n_failed = 0;
    for (long at = 1; at <= n && n_failed < 10; at += at < 8 ? 1 : step, n_tried++) {
        fault first = {rows[row].live, kind, at, rows[row].wanted, false}, later = first;
        later.warm = true;
        int cold = in_child(try_fault, &first), warm = in_child(try_fault, &later);
        n_failed += cold || warm;
        CHECK_MSG(!cold && !warm, "%s %ld of %ld: exit status %d, warm %d", fault_names[kind], at, n, cold, warm);
    }
    printf("  %-8s %6ld calls, %d of them failed in turn\n", fault_names[kind], n, n_tried);
}

int main(int argc, char **argv) {
    setenv("DNNL_PRIMITIVE_CACHE_CAPACITY", "0", 1); /* each life takes what it needs anew */
    const char *which = getenv("DET_FAULTS");
    int handle = mkstemp(path);
    REQUIRE(handle >= 0, "%s", path);
    close(handle);
    bytes file = make_model("yolov5-least", NULL);
    bytes_save(&file, path);
    bytes_free(&file);
    pictures[0] = random_picture(50, 40, DET_RGB8, 0);
    pictures[1] = random_picture(33, 64, DET_NV12, 0);
    OK(live(&expected));
    CHECK(expected.counts[0] > 0 || expected.counts[1] > 0);
    for (int i = 0; i < COUNT(rows); i++) {
        if (argc < 2 || !strcmp(argv[1], fault_names[rows[i].kind]))
            test_kind(i, which && !strcmp(which, "all"));
    }
    unlink(path);
    return check_report("faults");
}
