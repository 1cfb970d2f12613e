/* A device that is none, for pools: it takes a known time, fails when told to, and finds in every picture what is
 * planted there. */
#ifndef DET_TEST_SIM_H
#define DET_TEST_SIM_H

#include "check.h"
#include "serving/clock.h"
#include "serving/pool.h"

#include <stdatomic.h>

enum { SIM_MAX_BATCH = 64, SIM_OBJECTS = 8 };

/* What the contexts of one GPU share: each engine does one thing at a time. */
typedef struct sim_gpu {
    pthread_mutex_t upload, compute;
} sim_gpu;

typedef struct sim {
    int64_t fixed_us, picture_us; /* a run of n takes fixed_us + n * picture_us */
    int64_t upload_us;            /* a picture's, before that; with gpu */
    sim_gpu *gpu;                 /* NULL: alone on its device */
    det_status fails_with;        /* from run number fails_at (from 1) on, for n_failures runs */
    int fails_at, n_failures;
    uint64_t poison;       /* a picture that cannot be had: the run that has it fails with INVALID_ARGUMENT */
    pthread_mutex_t *gate; /* a run waits until it can be locked; NULL: does not */

    atomic_int n_runs, inside, largest, n_overlaps, closed;
    atomic_llong n_pictures;
} sim;

extern const det_runner_ops sim_ops;

/* A setup for n devices of their own, and the pool. Ends the test when that fails. */
det_pool_setup sim_setup(int capacity);
det_pool *sim_pool(const det_pool_setup *setup, sim *devices, int n, int max_batch);

/* A picture with this number planted in it: `pixels` has 8 bytes and lives as long as the picture. */
det_image sim_picture(uint64_t *pixels, uint64_t number);
/* Whether an answer is that for this number. `max_objects`: what the request asked for. */
bool sim_is_right(const det_answer *answer, uint64_t number, int max_objects);

void sim_sleep(int64_t us);

/* A request for up to SIM_OBJECTS objects. */
det_request sim_request(det_object *objects);

/* Submits and gives the ticket; ends the test when it is refused. */
uint64_t sim_submit(det_pool *pool, const det_image *image, const det_request *request);

det_pool_stats sim_stats(det_pool *pool);

#endif
