#define _POSIX_C_SOURCE 200809L

#include "default_model.h"

#include "text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL_NAME "damofd-2.5g-kps.safetensors"

/* Writes the running program's folder, without a slash at its end. 0 where the system does not say, or it is too long. */
static size_t program_folder(char *room, size_t size) {
    ssize_t n = readlink("/proc/self/exe", room, size);
    if (n <= 0 || (size_t)n >= size)
        return 0;
    room[n] = '\0';
    char *slash = strrchr(room, '/');
    if (slash == NULL)
        return 0;
    *slash = '\0';
    return (size_t)(slash - room);
}

const char *default_model(const char *given, char *room, size_t size) {
    if (given != NULL)
        return given;
    const char *named = getenv("LIBDETECT_MODEL");
    if (named != NULL && named[0] != '\0')
        return named;
    static const char *const near[] = {"/models/" MODEL_NAME, "/../share/libdetect/models/" MODEL_NAME};
    size_t folder = program_folder(room, size);
    for (size_t i = 0; folder > 0 && i < sizeof near / sizeof near[0]; i++) {
        int n = snprintf(room + folder, size - folder, "%s", near[i]);
        if (n > 0 && (size_t)n < size - folder && access(room, R_OK) == 0)
            return room;
    }
    int n = snprintf(room, size, "%s", DET_MODELS_FOLDER "/" MODEL_NAME);
    return n > 0 && (size_t)n < size && access(room, R_OK) == 0 ? room : NULL;
}

void complain_of_context(const char *model, det_status status) {
    bool may_be_the_model = status == DET_ERROR_BAD_MODEL || status == DET_ERROR_UNSUPPORTED;
    complain("%s%s%s", may_be_the_model ? model : "", may_be_the_model ? ": " : "", det_last_error());
}
