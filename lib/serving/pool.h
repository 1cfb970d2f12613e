/* A pool: one queue, a worker thread for each runner, and a clerk that answers what did not run.
 *
 * Everything but the runs, the copying of pictures and results, and the callbacks happens under one mutex. A request is
 * in exactly one hand at a time (det_slot_state): what that hand does not hold, it does not touch. That is why none is
 * lost and none answered twice. */
#ifndef DET_SERVING_POOL_H
#define DET_SERVING_POOL_H

#include "queue.h"
#include "staging.h"

#include <sys/types.h>

enum { DET_MAX_WORKERS = 256, DET_MAX_CAPACITY = 65536 };

/* ------------------------------------------------------------------------------------------------------- runners */

/* What runs batches: a context, or in tests a device that is none. */
typedef struct det_runner_ops {
    /* Runs n pictures and returns when the results lie in output's memory. One call at a time for each state. */
    det_status (*run)(void *state, const det_image *images, int n, const det_thresholds *thresholds,
                      const det_output *output);
    void (*close)(void *state);
} det_runner_ops;

typedef struct det_runner {
    const det_runner_ops *ops;
    void *state;
    const char *name;
    int32_t device, device_index;
    int max_batch;
    int fails_with; /* runners of equal numbers are of one device, and go out of service together */
} det_runner;

typedef struct det_pool_setup {
    det_group_defaults defaults;
    int max_batch, capacity, max_attempts;
    int model_objects; /* what a request gets that asks for no number */
    int max_objects;   /* most that any gets */
    int64_t max_delay_us;
    bool host_only; /* pictures in device memory are refused */
    /* Memory for copied pictures; release_staging(staging_user, memory) gives it back. NULL, 0: none. */
    void *staging;
    size_t staging_bytes;
    void (*release_staging)(void *user, void *memory);
    void *staging_user;
} det_pool_setup;

/* Makes a pool of these runners and of the setup's staging, which then are its own, also after a failure. */
det_status det_pool_build(const det_pool_setup *setup, const det_runner *runners, int n_runners, det_pool **pool);

/* ---------------------------------------------------------------------------------------------------------- pool */

/* An answer on its way to a callback; its slot is free already. */
typedef struct det_delivery {
    det_answer_fn callback;
    void *user;
    det_answer answer;
    char message[sizeof((det_slot *)0)->message];
} det_delivery;

typedef struct det_worker {
    det_pool *pool;
    int index, max_batch;
    det_runner runner;
    pthread_t thread;
    bool started, in_service;
    bool idle; /* sleeps until it is made the leader */
    pthread_cond_t wake;
    det_slot **batch; /* [max_batch], n_batch: those that it runs */
    int n_batch;
    det_image *images;   /* [max_batch] */
    det_object *objects; /* [max_batch][setup.max_objects] */
    int32_t *counts, *cuts;
    det_delivery *deliveries; /* [max_batch] */
    det_pool_context_stats stats;
} det_worker;

enum { DET_CLERK_DELIVERIES = 32 };

struct det_pool {
    det_pool_setup setup;
    pid_t process; /* that made it: its threads are not in a child */
    pthread_mutex_t mutex;
    det_queue queue;
    det_staging staging;
    det_pool_stats stats; /* counters; what can be read elsewhere is filled in when asked for */

    int n_workers, n_in_service;
    det_worker *workers;
    int leader; /* the worker that looks at the queue; DET_NONE: all run */
    int last_leader;
    int64_t leader_until_us; /* when it wakes by itself */

    pthread_t clerk;
    bool clerk_started, clerk_stops;
    pthread_cond_t clerk_wake;
    int64_t clerk_until_us;
    int first_ending, last_ending; /* slots whose callbacks the clerk will call */
    det_delivery *deliveries;      /* [DET_CLERK_DELIVERIES] */

    bool draining, closing;
    int n_open;             /* requests that are not answered; their callbacks have not returned */
    int n_callers;          /* threads inside submit, wait, cancel, drain */
    pthread_cond_t settled; /* n_open or n_callers fell to 0 */
    char failure[sizeof((det_slot *)0)->message]; /* what to say when no device is left: how the last one failed */
};

/* The pool's mutex must be held for all of these. */

/* Answers a request that is HELD and did not run (or must not run again): collected, or by the clerk's callback. */
void det_pool_end(det_pool *pool, det_slot *slot, det_status status, const char *message);
/* Records an answer for a slot that is HELD or RUNNING. With a callback: fills in `delivery`, frees the slot and returns
 * true; the caller then calls det_pool_call without the mutex. Without: the answer can be collected. */
bool det_pool_answer(det_pool *pool, det_slot *slot, det_delivery *delivery);
/* n answers that were delivered: they are open no longer. */
void det_pool_settle(det_pool *pool, int n);
void det_pool_free_slot(det_pool *pool, det_slot *slot);
/* Ends those whose deadlines have passed. */
void det_pool_expire(det_pool *pool);
/* Ends all that wait. */
void det_pool_end_waiting(det_pool *pool, det_status status, const char *message);
/* Wakes the worker that should look at the queue now. `slot`: what is new there; NULL: everything may be. */
void det_pool_wake_leader(det_pool *pool, const det_slot *slot);
/* Tells those who should know of a request that has come, or come back, to the queue. */
void det_pool_announce(det_pool *pool, const det_slot *slot);
/* Makes an idle worker the leader, when there is none. */
void det_pool_find_leader(det_pool *pool);

/* Whether this is a pool that this process can use. Before anything else: in a child its mutex may be locked for ever. */
det_status det_pool_check(const det_pool *pool, const char *function);

/* For the time of a public call: takes the mutex, and gives it back. The pool is not destroyed in between. */
void det_pool_enter(det_pool *pool);
void det_pool_leave(det_pool *pool);

/* Without the mutex. */
void det_pool_call(det_delivery *delivery);
bool det_pool_is_own_thread(const det_pool *pool);
void *det_worker_main(void *worker);
void *det_clerk_main(void *pool);

/* stats.c, with the mutex. */
void det_pool_count_answer(det_pool *pool, const det_answer *answer);
void det_pool_count_run(det_pool *pool, det_worker *worker, int n, int64_t run_us);

#endif
