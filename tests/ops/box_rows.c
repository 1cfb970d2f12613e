/* Rows for the decoders and for NMS. */
#include "rig.h"

#include "check.h"
#include "cpu/candidates.h"
#include "oracle.h"
#include "random.h"

#include <math.h>

/* ------------------------------------------------------------------------------------------------ heads -> candidates */

static det_decode_params params_of(const op_row *row) {
    return (det_decode_params){.n_levels = DET_N_LEVELS,
                               .n_classes = DET_MAX(1, row->n_classes),
                               .strides = {8, 16, 32},
                               .n_anchors = DET_MAX(1, row->n_anchors),
                               .n_bins = row->n_bins,
                               .n_landmarks = row->n_landmarks};
}

/* Declares the levels' factors when the row wants them, and binds them. */
static void bind_scales(rig *r, det_decode_params *d, bool declare) {
    for (int i = 0; r->row->scaled && i < DET_N_LEVELS; i++) {
        det_name_text name = det_name("scales.%d", i);
        if (declare)
            rig_weight(r, name.text, NULL, 0, 0.5f, 1.5f);
        else
            d->scales[i] = det_param(rig_net(r), name.text, NULL, 0);
    }
}

/* The heads of level i are h x w, halved i times and rounded up. */
static int side(int n, int level) {
    return (n + (1 << level) - 1) >> level;
}

static void emit_decode(rig *r, const op_row *row) {
    det_decode_params d = params_of(row);
    int per_level = row->op == DET_OP_DECODE_DFL ? 2 : 1;
    int c = row->op == DET_OP_DECODE_YOLOV5 ? d.n_anchors * (5 + d.n_classes)
            : row->op == DET_OP_DECODE_DFL  ? 4 * d.n_bins
                                            : d.n_anchors * (1 + 4 + 2 * d.n_landmarks);
    bind_scales(r, &d, true);
    if (row->op == DET_OP_DECODE_YOLOV5)
        rig_weight(r, "anchors", (int64_t[]){DET_N_LEVELS, d.n_anchors, 2}, 3, 0.5f, 4);
    bind_scales(r, &d, false);
    if (row->op == DET_OP_DECODE_YOLOV5)
        d.anchors = det_param(rig_net(r), "anchors", (int64_t[]){DET_N_LEVELS, d.n_anchors, 2}, 3);
    d.cell_offset = row->op == DET_OP_DECODE_DFL ? 0.5f : 0;
    det_tensor_id heads[DET_MAX_INPUTS];
    for (int i = 0; i < DET_N_LEVELS; i++) {
        heads[i * per_level] = rig_input(r, side(row->h, i), side(row->w, i), c);
        if (per_level == 2)
            heads[i * per_level + 1] = rig_input(r, side(row->h, i), side(row->w, i), d.n_classes);
    }
    det_decode(rig_net(r), row->op, heads, per_level, d);
}

/* The row's threshold for every class; with several, one class is off and one has its own. */
static void set_limits(rig *r, const op_row *row) {
    int n = r->weights.weights.info.n_classes;
    det_limits *l = &r->limits;
    l->iou = row->iou;
    l->class_agnostic = row->class_agnostic;
    l->multi_label = row->multi_label;
    l->max_objects = row->max_objects;
    if (!l->class_scores) {
        l->class_scores = calloc((size_t)n, sizeof(float));
        l->class_logits = calloc((size_t)n, sizeof(float));
    }
    for (int i = 0; i < n; i++) {
        l->class_scores[i] = n > 2 && i == 1 ? 2 : n > 2 && i == 2 ? 0.75f : row->threshold;
        float s = l->class_scores[i];
        l->class_logits[i] = s <= 0 ? -INFINITY : s >= 1 ? INFINITY : logf(s / (1 - s)) - 0.1f;
    }
}

static void fill_decode(rig *r, const op_row *row) {
    rig_fill_tensors(r, row);
    set_limits(r, row);
}

static double worst_of(double worst, double a, double b, double unit) {
    double difference = fabs(a - b) / unit;
    return difference <= worst ? worst : difference;
}

/* Largest difference of a candidate from the oracle's box of the same prior and class: pixels of 100, scores. */
static double box_error(const det_candidate *ours, const oracle_box *theirs) {
    double worst = worst_of(0, ours->x1, theirs->x1, 100);
    worst = worst_of(worst, ours->y1, theirs->y1, 100);
    worst = worst_of(worst, ours->x2, theirs->x2, 100);
    worst = worst_of(worst, ours->y2, theirs->y2, 100);
    for (int i = 0; i < 10; i++)
        worst = worst_of(worst, (&ours->landmarks[0][0])[i], (&theirs->landmarks[0][0])[i], 100);
    return worst_of(worst, ours->score, theirs->score, 1);
}

/* The best max_candidates of the oracle's boxes, each once, must be there. Scores that differ by a rounding may trade
 * places at the cut, so the list of scores is compared, and each box with the oracle's of the same name. */
static double list_error(const rig *r, int picture) {
    int n_theirs, max = r->row->max_candidates;
    det_step question = rig_question(r);
    oracle_box *theirs = oracle_decode(&question, picture, &r->limits, &n_theirs);
    const det_candidate_list *list = det_candidates_of(r->step->output, max, picture);
    bool same_form = list->n == DET_MIN(n_theirs, max) && list->cut == (n_theirs > max) && list->cut == r->row->cut;
    double worst = same_form && n_theirs > 0 ? 0 : HUGE_VAL;
    det_candidate_list *sorted = malloc(sizeof *list + (size_t)max * sizeof list->items[0]);
    memcpy(sorted, list, sizeof *list + (size_t)list->n * sizeof list->items[0]);
    if (r->on_host) /* a heap; other devices hand over the best first */
        det_candidates_sort(sorted);
    for (int i = 0; i < list->n && same_form; i++) {
        const det_candidate *ours = &sorted->items[i];
        double error = HUGE_VAL;
        for (int j = 0; j < n_theirs; j++) {
            if (theirs[j].prior == ours->prior && theirs[j].class_id == ours->class_id) {
                error = box_error(ours, &theirs[j]);
                theirs[j].prior = -1; /* found */
            }
        }
        worst = fmax(worst, fmax(error, fabs((double)ours->score - theirs[i].score)));
    }
    free(sorted);
    free(theirs);
    return worst;
}

static double decode_error(const rig *r) {
    double worst = 0;
    for (int i = 0; i < r->batch; i++)
        worst = fmax(worst, list_error(r, i));
    return worst;
}

/* --------------------------------------------------------------------------------------------- candidates -> objects */

/* NMS comes with a decoder; a small one, whose heads are never read. */
static void emit_nms(rig *r, const op_row *row) {
    det_decode_params d = params_of(row);
    d.n_levels = 1;
    d.n_anchors = 1;
    det_tensor_id head = rig_input(r, 1, 1, 1 + 4 + 2 * d.n_landmarks);
    rig_net(r)->clip = row->resize != DET_RESIZE_LETTERBOX_TOP;
    det_decode(rig_net(r), DET_OP_DECODE_SCRFD, &head, 1, d);
}

/* Boxes on whole pixels, so that their areas are exact, in clusters so that many overlap, with scores of few values. */
static void fill_nms(rig *r, const op_row *row) {
    set_limits(r, row);
    for (int i = 0; i < RIG_BATCH; i++) {
        r->images[i] = (det_image){.width = 70 + 10 * i, .height = 60};
        r->placements[i] = (det_placement){.scale_x = 0.5f, .scale_y = 0.75f, .offset_x = (float)(3 * i), .offset_y = 5};
    }
    uint64_t state = random_from(row->what);
    for (int i = 0; i < r->batch; i++) {
        det_candidate_list *list = det_candidates_of(r->step->inputs[0], row->max_candidates, i);
        list->n = list->cut = 0;
        for (int j = 0; j < row->k; j++) {
            int x = 16 * random_below(&state, 5) + random_below(&state, 4), y = 16 * random_below(&state, 5);
            det_candidate c = {.x1 = (float)x, .y1 = (float)y, .prior = j, .class_id = random_below(&state, DET_MAX(1, row->n_classes))};
            c.x2 = c.x1 + (float)(12 + random_below(&state, 6));
            c.y2 = c.y1 + (float)(12 + random_below(&state, 6));
            c.score = (float)(1 + random_below(&state, 16)) / 16;
            for (int k = 0; k < 10; k++)
                (&c.landmarks[0][0])[k] = (float)random_below(&state, 100);
            det_candidates_offer(list, row->max_candidates, &c);
        }
    }
}

static int best_first(const void *a, const void *b) {
    const oracle_box *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : x->prior - y->prior;
}

/* The oracle's answer for picture `index`: candidates as boxes, best first, and the indices of those kept. */
static int expected(const rig *r, int index, oracle_box *boxes, int *kept) {
    const det_candidate_list *list = det_candidates_of(r->inputs[0], r->row->max_candidates, index);
    for (int i = 0; i < list->n; i++) {
        const det_candidate *c = &list->items[i];
        boxes[i] = (oracle_box){c->x1, c->y1, c->x2, c->y2, c->score, c->class_id, c->prior, {{0}}};
        for (int k = 0; k < 10; k++)
            (&boxes[i].landmarks[0][0])[k] = (&c->landmarks[0][0])[k];
    }
    qsort(boxes, (size_t)list->n, sizeof *boxes, best_first);
    return oracle_nms(boxes, list->n, r->limits.iou, r->limits.class_agnostic, kept);
}

static double clipped(const rig *r, double x, int high) {
    return r->plan.net.clip ? fmin(fmax(x, 0), high) : x;
}

static double object_error(const rig *r, int index, const det_object *ours, const oracle_box *b) {
    const det_placement *p = &r->placements[index];
    const det_image *image = &r->images[index];
    const double ox = p->offset_x, oy = p->offset_y, sx = p->scale_x, sy = p->scale_y;
    double worst = worst_of(0, ours->x1, clipped(r, (b->x1 - ox) / sx, image->width), 100);
    worst = worst_of(worst, ours->y1, clipped(r, (b->y1 - oy) / sy, image->height), 100);
    worst = worst_of(worst, ours->x2, clipped(r, (b->x2 - ox) / sx, image->width), 100);
    worst = worst_of(worst, ours->y2, clipped(r, (b->y2 - oy) / sy, image->height), 100);
    for (int i = 0; i < 5; i++) {
        bool has = i < r->row->n_landmarks;
        worst = worst_of(worst, ours->landmarks[i][0], has ? (b->landmarks[i][0] - ox) / sx : 0, 100);
        worst = worst_of(worst, ours->landmarks[i][1], has ? (b->landmarks[i][1] - oy) / sy : 0, 100);
    }
    return ours->class_id == b->class_id ? worst_of(worst, ours->score, b->score, 1) : HUGE_VAL;
}

static double nms_error(const rig *r) {
    enum { MOST = 512 };
    static oracle_box boxes[MOST];
    static int kept[MOST];
    REQUIRE(r->row->max_candidates <= MOST, "%s", r->row->what);
    double worst = 0;
    for (int i = 0; i < r->batch; i++) {
        int n_kept = expected(r, i, boxes, kept), n_given = DET_MIN(n_kept, r->limits.max_objects);
        int cuts = (n_kept > n_given ? DET_CUT_OBJECTS : 0) | (r->row->k > r->row->max_candidates ? DET_CUT_CANDIDATES : 0);
        if (r->counts[i] != n_given || r->cuts[i] != cuts)
            return HUGE_VAL;
        for (int j = 0; j < n_given; j++)
            worst = fmax(worst, object_error(r, i, &r->output.objects[i * RIG_MAX_OBJECTS + j], &boxes[kept[j]]));
    }
    return worst;
}

#define DECODE(op, what, ...)                                                                                          \
    { op, what, 1e-5, emit_decode, fill_decode, decode_error, __VA_ARGS__ }
#define SCRFD(what, ...) DECODE(DET_OP_DECODE_SCRFD, what, __VA_ARGS__)
#define DFL(what, ...) DECODE(DET_OP_DECODE_DFL, what, __VA_ARGS__)
#define YOLOV5(what, ...) DECODE(DET_OP_DECODE_YOLOV5, what, __VA_ARGS__)
#define NMS(what, ...)                                                                                                 \
    { DET_OP_NMS, what, 1e-6, emit_nms, fill_nms, nms_error, __VA_ARGS__ }
#define TOP .resize = DET_RESIZE_LETTERBOX_TOP

const op_row box_rows[] = {
    SCRFD("one cell", .h = 1, .w = 1, .n_anchors = 2, .max_candidates = 8),
    SCRFD("with keypoints", .h = 7, .w = 5, .n_anchors = 2, .n_landmarks = 5, .threshold = 0.5f, .max_candidates = 256),
    SCRFD("scaled", .h = 9, .w = 4, .n_anchors = 2, .n_landmarks = 5, .scaled = true, .threshold = 0.3f, .max_candidates = 256),
    SCRFD("cut", .h = 9, .w = 12, .n_anchors = 2, .threshold = 0.2f, .max_candidates = 17, .cut = true),

    DFL("one cell", .h = 1, .w = 1, .n_classes = 1, .n_bins = 16, .max_candidates = 4),
    DFL("best class", .h = 7, .w = 5, .n_classes = 17, .n_bins = 16, .threshold = 0.7f, .max_candidates = 128),
    DFL("every class, scaled", .h = 6, .w = 5, .n_classes = 5, .n_bins = 17, .scaled = true, .multi_label = true, .threshold = 0.4f, .max_candidates = 512),
    DFL("eight bins, cut", .h = 9, .w = 7, .n_classes = 3, .n_bins = 8, .multi_label = true, .max_candidates = 33, .cut = true),

    YOLOV5("one cell", .h = 1, .w = 1, .n_classes = 1, .n_anchors = 3, .max_candidates = 16),
    YOLOV5("best class", .h = 5, .w = 7, .n_classes = 17, .n_anchors = 3, .threshold = 0.4f, .max_candidates = 256),
    YOLOV5("every class", .h = 4, .w = 3, .n_classes = 4, .n_anchors = 3, .multi_label = true, .threshold = 0.25f, .max_candidates = 512),
    YOLOV5("cut", .h = 5, .w = 3, .n_classes = 3, .n_anchors = 3, .multi_label = true, .threshold = 0.1f, .max_candidates = 9, .cut = true),

    NMS("nothing", .k = 0, .iou = 0.5f, .max_candidates = 4, .max_objects = 4),
    NMS("one class", .k = 100, .iou = 0.45f, .max_candidates = 128, .max_objects = 64),
    NMS("clipped classes", .k = 150, .n_classes = 3, .iou = 0.5f, .max_candidates = 256, .max_objects = 64),
    NMS("agnostic", .k = 150, .n_classes = 3, .iou = 0.3f, .class_agnostic = true, .max_candidates = 256, .max_objects = 64),
    NMS("with keypoints", .k = 60, .iou = 0.4f, .n_landmarks = 5, .max_candidates = 64, .max_objects = 64, TOP),
    NMS("more candidates than fit", .k = 90, .iou = 0.7f, .max_candidates = 31, .max_objects = 64, TOP),
    NMS("more objects than fit", .k = 100, .n_classes = 2, .iou = 0.7f, .max_candidates = 128, .max_objects = 7),
};
const int n_box_rows = DET_COUNT(box_rows);
