/* Reading files, telling formats apart, and the checks that all formats share. */
#define _POSIX_C_SOURCE 200809L

#include "image_formats.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool image_fail(char error[IMAGE_ERROR_SIZE], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, IMAGE_ERROR_SIZE, format, arguments);
    va_end(arguments);
    return false;
}

bool image_allocate(image *picture, uint64_t width, uint64_t height, const image_limits *limits,
                    char error[IMAGE_ERROR_SIZE]) {
    uint64_t max_side = (uint64_t)limits->max_side;
    if (width == 0 || height == 0)
        return image_fail(error, "%" PRIu64 "x%" PRIu64 " pixels: no picture at all", width, height);
    if (width > max_side || height > max_side)
        return image_fail(error, "%" PRIu64 "x%" PRIu64 " pixels, the limit is %" PRIu64 " a side", width, height,
                          max_side);
    uint64_t n_bytes = 3 * width * height;
    if (n_bytes > limits->max_bytes)
        return image_fail(error, "%" PRIu64 "x%" PRIu64 " pixels take %" PRIu64 " bytes, the limit is %zu", width,
                          height, n_bytes, limits->max_bytes);
    picture->pixels = malloc((size_t)n_bytes);
    if (picture->pixels == NULL)
        return image_fail(error, "out of memory for %" PRIu64 "x%" PRIu64 " pixels", width, height);
    picture->width = (int32_t)width;
    picture->height = (int32_t)height;
    return true;
}

void image_free(image *picture) {
    free(picture->pixels);
    *picture = (image){0};
}

static image_decoder *find_decoder(const uint8_t *data, size_t n_bytes) {
    static const struct {
        const char *magic;
        size_t n_bytes;
        image_decoder *decode;
    } formats[] = {
        {"\x89PNG\r\n\x1a\n", 8, png_decode},
        {"\xff\xd8\xff", 3, jpeg_decode},
        {"P5", 2, pnm_decode},
        {"P6", 2, pnm_decode},
    };
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (n_bytes >= formats[i].n_bytes && memcmp(data, formats[i].magic, formats[i].n_bytes) == 0)
            return formats[i].decode;
    return NULL;
}

bool image_decode(const void *data, size_t n_bytes, const image_limits *limits, image *picture,
                  char error[IMAGE_ERROR_SIZE]) {
    *picture = (image){0};
    if (n_bytes == 0)
        return image_fail(error, "empty file");
    image_decoder *decode = find_decoder(data, n_bytes);
    if (decode == NULL)
        return image_fail(error, "not a PNG, JPEG, binary PPM or binary PGM picture");
    bool ok = decode(data, n_bytes, limits, picture, error);
    if (!ok)
        image_free(picture);
    return ok;
}

/* Reads to the end of the file, which may be a pipe: its size is only a hint. The caller frees `*data` in any case. */
static bool read_to_end(int fd, size_t size_hint, size_t max_bytes, uint8_t **data, size_t *n_bytes,
                        char error[IMAGE_ERROR_SIZE]) {
    /* One byte more than expected, so that the end is seen without growing; never more than one byte over the limit. */
    size_t capacity = (size_hint < max_bytes ? size_hint : max_bytes) + 1;
    *data = malloc(capacity);
    while (*data != NULL) {
        ssize_t n_read = read(fd, *data + *n_bytes, capacity - *n_bytes);
        if (n_read < 0 && errno == EINTR)
            continue;
        if (n_read < 0)
            return image_fail(error, "cannot read: %s", strerror(errno));
        if (n_read == 0)
            return true;
        *n_bytes += (size_t)n_read;
        if (*n_bytes > max_bytes)
            return image_fail(error, "the file is longer than the limit of %zu bytes", max_bytes);
        if (*n_bytes == capacity) {
            capacity = capacity > max_bytes / 2 ? max_bytes + 1 : 2 * capacity;
            uint8_t *larger = realloc(*data, capacity);
            if (larger == NULL)
                break;
            *data = larger;
        }
    }
    return image_fail(error, "out of memory for a file of %zu bytes", capacity);
}

static bool read_file(const char *path, size_t max_bytes, uint8_t **data, size_t *n_bytes,
                      char error[IMAGE_ERROR_SIZE]) {
    *data = NULL;
    *n_bytes = 0;
    if (!*path)
        return image_fail(error, "the file's name is empty");
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return image_fail(error, "cannot open: %s", strerror(errno));
    struct stat status;
    bool ok = false;
    if (fstat(fd, &status) != 0)
        image_fail(error, "cannot read: %s", strerror(errno));
    else if (S_ISREG(status.st_mode) && (uint64_t)status.st_size > max_bytes)
        image_fail(error, "the file has %" PRIu64 " bytes, the limit is %zu", (uint64_t)status.st_size, max_bytes);
    else
        ok = read_to_end(fd, S_ISREG(status.st_mode) ? (size_t)status.st_size : 65536, max_bytes, data, n_bytes, error);
    close(fd);
    return ok;
}

bool image_load(const char *path, const image_limits *limits, image *picture, char error[IMAGE_ERROR_SIZE]) {
    *picture = (image){0};
    uint8_t *data;
    size_t n_bytes;
    bool ok = read_file(path, limits->max_bytes, &data, &n_bytes, error) &&
              image_decode(data, n_bytes, limits, picture, error);
    free(data);
    return ok;
}
