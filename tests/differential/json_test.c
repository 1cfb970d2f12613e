/* The library's JSON reader beside jansson, on random documents, whole and damaged: both take it or both refuse it, and the
 * values are the same. */
#include "check.h"
#include "json.h"
#include "random.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>

enum { N_DOCUMENTS = 30000, MAX_CHARS = 1 << 14 };

typedef struct document {
    char text[MAX_CHARS];
    size_t n;
    uint64_t random;
} document;

static void add(document *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(document *d, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(d->text + d->n, sizeof d->text - d->n, format, arguments);
    va_end(arguments);
    if (n > 0 && (size_t)n < sizeof d->text - d->n)
        d->n += (size_t)n;
}

static const char *pick(document *d, const char *const *words, int n) {
    return words[random_below(&d->random, n)];
}

static void add_space(document *d) {
    static const char *const spaces[] = {"", "", "", "", " ", "\n", "\t", "\r\n  "};
    add(d, "%s", pick(d, spaces, DET_COUNT(spaces)));
}

static void add_string(document *d) {
    static const char *const parts[] = {"a", "b", "key", "0", " ", "\\n", "\\\"", "\\\\", "\\/", "\\b\\f\\r\\t", "\\u0041", "\\u00e9", "\\u20AC",
                                        "\\ud83d\\ude00", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\x7f", "{", "]", ",", ":"};
    add(d, "\"");
    for (int n = random_below(&d->random, 5); n > 0; n--)
        add(d, "%s", pick(d, parts, DET_COUNT(parts)));
    add(d, "\"");
}

static void add_number(document *d) {
    static const char *const numbers[] = {"0", "-0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "0.1", "-0.0",
                                          "1e3", "1E+3", "1e-400", "1e400", "123456789.123456789", "2.2250738585072014e-308", "1.7976931348623157e308",
                                          "1.7976931348623159e308", "4.9e-324", "0.30000000000000004", "9007199254740993.0", "1e22", "1e23", "0e0"};
    if (random_below(&d->random, 2))
        add(d, "%s", pick(d, numbers, DET_COUNT(numbers)));
    else if (random_below(&d->random, 2))
        add(d, "%lld", (long long)random_next(&d->random) >> random_below(&d->random, 64));
    else
        add(d, "%.*ge%d", 1 + random_below(&d->random, 20), (double)random_next(&d->random), random_below(&d->random, 40) - 20);
}

static void add_value(document *d, int depth) {
    static const char *const words[] = {"true", "false", "null"};
    int kind = random_below(&d->random, depth > 5 ? 3 : 6), n = random_below(&d->random, 5);
    add_space(d);
    if (kind == 0)
        add(d, "%s", pick(d, words, DET_COUNT(words)));
    else if (kind == 1)
        add_string(d);
    else if (kind == 2)
        add_number(d);
    else
        add(d, kind == 3 ? "[" : "{");
    for (int i = 0; kind >= 3 && i < n; i++) {
        add(d, "%s", i ? "," : "");
        add_space(d);
        if (kind > 3) {
            add_string(d);
            add_space(d);
            add(d, ":");
        }
        add_value(d, depth + 1);
    }
    if (kind >= 3)
        add(d, kind == 3 ? "]" : "}");
    add_space(d);
}

static void damage(document *d) {
    static const char *const words[] = {"\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-", ".", "e", "\\u", "\\ud800", "\\udc00", "\\u0000", "\xff", "\xc0\x80",
                                        "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x01", "nul", "NaN", "//", "'"};
    for (int n = 1 + random_below(&d->random, 3); n > 0 && d->n > 1; n--) {
        size_t at = (size_t)random_below(&d->random, (int)d->n);
        if (random_below(&d->random, 3) == 0) {
            memmove(d->text + at, d->text + at + 1, d->n - at);
            d->n--;
        } else if (random_below(&d->random, 2)) {
            d->text[at] = (char)random_next(&d->random);
        } else {
            const char *word = pick(d, words, DET_COUNT(words));
            size_t length = strlen(word);
            if (d->n + length + 1 < sizeof d->text) {
                memmove(d->text + at + length, d->text + at, d->n - at);
                memcpy(d->text + at, word, length);
                d->n += length;
            }
        }
    }
}

static bool same(const det_json *a, const json_t *b) {
    switch (a->kind) {
    case DET_JSON_NULL:
        return json_is_null(b);
    case DET_JSON_FALSE:
        return json_is_false(b);
    case DET_JSON_TRUE:
        return json_is_true(b);
    case DET_JSON_INTEGER:
        return json_is_integer(b) && json_integer_value(b) == a->u.integer;
    case DET_JSON_REAL:
        return json_is_real(b) && json_real_value(b) == a->u.real && !signbit(json_real_value(b)) == !signbit(a->u.real);
    case DET_JSON_TEXT:
        return json_is_string(b) && !strcmp(json_string_value(b), a->u.text) && json_string_length(b) == strlen(a->u.text);
    case DET_JSON_ARRAY:
        if (json_array_size(b) != (size_t)a->n)
            return false;
        for (int i = 0; i < a->n; i++) {
            if (!same(det_json_item(a, i), json_array_get(b, (size_t)i)))
                return false;
        }
        return json_is_array(b);
    default:
        if (json_object_size(b) != (size_t)a->n)
            return false;
        for (const det_json *member = a->first; member; member = member->next) {
            if (!json_object_get(b, member->key) || !same(member, json_object_get(b, member->key)) || det_json_get(a, member->key) != member)
                return false;
        }
        return json_is_object(b);
    }
}

static bool compare(const document *d) {
    char *exact = malloc(d->n + 1); /* a sanitizer sees what reads beyond */
    memcpy(exact, d->text, d->n);
    det_json *own = NULL;
    json_error_t error;
    det_status status = det_json_read("it", exact, d->n, &own);
    json_t *theirs = json_loadb(exact, d->n, JSON_REJECT_DUPLICATES, &error);
    /* An array, where the library wants an object; or a zero byte between two values, which jansson passes over. */
    if (theirs && (!json_is_object(theirs) || memchr(exact, 0, d->n))) {
        json_decref(theirs);
        theirs = NULL;
    }
    CHECK_MSG((status == DET_OK) == (theirs != NULL), "%.*s\nhere: %s; jansson: %s", (int)d->n, d->text, status == DET_OK ? "taken" : det_last_error(),
              theirs ? "taken" : error.text);
    bool taken = own && theirs;
    CHECK_MSG(!taken || same(own, theirs), "%.*s\nthe values differ", (int)d->n, d->text);
    det_free(own);
    json_decref(theirs);
    free(exact);
    return taken;
}

int main(int argc, char **argv) {
    static document d;
    int n = argc > 1 ? atoi(argv[1]) : N_DOCUMENTS, n_taken = 0;
    for (int i = 0; i < n && check_failures < 10; i++) {
        d = (document){.random = (uint64_t)i};
        add(&d, "{");
        add_string(&d);
        add(&d, ":");
        add_value(&d, 1);
        add(&d, "}");
        if (i % 3)
            damage(&d);
        n_taken += compare(&d);
    }
    CHECK_MSG(n_taken > n / 5 && n_taken < n * 4 / 5, "%d of %d", n_taken, n);
    printf("%d documents, %d of them taken by both\n", n, n_taken);
    return check_report("json");
}
