/* What was measured in one place of one scenario: the time of every request, and how many there were a second, in each
 * of some repeats. */
#ifndef BENCH_MEASUREMENT_H
#define BENCH_MEASUREMENT_H

#include "loops.h"
#include "statistics.h"

enum { MEASUREMENT_MAX_REPEATS = 32 };

typedef struct measurement {
    samples latency_ms;                          /* of all repeats */
    samples waiting_ms;                          /* of that, before a worker took the request; empty in turns */
    double medians_ms[MEASUREMENT_MAX_REPEATS];  /* of each repeat */
    double throughputs[MEASUREMENT_MAX_REPEATS]; /* pictures a second in each repeat */
    int n_repeats;
    double measured_s;

    /* What came before, and is in none of the figures. */
    double first_ms; /* the very first request */
    double warm_up_s;
    int n_warm_ups;
} measurement;

void measurement_free(measurement *m);

/* The median of the repeats' throughputs. */
double measurement_throughput(const measurement *m);

/* One request after the other, by one caller. */
typedef struct turns_plan {
    int repeats;
    double seconds; /* of a repeat, at least */
    int least;      /* requests of a repeat, at least */
    double warm_up_s;
    int batch; /* pictures of a request */
    /* Called after each request that counts, outside its time; or NULL. False ends the measurement. */
    bool (*counted)(void *data);
    void *counted_data;
} turns_plan;

/* Warms up, then measures every repeat, with a request that does not count before each. False: a request failed, or
 * memory ran out. */
bool measure_turns(timebase *time, const target *what, const turns_plan *plan, measurement *m);

/* Cuts the period of a log into n_repeats equal parts: by the requests' ends (closed loop) or by when they were due (open
 * loop). False: memory ran out. */
bool measurement_from_log(const request_log *log, int n_repeats, int batch, bool by_due, measurement *m);

#endif
