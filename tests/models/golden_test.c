/* A network against the outputs of its authors' code: golden_test MODEL REFERENCE [N_THREADS] [--device cuda]
 * [--precision fp16]
 *
 * Feeds the reference's normalised input past pre-processing and compares every tapped tensor, and the boxes, scores
 * and keypoints of every prior, to 1e-4 of the tensor's largest value (in narrower precisions to less, as stated). */
#include "check.h"
#include "context.h"
#include "cpu/candidates.h"
#include "tensors.h"
#include "test_device.h"

#include <math.h>

static double tolerance; /* share of the largest value */

/* Of whole networks: roundings of some fifty layers meet. On the emulated device they come to 6e-3 in tf32 and fp16 and 5e-2
 * in bf16, where it rounds factors to the nearest, as tensor cores need not. The made-up weights of DAMO-YOLO-L are worse
 * conditioned than the others': it ends ten times as far off in fp32 too (3e-5), in tf32 3e-2, in bf16 0.23. */
static double tolerance_of(const det_model *model, const det_context_options *options) {
    det_model_info info = {.struct_size = sizeof info};
    REQUIRE(det_model_get_info(model, &info) == DET_OK, "%s", det_last_error());
    if (options->precision == DET_FP32)
        return 1e-4;
    bool is_worse = !strcmp(info.family, "damo-yolo") && !strcmp(info.variant, "l");
    return (options->precision == DET_BF16 ? 0.1 : 0.02) * (is_worse ? 3 : 1);
}

static double largest(const tensor *t) {
    double most = 0;
    for (int64_t i = 0; i < t->n_values; i++)
        most = fmax(most, fabs(t->values[i]));
    return most;
}

/* Channels of a tensor of ours (NHWC): those from `first`, times `factor`. */
typedef struct view {
    const float *x;
    det_shape shape;
    int first;
    float factor;
} view;

static double difference(const view *v, int n, int i, int j, int k, float theirs) {
    det_shape s = v->shape;
    double d = fabs((double)v->x[(((size_t)n * s.h + i) * s.w + j) * s.c + v->first + k] * v->factor - theirs);
    return isnan(d) ? HUGE_VAL : d; /* fmax passes over NaN */
}

/* With channels [begin, begin + c) of an NCHW reference. */
static void compare(const char *name, view ours, const tensor *reference, int begin, int c) {
    det_shape s = ours.shape;
    REQUIRE(reference->n_dims == 4 && reference->shape[0] == s.n && reference->shape[2] == s.h &&
                reference->shape[3] == s.w && ours.first + c <= s.c && begin + c <= reference->shape[1],
            "%s: shapes differ: ours is %d,%d,%d,%d", name, s.n, s.h, s.w, s.c);
    double worst = 0;
    for (int n = 0; n < s.n; n++)
        for (int k = 0; k < c; k++)
            for (int i = 0; i < s.h; i++)
                for (int j = 0; j < s.w; j++) {
                    size_t at = (((size_t)n * reference->shape[1] + begin + k) * s.h + i) * s.w + j;
                    worst = fmax(worst, difference(&ours, n, i, j, k, reference->values[at]));
                }
    double relative = worst / largest(reference);
    printf("  %-14s %.2e\n", name, relative);
    CHECK_MSG(relative <= tolerance, "%s differs by %g of its largest value", name, relative);
}

static float *fetched[64]; /* freed at the end */
static int n_fetched;

static float *host_values(det_context *c, const det_step *step) {
    det_shape s = step->output_shape;
    REQUIRE(n_fetched < (int)DET_COUNT(fetched), "more than %d taps", n_fetched);
    float *values = fetched[n_fetched++] = malloc((size_t)det_shape_values(s) * sizeof *values);
    REQUIRE(c->plan.backend->get(c->plan.device, step->output, s, step->output_stride, values) == DET_OK, "%s",
            det_last_error());
    return values;
}

/* The tapped tensor's values, on the host. */
static void *tap_values(det_context *c, const char *name, det_shape *shape) {
    const det_net *net = &c->plan.net;
    for (int i = 0; i < net->n_taps; i++) {
        if (strcmp(net->taps[i].name, name) != 0)
            continue;
        for (int j = 0; j < c->plan.n_steps; j++) {
            if (c->plan.steps[j].node->output == net->taps[i].tensor) {
                const det_step *step = &c->plan.steps[j];
                *shape = step->output_shape;
                return host_values(c, step);
            }
        }
    }
    return NULL;
}

/* A reference of the same name as a tap. */
static int compare_direct(det_context *context, const tensor_file *file, const char *name) {
    tensor reference = tensor_find(file, name);
    if (!reference.values)
        return 0;
    det_shape shape = {0};
    const float *x = tap_values(context, name, &shape);
    REQUIRE(x, "no tap %s", name);
    compare(name, (view){x, shape, 0, 1}, &reference, 0, reference.shape[1]);
    return 1;
}

/* The reference "head.raw.p3" of YOLOv8 and YOLO11 is [boxes | classes], our taps "head.reg.p3" and "head.cls.p3"; that
 * of YOLOv5 is [n, anchors, h, w, 5 + classes], our tap "head.p3". */
static int compare_yolo_head(det_context *context, const tensor_file *file, int level) {
    tensor reference = tensor_find(file, det_name("head.raw.p%d", level).text);
    if (!reference.values)
        return 0;
    det_shape a = {0}, b = {0};
    const float *boxes = tap_values(context, det_name("head.reg.p%d", level).text, &a);
    const float *classes = tap_values(context, det_name("head.cls.p%d", level).text, &b);
    if (boxes && classes) {
        compare("head.raw boxes", (view){boxes, a, 0, 1}, &reference, 0, a.c);
        compare("head.raw classes", (view){classes, b, 0, 1}, &reference, a.c, b.c);
        return 1;
    }
    const float *x = tap_values(context, det_name("head.p%d", level).text, &a);
    REQUIRE(x && reference.n_dims == 5 && reference.n_values == det_shape_values(a), "no tap for head.raw.p%d", level);
    double worst = 0;
    int n_outputs = reference.shape[4];
    for (int64_t i = 0; i < reference.n_values; i++) {
        int64_t cell = i / n_outputs % ((int64_t)a.h * a.w), anchor = i / n_outputs / a.h / a.w;
        view v = {x, a, (int)(anchor % reference.shape[1]) * n_outputs, 1};
        worst = fmax(worst, difference(&v, (int)(anchor / reference.shape[1]), (int)(cell / a.w), (int)(cell % a.w),
                                       (int)(i % n_outputs), reference.values[i]));
    }
    CHECK_MSG(worst <= tolerance * largest(&reference), "head.raw.p%d differs by %g", level, worst);
    return 1;
}

/* Predictions "head.cls.p3", "head.reg.p3", "head.kps.p3" are taps of that name, or, in SCRFD's head, channel ranges
 * of the tap "head.p3". The reference of "reg" has the level's scale in it, which ours gets in the decoder. */
static int compare_head(det_context *context, const tensor_file *file, int level) {
    static const char *const parts[] = {"cls", "reg", "kps"};
    const det_weights *weights = &context->model->weights;
    int first = 0, n_compared = 0;
    for (size_t k = 0; k < DET_COUNT(parts); k++) {
        det_name_text name = det_name("head.%s.p%d", parts[k], level);
        tensor reference = tensor_find(file, name.text);
        if (!reference.values)
            continue;
        const det_weight *scale = det_weights_find(weights, det_name("bbox_head.scales.%d.scale", level - 3).text);
        if (!scale)
            scale = det_weights_find(weights, det_name("head.scales.%d.scale", level - 3).text);
        view ours = {.first = 0, .factor = k == 1 && scale ? scale->values[0] : 1};
        ours.x = tap_values(context, name.text, &ours.shape);
        if (!ours.x) {
            ours.x = tap_values(context, det_name("head.p%d", level).text, &ours.shape);
            ours.first = first;
            first += reference.shape[1];
        }
        REQUIRE(ours.x, "no tap for %s", name.text);
        compare(name.text, ours, &reference, 0, reference.shape[1]);
        n_compared++;
    }
    return n_compared;
}

static int compare_taps(det_context *context, const tensor_file *file) {
    int n_compared = 0;
    for (int level = 2; level <= 5; level++) {
        n_compared += compare_direct(context, file, det_name("backbone.c%d", level).text);
        n_compared += compare_direct(context, file, det_name("neck.p%d", level).text);
        n_compared += compare_head(context, file, level);
        n_compared += compare_yolo_head(context, file, level);
    }
    return n_compared;
}

/* Largest difference of a field of all candidates from reference[picture][prior][size]. */
static void compare_candidates(det_context *c, const tensor_file *file) {
    tensor boxes = tensor_find(file, "boxes"), scores = tensor_find(file, "scores");
    tensor points = tensor_find(file, "keypoints");
    int n_priors = boxes.shape[1], n_classes = scores.shape[2];
    double box = 0, score = 0, point = 0;
    void *lists = malloc((size_t)c->plan.candidates_bytes);
    REQUIRE(c->plan.backend->read(c->plan.device, c->plan.candidates, (size_t)c->plan.candidates_bytes, lists) ==
                DET_OK,
            "%s", det_last_error());
    for (int n = 0; n < boxes.shape[0]; n++) {
        const det_candidate_list *list = det_candidates_of(lists, c->options.max_candidates, n);
        CHECK_MSG(list->n == n_priors * n_classes, "%d candidates of %d priors x %d classes", list->n, n_priors,
                  n_classes);
        for (int i = 0; i < list->n; i++) {
            const det_candidate *a = &list->items[i];
            size_t prior = (size_t)n * n_priors + a->prior;
            const float *b = boxes.values + 4 * prior;
            box = fmax(box, fmax(fmax(fabsf(a->x1 - b[0]), fabsf(a->y1 - b[1])),
                                 fmax(fabsf(a->x2 - b[2]), fabsf(a->y2 - b[3]))));
            score = fmax(score, fabsf(a->score - scores.values[prior * n_classes + a->class_id]));
            for (int k = 0; points.values && k < 10; k++)
                point = fmax(point, fabsf((&a->landmarks[0][0])[k] - points.values[10 * prior + k]));
        }
    }
    free(lists);
    printf("  boxes %.2e, scores %.2e", box / largest(&boxes), score / largest(&scores));
    CHECK_MSG(box <= tolerance * largest(&boxes), "boxes differ by %g pixels", box);
    CHECK_MSG(score <= tolerance * largest(&scores), "scores differ by %g", score);
    if (points.values) {
        printf(", keypoints %.2e", point / largest(&points));
        CHECK_MSG(point <= tolerance * largest(&points), "keypoints differ by %g pixels", point);
    }
    printf("\n");
}

/* Networks of random weights can grow beyond what half precision holds; trained ones do not. */
static bool beyond_half(const tensor_file *file) {
    static const char *const names[] = {"backbone.c3", "backbone.c4", "backbone.c5", "neck.p3", "neck.p4", "neck.p5"};
    const double half_max = 65504;
    for (size_t i = 0; i < DET_COUNT(names); i++) {
        tensor t = tensor_find(file, names[i]);
        if (t.values && largest(&t) > half_max)
            return true;
    }
    return false;
}

static void feed_input(det_context *c, const tensor *input) {
    det_shape s = c->plan.steps[0].output_shape;
    float *x = malloc((size_t)det_shape_values(s) * sizeof *x);
    for (int n = 0; n < s.n; n++)
        for (int k = 0; k < 3; k++)
            for (int i = 0; i < s.h; i++)
                for (int j = 0; j < s.w; j++)
                    x[(((size_t)n * s.h + i) * s.w + j) * 3 + k] =
                        input->values[(((size_t)n * 3 + k) * s.h + i) * s.w + j];
    const det_step *first = &c->plan.steps[0];
    REQUIRE(c->plan.backend->set(c->plan.device, first->output, s, first->output_stride, x) == DET_OK, "%s",
            det_last_error());
    free(x);
}

/* Everything passes: every prior and class becomes a candidate, and NMS keeps all. */
static void open_limits(det_context *c, int n_classes) {
    c->limits.iou = 2;
    c->limits.multi_label = true;
    c->limits.max_objects = 1;
    for (int i = 0; i < n_classes; i++) {
        c->limits.class_scores[i] = -1;
        c->limits.class_logits[i] = -INFINITY;
    }
}

int main(int argc, char **argv) {
    det_context_options options;
    argc = test_device_options(argc, argv, &options);
    REQUIRE(argc >= 3, "usage: golden_test MODEL REFERENCE [N_THREADS] [--device cuda] [--precision fp16]");
    tensor_file file = tensor_file_open(argv[2]);
    tensor input = tensor_find(&file, "input");
    REQUIRE(input.n_dims == 4, "%s has no input", argv[2]);
    if (options.precision == DET_FP16 && beyond_half(&file)) {
        printf("%s: SKIP in fp16: its values are beyond 65504\n", argv[2]);
        tensor_file_close(&file);
        return CHECK_SKIP;
    }
    det_model *model;
    REQUIRE(det_model_open(argv[1], &model) == DET_OK, "%s", det_last_error());
    tolerance = tolerance_of(model, &options);
    int n = input.shape[0];
    options.width = input.shape[3];
    options.height = input.shape[2];
    options.max_batch = n;
    options.n_threads = argc > 3 ? atoi(argv[3]) : 1;
    options.max_candidates = 65536;
    det_context *context;
    REQUIRE(det_context_build(model, &options, true, &context) == DET_OK, "%s", det_last_error());
    open_limits(context, model->weights.info.n_classes);
    det_object objects[16];
    int32_t counts[16];
    det_output output = {.objects = objects, .counts = counts, .max_objects = 1};
    det_image images[16] = {{.width = 1}};
    det_placement placements[16];
    REQUIRE(n <= 16, "%d pictures", n);
    for (int i = 0; i < n; i++)
        placements[i] = (det_placement){.scale_x = 1, .scale_y = 1};
    det_frame frame = {images, n, placements, &output, &context->limits};
    feed_input(context, &input);
    det_plan *plan = &context->plan;
    REQUIRE(plan->backend->run_steps(plan->device, plan, &frame, 1, plan->n_steps) == DET_OK, "%s", det_last_error());
    printf("%s %s, %s\n", model->weights.info.family, model->weights.info.variant,
           context->plan.backend->device_name(context->plan.device));
    CHECK(compare_taps(context, &file) >= 1);
    if (tensor_find(&file, "boxes").values)
        compare_candidates(context, &file);
    det_context_destroy(context);
    det_model_close(model);
    tensor_file_close(&file);
    while (n_fetched > 0)
        free(fetched[--n_fetched]);
    return check_report(argv[0]);
}
