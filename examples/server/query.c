#include "query.h"

#include "parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void query_init(query *asked) {
    *asked = (query){.class_enabled = NULL};
    det_thresholds_init(&asked->thresholds);
}

void query_free(query *asked) {
    free(asked->class_enabled);
    asked->class_enabled = NULL;
}

/* A number is a class's index, anything else its name; -1 when the model has no such class. */
static int32_t find_class(const det_model_info *model, const char *word, size_t length) {
    enum { MAX_DIGITS = 9 };
    if (length > 0 && length <= MAX_DIGITS && strspn(word, "0123456789") >= length) {
        long id = strtol(word, NULL, 10);
        return id < model->n_classes ? (int32_t)id : -1;
    }
    for (int32_t i = 0; i < model->n_classes; i++)
        if (strlen(model->class_names[i]) == length && memcmp(word, model->class_names[i], length) == 0)
            return i;
    return -1;
}

static bool set_classes(query *asked, const det_model_info *model, const char *list, char error[QUERY_ERROR_SIZE]) {
    asked->class_enabled = calloc((size_t)model->n_classes, 1);
    if (asked->class_enabled == NULL) {
        snprintf(error, QUERY_ERROR_SIZE, "out of memory");
        return false;
    }
    for (const char *word = list; word != NULL;) {
        size_t length = strcspn(word, ",");
        int32_t id = find_class(model, word, length);
        if (id < 0) {
            snprintf(error, QUERY_ERROR_SIZE, "classes: the model has no class '%.*s'", length > 64 ? 64 : (int)length,
                     word);
            return false;
        }
        asked->class_enabled[id] = 1;
        word = word[length] == ',' ? word + length + 1 : NULL;
    }
    asked->thresholds.class_enabled = asked->class_enabled;
    asked->thresholds.n_classes = model->n_classes;
    return true;
}

bool query_set(query *asked, const det_model_info *model, const char *name, const char *value,
               char error[QUERY_ERROR_SIZE]) {
    bool is_classes = strcmp(name, "classes") == 0;
    float *fraction = NULL;
    if (strcmp(name, "score") == 0)
        fraction = &asked->thresholds.score;
    else if (strcmp(name, "iou") == 0)
        fraction = &asked->thresholds.iou;
    else if (!is_classes) {
        snprintf(error, QUERY_ERROR_SIZE, "unknown parameter '%.64s': there are score, iou and classes", name);
        return false;
    }
    if (is_classes ? asked->class_enabled != NULL : *fraction >= 0) {
        snprintf(error, QUERY_ERROR_SIZE, "%s is given twice", name);
        return false;
    }
    if (is_classes)
        return set_classes(asked, model, value, error);
    if (parse_fraction(value, fraction))
        return true;
    snprintf(error, QUERY_ERROR_SIZE, "%s must be a number from 0 to 1", name);
    return false;
}
