/* The pool of detectors behind the decoders. */
#ifndef DETECTORS_H
#define DETECTORS_H

#include "engine.h"

typedef struct detectors detectors;

/* A context or more on every device. NULL after complaining. */
detectors *detectors_open(const settings *given, const det_model *model);

/* Detects in job->picture. Calls job_finish, on any thread, perhaps before it returns. */
void detectors_submit(detectors *all, job *submitted);

void detectors_print_metrics(detectors *all, FILE *file);

/* Nothing may be on its way. NULL is allowed. */
void detectors_close(detectors *all);

/* engine.c: sets the outcome, frees the picture and tells the job's owner. */
void job_finish(job *finished, outcome how);

#endif
