#include "pool.h"

#include "../thread.h"

#include <errno.h>
#include <stdatomic.h>

/* About 10 microseconds: more than the gap between two layers, less than a scheduler's notice. */
enum { SPINS = 400 };

struct det_pool_threads {
    int n_threads, n_started;
    void (*start)(void *user);
    void *user;
    pthread_t *handles;
    pthread_mutex_t mutex;
    pthread_cond_t wake, done;

    /* Of the running round. A thread that has claimed a task may read them: the round cannot end before it has. */
    det_task_fn task;
    void *context;
    int n_tasks;

    /* Who sets one of these and then looks at another, to see whether the other side sleeps or is done, sets it by
     * atomic_exchange: a load never overtakes that. It never overtakes atomic_store either, says C, but under qemu, on
     * x86-64, it does for aarch64, and then both sides sleep for ever.
     *
     * Round number << 32 | tasks not yet claimed. One word, so that a worker that wakes late, in the middle of another
     * round or after it, claims a task of the current round or none; nobody waits for it. */
    atomic_uint_fast64_t state;
    atomic_int n_pending;  /* tasks not yet done */
    atomic_int n_sleeping; /* workers in pthread_cond_wait */
    atomic_bool caller_waits, closing;
    atomic_int next_thread;
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Index of a task that now is this thread's, or -1. */
static int claim(det_threads *t) {
    uint_fast64_t state = atomic_load_explicit(&t->state, memory_order_acquire);
    while ((uint32_t)state > 0) {
        if (atomic_compare_exchange_weak(&t->state, &state, state - 1))
            return t->n_tasks - (int)(uint32_t)state;
    }
    return -1;
}

static void work(det_threads *t, int thread) {
    for (int task = claim(t); task >= 0; task = claim(t)) {
        t->task(t->context, task, thread);
        if (atomic_fetch_sub(&t->n_pending, 1) == 1 && atomic_load(&t->caller_waits)) {
            pthread_mutex_lock(&t->mutex);
            pthread_cond_signal(&t->done);
            pthread_mutex_unlock(&t->mutex);
        }
    }
}

static bool has_work(det_threads *t) {
    return (uint32_t)atomic_load(&t->state) > 0 || atomic_load(&t->closing);
}

static void await_work(det_threads *t) {
    for (int i = 0; i < SPINS; i++) {
        if (has_work(t))
            return;
        relax();
    }
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->n_sleeping, 1);
    while (!has_work(t))
        pthread_cond_wait(&t->wake, &t->mutex);
    atomic_fetch_sub(&t->n_sleeping, 1);
    pthread_mutex_unlock(&t->mutex);
}

static void *worker(void *argument) {
    det_threads *t = argument;
    int thread = atomic_fetch_add(&t->next_thread, 1);
    t->start(t->user);
    while (!atomic_load(&t->closing)) {
        await_work(t);
        work(t, thread);
    }
    return NULL;
}

static void wake_workers(det_threads *t) {
    if (atomic_load(&t->n_sleeping)) {
        pthread_mutex_lock(&t->mutex);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->mutex);
    }
}

static void await_tasks(det_threads *t) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&t->n_pending, memory_order_acquire) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&t->mutex);
    atomic_exchange(&t->caller_waits, true);
    while (atomic_load(&t->n_pending) > 0)
        pthread_cond_wait(&t->done, &t->mutex);
    atomic_store(&t->caller_waits, false);
    pthread_mutex_unlock(&t->mutex);
}

void det_threads_run(det_threads *t, int n_tasks, det_task_fn task, void *context) {
    if (t->n_started == 0 || n_tasks <= 1) {
        for (int i = 0; i < n_tasks; i++)
            task(context, i, 0);
        return;
    }
    t->task = task;
    t->context = context;
    t->n_tasks = n_tasks;
    atomic_store(&t->n_pending, n_tasks);
    uint_fast64_t round = (atomic_load(&t->state) >> 32) + 1;
    atomic_exchange(&t->state, round << 32 | (uint32_t)n_tasks);
    wake_workers(t);
    work(t, 0);
    await_tasks(t);
}

int det_threads_count(const det_threads *t) {
    return t->n_threads;
}

static bool make_locks(det_threads *t) {
    if (pthread_mutex_init(&t->mutex, NULL))
        return false;
    if (pthread_cond_init(&t->wake, NULL) == 0) {
        if (pthread_cond_init(&t->done, NULL) == 0)
            return true;
        pthread_cond_destroy(&t->wake);
    }
    pthread_mutex_destroy(&t->mutex);
    return false;
}

det_status det_threads_open(int n_threads, void (*start)(void *user), void *user, det_threads **threads) {
    det_threads *t = det_alloc_array(1, sizeof *t);
    if (!t)
        return DET_ERROR_OUT_OF_MEMORY;
    if (!make_locks(t)) {
        det_free(t);
        DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "a mutex or a condition cannot be made");
    }
    t->n_threads = n_threads;
    t->start = start;
    t->user = user;
    atomic_store(&t->next_thread, 1);
    t->handles = det_alloc_array((size_t)n_threads, sizeof *t->handles);
    det_status status = t->handles ? DET_OK : DET_ERROR_OUT_OF_MEMORY;
    while (status == DET_OK && t->n_started < n_threads - 1) {
        errno = det_thread_start(&t->handles[t->n_started], worker, t);
        if (errno)
            status =
                det_fail(DET_ERROR_OUT_OF_MEMORY, "thread %d of %d cannot be started: %m", t->n_started + 2, n_threads);
        else
            t->n_started++;
    }
    if (status != DET_OK) {
        det_threads_close(t);
        return status;
    }
    *threads = t;
    return DET_OK;
}

void det_threads_close(det_threads *t) {
    if (!t)
        return;
    atomic_exchange(&t->closing, true);
    wake_workers(t);
    for (int i = 0; i < t->n_started; i++)
        pthread_join(t->handles[i], NULL);
    pthread_cond_destroy(&t->wake);
    pthread_cond_destroy(&t->done);
    pthread_mutex_destroy(&t->mutex);
    det_free(t->handles);
    det_free(t);
}
