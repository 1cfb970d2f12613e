/* Outputs of a document: for people, for programs, for a browser. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "options.h"

#include <jansson.h>
#include <stdio.h>

/* Whether it looks as if all of that could be written: asked before minutes of measuring. False after complaining. */
bool output_possible(const options *given);

/* Writes everything that the options ask for. False after complaining. */
bool output_all(const json_t *document, const options *given);

/* Tables: a list of {"title", "columns": [text], "rows": [[text]], "notes": [text]}. */
void write_text_tables(FILE *file, const json_t *tables);
void write_markdown_tables(FILE *file, const json_t *tables);
void write_html_tables(FILE *file, const json_t *tables);

/* A line for every row of every run, with all its figures. */
void write_csv(FILE *file, const json_t *document);

/* One page with charts and tables that needs nothing else. */
void write_html(FILE *file, const json_t *document);

/* Whether every text of a column is a number, or nothing. */
bool is_number_column(const json_t *rows, size_t column);

/* Text between tags or in an attribute. */
void write_escaped(FILE *file, const char *text);

#endif
