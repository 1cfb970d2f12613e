/* The time of every layer, for `detect info --layers`. */
#ifndef MEASURE_H
#define MEASURE_H

#include "session.h"

/* The stages of a run, in order; MEASURE_TOTAL is all of them. */
enum {
    MEASURE_UPLOAD,
    MEASURE_PREPROCESS,
    MEASURE_NETWORK,
    MEASURE_DECODE,
    MEASURE_NMS,
    MEASURE_DOWNLOAD,
    MEASURE_TOTAL,
    MEASURE_STAGES
};

/* Milliseconds: medians of MEASURE_RUNS runs on noise, after some to warm up. */
enum { MEASURE_RUNS = 5 };

typedef struct measured {
    float stage_ms[MEASURE_STAGES];
    float *layer_ms;    /* layers.n_layers */
    det_profile layers; /* the last run's, for names and shapes; belongs to the context */
} measured;

/* The context was made with DET_CONTEXT_PROFILE_LAYERS. Returns EXIT_DONE, or EXIT_MODEL after complaining. */
int measure_layers(session *opened, measured *times);

void measure_free(measured *times);

#endif
