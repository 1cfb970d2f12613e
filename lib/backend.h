/* What a device must be able to do. lib/ reaches cpu/ and cuda/ only through this. */
#ifndef DET_BACKEND_H
#define DET_BACKEND_H

#include "net.h"

#include <pthread.h>

enum { DET_MAX_THREADS = 256 };

typedef struct det_device det_device; /* each backend's own */

/* How one picture lies in the network's input: input = source * scale + offset, per axis, both in continuous
 * coordinates; the picture covers [x, x + w) x [y, y + h) of the input's pixels. */
typedef struct det_placement {
    float scale_x, scale_y, offset_x, offset_y;
    int x, y, w, h;
} det_placement;

/* Thresholds as the kernels use them. */
typedef struct det_limits {
    float iou;
    bool class_agnostic, multi_label;
    int max_objects;
    float *class_scores; /* [n_classes]; 2 for a class that is switched off */
    float *class_logits; /* [n_classes]: logits at or below cannot pass; a little under the exact limit */
} det_limits;

/* One box on its way to NMS, in pixels of the network's input. */
typedef struct det_candidate {
    float x1, y1, x2, y2, score;
    int32_t class_id, prior;
    float landmarks[5][2];
} det_candidate;

/* Of one picture. */
typedef struct det_candidate_list {
    int32_t n;
    int32_t cut; /* 1: some did not fit, the best were kept */
    det_candidate items[];
} det_candidate_list;

static inline size_t det_candidates_bytes(int max_candidates) {
    return sizeof(det_candidate_list) + (size_t)max_candidates * sizeof(det_candidate);
}

/* How a device's tensors lie in memory, and what its kernels can do with them. */
typedef struct det_layout {
    int element_bytes;
    int channel_multiple;   /* the channels of a pixel are padded to a whole number of these */
    bool views;             /* kernels take ranges of channels of wider tensors, multiples of channel_multiple */
    bool residual_in_place; /* a convolution may write over its residual */
} det_layout;

/* Milliseconds of the last run, 0 where nothing was to do. */
typedef struct det_stage_times {
    float upload, preprocess, network, decode, nms, download, total;
} det_stage_times;

/* The stage that an operator belongs to. */
static inline float *det_stage_of(det_stage_times *times, det_op op) {
    return op == DET_OP_PREPROCESS     ? &times->preprocess
           : op == DET_OP_NMS          ? &times->nms
           : op >= DET_OP_DECODE_SCRFD ? &times->decode
                                       : &times->network;
}

/* What the contexts of one model share: backends keep the weights of each device here. */
typedef struct det_shared {
    pthread_mutex_t lock;
    void *stores; /* the CUDA backend's */
} det_shared;

/* What changes from run to run. */
typedef struct det_frame {
    const det_image *images; /* n */
    int n;
    const det_placement *placements; /* n */
    const det_output *output;
    const det_limits *limits;
} det_frame;

typedef struct det_step {
    const det_node *node;
    det_shape input_shapes[DET_MAX_INPUTS], output_shape; /* n is max_batch */
    void *inputs[DET_MAX_INPUTS], *output;
    int input_strides[DET_MAX_INPUTS], output_stride; /* elements from one pixel to the next */
    det_shape into_shape;                             /* of node->into */
    void *into;                                       /* NULL when there is none */
    void *workspace;                                  /* shared by all steps, of the largest workspace_bytes */

    void *state; /* the kernel's, from prepare */
    size_t workspace_bytes, weights_bytes;
    const char *impl; /* what will run, for profiles */
    float ms;         /* of the last run */
} det_step;

/* What kernels may know of the whole plan. */
typedef struct det_plan_facts {
    const det_model_info *model;
    det_shared *shared;
    int max_candidates;
    bool clip;
} det_plan_facts;

typedef struct det_kernel {
    /* Pure: NULL when the node can run here, else why not. NULL as function: it always can. */
    const char *(*refuse)(const det_step *step);
    /* Fills in state, workspace_bytes, weights_bytes and impl. NULL as function: nothing to prepare. */
    det_status (*prepare)(det_device *device, det_step *step, const det_plan_facts *facts);
    /* Asynchronous where the device is; takes no memory. */
    det_status (*run)(det_device *device, const det_step *step, const det_frame *frame, det_stream stream);
    void (*release)(det_device *device, void *state);
} det_kernel;

typedef struct det_plan det_plan;

typedef struct det_backend {
    const char *name;
    int32_t device_type; /* DET_DEVICE_* */
    /* Checks device_index, precision and n_threads, and replaces what is 0 there by what it chose. */
    det_status (*open)(det_context_options *options, det_device **device);
    void (*close)(det_device *device);
    const char *(*device_name)(const det_device *device);
    det_layout (*layout)(const det_device *device);
    det_status (*allocate)(det_device *device, size_t n_bytes, void **memory);
    void (*release)(det_device *device, void *memory);
    /* Runs a plan's steps; with `wait`, until the results are written. */
    det_status (*run)(det_device *device, det_plan *plan, const det_frame *frame, det_stream stream, bool wait);
    /* Called once, before the first kernel is prepared: what it does makes that faster, and cannot fail. NULL: nothing. */
    void (*warm)(det_device *device, const det_step *steps, int n_steps, const det_plan_facts *facts);
    /* Called once, when the plan has its memory and before its first run. NULL: nothing to do. */
    det_status (*finish)(det_device *device, det_plan *plan, const det_plan_facts *facts);
    /* The times of the last run: waits for it, fills in every step's ms. */
    det_status (*times)(det_device *device, det_plan *plan, det_stage_times *times);
    /* For tests: steps [begin, end) alone, waiting for them; a tensor's values, dense and in float on the host, to and
     * from the device; bytes. */
    det_status (*run_steps)(det_device *device, det_plan *plan, const det_frame *frame, int begin, int end);
    det_status (*get)(det_device *device, const void *data, det_shape shape, int stride, float *values);
    det_status (*set)(det_device *device, void *data, det_shape shape, int stride, const float *values);
    det_status (*read)(det_device *device, const void *data, size_t n_bytes, void *bytes);
    det_status (*write)(det_device *device, void *data, size_t n_bytes, const void *bytes);
    const det_kernel *const *kernels; /* [DET_N_OPS] */
    /* Host memory that every device of the backend copies from faster than from any other. NULL: there is none. */
    det_status (*allocate_pinned)(det_device *device, size_t n_bytes, void **memory);
    void (*release_pinned)(det_device *device, void *memory);
} det_backend;

/* The backend for DET_DEVICE_*; opens the CUDA module at the first request for it. */
det_status det_backend_find(int32_t device, const det_backend **backend);

extern const det_backend det_cpu_backend;

/* What libdetect lends to its CUDA module, which is a library of its own: errors, log and memory are shared. */
typedef struct det_core {
    det_status (*fail)(det_status status, const char *message);
    void (*fail_prefix)(const char *prefix);
    const char *(*last_error)(void);
    bool (*log_wanted)(int level);
    void (*log)(int level, const char *message);
    void *(*alloc)(size_t n_bytes);
    void *(*alloc_array)(size_t n, size_t element_bytes);
    void (*free)(void *pointer);
    det_status (*run_step)(det_plan *plan, int step, const det_frame *frame, det_stream stream);
} det_core;

/* The one symbol of libdetect_cuda.so; NULL when the two are not of one version. */
#define DET_CUDA_ENTRY "det_cuda_backend"
typedef const det_backend *(*det_cuda_entry_fn)(int abi, const det_core *core);
/* Differs between builds whose structs do: for users of plan.h. */
#define DET_BACKEND_ABI                                                                                                \
    ((int)(((sizeof(det_backend) * 31 + sizeof(det_plan)) * 31 + sizeof(det_step)) * 31 + sizeof(det_node)))

#endif
