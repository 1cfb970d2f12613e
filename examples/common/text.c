#include "text.h"

#include "progress.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

size_t utf8_sequence(const char *text) {
    const uint8_t *p = (const uint8_t *)text;
    if (p[0] < 0x80)
        return 1;
    /* The second byte's range excludes overlong forms, surrogates, and what lies beyond U+10FFFF. */
    uint8_t low = 0x80, high = 0xbf;
    size_t n_bytes;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n_bytes = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n_bytes = 3;
        if (p[0] == 0xe0)
            low = 0xa0;
        if (p[0] == 0xed)
            high = 0x9f;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n_bytes = 4;
        if (p[0] == 0xf0)
            low = 0x90;
        if (p[0] == 0xf4)
            high = 0x8f;
    } else {
        return 0;
    }
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n_bytes; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return n_bytes;
}

/* C0, delete, and C1, which a terminal obeys as well (U+009B begins an escape sequence). */
static bool is_control(const char *text, size_t n_bytes) {
    const uint8_t *p = (const uint8_t *)text;
    return n_bytes == 0 || p[0] < 0x20 || p[0] == 0x7f || (n_bytes == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

/* `file` may be NULL: count only. */
static int walk_clean(FILE *file, const char *text) {
    int width = 0;
    while (*text != '\0') {
        size_t n_bytes = utf8_sequence(text);
        if (file != NULL && is_control(text, n_bytes))
            putc('?', file);
        else if (file != NULL)
            fwrite(text, 1, n_bytes, file);
        text += n_bytes > 0 ? n_bytes : 1;
        width++;
    }
    return width;
}

int print_clean(FILE *file, const char *text) {
    return walk_clean(file, text);
}

int text_width(const char *text) {
    return walk_clean(NULL, text);
}

void complain(const char *format, ...) {
    char line[8192]; /* room for a path of PATH_MAX bytes and what is wrong with it */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    progress_hide();
    fprintf(stderr, "%s: ", program_name);
    print_clean(stderr, line);
    putc('\n', stderr);
}
