/* No trace: CUPTI is not installed. */
#include "trace.h"

bool gpu_trace_start(void) {
    return false;
}

gpu_trace gpu_trace_stop(void) {
    return (gpu_trace){0};
}
