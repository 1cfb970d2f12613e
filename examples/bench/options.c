#include "options.h"

#include "text.h"
#include "values.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

typedef enum option_id {
    OPTION_DEVICE = 256, /* above every character, which getopt may return too */
    OPTION_PRECISION,
    OPTION_SIZE,
    OPTION_THREADS,
    OPTION_CONTEXTS,
    OPTION_SCENARIO,
    OPTION_BATCH,
    OPTION_BATCHES,
    OPTION_CALLERS,
    OPTION_RATE,
    OPTION_DURATION,
    OPTION_NEED,
    OPTION_MAX_MEMORY,
    OPTION_MAX_LATENCY,
    OPTION_IMAGES,
    OPTION_LABELS,
    OPTION_PICTURES,
    OPTION_PICTURE_SIZE,
    OPTION_SEED,
    OPTION_REPEATS,
    OPTION_SECONDS,
    OPTION_WARM_UP,
    OPTION_PRICE,
    OPTION_DAILY,
    OPTION_ROOF,
    OPTION_LABEL,
    OPTION_JSON,
    OPTION_CSV,
    OPTION_MARKDOWN,
    OPTION_HTML,
    OPTION_QUIET,
    OPTION_MAX_REGRESS,
    OPTION_HELP,
    OPTION_VERSION
} option_id;

enum {
    FOR_RUN = 1 << COMMAND_RUN,
    FOR_COMPARE = 1 << COMMAND_COMPARE,
    FOR_MERGE = 1 << COMMAND_MERGE,
    FOR_ALL = FOR_RUN | FOR_COMPARE | FOR_MERGE
};

static const struct option_row {
    const char *name;
    const char *expects; /* what its value looks like; NULL: it takes none */
    option_id id;
    int commands; /* that know it */
} option_rows[] = {
    {"device", "auto, cpu, cuda, cuda:N or cuda:UUID; several GPUs with commas between", OPTION_DEVICE, FOR_RUN},
    {"precision", "auto, fp32, tf32, fp16 or bf16, with commas between", OPTION_PRECISION, FOR_RUN},
    {"size", "WxH, multiples of 32 from 32 to 8192, such as 640x480,320x320", OPTION_SIZE, FOR_RUN},
    {"threads", "1 to 256", OPTION_THREADS, FOR_RUN},
    {"contexts", "1 to 256", OPTION_CONTEXTS, FOR_RUN},
    {"scenario", "names with commas between, such as latency,stages, or all", OPTION_SCENARIO, FOR_RUN},
    {"batch", "1 to 256", OPTION_BATCH, FOR_RUN},
    {"batches", "1 to 256, with commas between", OPTION_BATCHES, FOR_RUN},
    {"callers", "1 to 10000, with commas between", OPTION_CALLERS, FOR_RUN},
    {"rate", "requests a second, with commas between", OPTION_RATE, FOR_RUN},
    {"duration", "a time such as 500ms, 30s, 10m or 1h", OPTION_DURATION, FOR_RUN},
    {"need", "streams and frames a second, such as 15x15fps", OPTION_NEED, FOR_RUN},
    {"max-memory", "bytes, such as 500m or 2g", OPTION_MAX_MEMORY, FOR_RUN},
    {"max-latency", "a time such as 50ms", OPTION_MAX_LATENCY, FOR_RUN},
    {"images", "a picture or a directory", OPTION_IMAGES, FOR_RUN},
    {"labels", "a directory", OPTION_LABELS, FOR_RUN},
    {"pictures", "1 to 10000", OPTION_PICTURES, FOR_RUN},
    {"picture-size", "WxH, such as 1280x720", OPTION_PICTURE_SIZE, FOR_RUN},
    {"seed", "a whole number", OPTION_SEED, FOR_RUN},
    {"repeats", "1 to 32", OPTION_REPEATS, FOR_RUN},
    {"seconds", "a time such as 1s", OPTION_SECONDS, FOR_RUN},
    {"warm-up", "a time such as 500ms", OPTION_WARM_UP, FOR_RUN},
    {"price", "an hour's price, such as 5.6/h", OPTION_PRICE, FOR_RUN},
    {"daily", "pictures a day", OPTION_DAILY, FOR_RUN},
    {"roof", "GMAC/s and GB/s, such as 100,20", OPTION_ROOF, FOR_RUN},
    {"label", "a name for this machine", OPTION_LABEL, FOR_RUN},
    {"json", "a file name, or -", OPTION_JSON, FOR_ALL},
    {"csv", "a file name, or -", OPTION_CSV, FOR_RUN | FOR_MERGE},
    {"markdown", "a file name, or -", OPTION_MARKDOWN, FOR_RUN | FOR_MERGE},
    {"html", "a file name, or -", OPTION_HTML, FOR_RUN | FOR_MERGE},
    {"quiet", NULL, OPTION_QUIET, FOR_ALL},
    {"max-regress", "a share such as 5%", OPTION_MAX_REGRESS, FOR_COMPARE},
    {"help", NULL, OPTION_HELP, FOR_ALL},
    {"version", NULL, OPTION_VERSION, FOR_ALL},
};
enum { N_OPTIONS = sizeof option_rows / sizeof option_rows[0] };

static bool take_text(const char *value, const char **place) {
    *place = value;
    return value[0] != '\0';
}

static bool take_roof(const char *value, options *parsed) {
    number_list two;
    if (!parse_numbers(value, 1e-6, 1e9, &two) || two.n != 2)
        return false;
    parsed->roof_gmacs = two.values[0];
    parsed->roof_gbytes = two.values[1];
    return true;
}

static bool take_images(const char *value, options *parsed) {
    if (parsed->images.n == MAX_LIST || value[0] == '\0')
        return false;
    parsed->images.paths[parsed->images.n++] = value;
    return true;
}

static bool take_picture_size(const char *value, options *parsed) {
    size_list one;
    if (!parse_sizes(value, 1, &one) || one.n != 1)
        return false;
    parsed->picture_width = one.width[0];
    parsed->picture_height = one.height[0];
    return true;
}

/* What is run, and on what. */
static bool take_what(int id, const char *value, options *parsed) {
    switch (id) {
    case OPTION_DEVICE:
        return parse_gpus(value, &parsed->devices);
    case OPTION_PRECISION:
        return parse_precisions(value, &parsed->precisions);
    case OPTION_SIZE:
        return parse_sizes(value, 32, &parsed->sizes);
    case OPTION_THREADS:
        return parse_int32(value, 1, 256, &parsed->threads);
    case OPTION_CONTEXTS:
        return parse_int32(value, 1, 256, &parsed->contexts);
    case OPTION_SCENARIO:
        return parse_scenarios(value, &parsed->scenarios) && parsed->scenarios != 0;
    case OPTION_IMAGES:
        return take_images(value, parsed);
    case OPTION_LABELS:
        return take_text(value, &parsed->labels);
    case OPTION_PICTURES:
        return parse_int32(value, 1, 10000, &parsed->pictures);
    case OPTION_PICTURE_SIZE:
        return take_picture_size(value, parsed);
    default: /* OPTION_SEED */
        return parse_integer(value, 0, INT64_MAX / 16, &parsed->seed);
    }
}

/* How it is measured, and what is made of it. */
static bool take_how(int id, const char *value, options *parsed) {
    double seconds;
    switch (id) {
    case OPTION_BATCH:
        return parse_int32(value, 1, 256, &parsed->batch);
    case OPTION_BATCHES:
        return parse_integers(value, 1, 256, &parsed->batches);
    case OPTION_CALLERS:
        return parse_integers(value, 1, 10000, &parsed->callers);
    case OPTION_RATE:
        return parse_numbers(value, 1e-3, 1e6, &parsed->rates);
    case OPTION_DURATION:
        return parse_duration(value, &parsed->duration_s);
    case OPTION_NEED:
        return parse_need(value, &parsed->need_streams, &parsed->need_fps);
    case OPTION_MAX_MEMORY:
        return parse_bytes(value, (int64_t)1 << 40, &parsed->max_memory);
    case OPTION_MAX_LATENCY:
        if (!parse_duration(value, &seconds))
            return false;
        parsed->max_latency_ms = 1e3 * seconds;
        return true;
    case OPTION_REPEATS:
        return parse_int32(value, 1, 32, &parsed->repeats);
    case OPTION_SECONDS:
        return parse_duration(value, &parsed->seconds);
    case OPTION_WARM_UP:
        return parse_duration(value, &parsed->warm_up_s);
    case OPTION_PRICE:
        return parse_price(value, &parsed->price);
    case OPTION_DAILY:
        return parse_number(value, 1, 1e12, &parsed->daily);
    default: /* OPTION_ROOF */
        return take_roof(value, parsed);
    }
}

static bool take_value(int id, const char *value, options *parsed) {
    switch (id) {
    case OPTION_LABEL:
        return take_text(value, &parsed->label);
    case OPTION_JSON:
        return take_text(value, &parsed->json);
    case OPTION_CSV:
        return take_text(value, &parsed->csv);
    case OPTION_MARKDOWN:
        return take_text(value, &parsed->markdown);
    case OPTION_HTML:
        return take_text(value, &parsed->html);
    case OPTION_MAX_REGRESS:
        return parse_share(value, &parsed->max_regress);
    case OPTION_DEVICE:
    case OPTION_PRECISION:
    case OPTION_SIZE:
    case OPTION_THREADS:
    case OPTION_CONTEXTS:
    case OPTION_SCENARIO:
    case OPTION_IMAGES:
    case OPTION_LABELS:
    case OPTION_PICTURES:
    case OPTION_PICTURE_SIZE:
    case OPTION_SEED:
        return take_what(id, value, parsed);
    default:
        return take_how(id, value, parsed);
    }
}

static const struct option_row *find_row(int id) {
    for (int i = 0; i < N_OPTIONS; i++)
        if ((int)option_rows[i].id == id)
            return &option_rows[i];
    return NULL;
}

static bool take_option(int id, const char *argument, options *parsed) {
    const struct option_row *row = find_row(id == '?' ? optopt : id);
    if (id == ':') {
        complain("option '%s' needs a value", argument);
        return false;
    }
    if (id == '?') {
        if (row != NULL)
            complain("option '--%s' takes no value", row->name);
        else if (optopt != 0)
            complain("unknown option '-%c'", optopt);
        else
            complain("unknown or ambiguous option '%s'", argument);
        return false;
    }
    if (id == 'h' || id == OPTION_HELP)
        parsed->help = true;
    else if (id == OPTION_VERSION)
        parsed->version = true;
    else if (id == OPTION_QUIET)
        parsed->quiet = true;
    else if (!take_value(id, optarg, parsed)) {
        complain("--%s '%s': give %s", row->name, optarg, row->expects);
        return false;
    }
    return true;
}

static void set_defaults(options *parsed) {
    static const int32_t callers[] = {1, 2, 4, 8, 16, 32, 64, 128, 200};
    enum { LARGEST_BATCH = 64 };
    parsed->devices.n = 1;    /* DET_DEVICE_AUTO, 0 */
    parsed->precisions.n = 1; /* DET_PRECISION_AUTO */
    parsed->sizes.n = 1;      /* 0 x 0 */
    parsed->batch = 1;
    for (int32_t batch = 1; batch <= LARGEST_BATCH; batch *= 2)
        parsed->batches.values[parsed->batches.n++] = batch;
    memcpy(parsed->callers.values, callers, sizeof callers);
    parsed->callers.n = sizeof callers / sizeof callers[0];
    parsed->duration_s = 10;
    parsed->pictures = 0; /* 8 of noise, 64 of a directory */
    parsed->picture_width = 1280;
    parsed->picture_height = 720;
    parsed->repeats = 3;
    parsed->seconds = 1;
    parsed->warm_up_s = 0.5;
    parsed->max_regress = 0.05;
}

/* What is measured when nobody says: what a need or a rate asks for, else what describes a model. */
static void choose_scenarios(options *parsed) {
    bool chosen = parsed->scenarios != 0;
    if (!chosen && parsed->need_streams > 0)
        parsed->scenarios |= 1u << SCENARIO_STREAMS;
    if (parsed->need_streams == 0) {
        parsed->need_streams = 1; /* the answer names how many there could be */
        parsed->need_fps = 15;
    }
    if (chosen)
        return;
    if (parsed->rates.n > 0)
        parsed->scenarios |= 1u << SCENARIO_RATE;
    if (parsed->scenarios == 0)
        parsed->scenarios = 1u << SCENARIO_LATENCY | 1u << SCENARIO_THROUGHPUT | 1u << SCENARIO_CONCURRENCY |
                            1u << SCENARIO_STAGES | 1u << SCENARIO_LAYERS;
}

/* One thing at most can go to standard output; the table makes room for it. */
static bool check_outputs(options *parsed) {
    const char *const files[] = {parsed->json, parsed->csv, parsed->markdown, parsed->html};
    int n = 0;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        n += files[i] != NULL && strcmp(files[i], "-") == 0;
    if (n > 1)
        complain("only one of --json, --csv, --markdown and --html can be '-'");
    parsed->quiet = parsed->quiet || n > 0;
    return n <= 1;
}

static bool check_run(options *parsed) {
    if (parsed->n_files > 1)
        complain("one model at a time, not %d", parsed->n_files);
    else if (parsed->labels != NULL && parsed->images.n != 1)
        complain("--labels needs the one directory of its pictures: --images DIR");
    else if (parsed->daily > 0 && parsed->price <= 0)
        complain("--daily is for the cost: give --price too");
    else
        return true;
    return false;
}

static bool check_operands(options *parsed) {
    if (parsed->help || parsed->version)
        return true;
    if (!check_outputs(parsed))
        return false;
    if (parsed->command == COMMAND_RUN)
        return check_run(parsed);
    int least = parsed->command == COMMAND_COMPARE ? 2 : 1;
    if (parsed->n_files < least || (parsed->command == COMMAND_COMPARE && parsed->n_files > 2)) {
        complain("%s takes %s, not %d", parsed->command == COMMAND_COMPARE ? "compare" : "merge",
                 parsed->command == COMMAND_COMPARE ? "two files" : "files", parsed->n_files);
        return false;
    }
    return true;
}

static command find_command(const char *word) {
    if (word != NULL && strcmp(word, "compare") == 0)
        return COMMAND_COMPARE;
    if (word != NULL && strcmp(word, "merge") == 0)
        return COMMAND_MERGE;
    return COMMAND_RUN;
}

int options_parse(int argc, char **argv, options *parsed) {
    *parsed = (options){.command = find_command(argc > 1 ? argv[1] : NULL)};
    set_defaults(parsed);
    if (parsed->command != COMMAND_RUN) {
        argc--;
        argv++;
    }
    struct option known[N_OPTIONS + 1] = {{0}};
    int n_known = 0;
    for (int i = 0; i < N_OPTIONS; i++)
        if (option_rows[i].commands >> parsed->command & 1)
            known[n_known++] =
                (struct option){option_rows[i].name, option_rows[i].expects != NULL ? required_argument : no_argument,
                                NULL, (int)option_rows[i].id};
    opterr = 0; /* messages of our own */
    bool ok = true;
    int id;
    while (ok && (id = getopt_long(argc, argv, ":h", known, NULL)) != -1)
        ok = take_option(id, argv[optind - 1], parsed);
    parsed->files = argv + optind;
    parsed->n_files = argc - optind;
    choose_scenarios(parsed);
    if (parsed->command == COMMAND_RUN && parsed->n_files > 0)
        parsed->model = parsed->files[0];
    if (ok && check_operands(parsed))
        return EXIT_DONE;
    complain("see 'detect-bench --help'");
    return EXIT_USAGE;
}
