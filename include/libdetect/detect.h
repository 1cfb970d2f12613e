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
 * time; a second caller gets DET_ERROR_BUSY, not a race. Different contexts are independent.
 *
 * Structs. Those that begin with `struct_size` may grow at their end in later versions: set it to sizeof the struct
 * (the *_init functions do). Those that stand in arrays (det_image, det_object, det_layer_time) never change within a
 * major version. `reserved` fields are zero.
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
    DET_ERROR_INTERNAL = -9          /**< a bug in libdetect: please report the message                           */
};

/** The name of a status, such as "DET_ERROR_IO"; "unknown status" for any other number. Never NULL. Thread-safe. */
DET_API const char *det_status_name(det_status status);

/** What went wrong in the last libdetect call of this thread that failed: one line, never NULL, "" at first.
 *  The text is valid until this thread's next failing call. */
DET_API const char *det_last_error(void);

/** The library's version, such as "0.1.0". */
DET_API const char *det_version(void);

enum { DET_LOG_ERROR = 0, DET_LOG_WARNING = 1, DET_LOG_INFO = 2, DET_LOG_DEBUG = 3 };

/** Receives one line of log, without a newline. May be called from any thread that is inside a libdetect call. */
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

/** Sets the process-wide allocator for everything that libdetect itself takes (oneDNN, jansson and CUDA keep their
 *  own); NULL restores the default. Call it before any model is open: memory is released by the functions in force.
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
    const char *source_sha256;      /**< 64 hexadecimal digits, or ""                                             */
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
 *  Fails with DET_ERROR_IO, DET_ERROR_BAD_MODEL, DET_ERROR_UNSUPPORTED (a family or format version unknown to this
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
    int32_t n_threads;      /**< CPU threads, this one included, 1 to 256; 0: one per core                        */
    int32_t max_candidates; /**< boxes per picture that enter NMS, the best by score, 1 to 65536; 0: 4096         */
    uint32_t flags;         /**< DET_CONTEXT_*                                                                    */
    const char *device_uuid; /**< "GPU-8a3f..." as nvidia-smi -L prints it: that CUDA device, whatever device_index
                                  is; NULL: by index. Read during creation alone                                  */
    int64_t max_image_bytes; /**< CUDA: room on the device for each host picture of a run, so that runs take no
                                  memory; larger pictures make it grow. 0: 1920 x 1088 x 3                        */
} det_context_options;

/** Fills in the defaults: everything 0 but struct_size. */
DET_API void det_context_options_init(det_context_options *options);

/** Builds the network, chooses an implementation for every layer, and takes all the memory that runs will need.
 *  @param options  NULL: defaults
 *  @param context  receives the context; the caller destroys it. NULL after a failure
 *  Fails with DET_ERROR_INVALID_ARGUMENT, DET_ERROR_BAD_MODEL (tensors missing, surplus or of the wrong shape),
 *  DET_ERROR_NO_DEVICE, DET_ERROR_UNSUPPORTED, DET_ERROR_OUT_OF_MEMORY. */
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

/** Fills in the model's defaults: every number -1, no arrays. */
DET_API void det_thresholds_init(det_thresholds *thresholds);

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
 *  Fails with DET_ERROR_INVALID_ARGUMENT (nothing is written), DET_ERROR_BUSY, DET_ERROR_DEVICE. No objects is success.
 *  The context stays usable after a failure. Takes no memory. */
DET_API det_status det_run(det_context *context, const det_image *images, int32_t n, const det_output *output);

/** The same, enqueued on `stream`: the planes are borrowed and the output undefined until the stream reaches the
 *  end of the run. On the CPU, `stream` must be NULL and the run completes before the call returns. */
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

/** The times of the context's last run, by stage and by layer; zeros before the first. Set profile->struct_size
 *  first. Fails with DET_ERROR_INVALID_ARGUMENT or DET_ERROR_BUSY. */
DET_API det_status det_context_get_profile(det_context *context, det_profile *profile);

#ifdef __cplusplus
}
#endif

#endif
