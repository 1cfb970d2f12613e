/* Decodes whatever it is given as a picture of one format, with the limits low so that time goes into the format.
 *
 * Built once for each format: FUZZ_PNG, FUZZ_JPEG or FUZZ_PNM says which. The format's first bytes are put there, so that
 * no try ends at them. */
#include "image_io.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void decode(const uint8_t *data, size_t n_bytes) {
    const image_limits limits = {.max_side = 512, .max_bytes = 512 * 512 * 3};
    image picture;
    char error[IMAGE_ERROR_SIZE] = "";
    bool ok = image_decode(data, n_bytes, &limits, &picture, error);
    if (ok != (picture.pixels != NULL) || ok != (error[0] == '\0') || strpbrk(error, "\n\r\x1b"))
        abort();
    /* Reading every pixel lets a sanitizer see whether all the memory is there. */
    size_t n_bright = 0, n_pixel_bytes = 3 * (size_t)picture.width * (size_t)picture.height;
    for (size_t i = 0; i < n_pixel_bytes; i++)
        n_bright += picture.pixels[i] > 127;
    if (n_bright > n_pixel_bytes)
        abort();
    image_free(&picture);
}

#ifdef FUZZ_PNG
static const uint8_t magic[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

static uint32_t checksum(const uint8_t *data, size_t n_bytes) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* Makes the checksums of the chunks right: without that, nearly every mutation would end there. */
static void repair(uint8_t *png, size_t n_bytes) {
    size_t at = 8;
    while (n_bytes - at >= 12) {
        size_t length = (size_t)png[at] << 24 | (size_t)png[at + 1] << 16 | (size_t)png[at + 2] << 8 | png[at + 3];
        if (length > n_bytes - at - 12)
            return;
        uint32_t crc = checksum(png + at + 4, length + 4);
        for (int i = 0; i < 4; i++)
            png[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
}
#elif defined FUZZ_JPEG
static const uint8_t magic[] = {0xff, 0xd8, 0xff};

static void repair(uint8_t *jpeg, size_t n_bytes) {
    (void)jpeg;
    (void)n_bytes;
}
#elif defined FUZZ_PNM
static const uint8_t magic[] = {'P'};

static void repair(uint8_t *pnm, size_t n_bytes) {
    if (n_bytes > 1)
        pnm[1] = pnm[1] & 1 ? '5' : '6';
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    uint8_t *picture = n_bytes >= sizeof magic ? malloc(n_bytes) : NULL;
    if (picture == NULL)
        return 0;
    memcpy(picture, data, n_bytes);
    memcpy(picture, magic, sizeof magic);
    decode(picture, n_bytes); /* as it is */
    repair(picture, n_bytes);
    if (memcmp(picture, data, n_bytes) != 0)
        decode(picture, n_bytes);
    free(picture);
    return 0;
}
