#include "scaling.h"

#include "analysis.h"
#include "document.h"
#include "tables.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double count_units(const json_t *row) {
    if (strcmp(document_text(row, "device"), "cuda") == 0)
        return document_number(row, "devices");
    return document_number(row, "threads") * document_number(row, "contexts");
}

/* Everything that must be alike. */
static void make_key(const json_t *run, const json_t *row, char key[512]) {
    const json_t *input = json_object_get(row, "input");
    snprintf(key, 512, "%s|%s|%s|%.0fx%.0f|%s", document_text(row, "scenario"), run_device(run),
             document_text(run, "model.sha256"), json_number_value(json_array_get(input, 0)),
             json_number_value(json_array_get(input, 1)), document_text(row, "precision"));
}

static bool counts(const json_t *row) {
    const char *scenario = document_text(row, "scenario");
    return (strcmp(scenario, "throughput") == 0 || strcmp(scenario, "concurrency") == 0) &&
           strcmp(document_text(row, "status"), "ok") == 0 && json_array_size(json_object_get(row, "invalid")) == 0 &&
           document_number(row, "throughput.value") > 0;
}

/* The entry of a group for this number of units: found, or added to it. */
static json_t *entry_of(json_t *group, const json_t *run, const json_t *row) {
    double units = count_units(row);
    for (size_t i = 0; i < json_array_size(group); i++)
        if (document_number(json_array_get(group, i), "units") == units)
            return json_array_get(group, i);
    char name[160];
    json_t *entry =
        json_pack("{s:s, s:s, s:s, s:O, s:s, s:f, s:f}", "device_name", run_device(run), "scenario",
                  document_text(row, "scenario"), "precision", document_text(row, "precision"), "input",
                  json_object_get(row, "input"), "run", run_name(run, name), "units", units, "throughput", 0.0);
    json_array_append_new(group, entry);
    return entry;
}

/* An object of groups, each a list of entries. */
static json_t *gather(const json_t *runs) {
    json_t *groups = json_object();
    for (size_t r = 0; r < json_array_size(runs); r++) {
        const json_t *run = json_array_get(runs, r), *rows = json_object_get(run, "rows");
        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);
            if (!counts(row))
                continue;
            char key[512];
            make_key(run, row, key);
            if (json_object_get(groups, key) == NULL)
                json_object_set_new(groups, key, json_array());
            json_t *entry = entry_of(json_object_get(groups, key), run, row);
            double throughput = document_number(row, "throughput.value");
            if (throughput > document_number(entry, "throughput"))
                json_object_set_new(entry, "throughput", json_real(throughput));
        }
    }
    return groups;
}

json_t *scaling_make(const json_t *runs) {
    json_t *groups = gather(runs), *found = json_array();
    const char *key;
    json_t *group;
    json_object_foreach(groups, key, group) {
        const json_t *base = json_array_get(group, 0);
        for (size_t i = 0; i < json_array_size(group); i++)
            if (document_number(json_array_get(group, i), "units") < document_number(base, "units"))
                base = json_array_get(group, i);
        double base_units = document_number(base, "units"), base_throughput = document_number(base, "throughput");
        for (size_t i = 0; json_array_size(group) > 1 && i < json_array_size(group); i++) {
            json_t *entry = json_array_get(group, i);
            double units = document_number(entry, "units"), throughput = document_number(entry, "throughput");
            json_object_set_new(entry, "scaling", json_real(throughput / base_throughput));
            json_object_set_new(entry, "efficiency",
                                json_real(analysis_efficiency(throughput, units, base_throughput, base_units)));
            json_array_append(found, entry);
        }
    }
    json_decref(groups);
    return found;
}

json_t *scaling_table(const json_t *runs) {
    static const char *const titles[] = {"device", "scenario",   "precision", "run",
                                         "units",  "pictures/s", "times",     "efficiency"};
    json_t *all = scaling_make(runs), *table = NULL;
    if (json_array_size(all) > 0) {
        table = table_new("scaling, on one model of device");
        for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
            table_column(table, titles[i]);
    }
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *entry = json_array_get(all, i);
        json_t *cells = json_array();
        row_text(cells, document_text(entry, "device_name"));
        row_text(cells, document_text(entry, "scenario"));
        row_text(cells, document_text(entry, "precision"));
        row_text(cells, document_text(entry, "run"));
        row_format(cells, "%.0f", document_number(entry, "units"));
        row_format(cells, "%.2f", document_number(entry, "throughput"));
        row_format(cells, "%.2f", document_number(entry, "scaling"));
        row_format(cells, "%.0f %%", 100 * document_number(entry, "efficiency"));
        json_array_append_new(json_object_get(table, "rows"), cells);
    }
    json_decref(all);
    return table;
}
