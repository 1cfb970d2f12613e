/* Labels in YOLO's text format: for PICTURE.jpg a file PICTURE.txt with a line `class x y width height` for each object,
 * from the box's centre, in fractions of the picture. A picture without a file has no objects. */
#ifndef BENCH_LABELS_H
#define BENCH_LABELS_H

#include "average_precision.h"

/* Reads the labels of one picture, which lies in directory `pictures` and is picture `index`, width x height pixels.
 * False after complaining. */
bool labels_read(const char *labels, const char *pictures, const char *path, int32_t index, int32_t width,
                 int32_t height, int32_t n_classes, ap_boxes *list);

#endif
