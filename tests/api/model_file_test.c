/* Model files that must be refused, each with the status and the words that say why; and a few at the limits that must
 * not. */
#include "api.h"

#include <math.h>

/* ---------------------------------------------------------------------------------------------------------- opening */

/* Opens a copy of exactly these bytes: a sanitizer sees what reads beyond. */
static det_status open_copy(const uint8_t *data, size_t n) {
    uint8_t *copy = malloc(n + 1);
    memcpy(copy + 1, data, n); /* at an odd address */
    det_model *model;
    det_status status = det_model_open_memory(copy + 1, n, &model);
    CHECK((model != NULL) == (status == DET_OK));
    det_model_close(model);
    free(copy);
    return status;
}

static void expect_open(const char *what, const bytes *file, det_status wanted, const char *fragment) {
    det_status status = open_copy(file->data, file->n);
    CHECK_MSG(status == wanted, "%s: %s: %s", what, det_status_name(status), det_last_error());
    CHECK_MSG(wanted == DET_OK || strstr(det_last_error(), fragment), "%s: the message is: %s", what, det_last_error());
    CHECK_MSG(!strchr(det_last_error(), '\n'), "%s: more than a line", what);
}

/* `format` is a header in which @ stands for a good description, as a JSON string. */
static bytes file_with_header(const char *format, const void *data, size_t data_bytes) {
    text header = {0}, metadata = make_metadata("damofd-0.5g");
    for (; *format; format++) {
        if (*format == '@')
            text_add_json(&header, metadata.chars);
        else
            text_add(&header, "%c", *format);
    }
    bytes file = model_file_from(header.chars ? header.chars : "", data, data_bytes);
    text_free(&header);
    text_free(&metadata);
    return file;
}

/* ---------------------------------------------------------------------------------------------------------- headers */

#define META "{\"__metadata__\":{\"libdetect\":@}"
#define TENSOR(name, dtype, shape, offsets)                                                                            \
    ",\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets) META TENSOR("x", dtype, shape, offsets) "}"
#define ENTRY(json) META ",\"x\":" json "}"
#define X127 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct {
    const char *what, *header;
    size_t data_bytes; /* zeros */
    det_status status;
    const char *fragment;
} headers[] = {
    {"one tensor", ONE("F32", "[2]", "[0,8]"), 8, DET_OK, ""},
    {"no tensors", META "}", 0, DET_OK, ""},
    {"spaces around", "  \n" ONE("F16", "[]", "[0,2]") "  ", 2, DET_OK, ""},
    {"more metadata", "{\"__metadata__\":{\"format\":\"pt\",\"libdetect\":@}}", 0, DET_OK, ""},
    {"a name of 127 bytes", META TENSOR(X127, "F32", "[1]", "[0,4]") "}", 4, DET_OK, ""},

    {"empty", "", 0, DET_ERROR_BAD_MODEL, "the header is not a JSON object"},
    {"no JSON", "hello", 0, DET_ERROR_BAD_MODEL, "the header is not a JSON object"},
    {"an array", "[]", 0, DET_ERROR_BAD_MODEL, "the header is not a JSON object"},
    {"a number", "5", 0, DET_ERROR_BAD_MODEL, "the header is not a JSON object"},
    {"something behind", META "}x", 0, DET_ERROR_BAD_MODEL, "the header is not JSON: something follows its end at byte "},
    {"unfinished", META, 0, DET_ERROR_BAD_MODEL, "the header is not JSON: ',' or '}' expected at byte "},
    {"a key without a value", "{\"a\"}", 0, DET_ERROR_BAD_MODEL, "':' expected at byte 4"},
    {"a key without quotes", "{a:1}", 0, DET_ERROR_BAD_MODEL, "a string expected at byte 1"},
    {"a comma at the end", "{\"a\":[1,]}", 0, DET_ERROR_BAD_MODEL, "a value expected at byte 8"},
    {"a comma missing", "{\"a\":[1 2]}", 0, DET_ERROR_BAD_MODEL, "',' or ']' expected at byte 8"},
    {"a word cut", "{\"a\":tru}", 0, DET_ERROR_BAD_MODEL, "a value expected at byte 5"},
    {"a leading zero", "{\"a\":01}", 0, DET_ERROR_BAD_MODEL, "',' or '}' expected at byte 6"},
    {"a point without digits", "{\"a\":1.}", 0, DET_ERROR_BAD_MODEL, "a digit expected at byte 7"},
    {"an exponent without digits", "{\"a\":1e+}", 0, DET_ERROR_BAD_MODEL, "a digit expected at byte 8"},
    {"a line break in a string", "{\"a\nb\":1}", 0, DET_ERROR_BAD_MODEL, "a control character in a string at byte 3"},
    {"a string without end", "{\"a", 0, DET_ERROR_BAD_MODEL, "a string without end at byte 3"},
    {"an unknown escape", "{\"\\x\":1}", 0, DET_ERROR_BAD_MODEL, "an unknown escape at byte 3"},
    {"an escape cut", "{\"\\u12\":1}", 0, DET_ERROR_BAD_MODEL, "four hexadecimal digits expected at byte 6"},
    {"half of a surrogate pair", "{\"\\ud800x\":1}", 0, DET_ERROR_BAD_MODEL, "half of a surrogate pair at byte"},
    {"a number of 128 digits", ENTRY("1.0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"),
     0, DET_ERROR_BAD_MODEL, "a number of too many digits at byte"},
    {"an overlong character", "{\"\xc0\xaf\":1}", 0, DET_ERROR_BAD_MODEL, "invalid UTF-8 at byte 2"},
    {"a surrogate in UTF-8", "{\"\xed\xa0\x80\":1}", 0, DET_ERROR_BAD_MODEL, "invalid UTF-8 at byte 2"},
    {"invalid UTF-8", META ",\"\xff\":5}", 0, DET_ERROR_BAD_MODEL, "the header is not JSON: invalid UTF-8 at byte"},
    {"a zero in a name", META ",\"a\\u0000b\":5}", 0, DET_ERROR_BAD_MODEL, "the header is not JSON: a zero character at byte"},
    {"an integer too large", ENTRY("99999999999999999999"), 0, DET_ERROR_BAD_MODEL, "the header is not JSON: an integer too large at byte "},
    {"a number too large", ENTRY("1e999"), 0, DET_ERROR_BAD_MODEL, "the header is not JSON: a number too large at byte "},
    {"a tensor twice", META TENSOR("x", "F32", "[1]", "[0,4]") TENSOR("x", "F32", "[1]", "[4,8]") "}", 8, DET_ERROR_BAD_MODEL,
     "the header has the key 'x' twice"},
    {"metadata twice", META ",\"__metadata__\":{\"libdetect\":@}}", 0, DET_ERROR_BAD_MODEL, "the header has the key '__metadata__' twice"},
    {"a key twice in an entry", ENTRY("{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"), 4,
     DET_ERROR_BAD_MODEL, "the header has the key 'dtype' twice"},

    {"no metadata", "{}", 0, DET_ERROR_BAD_MODEL, "no libdetect metadata: a checkpoint must be converted first"},
    {"metadata a number", "{\"__metadata__\":5}", 0, DET_ERROR_BAD_MODEL, "no libdetect metadata"},
    {"others' metadata", "{\"__metadata__\":{\"format\":\"pt\"}}", 0, DET_ERROR_BAD_MODEL, "no libdetect metadata"},
    {"metadata no text", "{\"__metadata__\":{\"libdetect\":{\"format\":1}}}", 0, DET_ERROR_BAD_MODEL, "no libdetect metadata"},
    {"metadata no JSON", "{\"__metadata__\":{\"libdetect\":\"{\"}}", 0, DET_ERROR_BAD_MODEL, "metadata is not JSON"},
    {"metadata empty", "{\"__metadata__\":{\"libdetect\":\"\"}}", 0, DET_ERROR_BAD_MODEL, "metadata is not a JSON object"},
    {"metadata an array", "{\"__metadata__\":{\"libdetect\":\"[]\"}}", 0, DET_ERROR_BAD_MODEL, "metadata is not a JSON object"},
    {"a key twice in the metadata", "{\"__metadata__\":{\"libdetect\":\"{\\\"format\\\":1,\\\"format\\\":1}\"}}", 0,
     DET_ERROR_BAD_MODEL, "metadata has the key 'format' twice"},

    {"an empty name", META TENSOR("", "F32", "[1]", "[0,4]") "}", 4, DET_ERROR_BAD_MODEL, "a tensor's name has 0 bytes; 1 to 127"},
    {"a name of 128 bytes", META TENSOR(X127 "x", "F32", "[1]", "[0,4]") "}", 4, DET_ERROR_BAD_MODEL, "a tensor's name has 128 bytes"},
    {"entry a number", ENTRY("5"), 0, DET_ERROR_BAD_MODEL, "tensor 'x': "},
    {"entry null", ENTRY("null"), 0, DET_ERROR_BAD_MODEL, "tensor 'x': "},
    {"entry an array", ENTRY("[]"), 0, DET_ERROR_BAD_MODEL, "tensor 'x': "},
    {"entry empty", ENTRY("{}"), 0, DET_ERROR_BAD_MODEL, "tensor 'x': "},

    {"dtype BF16", ONE("BF16", "[1]", "[0,2]"), 2, DET_ERROR_BAD_MODEL, "dtype is 'BF16'; F32 and F16 are allowed"},
    {"dtype F64", ONE("F64", "[1]", "[0,8]"), 8, DET_ERROR_BAD_MODEL, "dtype is 'F64'"},
    {"dtype in small letters", ONE("f32", "[1]", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "dtype is 'f32'"},
    {"dtype missing", ENTRY("{\"shape\":[1],\"data_offsets\":[0,4]}"), 4, DET_ERROR_BAD_MODEL, "dtype is 'missing'"},
    {"dtype a number", ENTRY("{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}"), 4, DET_ERROR_BAD_MODEL, "dtype is 'missing'"},
    {"terminal codes", ONE("\\u001b[2J", "[1]", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "dtype is '?[2J'"},

    {"shape missing", ENTRY("{\"dtype\":\"F32\",\"data_offsets\":[0,4]}"), 4, DET_ERROR_BAD_MODEL, "shape is not an array of 0 to 4 sizes"},
    {"shape a number", ONE("F32", "1", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "shape is not an array"},
    {"five dimensions", ONE("F32", "[1,1,1,1,1]", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "shape is not an array of 0 to 4"},
    {"size 0", ONE("F32", "[0]", "[0,0]"), 0, DET_ERROR_BAD_MODEL, "size 0 of its shape is not from 1 to"},
    {"size -1", ONE("F32", "[1,-1]", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "size 1 of its shape is not from 1 to"},
    {"sizes -2 and -2", ONE("F32", "[-2,-2]", "[0,16]"), 16, DET_ERROR_BAD_MODEL, "size 0 of its shape"},
    {"size 1.0", ONE("F32", "[1.0]", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "size 0 of its shape"},
    {"size a text", ONE("F32", "[\"1\"]", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "size 0 of its shape"},
    {"size 2^31", ONE("F32", "[2147483648]", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "size 0 of its shape"},
    {"sizes that overflow", ONE("F32", "[2147483647,2147483647,2147483647,2147483647]", "[0,4]"), 4, DET_ERROR_BAD_MODEL,
     "size 1 of its shape is not from 1 to 2147483647, or the whole is too large"},
    {"sizes whose product is 2^64", ONE("F32", "[65536,65536,65536,65536]", "[0,0]"), 0, DET_ERROR_BAD_MODEL, "size 3 of its shape"},

    {"offsets missing", ENTRY("{\"dtype\":\"F32\",\"shape\":[1]}"), 4, DET_ERROR_BAD_MODEL, "data_offsets is not a pair of rising byte offsets"},
    {"one offset", ONE("F32", "[1]", "[0]"), 4, DET_ERROR_BAD_MODEL, "data_offsets is not a pair"},
    {"three offsets", ONE("F32", "[1]", "[0,4,4]"), 4, DET_ERROR_BAD_MODEL, "data_offsets is not a pair"},
    {"offsets as floats", ONE("F32", "[1]", "[0.0,4.0]"), 4, DET_ERROR_BAD_MODEL, "data_offsets is not a pair"},
    {"offsets as texts", ONE("F32", "[1]", "[\"0\",\"4\"]"), 4, DET_ERROR_BAD_MODEL, "data_offsets is not a pair"},
    {"negative offset", ONE("F32", "[1]", "[-4,0]"), 4, DET_ERROR_BAD_MODEL, "data_offsets is not a pair"},
    {"falling offsets", ONE("F32", "[1]", "[4,0]"), 4, DET_ERROR_BAD_MODEL, "data_offsets is not a pair"},
    {"the largest offsets", ONE("F32", "[1]", "[9223372036854775803,9223372036854775807]"), 4, DET_ERROR_BAD_MODEL,
     "ends at byte 9223372036854775807 of 4; the file is truncated"},
    {"too few bytes for the shape", ONE("F32", "[2]", "[0,4]"), 4, DET_ERROR_BAD_MODEL, "its shape needs 8 bytes, data_offsets give 4"},
    {"too many bytes for the shape", ONE("F16", "[2]", "[0,8]"), 8, DET_ERROR_BAD_MODEL, "its shape needs 4 bytes, data_offsets give 8"},
    {"data cut", ONE("F32", "[2]", "[0,8]"), 7, DET_ERROR_BAD_MODEL, "ends at byte 8 of 7; the file is truncated"},
    {"bytes left over", ONE("F32", "[2]", "[0,8]"), 9, DET_ERROR_BAD_MODEL, "the tensors end at byte 8 of 9: bytes are left over"},
    {"data without tensors", META "}", 1, DET_ERROR_BAD_MODEL, "the tensors end at byte 0 of 1"},
    {"a gap before", ONE("F32", "[1]", "[4,8]"), 8, DET_ERROR_BAD_MODEL, "begins at byte 4, leaving a gap after byte 0"},
    {"a gap between", META TENSOR("x", "F32", "[1]", "[0,4]") TENSOR("y", "F32", "[1]", "[6,10]") "}", 10, DET_ERROR_BAD_MODEL,
     "tensor 'y': begins at byte 6, leaving a gap after byte 4"},
    {"overlapping", META TENSOR("y", "F32", "[1]", "[2,6]") TENSOR("x", "F32", "[1]", "[0,4]") "}", 6, DET_ERROR_BAD_MODEL,
     "tensor 'y': begins at byte 2, overlapping byte 4"},
    {"the same bytes twice", META TENSOR("x", "F32", "[1]", "[0,4]") TENSOR("y", "F32", "[1]", "[0,4]") "}", 4, DET_ERROR_BAD_MODEL,
     "overlapping byte 4"},
};

static void test_headers(void) {
    static const uint8_t zeros[64];
    for (int i = 0; i < COUNT(headers); i++) {
        bytes file = file_with_header(headers[i].header, zeros, headers[i].data_bytes);
        expect_open(headers[i].what, &file, headers[i].status, headers[i].fragment);
        bytes_free(&file);
    }
}

/* The first eight bytes: lengths that no file has. */
static void test_lengths(void) {
    static const struct {
        uint64_t length;
        const char *fragment;
    } rows[] = {{17, "truncated: a header of 17 bytes in a file of 24"},
                {4 << 20, "truncated: a header of 4194304 bytes"},
                {(4 << 20) + 1, "not a model file: a header of 4194305 bytes, at most 4194304 are allowed; a checkpoint must be converted first"},
                {INT64_MAX, "not a model file: a header of 9223372036854775807 bytes"},
                {UINT64_MAX, "not a model file: a header of 18446744073709551615 bytes"},
                {UINT64_MAX - 7, "not a model file"}};
    for (int i = 0; i < COUNT(rows); i++) {
        uint8_t data[24] = {0};
        for (int k = 0; k < 8; k++)
            data[k] = (uint8_t)(rows[i].length >> 8 * k);
        expect_open("length", &(bytes){data, sizeof data}, DET_ERROR_BAD_MODEL, rows[i].fragment);
    }
}

/* Headers that are made rather than written down: long, deep, many. */
static void test_sizes(void) {
    enum { MAX_HEADER = 4 << 20, MAX_TENSORS = 4096 };
    for (int extra = 0; extra < 2; extra++) {
        bytes file = file_with_header(META "}", NULL, 0);
        size_t n = 8 + MAX_HEADER + (size_t)extra;
        file.data = realloc(file.data, n);
        memset(file.data + file.n, ' ', n - file.n);
        file.n = n;
        for (int k = 0; k < 8; k++)
            file.data[k] = (uint8_t)((n - 8) >> 8 * k);
        expect_open("a header of 4 MiB", &file, extra ? DET_ERROR_BAD_MODEL : DET_OK, "at most 4194304");
        bytes_free(&file);

        text many = {0}, deep = {0};
        text_add(&many, META);
        for (int i = 0; i < MAX_TENSORS + extra; i++)
            text_add(&many, ",\"t%d\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i, 2 * i, 2 * i + 2);
        text_add(&many, "}");
        uint8_t *zeros = calloc(MAX_TENSORS + 1, 2);
        file = file_with_header(many.chars, zeros, 2 * (size_t)(MAX_TENSORS + extra));
        expect_open("4096 tensors", &file, extra ? DET_ERROR_BAD_MODEL : DET_OK, "4097 tensors; at most 4096 are allowed");
        bytes_free(&file);
        free(zeros);

        text values = {0};
        text_add(&values, META ",\"x\":[0");
        for (int i = 0; i < 65531 + extra; i++) /* with the object, its metadata and the array: 65536 */
            text_add(&values, ",0");
        text_add(&values, "]}");
        file = file_with_header(values.chars, NULL, 0);
        expect_open("65536 values", &file, DET_ERROR_BAD_MODEL, extra ? "more than 65536 values at byte" : "tensor 'x': shape is not");
        bytes_free(&file);
        text_free(&values);

        text_add(&deep, META ",\"x\":");
        for (int i = 0; i < 100000; i++)
            text_add(&deep, extra ? "[" : "{\"\":");
        file = file_with_header(deep.chars, NULL, 0);
        expect_open("100000 deep", &file, DET_ERROR_BAD_MODEL, "the header is not JSON: nested more than 16 deep at byte ");
        bytes_free(&file);
        text_free(&many);
        text_free(&deep);
    }
}

/* A file of a few tensors, cut after every byte, and with every byte changed: no crash, and no cut file opens. */
static void test_every_byte(void) {
    static const uint8_t zeros[14];
    bytes file = file_with_header(META TENSOR("a", "F32", "[2,1]", "[0,8]") TENSOR("b", "F16", "[3]", "[8,14]") "}", zeros, 14);
    expect_open("whole", &file, DET_OK, "");
    for (size_t n = 0; n < file.n; n++)
        CHECK_MSG(open_copy(file.data, n) == DET_ERROR_BAD_MODEL, "cut to %zu of %zu bytes: opened", n, file.n);
    uint64_t state = random_from("bytes");
    for (size_t i = 0; i < file.n; i++) {
        uint8_t before = file.data[i];
        for (int k = 0; k < 4; k++) {
            file.data[i] = (uint8_t)random_next(&state);
            det_status status = open_copy(file.data, file.n);
            CHECK(status == DET_OK || status == DET_ERROR_BAD_MODEL || status == DET_ERROR_UNSUPPORTED);
        }
        file.data[i] = before;
    }
    bytes_free(&file);
}

static void test_values(void) {
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int i = 0; i < COUNT(bad); i++) {
        const float values[] = {1, 2, bad[i]};
        bytes file = file_with_header(META TENSOR("w", "F32", "[3]", "[0,12]") "}", values, sizeof values);
        expect_open("value", &file, DET_ERROR_BAD_MODEL, "tensor 'w': value 2 is not finite");
        bytes_free(&file);
    }
}

/* --------------------------------------------------------------------------------------------------------- metadata */

/* Where the value at `at` ends: its comma or bracket. */
static const char *end_of_value(const char *at) {
    int depth = 0;
    bool quoted = false;
    for (; *at; at++) {
        if (*at == '"')
            quoted = !quoted;
        if (quoted)
            continue;
        if (depth == 0 && (*at == ',' || *at == '}'))
            break;
        depth += (*at == '[') - (*at == ']');
    }
    return at;
}

/* The description of `model` with the value of `key` replaced; NULL: with another key. */
static text edited_metadata(const char *model, const char *key, const char *value) {
    text whole = make_metadata(model), edited = {0};
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(whole.chars, quoted);
    REQUIRE(at, "no %s in %s", key, whole.chars);
    const char *rest = end_of_value(at + strlen(quoted));
    text_add(&edited, "%.*s\"%s%s\":%s%s", (int)(at - whole.chars), whole.chars, value ? "" : "un", key, value ? value : "0", rest);
    text_free(&whole);
    return edited;
}

static const struct {
    const char *key, *value;
    det_status status;
    const char *fragment;
} metadata_rows[] = {
    {"format", NULL, DET_ERROR_BAD_MODEL, "'format' is not an integer"},
    {"format", "\"1\"", DET_ERROR_BAD_MODEL, "'format' is not an integer"},
    {"format", "1.0", DET_ERROR_BAD_MODEL, "'format' is not an integer"},
    {"format", "true", DET_ERROR_BAD_MODEL, "'format' is not an integer"},
    {"format", "0", DET_ERROR_BAD_MODEL, "'format' is not an integer from 1"},
    {"format", "2", DET_ERROR_UNSUPPORTED, "model file format 2; this library reads format 1"},
    {"family", NULL, DET_ERROR_BAD_MODEL, "'family' is not a string"},
    {"family", "5", DET_ERROR_BAD_MODEL, "'family' is not a string"},
    {"family", "null", DET_ERROR_BAD_MODEL, "'family' is not a string"},
    {"variant", NULL, DET_ERROR_BAD_MODEL, "'variant' is not a string"},
    {"variant", "[]", DET_ERROR_BAD_MODEL, "'variant' is not a string"},
    {"licence", NULL, DET_ERROR_BAD_MODEL, "'licence' is not a string"},
    {"source", NULL, DET_ERROR_BAD_MODEL, "'source' is not a string"},
    {"source_sha256", NULL, DET_ERROR_BAD_MODEL, "'source_sha256' is not a string"},
    {"source_sha256", "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\"", DET_ERROR_BAD_MODEL, "neither 64 hexadecimal digits nor empty"},
    {"source_sha256", "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdeg\"", DET_ERROR_BAD_MODEL, "neither 64 hexadecimal digits nor empty"},
    {"source_sha256", "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0\"", DET_ERROR_BAD_MODEL, "neither 64 hexadecimal digits nor empty"},
    {"source_sha256", "\"0123456789abcdef0123456789abcdef0123456789ABCDEF0123456789ABCDEF\"", DET_OK, ""},
    {"input", NULL, DET_ERROR_BAD_MODEL, "'input' is not [width, height]"},
    {"input", "64", DET_ERROR_BAD_MODEL, "'input' is not [width, height]"},
    {"input", "[64]", DET_ERROR_BAD_MODEL, "'input' is not [width, height]"},
    {"input", "[64,64,64]", DET_ERROR_BAD_MODEL, "'input' is not [width, height]"},
    {"input", "[64,\"64\"]", DET_ERROR_BAD_MODEL, "'input' is not an integer from 32 to 8192"},
    {"input", "[64.0,64]", DET_ERROR_BAD_MODEL, "'input' is not an integer"},
    {"input", "[0,64]", DET_ERROR_BAD_MODEL, "'input' is not an integer from 32"},
    {"input", "[64,8224]", DET_ERROR_BAD_MODEL, "'input' is not an integer from 32 to 8192"},
    {"input", "[64,65]", DET_ERROR_BAD_MODEL, "'input' is 64x65; both must be multiples of 32"},
    {"input", "[8192,32]", DET_OK, ""},
    {"resize", NULL, DET_ERROR_BAD_MODEL, "'resize' is not a string"},
    {"resize", "1", DET_ERROR_BAD_MODEL, "'resize' is not a string"},
    {"resize", "\"crop\"", DET_ERROR_BAD_MODEL, "'resize' is 'crop', not stretch, letterbox-top or letterbox-centre"},
    {"pad", NULL, DET_ERROR_BAD_MODEL, "'pad' is not a number from 0 to 255"},
    {"pad", "\"0\"", DET_ERROR_BAD_MODEL, "'pad' is not a number"},
    {"pad", "-1", DET_ERROR_BAD_MODEL, "'pad' is not a number from 0"},
    {"pad", "255.5", DET_ERROR_BAD_MODEL, "'pad' is not a number from 0 to 255"},
    {"pad", "255", DET_OK, ""},
    {"mean", NULL, DET_ERROR_BAD_MODEL, "'mean' is not a number"},
    {"mean", "256", DET_ERROR_BAD_MODEL, "'mean' is not a number from -255 to 255"},
    {"mean", "-1e9", DET_ERROR_BAD_MODEL, "'mean' is not a number"},
    {"mean", "NaN", DET_ERROR_BAD_MODEL, "metadata is not JSON"},
    {"scale", NULL, DET_ERROR_BAD_MODEL, "'scale' is not a number"},
    {"scale", "0", DET_ERROR_BAD_MODEL, "'scale' is not a number from 1e-06 to 1000"},
    {"scale", "-1", DET_ERROR_BAD_MODEL, "'scale' is not a number"},
    {"scale", "1e4", DET_ERROR_BAD_MODEL, "'scale' is not a number"},
    {"scale", "1e400", DET_ERROR_BAD_MODEL, "metadata is not JSON"},
    {"score", NULL, DET_ERROR_BAD_MODEL, "'score' is not a number"},
    {"score", "-0.1", DET_ERROR_BAD_MODEL, "'score' is not a number from 0 to 1"},
    {"score", "1.01", DET_ERROR_BAD_MODEL, "'score' is not a number from 0 to 1"},
    {"iou", NULL, DET_ERROR_BAD_MODEL, "'iou' is not a number"},
    {"iou", "1.01", DET_ERROR_BAD_MODEL, "'iou' is not a number from 0 to 1"},
    {"multi_label", NULL, DET_ERROR_BAD_MODEL, "'multi_label' is not true or false"},
    {"multi_label", "1", DET_ERROR_BAD_MODEL, "'multi_label' is not true or false"},
    {"max_objects", NULL, DET_ERROR_BAD_MODEL, "'max_objects' is not an integer"},
    {"max_objects", "0", DET_ERROR_BAD_MODEL, "'max_objects' is not an integer from 1 to 65536"},
    {"max_objects", "65537", DET_ERROR_BAD_MODEL, "'max_objects' is not an integer from 1 to 65536"},
    {"max_objects", "1e2", DET_ERROR_BAD_MODEL, "'max_objects' is not an integer"},
    {"landmarks", NULL, DET_ERROR_BAD_MODEL, "'landmarks' is not an integer"},
    {"landmarks", "-1", DET_ERROR_BAD_MODEL, "'landmarks' is not an integer from 0 to 5"},
    {"landmarks", "6", DET_ERROR_BAD_MODEL, "'landmarks' is not an integer from 0 to 5"},
    {"landmarks", "3", DET_ERROR_BAD_MODEL, "'landmarks' is 3, not 0 or 5"},
    {"classes", NULL, DET_ERROR_BAD_MODEL, "'classes' is not an array of 1 to 4096 names"},
    {"classes", "[]", DET_ERROR_BAD_MODEL, "'classes' is not an array of 1 to 4096 names"},
    {"classes", "\"face\"", DET_ERROR_BAD_MODEL, "'classes' is not an array"},
    {"classes", "[\"a\",5]", DET_ERROR_BAD_MODEL, "entry 1 of 'classes' is not a string"},
};

static void test_metadata(void) {
    for (int i = 0; i < COUNT(metadata_rows); i++) {
        text metadata = edited_metadata("damofd-0.5g", metadata_rows[i].key, metadata_rows[i].value);
        bytes file = model_file_of(metadata.chars, NULL, 0);
        expect_open(metadata.chars, &file, metadata_rows[i].status, metadata_rows[i].fragment);
        bytes_free(&file);
        text_free(&metadata);
    }
    text many = {0};
    for (int n = 4096; n <= 4097; n++) {
        text_add(&many, "[\"0\"");
        for (int i = 1; i < n; i++)
            text_add(&many, ",\"%d\"", i);
        text_add(&many, "]");
        text metadata = edited_metadata("damofd-0.5g", "classes", many.chars);
        bytes file = model_file_of(metadata.chars, NULL, 0);
        expect_open("many classes", &file, n == 4096 ? DET_OK : DET_ERROR_BAD_MODEL, "'classes' is not an array of 1 to 4096");
        bytes_free(&file);
        text_free(&metadata);
        text_free(&many);
    }
}

/* ---------------------------------------------------------------------------------------------------------- binding */

/* Files that open, for the network is built when a context is created: the tensors of one model under the description
 * of another, with one value changed. */
static const struct {
    const char *tensors, *description, *key, *value;
    det_status status;
    const char *fragment;
} bindings[] = {
    {"yolov5-tiny", "yolov5-tiny", "score", "0.5", DET_OK, ""},
    {"damofd-0.5g", "damofd-0.5g", "family", "\"resnet\"", DET_ERROR_UNSUPPORTED,
     "family 'resnet' is not one that this library knows"},
    {"damofd-0.5g", "damofd-0.5g", "variant", "\"1g\"", DET_ERROR_UNSUPPORTED, "variant '1g' of damofd is none of 0.5g, 2.5g"},
    {"scrfd-500m-kps", "scrfd-500m-kps", "variant", "\"500m\"", DET_ERROR_UNSUPPORTED, "variant '500m' of scrfd is none of"},
    {"damofd-0.5g", "damofd-0.5g-kps", "score", "0.5", DET_ERROR_BAD_MODEL,
     "the tensors are not those of damofd 0.5g-kps: 2 missing (bbox_head.stride_kps.0.weight, bbox_head.stride_kps.0.bias), 0 left over"},
    {"damofd-0.5g-kps", "damofd-0.5g", "score", "0.5", DET_ERROR_BAD_MODEL,
     "0 missing, 2 left over (bbox_head.stride_kps.0.bias, bbox_head.stride_kps.0.weight)"},
    {"damofd-0.5g", "damofd-0.5g", "variant", "\"2.5g\"", DET_ERROR_BAD_MODEL,
     "tensor 'backbone.0.0.weight' has shape [32, 3, 3, 3]; damofd 2.5g needs [24, 3, 3, 3]"},
    {"damofd-0.5g", "yolov8-tiny", "score", "0.5", DET_ERROR_BAD_MODEL, "yolov8 custom needs tensor 'model.0.weight', which is missing"},
    {"yolov8-tiny", "yolov5-tiny", "score", "0.5", DET_ERROR_BAD_MODEL,
     "tensor 'model.0.weight' has shape [8, 3, 3, 3]; yolov5 custom needs [8, 3, 6, 6]"},
    {"yolov8-tiny", "yolov8-tiny", "classes", "[\"a\",\"b\"]", DET_ERROR_BAD_MODEL, "needs [2, "},
    {"yolov5-tiny", "yolov5-tiny", "classes", "[\"a\"]", DET_ERROR_BAD_MODEL, "needs [18, "},
    {"damofd-0.5g", "damofd-0.5g", "classes", "[\"a\",\"b\"]", DET_ERROR_BAD_MODEL,
     "classes and landmarks of damofd 0.5g are 1 and 0; the metadata say 2 and 0"},
    {"damofd-0.5g", "damofd-0.5g", "landmarks", "5", DET_ERROR_BAD_MODEL, "are 1 and 0; the metadata say 1 and 5"},
    {"damofd-0.5g-kps", "damofd-0.5g-kps", "landmarks", "0", DET_ERROR_BAD_MODEL, "are 1 and 5; the metadata say 1 and 0"},
    {"yolov8-tiny", "yolov8-tiny", "landmarks", "5", DET_ERROR_BAD_MODEL, "are 3 and 0; the metadata say 3 and 5"},
};

static void test_bindings(void) {
    for (int i = 0; i < COUNT(bindings); i++) {
        text metadata = edited_metadata(bindings[i].description, bindings[i].key, bindings[i].value);
        bytes file = make_model(bindings[i].tensors, metadata.chars);
        det_model *model;
        det_context *context;
        det_context_options options = cpu_options(1, 1);
        OK(det_model_open_memory(file.data, file.n, &model));
        det_status status = det_context_create(model, &options, &context);
        CHECK_MSG(status == bindings[i].status, "%s as %s: %s: %s", bindings[i].tensors, metadata.chars, det_status_name(status),
                  status == DET_OK ? "" : det_last_error());
        CHECK_MSG(status == DET_OK || strstr(det_last_error(), bindings[i].fragment), "%s as %s: the message is: %s",
                  bindings[i].tensors, metadata.chars, det_last_error());
        CHECK((context != NULL) == (status == DET_OK));
        det_context_destroy(context);
        det_model_close(model);
        bytes_free(&file);
        text_free(&metadata);
    }
}

int main(void) {
    test_headers();
    test_lengths();
    test_sizes();
    test_every_byte();
    test_values();
    test_metadata();
    test_bindings();
    return check_report("model_file");
}
