#include "accuracy.h"

#include "labels.h"
#include "text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* As libdetect.evaluate has them. */
static const float LEAST_SCORE = 0.001f;
enum { MAX_OBJECTS = 300, MAX_CANDIDATES = 30000 };
static const double PAIR_IOU = 0.5;

void accuracy_reference_free(accuracy_reference *reference) {
    free(reference->objects);
    free(reference->ends);
    *reference = (accuracy_reference){0};
}

/* --------------------------------------------------------------------------------------------------------- drift */

static ap_box box_of(const det_object *object) {
    return (ap_box){
        .x1 = (double)object->x1, .y1 = (double)object->y1, .x2 = (double)object->x2, .y2 = (double)object->y2};
}

static double largest_move(const det_object *a, const det_object *b) {
    double x1 = fabs((double)a->x1 - (double)b->x1), y1 = fabs((double)a->y1 - (double)b->y1);
    double x2 = fabs((double)a->x2 - (double)b->x2), y2 = fabs((double)a->y2 - (double)b->y2);
    return fmax(fmax(x1, y1), fmax(x2, y2));
}

/* The object of the reference's class that overlaps it most and is still free; n_objects when none does by half. */
static size_t find_partner(const det_object *reference, const det_object *objects, size_t n_objects,
                           const bool *taken) {
    size_t best = n_objects;
    double best_iou = PAIR_IOU;
    ap_box wanted = box_of(reference);
    for (size_t i = 0; i < n_objects; i++) {
        if (taken[i] || objects[i].class_id != reference->class_id)
            continue;
        ap_box box = box_of(&objects[i]);
        double iou = ap_iou(&wanted, &box);
        if (iou > best_iou || (best == n_objects && iou >= best_iou)) {
            best_iou = iou;
            best = i;
        }
    }
    return best;
}

void accuracy_drift(const det_object *reference, size_t n_reference, const det_object *objects, size_t n_objects,
                    accuracy *found) {
    bool taken[MAX_OBJECTS] = {false};
    size_t n_matched = 0;
    n_objects = n_objects < MAX_OBJECTS ? n_objects : MAX_OBJECTS;
    for (size_t i = 0; i < n_reference; i++) {
        size_t k = find_partner(&reference[i], objects, n_objects, taken);
        if (k == n_objects)
            continue;
        taken[k] = true;
        n_matched++;
        double moved = largest_move(&reference[i], &objects[k]);
        double n = (double)++found->n_matched;
        found->box_mean += (moved - found->box_mean) / n;
        found->box_max = fmax(found->box_max, moved);
        found->score_max = fmax(found->score_max, fabs((double)reference[i].score - (double)objects[k].score));
    }
    found->n_reference += (int64_t)n_reference;
    found->n_surplus += (int64_t)(n_objects - n_matched);
    found->has_drift = true;
}

/* ----------------------------------------------------------------------------------------------------- detecting */

/* A pass over all pictures. */
typedef struct pass {
    const options *given;
    const inputs *in;
    det_context *context;
    det_model_info info;
    det_object objects[MAX_OBJECTS];
    ap_boxes labels, detections;
    accuracy_reference *reference;
    bool becomes_reference;
    accuracy *found;
} pass;

static bool out_of_memory(void) {
    complain("out of memory for the objects of all pictures");
    return false;
}

/* Adds a picture's objects to the reference that is being made. */
static bool remember(accuracy_reference *r, const det_object *objects, size_t n_objects) {
    size_t before = r->n_pictures > 0 ? r->ends[r->n_pictures - 1] : 0;
    size_t *ends = realloc(r->ends, (r->n_pictures + 1) * sizeof *ends);
    if (ends == NULL)
        return out_of_memory();
    r->ends = ends;
    det_object *all = realloc(r->objects, (before + n_objects + 1) * sizeof *all);
    if (all == NULL)
        return out_of_memory();
    r->objects = all;
    memcpy(all + before, objects, n_objects * sizeof *all);
    r->ends[r->n_pictures++] = before + n_objects;
    return true;
}

/* Compares a picture's objects above the model's own threshold with the reference's. */
static bool take_drift(pass *p, size_t index, int32_t n_objects) {
    size_t n_shown = 0; /* they are sorted by falling score */
    while (n_shown < (size_t)n_objects && p->objects[n_shown].score > p->info.score_threshold)
        n_shown++;
    accuracy_reference *r = p->reference;
    if (p->becomes_reference && !remember(r, p->objects, n_shown))
        return false;
    if (index < r->n_pictures) {
        size_t begin = index > 0 ? r->ends[index - 1] : 0;
        accuracy_drift(r->objects + begin, r->ends[index] - begin, p->objects, n_shown, p->found);
    }
    return true;
}

static bool take_labels(pass *p, size_t index, const image *picture, int32_t n_objects) {
    for (int32_t i = 0; i < n_objects; i++) {
        ap_box box = box_of(&p->objects[i]);
        box.picture = (int32_t)index;
        box.class_id = p->objects[i].class_id;
        box.score = (double)p->objects[i].score;
        if (!ap_add(&p->detections, box))
            return out_of_memory();
    }
    return labels_read(p->given->labels, p->given->images.paths[0], p->in->files.paths[index], (int32_t)index,
                       picture->width, picture->height, p->info.n_classes, &p->labels);
}

static int detect_picture(pass *p, size_t index, const image *picture) {
    int32_t n_objects;
    det_image view = inputs_view(picture);
    const det_output output = {
        .struct_size = sizeof output, .objects = p->objects, .counts = &n_objects, .max_objects = MAX_OBJECTS};
    if (det_run(p->context, &view, 1, &output) != DET_OK) {
        complain("accuracy: %s", det_last_error());
        return EXIT_MODEL;
    }
    bool ok = take_drift(p, index, n_objects);
    if (ok && p->given->labels != NULL)
        ok = take_labels(p, index, picture, n_objects);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

/* With labels every file is read, whatever the inputs hold; a few of many pictures give no average precision. */
static int detect_all(pass *p) {
    int outcome = EXIT_DONE;
    const image_limits limits = image_default_limits();
    size_t n = p->given->labels != NULL ? p->in->files.n_paths : p->in->n;
    for (size_t i = 0; i < n && outcome == EXIT_DONE; i++) {
        if (p->given->labels == NULL) {
            outcome = detect_picture(p, i, &p->in->pictures[i]);
            continue;
        }
        image picture;
        char error[IMAGE_ERROR_SIZE];
        if (!image_load(p->in->files.paths[i], &limits, &picture, error)) {
            complain("%s: %s", p->in->files.paths[i], error);
            return EXIT_FAILED;
        }
        outcome = detect_picture(p, i, &picture);
        image_free(&picture);
    }
    p->found->n_pictures = (int64_t)n;
    return outcome;
}

static int score_labels(pass *p) {
    p->found->n_labels = (int64_t)p->labels.n;
    if (p->labels.n == 0) {
        complain("%s: no labels for the pictures in %s", p->given->labels, p->given->images.paths[0]);
        return EXIT_FAILED;
    }
    p->found->has_ap = average_precision(&p->labels, &p->detections, &p->found->ap, &p->found->ap50);
    if (!p->found->has_ap)
        out_of_memory();
    return p->found->has_ap ? EXIT_DONE : EXIT_FAILED;
}

static int open_context(pass *p, const det_model *model, const setting *how) {
    det_context_options wanted;
    det_context_options_init(&wanted);
    choose_device(&wanted, &how->devices[0]);
    wanted.precision = how->precision;
    wanted.width = how->width;
    wanted.height = how->height;
    wanted.n_threads = how->threads;
    wanted.max_candidates = MAX_CANDIDATES;
    det_thresholds thresholds;
    det_thresholds_init(&thresholds);
    /* Objects above the model's threshold are the same at a lower one: NMS goes by falling score. */
    thresholds.score = p->given->labels != NULL ? LEAST_SCORE : -1;
    thresholds.max_objects = p->given->labels != NULL ? MAX_OBJECTS : -1;
    det_context_info plan = {.struct_size = sizeof plan};
    if (det_model_get_info(model, &p->info) != DET_OK || det_context_create(model, &wanted, &p->context) != DET_OK ||
        det_context_set_thresholds(p->context, &thresholds) != DET_OK ||
        det_context_get_info(p->context, &plan) != DET_OK) {
        complain("accuracy: %s", det_last_error());
        return EXIT_MODEL;
    }
    bool same_size = p->reference->width == plan.width && p->reference->height == plan.height;
    p->becomes_reference = plan.precision == DET_FP32 && !same_size;
    if (!same_size)
        accuracy_reference_free(p->reference); /* boxes of another input size are no measure */
    if (p->becomes_reference) {
        p->reference->width = plan.width;
        p->reference->height = plan.height;
    }
    return EXIT_DONE;
}

int accuracy_measure(const options *given, const det_model *model, const inputs *in, const setting *how,
                     accuracy_reference *reference, accuracy *found) {
    *found = (accuracy){0};
    pass *p = calloc(1, sizeof *p);
    if (p == NULL) {
        out_of_memory();
        return EXIT_FAILED;
    }
    *p = (pass){.given = given, .in = in, .info.struct_size = sizeof p->info, .reference = reference, .found = found};
    int outcome = open_context(p, model, how);
    if (outcome == EXIT_DONE)
        outcome = detect_all(p);
    if (outcome == EXIT_DONE && given->labels != NULL)
        outcome = score_labels(p);
    det_context_destroy(p->context);
    ap_free(&p->labels);
    ap_free(&p->detections);
    free(p);
    return outcome;
}
