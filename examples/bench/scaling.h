/* What more threads or GPUs bring, between runs of one model on one model of device. */
#ifndef BENCH_SCALING_H
#define BENCH_SCALING_H

#include <jansson.h>

/* A list of {"device_name", "scenario", "precision", "input", "run", "units", "throughput", "scaling", "efficiency"}: the
 * best throughput of each run, against that with the fewest units. Units are GPUs, or threads of a CPU in all contexts.
 * Runs on unlike devices, or of unlike weights, input sizes or precisions, are never put together. */
json_t *scaling_make(const json_t *runs);

/* NULL when there is nothing to compare. */
json_t *scaling_table(const json_t *runs);

#endif
