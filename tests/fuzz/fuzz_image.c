/* Decodes whatever it is given as a picture, with the limits low so that time goes into the formats. */
#include "image_io.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void decode(const uint8_t *data, size_t n_bytes) {
    const image_limits limits = {.max_side = 512, .max_bytes = 512 * 512 * 3};
    image picture;
    char error[IMAGE_ERROR_SIZE] = "";
    bool ok = image_decode(data, n_bytes, &limits, &picture, error);
    if (ok != (picture.pixels != NULL) || ok != (error[0] == '\0'))
        abort();
    /* Reading every pixel lets a sanitizer see whether all the memory is there. */
    size_t n_bright = 0, n_pixel_bytes = 3 * (size_t)picture.width * (size_t)picture.height;
    for (size_t i = 0; i < n_pixel_bytes; i++)
        n_bright += picture.pixels[i] > 127;
    if (n_bright > n_pixel_bytes)
        abort();
    image_free(&picture);
}

static uint32_t checksum(const uint8_t *data, size_t n_bytes) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* Makes the checksums of a PNG's chunks right: without that, nearly every mutation would end there. */
static void repair_checksums(uint8_t *png, size_t n_bytes) {
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    decode(data, n_bytes);
    if (n_bytes < 8 || data[0] != 0x89)
        return 0;
    uint8_t *repaired = malloc(n_bytes);
    if (repaired == NULL)
        return 0;
    memcpy(repaired, data, n_bytes);
    repair_checksums(repaired, n_bytes);
    decode(repaired, n_bytes);
    free(repaired);
    return 0;
}
