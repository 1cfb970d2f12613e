/* Detections painted onto their picture. */
#ifndef DRAW_H
#define DRAW_H

#include "image_io.h"

#include <libdetect/detect.h>

/* Paints boxes, labels with scores, and landmarks, sized to suit the picture; each class has its colour. The name is
 * left out where the model knows only one class. Any coordinates are allowed: what lies outside is cut off. */
void draw_objects(image *picture, const det_object *objects, int32_t n_objects, const det_model_info *model);

#endif
