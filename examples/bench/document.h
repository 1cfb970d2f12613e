/* The benchmark's JSON: {"schema": "detect-bench", "version": 1, "runs": [...]}; docs/benchmark.md. Every other output is
 * made from it. */
#ifndef BENCH_DOCUMENT_H
#define BENCH_DOCUMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { DOCUMENT_VERSION = 1 };

/* A document around some runs, which it takes over. NULL when memory runs out. */
json_t *document_new(json_t *runs);

/* Reads and checks a document. NULL after complaining. */
json_t *document_load(const char *path);

/* "-" is standard output. False after complaining. */
bool document_save(const json_t *document, const char *path);

/* The value at "a.b.c"; NULL when something on the way is missing. */
const json_t *document_at(const json_t *value, const char *path);
/* The same, as a number (NaN when it is none) and as a text ("" when it is none). */
double document_number(const json_t *value, const char *path);
const char *document_text(const json_t *value, const char *path);

/* A number, or null for what is no number and for "not told", which is negative in the readings. */
json_t *document_real(double value);
json_t *document_told(double value);

/* A file to write to, standard output for "-". NULL after complaining; close_output complains, too. */
#include <stdio.h>
FILE *open_output(const char *path);
bool close_output(FILE *file, const char *path);

#endif
