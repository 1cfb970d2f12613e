#define _POSIX_C_SOURCE 200809L

#include "values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_WORD = 64 };

bool parse_number(const char *text, double low, double high, double *value) {
    if (text[0] == '\0' || text[strspn(text, "0123456789.")] != '\0')
        return false;
    char *end;
    *value = strtod(text, &end);
    return *end == '\0' && isfinite(*value) && *value >= low && *value <= high;
}

/* Splits a number from what is behind it. */
static bool split_unit(const char *text, char number[LONGEST_WORD], const char **unit) {
    size_t length = strspn(text, "0123456789.");
    if (length == 0 || length >= LONGEST_WORD)
        return false;
    memcpy(number, text, length);
    number[length] = '\0';
    *unit = text + length;
    return true;
}

bool parse_duration(const char *text, double *seconds) {
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"", 1}, {"s", 1}, {"ms", 1e-3}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    static const double longest_s = 365 * 86400.0;
    char number[LONGEST_WORD];
    const char *unit;
    if (!split_unit(text, number, &unit) || !parse_number(number, 0, longest_s, seconds))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].name) == 0) {
            *seconds *= units[i].seconds;
            return *seconds > 0 && *seconds <= longest_s;
        }
    }
    return false;
}

bool parse_share(const char *text, double *share) {
    char number[LONGEST_WORD];
    const char *unit;
    if (!split_unit(text, number, &unit))
        return false;
    bool percent = strcmp(unit, "%") == 0;
    if ((!percent && unit[0] != '\0') || !parse_number(number, 0, percent ? 1000 : 10, share))
        return false;
    *share *= percent ? 0.01 : 1;
    return true;
}

bool parse_price(const char *text, double *price) {
    char number[LONGEST_WORD];
    const char *unit;
    return split_unit(text, number, &unit) && (unit[0] == '\0' || strcmp(unit, "/h") == 0) &&
           parse_number(number, 0, 1e6, price) && *price > 0;
}

bool parse_need(const char *text, int32_t *streams, double *fps) {
    char word[LONGEST_WORD];
    size_t n_digits = strcspn(text, "x");
    if (text[n_digits] != 'x' || n_digits >= sizeof word)
        return false;
    memcpy(word, text, n_digits);
    word[n_digits] = '\0';
    const char *unit;
    if (!parse_int32(word, 1, 10000, streams) || !split_unit(text + n_digits + 1, word, &unit))
        return false;
    return (unit[0] == '\0' || strcmp(unit, "fps") == 0) && parse_number(word, 0.001, 10000, fps);
}

/* --------------------------------------------------------------------------------------------------------- lists */

/* The next word of a list, or false at the end and where a word is empty or too long. */
static bool next_word(const char **text, char word[LONGEST_WORD]) {
    size_t length = strcspn(*text, ",");
    if (length == 0 || length >= LONGEST_WORD)
        return false;
    memcpy(word, *text, length);
    word[length] = '\0';
    *text += length;
    if (**text == ',')
        (*text)++;
    return true;
}

/* Whether a list has no comma at its end. */
static bool ends_well(const char *text) {
    size_t length = strlen(text);
    return length > 0 && text[length - 1] != ',';
}

bool parse_integers(const char *text, int32_t low, int32_t high, integer_list *list) {
    char word[LONGEST_WORD];
    list->n = 0;
    if (!ends_well(text))
        return false;
    while (*text != '\0')
        if (list->n == MAX_LIST || !next_word(&text, word) || !parse_int32(word, low, high, &list->values[list->n++]))
            return false;
    return true;
}

bool parse_numbers(const char *text, double low, double high, number_list *list) {
    char word[LONGEST_WORD];
    list->n = 0;
    if (!ends_well(text))
        return false;
    while (*text != '\0')
        if (list->n == MAX_LIST || !next_word(&text, word) || !parse_number(word, low, high, &list->values[list->n++]))
            return false;
    return true;
}

bool parse_sizes(const char *text, int32_t step, size_list *list) {
    char word[LONGEST_WORD];
    list->n = 0;
    if (!ends_well(text))
        return false;
    while (*text != '\0') {
        if (list->n == MAX_LIST || !next_word(&text, word) ||
            !parse_size(word, step, &list->width[list->n], &list->height[list->n]))
            return false;
        list->n++;
    }
    return true;
}

bool parse_gpus(const char *text, device_list *list) {
    if (!parse_devices(text, MAX_LIST, list->values, &list->n))
        return false;
    for (int i = 0; list->n > 1 && i < list->n; i++)
        if (list->values[i].device != DET_DEVICE_CUDA)
            return false;
    return true;
}

const char *precision_name(int32_t precision) {
    static const char *const names[] = {"auto", "fp32", "tf32", "fp16", "bf16"}; /* by DET_* value */
    return precision == PRECISION_INT8 ? "int8" : names[precision];
}

bool parse_precisions(const char *text, integer_list *list) {
    static const int32_t known[] = {DET_PRECISION_AUTO, DET_FP32, DET_TF32, DET_FP16, DET_BF16, PRECISION_INT8};
    char word[LONGEST_WORD];
    list->n = 0;
    if (!ends_well(text))
        return false;
    while (*text != '\0') {
        size_t i = 0, n_known = sizeof known / sizeof known[0];
        if (list->n == MAX_LIST || !next_word(&text, word))
            return false;
        while (i < n_known && strcmp(word, precision_name(known[i])) != 0)
            i++;
        if (i == n_known)
            return false;
        list->values[list->n++] = known[i];
    }
    return true;
}

const char *const scenario_names[N_SCENARIOS] = {"latency", "throughput", "concurrency", "rate",  "streams",
                                                 "soak",    "tune",       "stages",      "layers"};

bool parse_scenarios(const char *text, uint32_t *bits) {
    char word[LONGEST_WORD];
    *bits = 0;
    if (!ends_well(text))
        return false;
    while (*text != '\0') {
        int id = 0;
        if (!next_word(&text, word))
            return false;
        if (strcmp(word, "all") == 0) {
            *bits = (1u << N_SCENARIOS) - 1;
            continue;
        }
        while (id < N_SCENARIOS && strcmp(word, scenario_names[id]) != 0)
            id++;
        if (id == N_SCENARIOS)
            return false;
        *bits |= 1u << id;
    }
    return true;
}
