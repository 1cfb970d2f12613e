/* The threads of a context: every task of every round runs once, on a thread that is its own at that time. Worth
 * running under ThreadSanitizer too (-DDET_SANITIZE=thread). */
#include "check.h"
#include "cpu/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { MAX_THREADS = 8, MAX_TASKS = 200, ROUNDS = 300, SLOW_ROUNDS = 10 };

typedef struct job {
    det_threads *threads;
    atomic_int runs[MAX_TASKS];       /* of each task */
    atomic_int inside[MAX_THREADS];   /* tasks now on each thread */
    int plain[MAX_TASKS];             /* written without atomics: the round's end must publish them */
    atomic_int n_errors;
    int round, slow_task; /* one task of some rounds takes long enough that the others go to sleep */
} job;

static void pause_ms(int ms) {
    struct timespec pause = {0, ms * 1000000};
    nanosleep(&pause, NULL);
}

static void count_task(void *context, int task, int thread) {
    job *j = context;
    if (task < 0 || task >= MAX_TASKS || thread < 0 || thread >= det_threads_count(j->threads)) {
        atomic_fetch_add(&j->n_errors, 1);
        return;
    }
    if (atomic_fetch_add(&j->inside[thread], 1) != 0) /* two at once on one thread's scratch memory */
        atomic_fetch_add(&j->n_errors, 1);
    atomic_fetch_add(&j->runs[task], 1);
    for (volatile int spin = 0; spin < (task % 7) * 50; spin++)
        ;
    if (j->round % SLOW_ROUNDS == 0 && task == j->slow_task)
        pause_ms(1);
    j->plain[task] = j->round;
    atomic_fetch_sub(&j->inside[thread], 1);
}

static void start(void *user) {
    atomic_fetch_add((atomic_int *)user, 1);
}

static void check_round(job *j, int n_tasks) {
    int n_wrong = 0;
    for (int i = 0; i < MAX_TASKS; i++) {
        int wanted = i < n_tasks;
        n_wrong += atomic_load(&j->runs[i]) != wanted || (wanted && j->plain[i] != j->round);
        atomic_store(&j->runs[i], 0);
    }
    CHECK_MSG(n_wrong == 0 && atomic_load(&j->n_errors) == 0, "%d threads, round %d of %d tasks: %d tasks ran wrongly",
              det_threads_count(j->threads), j->round, n_tasks, n_wrong);
}

static void test_pool(int n_threads) {
    static const int sizes[] = {0, 1, 2, 3, 5, 8, 17, 64, MAX_TASKS};
    job j = {0};
    atomic_int n_started = 0;
    REQUIRE(det_threads_open(n_threads, start, &n_started, &j.threads) == DET_OK, "%s", det_last_error());
    CHECK(det_threads_count(j.threads) == n_threads);
    for (j.round = 1; j.round <= ROUNDS; j.round++) {
        int n_tasks = sizes[j.round % (int)DET_COUNT(sizes)];
        j.slow_task = n_tasks - 1 - j.round / SLOW_ROUNDS % 3;
        det_threads_run(j.threads, n_tasks, count_task, &j);
        check_round(&j, n_tasks);
        if (j.round % 60 == 0) /* workers have gone to sleep by then */
            pause_ms(1);
    }
    det_threads_close(j.threads);
    CHECK_MSG(atomic_load(&n_started) == n_threads - 1, "start was called %d times for %d threads", atomic_load(&n_started), n_threads);
}

/* Closed before a round, and right after one. */
static void test_short_lives(void) {
    atomic_int n_started = 0;
    for (int i = 0; i < 100; i++) {
        job j = {.round = 1};
        REQUIRE(det_threads_open(1 + i % 4, start, &n_started, &j.threads) == DET_OK, "%s", det_last_error());
        if (i % 2) {
            det_threads_run(j.threads, 16, count_task, &j);
            check_round(&j, 16);
        }
        det_threads_close(j.threads);
    }
    det_threads_close(NULL);
}

static void spin_task(void *context, int task, int thread) {
    (void)thread;
    for (volatile int spin = 0; spin < ((const int *)context)[task]; spin++)
        ;
}

/* Both tasks of a round take the time in which the one who is done first goes to sleep: nobody sleeps for ever. */
static void test_sleepers(void) {
    atomic_int n_started = 0;
    unsigned seed = 1;
    for (int i = 0; i < 800; i++) {
        det_threads *threads;
        REQUIRE(det_threads_open(2, start, &n_started, &threads) == DET_OK, "%s", det_last_error());
        for (int round = 0; round < 20; round++) {
            int spins[2];
            for (int task = 0; task < 2; task++) {
                seed = seed * 1664525 + 1013904223;
                spins[task] = (int)(seed >> 20);
            }
            det_threads_run(threads, 2, spin_task, spins);
        }
        det_threads_close(threads);
    }
}

/* Pools are independent: each of these threads has one of its own. */
static void *own_pool(void *unused) {
    (void)unused;
    static const int sizes[] = {3, 40, 1};
    atomic_int n_started = 0;
    job *j = calloc(1, sizeof *j);
    intptr_t n_errors = det_threads_open(3, start, &n_started, &j->threads) != DET_OK;
    for (j->round = 1; !n_errors && j->round <= ROUNDS; j->round++) {
        det_threads_run(j->threads, sizes[j->round % 3], count_task, j);
        for (int i = 0; i < MAX_TASKS; i++)
            n_errors += atomic_exchange(&j->runs[i], 0) != (i < sizes[j->round % 3]);
    }
    det_threads_close(j->threads);
    n_errors += atomic_load(&j->n_errors);
    free(j);
    return (void *)n_errors;
}

static void test_side_by_side(void) {
    pthread_t callers[3];
    for (size_t i = 0; i < DET_COUNT(callers); i++)
        REQUIRE(pthread_create(&callers[i], NULL, own_pool, NULL) == 0, "thread %zu", i);
    for (size_t i = 0; i < DET_COUNT(callers); i++) {
        void *n_errors;
        pthread_join(callers[i], &n_errors);
        CHECK_MSG(n_errors == NULL, "%ld errors", (long)(intptr_t)n_errors);
    }
}

int main(void) {
    for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++)
        test_pool(n_threads);
    test_short_lives();
    test_sleepers();
    test_side_by_side();
    return check_report("pool");
}
