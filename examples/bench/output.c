#define _POSIX_C_SOURCE 200809L

#include "output.h"

#include "document.h"
#include "tables.h"
#include "text.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *text_at(const json_t *list, size_t i) {
    const char *text = json_string_value(json_array_get(list, i));
    return text != NULL ? text : "";
}

/* ----------------------------------------------------------------------------------------------------------- text */

bool is_number_column(const json_t *rows, size_t column) {
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *text = text_at(json_array_get(rows, i), column);
        if (text[0] != '\0' && strchr("~-0123456789", text[0]) == NULL)
            return false;
    }
    return true;
}

static void write_padded(FILE *file, const char *text, int width, bool right, bool last) {
    int space = width - text_width(text);
    if (right)
        fprintf(file, "%*s", space, "");
    print_clean(file, text);
    if (!right && !last)
        fprintf(file, "%*s", space, "");
    fputs(last ? "\n" : "  ", file);
}

static int column_width(const json_t *columns, const json_t *rows, size_t column) {
    int width = text_width(text_at(columns, column));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        int cell = text_width(text_at(json_array_get(rows, i), column));
        width = cell > width ? cell : width;
    }
    return width;
}

static void write_notes(FILE *file, const json_t *table, const char *before) {
    const json_t *notes = json_object_get(table, "notes");
    for (size_t i = 0; i < json_array_size(notes); i++) {
        fprintf(file, "%s[%zu] ", before, i + 1);
        print_clean(file, text_at(notes, i));
        putc('\n', file);
    }
}

void write_text_tables(FILE *file, const json_t *tables) {
    for (size_t t = 0; t < json_array_size(tables); t++) {
        const json_t *table = json_array_get(tables, t), *columns = json_object_get(table, "columns"),
                     *rows = json_object_get(table, "rows");
        size_t n = json_array_size(columns);
        fprintf(file, "%s== ", t > 0 ? "\n" : "");
        print_clean(file, json_string_value(json_object_get(table, "title")));
        fputs(" ==\n", file);
        bool has_titles = false;
        for (size_t c = 0; c < n; c++)
            has_titles = has_titles || text_at(columns, c)[0] != '\0';
        for (size_t line = has_titles ? 0 : 1; line <= json_array_size(rows); line++) {
            const json_t *cells = line == 0 ? columns : json_array_get(rows, line - 1);
            for (size_t c = 0; c < n; c++)
                write_padded(file, text_at(cells, c), column_width(columns, rows, c),
                             has_titles && is_number_column(rows, c), c + 1 == n);
        }
        write_notes(file, table, "");
    }
}

/* ------------------------------------------------------------------------------------------------------- markdown */

static void write_markdown_cell(FILE *file, const char *text) {
    putc(' ', file);
    for (; *text != '\0'; text++) {
        if (*text == '|' || *text == '\\')
            putc('\\', file);
        putc((unsigned char)*text < 0x20 ? ' ' : *text, file);
    }
    fputs(" |", file);
}

void write_markdown_tables(FILE *file, const json_t *tables) {
    for (size_t t = 0; t < json_array_size(tables); t++) {
        const json_t *table = json_array_get(tables, t), *columns = json_object_get(table, "columns"),
                     *rows = json_object_get(table, "rows");
        fprintf(file, "%s### %s\n\n", t > 0 ? "\n" : "", json_string_value(json_object_get(table, "title")));
        for (size_t line = 0; line <= json_array_size(rows); line++) {
            const json_t *cells = line == 0 ? columns : json_array_get(rows, line - 1);
            putc('|', file);
            for (size_t c = 0; c < json_array_size(columns); c++)
                write_markdown_cell(file, text_at(cells, c));
            putc('\n', file);
            for (size_t c = 0; line == 0 && c < json_array_size(columns); c++)
                fputs(c == 0 ? "| ---" : is_number_column(rows, c) ? " | ---:" : " | ---", file);
            if (line == 0)
                fputs(" |\n", file);
        }
        if (json_array_size(json_object_get(table, "notes")) > 0)
            putc('\n', file);
        write_notes(file, table, "- ");
    }
}

/* ------------------------------------------------------------------------------------------------------------ CSV */

/* Texts that a spreadsheet could take for a formula get an apostrophe in front. */
static void write_csv_text(FILE *file, const char *text) {
    putc('"', file);
    if (text[0] != '\0' && strchr("=+-@", text[0]) != NULL)
        putc('\'', file);
    for (; *text != '\0'; text++) {
        if (*text == '"')
            putc('"', file);
        putc((unsigned char)*text < 0x20 ? ' ' : *text, file);
    }
    putc('"', file);
}

static void write_csv_value(FILE *file, const json_t *value) {
    if (json_is_string(value))
        write_csv_text(file, json_string_value(value));
    else if (json_is_boolean(value))
        fputs(json_is_true(value) ? "yes" : "no", file);
    else if (json_is_integer(value))
        fprintf(file, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        fprintf(file, "%.9g", json_real_value(value));
}

static void write_csv_list(FILE *file, const json_t *list) {
    char text[2048] = "";
    size_t length = 0;
    for (size_t i = 0; i < json_array_size(list) && length < sizeof text; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", i > 0 ? "; " : "", text_at(list, i));
    if (text[0] != '\0')
        write_csv_text(file, text);
}

static const char *const csv_paths[] = {"scenario",
                                        "status",
                                        "message",
                                        "device",
                                        "device_name",
                                        "precision",
                                        "batch",
                                        "contexts",
                                        "threads",
                                        "callers",
                                        "gmacs",
                                        "memory_bytes",
                                        "inputs.kind",
                                        "inputs.detections_per_picture",
                                        "throughput.value",
                                        "throughput.spread",
                                        "latency_ms.n",
                                        "latency_ms.mean",
                                        "latency_ms.stdev",
                                        "latency_ms.min",
                                        "latency_ms.p50.value",
                                        "latency_ms.p50.enough",
                                        "latency_ms.p95.value",
                                        "latency_ms.p95.enough",
                                        "latency_ms.p99.value",
                                        "latency_ms.p99.enough",
                                        "latency_ms.max",
                                        "latency_ms.spread",
                                        "phases.first_run_ms",
                                        "knee",
                                        "pareto",
                                        "offered.rate",
                                        "offered.achieved",
                                        "offered.sustained",
                                        "streams.streams",
                                        "streams.fps",
                                        "streams.holds",
                                        "streams.headroom",
                                        "little.share",
                                        "soak.differing",
                                        "soak.memory_flat",
                                        "accuracy.ap",
                                        "accuracy.drift.box_max_px",
                                        "cost.per_1000",
                                        "cost.month_busy",
                                        "cost.month_always",
                                        "resources.cpu_cores",
                                        "resources.rss_max_bytes",
                                        "resources.gpu.power_mean_w"};
enum { N_CSV_PATHS = sizeof csv_paths / sizeof csv_paths[0] };

static void write_csv_row(FILE *file, const json_t *run, const json_t *row) {
    static const char *const facts[] = {"environment.host", "environment.date", "model.sha256"};
    const json_t *input = json_object_get(row, "input");
    char name[160];
    write_csv_text(file, run_name(run, name));
    for (int k = 0; k < 3; k++) {
        putc(',', file);
        write_csv_text(file, document_text(run, facts[k]));
    }
    for (size_t k = 0; k < 2; k++) {
        putc(',', file);
        write_csv_value(file, json_array_get(input, k));
    }
    for (int k = 0; k < N_CSV_PATHS; k++) {
        putc(',', file);
        write_csv_value(file, document_at(row, csv_paths[k]));
    }
    putc(',', file);
    write_csv_list(file, json_object_get(row, "invalid"));
    putc(',', file);
    write_csv_list(file, json_object_get(row, "notes"));
    putc('\n', file);
}

void write_csv(FILE *file, const json_t *document) {
    fputs("machine,host,date,model_sha256,input_width,input_height", file);
    for (int i = 0; i < N_CSV_PATHS; i++)
        fprintf(file, ",%s", csv_paths[i]);
    fputs(",invalid,notes\n", file);
    const json_t *runs = json_object_get(document, "runs");
    for (size_t r = 0; r < json_array_size(runs); r++) {
        const json_t *run = json_array_get(runs, r), *rows = json_object_get(run, "rows");
        for (size_t i = 0; i < json_array_size(rows); i++)
            write_csv_row(file, run, json_array_get(rows, i));
    }
}

/* ------------------------------------------------------------------------------------------------------------ all */

static void write_markdown(FILE *file, const json_t *document) {
    json_t *tables = tables_make(document);
    write_markdown_tables(file, tables);
    json_decref(tables);
}

/* Whether a file can be written, without touching it. */
static bool can_write(const char *path) {
    if (path == NULL || strcmp(path, "-") == 0)
        return true;
    struct stat there;
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    bool exists = stat(path, &there) == 0;
    bool can = access(exists ? path : folder, W_OK) == 0;
    if (can && exists && S_ISDIR(there.st_mode)) {
        can = false;
        errno = EISDIR;
    }
    if (!can)
        complain("%s: cannot write: %s", path, strerror(errno));
    return can;
}

bool output_possible(const options *given) {
    return can_write(given->json) && can_write(given->csv) && can_write(given->markdown) && can_write(given->html);
}

static bool write_to(const char *path, const json_t *document, void (*write)(FILE *, const json_t *)) {
    if (path == NULL)
        return true;
    errno = 0;
    FILE *file = open_output(path);
    if (file == NULL)
        return false;
    write(file, document);
    return close_output(file, path);
}

static void write_text(FILE *file, const json_t *document) {
    json_t *tables = tables_make(document);
    write_text_tables(file, tables);
    json_decref(tables);
}

bool output_all(const json_t *document, const options *given) {
    bool ok = given->json == NULL || document_save(document, given->json);
    ok = write_to(given->csv, document, write_csv) && ok;
    ok = write_to(given->markdown, document, write_markdown) && ok;
    ok = write_to(given->html, document, write_html) && ok;
    return (given->quiet || write_to("-", document, write_text)) && ok;
}
