/* The requests of a pool, from submission to answer: their slots, tickets, order and deadlines.
 *
 * A data structure and no more: it starts no thread, reads no clock and takes no memory after det_queue_open; the
 * pool's mutex guards it. Times are microseconds of a clock that never goes back. */
#ifndef DET_SERVING_QUEUE_H
#define DET_SERVING_QUEUE_H

#include "groups.h"

#include <pthread.h>

typedef enum det_slot_state {
    DET_SLOT_FREE,
    DET_SLOT_HELD,    /* by the thread that submits it or ends it */
    DET_SLOT_WAITING, /* in the queue */
    DET_SLOT_RUNNING, /* of the worker that took it */
    DET_SLOT_ENDING,  /* answered; its callback is about to be called */
    DET_SLOT_ANSWERED /* to be collected */
} det_slot_state;

typedef struct det_slot {
    det_slot_state state;
    int previous, next; /* in a list of its group, or of those that are ending, or of the free ones */
    int next_of_bucket; /* slots whose tickets have the same remainder */
    int heap_at;        /* in the heap of deadlines; DET_NONE: not there */
    int group, level;   /* level: priority - DET_PRIORITY_LOWEST */
    uint64_t ticket;    /* 0: none yet */
    int64_t submitted_us;
    int64_t due_us;      /* when it should run even if its batch is not full */
    int64_t deadline_us; /* when it must have begun to; INT64_MAX: never mind */
    det_image image;
    void *staged; /* its place in the staging memory; NULL: borrowed pixels */
    int max_objects;
    int n_failures; /* runs that a device spoiled */
    det_answer_fn callback;
    void *user;
    det_answer answer;
    char message[256];
    bool awaited; /* a thread waits for the answer, by this: */
    pthread_cond_t answered;
} det_slot;

typedef struct det_queue {
    det_groups groups;
    int capacity, n_held, n_waiting;
    uint64_t last_ticket;
    det_slot *slots; /* [capacity] */
    int first_free;
    int *buckets, bucket_mask; /* first slot of each remainder */
    int *heap, n_heap;         /* slots that wait and have a deadline, the first on top */
} det_queue;

det_status det_queue_open(det_queue *queue, int capacity, const det_group_defaults *defaults);
void det_queue_close(det_queue *queue);

/* A slot to fill in, or NULL when all are taken. */
det_slot *det_queue_acquire(det_queue *queue);
/* Gives a slot back that is in no list; its ticket is known no longer. */
void det_queue_release(det_queue *queue, det_slot *slot);

/* Queues a slot that has its group, level and times, behind all of its level; gives it the next ticket. */
void det_queue_push(det_queue *queue, det_slot *slot);
/* Queues a slot again, where its ticket belongs. */
void det_queue_return(det_queue *queue, det_slot *slot);
/* Takes one that waits out of the queue: it is HELD. */
void det_queue_remove(det_queue *queue, det_slot *slot);

/* The slot of a ticket, in any state; NULL: none. */
det_slot *det_queue_find(det_queue *queue, uint64_t ticket);

/* Takes the next batch, RUNNING: up to max_batch requests of one group, by falling priority and rising ticket; of all
 * groups that have a full batch or one that is due (with `flush`: of all) that whose first request comes first.
 * Returns how many; 0: nothing is to be run now. */
int det_queue_take(det_queue *queue, int64_t now_us, int max_batch, bool flush, det_slot **batch);

/* When something will be due, if nothing is submitted before; INT64_MAX: nothing waits. */
int64_t det_queue_due(det_queue *queue);

/* One that waits and whose deadline is not after `now_us`, the first; NULL: none. INT64_MAX gives any with one. */
det_slot *det_queue_expired(det_queue *queue, int64_t now_us);
/* One that waits, or NULL. */
det_slot *det_queue_any(det_queue *queue);
/* The first deadline of those that wait; INT64_MAX: none. */
int64_t det_queue_deadline(const det_queue *queue);

#endif
