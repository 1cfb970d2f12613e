#include "virtual_time.h"

#include "check.h"

#include <pthread.h>
#include <stdbool.h>

enum { MOST_SLEEPERS = 256 };

static struct {
    timebase base;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    double now;
    int n_threads; /* that loops have announced; a thread that nobody announced may be alone */
    int n_sleepers;
    double wakings[MOST_SLEEPERS];
} simulation = {.lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER};

/* Lets time pass when all sleep. */
static void advance(void) {
    if (simulation.n_sleepers == 0 || simulation.n_sleepers < simulation.n_threads)
        return;
    double next = simulation.wakings[0];
    for (int i = 1; i < simulation.n_sleepers; i++)
        next = simulation.wakings[i] < next ? simulation.wakings[i] : next;
    simulation.now = next;
    int n_left = 0;
    for (int i = 0; i < simulation.n_sleepers; i++)
        if (simulation.wakings[i] > next)
            simulation.wakings[n_left++] = simulation.wakings[i];
    simulation.n_sleepers = n_left;
    pthread_cond_broadcast(&simulation.woken);
}

static double now(timebase *time) {
    (void)time;
    pthread_mutex_lock(&simulation.lock);
    double value = simulation.now;
    pthread_mutex_unlock(&simulation.lock);
    return value;
}

static void sleep_until(timebase *time, double when_s) {
    (void)time;
    pthread_mutex_lock(&simulation.lock);
    if (when_s > simulation.now) {
        REQUIRE(simulation.n_sleepers < MOST_SLEEPERS, "%d threads sleep", simulation.n_sleepers);
        simulation.wakings[simulation.n_sleepers++] = when_s;
        advance();
        while (simulation.now < when_s)
            pthread_cond_wait(&simulation.woken, &simulation.lock);
    }
    pthread_mutex_unlock(&simulation.lock);
}

static void enter(timebase *time, int n) {
    (void)time;
    pthread_mutex_lock(&simulation.lock);
    simulation.n_threads += n;
    pthread_mutex_unlock(&simulation.lock);
}

static void leave(timebase *time) {
    (void)time;
    pthread_mutex_lock(&simulation.lock);
    simulation.n_threads--;
    advance();
    pthread_mutex_unlock(&simulation.lock);
}

timebase *virtual_time_start(void) {
    simulation.base = (timebase){now, sleep_until, enter, leave};
    simulation.now = 1000;
    return &simulation.base;
}
