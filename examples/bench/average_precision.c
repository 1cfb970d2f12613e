#include "average_precision.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_THRESHOLDS = 10, N_RECALLS = 101, MAX_PER_PICTURE = 100 };

bool ap_add(ap_boxes *list, ap_box box) {
    if (list->n == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 256;
        ap_box *boxes = realloc(list->boxes, capacity * sizeof *boxes);
        if (boxes == NULL)
            return false;
        list->boxes = boxes;
        list->capacity = capacity;
    }
    box.order = list->n;
    list->boxes[list->n++] = box;
    return true;
}

void ap_free(ap_boxes *list) {
    free(list->boxes);
    *list = (ap_boxes){0};
}

static double area(const ap_box *b) {
    return (b->x2 - b->x1) * (b->y2 - b->y1);
}

double ap_iou(const ap_box *a, const ap_box *b) {
    double width = fmin(a->x2, b->x2) - fmax(a->x1, b->x1), height = fmin(a->y2, b->y2) - fmax(a->y1, b->y1);
    double shared = width > 0 && height > 0 ? width * height : 0;
    double together = area(a) + area(b) - shared;
    return together > 0 ? shared / together : 0;
}

/* By class, then picture, then falling score. */
static int compare_places(const void *a, const void *b) {
    const ap_box *x = a, *y = b;
    if (x->class_id != y->class_id)
        return x->class_id < y->class_id ? -1 : 1;
    if (x->picture != y->picture)
        return x->picture < y->picture ? -1 : 1;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* A detection's score, and at which thresholds it finds a label. */
typedef struct hit {
    double score;
    size_t order; /* by picture, then score */
    bool right[N_THRESHOLDS];
} hit;

static int compare_hits(const void *a, const void *b) {
    const hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* The detections of one class in one picture, the best first: each takes the label that it overlaps most of those free,
 * the later of two alike. */
static void match(const ap_box *labels, size_t n_labels, const ap_box *found, size_t n_found, double threshold, int t,
                  bool *taken, hit *hits) {
    memset(taken, 0, n_labels * sizeof *taken);
    for (size_t i = 0; i < n_found; i++) {
        size_t best = n_labels;
        double best_iou = threshold;
        for (size_t k = 0; k < n_labels; k++) {
            double iou = taken[k] ? -1 : ap_iou(&found[i], &labels[k]);
            if (iou >= best_iou) {
                best_iou = iou;
                best = k;
            }
        }
        hits[i].score = found[i].score;
        hits[i].right[t] = best < n_labels;
        if (best < n_labels)
            taken[best] = true;
    }
}

/* The mean over the recalls of the best precision there or beyond. */
static double area_under(const hit *hits, size_t n_hits, size_t n_labels, int t, double *precisions) {
    size_t n_right = 0;
    for (size_t i = 0; i < n_hits; i++) {
        n_right += hits[i].right[t];
        precisions[i] = (double)n_right / (double)(i + 1);
    }
    for (size_t i = n_hits; i-- > 1;)
        precisions[i - 1] = fmax(precisions[i - 1], precisions[i]);
    double sum = 0;
    size_t at = 0, right_so_far = n_hits > 0 ? hits[0].right[t] : 0;
    for (int r = 0; r < N_RECALLS; r++) {
        double recall = r < N_RECALLS - 1 ? r * 0.01 : 1;
        while (at < n_hits && (double)right_so_far / (double)n_labels < recall) {
            at++;
            right_so_far += at < n_hits ? hits[at].right[t] : 0;
        }
        sum += at < n_hits ? precisions[at] : 0;
    }
    return sum / N_RECALLS;
}

/* The end of the boxes from `begin` on that have its class (and its picture). */
static size_t end_of(const ap_boxes *list, size_t begin, bool same_picture) {
    size_t end = begin;
    while (end < list->n && list->boxes[end].class_id == list->boxes[begin].class_id &&
           (!same_picture || list->boxes[end].picture == list->boxes[begin].picture))
        end++;
    return end;
}

static size_t skip_to_class(const ap_boxes *list, size_t at, int32_t class_id) {
    while (at < list->n && list->boxes[at].class_id < class_id)
        at++;
    return at;
}

/* As the reference implementation spaces them: a last digit decides where an overlap is exactly at a threshold. */
static double iou_threshold(int t) {
    return t < N_THRESHOLDS - 1 ? 0.5 + t * ((0.95 - 0.5) / (N_THRESHOLDS - 1)) : 0.95;
}

/* All hits of a class, whose detections are [begin, end) and labels [label, label_end). Returns how many. */
static size_t match_class(const ap_boxes *labels, size_t label, size_t label_end, const ap_boxes *found, size_t begin,
                          size_t end, bool *taken, hit *hits) {
    size_t n_hits = 0;
    for (size_t i = begin; i < end;) {
        size_t picture_end = end_of(found, i, true), n = picture_end - i;
        int32_t picture = found->boxes[i].picture;
        while (label < label_end && labels->boxes[label].picture < picture)
            label++;
        size_t n_labels = 0;
        while (label + n_labels < label_end && labels->boxes[label + n_labels].picture == picture)
            n_labels++;
        n = n < MAX_PER_PICTURE ? n : MAX_PER_PICTURE;
        for (int t = 0; t < N_THRESHOLDS; t++)
            match(labels->boxes + label, n_labels, found->boxes + i, n, iou_threshold(t), t, taken, hits + n_hits);
        for (size_t k = 0; k < n; k++, n_hits++)
            hits[n_hits].order = n_hits;
        i = picture_end;
    }
    qsort(hits, n_hits, sizeof *hits, compare_hits);
    return n_hits;
}

bool average_precision(ap_boxes *labels, ap_boxes *found, double *ap, double *ap50) {
    *ap = *ap50 = NAN;
    bool *taken = calloc(labels->n + 1, sizeof *taken);
    hit *hits = calloc(found->n + 1, sizeof *hits);
    double *precisions = calloc(found->n + 1, sizeof *precisions);
    bool ok = taken != NULL && hits != NULL && precisions != NULL;
    if (ok && labels->n > 0)
        qsort(labels->boxes, labels->n, sizeof *labels->boxes, compare_places);
    if (ok && found->n > 0)
        qsort(found->boxes, found->n, sizeof *found->boxes, compare_places);
    double sum = 0, sum50 = 0;
    int n_classes = 0;
    for (size_t label = 0, at = 0; ok && label < labels->n; n_classes++) {
        size_t label_end = end_of(labels, label, false);
        at = skip_to_class(found, at, labels->boxes[label].class_id);
        size_t end = at;
        if (at < found->n && found->boxes[at].class_id == labels->boxes[label].class_id)
            end = end_of(found, at, false);
        size_t n_hits = match_class(labels, label, label_end, found, at, end, taken, hits);
        for (int t = 0; t < N_THRESHOLDS; t++) {
            double precision = area_under(hits, n_hits, label_end - label, t, precisions);
            sum += precision / N_THRESHOLDS;
            sum50 += t == 0 ? precision : 0;
        }
        label = label_end;
        at = end;
    }
    if (n_classes > 0) {
        *ap = sum / n_classes;
        *ap50 = sum50 / n_classes;
    }
    free(taken);
    free(hits);
    free(precisions);
    return ok;
}
