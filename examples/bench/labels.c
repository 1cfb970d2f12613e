#include "labels.h"

#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* LABELS/<the picture's path below PICTURES, with .txt> */
static void label_path(const char *labels, const char *pictures, const char *path, char result[4096]) {
    size_t length = strlen(pictures);
    const char *below = strncmp(path, pictures, length) == 0 ? path + length : path;
    below += strspn(below, "/");
    const char *dot = strrchr(below, '.');
    snprintf(result, 4096, "%s/%.*s.txt", labels, dot != NULL ? (int)(dot - below) : (int)strlen(below), below);
}

/* One line; blank ones are allowed. Returns what is wrong with it, or NULL. */
static const char *read_row(const char *line, int32_t n_classes, double v[5], bool *blank) {
    char end;
    int n = sscanf(line, "%lf %lf %lf %lf %lf %c", &v[0], &v[1], &v[2], &v[3], &v[4], &end);
    *blank = line[strspn(line, " \t\r\n")] == '\0';
    if (*blank)
        return NULL;
    if (n != 5)
        return "not `class x y width height`";
    if (!(v[0] >= 0 && v[0] < n_classes) || v[0] != (double)(int32_t)v[0])
        return "a class that the model does not have";
    for (int i = 1; i < 5; i++)
        if (!(v[i] >= 0 && v[i] <= 1))
            return "a box that is not in fractions of the picture, 0 to 1";
    return NULL;
}

bool labels_read(const char *labels, const char *pictures, const char *path, int32_t index, int32_t width,
                 int32_t height, int32_t n_classes, ap_boxes *list) {
    char name[4096], line[1024];
    label_path(labels, pictures, path, name);
    FILE *file = fopen(name, "r");
    if (file == NULL && errno == ENOENT)
        return true;
    if (file == NULL) {
        complain("%s: cannot open: %s", name, strerror(errno));
        return false;
    }
    bool ok = true;
    for (int number = 1; ok && fgets(line, sizeof line, file) != NULL; number++) {
        double v[5];
        bool blank;
        const char *wrong = read_row(line, n_classes, v, &blank);
        if (wrong != NULL) {
            complain("%s: line %d: %s", name, number, wrong);
            ok = false;
        } else if (!blank) {
            double x = v[1] * width, y = v[2] * height, half_width = v[3] * width / 2, half_height = v[4] * height / 2;
            ok = ap_add(list, (ap_box){.picture = index,
                                       .class_id = (int32_t)v[0],
                                       .x1 = x - half_width,
                                       .y1 = y - half_height,
                                       .x2 = x + half_width,
                                       .y2 = y + half_height});
            if (!ok)
                complain("out of memory for labels");
        }
    }
    fclose(file);
    return ok;
}
