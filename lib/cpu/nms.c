/* Candidates -> objects, in pixels of the caller's pictures. One task per picture. */
#include "candidates.h"
#include "cpu.h"

typedef struct nms_state {
    int max_candidates, n_landmarks;
    bool clip;
} nms_state;

typedef struct nms_task {
    const det_step *step;
    const det_frame *frame;
} nms_task;

static float clip(float x, float high) {
    return x < 0 ? 0 : x > high ? high : x;
}

static det_object to_object(const det_candidate *c, const det_placement *p, const det_image *image, bool clipped,
                            int n_landmarks) {
    float fx = 1 / p->scale_x, fy = 1 / p->scale_y;
    det_object o = {.x1 = (c->x1 - p->offset_x) * fx,
                    .y1 = (c->y1 - p->offset_y) * fy,
                    .x2 = (c->x2 - p->offset_x) * fx,
                    .y2 = (c->y2 - p->offset_y) * fy,
                    .score = c->score,
                    .class_id = c->class_id};
    if (clipped) {
        o.x1 = clip(o.x1, (float)image->width);
        o.x2 = clip(o.x2, (float)image->width);
        o.y1 = clip(o.y1, (float)image->height);
        o.y2 = clip(o.y2, (float)image->height);
    }
    for (int i = 0; i < n_landmarks; i++) {
        o.landmarks[i][0] = (c->landmarks[i][0] - p->offset_x) * fx;
        o.landmarks[i][1] = (c->landmarks[i][1] - p->offset_y) * fy;
    }
    return o;
}

static void nms_picture(void *context, int index, int thread) {
    const nms_task *t = context;
    const nms_state *state = t->step->state;
    const det_output *output = t->frame->output;
    const det_limits *limits = t->frame->limits;
    det_candidate_list *list = det_candidates_of(t->step->inputs[0], state->max_candidates, index);
    int *kept = (int *)t->step->workspace + (size_t)thread * state->max_candidates;
    bool more;
    det_candidates_sort(list);
    int n = det_candidates_nms(list, limits->iou, limits->class_agnostic,
                               DET_MIN(limits->max_objects, output->max_objects), kept, &more);
    det_object *objects = output->objects + (size_t)index * (size_t)output->max_objects;
    for (int i = 0; i < n; i++)
        objects[i] = to_object(&list->items[kept[i]], &t->frame->placements[index], &t->frame->images[index],
                               state->clip, state->n_landmarks);
    output->counts[index] = n;
    if (output->cuts)
        output->cuts[index] = (more ? DET_CUT_OBJECTS : 0) | (list->cut ? DET_CUT_CANDIDATES : 0);
}

static det_status prepare(det_device *device, det_step *step, const det_plan_facts *facts) {
    nms_state *state = det_alloc_array(1, sizeof *state);
    if (!state)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = state;
    state->max_candidates = facts->max_candidates;
    state->n_landmarks = facts->model->n_landmarks;
    state->clip = facts->clip;
    step->workspace_bytes = (size_t)facts->max_candidates * sizeof(int) * (size_t)det_threads_count(device->threads);
    return DET_OK;
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame, det_stream stream) {
    (void)stream;
    nms_task t = {step, frame};
    det_threads_run(device->threads, frame->n, nms_picture, &t);
    return DET_OK;
}

const det_kernel det_cpu_nms = {.prepare = prepare, .run = run, .release = det_cpu_free_state};
