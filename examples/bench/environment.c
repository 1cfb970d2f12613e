#include "environment.h"

#include "find_model.h"
#include "document.h"
#include "sha256.h"
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The smallest context tells whether there is such a device, and what DET_DEVICE_AUTO means here. */
static int find_device(bench *b) {
    enum { SMALLEST = 32 };
    det_context_options wanted;
    det_context_options_init(&wanted);
    choose_device(&wanted, &b->setting.devices[0]);
    wanted.width = wanted.height = SMALLEST;
    wanted.n_threads = 1;
    det_context *context;
    det_context_info info = {.struct_size = sizeof info};
    det_status status = det_context_create(b->model, &wanted, &context);
    if (status == DET_OK)
        status = det_context_get_info(context, &info);
    if (status != DET_OK) {
        complain_of_context(b->model_path, status);
        return EXIT_MODEL;
    }
    b->setting.devices[0].device = info.device;
    det_context_destroy(context);
    return EXIT_DONE;
}

int environment_read(bench *b) {
    char reason[128];
    int outcome = find_device(b);
    if (outcome != EXIT_DONE)
        return outcome;
    machine_describe(&b->machine);
    if (b->setting.devices[0].device == DET_DEVICE_CPU)
        return EXIT_DONE;
    b->gpu = nvml_open(b->setting.devices[0].index, b->setting.devices[0].uuid, reason);
    if (b->gpu != NULL)
        nvml_describe(b->gpu, &b->gpu_description);
    else
        complain("warning: no GPU readings, so throttling would not be seen: %s", reason);
    return EXIT_DONE;
}

/* -------------------------------------------------------------------------------------------------------- pieces */

static json_t *text_or_null(const char *text) {
    return text[0] != '\0' ? json_string(text) : json_null();
}

/* 12040 is 12.4 */
static json_t *cuda_version(long version) {
    return version > 0 ? json_sprintf("%ld.%ld", version / 1000, version % 1000 / 10) : json_null();
}

/* 90100 is 9.1.0; before version 9 it was 8907 for 8.9.7 */
static json_t *cudnn_version(unsigned long v) {
    if (v == 0)
        return json_null();
    return v >= 90000 ? json_sprintf("%lu.%lu.%lu", v / 10000, v / 100 % 100, v % 100)
                      : json_sprintf("%lu.%lu.%lu", v / 1000, v / 100 % 10, v % 100);
}

static json_t *cpu_json(const machine_description *m) {
    return json_pack("{s:o, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:b}", "model", text_or_null(m->cpu), "cores",
                     m->n_cores, "logical", m->n_logical, "usable", m->n_usable, "quota_cores",
                     document_told(m->quota_cores), "mhz", document_told(m->mhz), "max_mhz", document_told(m->max_mhz),
                     "governor", text_or_null(m->governor), "flags", json_string(m->flags), "virtual",
                     m->virtual_machine);
}

static json_t *gpu_json(const bench *b) {
    if (b->gpu == NULL)
        return json_null();
    const nvml_description *d = &b->gpu_description;
    nvml_reading now;
    nvml_read(b->gpu, &now);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "model", text_or_null(d->name),
                     "driver", text_or_null(d->driver), "driver_cuda", cuda_version(d->cuda_version),
                     "compute_capability", document_told(d->capability > 0 ? 0.1 * d->capability : -1), "memory_bytes",
                     document_told(d->memory_bytes), "ecc", d->ecc >= 0 ? json_boolean(d->ecc) : json_null(),
                     "power_cap_w", document_told(d->power_cap_w), "sm_mhz", document_told(now.sm_mhz), "max_sm_mhz",
                     document_told(d->max_sm_mhz), "memory_mhz", document_told(now.memory_mhz), "max_memory_mhz",
                     document_told(d->max_memory_mhz), "other_processes", document_told(d->n_other_processes));
}

static json_t *library_json(void) {
    char path[4096], sha[SHA256_TEXT], onednn[32];
    int64_t n_bytes;
    det_status (*function)(const char *, det_model **) = det_model_open;
    const void *address;
    memcpy(&address, &function, sizeof address);
    machine_file_of(address, path);
    sha256_file(path, sha, &n_bytes);
    const char *slash = strrchr(path, '/');
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "version", det_version(), "file",
                     text_or_null(slash != NULL ? slash + 1 : path), "sha256", text_or_null(sha), "onednn",
                     text_or_null(machine_onednn_version(onednn)), "cuda",
                     cuda_version((long)machine_library_version("libcudart.so", "cudaRuntimeGetVersion")), "cudnn",
                     cudnn_version(machine_library_version("libcudnn.so", "cudnnGetVersion")), "benchmark_compiler",
                     json_string(__VERSION__));
}

/* ------------------------------------------------------------------------------------------------------ warnings */

static void warn(json_t *warnings, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void warn(json_t *warnings, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    complain("warning: %s", text);
    json_array_append_new(warnings, json_string(text));
}

static json_t *warnings_json(const bench *b) {
    static const double high_load = 0.5;
    const machine_description *m = &b->machine;
    json_t *warnings = json_array();
    if (m->load > high_load)
        warn(warnings, "the load average is %.2f: others are at work on this machine", m->load);
    if (b->gpu != NULL && b->gpu_description.n_other_processes > 0)
        warn(warnings, "%d other process%s on the GPU", b->gpu_description.n_other_processes,
             b->gpu_description.n_other_processes == 1 ? " is" : "es are");
    if (m->governor[0] != '\0' && strcmp(m->governor, "performance") != 0)
        warn(warnings, "the CPU's clock follows the load: its governor is '%s', not 'performance'", m->governor);
    if (m->quota_cores > 0 && m->quota_cores < m->n_usable)
        warn(warnings, "a container's quota allows %.2f of the %d cores", m->quota_cores, m->n_usable);
    if (b->in.noise)
        warn(warnings, "the inputs are noise: give --images DIR for figures of real pictures");
#ifdef DET_SANITIZE
    warn(warnings, "this is a build with sanitizers: several times slower than one without");
#endif
    return warnings;
}

json_t *environment_json(const bench *b) {
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    const machine_description *m = &b->machine;
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "date", date, "host", m->host, "system",
                     m->system, "kernel", m->kernel, "cpu", cpu_json(m), "memory_bytes", document_told(m->memory_bytes),
                     "load", document_told(m->load), "gpu", gpu_json(b), "library", library_json(), "warnings",
                     warnings_json(b));
}

json_t *model_json(const bench *b) {
    char sha[SHA256_TEXT];
    int64_t n_bytes;
    sha256_file(b->model_path, sha, &n_bytes);
    const char *slash = strrchr(b->model_path, '/');
    const det_model_info *i = &b->info;
    return json_pack("{s:o, s:s, s:I, s:s, s:s, s:I, s:i, s:[i,i], s:s, s:s, s:s}", "file",
                     text_or_null(slash != NULL ? slash + 1 : b->model_path), "sha256", sha, "bytes",
                     (json_int_t)n_bytes, "family", i->family, "variant", i->variant, "parameters",
                     (json_int_t)i->n_parameters, "classes", i->n_classes, "native_input", i->input_width,
                     i->input_height, "licence", i->licence, "source", i->source, "source_sha256", i->source_sha256);
}

json_t *settings_json(const bench *b) {
    const options *g = b->given;
    json_t *price = json_null();
    if (g->price > 0)
        price = json_pack("{s:f, s:o, s:s, s:s}", "per_hour", g->price, "daily",
                          document_told(g->daily > 0 ? g->daily : -1), "per_1000_formula",
                          "price / 3600 / throughput * 1000", "per_month_formula",
                          "busy: daily * 365 / 12 / 1000 * per_1000; always on: ceil(daily / (throughput * 86400)) * "
                          "price * 730");
    return json_pack("{s:i, s:f, s:f, s:f, s:s, s:I, s:I, s:I, s:o}", "repeats", g->repeats, "seconds", g->seconds,
                     "warm_up_s", g->warm_up_s, "duration_s", g->duration_s, "inputs",
                     b->in.noise ? "noise" : "pictures", "pictures", (json_int_t)b->in.n, "pictures_found",
                     (json_int_t)b->in.n_found, "seed", (json_int_t)g->seed, "price", price);
}
