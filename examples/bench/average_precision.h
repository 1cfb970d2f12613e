/* COCO's average precision: 10 IoU thresholds from 0.50 to 0.95, 101 recalls, the best 100 detections of a class in a
 * picture. */
#ifndef BENCH_AVERAGE_PRECISION_H
#define BENCH_AVERAGE_PRECISION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A labelled object, or a detection. Corners in pixels. */
typedef struct ap_box {
    int32_t picture, class_id;
    double score; /* of a detection */
    double x1, y1, x2, y2;
    size_t order; /* set by ap_add: of two alike the first comes first */
} ap_box;

/* Grows as boxes are added; starts zeroed. */
typedef struct ap_boxes {
    ap_box *boxes;
    size_t n, capacity;
} ap_boxes;

bool ap_add(ap_boxes *list, ap_box box); /* false: out of memory */
void ap_free(ap_boxes *list);

double ap_iou(const ap_box *a, const ap_box *b);

/* Both lists are sorted by this. False when memory runs out. NaN when there is no label. */
bool average_precision(ap_boxes *labels, ap_boxes *detections, double *ap, double *ap50);

#endif
