/* A network on a device: every choice made, every byte taken. */
#ifndef DET_PLAN_H
#define DET_PLAN_H

#include "backend.h"

struct det_plan {
    det_net net; /* fused */
    const det_backend *backend;
    det_device *device;
    int n_steps;
    det_step *steps;
    void *arena, *workspace, *candidates;
    int64_t arena_bytes, workspace_bytes, candidates_bytes, weights_bytes;
    bool profile_layers;
};

typedef struct det_plan_options {
    int max_batch, width, height, max_candidates;
    bool profile_layers;
    bool keep_taps; /* tests read tapped tensors after a run */
    det_shared *shared;
} det_plan_options;

/* Builds the network of `weights`, fuses, chooses and prepares a kernel for every node, places and allocates.
 * `plan` is zeroed memory whose backend and device are set; det_plan_close gives back whatever it holds. */
det_status det_plan_build(det_plan *plan, const det_weights *weights, const det_plan_options *options);
/* All of that but the building, for a test whose net holds nodes of its own: plan->net is open and emitted. */
det_status det_plan_complete(det_plan *plan, const det_plan_options *options);
void det_plan_close(det_plan *plan);

/* Runs one step; a failure's message names the node and its shape. */
det_status det_plan_run_step(det_plan *plan, int step, const det_frame *frame, det_stream stream);

#endif
