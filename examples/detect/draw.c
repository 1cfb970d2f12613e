#include "draw.h"

#include "font.h"
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct colour {
    uint8_t r, g, b;
} colour;

/* Pixels from (x1, y1) up to but without (x2, y2). */
typedef struct rectangle {
    int x1, y1, x2, y2;
} rectangle;

/* Line and text sizes that suit a picture. */
typedef struct pen {
    int thickness; /* pixels */
    int text_scale;
} pen;

static int clamp(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

/* The nearest pixel border, within a picture's length of the picture; 0 for what is no number. */
static int to_pixel(float position) {
    const float far = 2.0f * IMAGE_MAX_SIDE;
    return isnan(position) ? 0 : (int)lroundf(fminf(fmaxf(position, -far), far));
}

static void fill_rectangle(image *picture, rectangle area, colour fill) {
    int x1 = clamp(area.x1, 0, picture->width), x2 = clamp(area.x2, 0, picture->width);
    int y1 = clamp(area.y1, 0, picture->height), y2 = clamp(area.y2, 0, picture->height);
    for (int y = y1; y < y2; y++) {
        uint8_t *pixel = picture->pixels + 3 * ((size_t)y * (size_t)picture->width + (size_t)x1);
        for (int x = x1; x < x2; x++, pixel += 3) {
            pixel[0] = fill.r;
            pixel[1] = fill.g;
            pixel[2] = fill.b;
        }
    }
}

static void fill_disc(image *picture, int centre_x, int centre_y, int radius, colour fill) {
    for (int y = -radius; y <= radius; y++) {
        int half = (int)sqrtf((float)(radius * radius + radius - y * y)); /* + radius: rounder at small sizes */
        fill_rectangle(picture, (rectangle){centre_x - half, centre_y + y, centre_x + half + 1, centre_y + y + 1},
                       fill);
    }
}

/* A golden-ratio walk around the colour circle: neighbours differ strongly, and 1536 classes all differ. */
static colour class_colour(int32_t class_id) {
    enum { CIRCLE = 1536, STEP = 949, START = 560 /* green */ };
    int hue = (int)((START + (int64_t)class_id * STEP) % CIRCLE);
    uint8_t rising = (uint8_t)(hue % 256), falling = (uint8_t)(255 - hue % 256);
    switch (hue / 256) {
    case 0:
        return (colour){255, rising, 0};
    case 1:
        return (colour){falling, 255, 0};
    case 2:
        return (colour){0, 255, rising};
    case 3:
        return (colour){0, falling, 255};
    case 4:
        return (colour){rising, 0, 255};
    default:
        return (colour){255, 0, falling};
    }
}

static colour text_colour(colour background) {
    int luma = (299 * background.r + 587 * background.g + 114 * background.b) / 1000;
    return luma > 110 ? (colour){0, 0, 0} : (colour){255, 255, 255};
}

static pen choose_pen(const image *picture) {
    int longest = picture->width > picture->height ? picture->width : picture->height;
    return (pen){.thickness = clamp(longest / 400, 2, 64), .text_scale = clamp((longest + 250) / 550, 1, 64)};
}

static rectangle object_box(const det_object *object) {
    return (rectangle){to_pixel(object->x1), to_pixel(object->y1), to_pixel(object->x2), to_pixel(object->y2)};
}

/* A frame around the box, so that a small object stays visible; thinner around the small, and within the picture. */
static void draw_box(image *picture, const det_object *object, pen with, colour line) {
    rectangle box = object_box(object);
    int shorter = box.x2 - box.x1 < box.y2 - box.y1 ? box.x2 - box.x1 : box.y2 - box.y1;
    int t = clamp(shorter / 12, 2, with.thickness);
    int x1 = clamp(box.x1 - t, 0, picture->width - t), x2 = clamp(box.x2 + t, t, picture->width);
    int y1 = clamp(box.y1 - t, 0, picture->height - t), y2 = clamp(box.y2 + t, t, picture->height);
    fill_rectangle(picture, (rectangle){x1, y1, x2, y1 + t}, line);
    fill_rectangle(picture, (rectangle){x1, y2 - t, x2, y2}, line);
    fill_rectangle(picture, (rectangle){x1, y1, x1 + t, y2}, line);
    fill_rectangle(picture, (rectangle){x2 - t, y1, x2, y2}, line);
}

static void draw_landmarks(image *picture, const det_object *object, int32_t n_landmarks, pen with, colour dot) {
    int width = to_pixel(object->x2) - to_pixel(object->x1);
    int radius = clamp(width / 32, 1, with.thickness * 2);
    for (int32_t i = 0; i < n_landmarks; i++) {
        int x = to_pixel(object->landmarks[i][0]), y = to_pixel(object->landmarks[i][1]);
        if (radius > 1) /* a dark rim, to be seen on any skin */
            fill_disc(picture, x, y, radius + 1, (colour){0, 0, 0});
        fill_disc(picture, x, y, radius, dot);
    }
}

static void draw_text(image *picture, const char *text, int left, int top, int scale, colour ink) {
    for (; *text != '\0'; text++, left += FONT_WIDTH * scale)
        for (int y = 0; y < FONT_HEIGHT; y++)
            for (int x = 0; x < FONT_WIDTH; x++)
                if (font_pixel(*text, x, y))
                    fill_rectangle(
                        picture,
                        (rectangle){left + x * scale, top + y * scale, left + (x + 1) * scale, top + (y + 1) * scale},
                        ink);
}

/* The font is ASCII: every other character becomes one '?'. A long name is cut. */
static void format_label(char *label, size_t size, const det_object *object, const det_model_info *model) {
    enum { MAX_NAME = 40 };
    size_t n = 0;
    if (model->n_classes > 1) {
        const char *name = model->class_names[object->class_id];
        while (*name != '\0' && n < MAX_NAME) {
            size_t n_bytes = utf8_sequence(name);
            label[n++] = n_bytes == 1 ? *name : '?';
            name += n_bytes > 0 ? n_bytes : 1;
        }
        label[n++] = ' ';
    }
    snprintf(label + n, size - n, "%.2f", (double)object->score);
}

/* Above the box where there is room, else inside its top; always within the picture. */
static void draw_label(image *picture, const det_object *object, const det_model_info *model, pen with, colour fill) {
    char label[64];
    format_label(label, sizeof label, object, model);
    rectangle box = object_box(object);
    int scale = with.text_scale, padding = scale + 1;
    int width = ((int)strlen(label) * FONT_WIDTH - 1) * scale + 2 * padding;
    int height = FONT_HEIGHT * scale + padding;
    int left = clamp(box.x1 - 2, 0, picture->width > width ? picture->width - width : 0);
    int top = box.y1 - 2 >= height ? box.y1 - 2 - height : clamp(box.y1, 0, picture->height);
    top = clamp(top, 0, picture->height > height ? picture->height - height : 0);
    fill_rectangle(picture, (rectangle){left, top, left + width, top + height}, fill);
    draw_text(picture, label, left + padding, top + padding, scale, text_colour(fill));
}

void draw_objects(image *picture, const det_object *objects, int32_t n_objects, const det_model_info *model) {
    pen with = choose_pen(picture);
    /* Labels go over boxes, and the sure ones, which come first, over the unsure. */
    for (int32_t i = n_objects - 1; i >= 0; i--) {
        draw_box(picture, &objects[i], with, class_colour(objects[i].class_id));
        draw_landmarks(picture, &objects[i], model->n_landmarks, with, class_colour(objects[i].class_id));
    }
    for (int32_t i = n_objects - 1; i >= 0; i--)
        draw_label(picture, &objects[i], model, with, class_colour(objects[i].class_id));
}
