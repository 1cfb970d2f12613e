#include "machine.h"

#include <dlfcn.h>
#include <link.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

/* --------------------------------------------------------------------------------------------------------- files */

/* The first line of a small file, without its end. */
static bool read_line(const char *path, char *line, int n_bytes) {
    FILE *file = fopen(path, "r");
    bool ok = file != NULL && fgets(line, n_bytes, file) != NULL;
    if (ok)
        line[strcspn(line, "\n")] = '\0';
    else
        line[0] = '\0';
    if (file != NULL)
        fclose(file);
    return ok;
}

static double read_value(const char *path) {
    char line[64];
    return read_line(path, line, sizeof line) ? atof(line) : -1;
}

/* The number behind `key` in a file of lines such as "key 12" or "key: 12 kB". */
static double find_value(const char *path, const char *key) {
    char line[512];
    double value = -1;
    FILE *file = fopen(path, "r");
    size_t length = strlen(key);
    while (file != NULL && value < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, length) == 0)
            value = atof(line + length + strspn(line + length, ": \t"));
    if (file != NULL)
        fclose(file);
    return value;
}

/* --------------------------------------------------------------------------------------------------- description */

static void keep_flags(const char *line, char *kept, size_t n_bytes) {
    static const char *const wanted[] = {"avx2",        "fma",         "avx512f",  "avx512_vnni",
                                         "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8",
                                         "amx_bf16",    "asimd",       "sve",      "hypervisor"};
    size_t length = 0;
    kept[0] = '\0';
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        size_t n = strlen(wanted[i]);
        for (const char *at = line; (at = strstr(at, wanted[i])) != NULL; at += n)
            if (at[-1] == ' ' && (at[n] == ' ' || at[n] == '\n' || at[n] == '\0') && length + n + 2 < n_bytes) {
                length += (size_t)sprintf(kept + length, "%s%s", length > 0 ? " " : "", wanted[i]);
                break;
            }
    }
}

/* /proc/cpuinfo: a paragraph for each logical processor. Cores are counted by package and core number. */
static void read_cpuinfo(machine_description *d) {
    enum { MOST_CORES = 4096 };
    static char line[16384];
    static bool seen[MOST_CORES];
    memset(seen, 0, sizeof seen);
    int package = 0;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *value = strchr(line, ':');
        if (value == NULL)
            continue;
        value += 1 + strspn(value + 1, " ");
        if (strncmp(line, "processor", 9) == 0)
            d->n_logical++;
        else if (strncmp(line, "model name", 10) == 0 && d->cpu[0] == '\0')
            snprintf(d->cpu, sizeof d->cpu, "%.*s", (int)strcspn(value, "\n"), value);
        else if (strncmp(line, "cpu MHz", 7) == 0 && d->mhz < 0)
            d->mhz = atof(value);
        else if (strncmp(line, "physical id", 11) == 0)
            package = atoi(value);
        else if (strncmp(line, "core id", 7) == 0)
            seen[(package * 512 + atoi(value)) & (MOST_CORES - 1)] = true;
        else if ((strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0) && d->flags[0] == '\0')
            keep_flags(value - 1, d->flags, sizeof d->flags);
    }
    if (file != NULL)
        fclose(file);
    for (int i = 0; i < MOST_CORES; i++)
        d->n_cores += seen[i];
    d->n_cores = d->n_cores > 0 ? d->n_cores : d->n_logical;
}

/* CPU time a container may take, in cores: "max 100000" or "200000 100000" microseconds. */
static double read_quota(void) {
    char line[64];
    double quota, period;
    if (!read_line("/sys/fs/cgroup/cpu.max", line, sizeof line) || sscanf(line, "%lf %lf", &quota, &period) != 2)
        return -1;
    return quota / period;
}

static void read_system(machine_description *d) {
    struct utsname system;
    if (uname(&system) == 0) {
        snprintf(d->kernel, sizeof d->kernel, "%.30s %.60s", system.sysname, system.release);
        snprintf(d->host, sizeof d->host, "%s", system.nodename);
    }
    char line[256];
    FILE *file = fopen("/etc/os-release", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "PRETTY_NAME=\"", 13) == 0)
            snprintf(d->system, sizeof d->system, "%.*s", (int)strcspn(line + 13, "\"\n"), line + 13);
    if (file != NULL)
        fclose(file);
}

void machine_describe(machine_description *d) {
    *d = (machine_description){.mhz = -1};
    read_cpuinfo(d);
    read_system(d);
    cpu_set_t usable;
    d->n_usable = sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : d->n_logical;
    d->virtual_machine = strstr(d->flags, "hypervisor") != NULL;
    d->quota_cores = read_quota();
    d->max_mhz = read_value("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");
    d->max_mhz = d->max_mhz > 0 ? 1e-3 * d->max_mhz : -1;
    read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", d->governor, sizeof d->governor);
    double kilobytes = find_value("/proc/meminfo", "MemTotal");
    d->memory_bytes = kilobytes > 0 ? 1024 * kilobytes : -1;
    if (getloadavg(&d->load, 1) != 1)
        d->load = -1;
}

/* ------------------------------------------------------------------------------------------------------- reading */

static double all_cpu_seconds(void) {
    double user, nice, system, idle, wait, irq, softirq, steal;
    char line[256];
    if (!read_line("/proc/stat", line, sizeof line) || sscanf(line, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &user, &nice,
                                                              &system, &idle, &wait, &irq, &softirq, &steal) != 8)
        return 0;
    return (user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
}

/* Every core counts its own; those of a package are the same number, and once is enough to see it rise. */
static int64_t count_throttled(const char *root) {
    static const char *const counters[] = {"core_throttle_count", "package_throttle_count"};
    int64_t n = 0;
    long n_cpus = sysconf(_SC_NPROCESSORS_CONF);
    char path[512];
    for (long cpu = 0; cpu < n_cpus; cpu++) {
        for (size_t i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%ld/thermal_throttle/%s", root, cpu, counters[i]);
            double count = read_value(path);
            n += count > 0 ? (int64_t)count : 0;
        }
    }
    snprintf(path, sizeof path, "%s/sys/fs/cgroup/cpu.stat", root);
    double over_quota = find_value(path, "nr_throttled");
    return n + (over_quota > 0 ? (int64_t)over_quota : 0);
}

void machine_read(const char *root, machine_reading *r) {
    struct rusage usage;
    *r = (machine_reading){.rss_bytes = -1};
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        r->own_cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    r->all_cpu_s = all_cpu_seconds();
    char line[128];
    double pages;
    if (read_line("/proc/self/statm", line, sizeof line) && sscanf(line, "%*f %lf", &pages) == 1)
        r->rss_bytes = pages * (double)sysconf(_SC_PAGESIZE);
    r->n_throttled = count_throttled(root);
}

/* ----------------------------------------------------------------------------------------------------- libraries */

typedef struct wanted_library {
    const char *prefix;
    char path[4096];
} wanted_library;

static int look_at(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    wanted_library *wanted = data;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash != NULL ? slash + 1 : info->dlpi_name;
    if (strncmp(name, wanted->prefix, strlen(wanted->prefix)) != 0)
        return 0;
    snprintf(wanted->path, sizeof wanted->path, "%s", info->dlpi_name);
    return 1;
}

/* A function of a library that is loaded already, or NULL. */
static void *find_function(const char *prefix, const char *symbol) {
    wanted_library wanted = {.prefix = prefix};
    if (dl_iterate_phdr(look_at, &wanted) == 0)
        return NULL;
    void *library = dlopen(wanted.path, RTLD_LAZY | RTLD_NOLOAD);
    void *function = library != NULL ? dlsym(library, symbol) : NULL;
    if (library != NULL)
        dlclose(library); /* it stays loaded: the library under test holds it */
    return function;
}

unsigned long machine_library_version(const char *prefix, const char *symbol) {
    void *function = find_function(prefix, symbol);
    if (function == NULL)
        return 0;
    if (strcmp(symbol, "cudaRuntimeGetVersion") == 0) { /* the one that writes its answer to a place */
        int (*ask)(int *);
        memcpy(&ask, &function, sizeof ask);
        int version = 0;
        return ask(&version) == 0 ? (unsigned long)version : 0;
    }
    size_t (*ask)(void);
    memcpy(&ask, &function, sizeof ask);
    return (unsigned long)ask();
}

const char *machine_onednn_version(char text[32]) {
    const struct version { int major, minor, patch; /* and more */ } * (*ask)(void);
    void *function = find_function("libdnnl.", "dnnl_version");
    text[0] = '\0';
    if (function != NULL) {
        memcpy(&ask, &function, sizeof ask);
        snprintf(text, 32, "%d.%d.%d", ask()->major, ask()->minor, ask()->patch);
    }
    return text;
}

const char *machine_file_of(const void *function, char path[4096]) {
    Dl_info info;
    path[0] = '\0';
    if (dladdr(function, &info) != 0 && info.dli_fname != NULL)
        snprintf(path, 4096, "%s", info.dli_fname);
    return path;
}
