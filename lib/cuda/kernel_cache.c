/* What cuDNN has compiled at run time, for the contexts of one model, device and element type (store.c).
 *
 * A kernel is compiled by the first plan that needs it, whichever thread and context makes that plan; others wait for it
 * and then find it. cuDNN promises nothing about two plans that fill one cache at once, so they take turns. */
#include "cudnn_graph.h"

struct det_kernel_cache {
    uint64_t key;
    cudnnBackendDescriptor_t kernels;
    pthread_mutex_t turn;
};

struct det_kernel_caches {
    pthread_mutex_t lock; /* of what follows */
    int n;
    det_kernel_cache *items[DET_MAX_KERNELS];
};

det_status det_kernel_caches_open(det_kernel_caches **caches) {
    det_kernel_caches *c = det_alloc_array(1, sizeof *c);
    if (!c)
        return DET_ERROR_OUT_OF_MEMORY;
    if (pthread_mutex_init(&c->lock, NULL)) {
        det_free(c);
        DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "a mutex cannot be made");
    }
    *caches = c;
    return DET_OK;
}

static void close_cache(det_kernel_cache *cache) {
    det_cuda_begin_teardown();
    det_cudnn_destroy(cache->kernels);
    det_cuda_end_teardown();
    pthread_mutex_destroy(&cache->turn);
    det_free(cache);
}

void det_kernel_caches_close(det_kernel_caches *caches) {
    if (!caches)
        return;
    while (caches->n > 0)
        close_cache(caches->items[--caches->n]);
    pthread_mutex_destroy(&caches->lock);
    det_free(caches);
}

static det_status make_kernels(det_kernel_cache *cache, cudnnBackendDescriptor_t graph) {
    DET_TRY(det_cudnn_create(CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR, &cache->kernels));
    DET_TRY(det_cudnn_set_descriptor(cache->kernels, CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH, graph));
    return det_cudnn_finalize(cache->kernels);
}

static det_status open_cache(uint64_t key, cudnnBackendDescriptor_t graph, det_kernel_cache **out) {
    det_kernel_cache *cache = det_alloc_array(1, sizeof *cache);
    if (!cache)
        return DET_ERROR_OUT_OF_MEMORY;
    if (pthread_mutex_init(&cache->turn, NULL)) {
        det_free(cache);
        DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "a mutex cannot be made");
    }
    cache->key = key;
    det_status status = make_kernels(cache, graph);
    if (status == DET_OK)
        *out = cache;
    else
        close_cache(cache);
    return status;
}

static det_status find(det_kernel_caches *caches, uint64_t key, cudnnBackendDescriptor_t graph,
                       det_kernel_cache **cache, bool *is_new) {
    for (int i = 0; i < caches->n; i++) {
        if (caches->items[i]->key == key) {
            *cache = caches->items[i];
            return DET_OK;
        }
    }
    if (caches->n == DET_MAX_KERNELS)
        return DET_OK;
    DET_TRY(open_cache(key, graph, cache));
    caches->items[caches->n++] = *cache;
    *is_new = true;
    return DET_OK;
}

det_status det_kernel_cache_find(det_kernel_caches *caches, uint64_t key, cudnnBackendDescriptor_t graph,
                                 det_kernel_cache **cache, bool *is_new) {
    *cache = NULL;
    *is_new = false;
    pthread_mutex_lock(&caches->lock);
    det_status status = find(caches, key, graph, cache, is_new);
    pthread_mutex_unlock(&caches->lock);
    return det_cudnn_forgive(status);
}

det_status det_kernel_cache_finalize(det_kernel_cache *cache, cudnnBackendDescriptor_t plan) {
    DET_TRY(det_cudnn_set_descriptor(plan, CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE, cache->kernels));
    pthread_mutex_lock(&cache->turn);
    det_status status = det_cudnn_finalize(plan);
    pthread_mutex_unlock(&cache->turn);
    return status;
}
