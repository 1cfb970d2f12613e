/* Not by a library: those at hand call themselves for every level of nesting, more often than a small stack allows, and
 * where they run out of memory some say that the text is wrong, or drop a character of it without a word.
 *
 * The same functions go over the text twice. First they check and count; then all memory is taken, and they fill it. */
#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 16, MAX_VALUES = 65536, MAX_NUMBER_CHARS = 128 };

typedef struct reader {
    const unsigned char *at, *end;
    const char *fault; /* the first */
    det_json *values;  /* NULL the first time */
    int n_values;
    char *texts;        /* where the next one goes */
    det_json discarded; /* in place of a value, the first time */
} reader;

static bool fail(reader *r, const char *fault) {
    if (!r->fault)
        r->fault = fault;
    return false;
}

/* The next character, 0 at the end. */
static int peek(const reader *r) {
    return r->at < r->end ? *r->at : 0;
}

static bool take(reader *r, char wanted) {
    if (r->at == r->end || *r->at != (unsigned char)wanted)
        return false;
    r->at++;
    return true;
}

static void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

static bool take_word(reader *r, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return fail(r, "a value expected");
    r->at += n;
    return true;
}

/* --------------------------------------------------------------------------------------------------------- numbers */

static bool take_digits(reader *r) {
    const unsigned char *begin = r->at;
    while (peek(r) >= '0' && peek(r) <= '9')
        r->at++;
    return r->at > begin || fail(r, "a digit expected");
}

/* `text` is a JSON number of n characters. strtod wants the decimal point of the host's locale, which is what stands
 * between the digits of 0.5 (localeconv is not for threads). */
static bool convert_real(reader *r, const char *text, size_t n, double *real) {
    char half[16], local[MAX_NUMBER_CHARS + sizeof half];
    size_t n_point = (size_t)snprintf(half, sizeof half, "%.1f", 0.5) - 2, at = 0;
    if (n >= MAX_NUMBER_CHARS || n_point >= sizeof half - 2)
        return fail(r, "a number of too many digits");
    for (size_t i = 0; i < n; i++) { /* one point at most */
        memcpy(local + at, text[i] == '.' ? half + 1 : text + i, text[i] == '.' ? n_point : 1);
        at += text[i] == '.' ? n_point : 1;
    }
    local[at] = '\0';
    *real = strtod(local, NULL);
    return isfinite(*real) || fail(r, "a number too large");
}

static bool convert_integer(reader *r, const char *text, size_t n, int64_t *integer) {
    char copy[MAX_NUMBER_CHARS];
    if (n >= sizeof copy)
        return fail(r, "a number of too many digits");
    memcpy(copy, text, n);
    copy[n] = '\0';
    errno = 0;
    long long value = strtoll(copy, NULL, 10);
    *integer = value;
    return errno == 0 || fail(r, "an integer too large");
}

static bool read_number(reader *r, det_json *value) {
    const char *begin = (const char *)r->at;
    bool whole = true;
    if (peek(r) != '-' && (peek(r) < '0' || peek(r) > '9'))
        return fail(r, "a value expected");
    take(r, '-');
    if (!take(r, '0') && !take_digits(r))
        return false;
    if (take(r, '.')) {
        whole = false;
        if (!take_digits(r))
            return false;
    }
    if (take(r, 'e') || take(r, 'E')) {
        whole = false;
        if (!take(r, '+'))
            take(r, '-');
        if (!take_digits(r))
            return false;
    }
    size_t n = (size_t)((const char *)r->at - begin);
    value->kind = whole ? DET_JSON_INTEGER : DET_JSON_REAL;
    return whole ? convert_integer(r, begin, n, &value->u.integer) : convert_real(r, begin, n, &value->u.real);
}

/* ----------------------------------------------------------------------------------------------------------- texts */

static void put(reader *r, unsigned byte) {
    if (r->values)
        *r->texts++ = (char)byte;
}

static void put_character(reader *r, unsigned c) {
    if (c < 0x80) {
        put(r, c);
        return;
    }
    if (c < 0x800) {
        put(r, 0xc0 | c >> 6);
    } else if (c < 0x10000) {
        put(r, 0xe0 | c >> 12);
        put(r, 0x80 | (c >> 6 & 0x3f));
    } else {
        put(r, 0xf0 | c >> 18);
        put(r, 0x80 | (c >> 12 & 0x3f));
        put(r, 0x80 | (c >> 6 & 0x3f));
    }
    put(r, 0x80 | (c & 0x3f));
}

/* The four digits behind \u; -1 when they are none. */
static int take_unit(reader *r) {
    int unit = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        int digit = peek(r);
        if (digit >= '0' && digit <= '9')
            unit = 16 * unit + digit - '0';
        else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
            unit = 16 * unit + (digit | 0x20) - 'a' + 10;
        else
            return -1;
    }
    return unit;
}

static bool read_unicode(reader *r) {
    int unit = take_unit(r);
    if (unit < 0)
        return fail(r, "four hexadecimal digits expected");
    if (unit == 0)
        return fail(r, "a zero character");
    if (unit >= 0xd800 && unit <= 0xdfff) {
        int low = unit < 0xdc00 && take(r, '\\') && take(r, 'u') ? take_unit(r) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(r, "half of a surrogate pair");
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    put_character(r, (unsigned)unit);
    return true;
}

/* Behind a backslash. */
static bool read_escape(reader *r) {
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *escape = peek(r) ? strchr(escapes, peek(r)) : NULL;
    if (escape) {
        r->at++;
        put(r, (unsigned)meanings[escape - escapes]);
        return true;
    }
    return take(r, 'u') ? read_unicode(r) : fail(r, "an unknown escape");
}

/* A character of more than one byte: neither overlong, nor a surrogate, nor beyond U+10FFFF. */
static bool read_utf8(reader *r) {
    unsigned first = *r->at, c = first < 0xe0 ? first & 0x1f : first < 0xf0 ? first & 0x0f : first & 0x07;
    int n_more = first < 0xc2 || first > 0xf4 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    static const unsigned lowest[] = {0, 0x80, 0x800, 0x10000};
    if (n_more == 0 || r->end - r->at <= n_more)
        return fail(r, "invalid UTF-8");
    for (int i = 1; i <= n_more; i++) {
        if ((r->at[i] & 0xc0) != 0x80)
            return fail(r, "invalid UTF-8");
        c = c << 6 | (r->at[i] & 0x3f);
    }
    if (c < lowest[n_more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return fail(r, "invalid UTF-8");
    r->at += n_more + 1;
    put_character(r, c);
    return true;
}

/* What is put is never longer than what is read, with a quote in place of the zero at its end. */
static bool read_text(reader *r, const char **text) {
    if (!take(r, '"'))
        return fail(r, "a string expected");
    *text = r->texts;
    while (!take(r, '"')) {
        if (r->at == r->end)
            return fail(r, "a string without end");
        if (*r->at < 0x20)
            return fail(r, "a control character in a string");
        if (take(r, '\\')) {
            if (!read_escape(r))
                return false;
        } else if (*r->at >= 0x80) {
            if (!read_utf8(r))
                return false;
        } else {
            put(r, *r->at++);
        }
    }
    put(r, '\0');
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- values */

static det_json *read_value(reader *r, const char *key, int depth);

static det_json *read_member(reader *r, int depth) {
    const char *key = NULL;
    skip_space(r);
    if (!read_text(r, &key))
        return NULL;
    skip_space(r);
    if (!take(r, ':')) {
        fail(r, "':' expected");
        return NULL;
    }
    return read_value(r, key, depth);
}

/* Behind the opening bracket. */
static bool read_items(reader *r, det_json *parent, char closing, int depth) {
    int n = 0;
    const det_json **link = &parent->first;
    if (depth > MAX_DEPTH)
        return fail(r, "nested more than 16 deep");
    skip_space(r);
    if (take(r, closing))
        return true;
    do {
        det_json *item = closing == '}' ? read_member(r, depth) : read_value(r, NULL, depth);
        if (!item)
            return false;
        n++;
        if (r->values) {
            *link = item;
            link = &item->next;
        }
        skip_space(r);
    } while (take(r, ','));
    parent->n = n;
    return take(r, closing) || fail(r, closing == '}' ? "',' or '}' expected" : "',' or ']' expected");
}

static bool fill_value(reader *r, det_json *value, int depth) {
    static const struct {
        char first;
        const char *word;
        det_json_kind kind;
    } words[] = {{'n', "null", DET_JSON_NULL}, {'f', "false", DET_JSON_FALSE}, {'t', "true", DET_JSON_TRUE}};
    for (size_t i = 0; i < DET_COUNT(words); i++) {
        if (peek(r) == words[i].first) {
            value->kind = words[i].kind;
            return take_word(r, words[i].word);
        }
    }
    if (take(r, '{')) {
        value->kind = DET_JSON_OBJECT;
        return read_items(r, value, '}', depth + 1);
    }
    if (take(r, '[')) {
        value->kind = DET_JSON_ARRAY;
        return read_items(r, value, ']', depth + 1);
    }
    if (peek(r) == '"') {
        value->kind = DET_JSON_TEXT;
        return read_text(r, &value->u.text);
    }
    return read_number(r, value);
}

/* The value; NULL after a fault. */
static det_json *read_value(reader *r, const char *key, int depth) {
    skip_space(r);
    if (r->n_values == MAX_VALUES) {
        fail(r, "more than 65536 values");
        return NULL;
    }
    det_json *value = r->values ? &r->values[r->n_values] : &r->discarded;
    r->n_values++;
    value->key = key;
    return fill_value(r, value, depth) ? value : NULL;
}

static bool read_whole(reader *r) {
    skip_space(r);
    if (!read_value(r, NULL, 0))
        return false;
    skip_space(r);
    return r->at == r->end || fail(r, "something follows its end");
}

/* ------------------------------------------------------------------------------------------------------------ keys */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* `keys` has room for all of them. */
static const char *find_repeated_key(const det_json *object, const char **keys) {
    int n = 0;
    for (const det_json *member = object->first; member; member = member->next)
        keys[n++] = member->key;
    qsort(keys, (size_t)n, sizeof *keys, by_text);
    for (int i = 1; i < n; i++) {
        if (!strcmp(keys[i - 1], keys[i]))
            return keys[i];
    }
    return NULL;
}

static det_status check_keys(const char *what, const det_json *values, int n_values) {
    const char **keys = det_alloc_array((size_t)n_values, sizeof *keys);
    if (!keys)
        return DET_ERROR_OUT_OF_MEMORY;
    const char *repeated = NULL;
    for (int i = 0; i < n_values && !repeated; i++) {
        if (values[i].kind == DET_JSON_OBJECT)
            repeated = find_repeated_key(&values[i], keys);
    }
    det_free(keys);
    if (repeated)
        DET_FAIL(DET_ERROR_BAD_MODEL, "%s has the key '%s' twice", what, repeated);
    return DET_OK;
}

/* --------------------------------------------------------------------------------------------------------- reading */

det_status det_json_read(const char *what, const char *text, size_t n_bytes, det_json **root) {
    const unsigned char *begin = (const unsigned char *)text, *end = begin + n_bytes;
    reader first = {.at = begin, .end = end};
    skip_space(&first);
    if (peek(&first) != '{')
        DET_FAIL(DET_ERROR_BAD_MODEL, "%s is not a JSON object", what);
    if (!read_whole(&first))
        DET_FAIL(DET_ERROR_BAD_MODEL, "%s is not JSON: %s at byte %zu", what, first.fault, (size_t)(first.at - begin));
    size_t values_bytes = (size_t)first.n_values * sizeof(det_json);
    char *memory = det_alloc_array(1, values_bytes + n_bytes);
    if (!memory)
        return DET_ERROR_OUT_OF_MEMORY;
    reader second = {.at = begin, .end = end, .values = (det_json *)(void *)memory, .texts = memory + values_bytes};
    det_status status = read_whole(&second) ? check_keys(what, second.values, second.n_values)
                                            : det_fail(DET_ERROR_INTERNAL, "%s: %s", what, second.fault);
    if (status != DET_OK) {
        det_free(memory);
        return status;
    }
    *root = second.values;
    return DET_OK;
}

const det_json *det_json_get(const det_json *object, const char *key) {
    if (!object || object->kind != DET_JSON_OBJECT)
        return NULL;
    for (const det_json *member = object->first; member; member = member->next) {
        if (!strcmp(member->key, key))
            return member;
    }
    return NULL;
}

const det_json *det_json_item(const det_json *array, int index) {
    if (!array || array->kind != DET_JSON_ARRAY || index < 0 || index >= array->n)
        return NULL;
    const det_json *item = array->first;
    for (; index > 0; index--)
        item = item->next;
    return item;
}

const char *det_json_text(const det_json *value) {
    return value && value->kind == DET_JSON_TEXT ? value->u.text : NULL;
}
