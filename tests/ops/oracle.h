/* Textbook answers: for every operator one plain nest of loops, written from its definition, in double precision. */
#ifndef DET_TEST_ORACLE_H
#define DET_TEST_ORACLE_H

#include "backend.h"

/* An operator that makes a tensor, preprocess aside: all pictures of step->output_shape, into y. */
void oracle_tensor(const det_step *step, double *y /* [n, h, w, c] */);

/* One picture -> one picture of the network's input; grey levels (0..255) before (x - mean) * scale. */
void oracle_preprocess(const det_image *image, const det_placement *placement, const det_model_info *info, int h, int w,
                       double *y /* [h, w, 3] */);

typedef struct oracle_box {
    double x1, y1, x2, y2, score;
    int class_id, prior;
    double landmarks[5][2];
} oracle_box;

/* Every box of picture `picture` that passes the limits, best first; the caller frees. Writes how many. */
oracle_box *oracle_decode(const det_step *step, int picture, const det_limits *limits, int *n);

/* Which of the boxes, best first, greedy NMS keeps: indices into kept[n]; returns how many. The ratio of areas is
 * rounded to float, as the threshold is, so that equality means the same. */
int oracle_nms(const oracle_box *boxes, int n, float iou, bool class_agnostic, int *kept);

#endif
