#define _POSIX_C_SOURCE 200809L

#include "drawings.h"

#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The file's place in the set, or the free one where it would go. Files, not names: one file can have many names. */
static file_id *find_place(const drawings *set, const struct stat *status) {
    uint64_t hash = ((uint64_t)status->st_ino ^ (uint64_t)status->st_dev << 32) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(hash >> 16) & (set->capacity - 1);
    while (set->protected[i].used &&
           (set->protected[i].device != status->st_dev || set->protected[i].inode != status->st_ino))
        i = (i + 1) & (set->capacity - 1);
    return &set->protected[i];
}

static void protect(drawings *set, const char *path) {
    struct stat status;
    if (stat(path, &status) == 0)
        *find_place(set, &status) = (file_id){status.st_dev, status.st_ino, true};
}

bool drawings_open(drawings *set, const char *directory, const file_list *inputs) {
    *set = (drawings){.directory = directory, .capacity = 16};
    while (set->capacity <= 4 * inputs->n_paths)
        set->capacity *= 2;
    set->protected = calloc(set->capacity, sizeof *set->protected);
    if (set->protected == NULL) {
        complain("%s: out of memory for %zu names", directory, inputs->n_paths);
        return false;
    }
    struct stat status;
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        complain("%s: cannot create directory: %s", directory, strerror(errno));
        return false;
    }
    if (stat(directory, &status) != 0 || !S_ISDIR(status.st_mode)) {
        complain("%s: not a directory", directory);
        return false;
    }
    for (size_t i = 0; i < inputs->n_paths; i++)
        protect(set, inputs->paths[i]);
    return true;
}

static bool may_write(const drawings *set, const char *path) {
    struct stat status;
    if (stat(path, &status) != 0)
        return true; /* nothing there, or an error that writing will name */
    return S_ISREG(status.st_mode) && !find_place(set, &status)->used && image_is_marked(path);
}

/* NAME.png or NAME-<number>.png in the directory, for an input DIR/NAME.EXTENSION; standard input's NAME is stdin. */
static void format_name(char *path, size_t size, const drawings *set, const char *input, int number) {
    const char *slash = strrchr(input, '/');
    const char *name = strcmp(input, "-") == 0 ? "stdin" : slash != NULL ? slash + 1 : input;
    const char *dot = strrchr(name, '.');
    int length = (int)(dot != NULL && dot > name ? (size_t)(dot - name) : strlen(name));
    if (number == 1)
        snprintf(path, size, "%s/%.*s.png", set->directory, length, name);
    else
        snprintf(path, size, "%s/%.*s-%d.png", set->directory, length, name, number);
}

bool drawings_save(drawings *set, const char *input, const image *picture) {
    size_t size = strlen(set->directory) + strlen(input) + sizeof "/stdin-2147483647.png";
    char *path = malloc(size);
    if (path == NULL) {
        complain("%s: out of memory", input);
        return false;
    }
    int number = 1;
    do
        format_name(path, size, set, input, number++);
    while (!may_write(set, path));

    char error[IMAGE_ERROR_SIZE];
    bool ok = image_write_png(path, picture, error);
    if (ok)
        protect(set, path);
    else
        complain("%s: %s", path, error);
    free(path);
    return ok;
}

void drawings_close(drawings *set) {
    free(set->protected);
    *set = (drawings){0};
}
