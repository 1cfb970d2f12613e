/* The description inside a model file: the JSON text under __metadata__["libdetect"]. */
#ifndef DET_METADATA_H
#define DET_METADATA_H

#include "weights.h"

#include <jansson.h>

/* Parses JSON of unknown origin; `what` is its name in messages. The caller gives *out back with json_decref. */
det_status det_json_read(const char *what, const char *text, size_t n_bytes, json_t **out);

/* Fills out->info, out->class_names and out->metadata from a safetensors header. */
det_status det_metadata_read(const json_t *header, det_weights *out);

#endif
