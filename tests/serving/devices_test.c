/* Devices that fail: they go out of service, their requests are answered elsewhere or with a clear status, none is lost
 * and none answered twice. Memory that cannot be had. */
#include "sim.h"

#include "random.h"

enum { MANY = 4000, LONG = 60000000 };

/* Many requests, each with its own memory, and how often each was answered. */
typedef struct load {
    uint64_t pixels;
    det_object objects[SIM_OBJECTS];
    atomic_int n_answers;
    det_answer answer;
    char message[256];
} load;

static load loads[MANY];

static void take(void *user, const det_answer *answer) {
    load *l = user;
    if (atomic_fetch_add(&l->n_answers, 1))
        return;
    l->answer = *answer;
    snprintf(l->message, sizeof l->message, "%s", answer->message);
    l->answer.message = l->message;
}

static det_status submit(det_pool *pool, int i) {
    det_image image = sim_picture(&loads[i].pixels, (uint64_t)i + 1);
    det_request request = sim_request(loads[i].objects);
    return det_pool_submit(pool, &image, &request, take, &loads[i], NULL);
}

/* Submits n, waiting for room; stops at any other status. */
static int submit_all(det_pool *pool, int n) {
    memset(loads, 0, sizeof loads);
    for (int i = 0; i < n; i++) {
        det_status status;
        while ((status = submit(pool, i)) == DET_ERROR_QUEUE_FULL)
            sim_sleep(50);
        if (status != DET_OK) {
            CHECK_MSG(status == DET_ERROR_NO_DEVICE && strstr(det_last_error(), "was to fail"), "%s", det_last_error());
            return i;
        }
    }
    return n;
}

/* Everything taken is answered once; returns how many rightly. The others have this status. */
static int count_right(int n, det_status other) {
    int n_right = 0, n_wrong = 0;
    for (int i = 0; i < n; i++) {
        bool right = sim_is_right(&loads[i].answer, (uint64_t)i + 1, SIM_OBJECTS);
        n_right += right;
        n_wrong += atomic_load(&loads[i].n_answers) != 1 || (!right && loads[i].answer.status != other);
    }
    CHECK_MSG(n_wrong == 0, "%d of %d answers are missing, double or wrong", n_wrong, n);
    return n_right;
}

static det_pool_context_stats context_stats(det_pool *pool, int index) {
    det_pool_context_stats stats = {.struct_size = sizeof stats};
    CHECK(det_pool_get_context_stats(pool, index, &stats) == DET_OK);
    return stats;
}

static atomic_int n_logged;

/* Asks the pool from within, as a program's own function may. */
static void ask(void *user, int level, const char *message) {
    det_pool *pool = atomic_load((_Atomic(det_pool *) *)user);
    CHECK(level == DET_LOG_ERROR && strstr(message, "out of service") && sim_stats(pool).n_contexts == 4);
    atomic_fetch_add(&n_logged, 1);
}

/* Two of four fail on the way, in the middle of batches. */
static void test_retried_elsewhere(void) {
    static _Atomic(det_pool *) asked;
    sim devices[4] = {{.picture_us = 5},
                      {.picture_us = 5, .fails_with = DET_ERROR_DEVICE, .fails_at = 20, .n_failures = 1},
                      {.picture_us = 5},
                      {.picture_us = 5, .fails_with = DET_ERROR_INTERNAL, .fails_at = 1, .n_failures = 1}};
    det_pool_setup setup = sim_setup(256);
    det_pool *pool = sim_pool(&setup, devices, 4, 16);
    atomic_store(&asked, pool);
    det_set_log(ask, DET_LOG_ERROR, &asked);
    CHECK(submit_all(pool, MANY) == MANY && det_pool_drain(pool, LONG) == DET_OK);
    det_set_log(NULL, DET_LOG_ERROR, NULL);
    CHECK(count_right(MANY, DET_OK) == MANY && atomic_load(&n_logged) == 2);
    det_pool_stats stats = sim_stats(pool);
    CHECK(stats.n_in_service == 2 && stats.n_contexts == 4 && stats.n_succeeded == MANY && stats.n_failed == 0);
    CHECK_MSG(stats.n_retried >= 2 && stats.n_retried <= 32, "%lld retried", (long long)stats.n_retried);
    CHECK(atomic_load(&devices[1].n_runs) == 20 && atomic_load(&devices[3].n_runs) == 1); /* and never again */
    det_pool_context_stats failed = context_stats(pool, 1), healthy = context_stats(pool, 0);
    CHECK(!failed.in_service && failed.n_failures == 1 && failed.last_error == DET_ERROR_DEVICE && failed.n_runs == 20);
    CHECK(healthy.in_service && healthy.n_failures == 0 && healthy.last_error == DET_OK && healthy.n_runs > 0);
    CHECK(healthy.device_index == 0 && failed.device_index == 1 && !strcmp(failed.device_name, "simulated"));
    det_pool_destroy(pool);
}

static void test_all_fail(void) {
    sim devices[3];
    for (int i = 0; i < 3; i++)
        devices[i] = (sim){.picture_us = 20, .fails_with = DET_ERROR_DEVICE, .fails_at = 3 + i, .n_failures = 1};
    det_pool_setup setup = sim_setup(256);
    setup.max_attempts = 100;
    det_pool *pool = sim_pool(&setup, devices, 3, 16);
    int n = submit_all(pool, MANY);
    CHECK(det_pool_drain(pool, LONG) == DET_OK);
    int n_right = count_right(n, DET_ERROR_NO_DEVICE);
    CHECK_MSG(n < MANY && n_right < n && n_right >= 2 + 3 + 4, "%d taken, %d right", n, n_right);
    CHECK(strstr(loads[n - 1].message, "no device of the pool is left in service; the last failed so: run "));
    CHECK(sim_stats(pool).n_in_service == 0 && sim_stats(pool).n_failed == n - n_right);
    det_pool_destroy(pool);
}

/* Nobody waits for ever where nothing runs. */
static void test_waiters_without_a_device(void) {
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    sim device = {.fails_with = DET_ERROR_DEVICE, .fails_at = 1, .n_failures = 1, .gate = &gate};
    det_pool_setup setup = sim_setup(64);
    pthread_mutex_lock(&gate);
    det_pool *pool = sim_pool(&setup, &device, 1, 2);
    uint64_t tickets[6];
    for (int i = 0; i < 6; i++) {
        det_image image = sim_picture(&loads[i].pixels, 1);
        det_request request = sim_request(loads[i].objects);
        tickets[i] = sim_submit(pool, &image, &request);
    }
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < 6; i++) {
        det_answer answer = {.struct_size = sizeof answer};
        CHECK(det_pool_wait(pool, tickets[i], LONG, &answer) == DET_ERROR_NO_DEVICE);
        CHECK(strstr(answer.message, "run 1 was to fail") && !strcmp(answer.message, det_last_error()));
    }
    CHECK(submit(pool, 0) == DET_ERROR_NO_DEVICE && strstr(det_last_error(), "run 1 was to fail"));
    det_pool_destroy(pool);
}

/* A request that kills whatever runs it takes so many devices with it, and no more. */
static void test_attempts(void) {
    sim devices[3];
    for (int i = 0; i < 3; i++)
        devices[i] = (sim){.fails_with = DET_ERROR_DEVICE, .fails_at = 1, .n_failures = 1};
    det_pool_setup setup = sim_setup(8);
    setup.max_attempts = 2;
    det_pool *pool = sim_pool(&setup, devices, 3, 1);
    memset(loads, 0, sizeof loads);
    CHECK(submit(pool, 0) == DET_OK && det_pool_drain(pool, LONG) == DET_OK);
    CHECK(loads[0].answer.status == DET_ERROR_DEVICE && loads[0].answer.n_attempts == 2);
    CHECK(strstr(loads[0].message, "run 1 was to fail") && sim_stats(pool).n_in_service == 1);
    CHECK(sim_stats(pool).n_retried == 1);
    det_pool_destroy(pool);
}

/* Two contexts of one GPU go together; what the other one had begun is finished. */
static void test_one_gpu(void) {
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    sim devices[3] = {{.fails_with = DET_ERROR_DEVICE, .fails_at = 1, .n_failures = 9}, {.gate = &gate}, {0}};
    det_runner runners[3];
    for (int i = 0; i < 3; i++)
        runners[i] = (det_runner){&sim_ops, &devices[i], "simulated", DET_DEVICE_CUDA, i / 2, 1, i / 2};
    det_pool_setup setup = sim_setup(64);
    det_pool *pool;
    pthread_mutex_lock(&gate);
    REQUIRE(det_pool_build(&setup, runners, 3, &pool) == DET_OK, "%s", det_last_error());
    int n = 0;
    memset(loads, 0, sizeof loads);
    while (sim_stats(pool).n_in_service == 3 || !atomic_load(&devices[1].n_runs)) {
        if (sim_stats(pool).n_in_service != 3) /* the failing one came first: nothing to see this time */
            break;
        CHECK(submit(pool, n++) == DET_OK);
        sim_sleep(2000);
    }
    CHECK(sim_stats(pool).n_in_service == 1 && !context_stats(pool, 1).in_service && context_stats(pool, 2).in_service);
    pthread_mutex_unlock(&gate);
    CHECK(det_pool_drain(pool, LONG) == DET_OK && count_right(n, DET_OK) == n);
    CHECK(atomic_load(&devices[0].n_runs) == 1 && atomic_load(&devices[1].n_runs) <= 1);
    det_pool_destroy(pool);
}

/* A picture that cannot be had spoils its batch for nobody else, and the device stays. */
static void test_poison(void) {
    sim device = {.poison = 7, .fixed_us = 200};
    det_pool_setup setup = sim_setup(64);
    det_pool *pool = sim_pool(&setup, &device, 1, 16);
    CHECK(submit_all(pool, 40) == 40 && det_pool_drain(pool, LONG) == DET_OK);
    CHECK(count_right(40, DET_ERROR_INVALID_ARGUMENT) == 39);
    CHECK(loads[6].answer.status == DET_ERROR_INVALID_ARGUMENT && !strcmp(loads[6].message, "images[0] is poison"));
    CHECK(loads[6].answer.batch == 1 && sim_stats(pool).n_in_service == 1 && sim_stats(pool).n_retried == 0);
    det_pool_destroy(pool);
}

/* Memory may be there again a moment later. */
static void test_short_of_memory(void) {
    sim device = {.fails_with = DET_ERROR_OUT_OF_MEMORY, .fails_at = 3, .n_failures = 2};
    det_pool_setup setup = sim_setup(64);
    det_pool *pool = sim_pool(&setup, &device, 1, 1);
    CHECK(submit_all(pool, 10) == 10 && det_pool_drain(pool, LONG) == DET_OK);
    CHECK(count_right(10, DET_OK) == 10 && sim_stats(pool).n_in_service == 1 && sim_stats(pool).n_retried == 2);
    det_pool_destroy(pool);
    sim once = {.fails_with = DET_ERROR_OUT_OF_MEMORY, .fails_at = 1, .n_failures = 1};
    pool = sim_pool(&setup, &once, 1, 4);
    CHECK(submit(pool, 0) == DET_OK); /* alone: its second try does not wait for others */
    for (int i = 0; i < 20000 && sim_stats(pool).n_succeeded < 1; i++)
        sim_sleep(1000);
    CHECK(sim_stats(pool).n_succeeded == 1 && sim_stats(pool).n_retried == 1);
    det_pool_destroy(pool);
    sim worse = {.fails_with = DET_ERROR_OUT_OF_MEMORY, .fails_at = 3, .n_failures = 3};
    pool = sim_pool(&setup, &worse, 1, 1);
    CHECK(submit_all(pool, 10) == 10 && det_pool_drain(pool, LONG) == DET_OK);
    CHECK(count_right(10, DET_ERROR_OUT_OF_MEMORY) == 9 && sim_stats(pool).n_in_service == 1);
    det_pool_destroy(pool);
}

/* Scripts at random: devices fail at any time with anything, requests are cancelled, pools destroyed under load. */
static void test_chaos(void) {
    static const det_status failures[] = {DET_ERROR_DEVICE, DET_ERROR_OUT_OF_MEMORY, DET_ERROR_INVALID_ARGUMENT,
                                          DET_ERROR_INTERNAL, DET_ERROR_NO_DEVICE};
    uint64_t random = 11;
    for (int round = 0; round < 60; round++) {
        sim devices[5];
        for (int i = 0; i < 5; i++)
            devices[i] = (sim){.picture_us = random_below(&random, 20),
                               .fails_with = failures[random_below(&random, 5)],
                               .fails_at = 1 + random_below(&random, 40),
                               .n_failures = 1 + random_below(&random, 5)};
        det_pool_setup setup = sim_setup(128);
        setup.max_delay_us = random_below(&random, 200);
        det_pool *pool = sim_pool(&setup, devices, 1 + random_below(&random, 5), 1 + random_below(&random, 16));
        memset(loads, 0, sizeof loads);
        int n = 0;
        for (int i = 0; i < 600; i++) {
            det_status status = submit(pool, n);
            n += status == DET_OK;
            if (status == DET_ERROR_QUEUE_FULL)
                sim_sleep(100);
            if (i % 7 == 0)
                det_pool_cancel(pool, 1 + (uint64_t)random_below(&random, n + 1));
        }
        if (round % 2)
            CHECK(det_pool_drain(pool, LONG) == DET_OK);
        det_pool_destroy(pool);
        int n_wrong = 0;
        for (int i = 0; i < n; i++) {
            const det_answer *a = &loads[i].answer;
            bool right =
                a->status ? a->n_objects == 0 && loads[i].message[0] : sim_is_right(a, (uint64_t)i + 1, SIM_OBJECTS);
            n_wrong += atomic_load(&loads[i].n_answers) != 1 || !right;
        }
        CHECK_MSG(n_wrong == 0, "round %d: %d of %d answers are missing, double or wrong", round, n_wrong, n);
    }
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

static void count_release(void *user, void *memory) {
    (void)memory;
    ++*(int *)user;
}

/* Builds, runs, destroys, and takes no memory between the first and the last. */
static det_status live(counter *c, int *n_taken) {
    sim devices[2] = {{0}, {0}};
    det_runner runners[2];
    for (int i = 0; i < 2; i++)
        runners[i] = (det_runner){&sim_ops, &devices[i], "simulated", DET_DEVICE_CUDA, i, 4, i};
    det_pool_setup setup = sim_setup(32);
    static uint8_t staging[4 * 16384];
    int n_released = 0;
    setup.staging = staging;
    setup.staging_bytes = sizeof staging;
    setup.release_staging = count_release;
    setup.staging_user = &n_released;
    det_pool *pool;
    det_status status = det_pool_build(&setup, runners, 2, &pool);
    if (status == DET_OK) {
        int before = atomic_load(&c->n_calls);
        CHECK(submit_all(pool, 200) == 200 && det_pool_drain(pool, LONG) == DET_OK && count_right(200, DET_OK) == 200);
        *n_taken = atomic_load(&c->n_calls) - before;
        det_pool_destroy(pool);
    }
    CHECK(atomic_load(&devices[0].closed) == 1 && atomic_load(&devices[1].closed) == 1 && n_released == 1);
    return status;
}

static void test_allocations(void) {
    counter c = {0};
    const det_allocator hooks = {sizeof hooks, allocate, release, &c};
    int n_taken = -1;
    CHECK(det_set_allocator(&hooks) == DET_OK && live(&c, &n_taken) == DET_OK);
    CHECK_MSG(n_taken == 0 && atomic_load(&c.n_live) == 0, "%d taken while running", n_taken);
    int n = atomic_load(&c.n_calls);
    CHECK_MSG(n > 10, "%d allocations", n);
    for (int k = 1; k <= n; k++) {
        atomic_store(&c.n_calls, 0);
        c.fail_at = k;
        det_status status = live(&c, &n_taken);
        CHECK_MSG(status == DET_ERROR_OUT_OF_MEMORY && atomic_load(&c.n_live) == 0, "allocation %d fails: %s, %d live",
                  k, det_status_name(status), atomic_load(&c.n_live));
    }
    CHECK(det_set_allocator(NULL) == DET_OK);
}

/* The device fails while the pictures of a spoilt batch run one by one: those behind were in one run, not in two. */
static void test_failure_among_singles(void) {
    sim device = {.poison = 3, .fails_with = DET_ERROR_DEVICE, .fails_at = 2, .n_failures = 1};
    det_pool_setup setup = sim_setup(8);
    setup.max_delay_us = LONG;
    det_pool *pool = sim_pool(&setup, &device, 1, 3);
    CHECK(submit_all(pool, 3) == 3 && det_pool_drain(pool, LONG) == DET_OK);
    for (int i = 0; i < 3; i++) {
        const det_answer *a = &loads[i].answer;
        CHECK_MSG(a->status == DET_ERROR_NO_DEVICE && a->n_attempts == (i ? 1 : 2) && a->batch == (i ? 3 : 1),
                  "request %d: %s, %d attempts, batch %d", i, det_status_name(a->status), a->n_attempts, a->batch);
    }
    det_pool_destroy(pool);
}

int main(void) {
    test_failure_among_singles();
    test_retried_elsewhere();
    test_all_fail();
    test_waiters_without_a_device();
    test_attempts();
    test_one_gpu();
    test_poison();
    test_short_of_memory();
    test_chaos();
    test_allocations();
    return check_report("devices");
}
