/* Tables of a document: what is shown of it, as text. */
#ifndef BENCH_TABLES_H
#define BENCH_TABLES_H

#include <jansson.h>
#include <stdbool.h>

/* A list of tables (output.h): the runs, their environments and warnings, then a table for every scenario. */
json_t *tables_make(const json_t *document);

/* A table without rows. */
json_t *table_new(const char *title);
/* Takes the text, at most 159 bytes of it; NULL stands for "". */
void table_column(json_t *table, const char *title);
void row_text(json_t *cells, const char *text);
void row_format(json_t *cells, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_note(json_t *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Removes columns without a single text. */
void table_drop_empty(json_t *table);

/* What a run is called: its label, else its device and its host. */
const char *run_name(const json_t *run, char name[160]);
/* What it ran on: the GPU's or the CPU's name; "" when no row tells. */
const char *run_device(const json_t *run);

#endif
