/* Encoded pictures for the test of image_io: every kind of PNG and JPEG, made in memory by the libraries themselves. */
#ifndef MAKE_IMAGE_H
#define MAKE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct blob {
    uint8_t *data;
    size_t n_bytes;
} blob;

typedef struct png_kind {
    int colour_type; /* PNG_COLOR_TYPE_* */
    int bit_depth;
    bool interlaced, transparent; /* the latter: with a tRNS chunk */
} png_kind;

/* `rows` holds samples as PNG stores them, without gaps; a palette is black, red, green, blue, white, ... */
blob make_png(png_kind kind, uint32_t width, uint32_t height, const uint8_t *rows);

typedef struct jpeg_kind {
    int in_space, file_space; /* JCS_* */
    int n_channels;
    bool progressive, without_adobe;
    const void *app1; /* payload of an APP1 marker; NULL: none */
    unsigned app1_bytes;
} jpeg_kind;

/* At the best quality and full chroma resolution; `rows` holds n_channels bytes a pixel. */
blob make_jpeg(jpeg_kind kind, uint32_t width, uint32_t height, const uint8_t *rows);

/* A palette colour of make_png: entry i, any i. */
void palette_colour(int i, uint8_t rgb[3]);

/* The checksum of a PNG chunk. */
uint32_t png_checksum(const uint8_t *data, size_t n_bytes);

#endif
