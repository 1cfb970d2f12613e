#include "meter.h"

#include "progress.h"
#include "timebase.h"

#include <pthread.h>
#include <stdbool.h>

enum { PARTS = 1000 }; /* of a step */

static struct {
    pthread_mutex_t lock; /* of the bar, which knows one thread */
    bool stepping;
    int n_steps, n_done;
    double begin_s, expected_s;
} meter = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void show(double share) {
    int n_done = meter.n_done < meter.n_steps ? meter.n_done : meter.n_steps - 1;
    progress_show((int64_t)n_done * PARTS + (int64_t)(share * (PARTS - 1)));
}

void meter_begin(int n_steps) {
    pthread_mutex_lock(&meter.lock);
    meter.n_steps = n_steps;
    meter.n_done = 0;
    progress_begin((int64_t)n_steps * PARTS);
    pthread_mutex_unlock(&meter.lock);
}

void meter_step(double expected_s) {
    pthread_mutex_lock(&meter.lock);
    meter.stepping = true;
    meter.begin_s = timebase_now(timebase_machine());
    meter.expected_s = expected_s;
    show(0);
    pthread_mutex_unlock(&meter.lock);
}

void meter_tick(void) {
    pthread_mutex_lock(&meter.lock);
    double elapsed = timebase_now(timebase_machine()) - meter.begin_s;
    if (meter.stepping)
        show(elapsed < meter.expected_s ? elapsed / meter.expected_s : 1);
    pthread_mutex_unlock(&meter.lock);
}

void meter_end_step(void) {
    pthread_mutex_lock(&meter.lock);
    meter.stepping = false;
    meter.n_done++;
    pthread_mutex_unlock(&meter.lock);
}

void meter_end(void) {
    pthread_mutex_lock(&meter.lock);
    meter.stepping = false;
    progress_hide();
    pthread_mutex_unlock(&meter.lock);
}
