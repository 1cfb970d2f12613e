/* What a figure is worth nothing without: the machine, the GPU, the libraries, the model. */
#ifndef BENCH_ENVIRONMENT_H
#define BENCH_ENVIRONMENT_H

#include "bench.h"

/* Finds out what device the setting means; reads b->machine and, when it is a GPU, b->gpu and b->gpu_description.
 * Returns EXIT_DONE, or EXIT_MODEL after complaining. */
int environment_read(bench *b);

/* Warnings go to standard error, too. */
json_t *environment_json(const bench *b);
json_t *model_json(const bench *b);
json_t *settings_json(const bench *b);

#endif
