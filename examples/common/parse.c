#include "parse.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST_WORD = 80 };

/* The first `length` bytes as a string. */
static bool take_word(const char *text, size_t length, char word[LONGEST_WORD]) {
    if (length >= LONGEST_WORD)
        return false;
    memcpy(word, text, length);
    word[length] = '\0';
    return true;
}

bool parse_integer(const char *text, int64_t low, int64_t high, int64_t *value) {
    enum { MAX_DIGITS = 18 };
    size_t n_digits = strspn(text, "0123456789");
    if (n_digits == 0 || n_digits > MAX_DIGITS || text[n_digits] != '\0')
        return false;
    int64_t number = strtoll(text, NULL, 10);
    if (number < low || number > high)
        return false;
    *value = number;
    return true;
}

bool parse_int32(const char *text, int32_t low, int32_t high, int32_t *value) {
    int64_t wide;
    if (!parse_integer(text, low, high, &wide))
        return false;
    *value = (int32_t)wide;
    return true;
}

bool parse_fraction(const char *text, float *value) {
    if (text[0] == '\0' || text[strspn(text, "0123456789.eE-+")] != '\0')
        return false;
    char *end;
    float number = strtof(text, &end);
    if (*end != '\0' || !(number >= 0 && number <= 1))
        return false;
    *value = number;
    return true;
}

bool parse_bytes(const char *text, int64_t largest, int64_t *n_bytes) {
    static const char suffixes[] = "kmg";
    char digits[LONGEST_WORD];
    size_t n_digits = strspn(text, "0123456789");
    const char *unit = text + n_digits;
    const char *suffix = unit[0] != '\0' ? strchr(suffixes, unit[0] | 0x20) : NULL;
    if (unit[0] != '\0' && (suffix == NULL || unit[1] != '\0'))
        return false;
    int shift = suffix != NULL ? 10 * (int)(suffix - suffixes + 1) : 0;
    int64_t number;
    if (!take_word(text, n_digits, digits) || !parse_integer(digits, 1, largest >> shift, &number))
        return false;
    *n_bytes = number << shift;
    return true;
}

bool parse_size(const char *text, int32_t step, int32_t *width, int32_t *height) {
    enum { LARGEST = 8192 };
    char word[LONGEST_WORD];
    size_t n_digits = strcspn(text, "x");
    int32_t w, h;
    if (text[n_digits] != 'x' || !take_word(text, n_digits, word) || !parse_int32(word, step, LARGEST, &w) ||
        !parse_int32(text + n_digits + 1, step, LARGEST, &h) || w % step != 0 || h % step != 0)
        return false;
    *width = w;
    *height = h;
    return true;
}

bool parse_precision(const char *text, int32_t *precision) {
    static const char *const names[] = {"auto", "fp32", "tf32", "fp16", "bf16"}; /* by DET_* value */
    for (int32_t i = 0; i < (int32_t)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *precision = i;
            return true;
        }
    }
    return false;
}

bool parse_device(const char *text, device_choice *choice) {
    device_choice found = {.device = DET_DEVICE_CUDA};
    if (strcmp(text, "auto") == 0)
        found.device = DET_DEVICE_AUTO;
    else if (strcmp(text, "cpu") == 0)
        found.device = DET_DEVICE_CPU;
    else if (strncmp(text, "cuda:GPU-", 9) == 0 || strncmp(text, "cuda:MIG-", 9) == 0) {
        size_t n_chars = strlen(text + 5);
        if (text[9] == '\0' || n_chars >= sizeof found.uuid)
            return false;
        memcpy(found.uuid, text + 5, n_chars); /* the rest is zero */
    } else if (strncmp(text, "cuda:", 5) == 0) {
        if (!parse_int32(text + 5, 0, INT32_MAX, &found.index))
            return false;
    } else if (strcmp(text, "cuda") != 0)
        return false;
    *choice = found;
    return true;
}

bool parse_devices(const char *list, int32_t most, device_choice *choices, int32_t *n) {
    int32_t n_found = 0;
    for (const char *word = list; word != NULL;) {
        size_t length = strcspn(word, ",");
        char name[LONGEST_WORD];
        if (n_found == most || !take_word(word, length, name) || !parse_device(name, &choices[n_found]))
            return false;
        n_found++;
        word = word[length] == ',' ? word + length + 1 : NULL;
    }
    *n = n_found;
    return true;
}

void choose_device(det_context_options *options, const device_choice *choice) {
    options->device = choice->device;
    options->device_index = choice->index;
    options->device_uuid = choice->uuid[0] != '\0' ? choice->uuid : NULL;
}
