#include "settings.h"

#include "log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: detect-server [OPTION]...\n"
    "\n"
    "Answers POST /infer (a JPEG or PNG picture) with the faces or objects in it, as JSON; GET / is a page to\n"
    "try it with, GET /docs describes the rest. Stops at SIGTERM or SIGINT, once what it took is answered.\n"
    "\n"
    "Model and devices\n"
    "  --model FILE|NAME    model file, or the name of a model that comes with libdetect; default: the\n"
    "                       environment's LIBDETECT_MODEL, else damofd-2.5g-kps, which finds faces\n"
    "  --device LIST        auto, cpu, cuda, cuda:N or cuda:UUID, with commas between for several  [auto]\n"
    "  --contexts N         detectors on each device, 1 to 64  [two on a GPU, one on the CPU]\n"
    "  --precision NAME     auto, fp32, tf32, fp16 or bf16  [auto]\n"
    "  --size WxH           network's input, multiples of 32  [the model's]\n"
    "  --threads N          CPU threads of a detector, 1 to 256  [one per core]\n"
    "  --batch N            most pictures in a run, 1 to 256  [8]\n"
    "  --delay-us N         longest that a picture waits for others to share its run, 0 to 1000000  [0]\n"
    "\n"
    "Network\n"
    "  --address ADDRESS    listen here: 0.0.0.0 or :: for every interface  [127.0.0.1]\n"
    "  --port N             0: any that is free  [8080]\n"
    "  --http-threads N     threads that talk to clients, 1 to 64  [2]\n"
    "  --decoders N         threads that decode pictures, 1 to 256  [one per core]\n"
    "\n"
    "Limits (k, m and g may follow a number of bytes)\n"
    "  --max-connections N  open at a time, 1 to 100000; further ones wait to be let in  [512]\n"
    "  --max-queue N        pictures under way, 1 to 65536; further ones are answered 503  [256]\n"
    "  --max-body N         bytes of a request's body; more is answered 413  [16m]\n"
    "  --max-memory N       bytes of all bodies and decoded pictures; beyond that 503; enough for the largest\n"
    "                       request that the other limits allow  [1g]\n"
    "  --max-pixels N       of a picture; more is answered 413  [50000000]\n"
    "  --max-side N         of a picture, in pixels, 1 to 16384  [16384]\n"
    "  --max-objects N      of a picture, the best stay, 1 to 65536  [300]\n"
    "  --receive-timeout S  for a request to come in, or an answer to go out  [30]\n"
    "  --answer-timeout S   from the end of a request to its answer; later is answered 503  [30]\n"
    "\n"
    "  --verbose            show what the libraries have to say\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 stopped by a signal, and what was taken is answered; 1 output could not be written; 2 wrong\n"
    "usage; 3 the model, the device or the address cannot be used.\n";

void settings_help(void) {
    fputs(help_text, stdout);
}

/* Options that are a number: where it goes, and what it may be. */
typedef struct number_row {
    const char *name;
    int64_t low, high;
    enum { INT32, INT64, BYTES, SECONDS } kind;
    void *target;
} number_row;

static bool set_number(const number_row *row, const char *text) {
    int64_t number;
    if (row->kind == BYTES ? !parse_bytes(text, row->high, &number)
                           : !parse_integer(text, row->low, row->high, &number))
        return false;
    switch (row->kind) {
    case INT32:
        *(int32_t *)row->target = (int32_t)number;
        break;
    case INT64:
        *(int64_t *)row->target = number;
        break;
    case BYTES:
        *(size_t *)row->target = (size_t)number;
        break;
    case SECONDS:
        *(double *)row->target = (double)number * 1e3;
        break;
    }
    return true;
}

static bool take_value(settings *given, const char *name, const char *value, bool *known) {
    const number_row numbers[] = {
        {"contexts", 1, 64, INT32, &given->n_contexts},
        {"threads", 1, 256, INT32, &given->context.n_threads},
        {"batch", 1, 256, INT32, &given->context.max_batch},
        {"delay-us", 0, 1000000, INT32, &given->delay_us},
        {"port", 0, 65535, INT32, &given->port},
        {"http-threads", 1, 64, INT32, &given->http_threads},
        {"decoders", 1, 256, INT32, &given->decoders},
        {"max-connections", 1, 100000, INT32, &given->max_connections},
        {"max-queue", 1, 65536, INT32, &given->max_queue},
        {"max-body", 1, (int64_t)1 << 30, BYTES, &given->max_body_bytes},
        {"max-memory", 1, (int64_t)1 << 40, BYTES, &given->max_memory_bytes},
        {"max-pixels", 1, (int64_t)1 << 28, INT64, &given->max_pixels},
        {"max-side", 1, 16384, INT32, &given->max_side},
        {"max-objects", 1, 65536, INT32, &given->max_objects},
        {"receive-timeout", 1, 3600, SECONDS, &given->receive_ms},
        {"answer-timeout", 1, 3600, SECONDS, &given->answer_ms},
    };
    *known = true;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(numbers[i].name, name) == 0)
            return set_number(&numbers[i], value);
    if (strcmp(name, "device") == 0)
        return parse_devices(value, MAX_DEVICES, given->devices, &given->n_devices);
    if (strcmp(name, "precision") == 0)
        return parse_precision(value, &given->context.precision);
    if (strcmp(name, "size") == 0)
        return parse_size(value, 32, &given->context.width, &given->context.height);
    if (strcmp(name, "model") == 0)
        given->model = value;
    else if (strcmp(name, "address") == 0)
        given->address = value;
    else
        *known = false;
    return *known;
}

static void set_defaults(settings *given) {
    *given = (settings){
        .address = "127.0.0.1",
        .port = 8080,
        .http_threads = 2,
        .n_devices = 1,
        .max_connections = 512,
        .max_queue = 256,
        .max_body_bytes = (size_t)16 << 20,
        .max_memory_bytes = (size_t)1 << 30,
        .max_pixels = 50000000,
        .max_side = 16384,
        .max_objects = 300,
        .receive_ms = 30e3,
        .answer_ms = 30e3,
    };
    det_context_options_init(&given->context);
    given->context.max_batch = 8;
}

/* `--name value` or `--name=value`. Returns how many words it took, 0 after complaining. */
static int take_option(settings *given, char **words, int n_words) {
    const char *word = words[0];
    char name[32];
    size_t length = strcspn(word, "=");
    if (strncmp(word, "--", 2) != 0 || length - 2 >= sizeof name) {
        complain("unknown argument '%s'", word);
        return 0;
    }
    memcpy(name, word + 2, length - 2);
    name[length - 2] = '\0';
    bool joined = word[length] == '=';
    const char *value = joined ? word + length + 1 : n_words > 1 ? words[1] : NULL;
    bool known = true, ok = value != NULL && take_value(given, name, value, &known);
    if (ok)
        return joined ? 1 : 2;
    if (value == NULL)
        complain("option '%s' is unknown, or needs a value", word);
    else if (!known)
        complain("unknown option '--%s'", name);
    else
        complain("--%s: '%s' is out of range, or no value for it", name, value);
    return 0;
}

/* A request within the other limits must fit, or the server would send it away for ever. */
static bool check_memory(const settings *given) {
    int64_t side = given->max_side, pixels = side * side < given->max_pixels ? side * side : given->max_pixels;
    int64_t needed = (int64_t)given->max_body_bytes + 3 * pixels;
    if (given->help || given->version || (int64_t)given->max_memory_bytes >= needed)
        return true;
    complain("--max-memory %zu: one request may need %" PRId64
             " bytes, its body and three for each pixel: allow more, or less "
             "with --max-body, --max-pixels or --max-side",
             given->max_memory_bytes, needed);
    return false;
}

bool settings_parse(int argc, char **argv, settings *given) {
    set_defaults(given);
    for (int i = 1; i < argc;) {
        int n_taken = 1;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            given->help = true;
        else if (strcmp(argv[i], "--version") == 0)
            given->version = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            given->verbose = true;
        else
            n_taken = take_option(given, argv + i, argc - i);
        if (n_taken == 0) {
            complain("see 'detect-server --help'");
            return false;
        }
        i += n_taken;
    }
    return check_memory(given);
}
