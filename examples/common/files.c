#define _POSIX_C_SOURCE 200809L

#include "files.h"

#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static bool out_of_memory(const char *path) {
    complain("%s: out of memory", path);
    return false;
}

/* Takes `path` over, or frees it. */
static bool append(file_list *list, char *path) {
    if (list->n_paths == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        char **paths = realloc(list->paths, capacity * sizeof *paths);
        if (paths == NULL) {
            out_of_memory(path);
            free(path);
            return false;
        }
        list->paths = paths;
        list->capacity = capacity;
    }
    list->paths[list->n_paths++] = path;
    return true;
}

static bool is_picture_name(const char *name) {
    static const char *const extensions[] = {".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".pnm"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < sizeof extensions / sizeof extensions[0]; i++)
        if (strcasecmp(dot, extensions[i]) == 0)
            return true;
    return false;
}

static char *join(const char *directory, const char *name) {
    size_t length = strlen(directory);
    bool has_slash = length > 0 && directory[length - 1] == '/';
    size_t n_bytes = length + strlen(name) + 2;
    char *path = malloc(n_bytes);
    if (path != NULL)
        snprintf(path, n_bytes, "%s%s%s", directory, has_slash ? "" : "/", name);
    return path;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds pictures to `list` and directories to `pending`. Symbolic links to directories are left alone: they may lead
 * round in a circle. */
static bool add_entry(file_list *list, file_list *pending, const char *directory, const char *name) {
    char *path = join(directory, name);
    if (path == NULL)
        return out_of_memory(directory);
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return append(pending, path);
    if (is_picture_name(name) && stat(path, &status) == 0 && S_ISREG(status.st_mode))
        return append(list, path);
    free(path);
    return true;
}

static bool read_directory(file_list *list, file_list *pending, const char *path) {
    DIR *directory = opendir(path);
    if (directory == NULL) {
        complain("%s: cannot open: %s", path, strerror(errno));
        return false;
    }
    bool ok = true;
    struct dirent *entry;
    while (ok && (errno = 0, entry = readdir(directory)) != NULL)
        if (entry->d_name[0] != '.')
            ok = add_entry(list, pending, path, entry->d_name);
    if (ok && errno != 0) {
        complain("%s: cannot read: %s", path, strerror(errno));
        ok = false;
    }
    closedir(directory);
    return ok;
}

static bool add_directory(file_list *list, const char *argument) {
    size_t first = list->n_paths;
    file_list pending = {0};
    char *copy = strdup(argument);
    bool ok = copy != NULL ? append(&pending, copy) : out_of_memory(argument);
    while (pending.n_paths > 0) {
        char *path = pending.paths[--pending.n_paths];
        ok = read_directory(list, &pending, path) && ok;
        free(path);
    }
    files_free(&pending);
    if (list->n_paths > first)
        qsort(list->paths + first, list->n_paths - first, sizeof *list->paths, compare_paths);
    else if (ok)
        complain("%s: no pictures in this directory", argument);
    return ok && list->n_paths > first;
}

bool files_add(file_list *list, const char *argument) {
    struct stat status;
    if (stat(argument, &status) == 0 && S_ISDIR(status.st_mode))
        return add_directory(list, argument);
    char *copy = strdup(argument);
    return copy != NULL ? append(list, copy) : out_of_memory(argument);
}

void files_free(file_list *list) {
    for (size_t i = 0; i < list->n_paths; i++)
        free(list->paths[i]);
    free(list->paths);
    *list = (file_list){0};
}
