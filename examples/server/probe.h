/* What a picture's header claims, read before anything is decoded. */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>
#include <stdint.h>

typedef struct picture_claim {
    uint32_t width, height;
} picture_claim;

typedef enum probe_result {
    PROBE_OK,
    PROBE_UNKNOWN, /* neither JPEG nor PNG by its first bytes */
    PROBE_DAMAGED  /* the header ends before it says a size */
} probe_result;

/* Any bytes are allowed. */
probe_result probe_picture(const uint8_t *data, size_t n_bytes, picture_claim *claim);

#endif
