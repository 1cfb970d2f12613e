/* Reading good model files: values, names, halves, and a locale that writes numbers with a comma. */
#include "check.h"
#include "make_model.h"
#include "weights.h"

#include <locale.h>
#include <math.h>

/* Header and data of a file with damofd's metadata and `entries` (JSON, after a comma). */
static bytes file_of(const char *entries, const void *data, size_t data_bytes) {
    text header = {0}, metadata = make_metadata("damofd-0.5g");
    text_add(&header, "{\"__metadata__\":{\"libdetect\":");
    text_add_json(&header, metadata.chars);
    text_add(&header, "},%s}", entries);
    bytes file = model_file_from(header.chars, data, data_bytes);
    text_free(&header);
    text_free(&metadata);
    return file;
}

static det_status read_file(const char *entries, const void *data, size_t data_bytes, det_weights *weights) {
    bytes file = file_of(entries, data, data_bytes);
    memset(weights, 0, sizeof *weights);
    det_status status = det_weights_read(file.data, file.n, weights);
    bytes_free(&file); /* nothing may point into it */
    return status;
}

/* ----------------------------------------------------------------------------------------------------------- halves */

enum { N_HALVES = 65536, EXPONENT = 0x7c00 };

/* From the definition of binary16. */
static double half_value(unsigned half) {
    double sign = half >> 15 ? -1 : 1;
    int exponent = (int)(half >> 10 & 31), fraction = (int)(half & 1023);
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

static void test_halves(void) {
    static uint8_t data[2 * N_HALVES];
    static unsigned halves[N_HALVES];
    size_t n = 0;
    for (unsigned half = 0; half < N_HALVES; half++) {
        if ((half & EXPONENT) == EXPONENT)
            continue;
        halves[n] = half;
        data[2 * n] = (uint8_t)half;
        data[2 * n++ + 1] = (uint8_t)(half >> 8);
    }
    char entries[200];
    snprintf(entries, sizeof entries, "\"x\":{\"dtype\":\"F16\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}", n, 2 * n);
    det_weights weights;
    REQUIRE(read_file(entries, data, 2 * n, &weights) == DET_OK, "%s", det_last_error());
    const float *values = weights.tensors[0].values;
    for (size_t i = 0; i < n; i++)
        CHECK_MSG((double)values[i] == half_value(halves[i]) && !signbit(values[i]) == !(halves[i] >> 15), "half %04x is %a",
                  halves[i], (double)values[i]);
    det_weights_close(&weights);
}

/* Infinities and all the NaNs are refused. */
static void test_unreal_halves(void) {
    const char *entries = "\"x\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}";
    for (unsigned half = 0; half < N_HALVES; half++) {
        if ((half & EXPONENT) != EXPONENT)
            continue;
        const uint8_t data[] = {0, 0, (uint8_t)half, (uint8_t)(half >> 8)};
        det_weights weights;
        CHECK(read_file(entries, data, 4, &weights) == DET_ERROR_BAD_MODEL && strstr(det_last_error(), "'x': value 1 is not finite"));
        det_weights_close(&weights);
    }
}

/* ---------------------------------------------------------------------------------------------------------- tensors */

/* Any order in the header, both dtypes, a tensor without dimensions, data at odd addresses. */
static void test_tensors(void) {
    const float floats[] = {1.5f, -2.25f, 1e-42f, 3e38f, 0, -0.0f};
    uint8_t data[26];
    memcpy(data, floats, 24);
    data[24] = 0x00;
    data[25] = 0x3c;
    const char *entries = "\"b\":{\"dtype\":\"F32\",\"shape\":[2,1,1,2],\"data_offsets\":[0,16]},"
                          "\"c\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[24,26]},"
                          "\"a\":{\"data_offsets\":[16,24],\"shape\":[2],\"dtype\":\"F32\"},\"ignored\":0";
    det_weights weights;
    CHECK(read_file(entries, data, 26, &weights) == DET_ERROR_BAD_MODEL); /* "ignored" is no tensor */
    det_weights_close(&weights);
    text shorter = {0};
    text_add(&shorter, "%.*s", (int)(strlen(entries) - strlen(",\"ignored\":0")), entries);
    REQUIRE(read_file(shorter.chars, data, 26, &weights) == DET_OK, "%s", det_last_error());
    text_free(&shorter);
    CHECK(weights.n_tensors == 3 && weights.n_values == 7);
    const det_weight *a = det_weights_find(&weights, "a"), *b = det_weights_find(&weights, "b"), *c = det_weights_find(&weights, "c");
    REQUIRE(a && b && c, "a tensor cannot be found");
    CHECK(a->n_dims == 1 && a->n_values == 2 && !memcmp(a->values, floats + 4, 8));
    CHECK(b->n_dims == 4 && b->shape[0] == 2 && b->shape[1] == 1 && b->shape[3] == 2 && !memcmp(b->values, floats, 16));
    CHECK(c->n_dims == 0 && c->n_values == 1 && c->values[0] == 1);
    CHECK(!det_weights_find(&weights, "") && !det_weights_find(&weights, "aa") && !det_weights_find(&weights, "d"));
    det_weights_close(&weights);
}

/* Lookup among many: every name, and none between them. */
static void test_lookup(void) {
    enum { N = 300 };
    text entries = {0};
    for (int i = 0; i < N; i++)
        text_add(&entries, "%s\"t%d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", i, 4 * i, 4 * i + 4);
    float values[N];
    for (int i = 0; i < N; i++)
        values[i] = (float)i;
    det_weights weights;
    REQUIRE(read_file(entries.chars, values, sizeof values, &weights) == DET_OK, "%s", det_last_error());
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        const det_weight *w = det_weights_find(&weights, name);
        CHECK(w && !strcmp(w->name, name) && w->values[0] == (float)i);
        strcat(name, "x");
        CHECK(!det_weights_find(&weights, name));
    }
    det_weights_close(&weights);
    text_free(&entries);
}

static void test_shape_text(void) {
    char shape[64];
    CHECK(!strcmp(det_shape_text(NULL, 0, shape), "[]"));
    CHECK(!strcmp(det_shape_text((int64_t[]){64, 3, 7, 7}, 4, shape), "[64, 3, 7, 7]"));
    det_shape_text((int64_t[]){INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX}, 4, shape);
    CHECK(strlen(shape) < 64);
}

/* ----------------------------------------------------------------------------------------------------------- locale */

static void check_numbers(const bytes *file, const char *locale) {
    det_weights weights = {0};
    REQUIRE(det_weights_read(file->data, file->n, &weights) == DET_OK, "%s: %s", locale, det_last_error());
    const det_model_info *info = &weights.info;
    CHECK_MSG(info->scale == 1 / 128.0f && info->mean == 127.5f && info->score_threshold == 0.5f, "%s: scale %g, mean %g, score %g",
              locale, (double)info->scale, (double)info->mean, (double)info->score_threshold);
    det_weights_close(&weights);
}

/* The host may have set any locale; here the environment names one with a decimal comma, where there is one. */
static void test_locale(void) {
    const float value = 1;
    bytes file = file_of("\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", &value, sizeof value);
    check_numbers(&file, "C");
    if (setlocale(LC_ALL, "") && !strcmp(localeconv()->decimal_point, ","))
        check_numbers(&file, setlocale(LC_ALL, NULL));
    else
        printf("no locale with a decimal comma: only C was tested\n");
    setlocale(LC_ALL, "C");
    bytes_free(&file);
}

int main(void) {
    test_halves();
    test_unreal_halves();
    test_tensors();
    test_lookup();
    test_shape_text();
    test_locale();
    return check_report("weights");
}
