#include "metadata.h"

#include <math.h>
#include <string.h>

enum { FORMAT = 1, MAX_CLASSES = 4096, MAX_INPUT = 8192 };

static const char *const resize_names[] = {
    [DET_RESIZE_STRETCH] = "stretch",
    [DET_RESIZE_LETTERBOX_TOP] = "letterbox-top",
    [DET_RESIZE_LETTERBOX_CENTRE] = "letterbox-centre",
};

static det_status get_text(const det_json *object, const char *key, const char **out) {
    *out = det_json_text(det_json_get(object, key));
    if (!*out)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: '%s' is not a string", key);
    return DET_OK;
}

static det_status get_number(const det_json *object, const char *key, double low, double high, float *out) {
    const det_json *value = det_json_get(object, key);
    double number = !value                            ? NAN
                    : value->kind == DET_JSON_INTEGER ? (double)value->u.integer
                    : value->kind == DET_JSON_REAL    ? value->u.real
                                                      : NAN;
    if (!(number >= low && number <= high))
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: '%s' is not a number from %g to %g", key, low, high);
    *out = (float)number;
    return DET_OK;
}

static det_status get_integer(const det_json *value, const char *key, int low, int high, int32_t *out) {
    if (!value || value->kind != DET_JSON_INTEGER || value->u.integer < low || value->u.integer > high)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: '%s' is not an integer from %d to %d", key, low, high);
    *out = (int32_t)value->u.integer;
    return DET_OK;
}

static det_status get_resize(const det_json *object, int32_t *out) {
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

static det_status get_classes(const det_json *object, det_weights *out) {
    const det_json *classes = det_json_get(object, "classes");
    if (!classes || classes->kind != DET_JSON_ARRAY || classes->n < 1 || classes->n > MAX_CLASSES)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'classes' is not an array of 1 to %d names", MAX_CLASSES);
    out->class_names = det_alloc_array((size_t)classes->n, sizeof *out->class_names);
    if (!out->class_names)
        return DET_ERROR_OUT_OF_MEMORY;
    int n = 0;
    for (const det_json *name = classes->first; name; name = name->next, n++) {
        out->class_names[n] = det_json_text(name);
        if (!out->class_names[n])
            DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: entry %d of 'classes' is not a string", n);
    }
    out->info.class_names = out->class_names;
    out->info.n_classes = n;
    return DET_OK;
}

static det_status get_input(const det_json *object, det_model_info *info) {
    const det_json *input = det_json_get(object, "input");
    if (!input || input->kind != DET_JSON_ARRAY || input->n != 2)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'input' is not [width, height]");
    DET_TRY(get_integer(det_json_item(input, 0), "input", 32, MAX_INPUT, &info->input_width));
    DET_TRY(get_integer(det_json_item(input, 1), "input", 32, MAX_INPUT, &info->input_height));
    if (info->input_width % 32 || info->input_height % 32)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'input' is %dx%d; both must be multiples of 32", info->input_width,
                 info->input_height);
    return DET_OK;
}

/* "" or the 64 digits of a checksum: programs show it and compare it, and need not ask what it is. */
static det_status get_sha256(const det_json *object, const char **out) {
    DET_TRY(get_text(object, "source_sha256", out));
    size_t n = strspn(*out, "0123456789abcdefABCDEF");
    if ((*out)[n] || (n && n != 64))
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'source_sha256' is neither 64 hexadecimal digits nor empty");
    return DET_OK;
}

static det_status read_fields(const det_json *object, det_weights *out) {
    det_model_info *info = &out->info;
    int32_t format = 0;
    DET_TRY(get_integer(det_json_get(object, "format"), "format", 1, INT32_MAX, &format));
    if (format != FORMAT)
        DET_FAIL(DET_ERROR_UNSUPPORTED, "model file format %d; this library reads format %d", format, FORMAT);
    DET_TRY(get_text(object, "family", &info->family));
    DET_TRY(get_text(object, "variant", &info->variant));
    DET_TRY(get_text(object, "licence", &info->licence));
    DET_TRY(get_text(object, "source", &info->source));
    DET_TRY(get_sha256(object, &info->source_sha256));
    DET_TRY(get_input(object, info));
    DET_TRY(get_resize(object, &info->resize));
    DET_TRY(get_number(object, "pad", 0, 255, &info->pad_value));
    DET_TRY(get_number(object, "mean", -255, 255, &info->mean));
    DET_TRY(get_number(object, "scale", 1e-6, 1e3, &info->scale));
    DET_TRY(get_number(object, "score", 0, 1, &info->score_threshold));
    DET_TRY(get_number(object, "iou", 0, 1, &info->iou_threshold));
    const det_json *multi_label = det_json_get(object, "multi_label");
    if (!multi_label || (multi_label->kind != DET_JSON_TRUE && multi_label->kind != DET_JSON_FALSE))
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'multi_label' is not true or false");
    info->multi_label = multi_label->kind == DET_JSON_TRUE;
    DET_TRY(get_integer(det_json_get(object, "max_objects"), "max_objects", 1, 65536, &info->max_objects));
    DET_TRY(get_integer(det_json_get(object, "landmarks"), "landmarks", 0, 5, &info->n_landmarks));
    if (info->n_landmarks != 0 && info->n_landmarks != 5)
        DET_FAIL(DET_ERROR_BAD_MODEL, "metadata: 'landmarks' is %d, not 0 or 5", info->n_landmarks);
    return get_classes(object, out);
}

det_status det_metadata_read(const det_json *header, det_weights *out) {
    const char *text = det_json_text(det_json_get(det_json_get(header, "__metadata__"), "libdetect"));
    if (!text)
        DET_FAIL(DET_ERROR_BAD_MODEL, "no libdetect metadata: a checkpoint must be converted first "
                                      "(python3 -m libdetect.convert IN OUT)");
    DET_TRY(det_json_read("metadata", text, strlen(text), &out->metadata));
    return read_fields(out->metadata, out);
}
