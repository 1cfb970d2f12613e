#include "context.h"

#include "module.h"
#include "placement.h"
#include "timing.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_CANDIDATES = 4096 };

static void retain_model(det_model *model) {
    atomic_fetch_add(&model->n_references, 1);
}

void det_model_release(det_model *model) {
    if (!model || atomic_fetch_sub(&model->n_references, 1) > 1)
        return;
    det_weights_close(&model->weights);
    pthread_mutex_destroy(&model->shared.lock);
    det_free(model);
}

static det_status open_device(det_context_options *options, det_plan *plan) {
    const det_backend *backend;
    DET_TRY(det_backend_find(options->device, &backend));
    DET_TRY(backend->open(options, &plan->device));
    plan->backend = backend;
    return DET_OK;
}

static void resolve(det_context_options *o, const det_model_info *info) {
    o->width = o->width ? o->width : info->input_width;
    o->height = o->height ? o->height : info->input_height;
    o->max_batch = o->max_batch ? o->max_batch : 1;
    o->max_candidates = o->max_candidates ? o->max_candidates : DEFAULT_CANDIDATES;
}

static det_status build(det_context *c, bool keep_taps) {
    const det_weights *weights = &c->model->weights;
    det_context_options *o = &c->options;
    resolve(o, &weights->info);
    DET_TRY(open_device(o, &c->plan));
    det_plan_options options = {.max_batch = o->max_batch,
                                .width = o->width,
                                .height = o->height,
                                .max_candidates = o->max_candidates,
                                .profile_layers = o->flags & DET_CONTEXT_PROFILE_LAYERS,
                                .keep_taps = keep_taps,
                                .shared = &c->model->shared};
    DET_TRY(det_plan_build(&c->plan, weights, &options));
    size_t n_classes = (size_t)weights->info.n_classes;
    c->limits.class_scores = det_alloc_array(n_classes, sizeof(float));
    c->limits.class_logits = det_alloc_array(n_classes, sizeof(float));
    c->placements = det_alloc_array((size_t)o->max_batch, sizeof *c->placements);
    c->layer_times = det_alloc_array((size_t)c->plan.n_steps, sizeof *c->layer_times);
    if (!c->limits.class_scores || !c->limits.class_logits || !c->placements || !c->layer_times)
        return DET_ERROR_OUT_OF_MEMORY;
    det_thresholds defaults;
    det_thresholds_init(&defaults);
    det_context_apply_thresholds(c, &defaults);
    return DET_OK;
}

static det_status build_on(int32_t device, det_model *model, const det_context_options *options, bool keep_taps,
                           det_context **out) {
    det_context *c = det_alloc_array(1, sizeof *c);
    if (!c)
        return DET_ERROR_OUT_OF_MEMORY;
    atomic_flag_clear(&c->busy);
    c->process = getpid();
    retain_model(model);
    c->model = model;
    c->options = *options;
    c->options.device = device;
    det_status status = build(c, keep_taps);
    if (status != DET_OK) {
        det_context_free(c);
        return status;
    }
    *out = c;
    return DET_OK;
}

/* For AUTO on CUDA where it works, else on the CPU. */
det_status det_context_build(det_model *model, const det_context_options *options, bool keep_taps, det_context **out) {
    if (options->device != DET_DEVICE_AUTO)
        return build_on(options->device, model, options, keep_taps, out);
    if (det_module_has_driver()) {
        det_status status = build_on(DET_DEVICE_CUDA, model, options, keep_taps, out);
        if (status != DET_ERROR_NO_DEVICE && status != DET_ERROR_DEVICE)
            return status;
        int level = status == DET_ERROR_NO_DEVICE ? DET_LOG_INFO : DET_LOG_WARNING;
        det_log(level, "no CUDA device, the CPU will do: %s", det_last_error());
    }
    return build_on(DET_DEVICE_CPU, model, options, keep_taps, out);
}

void det_context_free(det_context *c) {
    if (!c || c->process != getpid()) /* in a child there are no threads to wait for: its copy is left alone */
        return;
    if (c->plan.backend) {
        det_plan_close(&c->plan);
        c->plan.backend->close(c->plan.device);
    }
    det_free(c->limits.class_scores);
    det_free(c->limits.class_logits);
    det_free(c->placements);
    det_free(c->layer_times);
    det_model_release(c->model);
    det_free(c);
}

/* A logit at which the score is surely not above the threshold: the exact comparison of scores follows. */
static float logit_below(float score) {
    if (score <= 0)
        return -INFINITY;
    if (score >= 1)
        return INFINITY; /* no score is above 1 */
    float logit = logf(score / (1 - score));
    return logit - 1e-2f - 1e-3f * fabsf(logit);
}

void det_context_apply_thresholds(det_context *c, const det_thresholds *t) {
    const det_model_info *info = &c->model->weights.info;
    det_limits *limits = &c->limits;
    float score = t->score < 0 ? info->score_threshold : t->score;
    limits->iou = t->iou < 0 ? info->iou_threshold : t->iou;
    limits->class_agnostic = t->class_agnostic > 0;
    limits->multi_label = (t->multi_label < 0 ? info->multi_label : t->multi_label) > 0;
    limits->max_objects = t->max_objects < 0 ? info->max_objects : t->max_objects;
    for (int i = 0; i < info->n_classes; i++) {
        float own = t->class_scores && t->class_scores[i] >= 0 ? t->class_scores[i] : score;
        limits->class_scores[i] = t->class_enabled && !t->class_enabled[i] ? 2 : own;
        limits->class_logits[i] = logit_below(limits->class_scores[i]);
    }
}

det_status det_context_run(det_context *c, const det_image *images, int n, const det_output *output, det_stream stream,
                           bool wait) {
    double before = det_clock_ms();
    for (int i = 0; i < n; i++)
        c->placements[i] = det_place(c->model->weights.info.resize, images[i].width, images[i].height, c->options.width,
                                     c->options.height);
    det_frame frame = {images, n, c->placements, output, &c->limits};
    det_status status = c->plan.backend->run(c->plan.device, &c->plan, &frame, stream, wait);
    c->total_ms = (float)(det_clock_ms() - before);
    return status;
}
