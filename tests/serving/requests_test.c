/* One pool of simulated devices, seen by its callers: answers, refusals, deadlines, priorities, copies, ends. */
#include "sim.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECOND = 1000000, LONG = 60 * SECOND };

/* A device that stands still until the gate is opened, with one request in it; others then wait in the queue. */
typedef struct stage {
    pthread_mutex_t gate;
    sim device;
    det_pool *pool;
    uint64_t blocker, pixels;
    det_object objects[SIM_OBJECTS];
} stage;

static void await_running(det_pool *pool, int n) {
    while (sim_stats(pool).n_running != n)
        sim_sleep(100);
}

static void stage_open(stage *s, const det_pool_setup *setup, int max_batch) {
    *s = (stage){.gate = PTHREAD_MUTEX_INITIALIZER};
    s->device.gate = &s->gate;
    pthread_mutex_lock(&s->gate);
    s->pool = sim_pool(setup, &s->device, 1, max_batch);
    det_image image = sim_picture(&s->pixels, 3);
    det_request request = sim_request(s->objects);
    s->blocker = sim_submit(s->pool, &image, &request);
    await_running(s->pool, 1);
}

static void stage_close(stage *s) {
    det_pool_destroy(s->pool);
    CHECK(atomic_load(&s->device.closed) == 1 && atomic_load(&s->device.n_overlaps) == 0);
}

#define FAILS(call, status, fragment)                                                                                  \
    do {                                                                                                               \
        det_status fails_got = (call);                                                                                 \
        CHECK_MSG(fails_got == (status) && strstr(det_last_error(), fragment), "%s: %s", det_status_name(fails_got),   \
                  det_last_error());                                                                                   \
    } while (0)

/* ------------------------------------------------------------------------------------------------------ callbacks */

typedef struct record {
    det_pool *pool;
    pthread_mutex_t mutex;
    int n;
    uint64_t tickets[64];
    det_status statuses[64];
    det_status in_callback[2];
} record;

static void remember(void *user, const det_answer *answer) {
    record *r = user;
    pthread_mutex_lock(&r->mutex);
    r->statuses[r->n] = answer->status;
    r->tickets[r->n++] = answer->ticket;
    pthread_mutex_unlock(&r->mutex);
    if (r->pool) { /* what a callback must not do is refused */
        r->in_callback[0] = det_pool_wait(r->pool, answer->ticket, 0, NULL);
        r->in_callback[1] = det_pool_drain(r->pool, 0);
    }
}

static void test_callback(void) {
    sim device = {0};
    det_pool_setup setup = sim_setup(4);
    record r = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    r.pool = sim_pool(&setup, &device, 1, 4);
    det_object objects[SIM_OBJECTS];
    uint64_t pixels, ticket = 0;
    det_image image = sim_picture(&pixels, 9);
    det_request request = sim_request(objects);
    CHECK(det_pool_submit(r.pool, &image, &request, remember, &r, &ticket) == DET_OK && ticket == 1);
    CHECK(det_pool_drain(r.pool, LONG) == DET_OK);
    CHECK(r.n == 1 && r.tickets[0] == ticket && r.statuses[0] == DET_OK);
    CHECK(r.in_callback[0] == DET_ERROR_BUSY && r.in_callback[1] == DET_ERROR_BUSY);
    FAILS(det_pool_wait(r.pool, ticket, 0, NULL), DET_ERROR_INVALID_ARGUMENT, "no request that could be collected");
    det_pool_destroy(r.pool);
}

typedef struct chain {
    det_pool *pool;
    det_image image;
    det_request request;
    int n_left, n_wrong;
} chain;

/* The callback of each submits the next one: its own place is free by then, even in a pool of one. */
static void next(void *user, const det_answer *answer) {
    chain *c = user;
    c->n_wrong += !sim_is_right(answer, 4, SIM_OBJECTS);
    if (--c->n_left > 0)
        c->n_wrong += det_pool_submit(c->pool, &c->image, &c->request, next, c, NULL) != DET_OK;
}

static void test_chain(void) {
    sim device = {0};
    det_pool_setup setup = sim_setup(1);
    det_object objects[SIM_OBJECTS];
    uint64_t pixels;
    chain c = {sim_pool(&setup, &device, 1, 1), sim_picture(&pixels, 4), sim_request(objects), 200, 0};
    CHECK(det_pool_submit(c.pool, &c.image, &c.request, next, &c, NULL) == DET_OK);
    while (sim_stats(c.pool).n_succeeded < 200)
        sim_sleep(200);
    CHECK(det_pool_drain(c.pool, LONG) == DET_OK && c.n_left == 0 && c.n_wrong == 0);
    det_pool_destroy(c.pool);
}

/* ----------------------------------------------------------------------------------------------------------- waits */

static void test_wait(void) {
    stage s;
    det_pool_setup setup = sim_setup(4);
    stage_open(&s, &setup, 4);
    det_answer answer = {.struct_size = sizeof answer, .ticket = 77}, tiny = {.struct_size = 8};
    FAILS(det_pool_wait(s.pool, s.blocker, 0, &answer), DET_ERROR_TIMEOUT, "not answered yet");
    int64_t before_us = det_clock_us();
    CHECK(det_pool_wait(s.pool, s.blocker, 20000, &answer) == DET_ERROR_TIMEOUT);
    CHECK(det_clock_us() - before_us >= 20000 && answer.ticket == 77);
    FAILS(det_pool_wait(s.pool, 99, -1, &answer), DET_ERROR_INVALID_ARGUMENT, "ticket 99");
    FAILS(det_pool_wait(s.pool, 0, -1, &answer), DET_ERROR_INVALID_ARGUMENT, "ticket 0");
    FAILS(det_pool_wait(s.pool, s.blocker, -1, &tiny), DET_ERROR_INVALID_ARGUMENT, "struct_size");
    pthread_mutex_unlock(&s.gate);
    CHECK(det_pool_wait(s.pool, s.blocker, -1, &answer) == DET_OK && answer.ticket == s.blocker);
    CHECK(sim_is_right(&answer, 3, SIM_OBJECTS) && answer.objects == s.objects && answer.batch == 1);
    CHECK(answer.run_us >= 20000 && answer.wait_us >= 0 && answer.context == 0 && answer.n_attempts == 1);
    FAILS(det_pool_wait(s.pool, s.blocker, 0, &answer), DET_ERROR_INVALID_ARGUMENT, "collected already");
    CHECK(sim_stats(s.pool).n_held == 0);
    stage_close(&s);
}

static void *wait_long(void *argument) {
    stage *s = argument;
    return (void *)(intptr_t)det_pool_wait(s->pool, s->blocker, LONG, NULL);
}

/* A ticket has one waiter, and destroying the pool answers it. */
static void test_destroy_under_a_waiter(void) {
    stage s;
    det_pool_setup setup = sim_setup(4);
    stage_open(&s, &setup, 4);
    det_object objects[3][SIM_OBJECTS];
    det_request request = sim_request(objects[0]);
    uint64_t pixels;
    det_image image = sim_picture(&pixels, 5);
    record r = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    CHECK(det_pool_submit(s.pool, &image, &request, remember, &r, NULL) == DET_OK);
    pthread_t waiter;
    void *status;
    REQUIRE(pthread_create(&waiter, NULL, wait_long, &s) == 0, "thread");
    det_status second;
    while ((second = det_pool_wait(s.pool, s.blocker, 0, NULL)) == DET_ERROR_TIMEOUT)
        sim_sleep(100);
    CHECK(second == DET_ERROR_BUSY);
    pthread_mutex_unlock(&s.gate);
    det_pool_destroy(s.pool); /* the running one ends as usual; the other ran, or was cancelled */
    pthread_join(waiter, &status);
    CHECK((intptr_t)status == DET_OK);
    CHECK(r.n == 1 && (r.statuses[0] == DET_ERROR_CANCELLED || r.statuses[0] == DET_OK));
}

typedef struct waiter {
    pthread_t thread;
    det_pool *pool;
    uint64_t ticket, pixels;
    det_object objects[SIM_OBJECTS];
    det_status status;
} waiter;

static void *wait_for_it(void *argument) {
    waiter *w = argument;
    w->status = det_pool_wait(w->pool, w->ticket, LONG, NULL);
    return NULL;
}

static int n_callers(det_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    int n = pool->n_callers;
    pthread_mutex_unlock(&pool->mutex);
    return n;
}

/* All of them have their answers and have left before the pool is gone. */
static void test_destroy_under_many_waiters(void) {
    enum { WAITERS = 24 };
    static waiter waiters[WAITERS];
    for (int round = 0; round < 30; round++) {
        pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
        sim device = {.gate = &gate};
        det_pool_setup setup = sim_setup(WAITERS);
        pthread_mutex_lock(&gate);
        det_pool *pool = sim_pool(&setup, &device, 1, 4);
        for (int i = 0; i < WAITERS; i++) {
            det_image image = sim_picture(&waiters[i].pixels, (uint64_t)i);
            det_request request = sim_request(waiters[i].objects);
            waiters[i].pool = pool;
            waiters[i].ticket = sim_submit(pool, &image, &request);
            REQUIRE(pthread_create(&waiters[i].thread, NULL, wait_for_it, &waiters[i]) == 0, "thread %d", i);
        }
        while (n_callers(pool) < WAITERS)
            sim_sleep(100);
        pthread_mutex_unlock(&gate);
        det_pool_destroy(pool);
        for (int i = 0; i < WAITERS; i++) {
            pthread_join(waiters[i].thread, NULL);
            CHECK_MSG(waiters[i].status == DET_OK || waiters[i].status == DET_ERROR_CANCELLED, "%s",
                      det_status_name(waiters[i].status));
        }
    }
}

/* -------------------------------------------------------------------------------------------------------- refusals */

static void test_arguments(void) {
    sim device = {0};
    det_pool_setup setup = sim_setup(4);
    det_pool *pool = sim_pool(&setup, &device, 1, 4);
    det_object objects[SIM_OBJECTS];
    uint64_t pixels, ticket;
    det_image image = sim_picture(&pixels, 1), wide = image;
    wide.width = 9;
    const det_request good = sim_request(objects);
    det_request r = good;
    det_thresholds t;
    det_thresholds_init(&t);
#define REFUSED(change, fragment)                                                                                      \
    do {                                                                                                               \
        r = good;                                                                                                      \
        change;                                                                                                        \
        FAILS(det_pool_submit(pool, &image, &r, NULL, NULL, &ticket), DET_ERROR_INVALID_ARGUMENT, fragment);           \
    } while (0)
    FAILS(det_pool_submit(NULL, &image, &r, NULL, NULL, &ticket), DET_ERROR_INVALID_ARGUMENT, "pool is NULL");
    FAILS(det_pool_submit(pool, NULL, &r, NULL, NULL, &ticket), DET_ERROR_INVALID_ARGUMENT, "image is NULL");
    FAILS(det_pool_submit(pool, &image, NULL, NULL, NULL, &ticket), DET_ERROR_INVALID_ARGUMENT, "request is NULL");
    FAILS(det_pool_submit(pool, &image, &r, NULL, NULL, NULL), DET_ERROR_INVALID_ARGUMENT, "nobody would get");
    FAILS(det_pool_submit(pool, &wide, &r, NULL, NULL, &ticket), DET_ERROR_INVALID_ARGUMENT, "strides[0] is 8");
    wide.memory = DET_MEMORY_DEVICE;
    FAILS(det_pool_submit(pool, &wide, &r, NULL, NULL, &ticket), DET_ERROR_INVALID_ARGUMENT, "host memory");
    REFUSED(r.struct_size = 8, "struct_size is 8");
    REFUSED(r.objects = NULL, "objects is NULL");
    REFUSED(r.max_objects = 0, "max_objects 0");
    REFUSED(r.priority = 5, "priority is 5");
    REFUSED(r.priority = -5, "priority is -5");
    REFUSED(r.pixels = 2, "pixels is 2");
    REFUSED(r.pixels = DET_PIXELS_COPIED, "without staging_bytes");
    REFUSED(r.deadline_us = -1, "deadline_us is -1");
    REFUSED(r.reserved = 1, "reserved");
    REFUSED((t.score = 2, r.thresholds = &t), "score is 2");
    FAILS(det_pool_cancel(pool, 1), DET_ERROR_INVALID_ARGUMENT, "ticket 1");
    FAILS(det_pool_get_stats(pool, NULL), DET_ERROR_INVALID_ARGUMENT, "NULL");
    FAILS(det_pool_get_context_stats(pool, 1, NULL), DET_ERROR_INVALID_ARGUMENT, "index is 1");
    FAILS(det_pool_drain(NULL, 0), DET_ERROR_INVALID_ARGUMENT, "NULL");
    FAILS(det_pool_wait(NULL, 1, 0, NULL), DET_ERROR_INVALID_ARGUMENT, "NULL");
    FAILS(det_pool_cancel(NULL, 1), DET_ERROR_INVALID_ARGUMENT, "NULL");
    det_pool_stats stats = sim_stats(pool);
    CHECK(stats.n_submitted == 0 && stats.n_held == 0 && stats.n_rejected == 0 && atomic_load(&device.n_runs) == 0);
    det_pool_destroy(pool);
    det_pool_destroy(NULL);
}

static void test_full(void) {
    stage s;
    det_pool_setup setup = sim_setup(3);
    stage_open(&s, &setup, 2);
    det_object objects[2][SIM_OBJECTS];
    uint64_t pixels[2], tickets[2], none;
    for (int i = 0; i < 2; i++) {
        det_image image = sim_picture(&pixels[i], 10 + (uint64_t)i);
        det_request request = sim_request(objects[i]);
        tickets[i] = sim_submit(s.pool, &image, &request);
    }
    det_image image = sim_picture(&pixels[0], 10);
    det_request request = sim_request(objects[0]);
    int64_t before_us = det_clock_us();
    FAILS(det_pool_submit(s.pool, &image, &request, NULL, NULL, &none), DET_ERROR_QUEUE_FULL, "3 requests");
    CHECK(det_clock_us() - before_us < 20 * SECOND); /* no hang: the gate is shut */
    det_pool_stats stats = sim_stats(s.pool);
    CHECK(stats.n_rejected == 1 && stats.n_waiting == 2 && stats.n_running == 1 && stats.n_held == 3);
    CHECK(stats.max_waiting == 2 && stats.capacity == 3 && stats.n_submitted == 3);
    pthread_mutex_unlock(&s.gate);
    CHECK(det_pool_wait(s.pool, tickets[1], LONG, NULL) == DET_OK);
    CHECK(det_pool_wait(s.pool, tickets[0], LONG, NULL) == DET_OK);
    FAILS(det_pool_submit(s.pool, &image, &request, NULL, NULL, NULL), DET_ERROR_INVALID_ARGUMENT, "nobody");
    CHECK(sim_stats(s.pool).n_held == 1); /* the first, not collected, keeps its place */
    CHECK(det_pool_wait(s.pool, sim_submit(s.pool, &image, &request), LONG, NULL) == DET_OK);
    stage_close(&s);
}

static void test_many_thresholds(void) {
    stage s;
    det_pool_setup setup = sim_setup(400);
    stage_open(&s, &setup, 4);
    static det_object objects[SIM_OBJECTS];
    det_thresholds t;
    det_thresholds_init(&t);
    uint64_t pixels, ticket;
    det_image image = sim_picture(&pixels, 0); /* no objects: all may share the room */
    det_request request = sim_request(objects);
    request.thresholds = &t;
    for (int i = 1; i < DET_MAX_GROUPS; i++) { /* the blocker has the first */
        t.score = (float)i / 1000;
        sim_submit(s.pool, &image, &request);
    }
    t.score = 0.999f;
    FAILS(det_pool_submit(s.pool, &image, &request, NULL, NULL, &ticket), DET_ERROR_QUEUE_FULL, "256 different");
    t.score = 0.001f;
    sim_submit(s.pool, &image, &request);
    CHECK(sim_stats(s.pool).n_held == DET_MAX_GROUPS + 1);
    pthread_mutex_unlock(&s.gate);
    CHECK(det_pool_drain(s.pool, LONG) == DET_OK);
    det_pool_stats stats = sim_stats(s.pool);
    CHECK(stats.n_succeeded == DET_MAX_GROUPS + 1 && stats.batches[2] == 1 && stats.batches[1] == DET_MAX_GROUPS - 1);
    stage_close(&s);
}

/* -------------------------------------------------------------------------------------------- cancel and deadlines */

static void test_cancel(void) {
    stage s;
    det_pool_setup setup = sim_setup(8);
    stage_open(&s, &setup, 4);
    det_object objects[2][SIM_OBJECTS];
    uint64_t pixels, called = 0;
    det_image image = sim_picture(&pixels, 11);
    det_request request = sim_request(objects[0]), other = sim_request(objects[1]);
    record r = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    uint64_t waited = sim_submit(s.pool, &image, &request);
    CHECK(det_pool_submit(s.pool, &image, &other, remember, &r, &called) == DET_OK);
    FAILS(det_pool_cancel(s.pool, s.blocker), DET_ERROR_BUSY, "runs already");
    CHECK(det_pool_cancel(s.pool, waited) == DET_OK && det_pool_cancel(s.pool, called) == DET_OK);
    CHECK(sim_stats(s.pool).n_waiting == 0);
    FAILS(det_pool_cancel(s.pool, waited), DET_ERROR_INVALID_ARGUMENT, "answered");
    det_answer answer = {.struct_size = sizeof answer};
    FAILS(det_pool_wait(s.pool, waited, LONG, &answer), DET_ERROR_CANCELLED, "cancelled");
    CHECK(answer.status == DET_ERROR_CANCELLED && answer.n_attempts == 0 && answer.context == -1 && !answer.n_objects);
    CHECK(!strcmp(answer.message, "the request was cancelled"));
    while (sim_stats(s.pool).n_cancelled < 2) /* the clerk calls, while the device stands still */
        sim_sleep(100);
    pthread_mutex_unlock(&s.gate);
    CHECK(det_pool_drain(s.pool, LONG) == DET_OK);
    CHECK(r.n == 1 && r.statuses[0] == DET_ERROR_CANCELLED && r.tickets[0] == called);
    CHECK(atomic_load(&s.device.n_pictures) == 1);
    stage_close(&s);
}

static void test_deadlines(void) {
    stage s;
    det_pool_setup setup = sim_setup(8);
    stage_open(&s, &setup, 4);
    det_object objects[3][SIM_OBJECTS];
    uint64_t pixels, tickets[3];
    det_image image = sim_picture(&pixels, 12);
    static const int64_t deadlines_us[] = {30000, 0, LONG};
    for (int i = 0; i < 3; i++) {
        det_request request = sim_request(objects[i]);
        request.deadline_us = deadlines_us[i];
        tickets[i] = sim_submit(s.pool, &image, &request);
    }
    det_answer answer = {.struct_size = sizeof answer};
    FAILS(det_pool_wait(s.pool, tickets[0], LONG, &answer), DET_ERROR_DEADLINE, "its deadline was 30000 us");
    CHECK(answer.wait_us >= 30000 && answer.n_attempts == 0);
    CHECK(sim_stats(s.pool).n_expired == 1 && sim_stats(s.pool).n_waiting == 2);
    pthread_mutex_unlock(&s.gate);
    CHECK(det_pool_wait(s.pool, tickets[1], LONG, NULL) == DET_OK);
    CHECK(det_pool_wait(s.pool, tickets[2], LONG, NULL) == DET_OK);
    stage_close(&s);
}

/* A request whose deadline is shorter than the wait for a full batch is not left to expire beside a free device. */
static void test_deadline_before_delay(void) {
    sim device = {0};
    det_pool_setup setup = sim_setup(8);
    setup.max_delay_us = LONG;
    det_pool *pool = sim_pool(&setup, &device, 1, 4);
    det_object objects[SIM_OBJECTS];
    uint64_t pixels;
    det_image image = sim_picture(&pixels, 12);
    det_request request = sim_request(objects);
    request.deadline_us = 4 * SECOND;
    det_answer answer = {.struct_size = sizeof answer};
    CHECK(det_pool_wait(pool, sim_submit(pool, &image, &request), LONG, &answer) == DET_OK);
    CHECK_MSG(answer.wait_us >= 2 * SECOND, "waited for %lld us", (long long)answer.wait_us);
    det_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------------------------- order */

static void test_order(void) {
    stage s;
    det_pool_setup setup = sim_setup(16);
    stage_open(&s, &setup, 3);
    static const int priorities[] = {0, -4, 4, 0, 1, -4, 4, 0};
    static const int wanted[] = {2, 6, 4, 0, 3, 7, 1, 5};
    static det_object objects[8][SIM_OBJECTS];
    uint64_t pixels[8], tickets[8];
    record r = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    for (int i = 0; i < 8; i++) {
        det_image image = sim_picture(&pixels[i], 20 + (uint64_t)i);
        det_request request = sim_request(objects[i]);
        request.priority = priorities[i];
        CHECK(det_pool_submit(s.pool, &image, &request, remember, &r, &tickets[i]) == DET_OK);
        CHECK(tickets[i] == s.blocker + 1 + (uint64_t)i); /* rising */
    }
    pthread_mutex_unlock(&s.gate);
    CHECK(det_pool_drain(s.pool, LONG) == DET_OK && r.n == 8);
    for (int i = 0; i < 8; i++)
        CHECK_MSG(r.tickets[i] == tickets[wanted[i]], "answer %d is to request %d", i,
                  (int)(r.tickets[i] - tickets[0]));
    stage_close(&s);
}

/* Within one run each request gets as many objects as it asked for. */
static void test_rooms(void) {
    stage s;
    det_pool_setup setup = sim_setup(16);
    setup.max_objects = 4; /* at most, and the model's default is more */
    stage_open(&s, &setup, 8);
    static det_object objects[8][SIM_OBJECTS];
    uint64_t pixels[8], tickets[8];
    static const int rooms[] = {1, 2, 3, 4, 5, 8, 2, 3}, limits[] = {-1, -1, -1, -1, -1, -1, 1, 2};
    for (int i = 0; i < 8; i++) {
        det_thresholds t;
        det_thresholds_init(&t);
        t.max_objects = limits[i];
        det_image image = sim_picture(&pixels[i], 3 + (uint64_t)i % 2); /* 3 or 4 objects */
        det_request request = sim_request(objects[i]);
        request.max_objects = rooms[i];
        request.thresholds = &t;
        tickets[i] = sim_submit(s.pool, &image, &request);
        t.max_objects = 1; /* the caller's again */
    }
    pthread_mutex_unlock(&s.gate);
    for (int i = 0; i < 8; i++) {
        det_answer answer = {.struct_size = sizeof answer};
        CHECK(det_pool_wait(s.pool, tickets[i], LONG, &answer) == DET_OK && answer.batch == 8);
        int most = DET_MIN(DET_MIN(rooms[i], 4), limits[i] < 0 ? SIM_OBJECTS : limits[i]);
        CHECK_MSG(sim_is_right(&answer, 3 + (uint64_t)i % 2, most), "request %d: %d objects, cuts %d", i,
                  answer.n_objects, answer.cuts);
    }
    stage_close(&s);
}

/* --------------------------------------------------------------------------------------------------------- copies */

static uint8_t staging[5 * 16384];
static int n_released;

static void release_staging(void *user, void *memory) {
    n_released += user == &n_released && memory == staging;
}

static void test_copies(void) {
    stage s;
    det_pool_setup setup = sim_setup(16);
    setup.staging = staging;
    setup.staging_bytes = sizeof staging;
    setup.release_staging = release_staging;
    setup.staging_user = &n_released;
    stage_open(&s, &setup, 8);
    det_object objects[5][SIM_OBJECTS];
    uint64_t pixels, tickets[5], none;
    for (int i = 0; i < 5; i++) {
        det_image image = sim_picture(&pixels, 100 + (uint64_t)i);
        det_request request = sim_request(objects[i]);
        request.pixels = DET_PIXELS_COPIED;
        tickets[i] = sim_submit(s.pool, &image, &request);
        pixels = 0; /* nobody looks at it any more */
    }
    CHECK(sim_stats(s.pool).staging_bytes == sizeof staging);
    det_image image = sim_picture(&pixels, 105);
    det_request request = sim_request(objects[0]);
    request.pixels = DET_PIXELS_COPIED;
    FAILS(det_pool_submit(s.pool, &image, &request, NULL, NULL, &none), DET_ERROR_QUEUE_FULL,
          "no room to copy 8 bytes");
    image.height = sizeof staging / 8 + 1; /* more than there is at all: there is no use in trying again */
    FAILS(det_pool_submit(s.pool, &image, &request, NULL, NULL, &none), DET_ERROR_INVALID_ARGUMENT, "to copy; staging");
    CHECK(det_pool_cancel(s.pool, tickets[4]) == DET_OK && det_pool_wait(s.pool, tickets[4], 0, NULL));
    CHECK(sim_stats(s.pool).staging_bytes == 4 * 16384 && sim_stats(s.pool).n_rejected == 1);
    pthread_mutex_unlock(&s.gate);
    for (int i = 0; i < 4; i++) {
        det_answer answer = {.struct_size = sizeof answer};
        CHECK(det_pool_wait(s.pool, tickets[i], LONG, &answer) == DET_OK);
        CHECK(sim_is_right(&answer, 100 + (uint64_t)i, SIM_OBJECTS));
    }
    CHECK(sim_stats(s.pool).staging_bytes == 0 && n_released == 0);
    stage_close(&s);
    CHECK(n_released == 1);
}

/* ------------------------------------------------------------------------------------------------------------ ends */

static void test_drain(void) {
    stage s;
    det_pool_setup setup = sim_setup(8);
    setup.max_delay_us = 10 * LONG;
    s = (stage){.gate = PTHREAD_MUTEX_INITIALIZER};
    s.pool = sim_pool(&setup, &s.device, 1, 4);
    det_object objects[2][SIM_OBJECTS];
    uint64_t pixels, none;
    det_image image = sim_picture(&pixels, 13);
    det_request request = sim_request(objects[0]), other = sim_request(objects[1]);
    record r = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    uint64_t ticket = sim_submit(s.pool, &image, &request);
    CHECK(det_pool_submit(s.pool, &image, &other, remember, &r, NULL) == DET_OK);
    CHECK(det_pool_wait(s.pool, ticket, 1000, NULL) == DET_ERROR_TIMEOUT);                /* they wait for others */
    CHECK(det_pool_drain(s.pool, LONG) == DET_OK && r.n == 1 && r.statuses[0] == DET_OK); /* and no longer */
    FAILS(det_pool_submit(s.pool, &image, &request, NULL, NULL, &none), DET_ERROR_CLOSED, "no more requests");
    CHECK(sim_stats(s.pool).draining == 1 && sim_stats(s.pool).batches[2] == 1);
    CHECK(det_pool_wait(s.pool, ticket, 0, NULL) == DET_OK && det_pool_drain(s.pool, 0) == DET_OK);
    stage_close(&s);
    stage_open(&s, &setup, 1);
    FAILS(det_pool_drain(s.pool, 1000), DET_ERROR_TIMEOUT, "1 requests");
    pthread_mutex_unlock(&s.gate);
    CHECK(det_pool_drain(s.pool, -1) == DET_OK);
    stage_close(&s);
}

typedef struct copier {
    det_pool *pool;
    det_image image;
    det_request request;
    det_status status;
} copier;

static void *copy_large(void *argument) {
    copier *c = argument;
    uint64_t ticket;
    c->status = det_pool_submit(c->pool, &c->image, &c->request, NULL, NULL, &ticket);
    return NULL;
}

static void free_staging(void *user, void *memory) {
    (void)user;
    free(memory);
}

/* A picture that is still being copied when the pool closes is not taken: what is drained stays so. */
static void test_drain_under_a_copy(void) {
    enum { SIDE = 8192, TRIES = 100 };
    static det_object objects[SIM_OBJECTS];
    uint8_t *pixels = calloc(SIDE, SIDE);
    int n_refused = 0;
    for (int i = 0; i < TRIES && !n_refused; i++) {
        sim device = {0};
        det_pool_setup setup = sim_setup(4);
        setup.staging_bytes = (size_t)SIDE * SIDE;
        setup.staging = malloc(setup.staging_bytes);
        setup.release_staging = free_staging;
        copier c = {.pool = sim_pool(&setup, &device, 1, 1), .request = sim_request(objects)};
        c.image =
            (det_image){.planes = {pixels}, .strides = {SIDE}, .width = SIDE, .height = SIDE, .format = DET_GRAY8};
        c.request.pixels = DET_PIXELS_COPIED;
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, copy_large, &c) == 0, "thread");
        while (!sim_stats(c.pool).n_held)
            sched_yield();
        bool early = sim_stats(c.pool).n_submitted == 0 && det_pool_drain(c.pool, 0) == DET_OK;
        int64_t n_taken = sim_stats(c.pool).n_submitted; /* before it closed */
        pthread_join(thread, NULL);
        if (early && n_taken == 0) {
            CHECK(c.status == DET_ERROR_CLOSED && sim_stats(c.pool).n_held == 0);
            n_refused++;
        }
        det_pool_destroy(c.pool);
    }
    free(pixels);
    CHECK_MSG(n_refused, "%d copies were all faster than a call", TRIES);
}

/* With everything there is: one that runs, some that wait, with callbacks and without, copied pictures. */
static void test_destroy_in_flight(void) {
    for (int round = 0; round < 50; round++) {
        sim devices[2] = {{.picture_us = 50}, {.picture_us = 70}};
        det_pool_setup setup = sim_setup(64);
        setup.max_delay_us = round % 2 * 1000;
        det_pool *pool = sim_pool(&setup, devices, 2, 4);
        static det_object objects[64][SIM_OBJECTS];
        static uint64_t pixels[64];
        record r = {.mutex = PTHREAD_MUTEX_INITIALIZER};
        for (int i = 0; i < 40; i++) {
            det_image image = sim_picture(&pixels[i], (uint64_t)i);
            det_request request = sim_request(objects[i]);
            uint64_t ticket;
            CHECK(det_pool_submit(pool, &image, &request, i % 2 ? remember : NULL, &r, &ticket) == DET_OK);
        }
        sim_sleep(round * 10);
        det_pool_destroy(pool);
        int n_wrong = 0;
        for (int i = 0; i < r.n; i++)
            n_wrong += r.statuses[i] != DET_OK && r.statuses[i] != DET_ERROR_CANCELLED;
        CHECK_MSG(r.n == 20 && n_wrong == 0, "%d callbacks, %d wrong", r.n, n_wrong);
        CHECK(atomic_load(&devices[0].closed) == 1 && atomic_load(&devices[1].closed) == 1);
        CHECK(atomic_load(&devices[0].inside) == 0 && atomic_load(&devices[1].inside) == 0);
    }
}

/* A child has the memory of a pool and none of its threads: it is told so, and waits for nothing. */
static void test_fork(void) {
    stage s;
    det_pool_setup setup = sim_setup(4);
    stage_open(&s, &setup, 4);
    pid_t child = fork();
    REQUIRE(child >= 0, "fork");
    if (child == 0) {
        uint64_t ticket;
        bool right = det_pool_submit(s.pool, NULL, NULL, NULL, NULL, &ticket) == DET_ERROR_UNSUPPORTED &&
                     det_pool_wait(s.pool, s.blocker, -1, NULL) == DET_ERROR_UNSUPPORTED &&
                     det_pool_cancel(s.pool, s.blocker) == DET_ERROR_UNSUPPORTED &&
                     det_pool_drain(s.pool, -1) == DET_ERROR_UNSUPPORTED &&
                     det_pool_get_stats(s.pool, NULL) == DET_ERROR_UNSUPPORTED &&
                     det_pool_get_context_stats(s.pool, 0, NULL) == DET_ERROR_UNSUPPORTED &&
                     strstr(det_last_error(), "forked");
        det_pool_destroy(s.pool);
        _exit(right ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pthread_mutex_unlock(&s.gate);
    CHECK(det_pool_wait(s.pool, s.blocker, LONG, NULL) == DET_OK);
    stage_close(&s);
}

int main(void) {
    test_callback();
    test_chain();
    test_wait();
    test_destroy_under_a_waiter();
    test_destroy_under_many_waiters();
    test_arguments();
    test_full();
    test_many_thresholds();
    test_cancel();
    test_deadlines();
    test_deadline_before_delay();
    test_order();
    test_rooms();
    test_copies();
    test_drain();
    test_drain_under_a_copy();
    test_destroy_in_flight();
    test_fork();
    return check_report("requests");
}
