/* Every public function: check, then call one internal function. (Status, log and allocator: status.c; versions:
 * build_id.c; det_pool: serving/.) */
#include "api.h"
#include "context.h"
#include "file.h"
#include "planes.h"

#include <string.h>
#include <unistd.h>

enum { MAX_PICTURE_SIDE = 16384 };
#define MAX_IMAGE_BYTES (4LL * MAX_PICTURE_SIDE * MAX_PICTURE_SIDE)

/* ----------------------------------------------------------------------------------------- structs that may grow */

det_status det_take_struct(void *ours, size_t our_bytes, size_t least_bytes, const void *theirs, const char *name) {
    size_t their_bytes;
    memcpy(&their_bytes, theirs, sizeof their_bytes);
    if (their_bytes < least_bytes || their_bytes > 4096)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "%s: struct_size is %zu; %zu to %zu is expected", name, their_bytes,
                 least_bytes, our_bytes);
    for (size_t i = our_bytes; i < their_bytes; i++) {
        if (((const char *)theirs)[i])
            DET_FAIL(DET_ERROR_UNSUPPORTED, "%s: byte %zu is set, and this version knows %zu bytes", name, i,
                     our_bytes);
    }
    memcpy(ours, theirs, DET_MIN(our_bytes, their_bytes));
    memcpy(ours, &our_bytes, sizeof our_bytes);
    return DET_OK;
}

void det_init_struct(const void *defaults, size_t our_bytes, void *theirs, size_t their_bytes) {
    if (!theirs || their_bytes < sizeof their_bytes)
        return;
    size_t known_bytes = DET_MIN(our_bytes, their_bytes);
    memcpy(theirs, defaults, known_bytes);
    memset((char *)theirs + known_bytes, 0, their_bytes - known_bytes);
    memcpy(theirs, &their_bytes, sizeof their_bytes);
}

det_status det_check_struct(const void *theirs, size_t our_bytes, const char *name) {
    size_t their_bytes;
    if (!theirs)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "%s is NULL", name);
    memcpy(&their_bytes, theirs, sizeof their_bytes);
    if (their_bytes < 2 * sizeof their_bytes || their_bytes > 4096)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "%s: struct_size is %zu; set it to sizeof the struct, %zu", name,
                 their_bytes, our_bytes);
    return DET_OK;
}

det_status det_give_struct(const void *ours, size_t our_bytes, void *theirs, const char *name) {
    size_t their_bytes;
    DET_TRY(det_check_struct(theirs, our_bytes, name));
    memcpy(&their_bytes, theirs, sizeof their_bytes);
    memcpy((char *)theirs + sizeof their_bytes, (const char *)ours + sizeof their_bytes,
           DET_MIN(our_bytes, their_bytes) - sizeof their_bytes);
    return DET_OK;
}

/* --------------------------------------------------------------------------------------------------------- model */

det_status det_model_open_memory(const void *data, size_t n_bytes, det_model **model) {
    if (!model)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_model_open_memory: model is NULL");
    *model = NULL;
    if (!data)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_model_open_memory: data is NULL");
    det_model *m = det_alloc_array(1, sizeof *m);
    if (!m)
        return DET_ERROR_OUT_OF_MEMORY;
    atomic_init(&m->n_references, 1);
    if (pthread_mutex_init(&m->shared.lock, NULL)) {
        det_free(m);
        DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "a mutex cannot be made");
    }
    det_status status = det_weights_read(data, n_bytes, &m->weights);
    if (status != DET_OK) {
        det_model_release(m);
        return status;
    }
    m->weights.info.n_parameters = m->weights.n_values;
    *model = m;
    return DET_OK;
}

det_status det_model_open(const char *path, det_model **model) {
    if (!model)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_model_open: model is NULL");
    *model = NULL;
    if (!path)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_model_open: path is NULL");
    uint8_t *data = NULL;
    size_t n_bytes = 0;
    det_status status = det_file_read(path, &data, &n_bytes);
    if (status == DET_OK)
        status = det_model_open_memory(data, n_bytes, model);
    if (status != DET_OK)
        det_fail_prefix("'%s'", path);
    det_free(data);
    return status;
}

det_status det_model_get_info(const det_model *model, det_model_info *info) {
    if (!model)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_model_get_info: model is NULL");
    return det_give_struct(&model->weights.info, sizeof model->weights.info, info, "det_model_info");
}

void det_model_close(det_model *model) {
    det_model_release(model);
}

/* ------------------------------------------------------------------------------------------------------- context */

void det_context_options_init_sized(det_context_options *options, size_t struct_size) {
    static const det_context_options defaults = {0};
    det_init_struct(&defaults, sizeof defaults, options, struct_size);
}

static det_status check_side(int value, const char *name) {
    if (value == 0 || (value >= 32 && value <= DET_MAX_SIDE && value % 32 == 0))
        return DET_OK;
    int below = DET_MAX(32, DET_MIN(value, DET_MAX_SIDE) / 32 * 32), above = DET_MIN(DET_MAX_SIDE, below + 32);
    if (value < 32 || value > DET_MAX_SIDE)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "%s is %d; multiples of 32 from 32 to %d are allowed, the nearest is %d",
                 name, value, DET_MAX_SIDE, below);
    DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "%s is %d, not a multiple of 32; the nearest are %d and %d", name, value,
             below, above);
}

det_status det_check_range(int value, int low, int high, const char *name) {
    if (value < low || value > high)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "%s is %d; %d to %d is allowed", name, value, low, high);
    return DET_OK;
}

static det_status check_options(const det_context_options *o) {
    DET_TRY(det_check_range(o->device, DET_DEVICE_AUTO, DET_DEVICE_CUDA, "device"));
    DET_TRY(det_check_range(o->device_index, 0, INT32_MAX, "device_index"));
    DET_TRY(det_check_range(o->precision, DET_PRECISION_AUTO, DET_BF16, "precision"));
    DET_TRY(check_side(o->width, "width"));
    DET_TRY(check_side(o->height, "height"));
    DET_TRY(det_check_range(o->max_batch, 0, DET_MAX_BATCH, "max_batch"));
    DET_TRY(det_check_range(o->n_threads, 0, DET_MAX_THREADS, "n_threads"));
    DET_TRY(det_check_range(o->max_candidates, 0, DET_MAX_CANDIDATES, "max_candidates"));
    const uint32_t known = DET_CONTEXT_PROFILE_LAYERS | DET_CONTEXT_TUNE | DET_CONTEXT_NO_GRAPH;
    if (o->flags & ~known)
        DET_FAIL(DET_ERROR_UNSUPPORTED, "flags is 0x%x; this version knows 0x%x", o->flags, known);
    if (o->max_image_bytes < 0 || o->max_image_bytes > MAX_IMAGE_BYTES)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_image_bytes is %lld; 0 to %lld is allowed",
                 (long long)o->max_image_bytes, MAX_IMAGE_BYTES);
    return DET_OK;
}

det_status det_context_create(const det_model *model, const det_context_options *options, det_context **context) {
    if (!context)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_context_create: context is NULL");
    *context = NULL;
    if (!model)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_context_create: model is NULL");
    det_context_options own;
    det_context_options_init(&own);
    if (options)
        DET_TRY(det_take_struct(&own, sizeof own, sizeof(size_t), options, "det_context_options"));
    DET_TRY(check_options(&own));
    return det_context_build((det_model *)(uintptr_t)model, &own, false, context);
}

void det_context_destroy(det_context *context) {
    det_context_free(context);
}

det_status det_context_get_info(const det_context *context, det_context_info *info) {
    if (!context)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_context_get_info: context is NULL");
    const det_plan *plan = &context->plan;
    const det_context_options *o = &context->options;
    det_context_info own = {.device = plan->backend->device_type,
                            .device_index = o->device_index,
                            .precision = o->precision,
                            .width = o->width,
                            .height = o->height,
                            .max_batch = o->max_batch,
                            .n_threads = o->n_threads,
                            .n_layers = plan->n_steps,
                            .macs = plan->net.macs,
                            .weights_bytes = plan->weights_bytes,
                            .arena_bytes = plan->arena_bytes,
                            .workspace_bytes = plan->workspace_bytes + plan->candidates_bytes,
                            .device_name = plan->backend->device_name(plan->device)};
    return det_give_struct(&own, sizeof own, info, "det_context_info");
}

static det_status enter(det_context *context) {
    if (context->process != getpid())
        DET_FAIL(DET_ERROR_UNSUPPORTED,
                 "the context was made by process %ld and not by %ld, which was forked from it; "
                 "make one after the fork",
                 (long)context->process, (long)getpid());
    if (atomic_flag_test_and_set(&context->busy))
        DET_FAIL(DET_ERROR_BUSY, "the context is in use by another thread; give each thread its own");
    return DET_OK;
}

static void leave(det_context *context) {
    atomic_flag_clear(&context->busy);
}

void det_thresholds_init_sized(det_thresholds *thresholds, size_t struct_size) {
    static const det_thresholds defaults = {
        .score = -1, .iou = -1, .class_agnostic = -1, .multi_label = -1, .max_objects = -1};
    det_init_struct(&defaults, sizeof defaults, thresholds, struct_size);
}

det_status det_check_thresholds(const det_thresholds *t, int n_classes) {
    if (!(t->score <= 1) || !(t->iou <= 1))
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "score is %g, iou %g; 0 to 1 is allowed, and negative for the default",
                 (double)t->score, (double)t->iou);
    if (t->max_objects == 0 || t->max_objects > DET_MAX_CANDIDATES)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "max_objects is %d; 1 to %d is allowed", t->max_objects,
                 DET_MAX_CANDIDATES);
    if ((t->class_scores || t->class_enabled) && t->n_classes != n_classes)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "n_classes is %d; the model has %d", t->n_classes, n_classes);
    for (int i = 0; t->class_scores && i < n_classes; i++) {
        if (!(t->class_scores[i] <= 1))
            DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "class_scores[%d] is %g; at most 1 is allowed", i,
                     (double)t->class_scores[i]);
    }
    return DET_OK;
}

det_status det_context_set_thresholds(det_context *context, const det_thresholds *thresholds) {
    if (!context)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_context_set_thresholds: context is NULL");
    det_thresholds own;
    det_thresholds_init(&own);
    if (thresholds)
        DET_TRY(det_take_struct(&own, sizeof own, sizeof(size_t), thresholds, "det_thresholds"));
    DET_TRY(det_check_thresholds(&own, context->model->weights.info.n_classes));
    DET_TRY(enter(context));
    det_context_apply_thresholds(context, &own);
    leave(context);
    return DET_OK;
}

/* ----------------------------------------------------------------------------------------------------------- run */

det_status det_check_image(const det_image *image, int index, bool host_only) {
    if (image->format < DET_RGB8 || image->format > DET_NV12)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "images[%d]: format %d is none of DET_RGB8 to DET_NV12", index,
                 image->format);
    if (image->width < 1 || image->height < 1 || image->width > MAX_PICTURE_SIDE || image->height > MAX_PICTURE_SIDE)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "images[%d]: %dx%d pixels; sides of 1 to %d are allowed", index,
                 image->width, image->height, MAX_PICTURE_SIDE);
    if (image->memory != DET_MEMORY_HOST && (host_only || image->memory != DET_MEMORY_DEVICE))
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "images[%d]: memory is %d; this device reads host memory, 0%s", index,
                 image->memory, host_only ? "" : ", and its own, 1");
    for (int i = 0; i < det_n_planes(image); i++) {
        int64_t row = (int64_t)det_row_bytes(image, i);
        if (!image->planes[i])
            DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "images[%d]: planes[%d] is NULL", index, i);
        if (image->strides[i] < row)
            DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "images[%d]: strides[%d] is %lld bytes, a row has %lld", index, i,
                     (long long)image->strides[i], (long long)row);
    }
    if (image->reserved[0] || image->reserved[1])
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "images[%d]: reserved is not zero", index);
    return DET_OK;
}

static det_status check_output(const det_output *output, bool host_only) {
    if (!output->objects || !output->counts)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "output: %s is NULL", output->objects ? "counts" : "objects");
    if (output->max_objects < 1)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "output: max_objects is %d; at least 1 is needed", output->max_objects);
    if (output->memory != DET_MEMORY_HOST && (host_only || output->memory != DET_MEMORY_DEVICE))
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "output: memory is %d; this device writes host memory, 0%s",
                 output->memory, host_only ? "" : ", and its own, 1");
    return DET_OK;
}

static det_status run(det_context *context, const det_image *images, int32_t n, const det_output *output,
                      det_stream stream, bool wait) {
    if (!context || !images || !output)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_run: %s is NULL",
                 !context  ? "context"
                 : !images ? "images"
                           : "output");
    if (n < 1 || n > context->options.max_batch)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_run: %d pictures; this context takes 1 to %d (max_batch)", n,
                 context->options.max_batch);
    bool host_only = context->plan.backend->device_type == DET_DEVICE_CPU;
    det_output own = {0};
    DET_TRY(det_take_struct(&own, sizeof own, offsetof(det_output, cuts), output, "det_output"));
    DET_TRY(check_output(&own, host_only));
    for (int i = 0; i < n; i++)
        DET_TRY(det_check_image(&images[i], i, host_only));
    DET_TRY(enter(context));
    det_status status = det_context_run(context, images, n, &own, stream, wait);
    leave(context);
    return status;
}

det_status det_run(det_context *context, const det_image *images, int32_t n, const det_output *output) {
    return run(context, images, n, output, NULL, true);
}

det_status det_run_async(det_context *context, const det_image *images, int32_t n, const det_output *output,
                         det_stream stream) {
    return run(context, images, n, output, stream, false);
}

/* ------------------------------------------------------------------------------------------------------- profile */

static det_status fill_profile(det_context *c, det_profile *p) {
    bool layers = c->plan.profile_layers;
    int32_t precision = c->options.precision;
    int value_bytes = precision == DET_FP16 || precision == DET_BF16 ? 2 : 4;
    det_stage_times times = {.total = c->total_ms};
    DET_TRY(c->plan.backend->times(c->plan.device, &c->plan, &times));
    for (int i = 0; i < c->plan.n_steps; i++) {
        const det_step *step = &c->plan.steps[i];
        det_op op = step->node->op;
        det_shape s = step->output_shape;
        c->layer_times[i] = (det_layer_time){.name = step->node->name,
                                             .op = det_op_name(op),
                                             .impl = step->impl ? step->impl : c->plan.backend->name,
                                             .shape = {s.n, s.h, s.w, s.c},
                                             .macs = det_node_macs(step->node, step->input_shapes, s),
                                             .ms = layers ? step->ms : 0,
                                             .bytes = value_bytes * det_node_values(step->node, step->input_shapes, s)};
    }
    p->upload_ms = times.upload;
    p->preprocess_ms = times.preprocess;
    p->network_ms = times.network;
    p->decode_ms = times.decode;
    p->nms_ms = times.nms;
    p->download_ms = times.download;
    p->total_ms = times.total;
    p->n_layers = c->plan.n_steps;
    p->layers = c->layer_times;
    return DET_OK;
}

det_status det_context_get_profile(det_context *context, det_profile *profile) {
    if (!context)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_context_get_profile: context is NULL");
    DET_TRY(enter(context));
    det_profile own = {0};
    det_status status = fill_profile(context, &own);
    leave(context);
    DET_TRY(status);
    return det_give_struct(&own, sizeof own, profile, "det_profile");
}
