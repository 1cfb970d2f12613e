/* Pictures from files and memory: PNG, JPEG, PPM and PGM to 8-bit RGB, and 8-bit RGB to PNG.
 *
 * Made for files of unknown origin: sizes are checked before anything is allocated, and a picture is either decoded to
 * its last row or refused. Thread-safe: there is no shared state. */
#ifndef IMAGE_IO_H
#define IMAGE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMAGE_MAX_SIDE = 16384,              /* pixels; libdetect's own limit */
    IMAGE_MAX_BYTES = 256 * 1024 * 1024, /* the default of image_limits.max_bytes */
    IMAGE_ERROR_SIZE = 256
};

/* Rows of width * 3 bytes, R G B, from the top, without gaps. */
typedef struct image {
    uint8_t *pixels;
    int32_t width, height;
} image;

/* `max_bytes` bounds the file and the decoded pixels, each on its own. Decoding takes some memory besides: a
 * progressive JPEG keeps its coefficients, up to three times the pixels. */
typedef struct image_limits {
    int32_t max_side;
    size_t max_bytes;
} image_limits;

static inline image_limits image_default_limits(void) {
    return (image_limits){.max_side = IMAGE_MAX_SIDE, .max_bytes = IMAGE_MAX_BYTES};
}

/* Both decode a picture of any known type, told by its first bytes. A JPEG is turned upright as its EXIF orientation
 * asks; transparency is dropped, as the training pipelines of detectors do.
 * On failure: false, `picture` is empty, and `error` says why in one line, without the file's name.
 * The path "-" is standard input. */
bool image_load(const char *path, const image_limits *limits, image *picture, char error[IMAGE_ERROR_SIZE]);
bool image_decode(const void *data, size_t n_bytes, const image_limits *limits, image *picture,
                  char error[IMAGE_ERROR_SIZE]);

/* Writes a PNG: `path` is whole or as it was, and SIGHUP, SIGINT and SIGTERM leave nothing beside it. */
bool image_write_png(const char *path, const image *picture, char error[IMAGE_ERROR_SIZE]);

/* Whether a file is one that image_write_png has written, by the mark it leaves in them. */
bool image_is_marked(const char *path);

/* Gives the pixels up and empties the picture. An empty picture is allowed. */
void image_free(image *picture);

#endif
