/* The NMS kernel against the CPU's NMS: the same objects to the bit, whatever the order of blocks and threads. */
#include "nms_rig.h"

#include "cpu/cpu.h"
#include "random.h"

#include <math.h>

typedef struct row {
    const char *what;
    int batch, n_pictures; /* of these, given */
    int max_candidates, counts[4];
    int n_classes, spread; /* boxes lie within spread x spread: the closer, the more overlap */
    float iou;
    bool class_agnostic, clip, cut, grid; /* grid: whole pixels and few scores, so that much is equal */
    int n_landmarks, max_objects, row_objects;
} row;

static const row rows[] = {
    {"nothing", 1, 1, 4, {0}, 1, 50, 0.5f, .max_objects = 4, .row_objects = 4},
    {"one", 1, 1, 1, {1}, 1, 50, 0.5f, .max_objects = 1, .row_objects = 1},
    {"of different lengths", 4, 4, 300, {63, 64, 65, 300}, 1, 200, 0.45f, .clip = true, .max_objects = 300, .row_objects = 300},
    {"one picture missing", 3, 2, 200, {129, 200, 7}, 3, 150, 0.5f, .max_objects = 200, .row_objects = 250},
    {"agnostic", 2, 2, 256, {256, 200}, 5, 200, 0.3f, .class_agnostic = true, .max_objects = 256, .row_objects = 256},
    {"landmarks", 2, 2, 128, {100, 128}, 1, 300, 0.4f, .n_landmarks = 5, .cut = true, .max_objects = 128, .row_objects = 128},
    {"few objects", 3, 3, 200, {200, 150, 100}, 2, 500, 0.6f, .max_objects = 7, .row_objects = 9},
    {"no objects", 2, 2, 64, {64, 0}, 1, 500, 0.6f, .max_objects = 0, .row_objects = 2},
    {"a row shorter than the limit", 1, 1, 64, {64}, 1, 900, 0.6f, .max_objects = 50, .row_objects = 5},
    {"the limit is just met", 1, 1, 10, {10}, 10, 9000, 0.9f, .max_objects = 10, .row_objects = 10},
    {"ties", 2, 2, 500, {500, 450}, 2, 24, 0.5f, .grid = true, .max_objects = 500, .row_objects = 500},
    {"all alike", 1, 1, 200, {200}, 1, 1, 0.5f, .grid = true, .max_objects = 10, .row_objects = 10},
    {"thousands", 1, 1, 3000, {3000}, 4, 2000, 0.6f, .max_objects = 3000, .row_objects = 3000},
    {"a crowd", 1, 1, 2500, {2500}, 1, 300, 0.5f, .max_objects = 2500, .row_objects = 2500},
    {"never equal", 1, 1, 100, {100}, 1, 10, 1.0f, .max_objects = 100, .row_objects = 100},
    {"IoU 0", 1, 1, 100, {100}, 1, 100, 0, .max_objects = 100, .row_objects = 100},
};

static float coordinate(uint64_t *state, const row *r) {
    return r->grid ? (float)random_below(state, r->spread) : random_in(state, 0, (float)r->spread);
}

static void fill(nms_rig *n, const row *r, det_picture *pictures) {
    uint64_t state = random_from(r->what);
    for (int i = 0; i < r->batch; i++) {
        det_candidate_list *list = nms_rig_list(n, i);
        list->n = list->cut = 0;
        for (int j = 0; j < r->counts[i]; j++) {
            det_candidate c = {
                .x1 = coordinate(&state, r), .y1 = coordinate(&state, r), .prior = random_below(&state, 1000)};
            c.x2 = c.x1 + (r->grid ? (float)(12 + random_below(&state, 2)) : random_in(&state, 1, 40));
            c.y2 = c.y1 + (r->grid ? (float)(12 + random_below(&state, 2)) : random_in(&state, 1, 40));
            c.score = r->grid ? (float)(1 + random_below(&state, 4)) / 4 : random_in(&state, 0.01f, 1);
            c.class_id = random_below(&state, r->n_classes);
            for (int k = 0; k < 10; k++)
                (&c.landmarks[0][0])[k] = random_in(&state, 0, 100);
            det_candidates_offer(list, r->max_candidates, &c);
        }
        list->cut = r->cut;
        det_candidates_sort(list);
        pictures[i] = (det_picture){.scale_x = 0.37f + (float)i,
                                    .scale_y = 0.75f,
                                    .offset_x = (float)(3 * i),
                                    .offset_y = 5.5f,
                                    .width = 120 + i,
                                    .height = 90};
    }
}

static float clip(float x, float high) {
    return x < 0 ? 0 : x > high ? high : x;
}

/* In the arithmetic of lib/cpu/nms.c. */
static det_object to_object(const det_candidate *c, const det_picture *p, const row *r) {
    float fx = 1 / p->scale_x, fy = 1 / p->scale_y, w = r->clip ? (float)p->width : INFINITY,
          h = r->clip ? (float)p->height : INFINITY;
    det_object o = {(c->x1 - p->offset_x) * fx,
                    (c->y1 - p->offset_y) * fy,
                    (c->x2 - p->offset_x) * fx,
                    (c->y2 - p->offset_y) * fy,
                    c->score,
                    c->class_id,
                    {{0}}};
    if (r->clip) {
        o.x1 = clip(o.x1, w);
        o.x2 = clip(o.x2, w);
        o.y1 = clip(o.y1, h);
        o.y2 = clip(o.y2, h);
    }
    for (int i = 0; i < r->n_landmarks; i++) {
        o.landmarks[i][0] = (c->landmarks[i][0] - p->offset_x) * fx;
        o.landmarks[i][1] = (c->landmarks[i][1] - p->offset_y) * fy;
    }
    return o;
}

static void check_picture(const row *r, const nms_rig *n, const det_picture *pictures, int i) {
    const det_candidate_list *list = nms_rig_list(n, i);
    const det_object *ours = n->block.objects + (size_t)i * (size_t)r->row_objects;
    if (i >= r->n_pictures) {
        CHECK(n->block.counts[i] == -1 && n->block.cuts[i] == -1);
        for (size_t k = 0; k < (size_t)r->row_objects * sizeof *ours; k++)
            CHECK(((const uint8_t *)ours)[k] == 0xff);
        return;
    }
    int *kept = malloc((size_t)(list->n + 1) * sizeof *kept);
    bool more;
    int n_kept =
        det_candidates_nms(list, r->iou, r->class_agnostic, DET_MIN(r->max_objects, r->row_objects), kept, &more);
    CHECK_MSG(n->block.counts[i] == n_kept, "%s: %d objects in picture %d, not %d", r->what, n->block.counts[i], i,
              n_kept);
    CHECK(n->block.cuts[i] == ((more ? DET_CUT_OBJECTS : 0) | (r->cut ? DET_CUT_CANDIDATES : 0)));
    for (int j = 0; j < n_kept; j++) {
        det_object theirs = to_object(&list->items[kept[j]], &pictures[i], r);
        CHECK_MSG(memcmp(&ours[j], &theirs, sizeof theirs) == 0, "%s: object %d of picture %d", r->what, j, i);
    }
    for (size_t k = (size_t)n_kept * sizeof *ours; k < (size_t)r->row_objects * sizeof *ours; k++)
        CHECK(((const uint8_t *)ours)[k] == 0xff); /* left alone */
    free(kept);
}

static void test_row(const row *r) {
    nms_rig n;
    det_picture pictures[4];
    nms_rig_open(&n, r->batch, r->max_candidates, r->row_objects);
    fill(&n, r, pictures);
    n.args.n_landmarks = r->n_landmarks;
    n.args.clip = r->clip;
    n.block.pictures = pictures;
    n.block.n = r->n_pictures;
    n.block.iou = r->iou;
    n.block.class_agnostic = r->class_agnostic;
    n.block.max_objects = r->max_objects;
    for (unsigned order = 0; order < 3; order++) {
        emulation_set_order(order);
        memset(n.block.objects, 0xff, (size_t)(r->batch * r->row_objects) * sizeof(det_object));
        CHECK(det_launch_nms(&n.args, &n.block, NULL) == cudaSuccess);
        for (int i = 0; i < r->batch; i++)
            check_picture(r, &n, pictures, i);
    }
    CHECK(emulation_launches() == 3);
    nms_rig_close(&n);
}

/* Boxes that are no boxes suppress nothing and stay; nobody hangs. No cuts are wanted here. */
static void test_strange_boxes(void) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0, 1e38f};
    nms_rig n;
    nms_rig_open(&n, 1, 125, 125);
    det_picture picture = {.scale_x = 1, .scale_y = 1, .width = 10, .height = 10};
    det_candidate_list *list = nms_rig_list(&n, 0);
    list->n = 125;
    list->cut = 0;
    for (int i = 0; i < 125; i++)
        list->items[i] = (det_candidate){
            .x1 = odd[i % 5], .y1 = odd[i / 5 % 5], .x2 = odd[i / 25], .y2 = 2, .score = 0.5f, .prior = i};
    int kept[125];
    bool more;
    int32_t *cuts = n.block.cuts;
    n.block.pictures = &picture;
    n.block.iou = 0.5f;
    n.block.cuts = NULL;
    CHECK(det_launch_nms(&n.args, &n.block, NULL) == cudaSuccess);
    CHECK(n.block.counts[0] == det_candidates_nms(list, 0.5f, false, 125, kept, &more));
    CHECK(cuts[0] == -1);
    n.block.cuts = cuts;
    nms_rig_close(&n);
}

/* IoU as the CPU rounds it. */
static float ratio(const det_candidate *a, const det_candidate *b) {
    float w = DET_MIN(a->x2, b->x2) - DET_MAX(a->x1, b->x1), h = DET_MIN(a->y2, b->y2) - DET_MAX(a->y1, b->y1),
          both = w * h;
    return both / ((a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - both);
}

/* Two boxes whose IoU is the threshold stay; a last bit less, and the second goes. */
static void test_threshold_to_the_bit(void) {
    nms_rig n;
    nms_rig_open(&n, 1, 2, 2);
    det_picture picture = {.scale_x = 1, .scale_y = 1, .width = 10, .height = 10};
    det_candidate_list *list = nms_rig_list(&n, 0);
    uint64_t state = random_from("threshold");
    list->n = 2;
    list->cut = 0;
    n.block.pictures = &picture;
    for (int i = 0; i < 200; i++) {
        for (int k = 0; k < 2; k++) {
            det_candidate *c = &list->items[k];
            *c = (det_candidate){
                .x1 = random_in(&state, 0, 3), .y1 = random_in(&state, 0, 3), .score = 0.5f, .prior = k};
            c->x2 = c->x1 + random_in(&state, 4, 90);
            c->y2 = c->y1 + random_in(&state, 4, 90);
        }
        for (int less = 0; less < 2; less++) {
            float iou = ratio(&list->items[1], &list->items[0]);
            n.block.iou = less ? nextafterf(iou, 0) : iou;
            CHECK(det_launch_nms(&n.args, &n.block, NULL) == cudaSuccess);
            CHECK(n.block.counts[0] == 2 - less);
        }
    }
    nms_rig_close(&n);
}

static void test_arguments(void) {
    nms_rig n;
    nms_rig_open(&n, 1, 4, 4);
    det_nms_args args = n.args;
    args.max_candidates = 65537;
    CHECK(det_launch_nms(&args, &n.block, NULL) == cudaErrorInvalidValue);
    args = n.args;
    args.lists = NULL;
    CHECK(det_launch_nms(&args, &n.block, NULL) == cudaErrorInvalidValue);
    args = n.args;
    args.n_landmarks = 6;
    CHECK(det_launch_nms(&args, &n.block, NULL) == cudaErrorInvalidValue);
    CHECK(det_launch_nms(&n.args, NULL, NULL) == cudaErrorInvalidValue);
    nms_rig_close(&n);
}

int main(void) {
    for (size_t i = 0; i < DET_COUNT(rows); i++)
        test_row(&rows[i]);
    test_strange_boxes();
    test_threshold_to_the_bit();
    test_arguments();
    const char *failure = emulation_failure();
    CHECK_MSG(!failure, "%s", failure);
    return check_report("nms");
}
