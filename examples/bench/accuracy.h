/* What a precision costs in boxes: average precision on labelled pictures, and how far boxes move from those of fp32. */
#ifndef BENCH_ACCURACY_H
#define BENCH_ACCURACY_H

#include "average_precision.h"
#include "detector.h"

typedef struct accuracy {
    bool has_ap;
    double ap, ap50; /* COCO's, over IoU 0.50 to 0.95, and at 0.50 */
    int64_t n_labels, n_pictures;

    bool has_drift;
    int64_t n_reference, n_matched, n_surplus; /* objects above the model's threshold */
    double box_mean, box_max; /* pixels of the picture: the largest move of a corner, of the matched ones */
    double score_max;
} accuracy;

/* The objects in some pictures, kept for comparison. */
typedef struct accuracy_reference {
    det_object *objects;
    size_t *ends; /* [n_pictures] where the objects of each end */
    size_t n_pictures;
    int32_t width, height; /* of the network's input that found them; 0: none yet */
} accuracy_reference;

void accuracy_reference_free(accuracy_reference *reference);

/* Measures one setting. With --labels: on all labelled pictures; else drift alone, on the inputs. The first fp32 setting
 * of a size becomes the reference. Returns EXIT_DONE, EXIT_MODEL or EXIT_FAILED after complaining; `how` is known to work. */
int accuracy_measure(const options *given, const det_model *model, const inputs *in, const setting *how,
                     accuracy_reference *reference, accuracy *found);

/* How the objects of one picture differ from the reference's; adds to `found`. Objects of equal class pair up by overlap,
 * the best first, from an IoU of 0.5 on. */
void accuracy_drift(const det_object *reference, size_t n_reference, const det_object *objects, size_t n_objects,
                    accuracy *found);

#endif
