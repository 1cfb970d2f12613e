/* A pool's life, and the last step of every request. */
#include "pool.h"

#include "../thread.h"
#include "clock.h"

#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------- answers */

void det_pool_free_slot(det_pool *pool, det_slot *slot) {
    if (slot->staged)
        det_staging_give(&pool->staging, slot->staged);
    det_queue_release(&pool->queue, slot);
}

bool det_pool_answer(det_pool *pool, det_slot *slot, det_delivery *delivery) {
    slot->answer.message = slot->message;
    det_pool_count_answer(pool, &slot->answer);
    if (!slot->callback) {
        slot->state = DET_SLOT_ANSWERED;
        pthread_cond_signal(&slot->answered);
        det_pool_settle(pool, 1);
        return false;
    }
    delivery->callback = slot->callback;
    delivery->user = slot->user;
    delivery->answer = slot->answer;
    memcpy(delivery->message, slot->message, sizeof delivery->message);
    delivery->answer.message = delivery->message;
    det_pool_free_slot(pool, slot); /* before the callback, which may submit the next one */
    return true;
}

void det_pool_call(det_delivery *delivery) {
    delivery->callback(delivery->user, &delivery->answer);
}

void det_pool_settle(det_pool *pool, int n) {
    pool->n_open -= n;
    if (pool->n_open == 0)
        pthread_cond_broadcast(&pool->settled);
}

/* --------------------------------------------------------------------------------------------------------- create */

static det_status open_worker(det_worker *w) {
    size_t n = (size_t)w->max_batch, n_objects = (size_t)w->pool->setup.max_objects;
    w->batch = det_alloc_array(n, sizeof(det_slot *));
    w->images = det_alloc_array(n, sizeof *w->images);
    w->objects = det_alloc_array(n * n_objects, sizeof *w->objects);
    w->counts = det_alloc_array(n, sizeof *w->counts);
    w->cuts = det_alloc_array(n, sizeof *w->cuts);
    w->deliveries = det_alloc_array(n, sizeof *w->deliveries);
    if (!w->batch || !w->images || !w->objects || !w->counts || !w->cuts || !w->deliveries)
        return DET_ERROR_OUT_OF_MEMORY;
    return DET_OK;
}

static void close_worker(det_worker *w) {
    w->runner.ops->close(w->runner.state);
    pthread_cond_destroy(&w->wake);
    det_free(w->batch);
    det_free(w->images);
    det_free(w->objects);
    det_free(w->counts);
    det_free(w->cuts);
    det_free(w->deliveries);
}

static void begin_workers(det_pool *pool, const det_runner *runners, int n_runners) {
    for (int i = 0; i < n_runners; i++) {
        int limit = pool->setup.max_batch ? pool->setup.max_batch : runners[i].max_batch;
        pool->workers[i] = (det_worker){.pool = pool,
                                        .index = i,
                                        .max_batch = DET_MIN(limit, runners[i].max_batch),
                                        .runner = runners[i],
                                        .in_service = true};
    }
    pool->n_workers = pool->n_in_service = n_runners;
}

/* What fails stays all zeros, as static initializers are: det_pool_destroy takes it for what it should be. */
static det_status make_locks(det_pool *pool) {
    bool made = pthread_mutex_init(&pool->mutex, NULL) == 0;
    made = det_clock_condition(&pool->clerk_wake) && made;
    made = det_clock_condition(&pool->settled) && made;
    for (int i = 0; i < pool->n_workers; i++)
        made = det_clock_condition(&pool->workers[i].wake) && made;
    if (!made)
        DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "the pool's locks cannot be made");
    return DET_OK;
}

static det_status start_threads(det_pool *pool) {
    if (det_thread_start(&pool->clerk, det_clerk_main, pool))
        DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "the pool's clerk cannot be started");
    pool->clerk_started = true;
    for (int i = 0; i < pool->n_workers; i++) {
        if (det_thread_start(&pool->workers[i].thread, det_worker_main, &pool->workers[i]))
            DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "worker %d of %d cannot be started", i + 1, pool->n_workers);
        pool->workers[i].started = true;
    }
    return DET_OK;
}

static det_status open_pool(det_pool *pool) {
    const det_pool_setup *setup = &pool->setup;
    DET_TRY(make_locks(pool));
    DET_TRY(det_queue_open(&pool->queue, setup->capacity, &setup->defaults));
    DET_TRY(det_staging_open(&pool->staging, setup->staging, setup->staging_bytes));
    pool->deliveries = det_alloc_array(DET_CLERK_DELIVERIES, sizeof *pool->deliveries);
    if (!pool->deliveries)
        return DET_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < pool->n_workers; i++)
        DET_TRY(open_worker(&pool->workers[i]));
    return start_threads(pool);
}

static void drop(const det_pool_setup *setup, const det_runner *runners, int n_runners) {
    if (setup->staging)
        setup->release_staging(setup->staging_user, setup->staging);
    for (int i = 0; i < n_runners; i++)
        runners[i].ops->close(runners[i].state);
}

det_status det_pool_build(const det_pool_setup *setup, const det_runner *runners, int n_runners, det_pool **out) {
    det_pool *pool = det_alloc_array(1, sizeof *pool);
    det_worker *workers = det_alloc_array((size_t)n_runners, sizeof *workers);
    if (!pool || !workers) {
        det_free(pool);
        det_free(workers);
        drop(setup, runners, n_runners);
        return DET_ERROR_OUT_OF_MEMORY;
    }
    pool->process = getpid();
    pool->setup = *setup;
    pool->workers = workers;
    pool->leader = pool->first_ending = pool->last_ending = DET_NONE;
    begin_workers(pool, runners, n_runners);
    det_status status = open_pool(pool);
    if (status != DET_OK) {
        det_pool_destroy(pool);
        return status;
    }
    *out = pool;
    return DET_OK;
}

/* --------------------------------------------------------------------------------------------------- drain, destroy */

bool det_pool_is_own_thread(const det_pool *pool) {
    pthread_t self = pthread_self();
    if (pool->clerk_started && pthread_equal(self, pool->clerk))
        return true;
    for (int i = 0; i < pool->n_workers; i++) {
        if (pool->workers[i].started && pthread_equal(self, pool->workers[i].thread))
            return true;
    }
    return false;
}

det_status det_pool_check(const det_pool *pool, const char *function) {
    if (!pool)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "%s: pool is NULL", function);
    if (pool->process != getpid())
        DET_FAIL(
            DET_ERROR_UNSUPPORTED,
            "%s: the pool was made by process %ld and not by %ld, which was forked from it; make one after the fork",
            function, (long)pool->process, (long)getpid());
    return DET_OK;
}

void det_pool_enter(det_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->n_callers++;
}

void det_pool_leave(det_pool *pool) {
    if (--pool->n_callers == 0)
        pthread_cond_broadcast(&pool->settled);
    pthread_mutex_unlock(&pool->mutex);
}

det_status det_pool_drain(det_pool *pool, int64_t timeout_us) {
    DET_TRY(det_pool_check(pool, "det_pool_drain"));
    if (det_pool_is_own_thread(pool))
        DET_FAIL(DET_ERROR_BUSY, "det_pool_drain: a callback cannot wait for itself");
    int64_t until_us = det_clock_after(det_clock_us(), timeout_us);
    det_pool_enter(pool);
    pool->draining = true;
    det_pool_wake_leader(pool, NULL);
    while (pool->n_open > 0 && (until_us == INT64_MAX || det_clock_us() < until_us))
        det_clock_wait(&pool->settled, &pool->mutex, until_us);
    int n_open = pool->n_open;
    det_pool_leave(pool);
    if (n_open > 0)
        DET_FAIL(DET_ERROR_TIMEOUT, "%d requests are not answered yet", n_open);
    return DET_OK;
}

/* What runs ends, what waits is cancelled, everybody leaves. */
static void close_queue(det_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->draining = pool->closing = true;
    det_pool_end_waiting(pool, DET_ERROR_CANCELLED, "the pool was destroyed before the request could run");
    for (int i = 0; i < pool->n_workers; i++)
        pthread_cond_signal(&pool->workers[i].wake);
    while (pool->n_open > 0 || pool->n_callers > 0)
        pthread_cond_wait(&pool->settled, &pool->mutex);
    pool->clerk_stops = true;
    pthread_cond_signal(&pool->clerk_wake);
    pthread_mutex_unlock(&pool->mutex);
}

void det_pool_destroy(det_pool *pool) {
    if (!pool || pool->process != getpid()) /* in a child there are no threads to wait for: its copy is left alone */
        return;
    close_queue(pool);
    for (int i = 0; i < pool->n_workers; i++) {
        if (pool->workers[i].started)
            pthread_join(pool->workers[i].thread, NULL);
    }
    if (pool->clerk_started)
        pthread_join(pool->clerk, NULL);
    if (pool->setup.staging)
        pool->setup.release_staging(pool->setup.staging_user, pool->setup.staging);
    for (int i = 0; i < pool->n_workers; i++)
        close_worker(&pool->workers[i]);
    det_queue_close(&pool->queue);
    det_staging_close(&pool->staging);
    det_free(pool->deliveries);
    pthread_cond_destroy(&pool->clerk_wake);
    pthread_cond_destroy(&pool->settled);
    pthread_mutex_destroy(&pool->mutex);
    det_free(pool->workers);
    det_free(pool);
}
