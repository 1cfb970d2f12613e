/* The calls of those who want pictures looked at: submit, wait, cancel. */
#include "pool.h"

#include "../api.h"
#include "clock.h"

#include <stddef.h>

void det_request_init_sized(det_request *request, size_t struct_size) {
    static const det_request defaults = {0};
    det_init_struct(&defaults, sizeof defaults, request, struct_size);
}

/* --------------------------------------------------------------------------------------------------------- submit */

/* The caller's request, its thresholds in full. */
typedef struct order {
    det_request request;
    det_thresholds thresholds;
    int max_objects; /* of the picture */
} order;

static det_status check_request(const det_pool *pool, const det_image *image, const det_request *request, order *o) {
    if (!image || !request)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_pool_submit: %s is NULL", image ? "request" : "image");
    det_request_init(&o->request);
    DET_TRY(det_take_struct(&o->request, sizeof o->request, offsetof(det_request, priority), request, "det_request"));
    const det_request *r = &o->request;
    if (!r->objects || r->max_objects < 1)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_request: objects is %sNULL, max_objects %d; room for 1 is needed",
                 r->objects ? "not " : "", r->max_objects);
    DET_TRY(det_check_range(r->priority, DET_PRIORITY_LOWEST, DET_PRIORITY_HIGHEST, "priority"));
    DET_TRY(det_check_range(r->pixels, DET_PIXELS_BORROWED, DET_PIXELS_COPIED, "pixels"));
    if (r->deadline_us < 0 || r->reserved)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT,
                 "det_request: deadline_us is %lld, reserved %u; neither may be below 0, "
                 "reserved is 0",
                 (long long)r->deadline_us, r->reserved);
    det_thresholds_init(&o->thresholds);
    if (r->thresholds)
        DET_TRY(det_take_struct(&o->thresholds, sizeof o->thresholds, sizeof(size_t), r->thresholds, "det_thresholds"));
    DET_TRY(det_check_thresholds(&o->thresholds, pool->setup.defaults.n_classes));
    int wanted = o->thresholds.max_objects < 0 ? pool->setup.model_objects : o->thresholds.max_objects;
    o->max_objects = DET_MIN(DET_MIN(wanted, r->max_objects), pool->setup.max_objects);
    DET_TRY(det_check_image(image, 0, pool->setup.host_only));
    if (r->pixels == DET_PIXELS_COPIED && (image->memory != DET_MEMORY_HOST || pool->staging.n_pages == 0))
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "the picture cannot be copied: %s",
                 pool->staging.n_pages ? "it is in device memory" : "the pool was made without staging_bytes");
    return DET_OK;
}

static det_status refuse(const det_pool *pool) {
    if (pool->draining)
        DET_FAIL(DET_ERROR_CLOSED, "the pool takes no more requests");
    if (pool->n_in_service == 0)
        DET_FAIL(DET_ERROR_NO_DEVICE, "%s", pool->failure);
    return DET_OK;
}

/* A picture that the whole memory has no place for never fits. */
static det_status fail_to_stage(const det_pool *pool, size_t n_bytes) {
    if (n_bytes > det_staging_capacity(&pool->staging))
        return det_fail(DET_ERROR_INVALID_ARGUMENT, "a picture of %zu bytes to copy; staging_bytes is %zu", n_bytes,
                        pool->setup.staging_bytes);
    return det_fail(DET_ERROR_QUEUE_FULL, "no room to copy %zu bytes: %lld of %zu are in use", n_bytes,
                    (long long)pool->staging.used_bytes, pool->setup.staging_bytes);
}

/* Room for the request: a slot, its group, and staging memory. All or nothing. */
static det_status reserve(det_pool *pool, const det_image *image, const order *o, det_slot **out) {
    det_slot *slot = det_queue_acquire(&pool->queue);
    if (!slot)
        DET_FAIL(DET_ERROR_QUEUE_FULL, "the pool holds %d requests, as many as it may", pool->queue.capacity);
    slot->group = det_groups_join(&pool->queue.groups, &o->thresholds);
    det_status status = DET_OK;
    if (slot->group == DET_NONE)
        status = det_fail(DET_ERROR_QUEUE_FULL, "requests of %d different thresholds are waiting, as many as may",
                          DET_MAX_GROUPS);
    if (status == DET_OK && o->request.pixels == DET_PIXELS_COPIED) {
        slot->staged = det_staging_take(&pool->staging, det_staging_bytes(image));
        if (!slot->staged)
            status = fail_to_stage(pool, det_staging_bytes(image));
    }
    if (status != DET_OK) {
        det_pool_free_slot(pool, slot);
        return status;
    }
    *out = slot;
    return DET_OK;
}

/* A request with a deadline does not wait for others longer than half of that. */
static void set_times(const det_pool *pool, det_slot *slot, int64_t deadline_us) {
    int64_t now_us = det_clock_us();
    slot->submitted_us = now_us;
    slot->due_us = det_clock_after(now_us, pool->setup.max_delay_us);
    slot->deadline_us = INT64_MAX;
    if (deadline_us) {
        slot->deadline_us = det_clock_after(now_us, deadline_us);
        slot->due_us = DET_MIN(slot->due_us, det_clock_after(now_us, deadline_us / 2));
    }
}

static void queue_request(det_pool *pool, det_slot *slot, const order *o) {
    slot->level = o->request.priority - DET_PRIORITY_LOWEST;
    slot->max_objects = o->max_objects;
    set_times(pool, slot, o->request.deadline_us);
    det_queue_push(&pool->queue, slot);
    slot->answer = (det_answer){
        .struct_size = sizeof slot->answer, .ticket = slot->ticket, .objects = o->request.objects, .context = DET_NONE};
    pool->n_open++;
    pool->stats.n_submitted++;
    pool->stats.max_waiting = DET_MAX(pool->stats.max_waiting, pool->queue.n_waiting);
    det_pool_announce(pool, slot);
}

/* With the mutex, but while the picture is copied. */
static det_status submit(det_pool *pool, const det_image *image, const order *o, det_slot **slot) {
    DET_TRY(refuse(pool));
    det_status status = reserve(pool, image, o, slot);
    pool->stats.n_rejected += status == DET_ERROR_QUEUE_FULL;
    DET_TRY(status);
    (*slot)->image = *image;
    if ((*slot)->staged) {
        pthread_mutex_unlock(&pool->mutex);
        det_staging_copy(&(*slot)->image, (*slot)->staged);
        pthread_mutex_lock(&pool->mutex);
        status = refuse(pool); /* it may have closed meanwhile */
        if (status != DET_OK)
            det_pool_free_slot(pool, *slot);
    }
    return status;
}

det_status det_pool_submit(det_pool *pool, const det_image *image, const det_request *request, det_answer_fn callback,
                           void *user, uint64_t *ticket) {
    DET_TRY(det_pool_check(pool, "det_pool_submit"));
    if (!callback && !ticket)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT,
                 "det_pool_submit: neither callback nor ticket: nobody would get the answer");
    order o;
    DET_TRY(check_request(pool, image, request, &o));
    det_slot *slot = NULL;
    det_pool_enter(pool);
    det_status status = submit(pool, image, &o, &slot);
    if (status == DET_OK) {
        slot->callback = callback;
        slot->user = user;
        queue_request(pool, slot, &o);
        if (ticket)
            *ticket = slot->ticket;
    }
    det_pool_leave(pool);
    return status;
}

/* ----------------------------------------------------------------------------------------------------------- wait */

/* The slot that this thread may wait for. */
static det_status claim(det_pool *pool, uint64_t ticket, det_slot **out) {
    det_slot *slot = det_queue_find(&pool->queue, ticket);
    if (!slot || slot->callback)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "ticket %llu %s", (unsigned long long)ticket,
                 slot ? "is of a request with a callback"
                      : "is of no request that could be collected: never taken, or collected already");
    if (slot->awaited)
        DET_FAIL(DET_ERROR_BUSY, "another thread waits for ticket %llu", (unsigned long long)ticket);
    *out = slot;
    return DET_OK;
}

static det_status collect(det_pool *pool, uint64_t ticket, int64_t until_us, det_answer *answer) {
    det_slot *slot = NULL;
    DET_TRY(claim(pool, ticket, &slot));
    slot->awaited = true;
    while (slot->state != DET_SLOT_ANSWERED && (until_us == INT64_MAX || det_clock_us() < until_us))
        det_clock_wait(&slot->answered, &pool->mutex, until_us);
    slot->awaited = false;
    if (slot->state != DET_SLOT_ANSWERED)
        DET_FAIL(DET_ERROR_TIMEOUT, "ticket %llu is not answered yet", (unsigned long long)ticket);
    *answer = slot->answer;
    answer->message = "";
    if (answer->status != DET_OK) {
        det_fail(answer->status, "%s", slot->message);
        answer->message = det_last_error();
    }
    det_pool_free_slot(pool, slot);
    return DET_OK;
}

det_status det_pool_wait(det_pool *pool, uint64_t ticket, int64_t timeout_us, det_answer *answer) {
    DET_TRY(det_pool_check(pool, "det_pool_wait"));
    if (det_pool_is_own_thread(pool))
        DET_FAIL(DET_ERROR_BUSY, "det_pool_wait: a callback cannot wait; what it waits for may come after it");
    det_answer own = {.struct_size = sizeof own};
    if (answer) /* before anything is collected */
        DET_TRY(det_check_struct(answer, sizeof own, "det_answer"));
    int64_t until_us = det_clock_after(det_clock_us(), timeout_us);
    det_pool_enter(pool);
    det_status status = collect(pool, ticket, until_us, &own);
    det_pool_leave(pool);
    DET_TRY(status);
    if (answer)
        DET_TRY(det_give_struct(&own, sizeof own, answer, "det_answer"));
    return own.status;
}

/* --------------------------------------------------------------------------------------------------------- cancel */

static det_status cancel(det_pool *pool, uint64_t ticket) {
    det_slot *slot = det_queue_find(&pool->queue, ticket);
    if (!slot || slot->state == DET_SLOT_ANSWERED)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "ticket %llu is of no request that is open: never taken, or answered",
                 (unsigned long long)ticket);
    if (slot->state != DET_SLOT_WAITING)
        DET_FAIL(DET_ERROR_BUSY, "ticket %llu runs already", (unsigned long long)ticket);
    det_queue_remove(&pool->queue, slot);
    det_pool_end(pool, slot, DET_ERROR_CANCELLED, "the request was cancelled");
    return DET_OK;
}

det_status det_pool_cancel(det_pool *pool, uint64_t ticket) {
    DET_TRY(det_pool_check(pool, "det_pool_cancel"));
    det_pool_enter(pool);
    det_status status = cancel(pool, ticket);
    det_pool_leave(pool);
    return status;
}
