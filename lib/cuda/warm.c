/* What cuDNN compiles at run time takes 0.2 to 0.8 s of a core for every kernel. It is compiled here side by side, before the
 * plans that need it are made one after another, which then find it in the kernel caches; what another context of the model
 * has compiled is there already.
 *
 * Every thread has a cuDNN handle of its own, as cuDNN demands, and every kernel a cache of its own. Nothing fails here: what
 * could not be done is done again, and reported, where it is needed. */
#include "../thread.h"
#include "cudnn_graph.h"

#include <stdatomic.h>

enum { MOST_THREADS = 16 };

/* One kernel to compile: by an engine for a problem. */
typedef struct job {
    det_conv_problem problem;
    det_cudnn_conv *like;
} job;

typedef struct crew {
    const det_device *device;
    int n_jobs;
    atomic_int next;
    job jobs[DET_MAX_KERNELS];
} crew;

static void go_on(det_status status) {
    if (status != DET_OK)
        det_log(DET_LOG_DEBUG, "less is compiled ahead: %s", det_last_error());
}

static void find_jobs(det_device *device, const det_step *steps, int n_steps, crew *c) {
    det_cudnn_conv *convs[DET_MAX_TRIED];
    for (int i = 0; i < n_steps; i++) {
        det_conv_problem problem;
        int n = 0;
        if (det_cuda_conv_problem(device, &steps[i], &problem))
            go_on(det_cudnn_conv_name(device, &problem, device->tune ? DET_MAX_TRIED : 1, convs, &n));
        for (int j = 0; j < n; j++) /* each has a cache of its own, so there is room */
            c->jobs[c->n_jobs++] = (job){problem, convs[j]};
    }
}

/* With this handle, until there is nothing left. */
static void compile(crew *c, cudnnHandle_t handle) {
    det_device own = {.index = c->device->index, .cudnn = handle, .caches = c->device->caches};
    for (int i = atomic_fetch_add(&c->next, 1); i < c->n_jobs; i = atomic_fetch_add(&c->next, 1)) {
        const job *j = &c->jobs[i];
        det_cudnn_conv *conv = NULL;
        go_on(det_cudnn_conv_follow(&own, &j->problem, j->like, &conv));
        det_cudnn_conv_free(conv);
    }
}

static det_status open_handle(int device, cudnnHandle_t *handle) {
    CUDA_TRY(cudaSetDevice(device));
    CUDNN_TRY(cudnnCreate(handle));
    return DET_OK;
}

static void *help(void *argument) {
    crew *c = argument;
    cudnnHandle_t handle = NULL;
    det_status status = open_handle(c->device->index, &handle);
    go_on(status);
    if (status == DET_OK) {
        compile(c, handle);
        det_cuda_begin_teardown();
        cudnnDestroy(handle);
        det_cuda_end_teardown();
    }
    return NULL;
}

static void work(crew *c) {
    pthread_t helpers[MOST_THREADS];
    int n_helpers = 0, most = DET_MIN(DET_MIN(c->device->n_threads, c->n_jobs), MOST_THREADS) - 1;
    while (n_helpers < most && det_thread_start(&helpers[n_helpers], help, c) == 0)
        n_helpers++;
    compile(c, c->device->cudnn);
    while (n_helpers > 0)
        pthread_join(helpers[--n_helpers], NULL);
}

void det_cuda_warm(det_device *device, const det_step *steps, int n_steps, const det_plan_facts *facts) {
    if (device->n_threads < 2 || det_cuda_store_open(device, facts->shared) != DET_OK)
        return;
    crew *c = det_alloc_array(1, sizeof *c);
    det_visit visit;
    if (!c || det_cuda_enter(device, &visit) != DET_OK) {
        det_free(c);
        return;
    }
    c->device = device;
    find_jobs(device, steps, n_steps, c);
    if (c->n_jobs > 1)
        work(c);
    for (int i = 0; i < c->n_jobs; i++)
        det_cudnn_conv_free(c->jobs[i].like);
    det_cuda_end_release(device, &visit);
    det_free(c);
}
