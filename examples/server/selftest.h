/* Whether detection works: a drawn picture must give again what it gave when the server began. */
#ifndef SELFTEST_H
#define SELFTEST_H

#include "engine.h"

#include <pthread.h>

enum { SELFTEST_OBJECTS = 16 };

typedef enum readiness { READY, NOT_READY, READY_UNKNOWN } readiness;

typedef struct selftest {
    pthread_mutex_t mutex;
    float expected[SELFTEST_OBJECTS]; /* scores */
    int32_t n_expected;
    readiness last;
    bool running;
    double begin_ms, end_ms; /* of the last run */
} selftest;

/* Runs the picture for the first time and keeps what it gives. False after complaining. */
bool selftest_open(selftest *test, engine *e);
void selftest_close(selftest *test);

/* The last run's outcome while it is fresh or another is under way; READY_UNKNOWN when the caller shall run one, with the
 * job that this fills in, and hand it to selftest_end. */
readiness selftest_begin(selftest *test, job *run);
readiness selftest_end(selftest *test, const job *run);

#endif
