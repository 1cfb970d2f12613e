/* From the bytes of a picture to its objects: decoders of their own threads in front of a pool of detectors. */
#ifndef ENGINE_H
#define ENGINE_H

#include "body.h"
#include "image_io.h"
#include "query.h"
#include "settings.h"

#include <stdio.h>

typedef enum outcome {
    OUTCOME_OK,
    OUTCOME_NOT_A_PICTURE, /* neither JPEG nor PNG */
    OUTCOME_DAMAGED,
    OUTCOME_TOO_LARGE, /* too many pixels */
    OUTCOME_BUSY,      /* a queue or the memory that is allowed is full */
    OUTCOME_LATE,      /* not done by its deadline */
    OUTCOME_FAILED     /* the device; the log says how */
} outcome;

/* One picture on its way. The caller fills the first part in and keeps the job where it is until `done` has been called,
 * which happens exactly once, on any thread, perhaps before the submitting call returns. */
typedef struct job {
    body body;           /* freed by the engine as soon as it is decoded */
    const uint8_t *data; /* the picture, somewhere in the body */
    size_t n_bytes;
    query asked;
    double deadline_ms; /* of clock_ms */
    void (*done)(struct job *finished);
    void *owner;

    outcome outcome;
    char error
        [IMAGE_ERROR_SIZE]; /* about the picture's own bytes, fit to be sent back; "" where there is nothing to say */
    int32_t width, height;
    det_object *objects; /* freed by job_free */
    int32_t n_objects;
    double inference_ms;

    image picture; /* from here on the engine's own */
    size_t picture_bytes;
    double begin_ms;
    struct engine *engine;
    struct job *next;
} job;

typedef struct engine engine;

/* Opens the model and starts every thread. NULL after complaining. */
engine *engine_open(const settings *given, budget *shared);

const det_model_info *engine_model(const engine *e);

/* Takes job->body. The waiting line is bounded: a job that finds it full is done at once, OUTCOME_BUSY. */
void engine_submit(engine *e, job *submitted);

/* The same past the decoders, with job->picture given (and taken). */
void engine_submit_picture(engine *e, job *submitted);

/* Appends what the engine counts. */
void engine_print_metrics(engine *e, FILE *file);

/* No job may be on its way. NULL is allowed. */
void engine_close(engine *e);

/* Frees what a job still holds, submitted or not. */
void job_free(engine *e, job *finished);

#endif
