/* A test bench for one operator: a network of a few nodes, made by the builder, planned for a backend, with every tensor
 * in a host buffer of its own between guard bytes. On the CPU the kernels work in these buffers (and in workspaces like
 * them); on another device the inputs are sent before a run and the result is fetched after it. */
#ifndef DET_TEST_RIG_H
#define DET_TEST_RIG_H

#include "memory_weights.h"
#include "plan.h"

enum { RIG_BATCH = 3, RIG_MAX_BUFFERS = 12, RIG_MAX_OBJECTS = 64 };

typedef struct op_row op_row;

typedef struct rig_buffer {
    uint8_t *memory; /* guard, n_bytes, guard */
    size_t n_bytes;
} rig_buffer;

typedef struct rig {
    const op_row *row;
    bool on_host;
    det_layout layout;
    int batch;
    memory_weights weights;
    det_plan plan;
    det_step *step; /* of the row's operator, its tensors in the host buffers; NULL when views left too little to run */
    det_step mirror; /* that step, where the device has its own */
    int index;       /* in the plan */
    rig_buffer tensors[RIG_MAX_BUFFERS], workspaces[RIG_MAX_BUFFERS];
    void *inputs[DET_MAX_INPUTS]; /* what fill made: a run may write over the step's own inputs */

    /* What a run is told. */
    det_image images[RIG_BATCH];
    det_placement placements[RIG_BATCH];
    int first_picture; /* of images and placements */
    det_limits limits;
    det_output output;
    rig_buffer objects;
    int32_t counts[RIG_BATCH], cuts[RIG_BATCH];
} rig;

/* A test of one operator. `emit` declares weights and inputs and builds the node; `fill` makes the inputs' values (and
 * pictures, and limits); `error` compares with the oracle. The rest are parameters that these read as they like. */
struct op_row {
    det_op op;
    const char *what;
    double tolerance; /* of error */
    void (*emit)(rig *r, const op_row *row);
    void (*fill)(rig *r, const op_row *row);
    double (*error)(const rig *r); /* largest difference, relative; HUGE_VAL: not the same form */

    int h, w, c; /* of the input */
    int c_out, k, stride, pad, groups, n_parts;
    det_act act, post_act;
    bool residual, no_bias;
    bool residual_kept; /* the residual is needed later, so the result may not be written over it */
    bool concatenated;  /* the result is wanted in a concatenation ... */
    bool result_kept;   /* ... and by itself */

    int n_classes, n_anchors, n_bins, n_landmarks, max_candidates, max_objects;
    bool scaled, multi_label, class_agnostic, cut;
    float threshold, iou;

    int format, resize, image_h, image_w;
    float mean, scale, pad_value;
};

/* The tables, one per source file. */
extern const op_row tensor_rows[], picture_rows[], box_rows[];
extern const int n_tensor_rows, n_picture_rows, n_box_rows;

/* Opens a device as `options` say, emits, completes the plan, takes the buffers, and fills the inputs. Ends the test when
 * that fails. */
/* For every rig that is opened from now on: the CPU does without its code for wide vectors. */
extern bool rig_narrow;

void rig_open(rig *r, const op_row *row, const det_context_options *options, int batch);
void rig_close(rig *r);

/* For emit: weights first, with values from [low, high) that follow from the name; then the net; then inputs. */
void rig_weight(rig *r, const char *name, const int64_t *shape, int n_dims, float low, float high);
det_net *rig_net(rig *r);
det_tensor_id rig_input(rig *r, int h, int w, int c);

/* Where a tensor's values are. */
float *rig_values(const rig *r, det_tensor_id x);
/* fill for operators on tensors: every input at random from -2 to 2. */
void rig_fill_tensors(rig *r, const op_row *row);
/* Gives the first picture of `one` the inputs of picture `index` of `all`. */
void rig_copy_inputs(rig *one, const rig *all, int index);

/* Runs the row's operator alone on the first n pictures' inputs, over outputs that hold NaN. */
det_status rig_run(rig *r, int n);
/* The step with its inputs as they were before the run: what the oracle wants. */
det_step rig_question(const rig *r);
/* Does a concatenation that wants the result have it, and nothing else? */
bool rig_concatenated(const rig *r);
/* Inputs as the device rounds them and the oracle sees them: call it before the first run. */
void rig_round_inputs(rig *r);
/* What the run made of picture `index`. */
const void *rig_result(const rig *r, int index, size_t *n_bytes);
/* Are all guards as they were? */
bool rig_guards_intact(const rig *r);

#endif
