#include "placement.h"

#include <math.h>

static det_placement stretch(int w, int h, int w_in, int h_in) {
    return (det_placement){.scale_x = (float)w_in / (float)w, .scale_y = (float)h_in / (float)h, .w = w_in, .h = h_in};
}

/* InsightFace: one side fills the input, the other is cut to whole pixels; one scale, that of the height, maps both. */
static det_placement top_left(int w, int h, int w_in, int h_in) {
    double ratio = (double)h / w;
    int w_new = w_in, h_new = h_in;
    if (ratio > (double)h_in / w_in)
        w_new = DET_MAX(1, (int)(h_in / ratio));
    else
        h_new = DET_MAX(1, (int)(w_in * ratio));
    float scale = (float)((double)h_new / h);
    return (det_placement){.scale_x = scale, .scale_y = scale, .w = w_new, .h = h_new};
}

/* Ultralytics: the smaller ratio, sides rounded to even, the picture in the middle, odd rests to the right and below. */
static det_placement centred(int w, int h, int w_in, int h_in) {
    double ratio = DET_MIN((double)h_in / h, (double)w_in / w);
    int w_new = DET_MAX(1, (int)rint(w * ratio)), h_new = DET_MAX(1, (int)rint(h * ratio));
    det_placement p = {.scale_x = (float)ratio, .scale_y = (float)ratio, .w = w_new, .h = h_new};
    p.x = (int)rint((w_in - w_new) / 2.0 - 0.1);
    p.y = (int)rint((h_in - h_new) / 2.0 - 0.1);
    p.offset_x = (float)p.x;
    p.offset_y = (float)p.y;
    return p;
}

det_placement det_place(int32_t resize, int w, int h, int w_in, int h_in) {
    switch (resize) {
    case DET_RESIZE_LETTERBOX_TOP:
        return top_left(w, h, w_in, h_in);
    case DET_RESIZE_LETTERBOX_CENTRE:
        return centred(w, h, w_in, h_in);
    default:
        return stretch(w, h, w_in, h_in);
    }
}
