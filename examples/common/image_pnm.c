/* Binary PPM (P6) and PGM (P5) with up to 8 bits a sample. */
#include "image_formats.h"

#include <string.h>

typedef struct cursor {
    const uint8_t *data;
    size_t n_bytes, at;
} cursor;

static bool is_space(uint8_t byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Skips white space and comments, which run from # to the end of the line; at least one byte of them. */
static bool skip_space(cursor *in) {
    size_t start = in->at;
    while (in->at < in->n_bytes && (is_space(in->data[in->at]) || in->data[in->at] == '#')) {
        if (in->data[in->at] == '#')
            while (in->at + 1 < in->n_bytes && in->data[in->at] != '\n' && in->data[in->at] != '\r')
                in->at++;
        in->at++;
    }
    return in->at > start;
}

static bool read_number(cursor *in, uint64_t *number) {
    enum { MAX_DIGITS = 10 };
    size_t start = in->at;
    *number = 0;
    while (in->at < in->n_bytes && in->data[in->at] >= '0' && in->data[in->at] <= '9' && in->at - start < MAX_DIGITS)
        *number = 10 * *number + (uint64_t)(in->data[in->at++] - '0');
    return in->at > start;
}

static uint8_t scale_sample(uint8_t sample, uint64_t max_value) {
    if (sample >= max_value)
        return 255;
    return (uint8_t)((sample * 255u + max_value / 2) / max_value);
}

bool pnm_decode(const uint8_t *data, size_t n_bytes, const image_limits *limits, image *picture,
                char error[IMAGE_ERROR_SIZE]) {
    cursor in = {data, n_bytes, 2};
    size_t n_channels = data[1] == '6' ? 3 : 1;
    uint64_t width, height, max_value;
    if (!skip_space(&in) || !read_number(&in, &width) || !skip_space(&in) || !read_number(&in, &height) ||
        !skip_space(&in) || !read_number(&in, &max_value))
        return image_fail(error, "P%c header is damaged at byte %zu", data[1], in.at);
    /* One byte of white space, no comment: pixels may look like either. */
    if (in.at == n_bytes || !is_space(data[in.at]))
        return image_fail(error, "P%c header is damaged at byte %zu", data[1], in.at);
    in.at++;
    if (max_value < 1 || max_value > 255)
        return image_fail(error, "P%c with samples up to %llu: only 1 to 255 can be read", data[1],
                          (unsigned long long)max_value);
    if (!image_allocate(picture, width, height, limits, error))
        return false;

    size_t n_pixels = (size_t)width * (size_t)height;
    size_t n_samples = n_pixels * n_channels;
    if (n_bytes - in.at < n_samples)
        return image_fail(error, "%llux%llu pixels need %zu bytes, the file ends after %zu", (unsigned long long)width,
                          (unsigned long long)height, n_samples, n_bytes - in.at);
    const uint8_t *samples = data + in.at;
    if (n_channels == 3 && max_value == 255) {
        memcpy(picture->pixels, samples, n_samples);
        return true;
    }
    for (size_t i = 0; i < n_pixels; i++)
        for (size_t c = 0; c < 3; c++)
            picture->pixels[3 * i + c] = scale_sample(samples[n_channels == 3 ? 3 * i + c : i], max_value);
    return true;
}
