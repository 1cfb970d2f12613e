/* A worker: takes batches from the queue, runs them on its runner, answers.
 *
 * Of the workers that have nothing to run, one, the leader, watches the queue and the time; the others sleep until they
 * become it. So a request wakes one thread, not all. */
#include "pool.h"

#include "clock.h"

#include <stdio.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------- who is next */

static int n_running_on(const det_pool *pool, int device) {
    int n = 0;
    for (int i = 0; i < pool->n_workers; i++)
        n += pool->workers[i].runner.fails_with == device ? pool->workers[i].n_batch : 0;
    return n;
}

/* One whose device has the least to do; of those, the one after the last leader, so that devices take turns. */
void det_pool_find_leader(det_pool *pool) {
    if (pool->leader != DET_NONE)
        return;
    int best = DET_NONE, least = 0;
    for (int k = 0; k < pool->n_workers; k++) {
        int i = (pool->last_leader + 1 + k) % pool->n_workers;
        const det_worker *w = &pool->workers[i];
        if (!w->idle || !w->in_service)
            continue;
        int load = n_running_on(pool, w->runner.fails_with);
        if (best == DET_NONE || load < least) {
            best = i;
            least = load;
        }
    }
    if (best == DET_NONE)
        return;
    pool->leader = pool->last_leader = best;
    pthread_cond_signal(&pool->workers[best].wake);
}

void det_pool_wake_leader(det_pool *pool, const det_slot *slot) {
    if (pool->leader == DET_NONE)
        return; /* all run: whoever is done first looks at the queue */
    det_worker *w = &pool->workers[pool->leader];
    if (!slot || slot->due_us < pool->leader_until_us ||
        pool->queue.groups.items[slot->group].n_waiting >= w->max_batch)
        pthread_cond_signal(&w->wake);
}

void det_pool_announce(det_pool *pool, const det_slot *slot) {
    det_pool_wake_leader(pool, slot);
    if (slot->deadline_us < pool->clerk_until_us)
        pthread_cond_signal(&pool->clerk_wake);
}

/* Ends what came too late (the clerk may be busy); then a batch, if there is one to be run now. */
static bool take_batch(det_worker *w) {
    det_pool *pool = w->pool;
    det_pool_expire(pool);
    w->n_batch = det_queue_take(&pool->queue, det_clock_us(), w->max_batch, pool->draining, w->batch);
    return w->n_batch > 0;
}

/* Sleeps until this worker has a batch; false: it has to go. */
static bool await_batch(det_worker *w) {
    det_pool *pool = w->pool;
    while (w->in_service && !pool->closing) {
        if (pool->leader != DET_NONE && pool->leader != w->index) {
            w->idle = true;
            pthread_cond_wait(&w->wake, &pool->mutex);
            w->idle = false;
            continue;
        }
        pool->leader = pool->last_leader = w->index;
        if (take_batch(w)) {
            pool->leader = DET_NONE;
            det_pool_find_leader(pool);
            return true;
        }
        pool->leader_until_us = det_queue_due(&pool->queue);
        det_clock_wait(&w->wake, &pool->mutex, pool->leader_until_us);
    }
    if (pool->leader == w->index) {
        pool->leader = DET_NONE;
        det_pool_find_leader(pool);
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------------- running */

/* Whether it is the picture that is at fault, or the device. Neither: worth another try where it was. */
static bool blames_request(det_status status) {
    return status == DET_ERROR_INVALID_ARGUMENT || status == DET_ERROR_UNSUPPORTED;
}

static bool blames_device(det_status status) {
    return status != DET_OK && !blames_request(status) && status != DET_ERROR_OUT_OF_MEMORY;
}

/* Copies the results of a request to where it wants them. Room in the run was for the largest request: a smaller one is
 * cut, as it would have been alone. */
static void take_results(const det_worker *w, det_slot *slot, int at, int room) {
    det_answer *a = &slot->answer;
    a->n_objects = DET_MIN(w->counts[at], slot->max_objects);
    a->cuts = w->cuts[at];
    if (slot->max_objects < room)
        a->cuts = (a->cuts & ~DET_CUT_OBJECTS) | (w->counts[at] > slot->max_objects ? DET_CUT_OBJECTS : 0);
    memcpy(a->objects, w->objects + (size_t)at * (size_t)room, (size_t)a->n_objects * sizeof *a->objects);
}

static void set_status(det_slot *slot, det_status status) {
    slot->answer.status = status;
    slot->message[0] = '\0';
    if (status != DET_OK)
        snprintf(slot->message, sizeof slot->message, "%s", det_last_error());
}

static void note(det_slot *slot, const det_worker *w, det_status status, int n, int64_t begin_us, int64_t run_us) {
    det_answer *a = &slot->answer;
    set_status(slot, status);
    a->context = w->index;
    a->batch = n;
    a->n_attempts++;
    a->wait_us = begin_us - slot->submitted_us;
    a->run_us = run_us;
    a->n_objects = a->cuts = 0;
}

/* Runs n of the batch's requests, from `first` on, and notes what became of each. */
static det_status run_part(det_worker *w, int first, int n) {
    const det_slot *any = w->batch[first];
    int room = 0;
    for (int i = 0; i < n; i++) {
        w->images[i] = w->batch[first + i]->image;
        room = DET_MAX(room, w->batch[first + i]->max_objects);
    }
    /* The group cannot change while requests of it are out. */
    det_thresholds thresholds = w->pool->queue.groups.items[any->group].thresholds;
    thresholds.max_objects = room;
    det_output output = {sizeof output, w->objects, w->counts, room, DET_MEMORY_HOST, w->cuts};
    int64_t begin_us = det_clock_us();
    det_status status = w->runner.ops->run(w->runner.state, w->images, n, &thresholds, &output);
    int64_t run_us = det_clock_us() - begin_us;
    for (int i = 0; i < n; i++) {
        note(w->batch[first + i], w, status, n, begin_us, run_us);
        if (status == DET_OK)
            take_results(w, w->batch[first + i], i, room);
    }
    pthread_mutex_lock(&w->pool->mutex);
    det_pool_count_run(w->pool, w, n, run_us);
    pthread_mutex_unlock(&w->pool->mutex);
    return status;
}

/* The whole batch; when one picture spoils it, each alone. Returns the failure of the device, or DET_OK. */
static det_status run_batch(det_worker *w) {
    det_status status = run_part(w, 0, w->n_batch);
    if (!blames_request(status) || w->n_batch == 1)
        return status;
    for (int i = 0; i < w->n_batch; i++) {
        status = run_part(w, i, 1);
        if (blames_device(status)) {
            for (int k = i + 1; k < w->n_batch; k++)
                set_status(w->batch[k], status);
            return status;
        }
    }
    return DET_OK;
}

/* ------------------------------------------------------------------------------------------------------ answering */

/* Takes the runner's device out of service, with all runners that it has. */
static void retire(det_worker *w, det_status status, const char *message) {
    det_pool *pool = w->pool;
    w->stats.n_failures++;
    w->stats.last_error = status;
    snprintf(pool->failure, sizeof pool->failure,
             "no device of the pool is left in service; the last failed so: %.190s", message);
    for (int i = 0; i < pool->n_workers; i++) {
        det_worker *other = &pool->workers[i];
        if (other->runner.fails_with != w->runner.fails_with || !other->in_service)
            continue;
        other->in_service = false;
        pool->n_in_service--;
        pthread_cond_signal(&other->wake);
    }
    if (pool->n_in_service == 0)
        det_pool_end_waiting(pool, DET_ERROR_NO_DEVICE, pool->failure);
}

/* Another try, if it deserves one and there is where. */
static bool retry(det_pool *pool, det_slot *slot) {
    det_status status = slot->answer.status;
    if (status == DET_OK || blames_request(status) || pool->closing)
        return false;
    if (pool->n_in_service == 0) {
        slot->answer.status = DET_ERROR_NO_DEVICE;
        memcpy(slot->message, pool->failure, sizeof slot->message);
        return false;
    }
    if (++slot->n_failures >= pool->setup.max_attempts)
        return false;
    pool->stats.n_retried++;
    slot->due_us = 0;
    det_queue_return(&pool->queue, slot);
    det_pool_announce(pool, slot);
    return true;
}

/* With the mutex: every request of the batch goes back to the queue or gets its answer. Returns how many answers are to
 * be delivered. */
static int settle_batch(det_worker *w) {
    int n = 0;
    for (int i = 0; i < w->n_batch; i++) {
        if (!retry(w->pool, w->batch[i]))
            n += det_pool_answer(w->pool, w->batch[i], &w->deliveries[n]);
    }
    w->n_batch = 0;
    return n;
}

void *det_worker_main(void *argument) {
    det_worker *w = argument;
    det_pool *pool = w->pool;
    pthread_mutex_lock(&pool->mutex);
    while (await_batch(w)) {
        char message[sizeof pool->failure];
        pthread_mutex_unlock(&pool->mutex);
        det_status status = run_batch(w);
        if (blames_device(status)) { /* logged without the mutex: the program's function may ask the pool something */
            snprintf(message, sizeof message, "%s", det_last_error());
            det_log(DET_LOG_ERROR, "pool: %s is out of service: %s", w->runner.name, message);
        }
        pthread_mutex_lock(&pool->mutex);
        if (blames_device(status))
            retire(w, status, message);
        int n = settle_batch(w);
        pthread_mutex_unlock(&pool->mutex);
        for (int i = 0; i < n; i++)
            det_pool_call(&w->deliveries[i]);
        pthread_mutex_lock(&pool->mutex);
        det_pool_settle(pool, n);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}
