/* Letterboxes and stretches, by hand and by property. */
#include "check.h"
#include "placement.h"
#include "random.h"

#include <math.h>

enum { STRETCH = DET_RESIZE_STRETCH, TOP = DET_RESIZE_LETTERBOX_TOP, CENTRE = DET_RESIZE_LETTERBOX_CENTRE };

static const struct {
    int resize, w, h, w_in, h_in;
    int x, y, w_out, h_out;
    double scale_x, scale_y;
} cases[] = {
    {STRETCH, 640, 640, 640, 640, 0, 0, 640, 640, 1, 1},
    {STRETCH, 1920, 1080, 640, 320, 0, 0, 640, 320, 1 / 3.0, 320 / 1080.0},
    {STRETCH, 1, 1, 640, 320, 0, 0, 640, 320, 640, 320},
    {STRETCH, 1, 16384, 64, 64, 0, 0, 64, 64, 64, 64 / 16384.0},
    /* One side fills the input, the other is cut; the scale is that of the height. */
    {TOP, 640, 640, 640, 640, 0, 0, 640, 640, 1, 1},
    {TOP, 1920, 1080, 640, 640, 0, 0, 640, 360, 1 / 3.0, 1 / 3.0},
    {TOP, 1080, 1920, 640, 640, 0, 0, 360, 640, 1 / 3.0, 1 / 3.0},
    {TOP, 1000, 333, 640, 640, 0, 0, 640, 213, 213 / 333.0, 213 / 333.0},
    {TOP, 333, 1000, 640, 640, 0, 0, 213, 640, 0.64, 0.64},
    {TOP, 30, 20, 64, 64, 0, 0, 64, 42, 2.1, 2.1},
    {TOP, 1, 16384, 640, 640, 0, 0, 1, 640, 640 / 16384.0, 640 / 16384.0},
    {TOP, 16384, 1, 640, 640, 0, 0, 640, 1, 1, 1},
    {TOP, 1, 1, 640, 320, 0, 0, 320, 320, 320, 320},
    /* Sides are rounded to even halves, odd rests go to the right and below. */
    {CENTRE, 640, 640, 640, 640, 0, 0, 640, 640, 1, 1},
    {CENTRE, 1920, 1080, 640, 640, 0, 140, 640, 360, 1 / 3.0, 1 / 3.0},
    {CENTRE, 1080, 1920, 640, 640, 140, 0, 360, 640, 1 / 3.0, 1 / 3.0},
    {CENTRE, 30, 20, 64, 64, 0, 10, 64, 43, 64 / 30.0, 64 / 30.0},
    {CENTRE, 160, 90, 96, 64, 0, 5, 96, 54, 0.6, 0.6},
    {CENTRE, 70, 150, 64, 96, 9, 0, 45, 96, 0.64, 0.64},
    {CENTRE, 64, 61, 64, 64, 0, 1, 64, 61, 1, 1},
    {CENTRE, 128, 125, 64, 64, 0, 1, 64, 62, 0.5, 0.5},
    {CENTRE, 128, 127, 64, 64, 0, 0, 64, 64, 0.5, 0.5},
    {CENTRE, 1, 16384, 640, 640, 319, 0, 1, 640, 640 / 16384.0, 640 / 16384.0},
    {CENTRE, 16384, 1, 640, 640, 0, 319, 640, 1, 640 / 16384.0, 640 / 16384.0},
    {CENTRE, 1, 1, 64, 32, 16, 0, 32, 32, 32, 32},
};

static void test_by_hand(void) {
    for (size_t i = 0; i < DET_COUNT(cases); i++) {
        det_placement p = det_place(cases[i].resize, cases[i].w, cases[i].h, cases[i].w_in, cases[i].h_in);
        CHECK_MSG(p.x == cases[i].x && p.y == cases[i].y && p.w == cases[i].w_out && p.h == cases[i].h_out,
                  "case %zu: %dx%d at (%d, %d)", i, p.w, p.h, p.x, p.y);
        CHECK_MSG(p.scale_x == (float)cases[i].scale_x && p.scale_y == (float)cases[i].scale_y, "case %zu: scales %.9g, %.9g",
                  i, (double)p.scale_x, (double)p.scale_y);
        CHECK_MSG(p.offset_x == (float)p.x && p.offset_y == (float)p.y, "case %zu: offsets %g, %g", i, (double)p.offset_x,
                  (double)p.offset_y);
    }
}

/* Of any picture in any input: inside it, not empty, one side full, and the ratio kept to a pixel. */
static void test_random(void) {
    static const int limits[] = {1, 2, 40, 3000, 16384};
    uint64_t state = random_from("placements");
    for (int round = 0; round < 20000; round++) {
        int w = 1 + random_below(&state, limits[random_below(&state, 5)]), h = 1 + random_below(&state, limits[random_below(&state, 5)]);
        int w_in = 32 * (1 + random_below(&state, 40)), h_in = 32 * (1 + random_below(&state, 40));
        int resize = random_below(&state, 3);
        det_placement p = det_place(resize, w, h, w_in, h_in);
        CHECK_MSG(p.x >= 0 && p.y >= 0 && p.w >= 1 && p.h >= 1 && p.x + p.w <= w_in && p.y + p.h <= h_in,
                  "mode %d: %dx%d in %dx%d: %dx%d at (%d, %d)", resize, w, h, w_in, h_in, p.w, p.h, p.x, p.y);
        CHECK(p.scale_x > 0 && p.scale_y > 0 && isfinite(p.scale_x) && isfinite(p.scale_y));
        if (resize == STRETCH)
            continue;
        CHECK_MSG(p.w >= w_in - 1 || p.h >= h_in - 1, "mode %d: %dx%d in %dx%d: %dx%d fills neither side", resize, w, h, w_in, h_in, p.w, p.h);
        double ratio = fmin((double)w_in / w, (double)h_in / h);
        CHECK_MSG(fabs(p.w - fmax(1, w * ratio)) <= 1 && fabs(p.h - fmax(1, h * ratio)) <= 1, "mode %d: %dx%d in %dx%d: %dx%d",
                  resize, w, h, w_in, h_in, p.w, p.h);
    }
}

int main(void) {
    test_by_hand();
    test_random();
    return check_report("placement");
}
