/* `detect info`: a model, and what it costs to run. */
#include "commands.h"
#include "json.h"
#include "measure.h"
#include "session.h"
#include "text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const device_names[] = {"auto", "cpu", "cuda"};                          /* by DET_DEVICE_* */
static const char *const precision_names[] = {"auto", "fp32", "tf32", "fp16", "bf16"};      /* by DET_* */
static const char *const resize_names[] = {"stretch", "letterbox-top", "letterbox-centre"}; /* by DET_RESIZE_* */
static const char *const stage_names[MEASURE_STAGES] = {"upload", "preprocess", "network", "decode_boxes",
                                                        "nms",    "download",   "total"};

static void print_row(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void print_row(const char *key, const char *format, ...) {
    char value[1024]; /* names longer than that are cut */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    printf("%-15s", key);
    print_clean(stdout, value);
    putchar('\n');
}

/* Lines of class names, indented like the values of print_row. */
static void print_classes(const det_model_info *info) {
    enum { INDENT = 15, LINE = 100 };
    printf("%-*s", INDENT, "classes");
    int column = INDENT;
    for (int32_t i = 0; i < info->n_classes; i++) {
        int width = snprintf(NULL, 0, "%" PRId32 " ,", i) + text_width(info->class_names[i]);
        if (column > INDENT && column + 1 + width > LINE) {
            printf("\n%*s", INDENT, "");
            column = INDENT;
        } else if (column > INDENT) {
            putchar(' ');
            column++;
        }
        printf("%" PRId32 " ", i);
        print_clean(stdout, info->class_names[i]);
        fputs(i + 1 < info->n_classes ? "," : "\n", stdout);
        column += width;
    }
}

static void print_model(const det_model_info *info) {
    print_row("family", "%s", info->family);
    print_row("variant", "%s", info->variant);
    print_row("parameters", "%" PRId64, info->n_parameters);
    print_row("input", "%" PRId32 "x%" PRId32 ", %s, padding %g, (grey level - %g) * %g", info->input_width,
              info->input_height, resize_names[info->resize], (double)info->pad_value, (double)info->mean,
              (double)info->scale);
    print_row("thresholds", "score > %g; at most %" PRId32 " objects", (double)info->score_threshold,
              info->max_objects);
    print_row("NMS", "class by class, IoU > %g drops the lower; %s of each box", (double)info->iou_threshold,
              info->multi_label ? "every class above the threshold" : "the best class");
    print_row("landmarks", "%" PRId32, info->n_landmarks);
    print_row("licence", "%s", info->licence[0] != '\0' ? info->licence : "not stated");
    print_row("source", "%s", info->source[0] != '\0' ? info->source : "unknown");
    if (info->source_sha256[0] != '\0')
        print_row("", "SHA-256 %s", info->source_sha256);
    print_classes(info);
}

static void print_bytes(const char *key, int64_t n_bytes) {
    print_row(key, "%" PRId64 " bytes (%.1f MiB)", n_bytes, (double)n_bytes / (1024.0 * 1024.0));
}

static void print_plan(const det_context_info *plan) {
    if (plan->device == DET_DEVICE_CUDA)
        print_row("device", "cuda:%" PRId32 ", %s", plan->device_index, plan->device_name);
    else
        print_row("device", "cpu, %" PRId32 " thread%s", plan->n_threads, plan->n_threads == 1 ? "" : "s");
    print_row("runs as", "%" PRId32 "x%" PRId32 ", %s, batches up to %" PRId32 ", %" PRId32 " layers", plan->width,
              plan->height, precision_names[plan->precision], plan->max_batch, plan->n_layers);
    print_row("work", "%.3f GMAC a picture", 1e-9 * (double)plan->macs);
    print_bytes("weights", plan->weights_bytes);
    print_bytes("arena", plan->arena_bytes);
    print_bytes("workspace", plan->workspace_bytes);
}

static void print_layers(const measured *times) {
    int name_width = 4, op_width = 2, impl_width = 4;
    float sum_ms = 0;
    for (int32_t i = 0; i < times->layers.n_layers; i++) {
        const det_layer_time *layer = &times->layers.layers[i];
        int name = text_width(layer->name), op = text_width(layer->op), impl = text_width(layer->impl);
        name_width = name > name_width ? name : name_width;
        op_width = op > op_width ? op : op_width;
        impl_width = impl > impl_width ? impl : impl_width;
        sum_ms += times->layer_ms[i];
    }
    printf("\n%-*s  %-*s  %-*s  %-20s %9s %9s %6s\n", name_width, "LAYER", op_width, "OP", impl_width, "IMPLEMENTATION",
           "OUTPUT", "MMAC", "MS", "%");
    for (int32_t i = 0; i < times->layers.n_layers; i++) {
        const det_layer_time *layer = &times->layers.layers[i];
        char shape[64] = "-"; /* of what ends in boxes, not in a tensor */
        if (layer->shape[0] > 0)
            snprintf(shape, sizeof shape, "%" PRId32 "x%" PRId32 "x%" PRId32 "x%" PRId32, layer->shape[0],
                     layer->shape[1], layer->shape[2], layer->shape[3]);
        printf("%-*s  %-*s  %-*s  %-20s %9.2f %9.4f %6.2f\n", name_width, layer->name, op_width, layer->op, impl_width,
               layer->impl, shape, 1e-6 * (double)layer->macs, (double)times->layer_ms[i],
               sum_ms > 0 ? 100.0 * (double)times->layer_ms[i] / (double)sum_ms : 0.0);
    }
    printf("\nmilliseconds, medians of %d runs on noise:", MEASURE_RUNS);
    for (int i = 0; i < MEASURE_STAGES; i++)
        printf("%s %s %.3f", i > 0 ? "," : "", stage_names[i], (double)times->stage_ms[i]);
    putchar('\n');
}

static void json_text_row(json_writer *json, const char *key, const char *text) {
    json_key(json, key);
    json_string(json, text);
}

static void json_integer_row(json_writer *json, const char *key, int64_t number) {
    json_key(json, key);
    json_integer(json, number);
}

static void json_float_row(json_writer *json, const char *key, float number) {
    json_key(json, key);
    json_float(json, number);
}

static void json_size_row(json_writer *json, const char *key, int32_t width, int32_t height) {
    json_key(json, key);
    json_begin(json, '[');
    json_integer(json, width);
    json_integer(json, height);
    json_end(json, ']');
}

static void print_model_json(json_writer *json, const det_model_info *info) {
    json_text_row(json, "family", info->family);
    json_text_row(json, "variant", info->variant);
    json_text_row(json, "licence", info->licence);
    json_text_row(json, "source", info->source);
    json_text_row(json, "source_sha256", info->source_sha256);
    json_integer_row(json, "parameters", info->n_parameters);
    json_size_row(json, "input", info->input_width, info->input_height);
    json_text_row(json, "resize", resize_names[info->resize]);
    json_float_row(json, "pad", info->pad_value);
    json_float_row(json, "mean", info->mean);
    json_float_row(json, "scale", info->scale);
    json_float_row(json, "score", info->score_threshold);
    json_float_row(json, "iou", info->iou_threshold);
    json_key(json, "multi_label");
    json_bool(json, info->multi_label != 0);
    json_integer_row(json, "max_objects", info->max_objects);
    json_integer_row(json, "landmarks", info->n_landmarks);
    json_key(json, "classes");
    json_begin(json, '[');
    for (int32_t i = 0; i < info->n_classes; i++)
        json_string(json, info->class_names[i]);
    json_end(json, ']');
}

static void print_plan_json(json_writer *json, const det_context_info *plan) {
    json_text_row(json, "device", device_names[plan->device]);
    json_integer_row(json, "device_index", plan->device_index);
    json_text_row(json, "device_name", plan->device_name);
    json_text_row(json, "precision", precision_names[plan->precision]);
    json_size_row(json, "size", plan->width, plan->height);
    json_integer_row(json, "batch", plan->max_batch);
    json_integer_row(json, "threads", plan->n_threads);
    json_integer_row(json, "macs", plan->macs);
    json_integer_row(json, "weights_bytes", plan->weights_bytes);
    json_integer_row(json, "arena_bytes", plan->arena_bytes);
    json_integer_row(json, "workspace_bytes", plan->workspace_bytes);
    json_integer_row(json, "n_layers", plan->n_layers);
}

static void print_layers_json(json_writer *json, const measured *times) {
    json_key(json, "layers");
    json_begin(json, '[');
    for (int32_t i = 0; i < times->layers.n_layers; i++) {
        const det_layer_time *layer = &times->layers.layers[i];
        json_begin(json, '{');
        json_text_row(json, "name", layer->name);
        json_text_row(json, "op", layer->op);
        json_text_row(json, "impl", layer->impl);
        json_key(json, "shape");
        json_begin(json, '[');
        for (int k = 0; k < 4; k++)
            json_integer(json, layer->shape[k]);
        json_end(json, ']');
        json_integer_row(json, "macs", layer->macs);
        json_float_row(json, "ms", times->layer_ms[i]);
        json_end(json, '}');
    }
    json_end(json, ']');
    json_key(json, "time_ms");
    json_begin(json, '{');
    for (int i = 0; i < MEASURE_STAGES; i++)
        json_float_row(json, stage_names[i], times->stage_ms[i]);
    json_end(json, '}');
}

static void print_json(const session *opened, const measured *times) {
    json_writer json = {.file = stdout};
    json_begin(&json, '{');
    print_model_json(&json, &opened->info);
    print_plan_json(&json, &opened->plan);
    if (times->layer_ms != NULL)
        print_layers_json(&json, times);
    json_end(&json, '}');
    putchar('\n');
}

int command_info(const options *given) {
    session opened;
    measured times = {0};
    int outcome = session_open(&opened, given, given->layers ? DET_CONTEXT_PROFILE_LAYERS : 0);
    if (outcome == EXIT_DONE && given->layers)
        outcome = measure_layers(&opened, &times);
    if (outcome == EXIT_DONE && given->format == FORMAT_JSON) {
        print_json(&opened, &times);
    } else if (outcome == EXIT_DONE) {
        print_model(&opened.info);
        print_plan(&opened.plan);
        if (given->layers)
            print_layers(&times);
    }
    measure_free(&times);
    session_close(&opened);
    return outcome;
}
