/* The parsers of the server, row by row. */
#include "body.h"
#include "check.h"
#include "multipart.h"
#include "probe.h"
#include "query.h"

static const struct {
    const char *header, *boundary; /* NULL: none */
} boundary_rows[] = {
    {"multipart/form-data; boundary=abc", "abc"},
    {"multipart/form-data;boundary=abc", "abc"},
    {"multipart/form-data; charset=utf-8; BOUNDARY=\"a b\"; x=y", "a b"},
    {"multipart/form-data; boundary=\"a\\'b\"", "a'b"},
    {"multipart/form-data; x=\"; boundary=no\"; boundary=yes", "yes"},
    {"multipart/form-data", NULL},
    {"multipart/form-data; boundary=", NULL},
    {"multipart/form-data; boundary=\"\"", NULL},
    {"multipart/form-data; boundary=\"abc", NULL},
    {"multipart/form-data; boundary=\"abc \"", NULL},
    {"multipart/form-data; boundary=a\"b", NULL},
    {"multipart/form-data; boundary", NULL},
    {"multipart/form-data; xboundary=abc", NULL},
    {"multipart/form-data; boundary=1234567890123456789012345678901234567890123456789012345678901234567890",
     "1234567890123456789012345678901234567890123456789012345678901234567890"},
    {"multipart/form-data; boundary=12345678901234567890123456789012345678901234567890123456789012345678901", NULL},
};

static void test_boundaries(void) {
    for (size_t i = 0; i < sizeof boundary_rows / sizeof boundary_rows[0]; i++) {
        char boundary[MULTIPART_MAX_BOUNDARY + 1];
        bool found = multipart_boundary(boundary_rows[i].header, boundary);
        CHECK_MSG(found == (boundary_rows[i].boundary != NULL), "%s", boundary_rows[i].header);
        if (found && boundary_rows[i].boundary != NULL)
            CHECK_MSG(strcmp(boundary, boundary_rows[i].boundary) == 0, "%s", boundary);
    }
}

#define IMAGE_HEAD "Content-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n"

static const struct {
    const char *body;
    multipart_result result;
    const char *data;
} body_rows[] = {
    {"--b\r\n" IMAGE_HEAD "pixels\r\n--b--\r\n", MULTIPART_FOUND, "pixels"},
    {"--b\r\n" IMAGE_HEAD "pixels\r\n--b--", MULTIPART_FOUND, "pixels"},
    {"--b  \t\r\n" IMAGE_HEAD "pixels\r\n--b--\r\nepilogue", MULTIPART_FOUND, "pixels"},
    {"preamble\r\n--b\r\n" IMAGE_HEAD "pixels\r\n--b--", MULTIPART_FOUND, "pixels"},
    {"--b\r\n" IMAGE_HEAD "\r\n--b--", MULTIPART_FOUND, ""},
    {"--b\r\n" IMAGE_HEAD "--b\r\n\r--b\r\n--\r\n--b--", MULTIPART_FOUND, "--b\r\n\r--b\r\n--"},
    {"--b\r\ncontent-disposition:form-data;name=image\r\n\r\nx\r\n--b--", MULTIPART_FOUND, "x"},
    {"--b\r\nA: b\r\nContent-Disposition: form-data; name=image\r\nC: d\r\n\r\nx\r\n--b--", MULTIPART_FOUND, "x"},
    {"--b\r\n\r\nno headers\r\n--b\r\n" IMAGE_HEAD "x\r\n--b--", MULTIPART_FOUND, "x"},
    {"--b\r\nContent-Disposition: form-data; name=\"images\"\r\n\r\nx\r\n--b--", MULTIPART_ABSENT, NULL},
    {"--b\r\nContent-Disposition: form-data; filename=\"; name=image\"\r\n\r\nx\r\n--b--", MULTIPART_ABSENT, NULL},
    {"--b\r\nX-Content-Disposition: form-data; name=\"image\"\r\n\r\nx\r\n--b--", MULTIPART_ABSENT, NULL},
    {"--b--", MULTIPART_ABSENT, NULL},
    {"--b\r\n" IMAGE_HEAD "x\r\n--b\r\n" IMAGE_HEAD "y\r\n--b--", MULTIPART_REPEATED, NULL},
    {"--b\r\n" IMAGE_HEAD "x\r\n--b", MULTIPART_MALFORMED, NULL},
    {"--b\r\n" IMAGE_HEAD "x\r\n--b-", MULTIPART_MALFORMED, NULL},
    {"--b\r\n" IMAGE_HEAD "x\r\n", MULTIPART_MALFORMED, NULL},
    {"--b\r\n" IMAGE_HEAD "x--b--", MULTIPART_MALFORMED, NULL},
    {"--b\r\nContent-Disposition: form-data; name=\"image\"\r\nx\r\n--b--", MULTIPART_MALFORMED, NULL},
    {"--bb\r\n" IMAGE_HEAD "x\r\n--bb--", MULTIPART_MALFORMED, NULL},
    {"--c\r\n" IMAGE_HEAD "x\r\n--c--", MULTIPART_MALFORMED, NULL},
    {"--b\n" IMAGE_HEAD "x\r\n--b--", MULTIPART_MALFORMED, NULL},
    {"", MULTIPART_MALFORMED, NULL},
};

/* From memory of exactly the body's length, so that a sanitizer sees a byte too many. */
static multipart_result find(const char *text, size_t n_bytes, const uint8_t **data, size_t *n_data_bytes,
                             uint8_t **copy) {
    *copy = malloc(n_bytes > 0 ? n_bytes : 1);
    REQUIRE(*copy != NULL, "%zu bytes", n_bytes);
    memcpy(*copy, text, n_bytes);
    return multipart_find(*copy, n_bytes, "b", "image", data, n_data_bytes);
}

static void test_bodies(void) {
    for (size_t i = 0; i < sizeof body_rows / sizeof body_rows[0]; i++) {
        const uint8_t *data;
        uint8_t *copy;
        size_t n_bytes;
        multipart_result result = find(body_rows[i].body, strlen(body_rows[i].body), &data, &n_bytes, &copy);
        CHECK_MSG(result == body_rows[i].result, "row %zu: %d", i, (int)result);
        if (result == MULTIPART_FOUND && body_rows[i].data != NULL)
            CHECK_MSG(n_bytes == strlen(body_rows[i].data) && memcmp(data, body_rows[i].data, n_bytes) == 0, "row %zu",
                      i);
        free(copy);
    }
}

static void test_no_body(void) {
    const uint8_t *data;
    size_t n_bytes;
    picture_claim claim;
    CHECK(multipart_find(NULL, 0, "b", "image", &data, &n_bytes) == MULTIPART_MALFORMED);
    CHECK(probe_picture(NULL, 0, &claim) == PROBE_UNKNOWN);
}

/* Cut anywhere, a body is malformed until its last delimiter is whole. */
static void test_truncated(void) {
    static const char whole[] = "--b\r\nA: b\r\n\r\nnote\r\n--b\r\n" IMAGE_HEAD "pixels\r\n--b--";
    for (size_t n = 0; n < sizeof whole; n++) {
        const uint8_t *data;
        uint8_t *copy;
        size_t n_bytes;
        multipart_result result = find(whole, n, &data, &n_bytes, &copy);
        CHECK_MSG(result == (n == sizeof whole - 1 ? MULTIPART_FOUND : MULTIPART_MALFORMED), "%zu bytes", n);
        free(copy);
        if (n == sizeof whole - 1)
            break;
    }
}

static void test_limits_of_parts(void) {
    enum { SIZE = 20000 };
    static char room[SIZE];
    const uint8_t *data;
    uint8_t *copy;
    size_t n_bytes;
    for (int n_parts = 60; n_parts <= 70; n_parts++) {
        int n = 0;
        for (int i = 0; i < n_parts; i++)
            n += snprintf(room + n, (size_t)(SIZE - n), "--b\r\nA: b\r\n\r\n\r\n");
        n += snprintf(room + n, (size_t)(SIZE - n), "--b--");
        multipart_result result = find(room, (size_t)n, &data, &n_bytes, &copy);
        CHECK_MSG(result == (n_parts <= 64 ? MULTIPART_ABSENT : MULTIPART_MALFORMED), "%d parts", n_parts);
        free(copy);
    }
    int n = snprintf(room, SIZE, "--b\r\nA: %09000d\r\n" IMAGE_HEAD "x\r\n--b--", 0);
    CHECK(find(room, (size_t)n, &data, &n_bytes, &copy) == MULTIPART_MALFORMED);
    free(copy);
}

static void test_probe(void) {
    static const uint8_t png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\2\0\0\3\4\x8\2\0\0";
    static const uint8_t jpeg[] = "\xff\xd8\xff\xe0\0\x04"
                                  "ab"
                                  "\xff\xff\xc4\0\x03x\xff\xc2\0\x11\x8\1\2\3\4";
    picture_claim claim;
    for (size_t n = 0; n <= 29; n++) {
        probe_result expected = n < 8 ? PROBE_UNKNOWN : n < 29 ? PROBE_DAMAGED : PROBE_OK;
        CHECK_MSG(probe_picture(png, n, &claim) == expected, "%zu bytes", n);
    }
    CHECK(claim.width == 0x102 && claim.height == 0x304);
    for (size_t n = 0; n < sizeof jpeg; n++) {
        probe_result expected = n < 3 ? PROBE_UNKNOWN : n < sizeof jpeg - 1 ? PROBE_DAMAGED : PROBE_OK;
        CHECK_MSG(probe_picture(jpeg, n, &claim) == expected, "%zu bytes", n);
    }
    CHECK(claim.width == 0x304 && claim.height == 0x102);
    CHECK(probe_picture((const uint8_t *)"P6 1 1 255", 10, &claim) == PROBE_UNKNOWN);
}

static void test_query(void) {
    static const char *const names[] = {"cat", "dog", "7"};
    const det_model_info model = {.class_names = names, .n_classes = 3};
    static const struct {
        const char *name, *value;
        bool right;
    } rows[] = {
        {"score", "0", true},       {"score", "0.25", true},  {"score", "1e-3", true},    {"score", "1.0001", false},
        {"score", "-0.1", false},   {"score", "nan", false},  {"score", "inf", false},    {"score", " 1", false},
        {"score", "1 ", false},     {"score", "", false},     {"score", "1,0", false},    {"score", "0x1", false},
        {"iou", "1", true},         {"iou", "2", false},      {"classes", "cat", true},   {"classes", "2,dog", true},
        {"classes", "7", false},    {"classes", "", false},   {"classes", "cat,", false}, {"classes", "ca", false},
        {"classes", "cats", false}, {"classes", "-1", false}, {"classes", "3", false},    {"Score", "1", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        query asked;
        char error[QUERY_ERROR_SIZE] = "";
        query_init(&asked);
        bool ok = query_set(&asked, &model, rows[i].name, rows[i].value, error);
        CHECK_MSG(ok == rows[i].right && ok == (error[0] == '\0'), "%s=%s: %s", rows[i].name, rows[i].value, error);
        query_free(&asked);
    }
    query asked;
    char error[QUERY_ERROR_SIZE] = "";
    query_init(&asked);
    CHECK(query_set(&asked, &model, "classes", "dog,0", error) && query_set(&asked, &model, "score", "0.5", error));
    CHECK(asked.thresholds.n_classes == 3 && memcmp(asked.thresholds.class_enabled, "\1\1\0", 3) == 0);
    CHECK(asked.thresholds.score == 0.5f && asked.thresholds.iou < 0);
    CHECK(!query_set(&asked, &model, "score", "0.5", error) && strstr(error, "twice") != NULL);
    CHECK(!query_set(&asked, &model, "classes", "0", error));
    query_free(&asked);
}

static void test_body(void) {
    enum { LIMIT = 1 << 20 };
    static const uint8_t piece[100000];
    budget shared = {.limit = LIMIT + 1000};
    body kept = {0};
    for (int i = 0; i < 10; i++)
        CHECK(body_append(&kept, &shared, piece, sizeof piece, 0, LIMIT) == BODY_OK);
    CHECK(kept.n_bytes == 1000000 && kept.capacity == LIMIT && atomic_load(&shared.used) == LIMIT);
    CHECK(body_append(&kept, &shared, piece, sizeof piece, 0, LIMIT) == BODY_TOO_LARGE && kept.n_bytes == 1000000);
    body second = {0};
    CHECK(body_append(&second, &shared, piece, 10, 10, LIMIT) == BODY_OK && second.capacity == 10);
    CHECK(body_append(&second, &shared, piece, 991, 2000, LIMIT) == BODY_NO_MEMORY && second.n_bytes == 10);
    body_free(&kept, &shared);
    CHECK(body_append(&second, &shared, piece, 991, 5, LIMIT) == BODY_OK && second.n_bytes == 1001);
    body_free(&second, &shared);
    CHECK(atomic_load(&shared.used) == 0);
}

int main(void) {
    test_boundaries();
    test_bodies();
    test_no_body();
    test_truncated();
    test_limits_of_parts();
    test_probe();
    test_query();
    test_body();
    return check_report("server_parts_test");
}
