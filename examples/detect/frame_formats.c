/* What frames look like in a pipe, by the names that ffmpeg has for them. */
#include "frames.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int32_t format;
    int32_t pixel_bytes; /* of the first plane */
} format_rows[] = {
    {"rgb24", DET_RGB8, 3}, {"bgr24", DET_BGR8, 3}, {"rgba", DET_RGBA8, 4},
    {"gray", DET_GRAY8, 1}, {"nv12", DET_NV12, 1},
};
enum { N_FORMATS = sizeof format_rows / sizeof format_rows[0] };

static int32_t pixel_bytes(int32_t format) {
    for (int i = 0; i < N_FORMATS; i++)
        if (format_rows[i].format == format)
            return format_rows[i].pixel_bytes;
    return 0;
}

/* NV12's second plane: half the rows of half the pixels, rounded up, two bytes each. */
static int64_t chroma_stride(const frame_layout *layout) {
    return 2 * (((int64_t)layout->width + 1) / 2);
}

static bool parse_side(const char *text, size_t length, int32_t *side) {
    char digits[8] = "";
    if (length == 0 || length >= sizeof digits || strspn(text, "0123456789") < length)
        return false;
    memcpy(digits, text, length);
    long number = strtol(digits, NULL, 10);
    *side = (int32_t)number;
    return number >= 1 && number <= IMAGE_MAX_SIDE;
}

static bool parse_rate(const char *text, double *rate) {
    char *end;
    if (text[0] == '\0' || text[strspn(text, "0123456789.")] != '\0')
        return false;
    *rate = strtod(text, &end);
    return *end == '\0' && *rate > 0 && *rate <= 1e6;
}

static bool parse_format(const char *text, size_t length, int32_t *format) {
    for (int i = 0; i < N_FORMATS; i++) {
        if (strlen(format_rows[i].name) == length && memcmp(format_rows[i].name, text, length) == 0) {
            *format = format_rows[i].format;
            return true;
        }
    }
    return false;
}

bool frames_parse_layout(const char *text, frame_layout *layout) {
    *layout = (frame_layout){.format = DET_RGB8};
    size_t n_width = strcspn(text, "x");
    if (text[n_width] != 'x' || !parse_side(text, n_width, &layout->width))
        return false;
    text += n_width + 1;
    size_t n_height = strcspn(text, ":@");
    if (!parse_side(text, n_height, &layout->height))
        return false;
    text += n_height;
    if (*text == ':') {
        size_t n_format = strcspn(++text, "@");
        if (!parse_format(text, n_format, &layout->format))
            return false;
        text += n_format;
    }
    if (*text == '@' && !parse_rate(text + 1, &layout->rate))
        return false;
    layout->n_bytes = (size_t)layout->width * (size_t)layout->height * (size_t)pixel_bytes(layout->format);
    if (layout->format == DET_NV12)
        layout->n_bytes += (size_t)chroma_stride(layout) * (((size_t)layout->height + 1) / 2);
    return true;
}

det_image frames_image(const frame_layout *layout, const uint8_t *bytes) {
    int64_t stride = (int64_t)layout->width * pixel_bytes(layout->format);
    det_image seen = {.planes = {bytes},
                      .strides = {stride},
                      .width = layout->width,
                      .height = layout->height,
                      .format = layout->format,
                      .memory = DET_MEMORY_HOST};
    if (layout->format == DET_NV12) {
        seen.planes[1] = bytes + stride * layout->height;
        seen.strides[1] = chroma_stride(layout);
    }
    return seen;
}

static uint8_t clamp(int value) {
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* BT.601, video range, in 8.8 fixed point. */
static void yuv_to_rgb(int y, int u, int v, uint8_t *rgb) {
    int luma = 298 * (y - 16) + 128;
    rgb[0] = clamp((luma + 409 * (v - 128)) >> 8);
    rgb[1] = clamp((luma - 100 * (u - 128) - 208 * (v - 128)) >> 8);
    rgb[2] = clamp((luma + 516 * (u - 128)) >> 8);
}

void frames_to_rgb(const frame_layout *layout, const uint8_t *bytes, image *picture) {
    int32_t n = pixel_bytes(layout->format);
    const uint8_t *from = bytes, *chroma = bytes + (size_t)layout->width * (size_t)layout->height;
    uint8_t *to = picture->pixels;
    for (int32_t y = 0; y < layout->height; y++) {
        const uint8_t *uv = chroma + (y / 2) * chroma_stride(layout);
        for (int32_t x = 0; x < layout->width; x++, from += n, to += 3) {
            if (layout->format == DET_NV12) {
                yuv_to_rgb(from[0], uv[x / 2 * 2], uv[x / 2 * 2 + 1], to);
                continue;
            }
            bool grey = layout->format == DET_GRAY8, reversed = layout->format == DET_BGR8;
            to[0] = from[reversed ? 2 : 0];
            to[1] = from[grey ? 0 : 1];
            to[2] = from[grey || reversed ? 0 : 2];
        }
    }
}
