/* The body of a request, kept as it arrives and never longer than its limit. */
#ifndef BODY_H
#define BODY_H

#include "budget.h"

#include <stdint.h>

typedef struct body {
    uint8_t *data;
    size_t n_bytes, capacity; /* the budget holds `capacity` */
} body;

typedef enum body_result {
    BODY_OK,
    BODY_TOO_LARGE,
    BODY_NO_MEMORY /* the budget is spent, or the machine's memory is */
} body_result;

/* `expected` is what the client announced, 0 when it did not. Memory grows with what has come, not with that: an
 * announcement costs nothing. */
body_result body_append(body *kept, budget *shared, const void *data, size_t n_bytes, size_t expected,
                        size_t max_bytes);

void body_free(body *kept, budget *shared);

#endif
