#define _POSIX_C_SOURCE 200809L

#include "session.h"

#include "find_model.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

static void print_log(void *user, int level, const char *message) {
    static const char *const names[] = {"error", "warning", "info", "debug"}; /* by DET_LOG_* */
    (void)user;
    complain("%s: %s", names[level], message);
}

int session_open(session *opened, const options *given, uint32_t flags) {
    *opened = (session){.info.struct_size = sizeof opened->info, .plan.struct_size = sizeof opened->plan};
    bool first_path = given->command == COMMAND_INFO && given->n_paths > 0;
    char room[4096];
    const char *path = find_model(first_path ? given->paths[0] : given->model, room, sizeof room);
    if (path == NULL) {
        complain("no model: this build comes without one; give --model FILE or set LIBDETECT_MODEL; 'detect models' "
                 "says how to make one");
        return EXIT_MODEL;
    }
    if (given->verbose)
        det_set_log(print_log, DET_LOG_INFO, NULL);
    det_context_options settings = given->context;
    settings.flags = flags;
    if (det_model_open(path, &opened->model) != DET_OK) {
        complain("%s", det_last_error()); /* it names the file */
        return EXIT_MODEL;
    }
    det_status status = det_model_get_info(opened->model, &opened->info);
    if (status == DET_OK)
        status = det_context_create(opened->model, &settings, &opened->context);
    if (status == DET_OK)
        status = det_context_get_info(opened->context, &opened->plan);
    if (status != DET_OK)
        complain_of_context(path, status);
    return status == DET_OK ? EXIT_DONE : EXIT_MODEL;
}

void session_close(session *opened) {
    det_context_destroy(opened->context);
    det_model_close(opened->model);
    *opened = (session){0};
}

/* A number is a class's index, anything else its name. -1 when the model has no such class. */
static int32_t find_class(const det_model_info *info, const char *word) {
    if (word[0] != '\0' && word[strspn(word, "0123456789")] == '\0') {
        long long id = strtoll(word, NULL, 10);
        return id < info->n_classes ? (int32_t)id : -1;
    }
    for (int32_t i = 0; i < info->n_classes; i++)
        if (strcmp(word, info->class_names[i]) == 0)
            return i;
    return -1;
}

static void complain_of_class(const det_model_info *info, const char *word) {
    if (info->n_classes == 1)
        complain("--classes: the model has no class '%s'; its only one is 0 '%s'", word, info->class_names[0]);
    else
        complain("--classes: the model has no class '%s'; its %d classes are 0 '%s' to %d '%s' ('info' lists them)",
                 word, (int)info->n_classes, info->class_names[0], (int)info->n_classes - 1,
                 info->class_names[info->n_classes - 1]);
}

/* Sets the flags of the classes in `list`, which is cut at its commas. */
static bool enable_classes(const det_model_info *info, char *list, uint8_t *enabled) {
    for (char *word = list, *next; word != NULL; word = next) {
        next = strchr(word, ',');
        if (next != NULL)
            *next++ = '\0';
        int32_t id = find_class(info, word);
        if (id < 0) {
            complain_of_class(info, word);
            return false;
        }
        enabled[id] = 1;
    }
    return true;
}

int session_set_thresholds(session *opened, const options *given) {
    det_thresholds thresholds = given->thresholds;
    char *list = NULL;
    uint8_t *enabled = NULL;
    int outcome = EXIT_DONE;
    if (given->classes != NULL) {
        list = strdup(given->classes);
        enabled = calloc((size_t)opened->info.n_classes, 1);
        if (list == NULL || enabled == NULL) {
            complain("out of memory for %d classes", (int)opened->info.n_classes);
            outcome = EXIT_MODEL;
        } else if (!enable_classes(&opened->info, list, enabled)) {
            outcome = EXIT_USAGE;
        }
        thresholds.class_enabled = enabled;
        thresholds.n_classes = opened->info.n_classes;
    }
    if (outcome == EXIT_DONE && det_context_set_thresholds(opened->context, &thresholds) != DET_OK) {
        complain("%s", det_last_error());
        outcome = EXIT_MODEL;
    }
    free(list);
    free(enabled);
    return outcome;
}
