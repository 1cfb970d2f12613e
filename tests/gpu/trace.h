/* What the process asks of CUDA while it is watched. */
#ifndef DET_TEST_TRACE_H
#define DET_TEST_TRACE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gpu_trace {
    int64_t allocations;  /* of device or pinned memory, taken or given back */
    int64_t device_waits; /* for a whole device or context */
    int64_t on_default_stream;
    int64_t calls; /* all calls of the driver and the runtime */
} gpu_trace;

/* Starts counting; false when nothing here can count. */
bool gpu_trace_start(void);
gpu_trace gpu_trace_stop(void);

#endif
