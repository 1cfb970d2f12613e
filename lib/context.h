/* The two opaque structs of the API, and a context's life. */
#ifndef DET_CONTEXT_H
#define DET_CONTEXT_H

#include "plan.h"

#include <stdatomic.h>
#include <sys/types.h>

struct det_model {
    atomic_int n_references; /* the caller's and every context's */
    det_weights weights;
    det_shared shared;
};

struct det_context {
    det_model *model;
    atomic_flag busy;
    pid_t process;               /* that made it: its threads and its device are not in a child */
    det_context_options options; /* as resolved */
    det_plan plan;
    det_limits limits;
    det_placement *placements;   /* [max_batch] */
    det_layer_time *layer_times; /* [n_steps] */
    float total_ms;              /* of the last run, as its caller saw it */
};

void det_model_release(det_model *model);

/* options: complete and checked, zeros where the default is meant. keep_taps: tests read intermediate tensors. */
det_status det_context_build(det_model *model, const det_context_options *options, bool keep_taps, det_context **out);
void det_context_free(det_context *context);

/* thresholds: checked. */
void det_context_apply_thresholds(det_context *context, const det_thresholds *thresholds);

/* images and output: checked. */
det_status det_context_run(det_context *context, const det_image *images, int n, const det_output *output,
                           det_stream stream, bool wait);

#endif
