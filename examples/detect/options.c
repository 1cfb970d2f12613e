#include "options.h"

#include "text.h"

#include <getopt.h>
#include <string.h>

typedef enum option_id {
    OPTION_MODEL = 256, /* above every character, which getopt may return too */
    OPTION_DEVICE,
    OPTION_PRECISION,
    OPTION_SIZE,
    OPTION_THREADS,
    OPTION_BATCH,
    OPTION_SCORE,
    OPTION_IOU,
    OPTION_CLASSES,
    OPTION_MULTI_LABEL,
    OPTION_AGNOSTIC,
    OPTION_MAX_OBJECTS,
    OPTION_JSON,
    OPTION_CSV,
    OPTION_TABLE,
    OPTION_DRAW,
    OPTION_VIDEO,
    OPTION_DROP,
    OPTION_MAX_LATENCY,
    OPTION_MAX_SIDE,
    OPTION_MAX_BYTES,
    OPTION_LAYERS,
    OPTION_VERBOSE,
    OPTION_HELP,
    OPTION_VERSION
} option_id;

enum { FOR_ALL = COMMAND_DETECT | COMMAND_INFO | COMMAND_MODELS, FOR_RUN = COMMAND_DETECT | COMMAND_INFO };

static const struct option_row {
    const char *name;
    int argument; /* getopt's no_argument or required_argument */
    option_id id;
    int commands; /* that know it */
} option_rows[] = {
    {"model", required_argument, OPTION_MODEL, FOR_RUN},
    {"device", required_argument, OPTION_DEVICE, FOR_RUN},
    {"precision", required_argument, OPTION_PRECISION, FOR_RUN},
    {"size", required_argument, OPTION_SIZE, FOR_RUN},
    {"threads", required_argument, OPTION_THREADS, FOR_RUN},
    {"batch", required_argument, OPTION_BATCH, FOR_RUN},
    {"score", required_argument, OPTION_SCORE, COMMAND_DETECT},
    {"iou", required_argument, OPTION_IOU, COMMAND_DETECT},
    {"classes", required_argument, OPTION_CLASSES, COMMAND_DETECT},
    {"multi-label", no_argument, OPTION_MULTI_LABEL, COMMAND_DETECT},
    {"agnostic", no_argument, OPTION_AGNOSTIC, COMMAND_DETECT},
    {"max-objects", required_argument, OPTION_MAX_OBJECTS, COMMAND_DETECT},
    {"json", no_argument, OPTION_JSON, FOR_RUN},
    {"csv", no_argument, OPTION_CSV, COMMAND_DETECT},
    {"table", no_argument, OPTION_TABLE, FOR_RUN},
    {"draw", required_argument, OPTION_DRAW, COMMAND_DETECT},
    {"video", required_argument, OPTION_VIDEO, COMMAND_DETECT},
    {"drop", no_argument, OPTION_DROP, COMMAND_DETECT},
    {"max-latency", required_argument, OPTION_MAX_LATENCY, COMMAND_DETECT},
    {"max-side", required_argument, OPTION_MAX_SIDE, COMMAND_DETECT},
    {"max-bytes", required_argument, OPTION_MAX_BYTES, COMMAND_DETECT},
    {"layers", no_argument, OPTION_LAYERS, COMMAND_INFO},
    {"verbose", no_argument, OPTION_VERBOSE, FOR_RUN},
    {"help", no_argument, OPTION_HELP, FOR_ALL},
    {"version", no_argument, OPTION_VERSION, FOR_ALL},
};
enum { N_OPTIONS = sizeof option_rows / sizeof option_rows[0] };

static bool take_max_bytes(const char *value, image_limits *limits) {
    const int64_t largest = (int64_t)1 << 30;
    int64_t n_bytes;
    if (!parse_bytes(value, largest, &n_bytes))
        return false;
    limits->max_bytes = (size_t)n_bytes;
    return true;
}

static bool choose_format(output_format format, bool *chosen, options *parsed) {
    bool first = !*chosen || parsed->format == format;
    *chosen = true;
    parsed->format = format;
    if (!first)
        complain("choose one of --json, --csv and --table");
    return first;
}

/* Returns NULL when the value is right, else what would be. */
static const char *take_value(int id, const char *value, options *parsed) {
    det_context_options *context = &parsed->context;
    det_thresholds *thresholds = &parsed->thresholds;
    switch (id) {
    case OPTION_MODEL:
        parsed->model = value;
        return NULL;
    case OPTION_DEVICE:
        return parse_device(value, &parsed->device) ? NULL : "auto, cpu, cuda, cuda:N or cuda:UUID";
    case OPTION_PRECISION:
        return parse_precision(value, &context->precision) ? NULL : "auto, fp32, tf32, fp16 or bf16";
    case OPTION_SIZE:
        return parse_size(value, 32, &context->width, &context->height)
                   ? NULL
                   : "WxH, multiples of 32 from 32 to 8192, such as 640x480";
    case OPTION_THREADS:
        return parse_int32(value, 1, 256, &context->n_threads) ? NULL : "1 to 256";
    case OPTION_BATCH:
        return parse_int32(value, 1, 256, &context->max_batch) ? NULL : "1 to 256";
    case OPTION_SCORE:
        return parse_fraction(value, &thresholds->score) ? NULL : "0 to 1";
    case OPTION_IOU:
        return parse_fraction(value, &thresholds->iou) ? NULL : "0 to 1";
    case OPTION_CLASSES:
        parsed->classes = value;
        return NULL;
    case OPTION_MAX_OBJECTS:
        return parse_int32(value, 1, 65536, &thresholds->max_objects) ? NULL : "1 to 65536";
    case OPTION_DRAW:
        parsed->draw_directory = value;
        return value[0] != '\0' ? NULL : "a directory";
    case OPTION_VIDEO:
        parsed->is_video = true;
        return frames_parse_layout(value, &parsed->layout)
                   ? NULL
                   : "WxH, WxH:FORMAT or WxH:FORMAT@RATE; rgb24, bgr24, rgba, gray or nv12; such as 1280x720:nv12@25";
    case OPTION_MAX_LATENCY:
        return parse_int32(value, 1, 3600000, &parsed->max_latency_ms) ? NULL : "milliseconds, 1 to 3600000";
    case OPTION_MAX_SIDE:
        return parse_int32(value, 1, IMAGE_MAX_SIDE, &parsed->limits.max_side) ? NULL : "1 to 16384";
    default: /* OPTION_MAX_BYTES */
        return take_max_bytes(value, &parsed->limits) ? NULL : "1 to 1g, such as 500000 or 64m";
    }
}

static void take_flag(int id, options *parsed) {
    switch (id) {
    case OPTION_MULTI_LABEL:
        parsed->thresholds.multi_label = 1;
        break;
    case OPTION_AGNOSTIC:
        parsed->thresholds.class_agnostic = 1;
        break;
    case OPTION_DROP:
        parsed->drop = true;
        break;
    case OPTION_LAYERS:
        parsed->layers = true;
        break;
    case OPTION_VERBOSE:
        parsed->verbose = true;
        break;
    case OPTION_HELP:
        parsed->help = true;
        break;
    default: /* OPTION_VERSION */
        parsed->version = true;
        break;
    }
}

static const struct option_row *find_row(int id) {
    for (int i = 0; i < N_OPTIONS; i++)
        if ((int)option_rows[i].id == id)
            return &option_rows[i];
    return NULL;
}

static bool take_option(int id, const char *argument, bool *format_chosen, options *parsed) {
    const struct option_row *row;
    switch (id) {
    case ':':
        complain("option '%s' needs a value", argument);
        return false;
    case '?':
        row = find_row(optopt);
        if (row != NULL)
            complain("option '--%s' takes no value", row->name);
        else if (optopt != 0)
            complain("unknown option '-%c'", optopt);
        else
            complain("unknown or ambiguous option '%s'", argument);
        return false;
    case 'h':
        parsed->help = true;
        return true;
    case OPTION_JSON:
        return choose_format(FORMAT_JSON, format_chosen, parsed);
    case OPTION_CSV:
        return choose_format(FORMAT_CSV, format_chosen, parsed);
    case OPTION_TABLE:
        return choose_format(FORMAT_TABLE, format_chosen, parsed);
    default:
        break;
    }
    row = find_row(id);
    if (row->argument == no_argument) {
        take_flag(id, parsed);
        return true;
    }
    const char *expected = take_value(id, optarg, parsed);
    if (expected != NULL)
        complain("--%s '%s': give %s", row->name, optarg, expected);
    return expected == NULL;
}

static int find_command(const char *word) {
    if (word != NULL && strcmp(word, "info") == 0)
        return COMMAND_INFO;
    if (word != NULL && strcmp(word, "models") == 0)
        return COMMAND_MODELS;
    return COMMAND_DETECT;
}

static bool limits_given(const image_limits *limits) {
    image_limits defaults = image_default_limits();
    return limits->max_side != defaults.max_side || limits->max_bytes != defaults.max_bytes;
}

/* What only all options together tell. */
static bool check_operands(const options *parsed) {
    if (parsed->help || parsed->version)
        return true;
    if (parsed->is_video && parsed->n_paths != 1)
        complain("--video takes one pipe, '-' for standard input, not %d", parsed->n_paths);
    else if (parsed->is_video && parsed->context.max_batch > 1)
        complain("--video takes no --batch: frames come one by one");
    else if (parsed->is_video && limits_given(&parsed->limits))
        complain("--max-side and --max-bytes are for pictures: --video gives the frames' size");
    else if (!parsed->is_video && parsed->draw_directory != NULL && strcmp(parsed->draw_directory, "-") == 0)
        complain("--draw - is for --video; a directory of that name is ./-");
    else if (!parsed->is_video && (parsed->drop || parsed->max_latency_ms > 0))
        complain("--drop and --max-latency are for --video");
    else if (parsed->command == COMMAND_DETECT && parsed->n_paths == 0)
        complain("no picture given");
    else if (parsed->command == COMMAND_INFO && parsed->n_paths > 1)
        complain("info takes one model, not %d", parsed->n_paths);
    else if (parsed->command == COMMAND_INFO && parsed->n_paths == 1 && parsed->model != NULL)
        complain("info: give the model once, as '%s' or with --model", parsed->paths[0]);
    else if (parsed->command == COMMAND_MODELS && parsed->n_paths > 0)
        complain("models takes no argument, such as '%s'", parsed->paths[0]);
    else
        return true;
    return false;
}

int options_parse(int argc, char **argv, options *parsed) {
    *parsed = (options){.command = find_command(argc > 1 ? argv[1] : NULL), .limits = image_default_limits()};
    det_context_options_init(&parsed->context);
    det_thresholds_init(&parsed->thresholds);
    if (parsed->command != COMMAND_DETECT) {
        argc--;
        argv++;
    }

    struct option known[N_OPTIONS + 1] = {{0}};
    int n_known = 0;
    for (int i = 0; i < N_OPTIONS; i++)
        if (option_rows[i].commands & parsed->command)
            known[n_known++] =
                (struct option){option_rows[i].name, option_rows[i].argument, NULL, (int)option_rows[i].id};
    opterr = 0; /* messages of our own */
    bool ok = true, format_chosen = false;
    int id;
    while (ok && (id = getopt_long(argc, argv, ":h", known, NULL)) != -1)
        ok = take_option(id, argv[optind - 1], &format_chosen, parsed);
    choose_device(&parsed->context, &parsed->device);
    parsed->paths = argv + optind;
    parsed->n_paths = argc - optind;
    if (ok && check_operands(parsed))
        return EXIT_DONE;
    complain("see 'detect --help'");
    return EXIT_USAGE;
}
