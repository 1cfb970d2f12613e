/* From pictures, and to boxes. */
#include "oracle.h"

#include <math.h>
#include <stdlib.h>

/* ----------------------------------------------------------------------------------------------------- preprocess */

static double clamp(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

/* Channel k of pixel (x, y): R, G, B; of NV12 Y, Cb, Cr, the colour of a 2 x 2 block being that of its four pixels. */
static double stored(const det_image *image, int x, int y, int k) {
    const uint8_t *row = (const uint8_t *)image->planes[0] + y * image->strides[0];
    switch (image->format) {
    case DET_RGB8:
        return row[3 * x + k];
    case DET_BGR8:
        return row[3 * x + (2 - k)];
    case DET_RGBA8:
        return row[4 * x + k];
    case DET_GRAY8:
        return row[x];
    default: /* DET_NV12 */
        if (k == 0)
            return row[x];
        return ((const uint8_t *)image->planes[1] + y / 2 * image->strides[1])[x / 2 * 2 + k - 1];
    }
}

/* Output position `i` of `n_out` lies between input positions low[0] and low[1], with these weights: pixel centres are
 * at .5, the border is repeated, and the position is rounded to float, as OpenCV does. */
typedef struct between {
    int at[2];
    double weight[2];
} between;

static between locate(int i, int n_in, int n_out) {
    double x = (float)((i + 0.5) * ((double)n_in / n_out) - 0.5), low = floor(x);
    return (between){{(int)clamp(low, 0, n_in - 1), (int)clamp(low + 1, 0, n_in - 1)}, {1 - (x - low), x - low}};
}

/* Bilinear. */
static double sample(const det_image *image, const between *x, const between *y, int k) {
    double sum = 0;
    for (int v = 0; v < 2; v++) {
        for (int u = 0; u < 2; u++)
            sum += x->weight[u] * y->weight[v] * stored(image, x->at[u], y->at[v], k);
    }
    return sum;
}

/* The same in OpenCV's whole numbers (INTER_LINEAR of 8-bit pictures, its vector code): weights in 1 / 2048, rows of 19
 * bits that lose 4, products that lose 16, and a sum that is rounded by its last two bits. */
static double sample_eight_bit(const det_image *image, const between *x, const between *y, int k) {
    int sum = 2;
    for (int v = 0; v < 2; v++) {
        int row = 0;
        for (int u = 0; u < 2; u++)
            row += (int)stored(image, x->at[u], y->at[v], k) * (int)rint(2048 * x->weight[u]);
        sum += (row >> 4) * (int)rint(2048 * y->weight[v]) >> 16;
    }
    return sum >> 2;
}

/* ITU-R BT.601 with luma 16..235 and chroma 16..240, from its coefficients Kr = 0.299, Kb = 0.114. */
static double rgb_from_yuv(const double yuv[3], int k) {
    const double kr = 0.299, kb = 0.114, kg = 1 - kr - kb;
    double y = (yuv[0] - 16) / 219, b_y = (yuv[1] - 128) / 112 * (1 - kb), r_y = (yuv[2] - 128) / 112 * (1 - kr);
    double rgb[] = {y + r_y, y - (kr * r_y + kb * b_y) / kg, y + b_y};
    return clamp(255 * rgb[k], 0, 255);
}

/* Where pictures are letterboxed, the authors resize with OpenCV, in 8 bits; where they stretch, in float. */
static double grey_level(const det_image *image, const between *x, const between *y, int k, bool eight_bit) {
    double (*take)(const det_image *, const between *, const between *, int) = eight_bit ? sample_eight_bit : sample;
    if (image->format != DET_NV12)
        return take(image, x, y, k);
    double yuv[3] = {take(image, x, y, 0), take(image, x, y, 1), take(image, x, y, 2)};
    return rgb_from_yuv(yuv, k);
}

void oracle_preprocess(const det_image *image, const det_placement *p, const det_model_info *info, int h, int w,
                       double *y) {
    for (int i = 0; i < h; i++) {
        for (int j = 0; j < w; j++) {
            bool inside = i >= p->y && i < p->y + p->h && j >= p->x && j < p->x + p->w;
            between column = locate(j - p->x, image->width, p->w), row = locate(i - p->y, image->height, p->h);
            for (int k = 0; k < 3; k++) {
                double grey = info->pad_value;
                if (inside)
                    grey = grey_level(image, &column, &row, k, info->resize != DET_RESIZE_STRETCH);
                *y++ = (grey - (double)info->mean) * (double)info->scale;
            }
        }
    }
}

/* --------------------------------------------------------------------------------------------------------- decode */

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* One anchor of one cell: where its values lie, and its prior point in pixels. */
typedef struct anchor_cell {
    const float *x, *classes;
    double px, py, stride, scale;
    int level, anchor;
} anchor_cell;

/* The box, and what the score of class `k` is. */
static double scrfd(const det_decode_params *d, const anchor_cell *a, int k, oracle_box *box) {
    const float *distances = a->x + d->n_anchors * d->n_classes + 4 * a->anchor;
    const float *points = a->x + d->n_anchors * (d->n_classes + 4) + 2 * d->n_landmarks * a->anchor;
    double unit = a->stride * a->scale;
    box->x1 = a->px - distances[0] * unit;
    box->y1 = a->py - distances[1] * unit;
    box->x2 = a->px + distances[2] * unit;
    box->y2 = a->py + distances[3] * unit;
    for (int i = 0; i < d->n_landmarks; i++) {
        box->landmarks[i][0] = a->px + points[2 * i] * a->stride;
        box->landmarks[i][1] = a->py + points[2 * i + 1] * a->stride;
    }
    return sigmoid(a->x[a->anchor * d->n_classes + k]);
}

static double dfl(const det_decode_params *d, const anchor_cell *a, int k, oracle_box *box) {
    double sides[4];
    for (int side = 0; side < 4; side++) {
        double sum = 0, weighted = 0;
        for (int bin = 0; bin < d->n_bins; bin++) {
            double e = exp(a->x[side * d->n_bins + bin] * a->scale);
            sum += e;
            weighted += bin * e;
        }
        sides[side] = weighted / sum * a->stride;
    }
    box->x1 = a->px - sides[0];
    box->y1 = a->py - sides[1];
    box->x2 = a->px + sides[2];
    box->y2 = a->py + sides[3];
    return sigmoid(a->classes[k]);
}

static double yolov5(const det_decode_params *d, const anchor_cell *a, int k, oracle_box *box) {
    const float *x = a->x + a->anchor * (5 + d->n_classes);
    const float *size = d->anchors->values + 2 * (a->level * d->n_anchors + a->anchor);
    double cx = a->px + (2 * sigmoid(x[0]) - 0.5) * a->stride, cy = a->py + (2 * sigmoid(x[1]) - 0.5) * a->stride;
    double w = pow(2 * sigmoid(x[2]), 2) * size[0] * a->stride, h = pow(2 * sigmoid(x[3]), 2) * size[1] * a->stride;
    box->x1 = cx - w / 2;
    box->y1 = cy - h / 2;
    box->x2 = cx + w / 2;
    box->y2 = cy + h / 2;
    return sigmoid(x[4]) * sigmoid(x[5 + k]);
}

/* Appends the boxes of one anchor that pass: of its best class, or of every class. */
static int decode_anchor(const det_step *step, const anchor_cell *a, int prior, const det_limits *limits,
                         oracle_box *boxes) {
    const det_decode_params *d = &step->node->u.decode;
    double (*rule)(const det_decode_params *, const anchor_cell *, int, oracle_box *) =
        step->node->op == DET_OP_DECODE_SCRFD ? scrfd : step->node->op == DET_OP_DECODE_DFL ? dfl : yolov5;
    oracle_box box = {.prior = prior};
    int best = 0, n = 0;
    for (int k = 1; k < d->n_classes; k++)
        best = rule(d, a, k, &box) > rule(d, a, best, &box) ? k : best;
    for (int k = 0; k < d->n_classes; k++) {
        box.class_id = k;
        box.score = rule(d, a, k, &box);
        if ((limits->multi_label || k == best) && box.score > limits->class_scores[k])
            boxes[n++] = box;
    }
    return n;
}

static int best_first(const void *a, const void *b) {
    const oracle_box *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->prior != y->prior ? x->prior - y->prior : x->class_id - y->class_id;
}

static const float *cell_values(const det_step *step, int input, int picture, int i, int j) {
    det_shape s = step->input_shapes[input];
    return (const float *)step->inputs[input] + (((size_t)picture * s.h + i) * s.w + j) * s.c;
}

/* Priors count level by level, row by row, anchor by anchor; in YOLOv5 anchor by anchor before row by row. */
oracle_box *oracle_decode(const det_step *step, int picture, const det_limits *limits, int *n) {
    const det_decode_params *d = &step->node->u.decode;
    int per_level = step->node->n_inputs / d->n_levels, n_priors = 0, first = 0;
    for (int level = 0; level < d->n_levels; level++)
        n_priors += step->input_shapes[level * per_level].h * step->input_shapes[level * per_level].w * d->n_anchors;
    oracle_box *boxes = calloc((size_t)(n_priors * d->n_classes), sizeof *boxes);
    *n = 0;
    for (int level = 0; level < d->n_levels; level++) {
        det_shape s = step->input_shapes[level * per_level];
        for (int at = 0; at < s.h * s.w * d->n_anchors; at++) {
            bool anchors_outside = step->node->op == DET_OP_DECODE_YOLOV5;
            int anchor = anchors_outside ? at / (s.h * s.w) : at % d->n_anchors;
            int cell = anchors_outside ? at % (s.h * s.w) : at / d->n_anchors, i = cell / s.w, j = cell % s.w;
            double stride = d->strides[level];
            anchor_cell a = {.x = cell_values(step, level * per_level, picture, i, j),
                             .classes = cell_values(step, level * per_level + per_level - 1, picture, i, j),
                             .px = (j + (double)d->cell_offset) * stride,
                             .py = (i + (double)d->cell_offset) * stride,
                             .stride = stride,
                             .scale = d->scales[level] ? d->scales[level]->values[0] : 1,
                             .level = level,
                             .anchor = anchor};
            *n += decode_anchor(step, &a, first + at, limits, boxes + *n);
        }
        first += s.h * s.w * d->n_anchors;
    }
    qsort(boxes, (size_t)*n, sizeof *boxes, best_first);
    return boxes;
}

/* ------------------------------------------------------------------------------------------------------------ NMS */

static float intersection_over_union(const oracle_box *a, const oracle_box *b) {
    double w = fmin(a->x2, b->x2) - fmax(a->x1, b->x1), h = fmin(a->y2, b->y2) - fmax(a->y1, b->y1);
    double both = w > 0 && h > 0 ? w * h : 0;
    return (float)(both / ((a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - both));
}

int oracle_nms(const oracle_box *boxes, int n, float iou, bool class_agnostic, int *kept) {
    int n_kept = 0;
    for (int i = 0; i < n; i++) {
        bool keep = true;
        for (int j = 0; j < n_kept; j++) {
            const oracle_box *better = &boxes[kept[j]];
            if ((class_agnostic || better->class_id == boxes[i].class_id) && intersection_over_union(better, &boxes[i]) > iou)
                keep = false;
        }
        if (keep)
            kept[n_kept++] = i;
    }
    return n_kept;
}
