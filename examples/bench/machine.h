/* What the operating system says of this machine and of this process. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers that are not told are negative, texts empty. */
typedef struct machine_description {
    char cpu[128], governor[32], flags[256]; /* flags: those that matter here, with blanks between */
    int n_logical, n_cores, n_usable;        /* usable: that this process may run on */
    double quota_cores;                      /* of a container */
    double mhz, max_mhz;
    bool virtual_machine;
    double memory_bytes;
    char kernel[96], system[128], host[96];
    double load; /* of the last minute */
} machine_description;

void machine_describe(machine_description *description);

typedef struct machine_reading {
    double own_cpu_s;    /* CPU time of this process, all threads */
    double all_cpu_s;    /* of the whole machine since it was started */
    double rss_bytes;    /* resident memory */
    int64_t n_throttled; /* events of cores and packages that became too hot, and of a container over its quota */
} machine_reading;

/* `root`: "" but in tests, which have a /sys of their own there. */
void machine_read(const char *root, machine_reading *reading);

/* The version of a loaded library whose file's name begins with `prefix`, as its function `symbol` tells it: a number,
 * or 0 when it is not loaded. */
unsigned long machine_library_version(const char *prefix, const char *symbol);
/* oneDNN's, such as "3.4.1"; "" when it cannot be asked. */
const char *machine_onednn_version(char text[32]);

/* The file that a function of this process was loaded from; "" when unknown. */
const char *machine_file_of(const void *function, char path[4096]);

#endif
