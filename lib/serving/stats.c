#include "pool.h"

#include "../api.h"

/* [i]: below 2^i, not below half of that. */
static int bucket(int64_t us) {
    int i = 0;
    while (i < DET_POOL_TIME_BUCKETS - 1 && us >= (int64_t)1 << i)
        i++;
    return i;
}

void det_pool_count_answer(det_pool *pool, const det_answer *answer) {
    det_pool_stats *s = &pool->stats;
    *(answer->status == DET_OK                ? &s->n_succeeded
      : answer->status == DET_ERROR_CANCELLED ? &s->n_cancelled
      : answer->status == DET_ERROR_DEADLINE  ? &s->n_expired
                                              : &s->n_failed) += 1;
    if (answer->n_attempts == 0)
        return;
    s->wait_us += answer->wait_us;
    s->max_wait_us = DET_MAX(s->max_wait_us, answer->wait_us);
    s->waits[bucket(answer->wait_us)]++;
}

void det_pool_count_run(det_pool *pool, det_worker *worker, int n, int64_t run_us) {
    det_pool_stats *s = &pool->stats;
    s->n_runs++;
    s->run_us += run_us;
    s->max_run_us = DET_MAX(s->max_run_us, run_us);
    s->runs[bucket(run_us)]++;
    s->batches[n]++;
    worker->stats.n_runs++;
    worker->stats.n_pictures += n;
    worker->stats.run_us += run_us;
}

det_status det_pool_get_stats(det_pool *pool, det_pool_stats *stats) {
    DET_TRY(det_pool_check(pool, "det_pool_get_stats"));
    det_pool_enter(pool);
    det_pool_stats own = pool->stats;
    own.n_contexts = pool->n_workers;
    own.n_in_service = pool->n_in_service;
    own.capacity = pool->queue.capacity;
    own.n_held = pool->queue.n_held;
    own.n_waiting = pool->queue.n_waiting;
    for (int i = 0; i < pool->n_workers; i++)
        own.n_running += pool->workers[i].n_batch;
    own.draining = pool->draining;
    own.staging_bytes = pool->staging.used_bytes;
    det_pool_leave(pool);
    return det_give_struct(&own, sizeof own, stats, "det_pool_stats");
}

det_status det_pool_get_context_stats(det_pool *pool, int32_t index, det_pool_context_stats *stats) {
    DET_TRY(det_pool_check(pool, "det_pool_get_context_stats"));
    DET_TRY(det_check_range(index, 0, pool->n_workers - 1, "index"));
    const det_worker *worker = &pool->workers[index];
    det_pool_enter(pool);
    det_pool_context_stats own = worker->stats;
    own.device = worker->runner.device;
    own.device_index = worker->runner.device_index;
    own.device_name = worker->runner.name;
    own.max_batch = worker->max_batch;
    own.in_service = worker->in_service;
    own.n_running = worker->n_batch;
    det_pool_leave(pool);
    return det_give_struct(&own, sizeof own, stats, "det_pool_context_stats");
}
