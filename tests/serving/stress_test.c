/* 16 threads, many requests each, every picture with its own answer planted in it: no answer goes to the wrong caller.
 *
 *     stress_test [requests of each thread]     (default: 100000; DET_STRESS overrides it) */
#include "sim.h"

#include "random.h"

enum { THREADS = 16, WINDOW = 12, LONG = 120000000 };

typedef struct seat {
    uint64_t pixels, number, ticket;
    det_object objects[SIM_OBJECTS];
    int max_objects;
    atomic_int answered; /* by callback: 1 rightly, 2 wrongly */
    bool calls, open;
} seat;

typedef struct client {
    pthread_t thread;
    det_pool *pool;
    int index, n_requests;
    seat seats[WINDOW];
    int64_t n_right, n_wrong, n_cancelled, n_full;
    uint64_t random;
} client;

static void check_called(void *user, const det_answer *answer) {
    seat *s = user;
    atomic_store(&s->answered, sim_is_right(answer, s->number, s->max_objects) ? 1 : 2);
}

static void collect(client *c, seat *s) {
    if (!s->open)
        return;
    s->open = false;
    if (s->calls) {
        while (!atomic_load(&s->answered))
            sim_sleep(20);
        *(atomic_load(&s->answered) == 1 ? &c->n_right : &c->n_wrong) += 1;
        return;
    }
    det_answer answer = {.struct_size = sizeof answer};
    bool cancelled = random_below(&c->random, 50) == 0 && det_pool_cancel(c->pool, s->ticket) == DET_OK;
    det_status status = det_pool_wait(c->pool, s->ticket, LONG, &answer);
    bool right = cancelled ? status == DET_ERROR_CANCELLED && answer.n_objects == 0
                           : sim_is_right(&answer, s->number, s->max_objects);
    c->n_cancelled += cancelled;
    *(right && answer.ticket == s->ticket && answer.objects == s->objects ? &c->n_right : &c->n_wrong) += 1;
}

static void send(client *c, seat *s, uint64_t number) {
    s->number = number;
    s->max_objects = 1 + random_below(&c->random, SIM_OBJECTS);
    s->calls = random_below(&c->random, 2);
    atomic_store(&s->answered, 0);
    memset(s->objects, 0xff, sizeof s->objects);
    det_thresholds t;
    det_thresholds_init(&t);
    t.score = 0.1f * (float)random_below(&c->random, 3);
    det_image image = sim_picture(&s->pixels, number);
    det_request request = sim_request(s->objects);
    request.max_objects = s->max_objects;
    request.priority = random_below(&c->random, 9) - 4;
    request.pixels = random_below(&c->random, 2) ? DET_PIXELS_COPIED : DET_PIXELS_BORROWED;
    request.thresholds = random_below(&c->random, 4) ? NULL : &t;
    det_status status;
    while ((status = det_pool_submit(c->pool, &image, &request, s->calls ? check_called : NULL, s, &s->ticket)) ==
           DET_ERROR_QUEUE_FULL) {
        c->n_full++;
        collect(c, &c->seats[random_below(&c->random, WINDOW)]); /* answers that nobody collects keep their places */
    }
    s->open = status == DET_OK;
    c->n_wrong += status != DET_OK;
    if (request.pixels == DET_PIXELS_COPIED)
        s->pixels = ~number;
}

static void *run_client(void *argument) {
    client *c = argument;
    c->random = (uint64_t)c->index;
    for (int i = 0; i < c->n_requests; i++) {
        seat *s = &c->seats[random_below(&c->random, WINDOW)];
        collect(c, s);
        send(c, s, (uint64_t)c->index << 48 | random_next(&c->random) >> 16);
    }
    for (int i = 0; i < WINDOW; i++)
        collect(c, &c->seats[i]);
    return NULL;
}

static void release_staging(void *user, void *memory) {
    (void)user;
    free(memory);
}

static void report(det_pool *pool, const client *clients, int n_requests) {
    int64_t n_right = 0, n_wrong = 0, n_cancelled = 0, n_full = 0, in_batches = 0;
    for (int i = 0; i < THREADS; i++) {
        n_right += clients[i].n_right;
        n_wrong += clients[i].n_wrong;
        n_cancelled += clients[i].n_cancelled;
        n_full += clients[i].n_full;
    }
    det_pool_stats stats = sim_stats(pool);
    for (int n = 1; n < DET_POOL_BATCH_SIZES; n++)
        in_batches += n * stats.batches[n];
    CHECK_MSG(n_wrong == 0 && n_right == (int64_t)THREADS * n_requests, "%lld wrong, %lld right", (long long)n_wrong,
              (long long)n_right);
    CHECK(stats.n_submitted == n_right && stats.n_held == 0 && stats.staging_bytes == 0);
    CHECK(stats.n_succeeded + stats.n_cancelled == n_right && stats.n_cancelled == n_cancelled);
    CHECK(stats.n_rejected == n_full && in_batches == stats.n_succeeded && stats.n_failed == 0);
    printf("  %lld requests in %lld runs, %lld cancelled, %lld times full, mean wait %lld us\n", (long long)n_right,
           (long long)stats.n_runs, (long long)n_cancelled, (long long)n_full,
           (long long)(stats.wait_us / stats.n_succeeded));
}

int main(int argc, char **argv) {
    const char *chosen = argc > 1 ? argv[1] : getenv("DET_STRESS");
    int n_requests = chosen ? atoi(chosen) : 100000;
    static sim devices[5];
    for (int i = 0; i < 5; i++)
        devices[i].picture_us = i % 2; /* some work at once, some sleep */
    det_pool_setup setup = sim_setup(160);
    setup.max_delay_us = 50;
    setup.staging_bytes = 60 * 16384;
    setup.staging = malloc(setup.staging_bytes);
    setup.release_staging = release_staging;
    det_pool *pool = sim_pool(&setup, devices, 5, 16);
    static client clients[THREADS];
    for (int i = 0; i < THREADS; i++) {
        clients[i].pool = pool;
        clients[i].index = i;
        clients[i].n_requests = n_requests;
        REQUIRE(pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(clients[i].thread, NULL);
    report(pool, clients, n_requests);
    det_pool_destroy(pool);
    for (int i = 0; i < 5; i++)
        CHECK(atomic_load(&devices[i].n_overlaps) == 0 && atomic_load(&devices[i].largest) <= 16);
    return check_report("stress");
}
