#include "detector.h"

#include "timebase.h"

#include <stdio.h>
#include <stdlib.h>

static bool serve(void *self, int worker, int64_t number) {
    detector *d = self;
    seat *s = &d->seats[worker];
    const det_output output = {
        .struct_size = sizeof output, .objects = s->objects, .counts = s->counts, .max_objects = d->max_objects};
    if (det_run(s->context, inputs_batch(d->in, number, d->batch), d->batch, &output) != DET_OK) {
        snprintf(s->error, sizeof s->error, "%s", det_last_error());
        return false;
    }
    for (int i = 0; i < d->batch; i++)
        s->n_objects += s->counts[i];
    return d->after == NULL || d->after(d, worker, number);
}

static det_status open_seat(detector *d, const det_model *model, const setting *how, int index) {
    seat *s = &d->seats[index];
    det_context_options wanted;
    det_context_options_init(&wanted);
    choose_device(&wanted, &how->devices[index % how->n_devices]);
    wanted.precision = how->precision;
    wanted.width = how->width;
    wanted.height = how->height;
    wanted.max_batch = how->batch;
    wanted.n_threads = how->threads;
    wanted.flags = how->flags;
    size_t batch = (size_t)how->batch;
    s->objects = calloc(batch * (size_t)d->max_objects, sizeof *s->objects);
    s->counts = calloc(batch, sizeof *s->counts);
    if (s->objects == NULL || s->counts == NULL)
        return DET_ERROR_OUT_OF_MEMORY;
    return det_context_create(model, &wanted, &s->context);
}

det_status detector_open(detector *d, const det_model *model, const inputs *in, const setting *how, int n_contexts) {
    *d = (detector){.in = in, .batch = how->batch, .plan.struct_size = sizeof d->plan};
    det_model_info info = {.struct_size = sizeof info};
    det_status status = det_model_get_info(model, &info);
    d->max_objects = info.max_objects;
    d->seats = calloc((size_t)n_contexts, sizeof *d->seats);
    if (status == DET_OK && d->seats == NULL)
        status = DET_ERROR_OUT_OF_MEMORY;
    double begin = timebase_now(timebase_machine());
    for (int i = 0; i < n_contexts && status == DET_OK; i++) {
        d->target.n_workers = i + 1; /* so that a seat half taken is given back */
        status = open_seat(d, model, how, i);
    }
    d->create_s = timebase_now(timebase_machine()) - begin;
    d->target.self = d;
    d->target.serve = serve;
    return status == DET_OK ? det_context_get_info(d->seats[0].context, &d->plan) : status;
}

void detector_close(detector *d) {
    for (int i = 0; i < d->target.n_workers; i++) {
        det_context_destroy(d->seats[i].context);
        free(d->seats[i].objects);
        free(d->seats[i].counts);
    }
    free(d->seats);
    *d = (detector){0};
}

const char *detector_error(const detector *d) {
    for (int i = 0; i < d->target.n_workers; i++)
        if (d->seats[i].error[0] != '\0')
            return d->seats[i].error;
    return "";
}

int64_t detector_bytes(const detector *d) {
    return d->target.n_workers * (d->plan.weights_bytes + d->plan.arena_bytes + d->plan.workspace_bytes);
}
