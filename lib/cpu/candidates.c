#include "candidates.h"

static void swap(det_candidate *a, det_candidate *b) {
    det_candidate t = *a;
    *a = *b;
    *b = t;
}

/* Restores the heap below `i` among the first n. */
static void sift_down(det_candidate *items, int n, int i) {
    for (;;) {
        int worst = i, left = 2 * i + 1, right = left + 1;
        if (left < n && det_candidate_better(&items[worst], &items[left]))
            worst = left;
        if (right < n && det_candidate_better(&items[worst], &items[right]))
            worst = right;
        if (worst == i)
            return;
        swap(&items[i], &items[worst]);
        i = worst;
    }
}

static void sift_up(det_candidate *items, int i) {
    while (i > 0 && det_candidate_better(&items[(i - 1) / 2], &items[i])) {
        swap(&items[i], &items[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
}

void det_candidates_offer(det_candidate_list *list, int max_candidates, const det_candidate *candidate) {
    if (list->n < max_candidates) {
        list->items[list->n] = *candidate;
        sift_up(list->items, list->n++);
        return;
    }
    list->cut = 1;
    if (det_candidate_better(candidate, &list->items[0])) {
        list->items[0] = *candidate;
        sift_down(list->items, list->n, 0);
    }
}

void det_candidates_sort(det_candidate_list *list) {
    for (int n = list->n; n > 1; n--) {
        swap(&list->items[0], &list->items[n - 1]);
        sift_down(list->items, n - 1, 0);
    }
}

/* Intersection over union of continuous boxes > threshold. */
static bool overlap(const det_candidate *a, const det_candidate *b, float threshold) {
    float w = DET_MIN(a->x2, b->x2) - DET_MAX(a->x1, b->x1);
    float h = DET_MIN(a->y2, b->y2) - DET_MAX(a->y1, b->y1);
    if (!(w > 0 && h > 0))
        return false;
    float both = w * h;
    float either = (a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - both;
    return both / either > threshold;
}

int det_candidates_nms(const det_candidate_list *list, float iou, bool class_agnostic, int max_kept, int *kept,
                       bool *more) {
    int n_kept = 0;
    *more = false;
    for (int i = 0; i < list->n; i++) {
        const det_candidate *a = &list->items[i];
        bool keep = true;
        for (int j = 0; j < n_kept && keep; j++) {
            const det_candidate *b = &list->items[kept[j]];
            keep = (a->class_id != b->class_id && !class_agnostic) || !overlap(a, b, iou);
        }
        if (keep && n_kept == max_kept) {
            *more = true;
            break;
        }
        if (keep)
            kept[n_kept++] = i;
    }
    return n_kept;
}
