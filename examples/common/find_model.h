/* Which model file a program uses, and what it says when that cannot be run: one way for every program here. */
#ifndef FIND_MODEL_H
#define FIND_MODEL_H

#include <libdetect/detect.h>
#include <stddef.h>

/* The model is the first of these that is said:
 *   1. `given`, unless NULL: what stands after --model;
 *   2. the environment's LIBDETECT_MODEL, unless empty;
 *   3. damofd-2.5g-kps, the project's own face detector.
 * It is a file; or, where there is none of that name, a model that comes with libdetect, named without a folder and its
 * .safetensors, in the first of these places that has it: models/ beside the running program (a build folder),
 * ../share/libdetect/models/ seen from the program (an installed prefix, wherever it was moved to), the data folder
 * that the build was configured with.
 * `room` [size] takes a path that has to be put together; 4096 bytes do.
 * Returns the path, in `room` or as said; NULL when nothing was said and 3 is nowhere. Files of 1 and 2 need not exist. */
const char *find_model(const char *given, char *room, size_t size);

/* Complains of a context that could not be made, with the library's last error: after the model's name if it is the
 * model's fault, and not that of the device or of the options. */
void complain_of_context(const char *model, det_status status);

#endif
