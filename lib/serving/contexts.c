/* The runners of a real pool: contexts. */
#include "pool.h"

#include "../api.h"
#include "../context.h"

#include <stddef.h>

enum { MAX_DEVICES = 64, MAX_CONTEXTS = 64, DEFAULT_ATTEMPTS = 3, MAX_ATTEMPTS = 100, LEAST_CAPACITY = 64 };

void det_pool_options_init_sized(det_pool_options *options, size_t struct_size) {
    static const det_pool_options defaults = {0};
    det_init_struct(&defaults, sizeof defaults, options, struct_size);
}

static det_status run_context(void *state, const det_image *images, int n, const det_thresholds *thresholds,
                              const det_output *output) {
    DET_TRY(det_context_set_thresholds(state, thresholds));
    return det_run(state, images, n, output);
}

static void close_context(void *state) {
    det_context_destroy(state);
}

static const det_runner_ops context_ops = {run_context, close_context};

/* ------------------------------------------------------------------------------------------------------- contexts */

typedef struct crew {
    det_runner runners[DET_MAX_WORKERS];
    int n;
} crew;

static det_context *context_of(const crew *c, int i) {
    return c->runners[i].state;
}

/* A context fails with those of its GPU; on the CPU alone. */
static void add(crew *c, det_context *context, const det_context_info *info) {
    det_runner *r = &c->runners[c->n];
    *r =
        (det_runner){&context_ops, context, info->device_name, info->device, info->device_index, info->max_batch, c->n};
    for (int i = 0; i < c->n && info->device == DET_DEVICE_CUDA; i++) {
        if (c->runners[i].device == r->device && c->runners[i].device_index == r->device_index)
            r->fails_with = c->runners[i].fails_with;
    }
    c->n++;
}

static det_status create(const det_model *model, const det_context_options *options, det_context **context,
                         det_context_info *info) {
    *info = (det_context_info){.struct_size = sizeof *info};
    DET_TRY(det_context_create(model, options, context));
    return det_context_get_info(*context, info);
}

/* The contexts of one entry. What AUTO and 0 mean is known when the first of them is there. */
static det_status add_device(crew *c, const det_model *model, const det_pool_device *device, int max_batch) {
    det_context_options options;
    det_context_options_init(&options);
    if (device->options)
        DET_TRY(det_take_struct(&options, sizeof options, sizeof(size_t), device->options, "det_context_options"));
    options.max_batch = options.max_batch ? options.max_batch : max_batch;
    det_context *context;
    det_context_info info;
    DET_TRY(create(model, &options, &context, &info));
    int n = device->n_contexts ? device->n_contexts : info.device == DET_DEVICE_CUDA ? 2 : 1;
    if (info.device == DET_DEVICE_CPU && n > 1 && options.n_threads == 0) { /* they share the cores */
        options.n_threads = DET_MAX(1, info.n_threads / n);
        det_context_destroy(context);
        DET_TRY(create(model, &options, &context, &info));
    }
    options.device = info.device;
    for (int i = 0; i < n; i++) {
        if (i > 0)
            DET_TRY(create(model, &options, &context, &info));
        if (c->n == DET_MAX_WORKERS) {
            det_context_destroy(context);
            DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_pool_options: more than %d contexts", DET_MAX_WORKERS);
        }
        add(c, context, &info);
    }
    return DET_OK;
}

static det_status add_devices(crew *c, const det_model *model, const det_pool_options *o) {
    static const det_pool_device one = {0};
    int n = o->devices ? o->n_devices : 1;
    for (int i = 0; i < n; i++) {
        det_status status = add_device(c, model, o->devices ? &o->devices[i] : &one, o->max_batch);
        if (status != DET_OK) {
            det_fail_prefix("devices[%d]", i);
            return status;
        }
    }
    return DET_OK;
}

/* -------------------------------------------------------------------------------------------------------- staging */

static void release_plain(void *user, void *memory) {
    (void)user;
    det_free(memory);
}

static void release_pinned(void *user, void *memory) {
    const det_plan *plan = &((det_context *)user)->plan;
    plan->backend->release_pinned(plan->device, memory);
}

/* Pinned, when one of the devices gains from that. The pool gives it back before the contexts. */
static det_status allocate_staging(det_pool_setup *setup, const crew *c) {
    for (int i = 0; i < c->n && setup->staging_bytes; i++) {
        const det_plan *plan = &context_of(c, i)->plan;
        if (plan->backend->allocate_pinned) {
            setup->release_staging = release_pinned;
            setup->staging_user = context_of(c, i);
            return plan->backend->allocate_pinned(plan->device, setup->staging_bytes, &setup->staging);
        }
    }
    if (setup->staging_bytes) {
        setup->release_staging = release_plain;
        setup->staging = det_alloc(setup->staging_bytes);
        return setup->staging ? DET_OK : DET_ERROR_OUT_OF_MEMORY;
    }
    return DET_OK;
}

/* --------------------------------------------------------------------------------------------------------- create */

static det_status check_options(const det_pool_options *o) {
    if (o->devices ? o->n_devices < 1 || o->n_devices > MAX_DEVICES : o->n_devices != 0)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT,
                 "det_pool_options: n_devices is %d, devices %s; 1 to %d devices, or 0 and "
                 "NULL, are allowed",
                 o->n_devices, o->devices ? "is not NULL" : "NULL", MAX_DEVICES);
    for (int i = 0; i < o->n_devices; i++) {
        DET_TRY(det_check_range(o->devices[i].n_contexts, 0, MAX_CONTEXTS, "n_contexts"));
        if (o->devices[i].reserved)
            DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "devices[%d]: reserved is not zero", i);
    }
    DET_TRY(det_check_range(o->max_batch, 0, DET_MAX_BATCH, "max_batch"));
    DET_TRY(det_check_range(o->max_delay_us, 0, INT32_MAX, "max_delay_us"));
    DET_TRY(det_check_range(o->capacity, 0, DET_MAX_CAPACITY, "capacity"));
    DET_TRY(det_check_range(o->max_objects, 0, DET_MAX_CANDIDATES, "max_objects"));
    DET_TRY(det_check_range(o->max_attempts, 0, MAX_ATTEMPTS, "max_attempts"));
    if (o->staging_bytes < 0 || o->staging_bytes > INT64_MAX / 2)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "staging_bytes is %lld", (long long)o->staging_bytes);
    return DET_OK;
}

static int default_capacity(const crew *c, int max_batch) {
    int in_one_run = 0;
    for (int i = 0; i < c->n; i++)
        in_one_run += max_batch ? DET_MIN(max_batch, c->runners[i].max_batch) : c->runners[i].max_batch;
    return DET_MIN(DET_MAX(LEAST_CAPACITY, 4 * in_one_run), DET_MAX_CAPACITY);
}

/* Pictures in a GPU's memory can be read by that GPU alone. */
static bool one_gpu(const crew *c) {
    for (int i = 0; i < c->n; i++) {
        if (c->runners[i].device != DET_DEVICE_CUDA || c->runners[i].device_index != c->runners[0].device_index)
            return false;
    }
    return true;
}

static det_pool_setup make_setup(const det_model_info *info, const det_pool_options *o, const crew *c) {
    return (det_pool_setup){
        .defaults = {info->n_classes, info->multi_label, info->score_threshold, info->iou_threshold},
        .max_batch = o->max_batch,
        .capacity = o->capacity ? o->capacity : default_capacity(c, o->max_batch),
        .max_attempts = o->max_attempts ? o->max_attempts : DEFAULT_ATTEMPTS,
        .model_objects = info->max_objects,
        .max_objects = o->max_objects ? o->max_objects : info->max_objects,
        .max_delay_us = o->max_delay_us,
        .host_only = !one_gpu(c),
        .staging_bytes = (size_t)o->staging_bytes};
}

static det_status create_pool(const det_model *model, const det_pool_options *options, crew *c, det_pool **pool) {
    det_pool_setup setup;
    det_status status = add_devices(c, model, options);
    if (status == DET_OK) {
        setup = make_setup(&model->weights.info, options, c);
        status = allocate_staging(&setup, c);
    }
    if (status == DET_OK)
        return det_pool_build(&setup, c->runners, c->n, pool);
    for (int i = 0; i < c->n; i++)
        det_context_destroy(context_of(c, i));
    return status;
}

det_status det_pool_create(const det_model *model, const det_pool_options *options, det_pool **pool) {
    if (!pool)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_pool_create: pool is NULL");
    *pool = NULL;
    if (!model)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_pool_create: model is NULL");
    det_pool_options own;
    det_pool_options_init(&own);
    if (options)
        DET_TRY(det_take_struct(&own, sizeof own, offsetof(det_pool_options, max_batch), options, "det_pool_options"));
    DET_TRY(check_options(&own));
    crew *c = det_alloc_array(1, sizeof *c);
    if (!c)
        return DET_ERROR_OUT_OF_MEMORY;
    det_status status = create_pool(model, &own, c, pool);
    det_free(c);
    return status;
}
