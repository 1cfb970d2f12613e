/* Threads of one context. The caller works too; a pool of one thread starts none. Workers that wait sleep in the
 * kernel after a spin of some microseconds, so that they do not take the core that somebody else needs. */
#ifndef DET_CPU_POOL_H
#define DET_CPU_POOL_H

#include "../status.h"

typedef struct det_pool_threads det_threads;

/* Task `task` of a run, on thread 0 .. n_threads - 1 (0: the caller). */
typedef void (*det_task_fn)(void *context, int task, int thread);

/* `start` is called once on each thread that the pool starts. */
det_status det_threads_open(int n_threads, void (*start)(void *user), void *user, det_threads **threads);
void det_threads_close(det_threads *threads);
int det_threads_count(const det_threads *threads);

/* Runs tasks 0 .. n_tasks - 1, handed out in order to whoever is free; returns when all are done. */
void det_threads_run(det_threads *threads, int n_tasks, det_task_fn task, void *context);

#endif
