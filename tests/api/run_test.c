/* What runs give: formats and strides that mean the same picture, batches, and what each threshold does. */
#include "api.h"

#include <math.h>

enum { N_PRIORS = 8 * 8 + 4 * 4 + 2 * 2, N_CLASSES = 3 }; /* of a YOLO of 64 x 64 pixels */

static det_thresholds thresholds(float score, float iou) {
    det_thresholds t;
    det_thresholds_init(&t);
    t.score = score;
    t.iou = iou;
    t.max_objects = MAX_OBJECTS;
    return t;
}

static void run_with(det_context *context, const det_thresholds *t, const det_image *image, results *r) {
    OK(det_context_set_thresholds(context, t));
    run(context, image, 1, r);
}

/* ------------------------------------------------------------------------------------------------------ well formed */

static void check_objects(const results *r, int picture, const det_image *image, bool clipped, int n_classes, float score) {
    for (int i = 0; i < r->counts[picture]; i++) {
        const det_object *o = &r->objects[picture][i];
        CHECK(o->score > score && o->score <= 1 && o->class_id >= 0 && o->class_id < n_classes);
        CHECK(i == 0 || o[-1].score >= o->score);
        CHECK(isfinite(o->x1) && isfinite(o->y1) && isfinite(o->x2) && isfinite(o->y2));
        if (clipped)
            CHECK(o->x1 >= 0 && o->y1 >= 0 && o->x2 <= (float)image->width && o->y2 <= (float)image->height);
    }
}

static bool any_landmark(const results *r) {
    bool any = false;
    for (int i = 0; i < r->counts[0]; i++) {
        for (int k = 0; k < 10; k++)
            any = any || (&r->objects[0][i].landmarks[0][0])[k] != 0;
    }
    return any;
}

/* Every network that there is: runs, well formed, the same bytes twice and from another context. */
static void test_networks(void) {
    static results r, again;
    for (int i = 0; make_model_name(i); i++) {
        det_model *model = open_made(make_model_name(i));
        det_model_info info = {.struct_size = sizeof info};
        OK(det_model_get_info(model, &info));
        det_context_options options = cpu_options(1, 2);
        det_context *context = create(model, &options), *other = create(model, &options);
        det_image picture = random_picture(90, 70, DET_RGB8, 0);
        run(context, &picture, 1, &r);
        printf("  %-24s %d objects\n", make_model_name(i), r.counts[0]);
        CHECK_MSG(r.counts[0] > 0, "%s finds nothing: the test would prove little", make_model_name(i));
        check_objects(&r, 0, &picture, !strncmp(info.family, "yolo", 4), info.n_classes, info.score_threshold);
        CHECK(any_landmark(&r) == (info.n_landmarks > 0));
        run(context, &picture, 1, &again);
        CHECK(same_objects(&r, 0, &again, 0));
        run(other, &picture, 1, &again);
        CHECK(same_objects(&r, 0, &again, 0));
        free_picture(&picture);
        det_context_destroy(context);
        det_context_destroy(other);
        det_model_close(model);
    }
}

/* --------------------------------------------------------------------------------------------------------- pictures */

/* The same grey picture in every format; from luma 16 and 235 alone, which stand for black and white. */
static det_image grey_as(int32_t format, int w, int h) {
    det_image image = random_picture(w, h, format, 5);
    uint64_t state = random_from("grey");
    for (int y = 0; y < h; y++) {
        uint8_t *row = (uint8_t *)(uintptr_t)image.planes[0] + y * image.strides[0];
        for (int x = 0; x < w; x++) {
            bool white = random_below(&state, 2);
            uint8_t grey = format == DET_NV12 ? white ? 235 : 16 : white ? 255 : 0;
            int size = format == DET_RGBA8 ? 4 : format == DET_GRAY8 || format == DET_NV12 ? 1 : 3;
            memset(row + x * size, grey, (size_t)(size == 1 ? 1 : 3)); /* alpha stays random */
        }
    }
    if (format == DET_NV12)
        memset((void *)(uintptr_t)image.planes[1], 128, (size_t)(image.strides[1] * ((h + 1) / 2)));
    return image;
}

static void check_near(const results *a, const results *b, const char *what) {
    CHECK_MSG(a->counts[0] == b->counts[0] && a->counts[0] > 0, "%s: %d and %d objects", what, a->counts[0], b->counts[0]);
    for (int i = 0; i < a->counts[0] && i < b->counts[0]; i++) {
        const det_object *x = &a->objects[0][i], *y = &b->objects[0][i];
        CHECK_MSG(fabsf(x->score - y->score) < 1e-3f && fabsf(x->x1 - y->x1) < 0.02f && fabsf(x->y2 - y->y2) < 0.02f,
                  "%s: object %d has score %g and %g", what, i, (double)x->score, (double)y->score);
    }
}

static void test_formats(det_context *context) {
    static results rgb, other;
    static const int32_t formats[] = {DET_BGR8, DET_RGBA8, DET_GRAY8};
    det_image picture = grey_as(DET_RGB8, 77, 51);
    run(context, &picture, 1, &rgb);
    free_picture(&picture);
    for (int i = 0; i < COUNT(formats); i++) {
        picture = grey_as(formats[i], 77, 51);
        run(context, &picture, 1, &other);
        CHECK_MSG(same_objects(&rgb, 0, &other, 0), "format %d is another picture than RGB", formats[i]);
        free_picture(&picture);
    }
    picture = grey_as(DET_NV12, 77, 51);
    run(context, &picture, 1, &other);
    check_near(&rgb, &other, "NV12");
    free_picture(&picture);
}

/* Colour: the order of channels matters, alpha does not. */
static void test_channels(det_context *context) {
    static results rgb, other;
    det_image picture = random_picture(40, 60, DET_RGB8, 0), bgr = random_picture(40, 60, DET_BGR8, 7), rgba = random_picture(40, 60, DET_RGBA8, 2);
    for (int y = 0; y < 60; y++) {
        for (int x = 0; x < 40; x++) {
            const uint8_t *from = (const uint8_t *)picture.planes[0] + y * picture.strides[0] + 3 * x;
            uint8_t *to = (uint8_t *)(uintptr_t)bgr.planes[0] + y * bgr.strides[0] + 3 * x;
            to[0] = from[2];
            to[1] = from[1];
            to[2] = from[0];
            memcpy((uint8_t *)(uintptr_t)rgba.planes[0] + y * rgba.strides[0] + 4 * x, from, 3);
        }
    }
    run(context, &picture, 1, &rgb);
    run(context, &bgr, 1, &other);
    CHECK(same_objects(&rgb, 0, &other, 0));
    run(context, &rgba, 1, &other);
    CHECK(same_objects(&rgb, 0, &other, 0));
    bgr.format = DET_RGB8;
    run(context, &bgr, 1, &other);
    CHECK(!same_objects(&rgb, 0, &other, 0));
    free_picture(&picture);
    free_picture(&bgr);
    free_picture(&rgba);
}

/* Sizes and formats side by side: each picture gives in the batch what it gives alone, byte for byte. */
static void test_batches(const det_model *model) {
    static results all, one, alone;
    det_image pictures[] = {random_picture(64, 64, DET_RGB8, 0), random_picture(1, 1, DET_BGR8, 0),
                            random_picture(300, 17, DET_NV12, 3), random_picture(33, 128, DET_GRAY8, 1),
                            random_picture(16384, 1, DET_RGBA8, 0), random_picture(1, 16384, DET_NV12, 0)};
    enum { N = COUNT(pictures) };
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        det_context_options options = cpu_options(N, n_threads);
        det_context *context = create(model, &options);
        options.max_batch = 1;
        det_context *single = create(model, &options);
        run(context, pictures, N, &all);
        for (int i = 0; i < N; i++) {
            run(context, &pictures[i], 1, &one);
            run(single, &pictures[i], 1, &alone);
            CHECK_MSG(same_objects(&all, i, &one, 0), "%d threads: picture %d differs in the batch", n_threads, i);
            CHECK_MSG(same_objects(&all, i, &alone, 0), "%d threads: picture %d differs from a context for one", n_threads, i);
        }
        det_context_destroy(context);
        det_context_destroy(single);
    }
    for (int i = 0; i < N; i++)
        free_picture(&pictures[i]);
}

/* ------------------------------------------------------------------------------------------------------- thresholds */

/* `r` must hold what `keep` picks from `all`, in order. */
static void check_subset(const results *all, const results *r, bool (*keep)(const det_object *o), const char *what) {
    int n = 0;
    for (int i = 0; i < all->counts[0]; i++) {
        if (!keep(&all->objects[0][i]))
            continue;
        CHECK_MSG(n < r->counts[0] && !memcmp(&all->objects[0][i], &r->objects[0][n], sizeof(det_object)), "%s: object %d", what, n);
        n++;
    }
    CHECK_MSG(n == r->counts[0] && n < all->counts[0] && n > 0, "%s: %d objects, not %d of %d", what, r->counts[0], n, all->counts[0]);
}

static float middle_score; /* half of the objects are above */

static bool above_middle(const det_object *o) {
    return o->score > middle_score;
}

static bool not_class_1(const det_object *o) {
    return o->class_id != 1;
}

static bool own_thresholds(const det_object *o) {
    return o->score > (o->class_id == 0 ? middle_score : 0) && o->class_id != 2;
}

/* Without NMS (IoU 1) thresholds only pick: the rest stays as it was. */
static void test_score_and_classes(det_context *context, const det_image *picture) {
    static results all, r;
    det_thresholds t = thresholds(0, 1);
    run_with(context, &t, picture, &all);
    CHECK_MSG(all.counts[0] == N_PRIORS, "%d objects", all.counts[0]);
    middle_score = all.objects[0][all.counts[0] / 2].score;
    t.score = middle_score;
    run_with(context, &t, picture, &r);
    check_subset(&all, &r, above_middle, "score");
    t = thresholds(0, 1);
    t.n_classes = N_CLASSES;
    t.class_enabled = (uint8_t[]){1, 0, 255};
    run_with(context, &t, picture, &r);
    check_subset(&all, &r, not_class_1, "class_enabled");
    t.class_enabled = NULL;
    t.class_scores = (float[]){middle_score, -1, 1};
    run_with(context, &t, picture, &r);
    check_subset(&all, &r, own_thresholds, "class_scores");
    t.class_enabled = (uint8_t[]){0, 0, 0};
    run_with(context, &t, picture, &r);
    CHECK(r.counts[0] == 0 && r.cuts[0] == 0);
}

static void test_multi_label(det_context *context, const det_image *picture) {
    static results r;
    det_thresholds t = thresholds(0, 1);
    t.multi_label = 1;
    run_with(context, &t, picture, &r);
    CHECK_MSG(r.counts[0] == N_PRIORS * N_CLASSES, "%d objects", r.counts[0]);
    int per_class[N_CLASSES] = {0};
    for (int i = 0; i < r.counts[0]; i++)
        per_class[r.objects[0][i].class_id]++;
    CHECK(per_class[0] == N_PRIORS && per_class[1] == N_PRIORS && per_class[2] == N_PRIORS);
    t.multi_label = 0;
    run_with(context, &t, picture, &r);
    CHECK(r.counts[0] == N_PRIORS);
    t.multi_label = -1; /* the model's: no */
    run_with(context, &t, picture, &r);
    CHECK(r.counts[0] == N_PRIORS);
}

static double overlap(const det_object *a, const det_object *b) {
    double w = fmin(a->x2, b->x2) - fmax(a->x1, b->x1), h = fmin(a->y2, b->y2) - fmax(a->y1, b->y1);
    double both = w > 0 && h > 0 ? w * h : 0;
    return both / ((double)(a->x2 - a->x1) * (a->y2 - a->y1) + (double)(b->x2 - b->x1) * (b->y2 - b->y1) - both);
}

/* Pairs of kept boxes that overlap by more than `iou`, of one class and of two. */
static void count_overlaps(const results *r, double iou, int *same, int *across) {
    *same = *across = 0;
    for (int i = 0; i < r->counts[0]; i++) {
        for (int j = 0; j < i; j++) {
            if (overlap(&r->objects[0][i], &r->objects[0][j]) > iou)
                *(r->objects[0][i].class_id == r->objects[0][j].class_id ? same : across) += 1;
        }
    }
}

/* DAMO-YOLO does not clip boxes, so they overlap in the picture as they did in NMS. */
static void test_nms(void) {
    static results r;
    const float iou = 0.1f;
    int same, across;
    det_model *model = open_made("damo-yolo-mobile-tiny");
    det_context *context = create(model, NULL);
    det_image picture = random_picture(64, 64, DET_RGB8, 0);
    det_thresholds t = thresholds(0, 1);
    run_with(context, &t, &picture, &r);
    count_overlaps(&r, 1.001 * (double)iou, &same, &across);
    CHECK_MSG(same > 0 && across > 0, "nothing overlaps: the test would prove little");
    t.iou = iou;
    run_with(context, &t, &picture, &r);
    count_overlaps(&r, 1.001 * (double)iou, &same, &across);
    CHECK_MSG(same == 0 && across > 0, "%d pairs of one class overlap, %d of two", same, across);
    t.class_agnostic = 1;
    run_with(context, &t, &picture, &r);
    count_overlaps(&r, 1.001 * (double)iou, &same, &across);
    CHECK_MSG(same == 0 && across == 0 && r.counts[0] > 0, "%d pairs of one class overlap, %d of two", same, across);
    free_picture(&picture);
    det_context_destroy(context);
    det_model_close(model);
}

/* The best are kept, the flag says that there were more, and nothing is written behind them. */
static void test_cuts(const det_model *model, det_context *context, const det_image *picture) {
    static results all, r;
    det_thresholds t = thresholds(0, 1);
    run_with(context, &t, picture, &all);
    CHECK(all.cuts[0] == 0);
    for (int limit = 0; limit < 2; limit++) { /* the thresholds' and the output's */
        det_output output = output_to(&r);
        memset(&r, 0xee, sizeof r);
        t.max_objects = limit ? MAX_OBJECTS : 7;
        output.max_objects = limit ? 7 : MAX_OBJECTS;
        OK(det_context_set_thresholds(context, &t));
        OK(det_run(context, picture, 1, &output));
        CHECK(r.counts[0] == 7 && r.cuts[0] == DET_CUT_OBJECTS && !memcmp(r.objects[0], all.objects[0], 7 * sizeof(det_object)));
        CHECK(((const uint8_t *)&r.objects[0][7])[0] == 0xee && r.counts[1] == (int32_t)0xeeeeeeee);
        output.cuts = NULL;
        OK(det_run(context, picture, 1, &output));
    }
    det_context_options options = cpu_options(1, 1);
    options.max_candidates = 10;
    det_context *small = create(model, &options);
    t = thresholds(0, 1);
    run_with(small, &t, picture, &r);
    CHECK(r.counts[0] == 10 && r.cuts[0] == DET_CUT_CANDIDATES && !memcmp(r.objects[0], all.objects[0], 10 * sizeof(det_object)));
    t.max_objects = 4;
    run_with(small, &t, picture, &r);
    CHECK(r.counts[0] == 4 && r.cuts[0] == (DET_CUT_OBJECTS | DET_CUT_CANDIDATES));
    det_context_destroy(small);
}

static void test_nothing(det_context *context, const det_image *picture) {
    static results r, untouched;
    det_thresholds t = thresholds(1, 0.5f);
    OK(det_context_set_thresholds(context, &t));
    det_output output = output_to(&r);
    memset(&r, 0xee, sizeof r);
    memset(&untouched, 0xee, sizeof untouched);
    OK(det_run(context, picture, 1, &output));
    CHECK(r.counts[0] == 0 && r.cuts[0] == 0 && !memcmp(r.objects, untouched.objects, sizeof r.objects));
}

/* NULL brings the model's defaults back; so do negative numbers. */
static void test_defaults(det_context *context, const det_image *picture) {
    static results first, r;
    OK(det_context_set_thresholds(context, NULL));
    run(context, picture, 1, &first);
    det_thresholds t = thresholds(0.1f, 0.1f);
    run_with(context, &t, picture, &r);
    CHECK(!same_objects(&first, 0, &r, 0));
    OK(det_context_set_thresholds(context, NULL));
    run(context, picture, 1, &r);
    CHECK(same_objects(&first, 0, &r, 0));
    run_with(context, &t, picture, &r);
    det_thresholds_init(&t);
    t.class_agnostic = 0;
    run_with(context, &t, picture, &r);
    CHECK(same_objects(&first, 0, &r, 0));
    t.score = 0.25f;
    t.iou = 0.5f;
    t.max_objects = 100;
    run_with(context, &t, picture, &r);
    CHECK(same_objects(&first, 0, &r, 0));
}

int main(void) {
    test_networks();
    det_model *model = open_made("yolov8-tiny");
    det_context_options options = cpu_options(1, 1);
    det_context *context = create(model, &options);
    det_image picture = random_picture(64, 64, DET_RGB8, 0);
    test_formats(context);
    test_channels(context);
    test_batches(model);
    test_score_and_classes(context, &picture);
    test_multi_label(context, &picture);
    test_nms();
    test_cuts(model, context, &picture);
    test_nothing(context, &picture);
    test_defaults(context, &picture);
    free_picture(&picture);
    det_context_destroy(context);
    det_model_close(model);
    return check_report("run");
}
