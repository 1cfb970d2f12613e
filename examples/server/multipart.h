/* Finds one field of a multipart/form-data body (RFC 7578) without copying it.
 *
 * Pure functions over bytes of unknown origin, linear in their number; tests/fuzz holds them to that. */
#ifndef MULTIPART_H
#define MULTIPART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MULTIPART_MAX_BOUNDARY = 70 }; /* RFC 2046 */

typedef enum multipart_result {
    MULTIPART_FOUND,
    MULTIPART_ABSENT,   /* well formed, without the field */
    MULTIPART_REPEATED, /* the field is there more than once */
    MULTIPART_MALFORMED
} multipart_result;

/* Copies the boundary that a Content-Type header names. False when it names none, or one that RFC 2046 forbids. */
bool multipart_boundary(const char *content_type, char boundary[MULTIPART_MAX_BOUNDARY + 1]);

/* Where the field's bytes are in `body`, which may be NULL when it has none; written only when found. */
multipart_result multipart_find(const uint8_t *body, size_t n_bytes, const char *boundary, const char *field,
                                const uint8_t **data, size_t *n_data_bytes);

#endif
