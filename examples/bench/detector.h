/* The device under test: contexts of one model, as a target of the loops. Only det_run is used, which waits for its
 * results: nothing here can be timed before it is done. */
#ifndef BENCH_DETECTOR_H
#define BENCH_DETECTOR_H

#include "inputs.h"
#include "loops.h"

/* One way to run the model. */
typedef struct setting {
    device_choice devices[MAX_LIST]; /* contexts take them in turn */
    int n_devices;
    int32_t precision, width, height, batch, threads;
    uint32_t flags; /* DET_CONTEXT_* */
} setting;

typedef struct detector detector;

/* What a worker has at hand; of its own thread alone. */
typedef struct seat {
    det_context *context;
    det_object *objects; /* batch x max_objects */
    int32_t *counts;     /* batch */
    int64_t n_objects;   /* found so far */
    char error[256];
} seat;

struct detector {
    const inputs *in;
    int batch, max_objects;
    det_context_info plan; /* of the first context */
    seat *seats;
    target target;
    double create_s; /* for all contexts */
    /* Called by the worker after every run; or NULL. False ends the load. */
    bool (*after)(detector *d, int worker, int64_t number);
    void *after_data;
};

/* After a failure det_last_error says what it was; close it in either case. */
det_status detector_open(detector *d, const det_model *model, const inputs *in, const setting *how, int n_contexts);
void detector_close(detector *d);

/* What the first worker that failed had to say; "" when none did. */
const char *detector_error(const detector *d);

/* What all contexts hold of host or device memory. */
int64_t detector_bytes(const detector *d);

#endif
