/* The candidates of a picture: the best that were offered, whatever the order; and greedy NMS over them. */
#include "check.h"
#include "cpu/candidates.h"
#include "random.h"

enum { MAX_OFFERS = 400 };

static det_candidate_list *new_list(int max_candidates) {
    det_candidate_list *list = calloc(1, sizeof *list + (size_t)max_candidates * sizeof list->items[0]);
    REQUIRE(list, "%d candidates", max_candidates);
    return list;
}

static int best_first(const void *a, const void *b) {
    return det_candidate_better(a, b) ? -1 : 1;
}

static void shuffle(uint64_t *state, det_candidate *items, int n) {
    for (int i = n - 1; i > 0; i--) {
        int j = random_below(state, i + 1);
        det_candidate t = items[i];
        items[i] = items[j];
        items[j] = t;
    }
}

/* --------------------------------------------------------------------------------------------------------- the heap */

static void test_order(void) {
    const det_candidate a = {.score = 0.5f, .prior = 3, .class_id = 1};
    det_candidate lower_score = a, later_prior = a, later_class = a;
    lower_score.score = 0.25f;
    lower_score.prior = 0;
    later_prior.prior = 4;
    later_prior.class_id = 0;
    later_class.class_id = 2;
    CHECK(det_candidate_better(&a, &lower_score) && !det_candidate_better(&lower_score, &a));
    CHECK(det_candidate_better(&a, &later_prior) && !det_candidate_better(&later_prior, &a));
    CHECK(det_candidate_better(&a, &later_class) && !det_candidate_better(&later_class, &a));
    CHECK(!det_candidate_better(&a, &a));
}

/* Many ties: few different scores, several classes of a prior. */
static int make_offers(uint64_t *state, det_candidate *offers) {
    int n = random_below(state, MAX_OFFERS + 1), n_scores = 1 + random_below(state, 20);
    for (int i = 0; i < n; i++)
        offers[i] = (det_candidate){.score = (float)random_below(state, n_scores) / 20, .prior = i / 3, .class_id = i % 3, .x1 = (float)i};
    return n;
}

static void test_heap(void) {
    static det_candidate offers[MAX_OFFERS], sorted[MAX_OFFERS];
    uint64_t state = random_from("candidates");
    for (int round = 0; round < 300; round++) {
        int n = make_offers(&state, offers), max = 1 + random_below(&state, round % 3 ? MAX_OFFERS : 20), n_kept = DET_MIN(n, max);
        memcpy(sorted, offers, sizeof offers);
        qsort(sorted, (size_t)n, sizeof *sorted, best_first);
        det_candidate_list *list = new_list(max);
        for (int order = 0; order < 3; order++) {
            shuffle(&state, offers, n);
            list->n = list->cut = 0;
            for (int i = 0; i < n; i++)
                det_candidates_offer(list, max, &offers[i]);
            CHECK_MSG(list->n == n_kept && list->cut == (n > max), "%d of %d kept, room for %d, cut %d", list->n, n, max, list->cut);
            det_candidates_sort(list);
            CHECK(!memcmp(list->items, sorted, (size_t)n_kept * sizeof *sorted));
        }
        free(list);
    }
}

/* -------------------------------------------------------------------------------------------------------------- NMS */

typedef struct nms_case {
    const char *what;
    int n;
    det_candidate items[6]; /* best first */
    float iou;
    bool agnostic;
    int max_kept;
    const char *kept; /* their indices, as digits */
    bool more;
} nms_case;

#define BOX(x, y, w, h, ...) {.x1 = x, .y1 = y, .x2 = (x) + (w), .y2 = (y) + (h), __VA_ARGS__}

static const nms_case cases[] = {
    {"nothing", 0, {{.x1 = 0}}, 0.5f, false, 6, "", false},
    {"one", 1, {BOX(0, 0, 1, 1)}, 0.5f, false, 6, "0", false},
    {"the same box thrice", 3, {BOX(0, 0, 4, 4), BOX(0, 0, 4, 4), BOX(0, 0, 4, 4)}, 0.5f, false, 6, "0", false},
    {"apart", 3, {BOX(0, 0, 4, 4), BOX(9, 0, 4, 4), BOX(0, 9, 4, 4)}, 0, false, 6, "012", false},
    {"touching edges", 2, {BOX(0, 0, 4, 4), BOX(4, 0, 4, 4)}, 0, false, 6, "01", false},
    {"IoU equal to the threshold stays", 2, {BOX(0, 0, 4, 4), BOX(0, 0, 4, 2)}, 0.5f, false, 6, "01", false},
    {"IoU above the threshold goes", 2, {BOX(0, 0, 4, 4), BOX(0, 0, 4, 2)}, 0.49f, false, 6, "0", false},
    {"threshold 1 keeps all", 2, {BOX(0, 0, 4, 4), BOX(0, 0, 4, 4)}, 1, false, 6, "01", false},
    {"one that went suppresses none", 3, {BOX(0, 0, 10, 1), BOX(4, 0, 10, 1), BOX(8, 0, 10, 1)}, 0.3f, false, 6, "02", false},
    {"classes apart", 3, {BOX(0, 0, 4, 4), BOX(0, 0, 4, 4, .class_id = 1), BOX(0, 0, 4, 4, .class_id = 1)}, 0.5f, false, 6, "01", false},
    {"classes together", 3, {BOX(0, 0, 4, 4), BOX(0, 0, 4, 4, .class_id = 1), BOX(9, 0, 4, 4, .class_id = 1)}, 0.5f, true, 6, "02", false},
    {"room for two", 4, {BOX(0, 0, 4, 4), BOX(9, 0, 4, 4), BOX(0, 9, 4, 4), BOX(9, 9, 4, 4)}, 0.5f, false, 2, "01", true},
    {"room for all", 2, {BOX(0, 0, 4, 4), BOX(9, 0, 4, 4)}, 0.5f, false, 2, "01", false},
    {"the rest would have gone", 3, {BOX(0, 0, 4, 4), BOX(9, 0, 4, 4), BOX(9, 0, 4, 4)}, 0.5f, false, 2, "01", false},
    {"boxes without area", 3, {BOX(2, 2, 0, 0), BOX(2, 2, 0, 0), BOX(0, 0, 4, 4)}, 0, false, 6, "012", false},
    {"turned over", 2, {BOX(4, 4, -4, -4), BOX(0, 0, 4, 4)}, 0, false, 6, "01", false},
};

static void test_nms(void) {
    for (size_t i = 0; i < DET_COUNT(cases); i++) {
        const nms_case *c = &cases[i];
        det_candidate_list *list = new_list(c->n + 1);
        list->n = c->n;
        memcpy(list->items, c->items, (size_t)c->n * sizeof c->items[0]);
        int kept[8];
        bool more = !c->more;
        int n = det_candidates_nms(list, c->iou, c->agnostic, c->max_kept, kept, &more);
        char text[8] = "";
        for (int k = 0; k < n && k < 6; k++)
            text[k] = (char)('0' + kept[k]);
        CHECK_MSG(!strcmp(text, c->kept) && more == c->more, "%s: kept %s, more %d", c->what, text, more);
        free(list);
    }
}

/* Of equal scores the lower prior wins, however they were offered. */
static void test_ties(void) {
    det_candidate twins[6];
    uint64_t state = random_from("ties");
    for (int i = 0; i < 6; i++)
        twins[i] = (det_candidate)BOX(0, 0, 4, 4, .score = 0.5f, .prior = 10 + i);
    for (int round = 0; round < 50; round++) {
        det_candidate_list *list = new_list(6);
        int kept[6];
        bool more;
        shuffle(&state, twins, 6);
        for (int i = 0; i < 6; i++)
            det_candidates_offer(list, 6, &twins[i]);
        det_candidates_sort(list);
        CHECK(det_candidates_nms(list, 0.5f, false, 6, kept, &more) == 1 && list->items[kept[0]].prior == 10);
        free(list);
    }
}

int main(void) {
    test_order();
    test_heap();
    test_nms();
    test_ties();
    return check_report("candidates");
}
