/* The clerk: ends requests whose deadlines have passed, and calls the callbacks of those that did not run. A thread of
 * its own, so that these are answered in time even while every worker is busy. */
#include "pool.h"

#include "clock.h"

#include <stdio.h>

void det_pool_end(det_pool *pool, det_slot *slot, det_status status, const char *message) {
    det_answer *a = &slot->answer;
    a->status = status;
    if (slot->answer.n_attempts == 0)
        a->wait_us = det_clock_us() - slot->submitted_us;
    snprintf(slot->message, sizeof slot->message, "%s", message);
    if (!slot->callback) {
        det_pool_answer(pool, slot, NULL);
        return;
    }
    slot->state = DET_SLOT_ENDING;
    slot->next = DET_NONE;
    int index = (int)(slot - pool->queue.slots);
    *(pool->last_ending == DET_NONE ? &pool->first_ending : &pool->queue.slots[pool->last_ending].next) = index;
    pool->last_ending = index;
    pthread_cond_signal(&pool->clerk_wake);
}

void det_pool_expire(det_pool *pool) {
    int64_t now_us = det_clock_us();
    for (det_slot *late; (late = det_queue_expired(&pool->queue, now_us));) {
        char message[96];
        snprintf(message, sizeof message, "the request waited for %lld us, and its deadline was %lld us",
                 (long long)(now_us - late->submitted_us), (long long)(late->deadline_us - late->submitted_us));
        det_queue_remove(&pool->queue, late);
        det_pool_end(pool, late, DET_ERROR_DEADLINE, message);
    }
}

void det_pool_end_waiting(det_pool *pool, det_status status, const char *message) {
    for (det_slot *slot; (slot = det_queue_any(&pool->queue));) {
        det_queue_remove(&pool->queue, slot);
        det_pool_end(pool, slot, status, message);
    }
}

static int take_endings(det_pool *pool) {
    int n = 0;
    while (n < DET_CLERK_DELIVERIES && pool->first_ending != DET_NONE) {
        det_slot *slot = &pool->queue.slots[pool->first_ending];
        pool->first_ending = slot->next;
        if (pool->first_ending == DET_NONE)
            pool->last_ending = DET_NONE;
        n += det_pool_answer(pool, slot, &pool->deliveries[n]);
    }
    return n;
}

void *det_clerk_main(void *argument) {
    det_pool *pool = argument;
    pthread_mutex_lock(&pool->mutex);
    while (!pool->clerk_stops) {
        det_pool_expire(pool);
        int n = take_endings(pool);
        if (n == 0) {
            pool->clerk_until_us = det_queue_deadline(&pool->queue);
            det_clock_wait(&pool->clerk_wake, &pool->mutex, pool->clerk_until_us);
            continue;
        }
        pthread_mutex_unlock(&pool->mutex);
        for (int i = 0; i < n; i++)
            det_pool_call(&pool->deliveries[i]);
        pthread_mutex_lock(&pool->mutex);
        det_pool_settle(pool, n);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}
