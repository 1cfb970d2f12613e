/* The HTML page: what a run says at a glance, charts, tables. */
#include "chart.h"
#include "document.h"
#include "output.h"
#include "tables.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--back:#fff;--card:#f6f7f9;--text:#1a1f29;--soft:#5b6472;--rule:#dfe3e8;"
    "--s0:#2563eb;--s1:#d97706;--s2:#059669;--s3:#dc2626;--s4:#7c3aed;--s5:#0e7490;--s6:#be185d;--s7:#4d7c0f;"
    "--bad:#b91c1c}\n"
    "@media(prefers-color-scheme:dark){:root{--back:#12161d;--card:#1b212b;--text:#e6e9ee;--soft:#9aa4b2;"
    "--rule:#313a47;--s0:#60a5fa;--s1:#fbbf24;--s2:#34d399;--s3:#f87171;--s4:#a78bfa;--s5:#22d3ee;--s6:#f472b6;"
    "--s7:#a3e635;--bad:#f87171}}\n"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:1500px;padding:24px;background:var(--back);color:var(--text);"
    "font:15px/1.5 system-ui,sans-serif}h1{font-size:24px;margin:0}h2{font-size:18px;margin:32px 0 8px}"
    "p{margin:4px 0}.soft,.note{color:var(--soft)}.note{font-size:13px}.bad{color:var(--bad);font-weight:600}"
    ".cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}.card{background:var(--card);border:1px solid "
    "var(--rule);"
    "border-radius:8px;padding:12px 16px;min-width:150px}.card b{display:block;font-size:22px}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,540px),1fr));gap:20px}"
    "figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:14px}"
    "figcaption{font-weight:600;margin-bottom:4px}svg{width:100%;height:auto;display:block}"
    "svg text{fill:var(--text);font:13px system-ui,sans-serif}svg .tick{fill:var(--soft);font-size:12px}"
    "svg .label{font-weight:600;font-size:12px}.grid{stroke:var(--rule);stroke-width:1}"
    ".axis{stroke:var(--soft);stroke-width:1}.marker{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:4 4}"
    ".line{fill:none;stroke-width:2.5;stroke-linejoin:round}.area{fill-opacity:.22}.dashed{stroke-dasharray:7 5}"
    ".point{stroke-width:2;fill:var(--card)}.marked{stroke-width:4}"
    ".legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;margin:8px 0 0;padding:0;font-size:13px}"
    ".swatch{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px}"
    "th,td{padding:4px 10px;border-bottom:1px solid var(--rule);text-align:left;white-space:nowrap}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}th{color:var(--soft);font-weight:600}"
    ".s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}.s4{stroke:var(--s4)}"
    ".s5{stroke:var(--s5)}.s6{stroke:var(--s6)}.s7{stroke:var(--s7)}"
    ".s0.area{fill:var(--s0)}.s1.area{fill:var(--s1)}.s2.area{fill:var(--s2)}.s3.area{fill:var(--s3)}"
    ".s4.area{fill:var(--s4)}.s5.area{fill:var(--s5)}.s6.area{fill:var(--s6)}.s7.area{fill:var(--s7)}"
    ".b0{fill:var(--s0);background:var(--s0)}.b1{fill:var(--s1);background:var(--s1)}"
    ".b2{background:var(--s2)}.b3{background:var(--s3)}.b4{background:var(--s4)}.b5{background:var(--s5)}"
    ".b6{background:var(--s6)}.b7{background:var(--s7)}"
    "ol.notes{margin:6px 0;padding-left:28px;color:var(--soft);font-size:13px}\n";

void write_escaped(FILE *file, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '<')
            fputs("&lt;", file);
        else if (*text == '>')
            fputs("&gt;", file);
        else if (*text == '&')
            fputs("&amp;", file);
        else if (*text == '"')
            fputs("&quot;", file);
        else
            putc((unsigned char)*text < 0x20 ? ' ' : *text, file);
    }
}

/* --------------------------------------------------------------------------------------------------------- tables */

static void write_cell(FILE *file, const char *tag, const char *text, bool number) {
    fprintf(file, "<%s%s>", tag, number ? " class=\"n\"" : "");
    write_escaped(file, text);
    fprintf(file, "</%s>", tag);
}

void write_html_tables(FILE *file, const json_t *tables) {
    for (size_t t = 0; t < json_array_size(tables); t++) {
        const json_t *table = json_array_get(tables, t), *columns = json_object_get(table, "columns"),
                     *rows = json_object_get(table, "rows"), *notes = json_object_get(table, "notes");
        fputs("<h2>", file);
        write_escaped(file, json_string_value(json_object_get(table, "title")));
        fputs("</h2>\n<div class=\"scroll\"><table>\n", file);
        for (size_t i = 0; i <= json_array_size(rows); i++) {
            const json_t *cells = i == 0 ? columns : json_array_get(rows, i - 1);
            fputs("<tr>", file);
            for (size_t c = 0; c < json_array_size(columns); c++)
                write_cell(file, i == 0 ? "th" : "td", json_string_value(json_array_get(cells, c)),
                           is_number_column(rows, c));
            fputs("</tr>\n", file);
        }
        fputs("</table></div>\n", file);
        if (json_array_size(notes) > 0)
            fputs("<ol class=\"notes\">", file);
        for (size_t i = 0; i < json_array_size(notes); i++) {
            fputs("<li>", file);
            write_escaped(file, json_string_value(json_array_get(notes, i)));
            fputs("</li>", file);
        }
        if (json_array_size(notes) > 0)
            fputs("</ol>\n", file);
    }
}

/* --------------------------------------------------------------------------------------------------------- charts */

/* What tells a row's line from those of other runs and settings. */
static void name_line(const json_t *runs, const json_t *run, const json_t *row, char name[CHART_TEXT]) {
    char machine[160];
    const json_t *input = json_object_get(row, "input");
    snprintf(name, CHART_TEXT, "%.50s%s%s %.0fx%.0f", json_array_size(runs) > 1 ? run_name(run, machine) : "",
             json_array_size(runs) > 1 ? ", " : "", document_text(row, "precision"),
             json_number_value(json_array_get(input, 0)), json_number_value(json_array_get(input, 1)));
}

static line *find_line(chart *c, const char *name) {
    for (size_t i = 0; i < c->n_lines; i++)
        if (strcmp(c->lines[i].name, name) == 0)
            return &c->lines[i];
    return chart_line(c, name);
}

typedef void add_row(chart *c, const json_t *row, const char *name);

/* Hands every usable row of a scenario to `add`. */
static void each_row(chart *c, const json_t *runs, const char *scenario, add_row *add) {
    for (size_t r = 0; r < json_array_size(runs); r++) {
        const json_t *run = json_array_get(runs, r), *rows = json_object_get(run, "rows");
        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);
            char name[CHART_TEXT];
            if (strcmp(document_text(row, "scenario"), scenario) != 0 || json_object_get(row, "latency_ms") == NULL)
                continue;
            name_line(runs, run, row, name);
            add(c, row, name);
        }
    }
}

/* An outline of the bins. */
static void add_distribution(chart *c, const json_t *row, const char *name) {
    const json_t *bins = document_at(row, "latency_ms.bins"), *counts = json_object_get(bins, "counts");
    double low = document_number(bins, "low"), high = document_number(bins, "high");
    double n = document_number(row, "latency_ms.n");
    size_t n_bins = json_array_size(counts);
    if (n_bins == 0 || c->n_lines == CHART_MOST_SERIES)
        return;
    line *l = chart_line(c, name);
    for (size_t i = 0; i < n_bins; i++)
        line_add(l, low + (high - low) * ((double)i + 0.5) / (double)n_bins,
                 100 * json_number_value(json_array_get(counts, i)) / n);
    static const char *const places[] = {"p50", "p95", "p99"};
    c->n_markers = 0;
    for (size_t i = 0; i < 3 && c->n_lines == 1; i++) {
        char path[64];
        snprintf(path, sizeof path, "latency_ms.%s.value", places[i]);
        marker *m = &c->markers[c->n_markers++];
        m->x = document_number(row, path);
        snprintf(m->label, sizeof m->label, "P%s %.3g ms", places[i] + 1, m->x);
    }
}

static void add_batch(chart *c, const json_t *row, const char *name) {
    line *l = find_line(c, name);
    line_add(l, document_number(row, "batch"), document_number(row, "throughput.value"));
    if (l != NULL && l->n > 0 && json_is_true(json_object_get(row, "knee"))) {
        l->points[l->n - 1].marked = true;
        snprintf(l->points[l->n - 1].label, sizeof l->points[0].label, "knee: %.0f", document_number(row, "batch"));
    }
}

static void add_pair(chart *c, const json_t *row, const char *name, double x) {
    char full[CHART_TEXT + 8];
    static const char *const places[] = {"P99", "P50"};
    for (int i = 0; i < 2; i++) {
        snprintf(full, sizeof full, "%s, %s", places[i], name);
        full[CHART_TEXT - 1] = '\0';
        line *l = find_line(c, full);
        line_add(l, x, document_number(row, i == 0 ? "latency_ms.p99.value" : "latency_ms.p50.value"));
        if (l != NULL)
            l->dashed = i == 1;
    }
}

static void add_rate(chart *c, const json_t *row, const char *name) {
    add_pair(c, row, name, document_number(row, "offered.rate"));
}

static void add_callers(chart *c, const json_t *row, const char *name) {
    add_pair(c, row, name, document_number(row, "callers"));
}

/* What is on the front is marked with its batch. */
static void add_choice(chart *c, const json_t *row, const char *name) {
    line *l = find_line(c, name);
    size_t before = l != NULL ? l->n : 0;
    line_add(l, document_number(row, "latency_ms.p50.value"), document_number(row, "throughput.value"));
    if (l != NULL && l->n > before) {
        l->points[before].marked = json_is_true(json_object_get(row, "pareto"));
        snprintf(l->points[before].label, sizeof l->points[0].label, "%.0f", document_number(row, "batch"));
    }
}

static void write_stages(FILE *file, const json_t *runs) {
    static const char *const names[] = {"upload", "preprocess", "network", "decode", "nms", "download"};
    for (size_t r = 0, n_written = 0; r < json_array_size(runs); r++) {
        const json_t *run = json_array_get(runs, r), *rows = json_object_get(run, "rows");
        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);
            char title[256], name[CHART_TEXT], id[32], path[64];
            if (!json_is_object(document_at(row, "stages.pipeline")))
                continue;
            name_line(runs, run, row, name);
            snprintf(title, sizeof title, "Stages of a run: %s", name);
            snprintf(id, sizeof id, n_written > 0 ? "stages-%zu" : "stages", n_written);
            bars b = {.id = id,
                      .title = title,
                      .x_title = "milliseconds, median",
                      .series = {"alone", "in the pipeline, all contexts busy"},
                      .n = 6};
            if (json_is_false(document_at(row, "stages.nms_reached")))
                b.note = "No picture had a detection: NMS had nothing to do.";
            for (size_t k = 0; k < b.n; k++) {
                b.names[k] = names[k];
                snprintf(path, sizeof path, "stages.alone.%s", names[k]);
                b.values[k][0] = document_number(row, path);
                snprintf(path, sizeof path, "stages.pipeline.%s", names[k]);
                b.values[k][1] = document_number(row, path);
            }
            bars_write(file, &b);
            n_written++;
        }
    }
}

static const struct {
    chart base;
    const char *scenario;
    add_row *add;
} charts[] = {
    {{.id = "latency",
      .title = "Latency of one picture at a time",
      .x_title = "milliseconds",
      .y_title = "requests, %",
      .from_zero = true,
      .areas = true,
      .note = "Up to P99; the slowest percent is in the last step."},
     "latency",
     add_distribution},
    {{.id = "throughput",
      .title = "Throughput against batch",
      .x_title = "batch, pictures",
      .y_title = "pictures a second",
      .log_x = true,
      .ticks_at_points = true,
      .from_zero = true},
     "throughput",
     add_batch},
    {{.id = "load",
      .title = "Latency against load: open loop",
      .x_title = "requests offered a second",
      .y_title = "milliseconds from the intended start",
      .log_y = true},
     "rate",
     add_rate},
    {{.id = "callers",
      .title = "Latency against callers: closed loop",
      .x_title = "callers",
      .y_title = "milliseconds",
      .log_x = true,
      .log_y = true,
      .ticks_at_points = true},
     "concurrency",
     add_callers},
    {{.id = "pareto",
      .title = "Ways to run: throughput against latency",
      .x_title = "milliseconds of a batch, P50",
      .y_title = "pictures a second",
      .log_x = true,
      .from_zero = true,
      .note = "Marked with their batch: the front. No other way is as good in latency, throughput, memory and "
              "input size "
              "(or average precision) and better in one of them."},
     "tune",
     add_choice},
};

static void write_charts(FILE *file, const json_t *runs) {
    chart *c = malloc(sizeof *c);
    fputs("<div class=\"charts\">\n", file);
    for (size_t i = 0; c != NULL && i < sizeof charts / sizeof charts[0]; i++) {
        *c = charts[i].base;
        each_row(c, runs, charts[i].scenario, charts[i].add);
        chart_write(file, c);
    }
    free(c);
    write_stages(file, runs);
    fputs("</div>\n", file);
}

/* ------------------------------------------------------------------------------------------------------- a glance */

static void write_card(FILE *file, const char *what, const char *format, double value, const char *detail)
    __attribute__((format(printf, 3, 0)));

static void write_card(FILE *file, const char *what, const char *format, double value, const char *detail) {
    if (isnan(value))
        return;
    fprintf(file, "<div class=\"card\"><span class=\"soft\">%s</span><b>", what);
    fprintf(file, format, value);
    fputs("</b><span class=\"soft\">", file);
    write_escaped(file, detail);
    fputs("</span></div>\n", file);
}

static void write_cards(FILE *file, const json_t *run) {
    const json_t *rows = json_object_get(run, "rows"), *latency = NULL, *best = NULL;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (latency == NULL && strcmp(document_text(row, "scenario"), "latency") == 0)
            latency = row;
        double value = document_number(row, "throughput.value");
        if (!isnan(value) && (best == NULL || value > document_number(best, "throughput.value")))
            best = row;
    }
    char detail[160];
    fputs("<div class=\"cards\">\n", file);
    snprintf(detail, sizeof detail, "%.0f samples", document_number(latency, "latency_ms.n"));
    write_card(file, "latency, P50", "%.4g ms", document_number(latency, "latency_ms.p50.value"), detail);
    write_card(file, "latency, P99", "%.4g ms", document_number(latency, "latency_ms.p99.value"),
               json_is_true(document_at(latency, "latency_ms.p99.enough")) ? detail : "too few samples");
    snprintf(detail, sizeof detail, "%s, batch %.0f, %.0f context%s", document_text(best, "scenario"),
             document_number(best, "batch"), document_number(best, "contexts"),
             document_number(best, "contexts") == 1 ? "" : "s");
    write_card(file, "best throughput", "%.4g /s", document_number(best, "throughput.value"), detail);
    write_card(file, "cost of 1,000", "%.4g", document_number(best, "cost.per_1000"), "at the best throughput");
    write_card(file, "work", "%.3g GMAC", document_number(latency, "gmacs"), "a picture");
    fputs("</div>\n", file);
}

static size_t count_invalid(const json_t *runs) {
    size_t n = 0;
    for (size_t r = 0; r < json_array_size(runs); r++) {
        const json_t *rows = json_object_get(json_array_get(runs, r), "rows");
        for (size_t i = 0; i < json_array_size(rows); i++)
            n += json_array_size(json_object_get(json_array_get(rows, i), "invalid")) > 0;
    }
    return n;
}

void write_html(FILE *file, const json_t *document) {
    const json_t *runs = json_object_get(document, "runs");
    size_t n_invalid = count_invalid(runs);
    char name[160];
    fprintf(file,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
            "<title>detect-bench</title><style>\n%s</style></head><body>\n",
            style);
    for (size_t r = 0; r < json_array_size(runs); r++) {
        const json_t *run = json_array_get(runs, r);
        fputs(r == 0 ? "<h1>" : "<p>", file);
        write_escaped(file, document_text(run, "model.family"));
        putc(' ', file);
        write_escaped(file, document_text(run, "model.variant"));
        fputs(" on ", file);
        write_escaped(file, run_name(run, name));
        fputs(r == 0 ? "</h1>\n<p class=\"soft\">" : ", ", file);
        write_escaped(file, document_text(run, "environment.date"));
        fputs(", libdetect ", file);
        write_escaped(file, document_text(run, "environment.library.version"));
        fputs("</p>\n", file);
    }
    if (n_invalid > 0)
        fprintf(file, "<p class=\"bad\">%zu row%s invalid: see the notes.</p>\n", n_invalid,
                n_invalid == 1 ? " is" : "s are");
    if (json_array_size(runs) == 1)
        write_cards(file, json_array_get(runs, 0));
    write_charts(file, runs);
    json_t *tables = tables_make(document);
    write_html_tables(file, tables);
    json_decref(tables);
    fputs("</body></html>\n", file);
}
