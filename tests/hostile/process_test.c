/* What a host's process may do to the library inside it: fork, give it a small stack, interrupt it, name files that are
 * none. */
#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[] = "/tmp/libdetect-process-test-XXXXXX";
static bytes file;
static det_image picture;
static results expected;

/* A whole life, from a file, on two threads. */
static void live(void) {
    results *r = calloc(1, sizeof *r);
    det_model *model;
    det_context_options options = cpu_options(1, 2);
    OK(det_model_open(path, &model));
    det_context *context = create(model, &options);
    run(context, &picture, 1, r);
    CHECK(same_objects(r, 0, &expected, 0));
    det_context_destroy(context);
    det_model_close(model);
    free(r);
}

/* ------------------------------------------------------------------------------------------------------------- fork */

/* The child's part. Its checks end in its exit status. */
static int use_after_fork(det_model *model, det_context *context) {
    static results r;
    det_output output = output_to(&r);
    det_profile profile = {.struct_size = sizeof profile};
    check_failures = 0;
    EXPECT(det_run(context, &picture, 1, &output), DET_ERROR_UNSUPPORTED, "was forked from it; make one after the fork");
    EXPECT(det_context_set_thresholds(context, NULL), DET_ERROR_UNSUPPORTED, "after the fork");
    EXPECT(det_context_get_profile(context, &profile), DET_ERROR_UNSUPPORTED, "after the fork");
    det_context_destroy(context);
    det_context_options options = cpu_options(1, 3);
    det_context *own = create(model, &options); /* the model is as good here as there */
    run(own, &picture, 1, &r);
    CHECK(same_objects(&r, 0, &expected, 0));
    det_context_destroy(own);
    det_model_close(model);
    live();
    return check_failures != 0;
}

static void test_fork(void) {
    static results r;
    det_model *model;
    det_context_options options = cpu_options(1, 3);
    OK(det_model_open_memory(file.data, file.n, &model));
    det_context *context = create(model, &options);
    run(context, &picture, 1, &r);
    for (int i = 0; i < 5; i++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            alarm(120); /* a child that waits for threads that it does not have ends so */
            _exit(use_after_fork(model, context));
        }
        int status = -1;
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child, "no child");
        CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child's status is %x", status);
        run(context, &picture, 1, &r);
        CHECK(same_objects(&r, 0, &expected, 0));
    }
    det_context_destroy(context);
    det_model_close(model);
}

/* ------------------------------------------------------------------------------------------------------------ stack */

static void open_deep_files(void) {
    for (int object = 0; object < 2; object++) {
        text header = {0};
        text_add(&header, "{\"x\":");
        for (int i = 0; i < 2000; i++) /* as deep as some JSON readers go */
            text_add(&header, object ? "{\"\":" : "[");
        bytes deep = model_file_from(header.chars, NULL, 0);
        det_model *model;
        EXPECT(det_model_open_memory(deep.data, deep.n, &model), DET_ERROR_BAD_MODEL, "nested more than 16 deep");
        bytes_free(&deep);
        text_free(&header);
    }
}

static void *live_on_small_stack(void *argument) {
    open_deep_files();
    live();
    return argument;
}

/* Far less than any system gives a thread by itself; sanitizers need more. */
static void test_stack(void) {
#ifdef DET_SANITIZE
    size_t n_bytes = 1 << 20;
#else
    size_t n_bytes = 64 << 10;
#endif
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    REQUIRE(pthread_attr_setstacksize(&attributes, n_bytes) == 0, "%zu bytes of stack", n_bytes);
    REQUIRE(pthread_create(&thread, &attributes, live_on_small_stack, NULL) == 0, "%zu bytes of stack", n_bytes);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

/* ---------------------------------------------------------------------------------------------------------- signals */

static volatile sig_atomic_t n_signals;

static void count_signal(int number) {
    (void)number;
    n_signals++;
}

/* Calls are cut short by signals all the time: the handler is set without SA_RESTART. */
static void test_signals(void) {
    struct sigaction action = {.sa_handler = count_signal};
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 200 && (i < 10 || n_signals < 50); i++)
        live();
    setitimer(ITIMER_REAL, &never, NULL);
    CHECK_MSG(n_signals >= 10, "%d signals", (int)n_signals);
}

/* A host that blocks signals, or handles them, finds its mask and its handlers as they were. */
static void test_signal_state(void) {
    sigset_t before, after;
    struct sigaction pipe_before, pipe_after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    sigaction(SIGPIPE, NULL, &pipe_before);
    live();
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    sigaction(SIGPIPE, NULL, &pipe_after);
    for (int i = 1; i < 32; i++)
        CHECK(sigismember(&before, i) == sigismember(&after, i));
    CHECK(pipe_before.sa_handler == pipe_after.sa_handler);
}

/* ------------------------------------------------------------------------------------------------------------ files */

static void expect_file(const char *name, det_status status, const char *fragment) {
    det_model *model;
    EXPECT(det_model_open(name, &model), status, fragment);
    CHECK(strstr(det_last_error(), name) && model == NULL);
}

static void test_files(void) {
    char name[sizeof path + 8];
    snprintf(name, sizeof name, "%s.x", path);
    expect_file(name, DET_ERROR_IO, "cannot be opened: No such file or directory");
    expect_file("/", DET_ERROR_IO, "not a regular file");
    REQUIRE(mkfifo(name, 0600) == 0, "%s", name);
    alarm(60);
    expect_file(name, DET_ERROR_IO, "not a regular file"); /* and it did not wait for a writer */
    alarm(0);
    unlink(name);
    int handle = open(name, O_CREAT | O_RDWR, 0600);
    REQUIRE(handle >= 0, "%s", name);
    if (ftruncate(handle, (4LL << 30) + 1) == 0) /* no bytes on the disk */
        expect_file(name, DET_ERROR_BAD_MODEL, "4294967297 bytes; at most 4294967296 are allowed");
    /* Large, but not a model: that is known before memory is taken for it. */
    if (ftruncate(handle, 4LL << 30) == 0 && pwrite(handle, "\xff\xff\xff\xff\xff", 5, 0) == 5)
        expect_file(name, DET_ERROR_BAD_MODEL, "not a model file: a header of 1099511627775 bytes");
    if (geteuid() != 0 && fchmod(handle, 0) == 0)
        expect_file(name, DET_ERROR_IO, "cannot be opened: Permission denied");
    close(handle);
    unlink(name);
}

/* -------------------------------------------------------------------------------------------------------- handles */

static int count_open_files(void) {
    int n = 0;
    for (int handle = 0; handle < 256; handle++)
        n += fcntl(handle, F_GETFD) != -1;
    return n;
}

static void test_open_files(void) {
    live();
    int before = count_open_files();
    for (int i = 0; i < 3; i++)
        live();
    CHECK_MSG(count_open_files() == before, "%d files are open, %d were", count_open_files(), before);
}

int main(void) {
    int handle = mkstemp(path);
    REQUIRE(handle >= 0, "%s", path);
    close(handle);
    file = make_model("yolo11-tiny", NULL);
    bytes_save(&file, path);
    picture = random_picture(77, 55, DET_RGB8, 0);
    det_model *model;
    OK(det_model_open(path, &model));
    det_context_options options = cpu_options(1, 2);
    det_context *context = create(model, &options);
    run(context, &picture, 1, &expected);
    CHECK(expected.counts[0] > 0);
    det_context_destroy(context);
    det_model_close(model);

    test_fork();
    test_stack();
    test_signals();
    test_signal_state();
    test_files();
    test_open_files();
    unlink(path);
    bytes_free(&file);
    free_picture(&picture);
    return check_report("process");
}
