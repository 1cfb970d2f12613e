#include "body.h"

#include <stdlib.h>
#include <string.h>

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Doubles, up to what was announced when that is enough. */
static size_t next_capacity(const body *kept, size_t needed, size_t expected, size_t max_bytes) {
    enum { FIRST = 65536 };
    size_t capacity = kept->capacity > 0 ? kept->capacity : FIRST;
    while (capacity < needed)
        capacity *= 2;
    return smaller(capacity, needed <= expected ? smaller(expected, max_bytes) : max_bytes);
}

static body_result reserve(body *kept, budget *shared, size_t needed, size_t expected, size_t max_bytes) {
    size_t capacity = next_capacity(kept, needed, expected, max_bytes);
    if (!budget_take(shared, capacity - kept->capacity))
        return BODY_NO_MEMORY;
    uint8_t *data = realloc(kept->data, capacity);
    if (data == NULL) {
        budget_give(shared, capacity - kept->capacity);
        return BODY_NO_MEMORY;
    }
    kept->data = data;
    kept->capacity = capacity;
    return BODY_OK;
}

body_result body_append(body *kept, budget *shared, const void *data, size_t n_bytes, size_t expected,
                        size_t max_bytes) {
    if (n_bytes > max_bytes - kept->n_bytes)
        return BODY_TOO_LARGE;
    size_t needed = kept->n_bytes + n_bytes;
    if (needed > kept->capacity) {
        body_result result = reserve(kept, shared, needed, expected, max_bytes);
        if (result != BODY_OK)
            return result;
    }
    memcpy(kept->data + kept->n_bytes, data, n_bytes);
    kept->n_bytes = needed;
    return BODY_OK;
}

void body_free(body *kept, budget *shared) {
    free(kept->data);
    budget_give(shared, kept->capacity);
    *kept = (body){0};
}
