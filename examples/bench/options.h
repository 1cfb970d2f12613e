/* The command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "parse.h"

/* What the exit status says; also what functions return that can end the program. */
enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1, /* something failed or is invalid, a need is not met, or output could not be written */
    EXIT_USAGE = 2,
    EXIT_MODEL = 3,     /* the model or the device cannot be used */
    EXIT_REGRESSION = 3 /* of compare */
};

typedef enum command { COMMAND_RUN, COMMAND_COMPARE, COMMAND_MERGE } command;

/* In the order in which they run. */
typedef enum scenario_id {
    SCENARIO_LATENCY,
    SCENARIO_THROUGHPUT,
    SCENARIO_CONCURRENCY,
    SCENARIO_RATE,
    SCENARIO_STREAMS,
    SCENARIO_SOAK,
    SCENARIO_TUNE,
    SCENARIO_STAGES,
    SCENARIO_LAYERS,
    N_SCENARIOS
} scenario_id;

extern const char *const scenario_names[N_SCENARIOS];

/* Precisions are the library's numbers, and one that it does not have. */
enum { PRECISION_INT8 = 100 };
const char *precision_name(int32_t precision);

enum { MAX_LIST = 32 };

typedef struct size_list {
    int32_t width[MAX_LIST], height[MAX_LIST];
    int n;
} size_list;

typedef struct integer_list {
    int32_t values[MAX_LIST];
    int n;
} integer_list;

typedef struct number_list {
    double values[MAX_LIST];
    int n;
} number_list;

typedef struct device_list {
    device_choice values[MAX_LIST];
    int32_t n;
} device_list;

typedef struct path_list {
    const char *paths[MAX_LIST];
    int n;
} path_list;

/* Texts belong to argv. */
typedef struct options {
    command command;
    bool help, version, quiet;

    const char *model; /* NULL: none given */
    device_list devices;
    integer_list precisions;   /* DET_* or PRECISION_INT8 */
    size_list sizes;           /* 0 x 0: the model's own */
    int32_t threads, contexts; /* 0: see docs/benchmark.md */

    uint32_t scenarios; /* bits, 1 << SCENARIO_* */
    int32_t batch;
    integer_list batches, callers;
    number_list rates; /* requests a second; none: shares of what the machine can do */
    double duration_s;
    int32_t need_streams;
    double need_fps;
    int64_t max_memory;    /* bytes; 0: no limit */
    double max_latency_ms; /* 0: no limit */

    path_list images;
    const char *labels;
    int32_t pictures, picture_width, picture_height;
    int64_t seed;

    int32_t repeats;
    double seconds, warm_up_s;

    double price, daily; /* an hour; pictures a day. 0: not given */
    double roof_gmacs, roof_gbytes;
    const char *label;

    const char *json, *csv, *markdown, *html; /* file names, "-" for standard output; NULL: not wanted */

    double max_regress; /* a share */
    char *const *files; /* of compare and merge */
    int n_files;
} options;

/* Reads the command line. Returns EXIT_DONE, or EXIT_USAGE after saying what is wrong. */
int options_parse(int argc, char **argv, options *parsed);

static inline bool wants(const options *given, scenario_id id) {
    return given->scenarios >> id & 1;
}

/* The text of --help. */
void print_help(void);

#endif
