/* JSON of unknown origin, in memory of the library's own. */
#ifndef DET_JSON_H
#define DET_JSON_H

#include "status.h"

typedef enum det_json_kind {
    DET_JSON_NULL,
    DET_JSON_FALSE,
    DET_JSON_TRUE,
    DET_JSON_INTEGER,
    DET_JSON_REAL,
    DET_JSON_TEXT,
    DET_JSON_ARRAY,
    DET_JSON_OBJECT
} det_json_kind;

typedef struct det_json {
    det_json_kind kind;
    int n;                               /* items or members */
    const char *key;                     /* of an object's member; else NULL */
    const struct det_json *first, *next; /* the first of its items; the next of its parent's */
    union {
        int64_t integer;
        double real;
        const char *text; /* UTF-8 */
    } u;
} det_json;

/* Reads an object (RFC 8259); `what` is its name in messages. Refused besides what is no JSON: a key twice in one object,
 * integers beyond int64_t, numbers beyond double, zero characters, more than 16 levels, more than 65536 values.
 * The caller gives *root, and with it everything below, back with det_free. */
det_status det_json_read(const char *what, const char *text, size_t n_bytes, det_json **root);

/* All of them take NULL, and values of another kind, for which they return NULL. */
const det_json *det_json_get(const det_json *object, const char *key);
const det_json *det_json_item(const det_json *array, int index);
const char *det_json_text(const det_json *value);

#endif
