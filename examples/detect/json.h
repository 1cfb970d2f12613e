/* A JSON writer: values in the order they are given, commas by itself, always valid UTF-8. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json_writer {
    FILE *file;
    bool comma; /* one is due before the next key or value */
} json_writer;

void json_begin(json_writer *json, char bracket); /* '{' or '[' */
void json_end(json_writer *json, char bracket);   /* '}' or ']' */
void json_key(json_writer *json, const char *key);

/* Bytes that are not UTF-8, which names of files may hold, become U+FFFD. */
void json_string(json_writer *json, const char *text);
void json_integer(json_writer *json, int64_t number);
/* Both write null for infinities and what is no number, which JSON cannot say. */
void json_number(json_writer *json, double number, int n_decimals); /* without trailing zeros */
void json_float(json_writer *json, float number);                   /* the seven digits that a float is good for */
void json_bool(json_writer *json, bool value);

#endif
