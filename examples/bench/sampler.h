/* A thread of its own that looks at the machine and the GPU several times a second, so that no timed loop has to. */
#ifndef BENCH_SAMPLER_H
#define BENCH_SAMPLER_H

#include "machine.h"
#include "nvml.h"

typedef struct sampler sampler;

typedef struct sampler_plan {
    const char *root; /* see machine_read */
    const nvml *gpu;  /* NULL: none */
    double interval_s;
    void (*tick)(void); /* called after each sample, by the sampler's thread; or NULL */
} sampler_plan;

/* NULL when there is no memory or no thread. */
sampler *sampler_start(const sampler_plan *plan);
void sampler_stop(sampler *s); /* NULL is allowed */

/* What was used from sampler_begin to sampler_end. Numbers that nobody tells are negative. */
typedef struct resources {
    double seconds;
    int n_samples;
    double cpu_cores;                     /* this process, mean */
    double other_cores;                   /* everyone else, mean */
    double rss_mean, rss_max, rss_growth; /* bytes; growth: see analysis_growth */
    int64_t n_cpu_throttled;              /* events */

    bool has_gpu;
    double gpu_utilisation, gpu_memory_max, gpu_memory_growth;
    double gpu_temperature_max, gpu_power_mean, gpu_power_max, gpu_sm_mhz_mean, gpu_sm_mhz_min;
    uint64_t gpu_throttle; /* every bit that was seen */
} resources;

void sampler_begin(sampler *s);
void sampler_end(sampler *s, resources *used);

/* Why these resources make a figure invalid: throttling. "" when they do not. */
const char *resources_throttling(const resources *used, char text[256]);

#endif
