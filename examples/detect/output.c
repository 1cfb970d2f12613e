#include "output.h"

#include "json.h"
#include "progress.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BOX_DECIMALS = 2, SCORE_DECIMALS = 5, TIME_DECIMALS = 3 };

static void print_times_json(json_writer *json, const picture_times *times) {
    const struct {
        const char *key;
        double ms;
    } rows[] = {
        {"decode", times->decode},   {"preprocess", times->preprocess},
        {"network", times->network}, {"decode_boxes", times->decode_boxes},
        {"nms", times->nms},         {"total", times->total},
    };
    json_begin(json, '{');
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_key(json, rows[i].key);
        json_number(json, rows[i].ms, TIME_DECIMALS);
    }
    json_end(json, '}');
}

static void print_object_json(json_writer *json, const det_model_info *model, const det_object *object) {
    const float box[] = {object->x1, object->y1, object->x2, object->y2};
    json_begin(json, '{');
    json_key(json, "class_id");
    json_integer(json, object->class_id);
    json_key(json, "label");
    json_string(json, model->class_names[object->class_id]);
    json_key(json, "score");
    json_number(json, (double)object->score, SCORE_DECIMALS);
    json_key(json, "box");
    json_begin(json, '[');
    for (int i = 0; i < 4; i++)
        json_number(json, (double)box[i], BOX_DECIMALS);
    json_end(json, ']');
    if (model->n_landmarks > 0) {
        json_key(json, "landmarks");
        json_begin(json, '[');
        for (int32_t i = 0; i < model->n_landmarks; i++) {
            json_begin(json, '[');
            json_number(json, (double)object->landmarks[i][0], BOX_DECIMALS);
            json_number(json, (double)object->landmarks[i][1], BOX_DECIMALS);
            json_end(json, ']');
        }
        json_end(json, ']');
    }
    json_end(json, '}');
}

static void print_source_json(json_writer *json, const result *found) {
    if (!found->is_frame) {
        json_key(json, "path");
        json_string(json, found->path);
        return;
    }
    json_key(json, "frame");
    json_integer(json, found->frame.number);
    if (found->frame.seconds >= 0) {
        json_key(json, "seconds");
        json_number(json, found->frame.seconds, TIME_DECIMALS);
    }
    json_key(json, "dropped");
    json_integer(json, found->frame.n_dropped);
    json_key(json, "latency_ms");
    json_number(json, found->frame.latency_ms, TIME_DECIMALS);
}

static void print_json(const det_model_info *model, const result *found) {
    json_writer json = {.file = stdout};
    json_begin(&json, '{');
    print_source_json(&json, found);
    json_key(&json, "width");
    json_integer(&json, found->width);
    json_key(&json, "height");
    json_integer(&json, found->height);
    json_key(&json, "objects");
    json_begin(&json, '[');
    for (int32_t i = 0; i < found->n_objects; i++)
        print_object_json(&json, model, &found->objects[i]);
    json_end(&json, ']');
    json_key(&json, "time_ms");
    print_times_json(&json, &found->times);
    json_end(&json, '}');
    putchar('\n');
}

/* Quoted where a comma, quote or line break would mislead a reader (RFC 4180). */
static void print_csv_text(const char *text) {
    if (text[strcspn(text, ",\"\r\n")] == '\0') {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    putchar('"');
}

static void print_csv(const det_model_info *model, const result *found) {
    for (int32_t i = 0; i < found->n_objects; i++) {
        const det_object *object = &found->objects[i];
        if (found->is_frame)
            printf("%" PRId64, found->frame.number);
        else
            print_csv_text(found->path);
        printf(",%" PRId32 ",%" PRId32 ",%" PRId32 ",", found->width, found->height, object->class_id);
        print_csv_text(model->class_names[object->class_id]);
        printf(",%.*f,%.*f,%.*f,%.*f,%.*f", SCORE_DECIMALS, (double)object->score, BOX_DECIMALS, (double)object->x1,
               BOX_DECIMALS, (double)object->y1, BOX_DECIMALS, (double)object->x2, BOX_DECIMALS, (double)object->y2);
        for (int32_t k = 0; k < model->n_landmarks; k++)
            printf(",%.*f,%.*f", BOX_DECIMALS, (double)object->landmarks[k][0], BOX_DECIMALS,
                   (double)object->landmarks[k][1]);
        putchar('\n');
    }
}

static void print_table(const det_model_info *model, const result *found) {
    if (found->is_frame)
        printf("frame %" PRId64, found->frame.number);
    else
        print_clean(stdout, found->path);
    printf("  %" PRId32 "x%" PRId32 "  %" PRId32 " object%s  %.1f ms\n", found->width, found->height, found->n_objects,
           found->n_objects == 1 ? "" : "s", found->times.total);
    int label_width = 0;
    for (int32_t i = 0; i < found->n_objects; i++) {
        int width = text_width(model->class_names[found->objects[i].class_id]);
        label_width = width > label_width ? width : label_width;
    }
    for (int32_t i = 0; i < found->n_objects; i++) {
        const det_object *object = &found->objects[i];
        fputs("  ", stdout);
        int width = print_clean(stdout, model->class_names[object->class_id]);
        printf("%*s  %5.3f  %8.1f %8.1f %8.1f %8.1f\n", label_width - width, "", (double)object->score,
               (double)object->x1, (double)object->y1, (double)object->x2, (double)object->y2);
    }
}

void output_begin(output_format format, const det_model_info *model, bool of_frames) {
    if (format != FORMAT_CSV)
        return;
    fputs(of_frames ? "frame" : "path", stdout);
    fputs(",width,height,class_id,label,score,x1,y1,x2,y2", stdout);
    for (int32_t i = 1; i <= model->n_landmarks; i++)
        printf(",landmark%" PRId32 "_x,landmark%" PRId32 "_y", i, i);
    putchar('\n');
}

bool output_result(output_format format, const det_model_info *model, const result *found) {
    progress_hide();
    switch (format) {
    case FORMAT_JSON:
        print_json(model, found);
        break;
    case FORMAT_CSV:
        print_csv(model, found);
        break;
    case FORMAT_TABLE:
        print_table(model, found);
        break;
    }
    return output_check();
}

bool output_check(void) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    complain("standard output: %s", errno != 0 ? strerror(errno) : "cannot be written");
    return false;
}
