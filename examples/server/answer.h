/* The JSON of the answers. */
#ifndef ANSWER_H
#define ANSWER_H

#include "engine.h"

/* {"faces": [...], "objects": [...], "inference_time_ms": ...}: what a network with landmarks or a class called "face" found, and
 * everything else.
 * The caller frees the text; NULL without memory. */
char *answer_objects(const det_model_info *model, const job *finished);

/* {"error": ...}. Characters that are not printable ASCII become '?'. */
char *answer_error(const char *why);

#endif
