#include "metadata.h"

#include <math.h>
#include <string.h>

enum { FORMAT = 1, MAX_CLASSES = 4096, MAX_INPUT = 8192, MAX_DEPTH = 16 };

static const char *const resize_names[] = {
    [DET_RESIZE_STRETCH] = "stretch",
    [DET_RESIZE_LETTERBOX_TOP] = "letterbox-top",
    [DET_RESIZE_LETTERBOX_CENTRE] = "letterbox-centre",
};

/* jansson calls itself for every level, to 2048 of them: more than a small stack holds. */
static bool is_deep(const char *text, size_t n_bytes) {
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n_bytes; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{') && ++depth > MAX_DEPTH)
            return true;
        else if (!quoted && (c == ']' || c == '}'))
            depth--;
    }
    return false;
}

det_status det_json_read(const char *what, const char *text, size_t n_bytes, json_t **out) {
    json_error_t error;
    if (is_deep(text, n_bytes))
        DET_FAIL(DET_ERROR_BAD_MODEL, "%s is nested more than %d deep", what, MAX_DEPTH);
    *out = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (*out)
        return DET_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "out of host memory: %s of %zu bytes", what, n_bytes);
    DET_FAIL(DET_ERROR_BAD_MODEL, "%s is not JSON: %s at byte %d", what, error.text, error.position);
}

static det_status get_text(const json_t *object, const char *key, const char **out) {
    *out = json_string_value(json_object_get(object, key));
    if (!*out)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: '%s' is not a string", key);
    return DET_OK;
}

static det_status get_number(const json_t *object, const char *key, double low, double high, float *out) {
    const json_t *value = json_object_get(object, key);
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= low && number <= high))
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: '%s' is not a number from %g to %g", key, low, high);
    *out = (float)number;
    return DET_OK;
}

static det_status get_integer(const json_t *value, const char *key, int low, int high, int32_t *out) {
    if (!json_is_integer(value) || json_integer_value(value) < low || json_integer_value(value) > high)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: '%s' is not an integer from %d to %d", key, low, high);
    *out = (int32_t)json_integer_value(value);
    return DET_OK;
}

static det_status get_resize(const json_t *object, int32_t *out) {
    const char *name;
    DET_TRY(get_text(object, "resize", &name));
    for (size_t i = 0; i < DET_COUNT(resize_names); i++) {
        if (!strcmp(name, resize_names[i])) {
            *out = (int32_t)i;
            return DET_OK;
        }
    }
    DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'resize' is '%s', not stretch, letterbox-top or letterbox-centre", name);
}

static det_status get_classes(const json_t *object, det_weights *out) {
    const json_t *classes = json_object_get(object, "classes");
    size_t n = json_array_size(classes);
    if (n < 1 || n > MAX_CLASSES)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'classes' is not an array of 1 to %d names", MAX_CLASSES);
    out->class_names = det_alloc_array(n, sizeof *out->class_names);
    if (!out->class_names)
        return DET_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < n; i++) {
        out->class_names[i] = json_string_value(json_array_get(classes, i));
        if (!out->class_names[i])
            DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: entry %zu of 'classes' is not a string", i);
    }
    out->info.class_names = out->class_names;
    out->info.n_classes = (int32_t)n;
    return DET_OK;
}

static det_status get_input(const json_t *object, det_model_info *info) {
    const json_t *input = json_object_get(object, "input");
    if (json_array_size(input) != 2)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'input' is not [width, height]");
    DET_TRY(get_integer(json_array_get(input, 0), "input", 32, MAX_INPUT, &info->input_width));
    DET_TRY(get_integer(json_array_get(input, 1), "input", 32, MAX_INPUT, &info->input_height));
    if (info->input_width % 32 || info->input_height % 32)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'input' is %dx%d; both must be multiples of 32", info->input_width,
                 info->input_height);
    return DET_OK;
}

static det_status read_fields(const json_t *object, det_weights *out) {
    det_model_info *info = &out->info;
    int32_t format = 0;
    DET_TRY(get_integer(json_object_get(object, "format"), "format", 1, INT32_MAX, &format));
    if (format != FORMAT)
        DET_FAIL(DET_ERROR_UNSUPPORTED, "model file format %d; this library reads format %d", format, FORMAT);
    DET_TRY(get_text(object, "family", &info->family));
    DET_TRY(get_text(object, "variant", &info->variant));
    DET_TRY(get_text(object, "licence", &info->licence));
    DET_TRY(get_text(object, "source", &info->source));
    DET_TRY(get_text(object, "source_sha256", &info->source_sha256));
    DET_TRY(get_input(object, info));
    DET_TRY(get_resize(object, &info->resize));
    DET_TRY(get_number(object, "pad", 0, 255, &info->pad_value));
    DET_TRY(get_number(object, "mean", -255, 255, &info->mean));
    DET_TRY(get_number(object, "scale", 1e-6, 1e3, &info->scale));
    DET_TRY(get_number(object, "score", 0, 1, &info->score_threshold));
    DET_TRY(get_number(object, "iou", 0, 1, &info->iou_threshold));
    const json_t *multi_label = json_object_get(object, "multi_label");
    if (!json_is_boolean(multi_label))
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'multi_label' is not true or false");
    info->multi_label = json_is_true(multi_label);
    DET_TRY(get_integer(json_object_get(object, "max_objects"), "max_objects", 1, 65536, &info->max_objects));
    DET_TRY(get_integer(json_object_get(object, "landmarks"), "landmarks", 0, 5, &info->n_landmarks));
    if (info->n_landmarks != 0 && info->n_landmarks != 5)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'landmarks' is %d, not 0 or 5", info->n_landmarks);
    return get_classes(object, out);
}

det_status det_metadata_read(const json_t *header, det_weights *out) {
    const json_t *text = json_object_get(json_object_get(header, "__metadata__"), "libdetect");
    if (!json_is_string(text))
        DET_FAIL(DET_ERROR_BAD_MODEL, "no libdetect metadata: a checkpoint must be converted first "
                                      "(python3 -m libdetect.convert IN OUT)");
    json_t *object = NULL;
    DET_TRY(det_json_read("metadata", json_string_value(text), json_string_length(text), &object));
    out->metadata = object;
    return read_fields(object, out);
}
