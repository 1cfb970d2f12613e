#include "json.h"

#include "text.h"

#include <inttypes.h>
#include <math.h>

/* Before every key and every value that has none. */
static void separate(json_writer *json) {
    if (json->comma)
        fputs(", ", json->file);
    json->comma = true;
}

void json_begin(json_writer *json, char bracket) {
    separate(json);
    putc(bracket, json->file);
    json->comma = false;
}

void json_end(json_writer *json, char bracket) {
    putc(bracket, json->file);
    json->comma = true;
}

static void write_string(FILE *file, const char *text) {
    putc('"', file);
    while (*text != '\0') {
        size_t n_bytes = utf8_sequence(text);
        if (n_bytes == 0)
            fputs("\\ufffd", file);
        else if (*text == '"' || *text == '\\')
            fprintf(file, "\\%c", *text);
        else if (n_bytes == 1 && (*text < 0x20 || *text == 0x7f))
            fprintf(file, "\\u%04x", (unsigned)*text);
        else
            fwrite(text, 1, n_bytes, file);
        text += n_bytes > 0 ? n_bytes : 1;
    }
    putc('"', file);
}

void json_key(json_writer *json, const char *key) {
    separate(json);
    write_string(json->file, key);
    fputs(": ", json->file);
    json->comma = false;
}

void json_string(json_writer *json, const char *text) {
    separate(json);
    write_string(json->file, text);
}

void json_integer(json_writer *json, int64_t number) {
    separate(json);
    fprintf(json->file, "%" PRId64, number);
}

void json_number(json_writer *json, double number, int n_decimals) {
    separate(json);
    if (!isfinite(number)) {
        fputs("null", json->file);
        return;
    }
    char text[400]; /* the largest double has 309 digits before the point */
    int length = snprintf(text, sizeof text, "%.*f", n_decimals, number);
    while (n_decimals > 0 && text[length - 1] == '0')
        length--;
    if (n_decimals > 0 && text[length - 1] == '.')
        length--;
    fwrite(text, 1, (size_t)length, json->file);
}

void json_float(json_writer *json, float number) {
    separate(json);
    if (isfinite(number))
        fprintf(json->file, "%.7g", (double)number);
    else
        fputs("null", json->file);
}

void json_bool(json_writer *json, bool value) {
    separate(json);
    fputs(value ? "true" : "false", json->file);
}
