/* Values of options, as the programs share them. */
#include "check.h"
#include "parse.h"

static void test_bytes(void) {
    static const struct {
        const char *text;
        int64_t largest, n_bytes; /* 0: none */
    } rows[] = {
        {"1", 1, 1},
        {"64m", 1 << 30, 64 << 20},
        {"1G", 1 << 30, 1 << 30},
        {"1025m", 1 << 30, 0},
        {"1024g", (int64_t)1 << 40, (int64_t)1 << 40},
        {"1025g", (int64_t)1 << 40, 0},
        {"17179869185g", 1 << 30, 0}, /* 1g more than 2^64 */
        {"999999999999999999g", INT64_MAX, 0},
        {"9999999999999999999", INT64_MAX, 0},
        {"0", 9, 0},
        {"", 9, 0},
        {"k", 9999, 0},
        {"1kb", 9999, 0},
        {"1t", INT64_MAX, 0},
        {"-1", 9, 0},
        {"1.5k", 9999, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t n_bytes = 0;
        bool ok = parse_bytes(rows[i].text, rows[i].largest, &n_bytes);
        CHECK_MSG(ok == (rows[i].n_bytes > 0) && n_bytes == rows[i].n_bytes, "%s: %lld", rows[i].text,
                  (long long)n_bytes);
    }
}

static void test_devices(void) {
    static const struct {
        const char *text;
        int32_t device, index; /* -1: none */
        const char *uuid;
    } rows[] = {
        {"auto", DET_DEVICE_AUTO, 0, ""},
        {"cpu", DET_DEVICE_CPU, 0, ""},
        {"cuda", DET_DEVICE_CUDA, 0, ""},
        {"cuda:7", DET_DEVICE_CUDA, 7, ""},
        {"cuda:GPU-8a3f", DET_DEVICE_CUDA, 0, "GPU-8a3f"},
        {"cuda:MIG-8a3f/1/0", DET_DEVICE_CUDA, 0, "MIG-8a3f/1/0"},
        {"cuda:", -1, 0, ""},
        {"cuda:-1", -1, 0, ""},
        {"cuda:GPU", -1, 0, ""},
        {"cuda:GPU-", -1, 0, ""},
        {"cuda:2147483648", -1, 0, ""},
        {"cuda:GPU-12345678901234567890123456789012345678901234567890123456789012345", -1, 0, ""},
        {"cpu:", -1, 0, ""},
        {"cpu:1", -1, 0, ""},
        {"cuda1", -1, 0, ""},
        {"", -1, 0, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        device_choice got = {.device = -1};
        parse_device(rows[i].text, &got);
        CHECK_MSG(got.device == rows[i].device && got.index == rows[i].index && !strcmp(got.uuid, rows[i].uuid), "%s",
                  rows[i].text);
    }
}

static void test_device_lists(void) {
    device_choice choices[3];
    int32_t n = 0;
    CHECK(parse_devices("cuda:1,cuda:MIG-x,cpu", 3, choices, &n) && n == 3);
    CHECK(choices[0].index == 1 && !strcmp(choices[1].uuid, "MIG-x") && choices[2].device == DET_DEVICE_CPU);
    det_context_options options;
    det_context_options_init(&options);
    choose_device(&options, &choices[1]);
    CHECK(options.device == DET_DEVICE_CUDA && options.device_uuid == choices[1].uuid);
    choose_device(&options, &choices[0]);
    CHECK(options.device_index == 1 && !options.device_uuid);
    CHECK(!parse_devices("cpu,cpu,cpu,cpu", 3, choices, &n) && !parse_devices("cpu,", 3, choices, &n));
    CHECK(!parse_devices("", 3, choices, &n) && !parse_devices(",cpu", 3, choices, &n) && n == 3);
}

static void test_sizes(void) {
    int32_t width = 1, height = 2;
    CHECK(parse_size("640x480", 32, &width, &height) && width == 640 && height == 480);
    CHECK(parse_size("5x7", 1, &width, &height) && width == 5 && height == 7);
    static const char *const wrong[] = {"640",  "640x",    "x640",     "641x640", "640x641",
                                        "0x32", "8224x32", "32x32x32", "9x9"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_MSG(!parse_size(wrong[i], 32, &width, &height) && width == 5 && height == 7, "%s", wrong[i]);
}

static void test_fractions(void) {
    float value = -1;
    CHECK(parse_fraction("0.25", &value) && value == 0.25f && parse_fraction("1e-1", &value) && value == 0.1f);
    static const char *const wrong[] = {"", "-0.1", "1.01", "nan", "0x1", "0,5", " 1", "."};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_MSG(!parse_fraction(wrong[i], &value) && value == 0.1f, "'%s'", wrong[i]);
}

static void test_precisions(void) {
    int32_t precision = -1;
    CHECK(parse_precision("bf16", &precision) && precision == DET_BF16);
    CHECK(parse_precision("auto", &precision) && precision == DET_PRECISION_AUTO);
    CHECK(!parse_precision("int8", &precision) && !parse_precision("", &precision));
}

int main(void) {
    test_bytes();
    test_devices();
    test_device_lists();
    test_sizes();
    test_fractions();
    test_precisions();
    return check_report("parse");
}
