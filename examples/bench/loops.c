#include "loops.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------------------- log */

void request_log_free(request_log *log) {
    free(log->requests);
    *log = (request_log){0};
}

static void append(request_log *log, request r) {
    if (log->n == log->capacity) {
        size_t capacity = log->capacity > 0 ? 2 * log->capacity : 4096;
        request *requests = realloc(log->requests, capacity * sizeof *requests);
        if (requests == NULL) {
            log->no_memory = true;
            return;
        }
        log->requests = requests;
        log->capacity = capacity;
    }
    log->requests[log->n++] = r;
}

/* ------------------------------------------------------------------------------------------------------- threads */

typedef struct worker {
    void *loop;
    int index;
} worker;

/* Runs `body` in n threads and waits for them. False when a thread cannot be had; those that began are told by `stop`. */
static bool run_threads(timebase *time, int n, void *loop, void *(*body)(void *), void (*stop)(void *)) {
    pthread_t *threads = calloc((size_t)n, sizeof *threads);
    worker *workers = calloc((size_t)n, sizeof *workers);
    int n_started = 0;
    bool ok = threads != NULL && workers != NULL;
    if (ok && time->enter != NULL)
        time->enter(time, n);
    for (; ok && n_started < n; n_started++) {
        workers[n_started] = (worker){loop, n_started};
        ok = pthread_create(&threads[n_started], NULL, body, &workers[n_started]) == 0;
        if (!ok)
            break;
    }
    if (!ok)
        stop(loop);
    for (int i = n_started; threads != NULL && workers != NULL && i < n && time->leave != NULL; i++)
        time->leave(time);
    for (int i = 0; i < n_started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    free(workers);
    return ok;
}

/* -------------------------------------------------------------------------------------------------------- closed */

typedef struct caller {
    double ready; /* since when it wants an answer */
    bool answered;
} caller;

typedef struct closed {
    timebase *time;
    const target *what;
    const closed_plan *plan;
    request_log *log;

    pthread_mutex_t lock; /* of all that follows, and of the log */
    caller *queue;        /* a ring */
    int head, n_queued;
    int n_answered;
    size_t n_counted;
    int64_t n_taken;
    double start;
    bool measuring, stopping;
} closed;

static bool take(closed *c, caller *next, request *r, int64_t *number) {
    pthread_mutex_lock(&c->lock);
    bool taken = !c->stopping && c->n_queued > 0;
    if (taken) {
        *next = c->queue[c->head];
        c->head = (c->head + 1) % c->plan->n_callers;
        c->n_queued--;
        *number = c->n_taken++;
        *r = (request){.due = next->ready, .started = timebase_now(c->time)};
    }
    pthread_mutex_unlock(&c->lock);
    return taken;
}

/* The period begins and ends with an answer, and the first one does not count: n answers in n intervals. */
static void count(closed *c, const request *r) {
    const closed_plan *plan = c->plan;
    if (c->measuring) {
        if (plan->keep != NULL)
            plan->keep(plan->keep_data, c->log, r);
        else
            append(c->log, *r);
        c->n_counted++;
        c->log->end = r->ended;
        c->stopping = c->n_counted >= plan->least && r->ended >= c->log->begin + plan->measure_s;
    } else if (c->n_answered == plan->n_callers && r->ended >= c->start + plan->warm_up_s) {
        c->measuring = true;
        c->log->begin = r->ended;
    }
}

static void answer(closed *c, caller *served, request *r, bool ok) {
    pthread_mutex_lock(&c->lock);
    r->ended = timebase_now(c->time); /* inside, so that the log is in order */
    if (!ok)
        c->log->failed = true;
    if (!ok || c->log->no_memory)
        c->stopping = true;
    c->n_answered += !served->answered;
    *served = (caller){.ready = r->ended, .answered = true};
    c->queue[(c->head + c->n_queued++) % c->plan->n_callers] = *served;
    if (!c->stopping)
        count(c, r);
    pthread_mutex_unlock(&c->lock);
}

/* A worker never finds the queue empty: of n callers at most n - 1 are with the other workers. */
static void *closed_body(void *argument) {
    const worker *w = argument;
    closed *c = w->loop;
    caller next;
    request r;
    int64_t number;
    while (take(c, &next, &r, &number))
        answer(c, &next, &r, c->what->serve(c->what->self, w->index, number));
    if (c->time->leave != NULL)
        c->time->leave(c->time);
    return NULL;
}

static void closed_stop(void *loop) {
    closed *c = loop;
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    c->log->no_memory = true;
    pthread_mutex_unlock(&c->lock);
}

void loop_closed(timebase *time, const target *what, const closed_plan *plan, request_log *log) {
    closed c = {.time = time, .what = what, .plan = plan, .log = log, .n_queued = plan->n_callers};
    *log = (request_log){0};
    c.queue = calloc((size_t)plan->n_callers, sizeof *c.queue);
    if (c.queue == NULL) {
        log->no_memory = true;
        return;
    }
    c.start = timebase_now(time);
    for (int i = 0; i < plan->n_callers; i++)
        c.queue[i].ready = c.start;
    pthread_mutex_init(&c.lock, NULL);
    run_threads(time, what->n_workers < plan->n_callers ? what->n_workers : plan->n_callers, &c, closed_body,
                closed_stop);
    pthread_mutex_destroy(&c.lock);
    free(c.queue);
}

/* ---------------------------------------------------------------------------------------------------------- open */

typedef struct open_loop {
    timebase *time;
    const target *what;
    const open_plan *plan;
    request_log *log;

    pthread_mutex_t lock; /* of what follows, and of the log */
    int64_t n_taken;
    double start;
    bool stopping;
} open_loop;

/* Seconds from the start to request `number`. */
static double due_after(const open_plan *plan, int64_t number) {
    int64_t n = (int64_t)plan->n_phases, n_periods = number / n;
    return (double)n_periods * plan->period + plan->phases[number % n];
}

/* Takes the next request, in the order in which they are due. False: there are no more. */
static bool take_due(open_loop *o, request *r, int64_t *number) {
    pthread_mutex_lock(&o->lock);
    *number = o->n_taken;
    double after = due_after(o->plan, *number);
    bool taken = !o->stopping && after < o->plan->duration_s;
    if (taken)
        o->n_taken++;
    pthread_mutex_unlock(&o->lock);
    *r = (request){.due = o->start + after};
    return taken;
}

static void *open_body(void *argument) {
    const worker *w = argument;
    open_loop *o = w->loop;
    double last = o->start + o->plan->duration_s + o->plan->grace_s;
    request r;
    int64_t number;
    while (take_due(o, &r, &number)) {
        o->time->sleep_until(o->time, r.due);
        r.started = timebase_now(o->time);
        bool late = r.started > last;
        bool ok = late || o->what->serve(o->what->self, w->index, number);
        pthread_mutex_lock(&o->lock);
        r.ended = timebase_now(o->time);
        if (late)
            o->log->n_unserved++;
        else if (ok)
            append(o->log, r);
        o->log->failed = o->log->failed || !ok;
        o->stopping = o->stopping || !ok || o->log->no_memory;
        pthread_mutex_unlock(&o->lock);
    }
    if (o->time->leave != NULL)
        o->time->leave(o->time);
    return NULL;
}

static void open_stop(void *loop) {
    open_loop *o = loop;
    pthread_mutex_lock(&o->lock);
    o->stopping = true;
    o->log->no_memory = true;
    pthread_mutex_unlock(&o->lock);
}

void loop_open(timebase *time, const target *what, const open_plan *plan, request_log *log) {
    enum { START_MS = 10 }; /* for the threads to be there when the first request is due */
    *log = (request_log){0};
    open_loop o = {.time = time, .what = what, .plan = plan, .log = log};
    o.start = timebase_now(time) + 1e-3 * START_MS;
    log->begin = o.start;
    log->end = o.start + plan->duration_s;
    pthread_mutex_init(&o.lock, NULL);
    run_threads(time, what->n_workers, &o, open_body, open_stop);
    pthread_mutex_destroy(&o.lock);
}
