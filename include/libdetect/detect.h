/* libdetect: pictures to boxes. DamoFD and SCRFD faces, YOLO objects; on NVIDIA GPUs and on any CPU.
 *
 *     det_model *model;
 *     det_context *context;
 *     det_model_open("faces.safetensors", &model);
 *     det_context_create(model, NULL, &context);
 *
 *     det_image image = {.planes = {pixels}, .strides = {3 * width}, .width = width, .height = height,
 *                        .format = DET_RGB8};
 *     det_object faces[100];
 *     int32_t n_faces;
 *     det_output output = {.struct_size = sizeof output, .objects = faces, .counts = &n_faces, .max_objects = 100};
 *     det_run(context, &image, 1, &output);
 *
 *     det_context_destroy(context);
 *     det_model_close(model);
 *
 * Every call that can fail returns a det_status; det_last_error() then says what went wrong, with the numbers.
 *
 * Threads. A model is immutable: any number of threads and contexts may share it. A context serves one thread at a
 * time; a second caller gets DET_ERROR_BUSY, not a race. Different contexts are independent. A pool serves any number
 * of threads: it queues their pictures and runs them in batches on contexts of its own.
 *
 * Processes. After a fork a model is as good in the child as in the parent. A context belongs to the process that made it:
 * in the child its calls fail with DET_ERROR_UNSUPPORTED (but for det_context_get_info), and det_context_destroy leaves the
 * child's copy alone.
 *
 * Structs. Those that begin with `struct_size` may grow at their end in later versions: set it to sizeof the struct
 * (the *_init functions do). Those that stand in arrays (det_image, det_object, det_layer_time, det_pool_device) never
 * change within a major version. `reserved` fields are zero.
 *
 * The *_init functions are inline, so that a program passes the size that it was compiled with to the library's
 * *_init_sized functions: these write that many bytes and none beyond, zeros where the program's struct is longer than
 * the library's. They do nothing when the struct is NULL or has no room for its struct_size.
 */
#ifndef LIBDETECT_DETECT_H
#define LIBDETECT_DETECT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DET_API __attribute__((visibility("default")))
#else
#define DET_API
#endif

#define DET_VERSION_MAJOR 0
#define DET_VERSION_MINOR 1
#define DET_VERSION_PATCH 0

/* ---------------------------------------------------------------------------------------------- status and errors */

/** Zero, or one of the negative values below. Values never change. */
typedef int32_t det_status;

enum {
    DET_OK = 0,
    DET_ERROR_INVALID_ARGUMENT = -1, /**< a parameter is NULL, out of range or inconsistent                       */
    DET_ERROR_OUT_OF_MEMORY = -2,    /**< host or device memory ran out; everything taken was given back          */
    DET_ERROR_IO = -3,               /**< a file cannot be opened or read                                         */
    DET_ERROR_BAD_MODEL = -4,        /**< the model file is damaged, or its tensors are not those of its network  */
    DET_ERROR_UNSUPPORTED = -5,      /**< well formed, but this build, device or version cannot do it             */
    DET_ERROR_NO_DEVICE = -6,        /**< the device asked for does not exist, or its driver is missing           */
    DET_ERROR_DEVICE = -7,           /**< the device or its library failed while working                          */
    DET_ERROR_BUSY = -8,             /**< the context is in use by another thread                                 */
    DET_ERROR_INTERNAL = -9,         /**< a bug in libdetect: please report the message                           */
    DET_ERROR_QUEUE_FULL = -10,      /**< the pool holds as many requests as it may: try again later              */
    DET_ERROR_TIMEOUT = -11,         /**< what was waited for has not happened yet; it goes on                    */
    DET_ERROR_DEADLINE = -12,        /**< the request's deadline passed before it could run                       */
    DET_ERROR_CANCELLED = -13,       /**< the request was cancelled, or its pool destroyed, before it could run   */
    DET_ERROR_CLOSED = -14           /**< the pool is being drained and takes no more requests                    */
};

/** The name of a status, such as "DET_ERROR_IO"; "unknown status" for any other number. Never NULL. Thread-safe. */
DET_API const char *det_status_name(det_status status);

/** What went wrong in the last libdetect call of this thread that failed: one line, never NULL, "" at first.
 *  The text is valid until this thread's next call that may fail: one that found another way in the end (AUTO without a
 *  GPU, say) leaves its own. */
DET_API const char *det_last_error(void);

/** The library's version, such as "0.1.0". */
DET_API const char *det_version(void);

/** One line for a bug report: version, source revision, processor, compiler, oneDNN and CUDA that the library was built
 *  with, such as "libdetect 0.1.0 (v0.1.0-3-g1234567), x86_64, GNU 12.2.0, oneDNN 2.6.3, no CUDA". Never NULL. */
DET_API const char *det_build_info(void);

enum { DET_LOG_ERROR = 0, DET_LOG_WARNING = 1, DET_LOG_INFO = 2, DET_LOG_DEBUG = 3 };

/** Receives one line of log, without a newline. May be called from any thread that is inside a libdetect call, and from the
 *  library's own. */
typedef void (*det_log_fn)(void *user, int level, const char *message);

/** Sets the process-wide log callback; NULL (the default) is silence.
 *  @param level  the most talkative level wanted, DET_LOG_ERROR to DET_LOG_DEBUG
 *  Call it before other threads use the library. */
DET_API void det_set_log(det_log_fn log, int level, void *user);

/** Host memory functions. `allocate` returns memory aligned to `alignment` (a power of two, at least 8) or NULL. */
typedef struct det_allocator {
    size_t struct_size;
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *pointer);
    void *user;
} det_allocator;

/** Sets the process-wide allocator for everything that libdetect itself takes (oneDNN and CUDA keep their own); NULL
 *  restores the default. Call it before any model is open: memory is released by the functions in force.
 *  Fails with DET_ERROR_INVALID_ARGUMENT when a function is missing. */
DET_API det_status det_set_allocator(const det_allocator *allocator);

/* ------------------------------------------------------------------------------------------------------- the model */

/** Weights and their description. Immutable. */
typedef struct det_model det_model;

/** How a picture is brought to the network's input size. */
enum {
    DET_RESIZE_STRETCH = 0,         /**< both sides scaled on their own, no padding  */
    DET_RESIZE_LETTERBOX_TOP = 1,   /**< ratio kept, picture in the top-left corner  */
    DET_RESIZE_LETTERBOX_CENTRE = 2 /**< ratio kept, picture in the middle           */
};

typedef struct det_model_info {
    size_t struct_size;
    const char *family;             /**< "damofd", "scrfd", "damo-yolo", "yolov5", "yolov8", "yolo11"             */
    const char *variant;            /**< "2.5g-kps", "n", ...                                                     */
    const char *licence;            /**< of the weights; "" when the file does not say                            */
    const char *source;             /**< name of the file that the weights came from; "" when unknown             */
    const char *source_sha256;      /**< of a converted checkpoint: 64 hexadecimal digits; else ""            */
    const char *const *class_names; /**< n_classes names, UTF-8                                                   */
    int32_t n_classes;
    int32_t n_landmarks;            /**< per object: 0 or 5                                                       */
    int32_t input_width;            /**< pixels, of the native input                                              */
    int32_t input_height;
    int32_t resize;                 /**< DET_RESIZE_*                                                             */
    float pad_value;                /**< grey level 0..255 around a letterboxed picture                           */
    float mean;                     /**< network input = (grey level - mean) * scale                              */
    float scale;
    float score_threshold;          /**< default                                                                  */
    float iou_threshold;            /**< default                                                                  */
    int32_t multi_label;            /**< default: 1 when every class above the threshold is a candidate           */
    int32_t max_objects;            /**< default: objects kept per picture                                        */
    int64_t n_parameters;           /**< of the folded network                                                    */
} det_model_info;

/** Opens a model file (docs/model_file.md) and checks all of it.
 *  @param path   file name
 *  @param model  receives the model; the caller closes it. NULL after a failure
 *  Fails with DET_ERROR_IO, DET_ERROR_BAD_MODEL, DET_ERROR_UNSUPPORTED (a format version unknown to this
 *  library), DET_ERROR_OUT_OF_MEMORY. */
DET_API det_status det_model_open(const char *path, det_model **model);

/** The same from `n_bytes` of memory, copied: the caller may free `data` on return. */
DET_API det_status det_model_open_memory(const void *data, size_t n_bytes, det_model **model);

/** Describes a model. Set info->struct_size first. The texts belong to the model. Thread-safe. */
DET_API det_status det_model_get_info(const det_model *model, det_model_info *info);

/** Gives the model up. Contexts made from it keep what they need and live on. NULL is allowed. */
DET_API void det_model_close(det_model *model);

/* ----------------------------------------------------------------------------------------------------- the context */

/** A plan for one model on one device, at one precision and input size. */
typedef struct det_context det_context;

enum { DET_DEVICE_AUTO = 0, DET_DEVICE_CPU = 1, DET_DEVICE_CUDA = 2 };
enum { DET_PRECISION_AUTO = 0, DET_FP32 = 1, DET_TF32 = 2, DET_FP16 = 3, DET_BF16 = 4 };

enum {
    DET_CONTEXT_PROFILE_LAYERS = 1, /**< time every layer of every run, for det_context_get_profile; on CUDA runs
                                         are slower then, for they use no graph */
    DET_CONTEXT_TUNE = 2,           /**< CUDA: try the best few implementations of every convolution and keep the
                                         fastest; creation takes seconds more, and two contexts may differ in the
                                         last bits */
    DET_CONTEXT_NO_GRAPH = 4        /**< CUDA: launch every kernel by itself instead of as one CUDA graph */
};

typedef struct det_context_options {
    size_t struct_size;
    int32_t device;         /**< DET_DEVICE_*; AUTO: CUDA where it works, else the CPU                            */
    int32_t device_index;   /**< of the CUDA device, from 0                                                       */
    int32_t precision;      /**< DET_PRECISION_AUTO: fp32 on the CPU, fp16 on CUDA                                */
    int32_t width;          /**< of the network's input, a multiple of 32 from 32 to 8192; 0: the model's own     */
    int32_t height;
    int32_t max_batch;      /**< most pictures in one run, 1 to 256; 0: 1                                         */
    int32_t n_threads;      /**< CPU threads, this one included, 1 to 256; 0: one per core that the process may
                                 use. A container's quota of CPU time is not looked at: say its number. On CUDA
                                 they compile while the context is made; runs take the caller's thread alone      */
    int32_t max_candidates; /**< boxes per picture that enter NMS, the best by score, 1 to 65536; 0: 4096         */
    uint32_t flags;         /**< DET_CONTEXT_*                                                                    */
    const char *device_uuid; /**< "GPU-8a3f..." as nvidia-smi -L prints it: that CUDA device, whatever device_index
                                  is; NULL: by index. Read during creation alone                                  */
    int64_t max_image_bytes; /**< CUDA: room on the device for each host picture of a run, so that runs take no
                                  memory; larger pictures make it grow. 0: 1920 x 1088 x 3                        */
} det_context_options;

/** det_context_options_init for other languages: fills in `struct_size` bytes, the caller's idea of the struct. */
DET_API void det_context_options_init_sized(det_context_options *options, size_t struct_size);

/** Fills in the defaults: everything 0 but struct_size. */
static inline void det_context_options_init(det_context_options *options) {
    det_context_options_init_sized(options, sizeof *options);
}

/** Builds the network, chooses an implementation for every layer, and takes all the memory that runs will need.
 *  @param options  NULL: defaults
 *  @param context  receives the context; the caller destroys it. NULL after a failure
 *  Fails with DET_ERROR_INVALID_ARGUMENT, DET_ERROR_BAD_MODEL (tensors missing, surplus or of the wrong shape),
 *  DET_ERROR_NO_DEVICE, DET_ERROR_DEVICE, DET_ERROR_UNSUPPORTED, DET_ERROR_OUT_OF_MEMORY. */
DET_API det_status det_context_create(const det_model *model, const det_context_options *options,
                                      det_context **context);

/** Waits for the context's work and gives everything back. NULL is allowed. */
DET_API void det_context_destroy(det_context *context);

typedef struct det_context_info {
    size_t struct_size;
    int32_t device;          /**< DET_DEVICE_CPU or DET_DEVICE_CUDA                                               */
    int32_t device_index;
    int32_t precision;       /**< DET_FP32, ...                                                                   */
    int32_t width, height;   /**< of the network's input                                                          */
    int32_t max_batch;
    int32_t n_threads;
    int32_t n_layers;        /**< steps of a run                                                                  */
    int64_t macs;            /**< multiply-accumulates of the convolutions and attentions, one picture            */
    int64_t weights_bytes;   /**< as stored for the device, repacked                                              */
    int64_t arena_bytes;     /**< activations                                                                     */
    int64_t workspace_bytes; /**< scratch of the implementations, candidates, results                             */
    const char *device_name; /**< belongs to the context                                                          */
} det_context_info;

/** Describes a context; the memory figures are complete before the first run. Set info->struct_size first. */
DET_API det_status det_context_get_info(const det_context *context, det_context_info *info);

/* Negative numbers in det_thresholds stand for the model's default. */
typedef struct det_thresholds {
    size_t struct_size;
    float score;                  /**< candidates need score > this, 0..1                                         */
    float iou;                    /**< NMS drops the lower of two boxes when IoU > this, 0..1                     */
    const float *class_scores;    /**< n_classes thresholds that replace `score` where not negative; or NULL      */
    const uint8_t *class_enabled; /**< n_classes flags, 0 drops the class; or NULL for all                        */
    int32_t n_classes;            /**< length of the two arrays                                                   */
    int32_t class_agnostic;       /**< 1: boxes of different classes suppress each other; 0, negative: they don't */
    int32_t multi_label;          /**< 1: every class above its threshold; 0: the best class of each prior        */
    int32_t max_objects;          /**< most objects per picture                                                   */
} det_thresholds;

/** det_thresholds_init for other languages: fills in `struct_size` bytes, the caller's idea of the struct. */
DET_API void det_thresholds_init_sized(det_thresholds *thresholds, size_t struct_size);

/** Fills in the model's defaults: every number -1, no arrays. */
static inline void det_thresholds_init(det_thresholds *thresholds) {
    det_thresholds_init_sized(thresholds, sizeof *thresholds);
}

/** Sets the thresholds of later runs; cheap, the arrays are copied. NULL restores the model's defaults.
 *  Fails with DET_ERROR_INVALID_ARGUMENT (the old values stay) or DET_ERROR_BUSY. */
DET_API det_status det_context_set_thresholds(det_context *context, const det_thresholds *thresholds);

/* ------------------------------------------------------------------------------------------------------------- run */

enum { DET_RGB8 = 0, DET_BGR8 = 1, DET_RGBA8 = 2, DET_GRAY8 = 3, DET_NV12 = 4 };
enum { DET_MEMORY_HOST = 0, DET_MEMORY_DEVICE = 1 };

/** One picture, borrowed until the run is done. 64 bytes.
 *  NV12: planes[0] is luma, planes[1] interleaved Cb Cr at half size (rounded up); BT.601, video range. */
typedef struct det_image {
    const void *planes[2];
    int64_t strides[2];    /**< bytes from one row to the next, at least a row long                               */
    int32_t width, height; /**< pixels, 1 to 16384                                                                */
    int32_t format;        /**< DET_RGB8, ...                                                                     */
    int32_t memory;        /**< DET_MEMORY_*: where the planes lie                                                */
    uint64_t reserved[2];
} det_image;

/** One detection. 64 bytes. */
typedef struct det_object {
    float x1, y1, x2, y2;  /**< corners, in pixels of the caller's picture (0, 0 is the top-left corner of pixel 0) */
    float score;           /**< 0..1                                                                              */
    int32_t class_id;      /**< index of the model's class_names                                                  */
    float landmarks[5][2]; /**< x, y of left eye, right eye, nose, left and right mouth corner as seen; else 0    */
} det_object;

/** Bits of det_output.cuts. */
enum {
    DET_CUT_OBJECTS = 1,   /**< more objects passed NMS than max_objects: the best were kept                      */
    DET_CUT_CANDIDATES = 2 /**< more boxes passed the threshold than max_candidates: the best entered NMS         */
};

/** Where results go: the caller's memory, written when the run completes. Objects of a picture are sorted by falling
 *  score; equal scores by prior index. */
typedef struct det_output {
    size_t struct_size;
    det_object *objects; /**< n x max_objects; those of picture i start at objects[i * max_objects]               */
    int32_t *counts;     /**< n: objects written for each picture                                                 */
    int32_t max_objects; /**< room per picture, at least 1                                                        */
    int32_t memory;      /**< DET_MEMORY_*: where objects, counts and cuts lie                                    */
    int32_t *cuts;       /**< n: DET_CUT_* bits of each picture; or NULL                                          */
} det_output;

/** A cudaStream_t, or NULL for the context's own stream. */
typedef void *det_stream;

/** Detects in n pictures and waits for the results.
 *  @param images  n pictures, each of its own size and format
 *  @param n       1 to max_batch
 *  Pictures in device memory must be complete: the context's own stream waits for no other.
 *  Fails with DET_ERROR_INVALID_ARGUMENT (nothing is written), DET_ERROR_BUSY, DET_ERROR_DEVICE, DET_ERROR_OUT_OF_MEMORY
 *  (CUDA: room for a host picture larger than max_image_bytes, which is all that a run takes). No objects is success.
 *  The context stays usable after a failure, unless its device does not recover. */
DET_API det_status det_run(det_context *context, const det_image *images, int32_t n, const det_output *output);

/** The same, enqueued on `stream`: the planes are read, borrowed, and the output undefined until the stream reaches
 *  the end of the run. On the CPU, `stream` must be NULL and the run completes before the call returns. */
DET_API det_status det_run_async(det_context *context, const det_image *images, int32_t n, const det_output *output,
                                 det_stream stream);

/* --------------------------------------------------------------------------------------------------------- profile */

typedef struct det_layer_time {
    const char *name;  /**< of the network's layer                                                                */
    const char *op;    /**< operator, such as "conv2d"                                                            */
    const char *impl;  /**< what runs it, such as "brgconv:avx512_core"                                           */
    int32_t shape[4];  /**< of the output: n, h, w, c                                                             */
    int64_t macs;      /**< of the whole batch                                                                    */
    float ms;          /**< in the last run; 0 unless DET_CONTEXT_PROFILE_LAYERS                                  */
    uint32_t reserved;
    int64_t bytes;     /**< tensors read and written, parameters included, of the whole batch, if each moved once */
} det_layer_time;

typedef struct det_profile {
    size_t struct_size;
    float upload_ms, preprocess_ms, network_ms, decode_ms, nms_ms, download_ms;
    float total_ms;
    int32_t n_layers;
    const det_layer_time *layers; /**< belongs to the context, valid until its next run                           */
} det_profile;

/** The times of the context's last run, by stage and by layer; zeros before the first. Waits for the end of that run,
 *  one of det_run_async too. Set profile->struct_size first. Fails with DET_ERROR_INVALID_ARGUMENT or DET_ERROR_BUSY. */
DET_API det_status det_context_get_profile(det_context *context, det_profile *profile);

/* ------------------------------------------------------------------------------------------------------------ pool */

/** Contexts on one or more devices behind one queue, for any number of threads. Pictures are run together where they
 *  wait together. docs/pool.md explains the policy and how to tune it.
 *
 *     det_pool *pool;
 *     det_pool_options options;
 *     det_pool_options_init(&options);
 *     options.max_batch = 8;
 *     det_pool_create(model, &options, &pool);
 *
 *     det_object faces[100];
 *     det_request request;
 *     det_request_init(&request);
 *     request.objects = faces;
 *     request.max_objects = 100;
 *     uint64_t ticket;
 *     det_answer answer = {.struct_size = sizeof answer};
 *     det_pool_submit(pool, &image, &request, NULL, NULL, &ticket);
 *     det_pool_wait(pool, ticket, -1, &answer);                       // answer.n_objects faces
 *
 *     det_pool_destroy(pool);
 *
 * Every request that det_pool_submit has taken is answered exactly once: through its callback, or through
 * det_pool_wait. Until then its picture (unless copied) and its objects belong to the pool. In a process forked from
 * the one that made it, every call but det_pool_destroy, which then does nothing, is DET_ERROR_UNSUPPORTED. */
typedef struct det_pool det_pool;

/** Contexts of one kind. 16 bytes. */
typedef struct det_pool_device {
    const det_context_options *options; /**< NULL: defaults; max_batch 0 there: the pool's                        */
    int32_t n_contexts;                 /**< 1 to 64; 0: two on CUDA, so that one uploads while the other computes,
                                             and one on the CPU. Several on the CPU share the cores when n_threads
                                             is 0                                                                 */
    uint32_t reserved;
} det_pool_device;

typedef struct det_pool_options {
    size_t struct_size;
    const det_pool_device *devices; /**< n_devices of them, read by det_pool_create; NULL: one of defaults        */
    int32_t n_devices;              /**< at most 64                                                               */
    int32_t max_batch;    /**< most pictures in one run, 1 to 256; 0: as many as each context takes               */
    int32_t max_delay_us; /**< longest that a request waits for others to fill a batch while a context is free;
                               0: not at all. Requests that find no free context are batched in any case          */
    int32_t capacity;     /**< most requests held at a time, waiting, running and answered but not collected,
                               1 to 65536; 0: four times what all contexts take in one run, at least 64           */
    int32_t max_objects;  /**< most objects of a picture, whatever requests ask for; 0: the model's default       */
    int32_t max_attempts; /**< runs on failing devices that a request takes part in before it is given up,
                               1 to 100; 0: 3                                                                     */
    int64_t staging_bytes; /**< memory for copied pictures, pinned where a device gains from it; 0: none          */
} det_pool_options;

/** det_pool_options_init for other languages: fills in `struct_size` bytes, the caller's idea of the struct. */
DET_API void det_pool_options_init_sized(det_pool_options *options, size_t struct_size);

/** Fills in the defaults: everything 0 but struct_size. */
static inline void det_pool_options_init(det_pool_options *options) {
    det_pool_options_init_sized(options, sizeof *options);
}

/** Creates the contexts and starts a thread for each. All memory that requests will need is taken here.
 *  @param options  NULL: defaults
 *  @param pool     receives the pool; the caller destroys it. NULL after a failure
 *  The pool keeps what it needs of the model. Fails as det_context_create does. */
DET_API det_status det_pool_create(const det_model *model, const det_pool_options *options, det_pool **pool);

enum { DET_PRIORITY_LOWEST = -4, DET_PRIORITY_NORMAL = 0, DET_PRIORITY_HIGHEST = 4 };

enum {
    DET_PIXELS_BORROWED = 0, /**< the planes stay the caller's and unchanged until the answer                     */
    DET_PIXELS_COPIED = 1    /**< copied into the pool's staging memory before det_pool_submit returns            */
};

/** What is asked of one picture. */
typedef struct det_request {
    size_t struct_size;
    det_object *objects;  /**< receives the results, sorted by falling score: host memory, lent until the answer  */
    int32_t max_objects;  /**< room there, at least 1                                                             */
    int32_t priority;     /**< DET_PRIORITY_LOWEST to DET_PRIORITY_HIGHEST; a higher one runs first, always       */
    int64_t deadline_us;  /**< microseconds from submission; a request that has not begun to run by then is
                               answered with DET_ERROR_DEADLINE. 0: none                                          */
    const det_thresholds *thresholds; /**< copied by det_pool_submit; NULL: the model's. Only requests of equal
                                           thresholds (max_objects aside) share a run                             */
    int32_t pixels;       /**< DET_PIXELS_*                                                                       */
    uint32_t reserved;
} det_request;

/** det_request_init for other languages: fills in `struct_size` bytes, the caller's idea of the struct. */
DET_API void det_request_init_sized(det_request *request, size_t struct_size);

/** Fills in the defaults: everything 0 but struct_size. */
static inline void det_request_init(det_request *request) {
    det_request_init_sized(request, sizeof *request);
}

/** What became of a request. */
typedef struct det_answer {
    size_t struct_size;
    uint64_t ticket;
    det_object *objects; /**< the request's                                                                       */
    int32_t n_objects;   /**< written there; 0 unless status is DET_OK                                            */
    int32_t cuts;        /**< DET_CUT_* bits                                                                      */
    det_status status;   /**< DET_OK; DET_ERROR_DEADLINE, DET_ERROR_CANCELLED; DET_ERROR_NO_DEVICE when no device is
                              left in service; else what its last run failed with                                 */
    int32_t context;     /**< index of the context that ran it last, as in det_pool_get_context_stats; -1: none   */
    int32_t batch;       /**< pictures in that run                                                                */
    int32_t n_attempts;  /**< runs that it took part in: 1, more after failures of devices, or 0                  */
    int64_t wait_us;     /**< from submission to the beginning of its last run, or to its end unrun               */
    int64_t run_us;      /**< of that run                                                                         */
    const char *message; /**< one line; "" when status is DET_OK. Valid during the callback; after det_pool_wait
                              until this thread's next failing call                                               */
} det_answer;

/** Receives an answer, on one of the pool's threads (several may call at a time). What is borrowed is the caller's again.
 *  It may submit, cancel and read statistics; det_pool_wait and det_pool_drain there are DET_ERROR_BUSY, and the pool
 *  must not be destroyed. A context stands still as long as its callbacks take: keep them short. */
typedef void (*det_answer_fn)(void *user, const det_answer *answer);

/** Takes a request. Returns at once, but for the time that copying the picture takes; takes no memory.
 *  @param image     a picture; device memory only where all contexts are on one CUDA device
 *  @param request   read before the call returns, but for the objects that it points to
 *  @param callback  receives the answer; NULL: det_pool_wait gives it
 *  @param user      passed to the callback
 *  @param ticket    receives the request's number: from 1, rising, never used again by this pool. May be NULL when
 *                   there is a callback, which may come before this call returns
 *  Fails with DET_ERROR_INVALID_ARGUMENT, DET_ERROR_QUEUE_FULL (capacity, or no room to copy now), DET_ERROR_CLOSED,
 *  DET_ERROR_NO_DEVICE (all devices have failed); then the request is not taken and nothing will call back. */
DET_API det_status det_pool_submit(det_pool *pool, const det_image *image, const det_request *request,
                                   det_answer_fn callback, void *user, uint64_t *ticket);

/** Waits for the answer to a request without callback, and collects it: once, by one thread.
 *  @param timeout_us  microseconds; 0: look and return, negative: for ever
 *  @param answer      receives the answer (set struct_size first); or NULL
 *  Returns the answer's status. Before there is an answer: DET_ERROR_TIMEOUT, and the request goes on: its memory stays
 *  lent until an answer is collected. Also fails, with nothing collected and `answer` unchanged, with
 *  DET_ERROR_INVALID_ARGUMENT (no such request: never taken, collected already, or of a callback) and DET_ERROR_BUSY
 *  (another thread waits for it, or this is a callback). */
DET_API det_status det_pool_wait(det_pool *pool, uint64_t ticket, int64_t timeout_us, det_answer *answer);

/** Takes a request out of the queue: it is then answered with DET_ERROR_CANCELLED, in the ordinary way. One without
 *  callback is still to be collected. Fails with DET_ERROR_BUSY (it runs, or its answer is on its way: that will come
 *  as if nothing had happened) and DET_ERROR_INVALID_ARGUMENT (no such request, or it has been answered). */
DET_API det_status det_pool_cancel(det_pool *pool, uint64_t ticket);

/** Refuses requests from now on (DET_ERROR_CLOSED) and waits until all that were taken are answered: run, without
 *  waiting to fill batches, and their callbacks returned. Answers that nobody has collected stay collectable.
 *  @param timeout_us  microseconds; 0: only refuse and look, negative: for ever
 *  Fails with DET_ERROR_TIMEOUT (the pool goes on draining; call again) and DET_ERROR_BUSY (this is a callback). */
DET_API det_status det_pool_drain(det_pool *pool, int64_t timeout_us);

/** Ends a pool: what runs is finished and answered, what waits is answered with DET_ERROR_CANCELLED, threads that are
 *  inside det_pool_wait or det_pool_drain get their answers and are waited for. Answers that nobody has collected are
 *  dropped. No call may begin after this one has. Call det_pool_drain first to have everything run. NULL is allowed. */
DET_API void det_pool_destroy(det_pool *pool);

/** Histograms of times: [i] counts those below 2^i microseconds and not below half of that; the last all longer ones. */
enum { DET_POOL_TIME_BUCKETS = 32, DET_POOL_BATCH_SIZES = 257 };

typedef struct det_pool_stats {
    size_t struct_size;
    int32_t n_contexts, n_in_service;
    int32_t capacity, n_held;       /**< requests that the pool holds: waiting, running, not yet collected        */
    int32_t n_waiting, n_running;   /**< in the queue; in runs                                                    */
    int32_t max_waiting;            /**< most that ever were in the queue                                         */
    int32_t draining;               /**< 1: requests are refused                                                  */
    int64_t n_submitted;            /**< taken                                                                    */
    int64_t n_rejected;             /**< refused with DET_ERROR_QUEUE_FULL                                        */
    int64_t n_succeeded, n_failed, n_cancelled, n_expired; /**< answered: DET_OK, others, CANCELLED, DEADLINE     */
    int64_t n_retried;              /**< put back into the queue after a device failed                            */
    int64_t n_runs;
    int64_t wait_us, max_wait_us;   /**< from submission to run: sum and longest, of requests                     */
    int64_t run_us, max_run_us;     /**< sum and longest, of runs                                                 */
    int64_t staging_bytes;          /**< of copied pictures, now                                                  */
    int64_t batches[DET_POOL_BATCH_SIZES];   /**< [n]: runs of n pictures                                         */
    int64_t waits[DET_POOL_TIME_BUCKETS];    /**< requests by the time they waited                                */
    int64_t runs[DET_POOL_TIME_BUCKETS];     /**< runs by the time they took                                      */
} det_pool_stats;

/** Counts and times since the pool was created, all of one moment. Set stats->struct_size first. Any thread. */
DET_API det_status det_pool_get_stats(det_pool *pool, det_pool_stats *stats);

typedef struct det_pool_context_stats {
    size_t struct_size;
    int32_t device;          /**< DET_DEVICE_CPU or DET_DEVICE_CUDA                                               */
    int32_t device_index;
    int32_t max_batch;       /**< of its runs                                                                     */
    int32_t in_service;      /**< 0: it, or another context of its GPU, has failed, and it is used no more        */
    int32_t n_running;       /**< pictures in its present run; 0: it is free                                      */
    det_status last_error;   /**< of its last failed run; DET_OK: none                                            */
    int64_t n_runs, n_pictures, n_failures;
    int64_t run_us;          /**< spent in runs                                                                   */
    const char *device_name; /**< belongs to the pool                                                             */
} det_pool_context_stats;

/** The same for one context.
 *  @param index  0 to n_contexts - 1, in the order of the options' devices
 *  Set stats->struct_size first. Any thread. */
DET_API det_status det_pool_get_context_stats(det_pool *pool, int32_t index, det_pool_context_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
