#define _POSIX_C_SOURCE 200809L

#include "find_model.h"

#include "text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_MODEL "damofd-2.5g-kps"

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

/* The path of a model that comes with libdetect, in `room`; NULL when it is in none of the places. */
static const char *find_bundled(const char *name, char *room, size_t size) {
    static const char *const near[] = {"/models", "/../share/libdetect/models"};
    size_t folder = program_folder(room, size);
    for (size_t i = 0; folder > 0 && i < sizeof near / sizeof near[0]; i++) {
        int n = snprintf(room + folder, size - folder, "%s/%s.safetensors", near[i], name);
        if (n > 0 && (size_t)n < size - folder && access(room, R_OK) == 0)
            return room;
    }
    int n = snprintf(room, size, "%s/%s.safetensors", DET_MODELS_FOLDER, name);
    return n > 0 && (size_t)n < size && access(room, R_OK) == 0 ? room : NULL;
}

const char *find_model(const char *given, char *room, size_t size) {
    const char *said = given != NULL ? given : getenv("LIBDETECT_MODEL");
    if (said == NULL || (given == NULL && said[0] == '\0'))
        return find_bundled(DEFAULT_MODEL, room, size);
    if (strchr(said, '/') != NULL || access(said, F_OK) == 0)
        return said;
    const char *bundled = find_bundled(said, room, size);
    return bundled != NULL ? bundled : said;
}

void complain_of_context(const char *model, det_status status) {
    bool is_the_model = status == DET_ERROR_BAD_MODEL;
    complain("%s%s%s", is_the_model ? model : "", is_the_model ? ": " : "", det_last_error());
}
