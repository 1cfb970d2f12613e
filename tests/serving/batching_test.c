/* Batching must pay and must not hurt: a lone request waits no longer than it may, load runs in full batches, several
 * devices are all kept busy, and of two contexts on one GPU one uploads while the other computes.
 *
 * Devices are simulated: a run costs 8 ms and 1 ms a picture, far more than the library's share, and sleeping leaves
 * the machine to others. What is counted are mostly runs and pictures; where times are compared, both sides are
 * measured the same way, on the same busy machine, and the best of a few attempts counts. */
#include "sim.h"

#include "random.h"

enum { LONG = 120000000, FIXED_US = 8000, PICTURE_US = 1000, BATCH = 16, ATTEMPTS = 6 };

static const sim device_of_known_cost = {.fixed_us = FIXED_US, .picture_us = PICTURE_US};

/* Callers that always have `depth` requests open, until n have been answered. */
typedef struct pump {
    det_pool *pool;
    det_image image;
    det_request request;
    uint64_t pixels;
    det_object objects[SIM_OBJECTS];
    pthread_mutex_t mutex;
    pthread_cond_t done;
    int n_left, n_open, n_wrong;
} pump;

static void refill(void *user, const det_answer *answer) {
    pump *p = user;
    pthread_mutex_lock(&p->mutex);
    p->n_wrong += answer->status != DET_OK;
    bool more = p->n_left > 0;
    p->n_left -= more;
    if (!more && --p->n_open == 0)
        pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->mutex);
    if (more && det_pool_submit(p->pool, &p->image, &p->request, refill, p, NULL) != DET_OK) {
        pthread_mutex_lock(&p->mutex);
        p->n_wrong++;
        p->n_open--;
        pthread_mutex_unlock(&p->mutex);
    }
}

/* Runs n requests, `depth` at a time; returns pictures per second. All share one picture without objects. */
static double throughput(det_pool *pool, int n, int depth) {
    pump p = {.pool = pool, .mutex = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    p.image = sim_picture(&p.pixels, 0);
    p.request = sim_request(p.objects);
    p.n_left = n - depth;
    p.n_open = depth;
    int64_t begin_us = det_clock_us();
    for (int i = 0; i < depth; i++)
        CHECK(det_pool_submit(pool, &p.image, &p.request, refill, &p, NULL) == DET_OK);
    pthread_mutex_lock(&p.mutex);
    while (p.n_open > 0)
        pthread_cond_wait(&p.done, &p.mutex);
    pthread_mutex_unlock(&p.mutex);
    CHECK(det_pool_drain(pool, LONG) == DET_OK && p.n_wrong == 0);
    return 1e6 * n / (double)(det_clock_us() - begin_us);
}

/* The best that there is: full batches, one after the other, without a pool. */
static double best_fixed(int n) {
    sim device = device_of_known_cost;
    static uint64_t pixels[BATCH];
    static det_object objects[BATCH * SIM_OBJECTS];
    det_image images[BATCH];
    int32_t counts[BATCH], cuts[BATCH];
    for (int i = 0; i < BATCH; i++)
        images[i] = sim_picture(&pixels[i], 0);
    det_thresholds t = {.max_objects = SIM_OBJECTS};
    det_output output = {sizeof output, objects, counts, SIM_OBJECTS, DET_MEMORY_HOST, cuts};
    int64_t begin_us = det_clock_us();
    for (int i = 0; i < n; i += BATCH)
        CHECK(sim_ops.run(&device, images, BATCH, &t, &output) == DET_OK);
    return 1e6 * n / (double)(det_clock_us() - begin_us);
}

static double pool_throughput(int n_devices, int n, int depth, int max_delay_us) {
    sim devices[8];
    for (int i = 0; i < n_devices; i++)
        devices[i] = device_of_known_cost;
    det_pool_setup setup = sim_setup(2 * depth);
    setup.max_delay_us = max_delay_us;
    det_pool *pool = sim_pool(&setup, devices, n_devices, BATCH);
    double speed = throughput(pool, n, depth);
    det_pool_destroy(pool);
    return speed;
}

static void test_under_load(int max_delay_us) {
    double best = 0, fixed = 0, pooled = 0;
    for (int i = 0; i < ATTEMPTS && best < 0.9; i++) {
        fixed = best_fixed(30 * BATCH);
        pooled = pool_throughput(1, 30 * BATCH, 4 * BATCH, max_delay_us);
        best = DET_MAX(best, pooled / fixed);
    }
    printf("  under load, delay %d us: %.0f pictures/s, %.1f %% of the best fixed batch\n", max_delay_us, pooled,
           100 * best);
    CHECK_MSG(best >= 0.9, "%.1f %% of the best fixed batch", 100 * best);
}

static void test_scaling(void) {
    for (int n = 2; n <= 8; n *= 2) {
        double best = 0;
        for (int i = 0; i < ATTEMPTS && best < 0.95; i++) {
            double one = pool_throughput(1, 30 * BATCH, 4 * BATCH, 0);
            double all = pool_throughput(n, 30 * BATCH * n, 4 * BATCH * n, 0);
            best = DET_MAX(best, all / one / n);
        }
        printf("  %d devices: efficiency %.1f %%\n", n, 100 * best);
        CHECK_MSG(best >= 0.95, "%d devices: efficiency %.1f %%", n, 100 * best);
    }
}

/* Two contexts on one GPU whose upload takes as long as its computing: one after the other would be half as fast. */
static double gpu_throughput(int n_contexts) {
    sim_gpu gpu = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
    sim contexts[2];
    det_runner runners[2];
    for (int i = 0; i < n_contexts; i++) {
        contexts[i] = (sim){.picture_us = PICTURE_US, .upload_us = PICTURE_US, .gpu = &gpu};
        runners[i] = (det_runner){&sim_ops, &contexts[i], "simulated", DET_DEVICE_CUDA, 0, BATCH, 0};
    }
    det_pool_setup setup = sim_setup(8 * BATCH);
    det_pool *pool;
    REQUIRE(det_pool_build(&setup, runners, n_contexts, &pool) == DET_OK, "%s", det_last_error());
    double speed = throughput(pool, 20 * BATCH, 4 * BATCH);
    det_pool_destroy(pool);
    return speed;
}

static void test_upload_overlaps(void) {
    double best = 0;
    for (int i = 0; i < ATTEMPTS && best < 1.7; i++) {
        double alone = gpu_throughput(1);
        best = DET_MAX(best, gpu_throughput(2) / alone);
    }
    printf("  two contexts on one GPU: %.2f times one\n", best);
    CHECK_MSG(best >= 1.7, "two contexts on one GPU: %.2f times one", best);
}

/* One request at a time, beside free devices. It runs alone, after the delay and not before; how late a busy machine wakes
 * a thread is not the pool's, so the best of several must be near. */
static void test_light_load(int max_delay_us) {
    sim devices[2] = {{0}, {0}};
    det_pool_setup setup = sim_setup(64);
    setup.max_delay_us = max_delay_us;
    det_pool *pool = sim_pool(&setup, devices, 2, BATCH);
    int64_t least_us = INT64_MAX, most_us = 0;
    for (int i = 0; i < 20; i++) {
        det_object objects[SIM_OBJECTS];
        uint64_t pixels;
        det_image image = sim_picture(&pixels, 3);
        det_request request = sim_request(objects);
        det_answer answer = {.struct_size = sizeof answer};
        CHECK(det_pool_wait(pool, sim_submit(pool, &image, &request), LONG, &answer) == DET_OK && answer.batch == 1);
        least_us = DET_MIN(least_us, answer.wait_us);
        most_us = DET_MAX(most_us, answer.wait_us);
    }
    printf("  light load, delay %d us: waits of %lld to %lld us\n", max_delay_us, (long long)least_us,
           (long long)most_us);
    CHECK_MSG(least_us >= max_delay_us && least_us < max_delay_us + 5000, "%lld us", (long long)least_us);
    det_pool_stats stats = sim_stats(pool);
    CHECK(stats.batches[1] == 20 && stats.n_runs == 20 && stats.max_wait_us == most_us);
    int64_t in_waits = 0;
    for (int i = 0; i < DET_POOL_TIME_BUCKETS; i++) {
        in_waits += stats.waits[i];
        CHECK(!stats.waits[i] || ((i == 0 || most_us >= (int64_t)1 << (i - 1)) && least_us < (int64_t)1 << i));
    }
    CHECK(in_waits == 20);
    det_pool_destroy(pool);
}

/* A batch that fills before its time does not wait for it. */
static void test_full_batch_goes_at_once(void) {
    sim device = {0};
    det_pool_setup setup = sim_setup(64);
    setup.max_delay_us = LONG;
    det_pool *pool = sim_pool(&setup, &device, 1, 4);
    static det_object objects[8][SIM_OBJECTS];
    uint64_t pixels[8], tickets[8];
    for (int i = 0; i < 8; i++) {
        det_image image = sim_picture(&pixels[i], (uint64_t)i);
        det_request request = sim_request(objects[i]);
        tickets[i] = sim_submit(pool, &image, &request);
        sim_sleep(2000); /* the context has looked, and sleeps again */
    }
    for (int i = 0; i < 8; i++)
        CHECK(det_pool_wait(pool, tickets[i], LONG / 2, NULL) == DET_OK);
    CHECK(sim_stats(pool).batches[4] == 2);
    det_pool_destroy(pool);
}

/* Lone requests go to devices in turns. */
static void test_turns(void) {
    sim devices[3] = {{0}, {0}, {0}};
    det_pool_setup setup = sim_setup(64);
    det_pool *pool = sim_pool(&setup, devices, 3, 4);
    for (int i = 0; i < 60; i++) {
        det_object objects[SIM_OBJECTS];
        uint64_t pixels;
        det_image image = sim_picture(&pixels, 1);
        det_request request = sim_request(objects);
        CHECK(det_pool_wait(pool, sim_submit(pool, &image, &request), LONG, NULL) == DET_OK);
        sim_sleep(500); /* all are idle again */
    }
    for (int i = 0; i < 3; i++)
        CHECK_MSG(atomic_load(&devices[i].n_runs) >= 5, "device %d had %d of 60", i, atomic_load(&devices[i].n_runs));
    det_pool_destroy(pool);
}

int main(void) {
    test_light_load(0);
    test_light_load(20000);
    test_full_batch_goes_at_once();
    test_turns();
    test_under_load(0);
    test_under_load(3000);
    test_upload_overlaps();
    test_scaling();
    return check_report("batching");
}
