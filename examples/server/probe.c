#include "probe.h"

#include <stdbool.h>
#include <string.h>

static uint32_t read_u16(const uint8_t *p) {
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t read_u32(const uint8_t *p) {
    return read_u16(p) << 16 | read_u16(p + 2);
}

static probe_result probe_png(const uint8_t *data, size_t n_bytes, picture_claim *claim) {
    enum { SIGNATURE = 8, IHDR_END = SIGNATURE + 8 + 13 };
    if (n_bytes < IHDR_END || memcmp(data + SIGNATURE + 4, "IHDR", 4) != 0)
        return PROBE_DAMAGED;
    *claim = (picture_claim){read_u32(data + 16), read_u32(data + 20)};
    return PROBE_OK;
}

/* C0 to CF start a frame, but for C4, C8 and CC, which are tables. */
static bool is_frame(uint8_t marker) {
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* Walks the segments up to the frame's header. */
static probe_result probe_jpeg(const uint8_t *data, size_t n_bytes, picture_claim *claim) {
    enum { FRAME_BYTES = 9 }; /* marker, length, precision, height, width */
    size_t at = 2;
    while (n_bytes - at >= 4) {
        if (data[at] != 0xff || data[at + 1] == 0xff) { /* padding before a marker */
            at++;
            continue;
        }
        uint8_t marker = data[at + 1];
        if (is_frame(marker)) {
            if (n_bytes - at < FRAME_BYTES)
                break;
            *claim = (picture_claim){read_u16(data + at + 7), read_u16(data + at + 5)};
            return PROBE_OK;
        }
        bool has_length = marker != 0x00 && marker != 0x01 && (marker < 0xd0 || marker > 0xd9);
        size_t length = has_length ? 2 + (size_t)read_u16(data + at + 2) : 2;
        if (length > n_bytes - at)
            break;
        at += length;
    }
    return PROBE_DAMAGED;
}

probe_result probe_picture(const uint8_t *data, size_t n_bytes, picture_claim *claim) {
    if (n_bytes >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0)
        return probe_png(data, n_bytes, claim);
    if (n_bytes >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        return probe_jpeg(data, n_bytes, claim);
    return PROBE_UNKNOWN;
}
