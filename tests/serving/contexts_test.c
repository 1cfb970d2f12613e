/* Pools of real contexts, through the public API: the same bytes alone and in any batch, thresholds, options, memory.
 *
 *     contexts_test [--device cpu|cuda] [--requests N]      of each of six callers, for each of three models: 40 */
#include "check.h"
#include "libdetect/detect.h"
#include "make_model.h"
#include "random.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

enum { N_PICTURES = 12, ROOM = 300, CALLERS = 6, LONG = 300000000 };

#define OK(call) CHECK_MSG((call) == DET_OK, "%s", det_last_error())

static int32_t device = DET_DEVICE_CPU;
static int n_requests = 40;

static det_image pictures[N_PICTURES];
static uint8_t pixels[N_PICTURES][200 * 200 * 4];

/* Sizes, formats and strides of all kinds. */
static void make_pictures(void) {
    static const int pixel_bytes[] = {[DET_RGB8] = 3, [DET_BGR8] = 3, [DET_RGBA8] = 4, [DET_GRAY8] = 1, [DET_NV12] = 1};
    uint64_t random = 5;
    for (int i = 0; i < N_PICTURES; i++) {
        for (size_t k = 0; k < sizeof pixels[i]; k++)
            pixels[i][k] = (uint8_t)random_next(&random);
        int format = i % 5, w = 20 + random_below(&random, 150), h = 20 + random_below(&random, 100);
        int64_t stride = (int64_t)(w + 1) * pixel_bytes[format] + i % 3;
        pictures[i] =
            (det_image){.planes = {pixels[i]}, .strides = {stride}, .width = w, .height = h, .format = format};
        if (format == DET_NV12) {
            pictures[i].planes[1] = pixels[i] + stride * h;
            pictures[i].strides[1] = stride + 1;
        }
    }
}

typedef struct expected {
    det_object objects[ROOM];
    int32_t n, cuts;
} expected;

static det_model *open_model(const char *name) {
    bytes file = make_model(name, NULL);
    det_model *model;
    REQUIRE(det_model_open_memory(file.data, file.n, &model) == DET_OK, "%s: %s", name, det_last_error());
    bytes_free(&file);
    return model;
}

static det_context_options options_of(int max_batch) {
    det_context_options o;
    det_context_options_init(&o);
    o.device = device;
    o.max_batch = max_batch;
    o.n_threads = device == DET_DEVICE_CPU ? 1 : 0;
    return o;
}

static det_thresholds with_score(float score) {
    det_thresholds t;
    det_thresholds_init(&t);
    t.score = score;
    return t;
}

/* Every picture alone, without a pool. */
static void run_alone(const det_model *model, float score, int room, expected *out) {
    det_context_options o = options_of(1);
    det_thresholds t = with_score(score);
    det_context *context;
    REQUIRE(det_context_create(model, &o, &context) == DET_OK, "%s", det_last_error());
    OK(det_context_set_thresholds(context, &t));
    for (int i = 0; i < N_PICTURES; i++) {
        det_output output = {sizeof output, out[i].objects, &out[i].n, room, DET_MEMORY_HOST, &out[i].cuts};
        OK(det_run(context, &pictures[i], 1, &output));
    }
    det_context_destroy(context);
}

static bool same(const det_answer *a, const expected *e) {
    return a->status == DET_OK && a->n_objects == e->n && a->cuts == e->cuts &&
           !memcmp(a->objects, e->objects, sizeof *e->objects * (size_t)e->n);
}

static det_pool *create_pool(const det_model *model, int max_batch, int n_contexts, int max_delay_us) {
    det_context_options context = options_of(0);
    det_pool_device entry = {&context, n_contexts, 0};
    det_pool_options o;
    det_pool *pool;
    det_pool_options_init(&o);
    o.devices = &entry;
    o.n_devices = 1;
    o.max_batch = max_batch;
    o.max_delay_us = max_delay_us;
    o.staging_bytes = 1 << 20;
    REQUIRE(det_pool_create(model, &o, &pool) == DET_OK, "%s", det_last_error());
    return pool;
}

/* ------------------------------------------------------------------------------------------------------ same bytes */

typedef struct caller {
    pthread_t thread;
    det_pool *pool;
    const expected *low, *high;
    int index, n_wrong, n_batched;
} caller;

static void *call(void *argument) {
    caller *c = argument;
    uint64_t random = (uint64_t)c->index;
    det_object *objects = malloc(sizeof *objects * ROOM);
    det_thresholds low = with_score(0.05f), high = with_score(0.3f);
    for (int k = 0; k < n_requests; k++) {
        int i = random_below(&random, N_PICTURES);
        bool is_low = random_below(&random, 3) > 0;
        det_request request;
        det_request_init(&request);
        request.objects = objects;
        request.max_objects = is_low ? ROOM : 5;
        request.thresholds = is_low ? &low : &high;
        request.pixels = random_below(&random, 2);
        det_answer answer = {.struct_size = sizeof answer};
        uint64_t ticket;
        if (det_pool_submit(c->pool, &pictures[i], &request, NULL, NULL, &ticket) == DET_OK)
            det_pool_wait(c->pool, ticket, LONG, &answer);
        c->n_wrong += answer.ticket == 0 || !same(&answer, &(is_low ? c->low : c->high)[i]);
        c->n_batched += answer.batch > 1;
    }
    free(objects);
    return NULL;
}

static void test_same_bytes(const char *name, int n_contexts) {
    static expected low[N_PICTURES], high[N_PICTURES];
    det_model *model = open_model(name);
    run_alone(model, 0.05f, ROOM, low);
    run_alone(model, 0.3f, 5, high);
    det_pool *pool = create_pool(model, 4, n_contexts, 2000);
    det_model_close(model); /* the pool needs it no longer */
    caller callers[CALLERS];
    int n_wrong = 0, n_batched = 0;
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.pool = pool, .low = low, .high = high, .index = i};
        REQUIRE(pthread_create(&callers[i].thread, NULL, call, &callers[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        n_wrong += callers[i].n_wrong;
        n_batched += callers[i].n_batched;
    }
    det_pool_stats stats = {.struct_size = sizeof stats};
    OK(det_pool_get_stats(pool, &stats));
    int n_objects = 0;
    for (int i = 0; i < N_PICTURES; i++)
        n_objects += low[i].n;
    printf("  %-20s %d contexts: %d of %d in batches, %lld runs, %d objects\n", name, stats.n_contexts, n_batched,
           CALLERS * n_requests, (long long)stats.n_runs, n_objects);
    CHECK_MSG(n_wrong == 0, "%s: %d answers differ from those of the picture alone", name, n_wrong);
    CHECK(n_batched > 0 && stats.n_succeeded == CALLERS * n_requests && n_objects > 0);
    det_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------------------- options */

static void test_options(const det_model *model) {
    det_context_options bad_side = options_of(2), good = options_of(2);
    bad_side.width = 33;
    det_pool_device entries[] = {{&good, 1, 0}, {&bad_side, 1, 0}}, reserved = {&good, 1, 1}, many = {&good, 65, 0};
    det_pool *pool;
    det_pool_options o;
#define REFUSED(change, status, fragment)                                                                              \
    do {                                                                                                               \
        det_pool_options_init(&o);                                                                                     \
        change;                                                                                                        \
        det_status got = det_pool_create(model, &o, &pool);                                                            \
        CHECK_MSG(got == (status) && strstr(det_last_error(), fragment) && !pool, "%s: %s", det_status_name(got),      \
                  det_last_error());                                                                                   \
    } while (0)
    REFUSED(o.struct_size = 4, DET_ERROR_INVALID_ARGUMENT, "struct_size is 4");
    REFUSED(o.n_devices = 1, DET_ERROR_INVALID_ARGUMENT, "n_devices is 1, devices NULL");
    REFUSED((o.devices = entries, o.n_devices = 0), DET_ERROR_INVALID_ARGUMENT, "n_devices is 0");
    REFUSED((o.devices = entries, o.n_devices = 2), DET_ERROR_INVALID_ARGUMENT, "devices[1]: width is 33");
    REFUSED((o.devices = &reserved, o.n_devices = 1), DET_ERROR_INVALID_ARGUMENT, "reserved");
    REFUSED((o.devices = &many, o.n_devices = 1), DET_ERROR_INVALID_ARGUMENT, "n_contexts is 65");
    REFUSED(o.max_batch = 257, DET_ERROR_INVALID_ARGUMENT, "max_batch is 257");
    REFUSED(o.max_delay_us = -1, DET_ERROR_INVALID_ARGUMENT, "max_delay_us is -1");
    REFUSED(o.capacity = 65537, DET_ERROR_INVALID_ARGUMENT, "capacity is 65537");
    REFUSED(o.max_objects = -1, DET_ERROR_INVALID_ARGUMENT, "max_objects is -1");
    REFUSED(o.max_attempts = 101, DET_ERROR_INVALID_ARGUMENT, "max_attempts is 101");
    REFUSED(o.staging_bytes = -1, DET_ERROR_INVALID_ARGUMENT, "staging_bytes is -1");
    REFUSED(o.staging_bytes = INT64_MAX / 4, DET_ERROR_OUT_OF_MEMORY,
            device == DET_DEVICE_CPU ? "out of host memory" : "pinned memory");
    CHECK(det_pool_create(NULL, NULL, &pool) == DET_ERROR_INVALID_ARGUMENT && !pool);
    CHECK(det_pool_create(model, NULL, NULL) == DET_ERROR_INVALID_ARGUMENT);
    det_pool_options_init(NULL);
    det_request_init(NULL);
}

static det_pool_context_stats context_stats(det_pool *pool, int index) {
    det_pool_context_stats stats = {.struct_size = sizeof stats};
    OK(det_pool_get_context_stats(pool, index, &stats));
    return stats;
}

/* Entries of different contexts; the pool's max_batch for those that say nothing, and as a limit for those that do. */
static void test_devices(const det_model *model) {
    det_context_options batch_2 = options_of(2), batch_8 = options_of(8), none = options_of(0);
    det_pool_device entries[] = {{&batch_2, 2, 0}, {&batch_8, 1, 0}, {&none, 1, 0}};
    det_pool_options o;
    det_pool_options_init(&o);
    o.devices = entries;
    o.n_devices = 3;
    o.max_batch = 5;
    det_pool *pool;
    REQUIRE(det_pool_create(model, &o, &pool) == DET_OK, "%s", det_last_error());
    static const int wanted[] = {2, 2, 5, 5};
    for (int i = 0; i < 4; i++) {
        det_pool_context_stats stats = context_stats(pool, i);
        CHECK_MSG(stats.max_batch == wanted[i] && stats.device == device && stats.device_index == 0, "%d: max_batch %d",
                  i, stats.max_batch);
        CHECK(stats.in_service == 1 && stats.n_running == 0 && stats.n_runs == 0 && strlen(stats.device_name) > 0);
    }
    det_pool_stats stats = {.struct_size = sizeof stats}, part = {.struct_size = 20, .n_held = -7};
    OK(det_pool_get_stats(pool, &stats));
    CHECK(stats.n_contexts == 4 && stats.n_in_service == 4 && stats.capacity == 64);
    OK(det_pool_get_stats(pool, &part)); /* an older program's */
    CHECK(part.n_contexts == 4 && part.capacity == 64 && part.n_held == -7);
    det_pool_destroy(pool);
}

/* Two CPU contexts share the cores when nobody says otherwise. */
static void test_defaults(const det_model *model) {
    det_pool *pool;
    REQUIRE(det_pool_create(model, NULL, &pool) == DET_OK, "%s", det_last_error());
    det_object objects[10];
    det_request request;
    det_request_init(&request);
    request.objects = objects;
    request.max_objects = 10;
    uint64_t ticket;
    OK(det_pool_submit(pool, &pictures[0], &request, NULL, NULL, &ticket));
    OK(det_pool_wait(pool, ticket, LONG, NULL));
    det_pool_stats stats = {.struct_size = sizeof stats};
    OK(det_pool_get_stats(pool, &stats));
    CHECK(stats.n_contexts >= 1 && stats.n_contexts <= 2 && stats.batches[1] == 1);
    det_pool_destroy(pool);
    det_context_options context;
    det_context_options_init(&context);
    context.device = DET_DEVICE_CPU;
    det_pool_device two = {&context, 2, 0};
    det_pool_options o;
    det_pool_options_init(&o);
    o.devices = &two;
    o.n_devices = 1;
    det_context *alone;
    det_context_info info = {.struct_size = sizeof info};
    OK(det_context_create(model, &context, &alone));
    OK(det_context_get_info(alone, &info));
    REQUIRE(det_pool_create(model, &o, &pool) == DET_OK, "%s", det_last_error());
    char wanted[40];
    int n = info.n_threads / 2 > 1 ? info.n_threads / 2 : 1;
    snprintf(wanted, sizeof wanted, "CPU, %d thread%s", n, n == 1 ? "" : "s");
    CHECK_MSG(!strcmp(context_stats(pool, 1).device_name, wanted), "%s", context_stats(pool, 1).device_name);
    det_pool_destroy(pool);
    det_context_destroy(alone);
}

/* ---------------------------------------------------------------------------------------------------------- memory */

typedef struct counter {
    atomic_int n_calls, n_live;
    int fail_at; /* 0: never */
} counter;

static void *allocate(void *user, size_t n_bytes, size_t alignment) {
    counter *c = user;
    if (atomic_fetch_add(&c->n_calls, 1) + 1 == c->fail_at)
        return NULL;
    atomic_fetch_add(&c->n_live, 1);
    return aligned_alloc(alignment, n_bytes);
}

static void release(void *user, void *pointer) {
    atomic_fetch_sub(&((counter *)user)->n_live, 1);
    free(pointer);
}

static det_status live(const det_model *model, counter *c, int *n_taken) {
    det_context_options context = options_of(2);
    det_pool_device two = {&context, 2, 0};
    det_pool_options o;
    det_pool *pool;
    det_pool_options_init(&o);
    o.devices = &two;
    o.n_devices = 1;
    o.staging_bytes = 1 << 20;
    det_status status = det_pool_create(model, &o, &pool);
    if (status != DET_OK)
        return status;
    int before = atomic_load(&c->n_calls);
    static det_object objects[N_PICTURES][ROOM];
    uint64_t tickets[N_PICTURES];
    for (int i = 0; i < N_PICTURES; i++) {
        det_thresholds t = with_score(0.1f * (float)(i % 3));
        det_request request;
        det_request_init(&request);
        request.objects = objects[i];
        request.max_objects = ROOM;
        request.thresholds = &t;
        request.pixels = i % 2;
        OK(det_pool_submit(pool, &pictures[i], &request, NULL, NULL, &tickets[i]));
    }
    for (int i = 0; i < N_PICTURES; i++)
        OK(det_pool_wait(pool, tickets[i], LONG, NULL));
    *n_taken = atomic_load(&c->n_calls) - before;
    det_pool_destroy(pool);
    return DET_OK;
}

/* Each allocation of creating fails once; requests take none. */
static void test_allocations(const det_model *model) {
    static counter c;
    const det_allocator hooks = {sizeof hooks, allocate, release, &c};
    int n_taken = -1;
    OK(det_set_allocator(&hooks));
    OK(live(model, &c, &n_taken));
    int n = atomic_load(&c.n_calls);
    CHECK_MSG(n_taken == 0 && n > 50 && atomic_load(&c.n_live) == 0, "%d of %d taken by requests", n_taken, n);
    for (int k = 1; k <= n; k += k < n - 40 ? 7 : 1) { /* those of contexts are api.alloc's business */
        atomic_store(&c.n_calls, 0);
        c.fail_at = k;
        det_status status = live(model, &c, &n_taken);
        CHECK_MSG(status == DET_ERROR_OUT_OF_MEMORY && atomic_load(&c.n_live) == 0,
                  "allocation %d of %d fails: %s, %d live", k, n, det_status_name(status), atomic_load(&c.n_live));
    }
    OK(det_set_allocator(NULL));
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--device"))
            device = !strcmp(argv[i + 1], "cuda") ? DET_DEVICE_CUDA : DET_DEVICE_CPU;
        if (!strcmp(argv[i], "--requests"))
            n_requests = atoi(argv[i + 1]);
    }
    make_pictures();
    test_same_bytes("yolov8-tiny", 1);
    test_same_bytes("yolov5-tiny", 2);
    test_same_bytes("damofd-0.5g-kps", 2);
    det_model *model = open_model("yolov5-tiny");
    test_options(model);
    test_devices(model);
    test_defaults(model);
    if (device == DET_DEVICE_CPU)
        test_allocations(model);
    det_model_close(model);
    return check_report("contexts");
}
