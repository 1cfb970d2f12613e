#include "sampler.h"

#include "analysis.h"
#include "statistics.h"
#include "timebase.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Values at even distances, at most so many however long it takes: when full, every second one goes. So watching for
 * leaks takes no more memory after a day than after a minute. */
enum { SERIES_LENGTH = 4096 };

typedef struct series {
    double values[SERIES_LENGTH];
    size_t n, stride, n_skipped;
} series;

static void series_start(series *s) {
    s->n = s->n_skipped = 0;
    s->stride = 1;
}

static void series_add(series *s, double value) {
    if (++s->n_skipped < s->stride)
        return;
    s->n_skipped = 0;
    if (s->n == SERIES_LENGTH) {
        for (size_t i = 0; i < SERIES_LENGTH / 2; i++)
            s->values[i] = s->values[2 * i + 1];
        s->n = SERIES_LENGTH / 2;
        s->stride *= 2;
    }
    s->values[s->n++] = value;
}

typedef struct extent {
    double sum, low, high;
    int n;
} extent;

static void extent_add(extent *e, double value) {
    if (value < 0)
        return;
    e->low = e->n == 0 || value < e->low ? value : e->low;
    e->high = e->n == 0 || value > e->high ? value : e->high;
    e->sum += value;
    e->n++;
}

static double extent_mean(const extent *e) {
    return e->n > 0 ? e->sum / e->n : -1;
}

static double extent_high(const extent *e) {
    return e->n > 0 ? e->high : -1;
}

struct sampler {
    sampler_plan plan;
    pthread_t thread;
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t wake;
    bool stopping, measuring;
    double begin_s;
    machine_reading first, last;
    int n_samples;
    series rss, gpu_memory;
    extent utilisation, temperature, power, clock;
    uint64_t throttle;
};

/* Under the lock. */
static void take_sample(sampler *s) {
    machine_read(s->plan.root, &s->last);
    if (!s->measuring)
        return;
    s->n_samples++;
    if (s->last.rss_bytes >= 0)
        series_add(&s->rss, s->last.rss_bytes);
    if (s->plan.gpu == NULL)
        return;
    nvml_reading gpu;
    nvml_read(s->plan.gpu, &gpu);
    if (gpu.memory_bytes >= 0)
        series_add(&s->gpu_memory, gpu.memory_bytes);
    extent_add(&s->utilisation, gpu.utilisation);
    extent_add(&s->temperature, gpu.temperature);
    extent_add(&s->power, gpu.power_w);
    extent_add(&s->clock, gpu.sm_mhz);
    s->throttle |= gpu.throttle;
}

static void *sampler_body(void *argument) {
    sampler *s = argument;
    struct timespec when;
    clock_gettime(CLOCK_MONOTONIC, &when);
    pthread_mutex_lock(&s->lock);
    while (!s->stopping) {
        double next = (double)when.tv_nsec * 1e-9 + s->plan.interval_s;
        when.tv_sec += (time_t)floor(next);
        when.tv_nsec = (long)(1e9 * (next - floor(next)));
        while (!s->stopping && pthread_cond_timedwait(&s->wake, &s->lock, &when) == 0)
            continue;
        if (s->stopping)
            break;
        take_sample(s);
        if (s->plan.tick != NULL)
            s->plan.tick();
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

sampler *sampler_start(const sampler_plan *plan) {
    sampler *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->plan = *plan;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->lock, NULL);
    if (pthread_create(&s->thread, NULL, sampler_body, s) == 0)
        return s;
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

void sampler_stop(sampler *s) {
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ------------------------------------------------------------------------------------------------------- windows */

void sampler_begin(sampler *s) {
    pthread_mutex_lock(&s->lock);
    series_start(&s->rss);
    series_start(&s->gpu_memory);
    s->utilisation = s->temperature = s->power = s->clock = (extent){0};
    s->throttle = 0;
    s->n_samples = 0;
    s->measuring = true;
    take_sample(s);
    s->first = s->last;
    s->begin_s = timebase_now(timebase_machine());
    pthread_mutex_unlock(&s->lock);
}

void sampler_end(sampler *s, resources *used) {
    pthread_mutex_lock(&s->lock);
    double seconds = timebase_now(timebase_machine()) - s->begin_s;
    take_sample(s);
    s->measuring = false;
    double own = s->last.own_cpu_s - s->first.own_cpu_s, all = s->last.all_cpu_s - s->first.all_cpu_s;
    *used = (resources){
        .seconds = seconds,
        .n_samples = s->n_samples,
        .cpu_cores = seconds > 0 ? own / seconds : 0,
        .other_cores = seconds > 0 && all > own ? (all - own) / seconds : 0,
        .rss_mean = s->rss.n > 0 ? statistics_mean(s->rss.values, s->rss.n) : -1,
        .rss_max = s->rss.n > 0 ? statistics_max(s->rss.values, s->rss.n) : -1,
        .rss_growth = analysis_growth(s->rss.values, s->rss.n),
        .n_cpu_throttled = s->last.n_throttled - s->first.n_throttled,
        .has_gpu = s->plan.gpu != NULL,
        .gpu_utilisation = extent_mean(&s->utilisation),
        .gpu_memory_max = s->gpu_memory.n > 0 ? statistics_max(s->gpu_memory.values, s->gpu_memory.n) : -1,
        .gpu_memory_growth = analysis_growth(s->gpu_memory.values, s->gpu_memory.n),
        .gpu_temperature_max = extent_high(&s->temperature),
        .gpu_power_mean = extent_mean(&s->power),
        .gpu_power_max = extent_high(&s->power),
        .gpu_sm_mhz_mean = extent_mean(&s->clock),
        .gpu_sm_mhz_min = s->clock.n > 0 ? s->clock.low : -1,
        .gpu_throttle = s->throttle,
    };
    pthread_mutex_unlock(&s->lock);
}

const char *resources_throttling(const resources *used, char text[256]) {
    char gpu[160];
    text[0] = '\0';
    nvml_throttle_text(used->gpu_throttle, gpu);
    if (gpu[0] != '\0')
        snprintf(text, 256, "the GPU was throttled: %s", gpu);
    else if (used->n_cpu_throttled > 0)
        snprintf(text, 256, "the CPU was throttled %lld times, by heat or a container's quota",
                 (long long)used->n_cpu_throttled);
    return text;
}
