/* What the files of the CUDA backend share. They are a module of their own, libdetect_cuda.so. */
#ifndef DET_CUDA_H
#define DET_CUDA_H

#include "../plan.h"
#include "kernels.h"

#include <cublasLt.h>
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

typedef struct det_store det_store;
typedef struct det_runner det_runner;

/* What cuDNN has compiled, shared by contexts: engines that are compiled at run time take most of a second for every plan,
 * unless plans that run the same kernel share a kernel cache. */
typedef struct det_kernel_caches det_kernel_caches;

/* A run takes one of a few batch sizes, the smallest with room for its pictures: 1, 2, 4, ... and max_batch. */
enum { DET_MAX_SIZES = 9 }; /* 256 pictures are the most */
static inline int det_batch_size(int max_batch, int i) {
    return DET_MIN(1 << i, max_batch);
}

struct det_device {
    int index;
    CUcontext primary; /* NULL: one device is all there is, or cudaSetDevice has to do */
    CUresult (*push)(CUcontext);
    CUresult (*pop)(CUcontext *);
    int32_t precision; /* DET_FP32, ... */
    det_type type;     /* of tensors */
    bool tune, no_graph;
    int n_threads; /* that may compile while the context is made */
    int64_t max_image_bytes;
    bool no_size[DET_MAX_SIZES]; /* batch sizes that some convolution cannot have */
    char name[128];
    cudaStream_t stream; /* the context's own */
    cudnnHandle_t cudnn;
    cublasLtHandle_t lt;
    det_store *store;
    det_kernel_caches *caches; /* the store's */
    det_shared *shared;
    det_runner *runner;
    cudaError_t broken; /* the error that the device did not recover from, once a run of this context has met it */
};

extern const det_backend det_cuda;

/* The module's entry (DET_CUDA_ENTRY). */
DET_API const det_backend *det_cuda_backend(int abi, const det_core *lent);
det_status det_cuda_run_step(det_plan *plan, int step, const det_frame *frame, det_stream stream);

/* ------------------------------------------------------------------------------------------------------- errors */

det_status det_cuda_fail(cudaError_t error, const char *call, const char *file, int line);
det_status det_cudnn_fail(cudnnStatus_t status, const char *call, const char *file, int line);
det_status det_cublas_fail(cublasStatus_t status, const char *call, const char *file, int line);

#define DET_LIBRARY_TRY(type, ok, fail, call)                                                                          \
    do {                                                                                                               \
        type library_status = (call);                                                                                  \
        if (library_status != (ok))                                                                                    \
            return fail(library_status, #call, __FILE__, __LINE__);                                                    \
    } while (0)
#define CUDA_TRY(call)   DET_LIBRARY_TRY(cudaError_t, cudaSuccess, det_cuda_fail, call)
#define CUDNN_TRY(call)  DET_LIBRARY_TRY(cudnnStatus_t, CUDNN_STATUS_SUCCESS, det_cudnn_fail, call)
#define CUBLAS_TRY(call) DET_LIBRARY_TRY(cublasStatus_t, CUBLAS_STATUS_SUCCESS, det_cublas_fail, call)

/* For calls whose failure changes nothing: it is not left for the program's next cudaGetLastError. */
static inline void det_cuda_ignore(cudaError_t error) {
    if (error != cudaSuccess)
        (void)cudaGetLastError();
}
/* The error that the device does not recover from, or cudaSuccess. cuDNN and cublasLt do not tell. */
cudaError_t det_cuda_lasting_error(const det_device *device);

/* ------------------------------------------------------------------------------------------------------- device */

/* What is to be put back when a thread leaves a device. */
typedef struct det_visit {
    int previous; /* device */
    bool moved, in_mode;
    enum cudaStreamCaptureMode mode;
    const char *call; /* the last one, for messages */
} det_visit;

/* How threads whose device is another one get there; before the first visit. */
void det_cuda_find_way(det_device *device, int n_devices);
/* Makes the device current for this thread, and what others capture none of its business; det_cuda_leave puts back what was
 * and answers `status`, or its own failure when there was none. */
det_status det_cuda_enter(const det_device *device, det_visit *visit);
det_status det_cuda_leave(const det_device *device, det_visit *visit, det_status status);
/* The same around what gives things back, which has no status. */
void det_cuda_begin_release(const det_device *device, det_visit *visit);
void det_cuda_end_release(const det_device *device, det_visit *visit);

/* Around captures, and around what must not come while there are any. Neither lies within the other. */
void det_cuda_begin_capture(void);
void det_cuda_end_capture(void);
void det_cuda_begin_teardown(void);
void det_cuda_end_teardown(void);

/* Device memory, aligned to 256 bytes. */
det_status det_cuda_allocate(det_device *device, size_t n_bytes, void **memory);
void det_cuda_release(det_device *device, void *memory);
void det_cuda_release_pinned(det_device *device, void *memory);

/* Elements of two bytes, or four. */
static inline int det_type_bytes(det_type type) {
    return type == DET_TYPE_F32 ? 4 : 2;
}
/* Channels of 16 bytes. */
static inline int det_type_vector(det_type type) {
    return 16 / det_type_bytes(type);
}
static inline int det_padded(det_type type, int c) {
    int vector = det_type_vector(type);
    return (c + vector - 1) / vector * vector;
}

/* The first n pictures of a step's tensors as the kernels take them; `padded` views count the padding channels. */
det_view det_cuda_input(const det_step *step, int i, int n);
det_view det_cuda_output(const det_step *step, int n);
det_view det_cuda_padded(const det_device *device, det_view view);
det_unit det_cuda_unit(det_act act);

/* --------------------------------------------------------------------------------------------------------- store
 *
 * Weights on the device, and compiled kernels: once for each model, device and element type, shared by contexts. */

/* Before anything is asked of the store or of cuDNN; more calls do nothing. `shared` NULL: a store of the context's own. */
det_status det_cuda_store_open(det_device *device, det_shared *shared);
void det_cuda_store_close(det_device *device);

/* The array that is named so: `n` values, packed by `pack` (in float) and converted to `type` when no context has asked
 * for it before. It lives as long as a context of this model and type does. `n_bytes` grows by what it takes. */
typedef void (*det_pack_fn)(const void *what, float *values);
det_status det_cuda_weights(det_device *device, const det_plan_facts *facts, const char *node, const char *part,
                            det_type type, size_t n, det_pack_fn pack, const void *what, size_t *n_bytes,
                            const void **data);

/* --------------------------------------------------------------------------------------------------- convolutions */

/* y = post_unit(unit(x * weight + bias) + residual), NHWC with pixel strides, weight [c_out, k, k, c_in / groups]. */
typedef struct det_conv_problem {
    det_type type;
    bool tf32; /* tensor cores may round fp32 inputs to tf32 */
    int n, h, w, c_in, x_stride;
    int h_out, w_out, c_out, y_stride, residual_stride;
    int k, stride, pad, groups;
    bool has_bias, has_residual;
    det_unit unit, post_unit;
} det_conv_problem;

/* Where the tensors lie. */
typedef struct det_conv_data {
    const void *x, *weight, *bias, *residual; /* bias in the problem's type */
    void *y, *workspace;
} det_conv_data;

/* One implementation of a problem by a library. `impl` names it for logs and profiles. */
typedef struct det_cudnn_conv det_cudnn_conv;
typedef struct det_lt_conv det_lt_conv;

/* The implementations that cuDNN's heuristics name, best first, at most `most`; *n may be 0. A fused problem that cuDNN
 * has nothing for is no error. fallback: also those of the last resort. */
det_status det_cudnn_conv_find(det_device *device, const det_conv_problem *problem, bool fallback, int most,
                               det_cudnn_conv **convs, int *n);
/* The engine of `like` with the same choices for a problem that differs in its batch; NULL in *conv when cuDNN refuses. */
det_status det_cudnn_conv_follow(det_device *device, const det_conv_problem *problem, const det_cudnn_conv *like,
                                 det_cudnn_conv **conv);
/* The engines that the heuristics name first, at most `most`, of which each runs a kernel that has to be compiled and that
 * no context has named an engine for before. They are not made into plans: they are for det_cudnn_conv_follow, as
 * `like`, and to be freed, after a failure, too. */
det_status det_cudnn_conv_name(det_device *device, const det_conv_problem *problem, int most, det_cudnn_conv **convs,
                               int *n);
size_t det_cudnn_conv_workspace(const det_cudnn_conv *conv);
const char *det_cudnn_conv_impl(const det_cudnn_conv *conv);
/* Fixes the addresses; runs take no others. */
det_status det_cudnn_conv_bind(det_cudnn_conv *conv, const det_conv_data *data);
det_status det_cudnn_conv_run(const det_cudnn_conv *conv, cudnnHandle_t handle);
void det_cudnn_conv_free(det_cudnn_conv *conv);

/* 1x1 convolutions without groups are products of matrices. The algorithms that cublasLt names, best first, at most `most` of
 * DET_MAX_TRIED; *n may be 0. The same one for another batch: NULL in *conv when it does not do. */
enum { DET_MAX_TRIED = 4 }; /* of either library, for the timed choice */
det_status det_lt_conv_find(cublasLtHandle_t handle, const det_conv_problem *problem, int most, det_lt_conv **convs,
                            int *n);
det_status det_lt_conv_follow(cublasLtHandle_t handle, const det_conv_problem *problem, const det_lt_conv *like,
                              det_lt_conv **conv);
size_t det_lt_conv_workspace(const det_lt_conv *conv);
det_status det_lt_conv_run(const det_lt_conv *conv, cublasLtHandle_t handle, const det_conv_data *data,
                           cudaStream_t stream);
void det_lt_conv_free(det_lt_conv *conv);

/* What cuDNN will be asked for at this step; false when it will not, or only behind cublasLt. */
bool det_cuda_conv_problem(const det_device *device, const det_step *step, det_conv_problem *problem);
/* det_backend.warm: compiles what cuDNN compiles at run time for these steps, on several threads. */
void det_cuda_warm(det_device *device, const det_step *steps, int n_steps, const det_plan_facts *facts);
/* Called when all tensors have their place. */
det_status det_cuda_conv_bind(det_device *device, det_step *step);

/* ------------------------------------------------------------------------------------------------------- running */

/* The parameter block that all kernels of the context read. */
const det_block *det_cuda_block(const det_device *device);

det_status det_runner_open(det_device *device, det_plan *plan, const det_plan_facts *facts);
void det_runner_close(det_device *device);
/* Nothing of the context is on its way any more, and its graphs, which name kernels, are gone. */
void det_runner_stop(det_device *device);
det_status det_runner_run(det_device *device, det_plan *plan, const det_frame *frame, det_stream stream, bool wait);
/* Steps [begin, end) alone, without the graph, waiting for them. */
det_status det_runner_run_steps(det_device *device, det_plan *plan, const det_frame *frame, int begin, int end);
det_status det_runner_times(det_device *device, det_plan *plan, det_stage_times *times);

/* Kernels, one per operator. */
#define DET_OP(id, name) extern const det_kernel det_cuda_##name;
#include "../ops.def"
#undef DET_OP

#endif
