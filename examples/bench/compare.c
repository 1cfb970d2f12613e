/* detect-bench compare: has a run become worse than another? */
#include "analysis.h"
#include "document.h"
#include "merge.h"
#include "output.h"
#include "statistics.h"
#include "tables.h"
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct comparison {
    const options *given;
    const json_t *base, *fresh; /* runs */
    json_t *rows;               /* of JSON */
    int n_compared, n_worse, n_uncertain;
} comparison;

/* What a scenario is judged by. */
typedef struct figure {
    const char *scenario, *name, *path, *unit;
    bool more_is_better;
} figure;

static const figure judged[] = {
    {"latency", "latency", "latency_ms", "ms", false},
    {"rate", "latency", "latency_ms", "ms", false},
    {"streams", "latency", "latency_ms", "ms", false},
    {"throughput", "throughput", "throughput", "pictures/s", true},
    {"concurrency", "throughput", "throughput", "pictures/s", true},
    {"soak", "throughput", "throughput", "pictures/s", true},
    {"tune", "throughput", "throughput", "pictures/s", true},
};

/* ------------------------------------------------------------------------------------------------------- partners */

/* Everything that must be alike for two rows to be compared: a row of another input size is another task. */
static void make_key(const json_t *row, char key[512]) {
    const json_t *input = json_object_get(row, "input"), *size = document_at(row, "inputs.size");
    snprintf(key, 512, "%s %s %.0fx%.0f batch %.0f", document_text(row, "scenario"), document_text(row, "precision"),
             json_number_value(json_array_get(input, 0)), json_number_value(json_array_get(input, 1)),
             document_number(row, "batch"));
    static const struct {
        const char *path, *name;
    } rest[] = {{"callers", "callers"}, {"rate", "a second"},     {"streams.streams", "streams"},
                {"streams.fps", "fps"}, {"contexts", "contexts"}, {"threads", "threads"}};
    size_t length = strlen(key);
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        double value = document_number(row, rest[i].path);
        if (!isnan(value))
            length += (size_t)snprintf(key + length, 512 - length, ", %g %s", value, rest[i].name);
    }
    snprintf(key + length, 512 - length, ", %s", document_text(row, "inputs.kind"));
    length = strlen(key);
    if (json_is_array(size))
        snprintf(key + length, 512 - length, " of %.0fx%.0f", json_number_value(json_array_get(size, 0)),
                 json_number_value(json_array_get(size, 1)));
}

static const json_t *find_partner(const json_t *run, const char *key) {
    const json_t *rows = json_object_get(run, "rows");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        char other[512];
        make_key(json_array_get(rows, i), other);
        if (strcmp(key, other) == 0)
            return json_array_get(rows, i);
    }
    return NULL;
}

static const figure *figure_of(const json_t *row) {
    for (size_t i = 0; i < sizeof judged / sizeof judged[0]; i++)
        if (strcmp(judged[i].scenario, document_text(row, "scenario")) == 0)
            return &judged[i];
    return NULL;
}

static bool usable(const json_t *row) {
    return json_array_size(json_object_get(row, "invalid")) == 0 && strcmp(document_text(row, "status"), "ok") == 0;
}

/* The repeats of a figure; how many there are. */
static size_t take_repeats(const json_t *row, const figure *what, double values[MAX_LIST]) {
    char path[64];
    snprintf(path, sizeof path, "%s.repeats", what->path);
    const json_t *list = document_at(row, path);
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < MAX_LIST; i++)
        if (json_number_value(json_array_get(list, i)) > 0)
            values[n++] = json_number_value(json_array_get(list, i));
    return n;
}

/* ------------------------------------------------------------------------------------------------------ comparing */

static void add_result(comparison *c, const char *key, const figure *what, repeats base, repeats fresh) {
    double change;
    verdict v = analysis_compare(base, fresh, what->more_is_better, c->given->max_regress, &change);
    c->n_compared++;
    c->n_worse += v == VERDICT_WORSE;
    c->n_uncertain += v == VERDICT_UNCERTAIN;
    json_array_append_new(
        c->rows,
        json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:s}", "what", key, "figure", what->name, "unit",
                  what->unit, "base", statistics_median(base.values, base.n), "base_spread",
                  statistics_spread(base.values, base.n), "new", statistics_median(fresh.values, fresh.n), "new_spread",
                  statistics_spread(fresh.values, fresh.n), "change", change, "verdict", analysis_verdict_name(v)));
}

static void add_missing(comparison *c, const char *key, const char *why) {
    json_array_append_new(c->rows, json_pack("{s:s, s:s}", "what", key, "verdict", why));
}

static void compare_rows(comparison *c) {
    const json_t *rows = json_object_get(c->base, "rows");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const figure *what = figure_of(row);
        char key[512];
        double base[MAX_LIST], fresh[MAX_LIST];
        if (what == NULL)
            continue;
        make_key(row, key);
        const json_t *partner = find_partner(c->fresh, key);
        size_t n_base = take_repeats(row, what, base),
               n_fresh = partner != NULL ? take_repeats(partner, what, fresh) : 0;
        if (partner == NULL)
            add_missing(c, key, "only in the base");
        else if (!usable(row) || !usable(partner) || n_base == 0 || n_fresh == 0)
            add_missing(c, key, "not valid in both");
        else
            add_result(c, key, what, (repeats){base, n_base}, (repeats){fresh, n_fresh});
    }
    const json_t *others = json_object_get(c->fresh, "rows");
    for (size_t i = 0; i < json_array_size(others); i++) {
        char key[512];
        make_key(json_array_get(others, i), key);
        if (figure_of(json_array_get(others, i)) != NULL && find_partner(c->base, key) == NULL)
            add_missing(c, key, "only in the new");
    }
}

/* --------------------------------------------------------------------------------------------------------- output */

static void print_table(const comparison *c) {
    static const char *const titles[] = {"what", "figure", "base", "spread", "new", "spread", "change", "verdict"};
    json_t *table = table_new("comparison"), *tables = json_pack("[O]", table);
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        table_column(table, titles[i]);
    for (size_t i = 0; i < json_array_size(c->rows); i++) {
        const json_t *row = json_array_get(c->rows, i);
        json_t *cells = json_array();
        row_text(cells, document_text(row, "what"));
        if (json_object_get(row, "figure") != NULL) {
            row_format(cells, "%s, %s", document_text(row, "figure"), document_text(row, "unit"));
            row_format(cells, "%.4g", document_number(row, "base"));
            row_format(cells, "%.1f %%", 100 * document_number(row, "base_spread"));
            row_format(cells, "%.4g", document_number(row, "new"));
            row_format(cells, "%.1f %%", 100 * document_number(row, "new_spread"));
            row_format(cells, "%+.1f %%", 100 * document_number(row, "change"));
        } else {
            for (int k = 0; k < 6; k++)
                row_text(cells, "");
        }
        row_text(cells, document_text(row, "verdict"));
        json_array_append_new(json_object_get(table, "rows"), cells);
    }
    table_note(table,
               "worse or better: the medians differ by more than %.1f %% and no repeat of one run reaches into the "
               "other's; uncertain: they do reach",
               100 * c->given->max_regress);
    write_text_tables(stdout, tables);
    json_decref(tables);
    json_decref(table);
}

static bool save_json(const comparison *c) {
    if (c->given->json == NULL)
        return true;
    json_t *document = json_pack("{s:s, s:i, s:f, s:i, s:i, s:i, s:O}", "schema", "detect-bench-compare", "version",
                                 DOCUMENT_VERSION, "max_regress", c->given->max_regress, "compared", c->n_compared,
                                 "regressions", c->n_worse, "uncertain", c->n_uncertain, "rows", c->rows);
    bool ok = document != NULL && document_save(document, c->given->json);
    json_decref(document);
    return ok;
}

/* Two runs that are no two states of one thing are not compared. Complains. */
static bool comparable(const comparison *c) {
    static const char *const facts[] = {"model.family", "model.variant"};
    if (strcmp(run_device(c->base), run_device(c->fresh)) != 0) {
        complain("unlike devices: '%s' and '%s'", run_device(c->base), run_device(c->fresh));
        return false;
    }
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        if (strcmp(document_text(c->base, facts[i]), document_text(c->fresh, facts[i])) != 0) {
            complain("unlike models: '%s' and '%s'", document_text(c->base, facts[i]),
                     document_text(c->fresh, facts[i]));
            return false;
        }
    }
    return true;
}

static const json_t *only_run(const json_t *document, const char *path) {
    const json_t *runs = json_object_get(document, "runs");
    if (json_array_size(runs) == 1)
        return json_array_get(runs, 0);
    complain("%s: %zu runs; compare takes files of one", path, json_array_size(runs));
    return NULL;
}

static int compare(comparison *c) {
    if (!comparable(c))
        return EXIT_FAILED;
    compare_rows(c);
    if (!c->given->quiet)
        print_table(c);
    if (!save_json(c) || (!c->given->quiet && !close_output(stdout, "-")))
        return EXIT_FAILED;
    if (c->n_compared == 0) {
        complain("nothing to compare: no row of one run has its like in the other");
        return EXIT_FAILED;
    }
    if (c->n_worse > 0)
        complain("%d regression%s of more than %.1f %%", c->n_worse, c->n_worse == 1 ? "" : "s",
                 100 * c->given->max_regress);
    return c->n_worse > 0 ? EXIT_REGRESSION : EXIT_DONE;
}

int command_compare(const options *given) {
    json_t *base = document_load(given->files[0]), *fresh = base != NULL ? document_load(given->files[1]) : NULL;
    comparison c = {.given = given, .rows = json_array()};
    c.base = base != NULL ? only_run(base, given->files[0]) : NULL;
    c.fresh = fresh != NULL && c.base != NULL ? only_run(fresh, given->files[1]) : NULL;
    int outcome = c.base != NULL && c.fresh != NULL ? compare(&c) : EXIT_FAILED;
    json_decref(c.rows);
    json_decref(base);
    json_decref(fresh);
    return outcome;
}
