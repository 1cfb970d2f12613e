/* Heads -> candidates. Logits are compared with the threshold's logit first, so that the exact score and the box are
 * computed for the few that can pass. One task per picture. */
#include "candidates.h"
#include "cpu.h"

#include <math.h>

typedef struct decode_state {
    int max_candidates;
} decode_state;

typedef struct picture {
    const det_step *step;
    const det_decode_params *params;
    const det_limits *limits;
    det_candidate_list *list;
    int index, max_candidates;
} picture;

/* A cell of a head: where its values lie and which prior point it has. */
typedef struct cell {
    const float *x, *classes;
    float px, py, stride;
    int level, prior; /* of its first anchor */
} cell;

static float sigmoid(float x) {
    return 1 / (1 + expf(-x));
}

static void offer(const picture *p, det_candidate *candidate, int class_id, float score) {
    if (!(score > p->limits->class_scores[class_id]))
        return;
    candidate->class_id = class_id;
    candidate->score = score;
    det_candidates_offer(p->list, p->max_candidates, candidate);
}

/* ------------------------------------------------------------------------------------------------------- classes */

DET_CPU_CLONES static float max_value(const float *x, int n) {
    float best = x[0];
#pragma omp simd reduction(max : best)
    for (int i = 0; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

static int index_of(const float *x, float value, int n) {
    for (int i = 0; i < n; i++) {
        if (x[i] == value)
            return i;
    }
    return 0;
}

/* Lowest logit that any class accepts: most cells end here. */
static float lowest_logit(const picture *p) {
    float lowest = p->limits->class_logits[0];
    for (int i = 1; i < p->params->n_classes; i++)
        lowest = DET_MIN(lowest, p->limits->class_logits[i]);
    return lowest;
}

/* Offers `candidate` for the best class, or for every class that may pass; `factor` multiplies the scores. */
static void offer_classes(const picture *p, det_candidate *candidate, const float *logits, float factor) {
    int n = p->params->n_classes;
    if (!p->limits->multi_label) {
        int best = index_of(logits, max_value(logits, n), n);
        offer(p, candidate, best, factor * sigmoid(logits[best]));
        return;
    }
    for (int i = 0; i < n; i++) {
        if (logits[i] > p->limits->class_logits[i])
            offer(p, candidate, i, factor * sigmoid(logits[i]));
    }
}

/* ------------------------------------------------------------------------------------------------------- SCRFD */

/* Channels: [2 class | 2 x 4 distances | 2 x 10 keypoints], anchor by anchor; all in strides from the prior point. */
static void scrfd_cell(const picture *p, const cell *c) {
    const det_decode_params *d = p->params;
    float scale = d->scales[c->level] ? d->scales[c->level]->values[0] : 1;
    for (int anchor = 0; anchor < d->n_anchors; anchor++) {
        float logit = c->x[anchor];
        if (!(logit > p->limits->class_logits[0]))
            continue;
        const float *box = c->x + d->n_anchors + 4 * anchor, *points = c->x + 5 * d->n_anchors + 10 * anchor;
        float s = scale * c->stride;
        det_candidate candidate = {.x1 = c->px - box[0] * s,
                                   .y1 = c->py - box[1] * s,
                                   .x2 = c->px + box[2] * s,
                                   .y2 = c->py + box[3] * s,
                                   .prior = c->prior + anchor};
        for (int i = 0; i < d->n_landmarks; i++) {
            candidate.landmarks[i][0] = c->px + points[2 * i] * c->stride;
            candidate.landmarks[i][1] = c->py + points[2 * i + 1] * c->stride;
        }
        offer(p, &candidate, 0, sigmoid(logit));
    }
}

/* -------------------------------------------------------------------------------------------------------- DFL */

/* Expectation of a softmax over bins 0 .. n - 1. */
static float expectation(const float *x, int n, float scale) {
    float highest = max_value(x, n) * scale, sum = 0, weighted = 0;
    for (int i = 0; i < n; i++) {
        float e = expf(x[i] * scale - highest);
        sum += e;
        weighted += e * (float)i;
    }
    return weighted / sum;
}

/* Channels: 4 sides of n_bins each, in one tensor; classes in the other. */
static void dfl_cell(const picture *p, const cell *c) {
    const det_decode_params *d = p->params;
    float scale = d->scales[c->level] ? d->scales[c->level]->values[0] : 1, sides[4];
    for (int i = 0; i < 4; i++)
        sides[i] = expectation(c->x + i * d->n_bins, d->n_bins, scale) * c->stride;
    det_candidate candidate = {.x1 = c->px - sides[0],
                               .y1 = c->py - sides[1],
                               .x2 = c->px + sides[2],
                               .y2 = c->py + sides[3],
                               .prior = c->prior};
    offer_classes(p, &candidate, c->classes, 1);
}

/* ------------------------------------------------------------------------------------------------------- YOLOv5 */

/* Channels: for each anchor x, y, w, h, objectness, classes. Anchors are outermost among a level's priors. */
static void yolov5_cell(const picture *p, const cell *c, int n_cells, float lowest) {
    const det_decode_params *d = p->params;
    for (int anchor = 0; anchor < d->n_anchors; anchor++) {
        const float *x = c->x + anchor * (5 + d->n_classes);
        if (!(x[4] > lowest)) /* score = objectness * class <= objectness */
            continue;
        const float *size = d->anchors->values + 2 * (c->level * d->n_anchors + anchor);
        float cx = c->px + (2 * sigmoid(x[0]) - 0.5f) * c->stride, cy = c->py + (2 * sigmoid(x[1]) - 0.5f) * c->stride;
        float w = 2 * sigmoid(x[2]), h = 2 * sigmoid(x[3]);
        w = w * w * size[0] * c->stride;
        h = h * h * size[1] * c->stride;
        det_candidate candidate = {.x1 = cx - w / 2,
                                   .y1 = cy - h / 2,
                                   .x2 = cx + w / 2,
                                   .y2 = cy + h / 2,
                                   .prior = c->prior + anchor * n_cells};
        offer_classes(p, &candidate, x + 5, sigmoid(x[4]));
    }
}

/* ------------------------------------------------------------------------------------------------------- kernels */

static void decode_level(const picture *p, int level, int inputs_per_level, int prior, float lowest) {
    const det_step *step = p->step;
    const det_decode_params *d = p->params;
    int first = level * inputs_per_level;
    det_shape s = step->input_shapes[first];
    int n_classes_channels = inputs_per_level > 1 ? step->input_shapes[first + 1].c : 0;
    cell c = {
        .x = det_cpu_picture(step->inputs[first], s, p->index), .stride = (float)d->strides[level], .level = level};
    c.classes = n_classes_channels ? det_cpu_picture(step->inputs[first + 1], step->input_shapes[first + 1], p->index) : c.x;
    for (int i = 0; i < s.h; i++) {
        for (int j = 0; j < s.w; j++, c.x += s.c, c.classes += n_classes_channels) {
            int index = i * s.w + j;
            c.px = ((float)j + d->cell_offset) * c.stride;
            c.py = ((float)i + d->cell_offset) * c.stride;
            if (step->node->op == DET_OP_DECODE_SCRFD) {
                c.prior = prior + index * d->n_anchors;
                scrfd_cell(p, &c);
            } else if (step->node->op == DET_OP_DECODE_DFL) {
                c.prior = prior + index;
                if (max_value(c.classes, d->n_classes) > lowest)
                    dfl_cell(p, &c);
            } else {
                c.prior = prior + index;
                yolov5_cell(p, &c, s.h * s.w, lowest);
            }
        }
    }
}

typedef struct decode_task {
    const det_step *step;
    const det_frame *frame;
} decode_task;

static void decode_picture(void *context, int index, int thread) {
    const decode_task *t = context;
    (void)thread;
    const decode_state *state = t->step->state;
    picture p = {.step = t->step,
                 .params = &t->step->node->u.decode,
                 .limits = t->frame->limits,
                 .list = det_candidates_of(t->step->output, state->max_candidates, index),
                 .index = index,
                 .max_candidates = state->max_candidates};
    p.list->n = p.list->cut = 0;
    int prior = 0, inputs_per_level = t->step->node->n_inputs / p.params->n_levels;
    float lowest = lowest_logit(&p);
    for (int level = 0; level < p.params->n_levels; level++) {
        det_shape s = t->step->input_shapes[level * inputs_per_level];
        decode_level(&p, level, inputs_per_level, prior, lowest);
        prior += s.h * s.w * p.params->n_anchors;
    }
}

static det_status prepare(det_device *device, det_step *step, const det_plan_facts *facts) {
    (void)device;
    decode_state *state = det_alloc_array(1, sizeof *state);
    if (!state)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = state;
    state->max_candidates = facts->max_candidates;
    return DET_OK;
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    (void)stream;
    decode_task t = {step, frame};
    det_threads_run(device->threads, frame->n, decode_picture, &t);
    return DET_OK;
}

const det_kernel det_cpu_decode_scrfd = {.prepare = prepare, .run = run, .release = det_cpu_free_state};
const det_kernel det_cpu_decode_dfl = {.prepare = prepare, .run = run, .release = det_cpu_free_state};
const det_kernel det_cpu_decode_yolov5 = {.prepare = prepare, .run = run, .release = det_cpu_free_state};
