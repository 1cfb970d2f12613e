#include "selftest.h"

#include "clock.h"
#include "log.h"

#include <math.h>
#include <semaphore.h>
#include <stdlib.h>

enum { WIDTH = 320, HEIGHT = 240 };
static const double FRESH_MS = 1000, LIMIT_MS = 10000;
/* A device may sum in another order in another batch, half precision included. */
static const float TOLERANCE = 0.02f;

/* Rings and gradients: every network sees something in them, if only with low scores. */
static bool draw(image *picture) {
    *picture = (image){malloc((size_t)3 * WIDTH * HEIGHT), WIDTH, HEIGHT};
    if (picture->pixels == NULL)
        return false;
    uint8_t *pixel = picture->pixels;
    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++, pixel += 3) {
            int dx = x - WIDTH / 2, dy = y - HEIGHT / 2;
            pixel[0] = (uint8_t)((dx * dx + dy * dy) >> 5);
            pixel[1] = (uint8_t)(x * 255 / WIDTH);
            pixel[2] = (uint8_t)(y * 255 / HEIGHT);
        }
    }
    return true;
}

/* Every candidate counts, and none competes: what comes out is the network's own best scores. */
static bool prepare(job *run) {
    *run = (job){.deadline_ms = clock_ms() + LIMIT_MS};
    query_init(&run->asked);
    run->asked.thresholds.score = 0;
    run->asked.thresholds.iou = 1;
    run->asked.thresholds.max_objects = SELFTEST_OBJECTS;
    return draw(&run->picture);
}

static void wake(job *finished) {
    sem_post(finished->owner);
}

bool selftest_open(selftest *test, engine *e) {
    *test = (selftest){.last = READY, .end_ms = clock_ms()};
    pthread_mutex_init(&test->mutex, NULL);
    job run;
    if (!prepare(&run)) {
        complain("out of memory for the self-test");
        return false;
    }
    sem_t done;
    sem_init(&done, 0, 0);
    run.owner = &done;
    run.done = wake;
    engine_submit_picture(e, &run);
    while (sem_wait(&done) != 0)
        continue;
    sem_destroy(&done);
    bool ok = run.outcome == OUTCOME_OK && run.n_objects > 0 && run.n_objects <= SELFTEST_OBJECTS;
    for (int32_t i = 0; ok && i < run.n_objects; i++)
        test->expected[test->n_expected++] = run.objects[i].score;
    if (!ok)
        complain("the self-test failed");
    job_free(e, &run);
    return ok;
}

void selftest_close(selftest *test) {
    pthread_mutex_destroy(&test->mutex);
}

readiness selftest_begin(selftest *test, job *run) {
    pthread_mutex_lock(&test->mutex);
    double now_ms = clock_ms();
    readiness known = test->last;
    if (test->running && now_ms - test->begin_ms > LIMIT_MS)
        known = NOT_READY; /* it hangs */
    else if (!test->running && now_ms - test->end_ms > FRESH_MS)
        known = prepare(run) ? READY_UNKNOWN : NOT_READY;
    if (known == READY_UNKNOWN) {
        test->running = true;
        test->begin_ms = now_ms;
    }
    pthread_mutex_unlock(&test->mutex);
    return known;
}

static bool agrees(const selftest *test, const job *run) {
    if (run->outcome != OUTCOME_OK || run->n_objects != test->n_expected)
        return false;
    for (int32_t i = 0; i < run->n_objects; i++) {
        const det_object *found = &run->objects[i];
        if (!(fabsf(found->score - test->expected[i]) <= TOLERANCE) || !isfinite(found->x1) || !isfinite(found->y1) ||
            !isfinite(found->x2) || !isfinite(found->y2))
            return false;
    }
    return true;
}

readiness selftest_end(selftest *test, const job *run) {
    pthread_mutex_lock(&test->mutex);
    test->last = agrees(test, run) ? READY : NOT_READY;
    test->running = false;
    test->end_ms = clock_ms();
    readiness known = test->last;
    pthread_mutex_unlock(&test->mutex);
    return known;
}
