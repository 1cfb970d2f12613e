/* What the files that speak to cuDNN share: its descriptors, and the operation graph of a convolution. */
#ifndef DET_CUDNN_GRAPH_H
#define DET_CUDNN_GRAPH_H

#include "cuda.h"

enum { DET_MAX_DESCRIPTORS = 96, DET_MAX_KERNELS = 64 };
/* Of a graph's tensors. */
enum { DET_UID_X = 1, DET_UID_WEIGHT, DET_UID_Y, DET_UID_BIAS, DET_UID_RESIDUAL, DET_UID_VIRTUAL };

/* All descriptors of one operation graph; the plans made of it keep it alive. */
typedef struct det_cudnn_graph {
    int form; /* which operations on which types; 0 where kernels are not shared */
    int n_users, n_descriptors, n_operations;
    int64_t next_uid;
    cudnnBackendDescriptor_t descriptors[DET_MAX_DESCRIPTORS];
    cudnnBackendDescriptor_t operations[6], whole;
} det_cudnn_graph;

/* The caller is a user of the new graph, and leaves it. */
det_status det_cudnn_graph_open(det_device *device, const det_conv_problem *problem, det_cudnn_graph **graph);
void det_cudnn_graph_leave(det_cudnn_graph *g);
/* A descriptor that lives as long as the graph does. NULL after a failure. */
det_status det_cudnn_graph_create(det_cudnn_graph *g, cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d);
/* Whether the problem is one for engines that are compiled at run time, in graphs of any shape. */
bool det_cudnn_is_compiled(const det_conv_problem *p);

det_status det_cudnn_set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t n, const void *values);
det_status det_cudnn_set_descriptor(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                    cudnnBackendDescriptor_t value);
det_status det_cudnn_get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t most, int64_t *n, void *values);
det_status det_cudnn_create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d);
det_status det_cudnn_finalize(cudnnBackendDescriptor_t d);
void det_cudnn_destroy(cudnnBackendDescriptor_t d);
/* What cuDNN cannot do (an operation, a graph, an engine) is no failure: something else is tried. A lack of memory is one. */
det_status det_cudnn_forgive(det_status status);

/* Kernel caches, one for each kernel (by its key), filled by any thread. */
typedef struct det_kernel_cache det_kernel_cache;
det_status det_kernel_caches_open(det_kernel_caches **caches);
void det_kernel_caches_close(det_kernel_caches *caches);
/* The cache for `key`, made for graphs like `graph` at the first request; *cache is NULL where there is none: no room is
 * left, or cuDNN refuses. */
det_status det_kernel_cache_find(det_kernel_caches *caches, uint64_t key, cudnnBackendDescriptor_t graph,
                                 det_kernel_cache **cache, bool *is_new);
/* Finalizes a plan with it. */
det_status det_kernel_cache_finalize(det_kernel_cache *cache, cudnnBackendDescriptor_t plan);

/* What runs may be older than what it was compiled with. */
static inline bool det_has_kernel_caches(void) {
    enum { SINCE = 90800 };
    return CUDNN_VERSION >= SINCE && cudnnGetVersion() >= SINCE;
}
#if CUDNN_VERSION < 90800
#define CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR              (cudnnBackendDescriptorType_t)0
#define CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH            (cudnnBackendAttributeName_t)0
#define CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED (cudnnBackendAttributeName_t)0
#define CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE             (cudnnBackendAttributeName_t)0
#endif

#endif
