/* plan_time_test DEVICE.json MODEL...: how long cuDNN takes to plan whole networks in fp16, for a device that is not here.
 *
 * The CUDA backend chooses an engine for every convolution of the network, at max_batch 1 and 64, as
 * det_context_create does; what is left out is what needs the device: memory, warm-up, capture. cublasLt is the fake's, which
 * takes no time. Prints seconds, with one thread and with one per core (at most 16), and how many kernels were compiled: many
 * would mean that layers, or batch sizes, do not share them, more with threads than without, that they did one twice, and any
 * for a second context, that the first one's were not found or not waited for. */
#include "absent_device.h"
#include "check.h"
#include "context.h"
#include "cuda/cuda.h"

#include <stdatomic.h>
#include <time.h>

enum { MOST_KERNELS = 16 };

cudnnStatus_t __wrap_cudnnCreate(cudnnHandle_t *handle);
cudnnStatus_t __wrap_cudnnDestroy(cudnnHandle_t handle);
cudnnStatus_t __wrap_cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream);

static char nobody;
static atomic_int n_handles; /* the context's, and one for every thread that helps */

cudnnStatus_t __wrap_cudnnCreate(cudnnHandle_t *handle) {
    atomic_fetch_add(&n_handles, 1);
    *handle = (cudnnHandle_t)(void *)&nobody;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t __wrap_cudnnDestroy(cudnnHandle_t handle) {
    (void)handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t __wrap_cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    (void)handle;
    (void)stream;
    return CUDNN_STATUS_SUCCESS;
}

/* The module is linked here without its door (core.c), through which this would go. */
det_status det_cuda_run_step(det_plan *plan, int step, const det_frame *frame, det_stream stream) {
    return det_plan_run_step(plan, step, frame, stream);
}

/* Memory that nobody touches. */
static det_status take_nothing(det_device *device, size_t n_bytes, void **memory) {
    (void)device;
    (void)n_bytes;
    *memory = &nobody;
    return DET_OK;
}

static void give_nothing(det_device *device, void *memory) {
    (void)device;
    (void)memory;
}

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Convolutions by what computes them. */
static void print_engines(const det_plan *plan) {
    const char *seen[16];
    int n = 0;
    for (int i = 0; i < plan->n_steps; i++) {
        const char *impl = plan->steps[i].impl;
        int count = 0, k = 0;
        while (impl && k < n && strcmp(seen[k], impl) != 0)
            k++;
        if (!impl || k < n || n == (int)DET_COUNT(seen))
            continue;
        seen[n++] = impl;
        for (int j = 0; j < plan->n_steps; j++)
            count += plan->steps[j].impl && !strcmp(plan->steps[j].impl, impl);
        printf("%s%d by %s", n > 1 ? ", " : "", count, impl);
    }
    printf("\n");
}

typedef struct planned {
    det_backend backend;
    det_plan plan;
    double seconds;
    int n_kernels, n_handles; /* compiled, created */
} planned;

static void plan_network(det_model *model, int max_batch, int n_threads, planned *p) {
    const det_model_info *info = &model->weights.info;
    det_context_options options;
    det_context_options_init(&options);
    options.precision = DET_FP16;
    options.n_threads = n_threads;
    det_plan_options what = {.max_batch = max_batch,
                             .width = info->input_width,
                             .height = info->input_height,
                             .max_candidates = 4096,
                             .shared = &model->shared};
    *p = (planned){.backend = det_cuda};
    p->backend.allocate = take_nothing;
    p->backend.release = give_nothing;
    p->backend.finish = NULL;
    p->plan.backend = &p->backend;
    int kernels_before = absent_device_loads(), handles_before = atomic_load(&n_handles);
    double begin = seconds_now();
    REQUIRE(p->backend.open(&options, &p->plan.device) == DET_OK, "%s", det_last_error());
    REQUIRE(det_plan_build(&p->plan, &model->weights, &what) == DET_OK, "%s", det_last_error());
    p->seconds = seconds_now() - begin;
    p->n_kernels = absent_device_loads() - kernels_before;
    p->n_handles = atomic_load(&n_handles) - handles_before;
}

static void close_plan(planned *p) {
    det_device *device = p->plan.device;
    det_plan_close(&p->plan);
    p->backend.close(device);
}

/* A context, and another one of the same model, which finds all kernels compiled. Returns how many there are. */
static int plan_twice(det_model *model, int max_batch, int n_threads) {
    const det_model_info *info = &model->weights.info;
    planned first, second;
    plan_network(model, max_batch, n_threads, &first);
    plan_network(model, max_batch, n_threads, &second);
    printf("%s %s, max_batch %d, %d threads: %.2f s, %d kernels compiled, a second context %.2f s; ", info->family,
           info->variant, max_batch, first.plan.device->n_threads, first.seconds, first.n_kernels, second.seconds);
    print_engines(&first.plan);
    for (int i = 0; i < DET_MAX_SIZES; i++)
        CHECK_MSG(!first.plan.device->no_size[i], "%s: no batch size of %d", info->variant, 1 << i);
    CHECK_MSG((first.n_handles > 1) == (first.plan.device->n_threads > 1), "%s: who compiled?", info->variant);
    CHECK_MSG(first.n_kernels > 0 && first.n_kernels <= MOST_KERNELS, "%s: %d kernels are compiled", info->variant,
              first.n_kernels);
    CHECK_MSG(second.n_kernels == 0 && second.n_handles == 1, "%s: %d kernels again, %d handles", info->variant,
              second.n_kernels, second.n_handles);
    close_plan(&first); /* the second one keeps what they share */
    close_plan(&second);
    return first.n_kernels;
}

typedef struct together {
    det_model *model;
    planned planned;
} together;

static void *plan_beside(void *argument) {
    together *t = argument;
    plan_network(t->model, 1, 0, &t->planned);
    return NULL;
}

/* Two contexts that are made at once: what one compiles, the other waits for. */
static void test_together(det_model *model, int n_kernels) {
    together contexts[2] = {{.model = model}, {.model = model}};
    pthread_t beside;
    int before = absent_device_loads();
    REQUIRE(pthread_create(&beside, NULL, plan_beside, &contexts[1]) == 0, "no thread");
    plan_beside(&contexts[0]);
    pthread_join(beside, NULL);
    CHECK_MSG(absent_device_loads() - before == n_kernels, "two contexts at once compile %d kernels, one compiles %d",
              absent_device_loads() - before, n_kernels);
    for (int i = 0; i < 2; i++)
        close_plan(&contexts[i].planned);
}

int main(int argc, char **argv) {
    REQUIRE(argc >= 3, "usage: plan_time_test DEVICE.json MODEL...");
    if (!absent_device_open(argv[1])) {
        printf("SKIP: cuDNN %zu does not take this description of a device\n", cudnnGetVersion());
        return CHECK_SKIP;
    }
    for (int i = 2; i < argc; i++) {
        det_model *model;
        REQUIRE(det_model_open(argv[i], &model) == DET_OK, "%s", det_last_error());
        for (int max_batch = 1; max_batch <= 64; max_batch += 63) {
            int n = plan_twice(model, max_batch, 1), n_with_threads = plan_twice(model, max_batch, 0);
            CHECK_MSG(n == n_with_threads, "%d kernels with one thread, %d with several", n, n_with_threads);
            if (max_batch == 1)
                test_together(model, n);
        }
        det_model_close(model);
    }
    absent_device_close();
    return check_report("plan_time");
}
