#include "document.h"

#include "text.h"

#include <errno.h>
#include <math.h>
#include <string.h>

json_t *document_new(json_t *runs) {
    return json_pack("{s:s, s:i, s:o}", "schema", "detect-bench", "version", DOCUMENT_VERSION, "runs", runs);
}

/* --------------------------------------------------------------------------------------------------------- files */

FILE *open_output(const char *path) {
    if (strcmp(path, "-") == 0)
        return stdout;
    FILE *file = fopen(path, "w");
    if (file == NULL)
        complain("%s: cannot write: %s", path, strerror(errno));
    return file;
}

bool close_output(FILE *file, const char *path) {
    bool ok = fflush(file) == 0 && !ferror(file);
    int error = errno;
    if (file != stdout && fclose(file) != 0 && ok) {
        ok = false;
        error = errno;
    }
    if (!ok)
        complain("%s: cannot write: %s", file == stdout ? "standard output" : path, strerror(error));
    return ok;
}

bool document_save(const json_t *document, const char *path) {
    enum { DIGITS = 9 };
    FILE *file = open_output(path);
    if (file == NULL)
        return false;
    errno = 0;
    if (json_dumpf(document, file, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS)) == 0)
        putc('\n', file);
    return close_output(file, path);
}

/* What is wrong with a document, or NULL. Its rows are looked at where they are used. */
static const char *check(const json_t *document) {
    static char text[96];
    const json_t *runs = json_object_get(document, "runs");
    const json_t *version = json_object_get(document, "version");
    if (strcmp(document_text(document, "schema"), "detect-bench") != 0)
        return "not a result of detect-bench";
    if (!json_is_integer(version) || json_integer_value(version) != DOCUMENT_VERSION) {
        snprintf(text, sizeof text, "schema version %lld; this program knows version %d",
                 (long long)json_integer_value(version), DOCUMENT_VERSION);
        return text;
    }
    if (!json_is_array(runs) || json_array_size(runs) == 0)
        return "no runs in it";
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i);
        if (!json_is_object(json_object_get(run, "environment")) || !json_is_object(json_object_get(run, "model")) ||
            !json_is_array(json_object_get(run, "rows")))
            return "a run without environment, model and rows";
    }
    return NULL;
}

json_t *document_load(const char *path) {
    json_error_t error;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        complain("%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    json_t *document = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    fclose(file);
    if (document == NULL) {
        complain("%s: not JSON: line %d: %s", path, error.line, error.text);
        return NULL;
    }
    const char *wrong = check(document);
    if (wrong == NULL)
        return document;
    complain("%s: %s", path, wrong);
    json_decref(document);
    return NULL;
}

/* -------------------------------------------------------------------------------------------------------- values */

const json_t *document_at(const json_t *value, const char *path) {
    char key[64];
    while (*path != '\0' && value != NULL) {
        size_t length = strcspn(path, ".");
        if (length >= sizeof key)
            return NULL;
        memcpy(key, path, length);
        key[length] = '\0';
        value = json_object_get(value, key);
        path += length + (path[length] == '.');
    }
    return value;
}

double document_number(const json_t *value, const char *path) {
    const json_t *found = document_at(value, path);
    return json_is_number(found) ? json_number_value(found) : NAN;
}

const char *document_text(const json_t *value, const char *path) {
    const json_t *found = document_at(value, path);
    return json_is_string(found) ? json_string_value(found) : "";
}

json_t *document_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *document_told(double value) {
    return value >= 0 ? document_real(value) : json_null();
}
