#include "answer.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

enum { DIGITS = 7 }; /* what a float is good for */

/* As many decimals as `detect --json` has. */
static double position(float pixels) {
    return round((double)pixels * 1e2) / 1e2;
}

static double confidence(float score) {
    return round((double)score * 1e5) / 1e5;
}

static double milliseconds(double ms) {
    return round(ms * 1e3) / 1e3;
}

/* jansson's calls pass NULL on, as lists that lack an entry or an entry that lacks a key: without memory the answer is
 * none at all, so each is looked at. */
static bool add_keypoints(json_t *entry, const det_model_info *model, const det_object *object) {
    json_t *list = json_array();
    bool ok = list != NULL;
    for (int32_t i = 0; i < model->n_landmarks && ok; i++)
        ok = json_array_append_new(
                 list, json_pack("[f, f]", position(object->landmarks[i][0]), position(object->landmarks[i][1]))) == 0;
    return json_object_set_new(entry, "keypoints", list) == 0 && ok;
}

static bool add_object(json_t *list, const det_model_info *model, const det_object *object, bool is_face) {
    json_t *entry = json_pack("{s: [f, f, f, f], s: f}", "bbox", position(object->x1), position(object->y1),
                              position(object->x2), position(object->y2), "confidence", confidence(object->score));
    if (json_array_append_new(list, entry) != 0)
        return false;
    if (is_face)
        return add_keypoints(entry, model, object);
    return json_object_set_new(entry, "class_id", json_integer(object->class_id)) == 0 &&
           json_object_set_new(entry, "label", json_string(model->class_names[object->class_id])) == 0;
}

/* Only networks for faces know landmarks. */
static bool finds_faces(const det_model_info *model, int32_t class_id) {
    return model->n_landmarks > 0 || strcmp(model->class_names[class_id], "face") == 0;
}

char *answer_objects(const det_model_info *model, const job *finished) {
    json_t *faces = json_array(), *objects = json_array();
    json_t *root = json_pack("{s: o, s: o, s: f}", "faces", faces, "objects", objects, "inference_time_ms",
                             milliseconds(finished->inference_ms));
    bool ok = root != NULL;
    for (int32_t i = 0; i < finished->n_objects && ok; i++) {
        const det_object *object = &finished->objects[i];
        bool is_face = finds_faces(model, object->class_id);
        ok = add_object(is_face ? faces : objects, model, object, is_face);
    }
    char *text = ok ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) : NULL;
    json_decref(root);
    return text;
}

char *answer_error(const char *why) {
    char line[256];
    snprintf(line, sizeof line, "%s", why);
    for (char *c = line; *c != '\0'; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    json_t *root = json_pack("{s: s}", "error", line);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}
