#include "backend.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH_BYTES = 4096 };

/* parameters { key: "name" value: { string_value: "..." } }; NULL where it is not given. */
static const char *parameter(const json_t *config, const char *name) {
    const json_t *row = json_object_get(json_object_get(config, "parameters"), name);
    return json_string_value(json_object_get(row, "string_value"));
}

static TRITONSERVER_Error *read_integer(const json_t *config, const char *name, long high, int32_t *value) {
    const char *text = parameter(config, name);
    if (text == NULL)
        return NULL;
    char *end;
    long number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || number < 0 || number > high)
        return fail(TRITONSERVER_ERROR_INVALID_ARG, "parameter '%s': '%s' is no number from 0 to %ld", name, text,
                    high);
    *value = (int32_t)number;
    return NULL;
}

static TRITONSERVER_Error *read_fraction(const json_t *config, const char *name, float *value) {
    const char *text = parameter(config, name);
    if (text == NULL)
        return NULL;
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= 0 && number <= 1))
        return fail(TRITONSERVER_ERROR_INVALID_ARG, "parameter '%s': '%s' is no number from 0 to 1", name, text);
    *value = (float)number;
    return NULL;
}

static TRITONSERVER_Error *read_precision(const json_t *config, int32_t *precision) {
    static const char *const names[] = {"auto", "fp32", "tf32", "fp16", "bf16"}; /* by DET_* value */
    const char *text = parameter(config, "precision");
    if (text == NULL)
        return NULL;
    for (int32_t i = 0; i < (int32_t)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *precision = i;
            return NULL;
        }
    }
    return fail(TRITONSERVER_ERROR_INVALID_ARG, "parameter 'precision': '%s' is not auto, fp32, tf32, fp16 or bf16",
                text);
}

/* REPOSITORY/VERSION/NAME; the name is default_model_filename, or model.safetensors. */
static TRITONSERVER_Error *find_model(TRITONBACKEND_Model *model, const json_t *json, model_config *config) {
    TRITONBACKEND_ArtifactType type;
    const char *location;
    uint64_t version;
    TRY(TRITONBACKEND_ModelRepository(model, &type, &location));
    TRY(TRITONBACKEND_ModelVersion(model, &version));
    if (type != TRITONBACKEND_ARTIFACT_FILESYSTEM)
        return fail(TRITONSERVER_ERROR_UNSUPPORTED, "the model is not in a file system");
    const char *name = json_string_value(json_object_get(json, "default_model_filename"));
    if (name == NULL || name[0] == '\0')
        name = "model.safetensors";
    char path[MAX_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%llu/%s", location, (unsigned long long)version, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return fail(TRITONSERVER_ERROR_INVALID_ARG, "the model's path is too long");
    config->model_path = strdup(path);
    return config->model_path != NULL ? NULL : fail(TRITONSERVER_ERROR_INTERNAL, "out of memory");
}

static TRITONSERVER_Error *read_json(TRITONBACKEND_Model *model, const json_t *json, model_config *config) {
    json_int_t max_batch = json_integer_value(json_object_get(json, "max_batch_size"));
    if (max_batch < 0 || max_batch > 256)
        return fail(TRITONSERVER_ERROR_INVALID_ARG, "max_batch_size is %lld: 0 to 256 will do", (long long)max_batch);
    config->batched = max_batch > 0;
    config->max_batch = config->batched ? (int32_t)max_batch : 1;
    TRY(read_integer(json, "max_objects", 65536, &config->max_objects));
    TRY(read_integer(json, "threads", 256, &config->n_threads));
    TRY(read_integer(json, "width", 8192, &config->width));
    TRY(read_integer(json, "height", 8192, &config->height));
    TRY(read_fraction(json, "score", &config->thresholds.score));
    TRY(read_fraction(json, "iou", &config->thresholds.iou));
    TRY(read_precision(json, &config->precision));
    return find_model(model, json, config);
}

TRITONSERVER_Error *config_read(TRITONBACKEND_Model *model, model_config *config) {
    *config = (model_config){.max_batch = 1};
    det_thresholds_init(&config->thresholds);
    TRITONSERVER_Message *message;
    const char *text;
    size_t n_bytes;
    TRY(TRITONBACKEND_ModelConfig(model, 1, &message));
    TRITONSERVER_Error *error = TRITONSERVER_MessageSerializeToJson(message, &text, &n_bytes);
    json_t *json = error == NULL ? json_loadb(text, n_bytes, 0, NULL) : NULL;
    if (error == NULL)
        error = json != NULL ? read_json(model, json, config)
                             : fail(TRITONSERVER_ERROR_INVALID_ARG, "the model's configuration is not JSON");
    json_decref(json);
    TRITONSERVER_Error *ignored = TRITONSERVER_MessageDelete(message);
    if (ignored != NULL)
        TRITONSERVER_ErrorDelete(ignored);
    return error;
}

void config_free(model_config *config) {
    free(config->model_path);
    config->model_path = NULL;
}
