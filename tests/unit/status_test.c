/* Status names, messages, the log, and host memory. */
#include "check.h"
#include "status.h"

#include <pthread.h>

static void test_names(void) {
    static const struct {
        det_status status;
        const char *name;
    } rows[] = {{0, "DET_OK"},
                {-1, "DET_ERROR_INVALID_ARGUMENT"},
                {-2, "DET_ERROR_OUT_OF_MEMORY"},
                {-3, "DET_ERROR_IO"},
                {-4, "DET_ERROR_BAD_MODEL"},
                {-5, "DET_ERROR_UNSUPPORTED"},
                {-6, "DET_ERROR_NO_DEVICE"},
                {-7, "DET_ERROR_DEVICE"},
                {-8, "DET_ERROR_BUSY"},
                {-9, "DET_ERROR_INTERNAL"},
                {-10, "DET_ERROR_QUEUE_FULL"},
                {-11, "DET_ERROR_TIMEOUT"},
                {-12, "DET_ERROR_DEADLINE"},
                {-13, "DET_ERROR_CANCELLED"},
                {-14, "DET_ERROR_CLOSED"},
                {-15, "unknown status"},
                {1, "unknown status"},
                {INT32_MIN, "unknown status"},
                {INT32_MAX, "unknown status"}};
    for (size_t i = 0; i < DET_COUNT(rows); i++)
        CHECK_MSG(!strcmp(det_status_name(rows[i].status), rows[i].name), "%d is %s", rows[i].status, det_status_name(rows[i].status));
}

/* --------------------------------------------------------------------------------------------------------- messages */

static void test_messages(void) {
    CHECK(!strcmp(det_last_error(), ""));
    CHECK(det_fail(DET_ERROR_IO, "%s: %d", "what", 7) == DET_ERROR_IO && !strcmp(det_last_error(), "what: 7"));
    CHECK(det_fail(DET_ERROR_DEVICE, "(%s)", det_last_error()) == DET_ERROR_DEVICE && !strcmp(det_last_error(), "(what: 7)"));
    det_fail_prefix("node '%s'", "a");
    det_fail_prefix("plan");
    CHECK_MSG(!strcmp(det_last_error(), "plan: node 'a': (what: 7)"), "%s", det_last_error());
    det_fail(DET_ERROR_IO, "a\nb\tc\x1b[31md\x7f" "e \xc3\xa9");
    CHECK_MSG(!strcmp(det_last_error(), "a?b?c?[31md?e \xc3\xa9"), "%s", det_last_error());
    det_fail(DET_ERROR_IO, "a\xc2\x9b" "31mb\xc2\x85" "c\xc2\xa0" "d\xc2");
    CHECK_MSG(!strcmp(det_last_error(), "a??31mb??c\xc2\xa0" "d\xc2"), "%s", det_last_error());
    det_fail(DET_ERROR_IO, "a\nb");
    det_fail_prefix("x\r\ny");
    CHECK_MSG(!strncmp(det_last_error(), "x??y: a?b", 9), "%s", det_last_error());
}

/* Whatever goes in, what comes out is one line that ends within the buffer. */
static void test_long_messages(void) {
    char *text = malloc(5001);
    memset(text, 'x', 5000);
    text[5000] = '\0';
    det_fail(DET_ERROR_IO, "begin %s end", text);
    CHECK(strlen(det_last_error()) == 1023 && !strncmp(det_last_error(), "begin xxx", 9));
    det_fail_prefix("%s", text);
    CHECK(strlen(det_last_error()) <= 1023 && strstr(det_last_error(), "xxx...: begin xxx"));
    for (int i = 0; i < 20; i++)
        det_fail_prefix("level %d", i);
    CHECK(strlen(det_last_error()) == 1023 && !strncmp(det_last_error(), "level 19: level 18: ", 20));
    free(text);
}

/* What is cut says so, and is cut between characters. */
static void test_cut_messages(void) {
    static const char *const characters[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\x80"};
    for (size_t i = 0; i < DET_COUNT(characters); i++) {
        char text[2048] = "";
        size_t width = strlen(characters[i]);
        for (size_t offset = 0; offset < 4; offset++) {
            memset(text, 'a', offset);
            for (size_t n = offset; n + width < sizeof text; n += width)
                memcpy(text + n, characters[i], width + 1);
            det_fail(DET_ERROR_IO, "%s", text);
            for (int pass = 0; pass < 2; pass++) {
                const char *message = det_last_error();
                size_t length = strlen(message), n_added = pass ? strlen("p: ") : 0;
                CHECK_MSG(length >= 1020 && length <= 1023 && !strcmp(message + length - 3, "..."), "%zu: %s", i,
                          message + length - 8);
                CHECK_MSG((length - 3 - offset - n_added) % width == 0, "%zu: %s", i, message + length - 8);
                det_fail_prefix("p");
            }
        }
    }
    char fits[1024];
    memset(fits, 'x', sizeof fits);
    fits[1023] = '\0';
    det_fail(DET_ERROR_IO, "%s", fits);
    CHECK(!strcmp(det_last_error(), fits));
}

static void *other_thread(void *unused) {
    (void)unused;
    bool fresh = !strcmp(det_last_error(), "");
    det_fail(DET_ERROR_IO, "the other's");
    return fresh && !strcmp(det_last_error(), "the other's") ? (void *)1 : NULL;
}

static void test_threads(void) {
    det_fail(DET_ERROR_IO, "mine");
    pthread_t thread;
    void *result;
    REQUIRE(pthread_create(&thread, NULL, other_thread, NULL) == 0, "thread");
    pthread_join(thread, &result);
    CHECK(result != NULL);
    CHECK(!strcmp(det_last_error(), "mine"));
}

/* -------------------------------------------------------------------------------------------------------------- log */

typedef struct log_record {
    int n, level;
    char message[2000];
} log_record;

static void record(void *user, int level, const char *message) {
    log_record *r = user;
    r->n++;
    r->level = level;
    snprintf(r->message, sizeof r->message, "%s", message);
}

static void test_log(void) {
    log_record r = {0};
    det_log(DET_LOG_ERROR, "nobody listens");
    CHECK(!det_log_wanted(DET_LOG_ERROR));
    det_set_log(record, DET_LOG_WARNING, &r);
    CHECK(det_log_wanted(DET_LOG_ERROR) && det_log_wanted(DET_LOG_WARNING) && !det_log_wanted(DET_LOG_INFO));
    det_log(DET_LOG_INFO, "too quiet");
    CHECK(r.n == 0);
    det_log(DET_LOG_WARNING, "%d\n%s", 5, "lines");
    CHECK_MSG(r.n == 1 && r.level == DET_LOG_WARNING && !strcmp(r.message, "5?lines"), "%s", r.message);
    det_set_log(NULL, DET_LOG_DEBUG, NULL);
    det_log(DET_LOG_ERROR, "nobody listens");
    CHECK(r.n == 1 && !det_log_wanted(DET_LOG_ERROR));
}

/* ----------------------------------------------------------------------------------------------------------- memory */

static void test_memory(void) {
    void *p = det_alloc(0), *q = det_alloc(1);
    CHECK(p && q && p != q && (uintptr_t)p % 64 == 0 && (uintptr_t)q % 64 == 0);
    det_free(p);
    det_free(q);
    det_free(NULL);
    uint8_t *zeros = det_alloc_array(33, 7);
    int n_set = 0;
    for (int i = 0; i < 33 * 7; i++)
        n_set += zeros[i] != 0;
    CHECK(n_set == 0);
    det_free(zeros);
    det_free(det_alloc_array(0, 8));
    CHECK(!det_alloc(SIZE_MAX) && strstr(det_last_error(), "out of host memory"));
    CHECK(!det_alloc(SIZE_MAX - 63) && !det_alloc(SIZE_MAX / 2));
    CHECK(!det_alloc_array(SIZE_MAX / 4, 8) && strstr(det_last_error(), "elements of 8 bytes"));
}

static void test_grow(void) {
    int *array = NULL, capacity = 0, n_wrong = 0;
    for (int n = 0; n < 1000; n++) {
        CHECK(det_grow((void **)&array, n, &capacity, sizeof *array) == DET_OK && capacity > n);
        array[n] = n;
    }
    for (int i = 0; i < 1000; i++)
        n_wrong += array[i] != i;
    CHECK(n_wrong == 0);
    det_free(array);
}

typedef struct counter {
    int n_live;
    size_t alignment;
} counter;

static void *count_allocation(void *user, size_t n_bytes, size_t alignment) {
    counter *c = user;
    c->n_live++;
    c->alignment = alignment;
    return aligned_alloc(alignment, n_bytes);
}

static void count_release(void *user, void *pointer) {
    ((counter *)user)->n_live--;
    free(pointer);
}

static void test_hooks(void) {
    counter c = {0};
    det_allocator hooks = {sizeof hooks, count_allocation, count_release, &c};
    det_allocator broken = hooks;
    broken.struct_size = sizeof hooks - 1;
    CHECK(det_set_allocator(&broken) == DET_ERROR_INVALID_ARGUMENT && strstr(det_last_error(), "det_allocator: struct_size is 31"));
    broken = hooks;
    broken.allocate = NULL;
    CHECK(det_set_allocator(&broken) == DET_ERROR_INVALID_ARGUMENT && strstr(det_last_error(), "allocate is NULL"));
    broken = hooks;
    broken.release = NULL;
    CHECK(det_set_allocator(&broken) == DET_ERROR_INVALID_ARGUMENT && strstr(det_last_error(), "release is NULL"));
    struct {
        det_allocator known;
        char more[8];
    } newer = {hooks, {1}};
    newer.known.struct_size = sizeof newer;
    CHECK(det_set_allocator(&newer.known) == DET_ERROR_UNSUPPORTED && strstr(det_last_error(), "byte 32 is set"));
    det_free(det_alloc(1));
    CHECK(c.alignment == 0); /* a refused one is not in force */
    CHECK(det_set_allocator(&hooks) == DET_OK);
    void *p = det_alloc(100);
    CHECK(p && c.n_live == 1 && c.alignment == 64 && (uintptr_t)p % 64 == 0);
    det_free(p);
    CHECK(c.n_live == 0);
    CHECK(det_set_allocator(NULL) == DET_OK);
    det_free(det_alloc(1));
    CHECK(c.n_live == 0);
}

int main(void) {
    test_names();
    test_messages();
    test_long_messages();
    test_cut_messages();
    test_threads();
    test_log();
    test_memory();
    test_grow();
    test_hooks();
    return check_report("status");
}
