/* Load: requests in a closed loop, where every caller waits for its answer, and in an open one, where requests come when
 * they are due whether or not anyone is ready.
 *
 * A worker is a thread with a context of its own. Callers are not threads: they stand in a queue, first come, first
 * served, and the next free worker takes the first. So 200 callers cost nothing but their waiting, and what is measured
 * is the detector and its queue rather than 200 threads that wake each other. */
#ifndef BENCH_LOOPS_H
#define BENCH_LOOPS_H

#include "timebase.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is measured: a detector, or in tests a simulation of one. */
typedef struct target {
    void *self;
    int n_workers;
    /* Serves a request and returns when its results are with the caller, so that timing a call is timing the work.
     * Called by one thread for each worker. False: it failed, and the load ends. */
    bool (*serve)(void *self, int worker, int64_t request);
} target;

/* Seconds of the timebase. */
typedef struct request {
    double due;     /* closed: when its caller had its last answer; open: when it was meant to start */
    double started; /* when a worker took it */
    double ended;
} request;

typedef struct request_log {
    request *requests; /* in the order in which they ended */
    size_t n, capacity;
    double begin, end;  /* of the period that counts */
    int64_t n_unserved; /* open: due within the period, never started */
    bool failed;        /* a request failed */
    bool no_memory;     /* for the log */
} request_log;

void request_log_free(request_log *log);

typedef struct closed_plan {
    int n_callers;
    double warm_up_s; /* at least; and until every caller has had its first answer, which came to an empty queue */
    double measure_s; /* at least */
    size_t least;     /* requests, at least */
    /* Takes the requests in place of the log, which then stays empty but for its period, so that a load of days takes no
     * memory. Called for one request at a time. Or NULL. */
    void (*keep)(void *data, const request_log *log, const request *r);
    void *keep_data;
} closed_plan;

/* Runs min(n_workers, n_callers) threads. Only requests that end in the measured period are logged. */
void loop_closed(timebase *time, const target *what, const closed_plan *plan, request_log *log);

/* Requests are due at k * period + phases[j] for k = 0, 1, ..., the phases in rising order below `period`. */
typedef struct open_plan {
    double period;
    const double *phases;
    size_t n_phases;
    double duration_s;
    double grace_s; /* after the duration: a request that has not started by then is given up */
} open_plan;

/* Runs n_workers threads. The period that counts is the duration; requests that were due in it are logged whenever they
 * end. */
void loop_open(timebase *time, const target *what, const open_plan *plan, request_log *log);

#endif
