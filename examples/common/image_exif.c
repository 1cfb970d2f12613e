/* The one EXIF tag that matters here: which way up the picture is. */
#include "image_formats.h"

#include <string.h>

typedef struct tiff {
    const uint8_t *data;
    size_t n_bytes;
    bool big_endian;
} tiff;

static bool read_u16(const tiff *file, uint64_t at, uint32_t *value) {
    if (at + 2 > file->n_bytes)
        return false;
    const uint8_t *p = file->data + at;
    *value = file->big_endian ? (uint32_t)(p[0] << 8 | p[1]) : (uint32_t)(p[1] << 8 | p[0]);
    return true;
}

static bool read_u32(const tiff *file, uint64_t at, uint32_t *value) {
    uint32_t first, second;
    if (!read_u16(file, at, &first) || !read_u16(file, at + 2, &second))
        return false;
    *value = file->big_endian ? first << 16 | second : second << 16 | first;
    return true;
}

int exif_orientation(const uint8_t *payload, size_t n_bytes) {
    enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY_BYTES = 12 };
    if (n_bytes < 14 || memcmp(payload, "Exif\0\0", 6) != 0)
        return 1;
    tiff file = {payload + 6, n_bytes - 6, payload[6] == 'M'};
    uint32_t magic, directory, n_entries;
    if (payload[6] != payload[7] || (payload[6] != 'M' && payload[6] != 'I') || !read_u16(&file, 2, &magic) ||
        magic != 42 || !read_u32(&file, 4, &directory) || !read_u16(&file, directory, &n_entries))
        return 1;
    for (uint32_t i = 0; i < n_entries; i++) {
        uint64_t entry = (uint64_t)directory + 2 + (uint64_t)i * ENTRY_BYTES;
        uint32_t tag, type, value;
        if (!read_u16(&file, entry, &tag) || !read_u16(&file, entry + 2, &type) || !read_u16(&file, entry + 8, &value))
            return 1;
        if (tag == TAG_ORIENTATION)
            return type == TYPE_SHORT && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}
