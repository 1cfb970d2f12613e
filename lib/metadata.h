/* The description inside a model file: the JSON text under __metadata__["libdetect"]. */
#ifndef DET_METADATA_H
#define DET_METADATA_H

#include "weights.h"

/* Fills out->info, out->class_names and out->metadata from a safetensors header. */
det_status det_metadata_read(const det_json *header, det_weights *out);

#endif
