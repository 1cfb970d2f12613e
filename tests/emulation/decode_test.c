/* The kernels that decode, against the textbook on the same elements: every list complete, in order and cut where it
 * must be, the same bytes whatever the order of blocks and threads. */
#include "emulation.h"

#include "check.h"
#include "cpu/candidates.h"
#include "oracle.h"
#include "random.h"

#include <math.h>

enum { BATCH = 3, MOST_CLASSES = 128 };

typedef struct row {
    const char *what;
    det_head head;
    int h, w; /* of the finest level; the others are half and a quarter */
    int n_classes, n_anchors, n_bins, n_landmarks;
    bool scaled, multi_label;
    float threshold;
    int max_candidates;
    float low, high; /* of the logits; 0, 0: -2 to 2 */
    bool cut;        /* what must come of it */
    int n_pictures;  /* 0: all */
    int n_levels;    /* 0: 3 */
} row;

#define SCRFD(what, ...)                                                                                               \
    { what, DET_HEAD_SCRFD, .n_classes = 1, __VA_ARGS__ }
#define DFL(what, ...)                                                                                                 \
    { what, DET_HEAD_DFL, .n_anchors = 1, __VA_ARGS__ }
#define YOLOV5(what, ...)                                                                                              \
    { what, DET_HEAD_YOLOV5, .n_anchors = 3, __VA_ARGS__ }

static const row rows[] = {
    SCRFD("one cell", .h = 1, .w = 1, .n_anchors = 2, .max_candidates = 8),
    SCRFD("with keypoints", .h = 17, .w = 15, .n_anchors = 2, .n_landmarks = 5, .threshold = 0.5f, .max_candidates = 512),
    SCRFD("scaled, a picture missing", .h = 9, .w = 4, .n_anchors = 2, .n_landmarks = 5, .scaled = true, .threshold = 0.3f, .max_candidates = 256, .n_pictures = 2),
    SCRFD("few of many", .h = 40, .w = 30, .n_anchors = 2, .threshold = 0.87f, .max_candidates = 4096),
    SCRFD("cut", .h = 9, .w = 12, .n_anchors = 2, .threshold = 0.2f, .max_candidates = 17, .cut = true),
    SCRFD("no candidates", .h = 9, .w = 12, .n_anchors = 2, .threshold = 0.95f, .max_candidates = 17),
    SCRFD("one anchor, two levels", .h = 20, .w = 11, .n_anchors = 1, .threshold = 0.6f, .max_candidates = 300, .n_levels = 2),

    DFL("one cell", .h = 1, .w = 1, .n_classes = 1, .n_bins = 16, .max_candidates = 4),
    DFL("best class", .h = 13, .w = 9, .n_classes = 17, .n_bins = 16, .threshold = 0.7f, .max_candidates = 256),
    DFL("best of 80", .h = 12, .w = 11, .n_classes = 80, .n_bins = 16, .threshold = 0.87f, .max_candidates = 300),
    DFL("every class, scaled", .h = 6, .w = 5, .n_classes = 5, .n_bins = 17, .scaled = true, .multi_label = true, .threshold = 0.4f, .max_candidates = 512),
    DFL("eight bins, cut", .h = 9, .w = 7, .n_classes = 3, .n_bins = 8, .multi_label = true, .max_candidates = 33, .cut = true),
    DFL("hundreds", .h = 12, .w = 12, .n_classes = 8, .n_bins = 16, .multi_label = true, .threshold = 0.5f, .max_candidates = 4096),
    DFL("hundreds, cut", .h = 16, .w = 12, .n_classes = 8, .n_bins = 16, .multi_label = true, .threshold = 0.3f, .max_candidates = 500, .cut = true),
    DFL("thousands to few", .h = 17, .w = 16, .n_classes = 24, .n_bins = 4, .multi_label = true, .threshold = 0.15f, .max_candidates = 100, .cut = true),
    DFL("thousands to thousands", .h = 17, .w = 16, .n_classes = 24, .n_bins = 4, .multi_label = true, .threshold = 0.15f, .max_candidates = 5000, .cut = true),
    DFL("thousands, all", .h = 17, .w = 16, .n_classes = 24, .n_bins = 4, .multi_label = true, .threshold = 0.15f, .max_candidates = 9000),
    DFL("all alike", .h = 16, .w = 9, .n_classes = 40, .n_bins = 4, .multi_label = true, .threshold = 0.15f, .max_candidates = 4096, .low = 1.25f, .high = 1.25f, .cut = true),
    DFL("nothing", .h = 5, .w = 5, .n_classes = 9, .n_bins = 16, .threshold = 0.9f, .max_candidates = 300),

    YOLOV5("one cell", .h = 1, .w = 1, .n_classes = 1, .max_candidates = 16),
    YOLOV5("best class", .h = 9, .w = 7, .n_classes = 17, .threshold = 0.4f, .max_candidates = 512),
    YOLOV5("best of 80", .h = 6, .w = 5, .n_classes = 80, .threshold = 0.6f, .max_candidates = 300),
    YOLOV5("every class", .h = 4, .w = 3, .n_classes = 4, .multi_label = true, .threshold = 0.25f, .max_candidates = 512),
    YOLOV5("cut", .h = 5, .w = 3, .n_classes = 3, .multi_label = true, .threshold = 0.1f, .max_candidates = 9, .cut = true),
    YOLOV5("nothing", .h = 5, .w = 3, .n_classes = 3, .multi_label = true, .threshold = 0.9f, .max_candidates = 9),
};

/* A network's end on the emulated device, and the same elements as the oracle wants them. */
typedef struct rig {
    const row *row;
    det_type type;
    int n_levels, n_pictures, n_memories;
    det_decode_args args;
    det_block block;
    void *memories[16];
    float class_scores[MOST_CLASSES], class_logits[MOST_CLASSES];

    det_node node;
    det_step step;
    det_weight scales[3], anchors;
    float scale_values[3], anchor_values[3 * 4 * 2];
} rig;

static void *take(rig *r, size_t n_bytes) {
    return r->memories[r->n_memories++] = emulation_memory(n_bytes);
}

static int side(int n, int level) {
    return (n + (1 << level) - 1) >> level;
}

/* Random elements for the device, `slack` of them between pixels, from `offset` on; dense floats for the oracle. */
static det_view fill_tensor(rig *r, uint64_t *state, int level, int input, int c, int slack, int offset) {
    const row *w = r->row;
    float low = w->low != 0 || w->high != 0 ? w->low : -2, high = w->low != 0 || w->high != 0 ? w->high : 2;
    det_view v = {.n = BATCH, .h = side(w->h, level), .w = side(w->w, level), .c = c, .stride = c + slack};
    size_t pixels = (size_t)(v.n * v.h * v.w), element = emulation_element_bytes(r->type);
    char *memory = take(r, ((size_t)offset + pixels * (size_t)v.stride) * element);
    float *dense = malloc(pixels * (size_t)c * sizeof *dense);
    v.data = memory + (size_t)offset * element;
    for (size_t i = 0; i < pixels; i++) {
        float x[512];
        char *at = (char *)v.data + i * (size_t)v.stride * element;
        for (int k = 0; k < c; k++)
            x[k] = random_in(state, low, high);
        emulation_to_elements(r->type, x, at, (size_t)c);
        emulation_from_elements(r->type, at, dense + i * (size_t)c, (size_t)c);
    }
    r->step.inputs[input] = dense;
    r->step.input_shapes[input] = (det_shape){v.n, v.h, v.w, c};
    return v;
}

static void fill_levels(rig *r, uint64_t *state) {
    const row *w = r->row;
    int per_level = w->head == DET_HEAD_DFL ? 2 : 1;
    int c = w->head == DET_HEAD_YOLOV5 ? w->n_anchors * (5 + w->n_classes)
            : w->head == DET_HEAD_DFL  ? 4 * w->n_bins
                                       : w->n_anchors * (5 + 2 * w->n_landmarks);
    r->node.n_inputs = r->n_levels * per_level;
    for (int i = 0; i < r->n_levels; i++) {
        det_decode_level *l = &r->args.levels[i];
        l->x = fill_tensor(r, state, i, i * per_level, c, i == 1 ? 3 : 0, i == 1 ? 5 : 0);
        if (per_level == 2) /* aligned in one level, not in the next */
            l->classes = fill_tensor(r, state, i, 2 * i + 1, w->n_classes, i == 1 ? 1 : (16 - w->n_classes % 16) % 16,
                                     i == 1 ? 1 : 0);
        l->stride = r->node.u.decode.strides[i] = 8 << i;
        l->scale = 1;
        if (w->scaled)
            l->scale = r->scale_values[i] = random_in(state, 0.5f, 1.5f);
        r->scales[i].values = &r->scale_values[i];
        r->node.u.decode.scales[i] = w->scaled ? &r->scales[i] : NULL;
        for (int k = 0; k < 2 * w->n_anchors; k++) {
            float size = random_in(state, 0.5f, 4);
            (&l->anchors[0][0])[k] = r->anchor_values[2 * w->n_anchors * i + k] = size;
        }
    }
}

/* The row's threshold for every class; with several, one class is off and one has its own. */
static void set_limits(rig *r) {
    r->block.lowest_logit = INFINITY;
    for (int i = 0; i < r->row->n_classes; i++) {
        float s = r->row->n_classes > 2 && i == 1 ? 2 : r->row->n_classes > 2 && i == 2 ? 0.75f : r->row->threshold;
        r->class_scores[i] = s;
        r->class_logits[i] = s <= 0 ? -INFINITY : s >= 1 ? INFINITY : logf(s / (1 - s)) - 0.1f;
        r->block.lowest_logit = fminf(r->block.lowest_logit, r->class_logits[i]);
    }
    r->block.class_scores = r->class_scores;
    r->block.class_logits = r->class_logits;
    r->block.multi_label = r->row->multi_label;
    r->block.n = r->n_pictures;
}

static void rig_open(rig *r, const row *w, det_type type) {
    static const det_op ops[] = {[DET_HEAD_SCRFD] = DET_OP_DECODE_SCRFD,
                                 [DET_HEAD_DFL] = DET_OP_DECODE_DFL,
                                 [DET_HEAD_YOLOV5] = DET_OP_DECODE_YOLOV5};
    *r = (rig){.row = w,
               .type = type,
               .n_levels = w->n_levels ? w->n_levels : 3,
               .n_pictures = w->n_pictures ? w->n_pictures : BATCH};
    uint64_t state = random_from(w->what) + type;
    float offset = w->head == DET_HEAD_SCRFD ? 0 : 0.5f;
    r->args = (det_decode_args){.head = w->head,
                                .type = type,
                                .n_levels = r->n_levels,
                                .n_classes = w->n_classes,
                                .n_anchors = w->n_anchors,
                                .n_bins = w->n_bins,
                                .n_landmarks = w->n_landmarks,
                                .cell_offset = offset,
                                .max_candidates = w->max_candidates};
    r->node.op = ops[w->head];
    r->node.u.decode = (det_decode_params){.n_levels = r->n_levels,
                                           .n_classes = w->n_classes,
                                           .n_anchors = w->n_anchors,
                                           .cell_offset = offset,
                                           .n_bins = w->n_bins,
                                           .n_landmarks = w->n_landmarks,
                                           .anchors = &r->anchors};
    r->anchors.values = r->anchor_values;
    r->step.node = &r->node;
    fill_levels(r, &state);
    set_limits(r);
    r->args.lists = take(r, BATCH * det_list_bytes(w->max_candidates));
    r->args.workspace = take(r, det_decode_workspace(&r->args));
}

static void rig_close(rig *r) {
    for (int i = 0; i < r->n_memories; i++) {
        CHECK(emulation_memory_intact(r->memories[i]));
        emulation_memory_free(r->memories[i]);
    }
    for (int i = 0; i < r->node.n_inputs; i++)
        free(r->step.inputs[i]);
}

static void run(rig *r, unsigned order) {
    emulation_set_order(order);
    memset(r->args.lists, 0xff, BATCH * det_list_bytes(r->args.max_candidates));
    CHECK(det_launch_decode(&r->args, &r->block, NULL) == cudaSuccess);
}

static double worst_of(double worst, double a, double b, double unit) {
    double difference = fabs(a - b) / unit;
    return difference <= worst ? worst : difference;
}

/* Largest difference of a candidate from the oracle's box: pixels of 100, scores. */
static double box_error(const det_candidate *ours, const oracle_box *theirs) {
    double worst = worst_of(0, ours->x1, theirs->x1, 100);
    worst = worst_of(worst, ours->y1, theirs->y1, 100);
    worst = worst_of(worst, ours->x2, theirs->x2, 100);
    worst = worst_of(worst, ours->y2, theirs->y2, 100);
    for (int i = 0; i < 10; i++)
        worst = worst_of(worst, (&ours->landmarks[0][0])[i], (&theirs->landmarks[0][0])[i], 100);
    return worst_of(worst, ours->score, theirs->score, 1);
}

/* The best of the oracle's boxes must be there, in order. Scores that differ by a rounding may trade places, so the list
 * of scores is compared, and each box with the oracle's of the same prior and class. */
static void check_list(const rig *r, int picture) {
    const row *w = r->row;
    const det_candidate_list *list = det_candidates_of(r->args.lists, w->max_candidates, picture);
    if (picture >= r->n_pictures) {
        for (size_t i = 0; i < det_list_bytes(w->max_candidates); i++)
            CHECK(((const uint8_t *)list)[i] == 0xff);
        return;
    }
    det_limits limits = {.multi_label = w->multi_label,
                         .class_scores = (float *)r->class_scores,
                         .class_logits = (float *)r->class_logits};
    int n;
    oracle_box *theirs = oracle_decode(&r->step, picture, &limits, &n);
    CHECK_MSG(list->n == DET_MIN(n, w->max_candidates) && list->cut == (n > w->max_candidates) && list->cut == w->cut,
              "%s, type %d: %d candidates, cut %d; the oracle has %d", w->what, (int)r->type, list->n, list->cut, n);
    double worst = 0;
    int *where = calloc((size_t)(1 << 20), sizeof *where); /* by prior and class: index + 1 */
    for (int i = 0; i < n; i++)
        where[theirs[i].prior * w->n_classes + theirs[i].class_id] = i + 1;
    for (int i = 0; i < list->n && i < n; i++) {
        const det_candidate *c = &list->items[i];
        int at = where[c->prior * w->n_classes + c->class_id] - 1;
        where[c->prior * w->n_classes + c->class_id] = 0; /* each once */
        worst =
            at < 0 ? HUGE_VAL : fmax(worst, fmax(box_error(c, &theirs[at]), fabs((double)c->score - theirs[i].score)));
        CHECK(i == 0 || det_candidate_better(c - 1, c));
    }
    CHECK_MSG(worst <= 1e-5, "%s, type %d, picture %d: off by %g", w->what, (int)r->type, picture, worst);
    free(where);
    free(theirs);
}

static void test_row(const row *w, det_type type) {
    rig r;
    rig_open(&r, w, type);
    size_t n_bytes = BATCH * det_list_bytes(w->max_candidates);
    void *first = malloc(n_bytes);
    run(&r, 0);
    memcpy(first, r.args.lists, n_bytes);
    for (int i = 0; i < BATCH; i++)
        check_list(&r, i);
    unsigned order = type == DET_TYPE_F32 ? 1 : 2;
    run(&r, order);
    CHECK_MSG(memcmp(first, r.args.lists, n_bytes) == 0, "%s, type %d: order %u", w->what, (int)type, order);
    CHECK(emulation_launches() == 4);
    free(first);
    rig_close(&r);
}

/* Replaces every tenth logit of a head by what is no number or has no end. */
static void spoil(rig *r, int n_values) {
    static const float strange[] = {NAN, INFINITY, -INFINITY, -NAN};
    char *data = r->row->head == DET_HEAD_DFL ? r->args.levels[0].classes.data : r->args.levels[0].x.data;
    for (int i = 0; i < n_values; i += 10)
        emulation_to_elements(r->type, &strange[i / 10 % 4], data + (size_t)i * emulation_element_bytes(r->type), 1);
}

/* Nothing hangs, no score is NaN, the order holds, and an infinite logit is certain. */
static void test_strange_logits(const row *w) {
    for (int type = DET_TYPE_F32; type <= DET_TYPE_BF16; type++) {
        rig r;
        int n_certain = 0;
        rig_open(&r, w, (det_type)type);
        spoil(&r, w->h * w->w * 5);
        run(&r, 0);
        const det_candidate_list *list = det_candidates_of(r.args.lists, w->max_candidates, 0);
        CHECK(list->n > 0 && list->n <= w->max_candidates);
        for (int i = 0; i < list->n; i++) {
            const det_candidate *c = &list->items[i];
            CHECK_MSG(c->score > r.class_scores[c->class_id] && c->score <= 1, "%s: score %g", w->what,
                      (double)c->score);
            CHECK(i == 0 || det_candidate_better(c - 1, c));
            n_certain += c->score == 1;
        }
        CHECK(n_certain > 0 || w->head == DET_HEAD_YOLOV5);
        rig_close(&r);
    }
}

static void test_arguments(void) {
    rig r;
    rig_open(&r, &rows[0], DET_TYPE_F32);
    det_decode_args args = r.args;
    args.max_candidates = 0;
    CHECK(det_launch_decode(&args, &r.block, NULL) == cudaErrorInvalidValue && det_decode_workspace(&args) == 0);
    args = r.args;
    args.n_levels = 4;
    CHECK(det_launch_decode(&args, &r.block, NULL) == cudaErrorInvalidValue);
    args = r.args;
    args.levels[1].x.c--;
    CHECK(det_launch_decode(&args, &r.block, NULL) == cudaErrorInvalidValue);
    args = r.args;
    args.n_classes = 2; /* SCRFD knows one */
    CHECK(det_launch_decode(&args, &r.block, NULL) == cudaErrorInvalidValue);
    args = r.args;
    args.workspace = NULL;
    CHECK(det_launch_decode(&args, &r.block, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_decode(&r.args, NULL, NULL) == cudaErrorInvalidValue);
    rig_close(&r);
}

int main(void) {
    for (size_t i = 0; i < DET_COUNT(rows); i++) {
        test_row(&rows[i], DET_TYPE_F32);
        test_row(&rows[i], i % 2 ? DET_TYPE_F16 : DET_TYPE_BF16);
    }
    static const row strange[] = {
        SCRFD("strange SCRFD", .h = 19, .w = 12, .n_anchors = 2, .threshold = 0.4f, .max_candidates = 300),
        DFL("strange DFL", .h = 19, .w = 12, .n_classes = 5, .n_bins = 16, .threshold = 0.4f, .max_candidates = 300),
        DFL("strange DFL, every class", .h = 19, .w = 12, .n_classes = 5, .n_bins = 16, .multi_label = true,
            .threshold = 0.4f, .max_candidates = 3000),
        YOLOV5("strange YOLOv5", .h = 19, .w = 12, .n_classes = 4, .threshold = 0.3f, .max_candidates = 300),
    };
    for (size_t i = 0; i < DET_COUNT(strange); i++)
        test_strange_logits(&strange[i]);
    test_arguments();
    const char *failure = emulation_failure();
    CHECK_MSG(!failure, "%s", failure);
    return check_report("decode");
}
