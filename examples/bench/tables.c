#include "tables.h"

#include "analysis.h"
#include "document.h"
#include "scaling.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------------- tables */

json_t *table_new(const char *title) {
    return json_pack("{s:s, s:[], s:[], s:[]}", "title", title, "columns", "rows", "notes");
}

void table_column(json_t *table, const char *title) {
    json_array_append_new(json_object_get(table, "columns"), json_string(title));
}

void row_text(json_t *cells, const char *text) {
    json_array_append_new(cells, json_string(text != NULL ? text : ""));
}

void row_format(json_t *cells, const char *format, ...) {
    char text[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    row_text(cells, text);
}

void table_note(json_t *table, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_array_append_new(json_object_get(table, "notes"), json_string(text));
}

void table_drop_empty(json_t *table) {
    json_t *columns = json_object_get(table, "columns"), *rows = json_object_get(table, "rows");
    for (size_t column = json_array_size(columns); column-- > 0;) {
        bool empty = true;
        for (size_t i = 0; i < json_array_size(rows) && empty; i++)
            empty = json_string_length(json_array_get(json_array_get(rows, i), column)) == 0;
        for (size_t i = 0; i < json_array_size(rows) && empty; i++)
            json_array_remove(json_array_get(rows, i), column);
        if (empty)
            json_array_remove(columns, column);
    }
}

const char *run_device(const json_t *run) {
    const json_t *rows = json_object_get(run, "rows");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (strcmp(document_text(row, "device"), "cuda") == 0 && document_text(row, "device_name")[0] != '\0')
            return document_text(row, "device_name");
    }
    return document_text(run, "environment.cpu.model");
}

const char *run_name(const json_t *run, char name[160]) {
    const char *label = document_text(run, "label");
    if (label[0] != '\0')
        snprintf(name, 160, "%s", label);
    else
        snprintf(name, 160, "%s (%s)", run_device(run), document_text(run, "environment.host"));
    return name;
}

/* ---------------------------------------------------------------------------------------------------------- cells */

typedef enum cell_kind { TEXT, NUMBER, PERCENTILE, SIZE, SHARE, FLAG, MEBIBYTES } cell_kind;

/* A column: where its cells come from in a row of results. */
typedef struct column {
    const char *title, *path;
    cell_kind kind;
    int decimals;
} column;

/* Three digits that mean something. */
static void format_number(char text[160], double value, int decimals) {
    double size = fabs(value);
    if (decimals >= 0)
        snprintf(text, 160, "%.*f", decimals, value);
    else
        snprintf(text, 160, "%.*f", size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4, value);
}

/* "12.3 (600)", and "~" before it when 600 samples are too few. */
static void format_percentile(char text[160], const json_t *value) {
    char number[160];
    format_number(number, document_number(value, "value"), -1);
    snprintf(text, 160, "%s%.60s (%.0f)", json_is_true(json_object_get(value, "enough")) ? "" : "~", number,
             document_number(value, "n"));
}

static void format_cell(char text[160], const json_t *row, const column *c) {
    const json_t *value = document_at(row, c->path);
    text[0] = '\0';
    if (value == NULL || json_is_null(value))
        return;
    switch (c->kind) {
    case TEXT:
        snprintf(text, 160, "%s", json_is_string(value) ? json_string_value(value) : "");
        break;
    case NUMBER:
        format_number(text, json_number_value(value), c->decimals);
        break;
    case PERCENTILE:
        format_percentile(text, value);
        break;
    case SIZE:
        snprintf(text, 160, "%.0fx%.0f", json_number_value(json_array_get(value, 0)),
                 json_number_value(json_array_get(value, 1)));
        break;
    case SHARE:
        snprintf(text, 160, "%.*f %%", c->decimals, 100 * json_number_value(value));
        break;
    case FLAG:
        snprintf(text, 160, "%s", json_is_true(value) ? "yes" : "no");
        break;
    case MEBIBYTES:
        snprintf(text, 160, "%.1f", json_number_value(value) / 1048576);
        break;
    }
}

/* What every table of a scenario begins and ends with. Columns that nobody fills are left out. */
static const column leading[] = {
    {"device", "device", TEXT, 0}, {"precision", "precision", TEXT, 0}, {"input", "input", SIZE, 0},
    {"batch", "batch", NUMBER, 0}, {"contexts", "contexts", NUMBER, 0}, {"threads", "threads", NUMBER, 0},
};

static const column trailing[] = {
    {"memory MiB", "memory_bytes", MEBIBYTES, 0},
    {"AP", "accuracy.ap", NUMBER, 4},
    {"box drift px", "accuracy.drift.box_max_px", NUMBER, 3},
    {"boxes kept", "accuracy.drift.matched", NUMBER, 0},
    {"cost per 1,000", "cost.per_1000", NUMBER, 6},
    {"a month, busy", "cost.month_busy", NUMBER, 2},
    {"machines", "cost.month_machines", NUMBER, 0},
    {"a month, always on", "cost.month_always", NUMBER, 2},
    {"CPU cores", "resources.cpu_cores", NUMBER, 2},
    {"others' cores", "resources.other_cores", NUMBER, 2},
    {"RSS MiB", "resources.rss_max_bytes", MEBIBYTES, 0},
    {"GPU %", "resources.gpu.utilisation_percent", NUMBER, 0},
    {"GPU MiB", "resources.gpu.memory_max_bytes", MEBIBYTES, 0},
    {"GPU W", "resources.gpu.power_mean_w", NUMBER, 0},
    {"GPU C", "resources.gpu.temperature_max_c", NUMBER, 0},
};

static const column figures[] = {
    {"callers", "callers", NUMBER, 0},
    {"requests/s offered", "offered.rate", NUMBER, -1},
    {"requests/s served", "offered.achieved", NUMBER, -1},
    {"load", "load", SHARE, 0},
    {"streams", "streams.streams", NUMBER, 0},
    {"fps", "streams.fps", NUMBER, -1},
    {"holds", "streams.holds", FLAG, 0},
    {"late", "streams.late_share", SHARE, 2},
    {"headroom", "streams.headroom", SHARE, 0},
    {"streams possible", "streams.possible_streams", NUMBER, 0},
    {"pictures/s", "throughput.value", NUMBER, -1},
    {"spread", "throughput.spread", SHARE, 1},
    {"mean ms", "latency_ms.mean", NUMBER, -1},
    {"stdev", "latency_ms.stdev", NUMBER, -1},
    {"P50 ms (n)", "latency_ms.p50", PERCENTILE, 0},
    {"P95 ms (n)", "latency_ms.p95", PERCENTILE, 0},
    {"P99 ms (n)", "latency_ms.p99", PERCENTILE, 0},
    {"max ms", "latency_ms.max", NUMBER, -1},
    {"create ms", "phases.create_context_ms", NUMBER, -1},
    {"first run ms", "phases.first_run_ms", NUMBER, -1},
    {"Little", "little.share", NUMBER, 3},
    {"outputs", "soak.outputs", NUMBER, 0},
    {"differing", "soak.differing", NUMBER, 0},
    {"memory flat", "soak.memory_flat", FLAG, 0},
    {"grown MiB", "soak.memory_growth_bytes", MEBIBYTES, 0},
    {"jitter", "soak.jitter", SHARE, 1},
    {"max/median", "soak.max_over_median", NUMBER, 2},
    {"knee", "knee", FLAG, 0},
    {"on the front", "pareto", FLAG, 0},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void add_cells(json_t *cells, const json_t *row, const column *columns, size_t n) {
    char text[160];
    for (size_t i = 0; i < n; i++) {
        format_cell(text, row, &columns[i]);
        row_text(cells, text);
    }
}

static void add_columns(json_t *table, const column *columns, size_t n) {
    for (size_t i = 0; i < n; i++)
        table_column(table, columns[i].title);
}

/* ------------------------------------------------------------------------------------------------------ scenarios */

/* The number under which a text stands below the table, from 1; it is added when it is new. */
static size_t note_number(json_t *table, const char *text) {
    json_t *notes = json_object_get(table, "notes");
    size_t n = json_array_size(notes);
    for (size_t i = 0; i < n; i++)
        if (strcmp(json_string_value(json_array_get(notes, i)), text) == 0)
            return i + 1;
    json_array_append_new(notes, json_string(text));
    return n + 1;
}

static void add_note_cell(json_t *table, json_t *cells, const json_t *row) {
    char text[160] = "", note[600];
    size_t length = 0;
    const char *const lists[] = {"invalid", "notes"};
    if (document_text(row, "message")[0] != '\0')
        length += (size_t)snprintf(text, sizeof text, "%s [%zu]", document_text(row, "status"),
                                   note_number(table, document_text(row, "message")));
    for (size_t k = 0; k < COUNT(lists); k++) {
        const json_t *list = json_object_get(row, lists[k]);
        for (size_t i = 0; i < json_array_size(list) && length < sizeof text - 20; i++) {
            snprintf(note, sizeof note, "%s%s", k == 0 ? "INVALID: " : "", json_string_value(json_array_get(list, i)));
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%s[%zu]", length > 0 ? " " : "",
                                       k == 0 && i == 0 ? "INVALID " : "", note_number(table, note));
        }
    }
    row_text(cells, text);
}

/* Stages and layers have tables of their own. */
static bool has_details(const json_t *row) {
    return document_at(row, "stages.alone") != NULL || json_object_get(row, "layers") != NULL;
}

/* What a row says of itself, below its own table. */
static void add_own_notes(json_t *table, const json_t *row) {
    const char *const lists[] = {"invalid", "notes"};
    for (size_t k = 0; k < COUNT(lists); k++) {
        const json_t *list = json_object_get(row, lists[k]);
        for (size_t i = 0; i < json_array_size(list); i++)
            table_note(table, "%s%s", k == 0 ? "INVALID: " : "", json_string_value(json_array_get(list, i)));
    }
}

/* Columns of the setting that say the same in every row go to the title. */
static void fold_constants(json_t *table) {
    json_t *columns = json_object_get(table, "columns"), *rows = json_object_get(table, "rows");
    char title[512];
    size_t length = (size_t)snprintf(title, sizeof title, "%s", json_string_value(json_object_get(table, "title")));
    for (size_t i = 0; i < COUNT(leading); i++) {
        size_t at = 0;
        while (at < json_array_size(columns) &&
               strcmp(json_string_value(json_array_get(columns, at)), leading[i].title) != 0)
            at++;
        const char *first =
            at < json_array_size(columns) ? json_string_value(json_array_get(json_array_get(rows, 0), at)) : "";
        bool same = first[0] != '\0';
        for (size_t r = 1; r < json_array_size(rows) && same; r++)
            same = strcmp(first, json_string_value(json_array_get(json_array_get(rows, r), at))) == 0;
        if (!same)
            continue;
        length += (size_t)snprintf(title + length, sizeof title - length, "%s%s%s%.60s", length > 0 ? ", " : "",
                                   leading[i].kind == TEXT ? "" : leading[i].title, leading[i].kind == TEXT ? "" : " ",
                                   first);
        for (size_t r = 0; r < json_array_size(rows); r++)
            json_array_remove(json_array_get(rows, r), at);
        json_array_remove(columns, at);
    }
    json_object_set_new(table, "title", json_string(title));
}

/* All rows of a scenario, of all runs, but those that have a table of their own. NULL when there are none. */
static json_t *scenario_table(const json_t *runs, const char *scenario) {
    json_t *table = table_new(scenario), *rows = json_object_get(table, "rows");
    bool several = json_array_size(runs) > 1;
    table_column(table, "machine");
    add_columns(table, leading, COUNT(leading));
    add_columns(table, figures, COUNT(figures));
    add_columns(table, trailing, COUNT(trailing));
    table_column(table, "notes");
    for (size_t r = 0; r < json_array_size(runs); r++) {
        const json_t *run = json_array_get(runs, r), *all = json_object_get(run, "rows");
        char name[160];
        for (size_t i = 0; i < json_array_size(all); i++) {
            const json_t *row = json_array_get(all, i);
            if (strcmp(document_text(row, "scenario"), scenario) != 0 || has_details(row))
                continue;
            json_t *cells = json_array();
            row_text(cells, several ? run_name(run, name) : "");
            add_cells(cells, row, leading, COUNT(leading));
            add_cells(cells, row, figures, COUNT(figures));
            add_cells(cells, row, trailing, COUNT(trailing));
            add_note_cell(table, cells, row);
            json_array_append_new(rows, cells);
        }
    }
    if (json_array_size(rows) > 0) {
        table_drop_empty(table);
        fold_constants(table);
        return table;
    }
    json_decref(table);
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- stages and layers */

static json_t *stages_table(const json_t *row, const char *of) {
    static const char *const stages[] = {"upload", "preprocess", "network", "decode", "nms", "download", "total"};
    char title[256], path[64];
    snprintf(title, sizeof title, "stages, ms (median)%s%.200s", of[0] != '\0' ? ": " : "", of);
    json_t *table = table_new(title);
    table_column(table, "stage");
    table_column(table, "alone");
    table_column(table, "in the pipeline");
    for (size_t i = 0; i < COUNT(stages); i++) {
        json_t *cells = json_array();
        row_text(cells, stages[i]);
        for (int k = 0; k < 2; k++) {
            char text[160];
            snprintf(path, sizeof path, "stages.%s.%s", k == 0 ? "alone" : "pipeline", stages[i]);
            format_cell(text, row, &(column){"", path, NUMBER, 4});
            row_text(cells, text);
        }
        json_array_append_new(json_object_get(table, "rows"), cells);
    }
    if (json_is_false(document_at(row, "stages.nms_reached")))
        table_note(table, "NMS had nothing to do: no picture has a detection, so its time is not that of NMS");
    if (!isnan(document_number(row, "stages.pipeline.throughput")))
        table_note(table, "pipeline: %.0f contexts of %.0f threads, %.2f pictures a second",
                   document_number(row, "stages.pipeline.contexts"), document_number(row, "stages.pipeline.threads"),
                   document_number(row, "stages.pipeline.throughput"));
    add_own_notes(table, row);
    return table;
}

static json_t *layers_table(const json_t *row, const char *of) {
    static const column columns[] = {
        {"layer", "name", TEXT, 0},           {"op", "op", TEXT, 0},
        {"implementation", "impl", TEXT, 0},  {"ms", "ms", NUMBER, 4},
        {"time", "time_share", SHARE, 1},     {"GMAC", "gmacs", NUMBER, 4},
        {"MiB moved", "bytes", MEBIBYTES, 0}, {"of the roof", "roof_share", SHARE, 1},
        {"bound by", "bound", TEXT, 0},
    };
    char title[256];
    snprintf(title, sizeof title, "layers%s%.200s", of[0] != '\0' ? ": " : "", of);
    json_t *table = table_new(title);
    const json_t *layers = json_object_get(row, "layers");
    add_columns(table, columns, COUNT(columns));
    for (size_t i = 0; i < json_array_size(layers); i++) {
        json_t *cells = json_array();
        add_cells(cells, json_array_get(layers, i), columns, COUNT(columns));
        json_array_append_new(json_object_get(table, "rows"), cells);
    }
    if (strcmp(document_text(row, "roof.source"), "unknown") == 0)
        table_note(table, "the roof of this device is not known: give --roof GMACs,GBs");
    else
        table_note(table, "roof: %.1f GMAC/s and %.1f GB/s, %s", document_number(row, "roof.gmacs_per_s"),
                   document_number(row, "roof.gbytes_per_s"), document_text(row, "roof.source"));
    bool cached = false;
    for (size_t i = 0; i < json_array_size(layers); i++)
        cached = cached || document_number(json_array_get(layers, i), "roof_share") > 1;
    if (cached)
        table_note(table, "more than 100 %%: the data was in a cache, which is faster than the memory of the roof");
    add_own_notes(table, row);
    table_drop_empty(table);
    return table;
}

static void add_details(json_t *tables, const json_t *runs) {
    for (size_t r = 0; r < json_array_size(runs); r++) {
        const json_t *run = json_array_get(runs, r), *rows = json_object_get(run, "rows");
        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);
            char name[160], of[256];
            const json_t *input = json_object_get(row, "input");
            snprintf(of, sizeof of, "%s%s%s, input %.0fx%.0f, batch %.0f",
                     json_array_size(runs) > 1 ? run_name(run, name) : "", json_array_size(runs) > 1 ? ", " : "",
                     document_text(row, "precision"), json_number_value(json_array_get(input, 0)),
                     json_number_value(json_array_get(input, 1)), document_number(row, "batch"));
            if (document_at(row, "stages.alone") != NULL)
                json_array_append_new(tables, stages_table(row, of));
            if (json_object_get(row, "layers") != NULL)
                json_array_append_new(tables, layers_table(row, of));
        }
    }
}

/* ---------------------------------------------------------------------------------------------------- environment */

static void add_fact(json_t *table, const char *key, const char *text) {
    if (text[0] == '\0')
        return;
    json_t *cells = json_array();
    row_text(cells, key);
    row_text(cells, text);
    json_array_append_new(json_object_get(table, "rows"), cells);
}

/* A fact with a number in it; left out when the number is not told. */
static void add_number(json_t *table, const char *key, const json_t *run, const char *path, const char *format,
                       double factor) __attribute__((format(printf, 5, 0)));

static void add_number(json_t *table, const char *key, const json_t *run, const char *path, const char *format,
                       double factor) {
    char text[160];
    double value = document_number(run, path);
    if (isnan(value))
        return;
    snprintf(text, sizeof text, format, value * factor);
    add_fact(table, key, text);
}

static void add_gpu(json_t *table, const json_t *run) {
    if (!json_is_object(document_at(run, "environment.gpu")))
        return;
    const json_t *ecc = document_at(run, "environment.gpu.ecc");
    add_fact(table, "GPU", document_text(run, "environment.gpu.model"));
    add_fact(table, "GPU driver", document_text(run, "environment.gpu.driver"));
    add_fact(table, "CUDA of the driver", document_text(run, "environment.gpu.driver_cuda"));
    add_number(table, "GPU memory", run, "environment.gpu.memory_bytes", "%.1f GiB", 1 / 1073741824.0);
    add_number(table, "GPU clock", run, "environment.gpu.sm_mhz", "%.0f MHz", 1);
    add_number(table, "GPU clock, highest", run, "environment.gpu.max_sm_mhz", "%.0f MHz", 1);
    add_number(table, "GPU power cap", run, "environment.gpu.power_cap_w", "%.0f W", 1);
    add_number(table, "other processes on it", run, "environment.gpu.other_processes", "%.0f", 1);
    add_fact(table, "GPU ECC", json_is_true(ecc) ? "on" : json_is_false(ecc) ? "off" : "");
}

static json_t *environment_table(const json_t *run) {
    char name[160], title[200], text[160];
    snprintf(title, sizeof title, "environment: %s", run_name(run, name));
    json_t *table = table_new(title);
    table_column(table, "");
    table_column(table, "");
    add_fact(table, "date", document_text(run, "environment.date"));
    add_fact(table, "CPU", document_text(run, "environment.cpu.model"));
    snprintf(text, sizeof text, "%.0f, %.0f logical, %.0f usable", document_number(run, "environment.cpu.cores"),
             document_number(run, "environment.cpu.logical"), document_number(run, "environment.cpu.usable"));
    add_fact(table, "cores", text);
    add_fact(table, "instructions", document_text(run, "environment.cpu.flags"));
    add_number(table, "clock", run, "environment.cpu.mhz", "%.0f MHz", 1);
    add_number(table, "memory", run, "environment.memory_bytes", "%.1f GiB", 1 / 1073741824.0);
    add_gpu(table, run);
    add_fact(table, "system", document_text(run, "environment.system"));
    add_fact(table, "kernel", document_text(run, "environment.kernel"));
    add_fact(table, "libdetect", document_text(run, "environment.library.version"));
    add_fact(table, "its file", document_text(run, "environment.library.sha256"));
    add_fact(table, "oneDNN", document_text(run, "environment.library.onednn"));
    add_fact(table, "CUDA", document_text(run, "environment.library.cuda"));
    add_fact(table, "cuDNN", document_text(run, "environment.library.cudnn"));
    snprintf(text, sizeof text, "%s %s, %s", document_text(run, "model.family"), document_text(run, "model.variant"),
             document_text(run, "model.file"));
    add_fact(table, "model", text);
    add_fact(table, "its SHA-256", document_text(run, "model.sha256"));
    const json_t *warnings = document_at(run, "environment.warnings");
    for (size_t i = 0; i < json_array_size(warnings); i++)
        table_note(table, "warning: %s", json_string_value(json_array_get(warnings, i)));
    const char *formula = document_text(run, "settings.price.per_1000_formula");
    if (formula[0] != '\0') {
        table_note(table, "cost per 1,000 pictures = %s", formula);
        if (!isnan(document_number(run, "settings.price.daily")))
            table_note(table, "cost a month: %s", document_text(run, "settings.price.per_month_formula"));
    }
    return table;
}

json_t *tables_make(const json_t *document) {
    static const char *const scenarios[] = {"latency", "throughput", "concurrency", "rate",  "streams",
                                            "soak",    "tune",       "stages",      "layers"};
    const json_t *runs = json_object_get(document, "runs");
    json_t *tables = json_array();
    for (size_t i = 0; i < json_array_size(runs); i++)
        json_array_append_new(tables, environment_table(json_array_get(runs, i)));
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        json_t *table = scenario_table(runs, scenarios[i]);
        if (table != NULL)
            json_array_append_new(tables, table);
    }
    json_t *scaling = scaling_table(runs);
    if (scaling != NULL)
        json_array_append_new(tables, scaling);
    add_details(tables, runs);
    return tables;
}
