/* What image_io.c and the decoders of the single formats share. */
#ifndef IMAGE_FORMATS_H
#define IMAGE_FORMATS_H

#include "image_io.h"

/* A decoder is given bytes that begin with its format's magic. It returns false with `error` written after a failure,
 * and may leave pixels in `picture` then: image_decode frees them. */
typedef bool image_decoder(const uint8_t *data, size_t n_bytes, const image_limits *limits, image *picture,
                           char error[IMAGE_ERROR_SIZE]);

image_decoder png_decode, jpeg_decode, pnm_decode;

/* Writes the error; returns false, so that a failing function can end with it. */
bool image_fail(char error[IMAGE_ERROR_SIZE], const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Checks a claimed size and takes the memory for it. The numbers come from the file: any value is allowed. */
bool image_allocate(image *picture, uint64_t width, uint64_t height, const image_limits *limits,
                    char error[IMAGE_ERROR_SIZE]);

/* The EXIF orientation, 1 to 8, in the payload of a JPEG's APP1 marker; 1 when there is none that makes sense. */
int exif_orientation(const uint8_t *payload, size_t n_bytes);

#endif
