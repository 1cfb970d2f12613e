/* The test of image_io: formats, orientation, limits, and damage at every byte. Worth running under sanitizers. */
#define _POSIX_C_SOURCE 200809L

#include "image_io.h"
#include "make_image.h"

#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

static int n_checks, n_failures;

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        n_checks++;                                                                                                    \
        if (!(condition)) {                                                                                            \
            n_failures++;                                                                                              \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                     \
            printf(__VA_ARGS__);                                                                                       \
            putchar('\n');                                                                                             \
        }                                                                                                              \
    } while (0)

static const image_limits defaults = {IMAGE_MAX_SIDE, IMAGE_MAX_BYTES};

/* A picture that differs in every row, column and channel, and is smooth, so that JPEG keeps it. */
static void pattern(int x, int y, int width, int height, uint8_t rgb[3]) {
    rgb[0] = (uint8_t)(20 + 200 * x / width);
    rgb[1] = (uint8_t)(30 + 150 * y / height);
    rgb[2] = (uint8_t)(220 - 60 * x / width - 100 * y / height);
}

static uint8_t *pattern_rows(int width, int height) {
    uint8_t *rows = malloc(3 * (size_t)width * (size_t)height);
    for (int i = 0; rows != NULL && i < width * height; i++)
        pattern(i % width, i / width, width, height, rows + 3 * i);
    return rows;
}

/* Compares with expected pixels; the largest difference allowed is JPEG's loss. */
static void check_pixels(const char *what, const image *got, int width, int height, const uint8_t *rows,
                         int tolerance) {
    CHECK(got->width == width && got->height == height, "%s: %dx%d", what, (int)got->width, (int)got->height);
    if (got->width != width || got->height != height)
        return;
    int worst = 0;
    for (int i = 0; i < 3 * width * height; i++) {
        int difference = abs(got->pixels[i] - rows[i]);
        worst = difference > worst ? difference : worst;
    }
    CHECK(worst <= tolerance, "%s: off by %d", what, worst);
}

static void check_decodes(const char *what, blob file, int width, int height, const uint8_t *rows, int tolerance) {
    image got;
    char error[IMAGE_ERROR_SIZE] = "";
    bool ok = image_decode(file.data, file.n_bytes, &defaults, &got, error);
    CHECK(ok, "%s: %s", what, error);
    if (ok)
        check_pixels(what, &got, width, height, rows, tolerance);
    image_free(&got);
}

static void check_fails(const char *what, const void *data, size_t n_bytes, const image_limits *limits,
                        const char *expected) {
    image got;
    char error[IMAGE_ERROR_SIZE] = "";
    bool ok = image_decode(data, n_bytes, limits, &got, error);
    CHECK(!ok, "%s: decodes", what);
    CHECK(got.pixels == NULL && got.width == 0 && got.height == 0, "%s: leaves something behind", what);
    CHECK(ok || strstr(error, expected) != NULL, "%s: says '%s', not '%s'", what, error, expected);
    image_free(&got);
}

/* What PNG stores for a sample of the pattern, and what is expected back. */
static void check_png_kind(const char *what, png_kind kind, int n_channels, bool grey) {
    enum { WIDTH = 21, HEIGHT = 13 };
    int sample_bytes = kind.bit_depth == 16 ? 2 : 1, per_byte = kind.bit_depth < 8 ? 8 / kind.bit_depth : 1;
    int row_bytes = (WIDTH + per_byte - 1) / per_byte * n_channels * sample_bytes;
    uint8_t *rows = calloc(HEIGHT, (size_t)row_bytes), expected[3 * WIDTH * HEIGHT];
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        int x = i % WIDTH, y = i / WIDTH, levels = 1 << (kind.bit_depth < 8 ? kind.bit_depth : 8);
        uint8_t *row = rows + y * row_bytes, rgb[3];
        pattern(x, y, WIDTH, HEIGHT, rgb);
        if (per_byte > 1 || kind.colour_type == PNG_COLOR_TYPE_PALETTE) {
            int value = (x + y) % levels;
            row[x / per_byte] |= (uint8_t)(value << (8 - kind.bit_depth * (x % per_byte + 1)));
            memset(rgb, grey ? value * 255 / (levels - 1) : 0, 3);
            if (!grey)
                palette_colour(value, rgb);
        } else {
            for (int c = 0; c < n_channels; c++) {
                bool is_alpha = (n_channels & 1) == 0 && c == n_channels - 1;
                uint8_t value = is_alpha ? (uint8_t)(x * 12) : rgb[grey ? 0 : c];
                /* 16 bits: 257 times the 8-bit value is the same light. */
                memset(row + (x * n_channels + c) * sample_bytes, value, (size_t)sample_bytes);
            }
            if (grey)
                rgb[1] = rgb[2] = rgb[0];
        }
        memcpy(expected + 3 * i, rgb, 3);
    }
    blob file = make_png(kind, WIDTH, HEIGHT, rows);
    check_decodes(what, file, WIDTH, HEIGHT, expected, 0);
    free(file.data);
    free(rows);
}

static void test_png(void) {
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        for (int transparent = 0; transparent < 2; transparent++) {
            for (int depth = 1; depth <= 16; depth *= 2) {
                char what[80];
                snprintf(what, sizeof what, "PNG of %d bits, interlaced %d, tRNS %d", depth, interlaced, transparent);
                png_kind kind = {PNG_COLOR_TYPE_GRAY, depth, interlaced, transparent};
                check_png_kind(what, kind, 1, true);
                kind.colour_type = PNG_COLOR_TYPE_PALETTE;
                if (depth <= 8)
                    check_png_kind(what, kind, 1, false);
                kind.colour_type = PNG_COLOR_TYPE_RGB;
                if (depth >= 8)
                    check_png_kind(what, kind, 3, false);
            }
        }
        for (int depth = 8; depth <= 16; depth *= 2) {
            check_png_kind("PNG with grey and alpha", (png_kind){PNG_COLOR_TYPE_GRAY_ALPHA, depth, interlaced, false},
                           2, true);
            check_png_kind("PNG with alpha", (png_kind){PNG_COLOR_TYPE_RGB_ALPHA, depth, interlaced, false}, 4, false);
        }
    }
}

/* The picture's header, not its data, says something else: its checksum is right again. */
static void claim_png_size(blob *file, uint32_t width, uint32_t height) {
    enum { IHDR = 12, IHDR_BYTES = 17 };
    for (int i = 0; i < 4; i++) {
        file->data[IHDR + 4 + i] = (uint8_t)(width >> (24 - 8 * i));
        file->data[IHDR + 8 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
    uint32_t crc = png_checksum(file->data + IHDR, IHDR_BYTES);
    for (int i = 0; i < 4; i++)
        file->data[IHDR + IHDR_BYTES + i] = (uint8_t)(crc >> (24 - 8 * i));
}

static void test_limits(void) {
    uint8_t *rows = pattern_rows(20, 10);
    blob png = make_png((png_kind){PNG_COLOR_TYPE_RGB, 8, false, false}, 20, 10, rows);
    blob jpeg = make_jpeg((jpeg_kind){.in_space = JCS_RGB, .file_space = JCS_YCbCr, .n_channels = 3}, 20, 10, rows);
    check_fails("side", png.data, png.n_bytes, &(image_limits){19, 1000000}, "20x10 pixels, the limit is 19 a side");
    check_fails("bytes", png.data, png.n_bytes, &(image_limits){100, 599}, "take 600 bytes, the limit is 599");
    check_fails("side", jpeg.data, jpeg.n_bytes, &(image_limits){19, 1000000}, "the limit is 19 a side");
    check_fails("bytes", jpeg.data, jpeg.n_bytes, &(image_limits){100, 599}, "the limit is 599");
    check_fails("bytes", "P5 20 10 255 ", 13, &(image_limits){100, 599}, "the limit is 599");

    image got;
    char error[IMAGE_ERROR_SIZE];
    CHECK(image_decode(png.data, png.n_bytes, &(image_limits){20, 600}, &got, error), "just within: %s", error);
    image_free(&got);

    claim_png_size(&png, 20, 11);
    check_fails("one row more than there is", png.data, png.n_bytes, &defaults, "damaged PNG");
    claim_png_size(&png, 2000000000, 2000000000);
    check_fails("a giant", png.data, png.n_bytes, &defaults, "2000000000x2000000000 pixels");
    claim_png_size(&png, 16384, 16384);
    check_fails("a large claim", png.data, png.n_bytes, &defaults, "take 805306368 bytes");
    claim_png_size(&png, 0, 10);
    check_fails("no width", png.data, png.n_bytes, &defaults, "PNG");
    check_fails("no width", "P6 0 10 255 ", 12, &defaults, "no picture at all");
    check_fails("a giant", "P6 4294967297 1 255 xxx", 23, &defaults, "4294967297x1 pixels");
    check_fails("more digits than any size", "P6 99999999999 1 255 x", 22, &defaults, "damaged");
    free(png.data);
    free(jpeg.data);
    free(rows);
}

static void test_jpeg(void) {
    enum { WIDTH = 40, HEIGHT = 24, N = WIDTH * HEIGHT };
    uint8_t *rows = pattern_rows(WIDTH, HEIGHT), grey[N], grey_rgb[3 * N], light[4 * N], ink[4 * N], cmyk_rgb[3 * N];
    for (int i = 0; i < N; i++) {
        grey[i] = rows[3 * i];
        memset(grey_rgb + 3 * i, grey[i], 3);
        int black = 200 + i % WIDTH; /* as light: 255 is none of it */
        for (int c = 0; c < 4; c++) {
            light[4 * i + c] = (uint8_t)(c < 3 ? rows[3 * i + c] : black);
            ink[4 * i + c] = (uint8_t)(255 - light[4 * i + c]);
            if (c < 3)
                cmyk_rgb[3 * i + c] = (uint8_t)(rows[3 * i + c] * black / 255);
        }
    }
    const struct {
        const char *what;
        jpeg_kind kind;
        const uint8_t *rows, *expected;
    } cases[] = {
        {"YCbCr", {.in_space = JCS_RGB, .file_space = JCS_YCbCr, .n_channels = 3}, rows, rows},
        {"RGB", {.in_space = JCS_RGB, .file_space = JCS_RGB, .n_channels = 3}, rows, rows},
        {"grey", {.in_space = JCS_GRAYSCALE, .file_space = JCS_GRAYSCALE, .n_channels = 1}, grey, grey_rgb},
        {"Adobe's CMYK", {.in_space = JCS_CMYK, .file_space = JCS_CMYK, .n_channels = 4}, light, cmyk_rgb},
        {"Adobe's YCCK", {.in_space = JCS_CMYK, .file_space = JCS_YCCK, .n_channels = 4}, light, cmyk_rgb},
        {"plain CMYK",
         {.in_space = JCS_CMYK, .file_space = JCS_CMYK, .n_channels = 4, .without_adobe = true},
         ink,
         cmyk_rgb},
    };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        jpeg_kind kind = cases[i / 2].kind;
        kind.progressive = i % 2;
        blob file = make_jpeg(kind, WIDTH, HEIGHT, cases[i / 2].rows);
        check_decodes(cases[i / 2].what, file, WIDTH, HEIGHT, cases[i / 2].expected, 6);
        free(file.data);
    }
    jpeg_kind two = {.in_space = JCS_UNKNOWN, .file_space = JCS_UNKNOWN, .n_channels = 2};
    blob file = make_jpeg(two, WIDTH, HEIGHT, rows);
    check_fails("two channels", file.data, file.n_bytes, &defaults, "JPEG with 2 channels");
    free(file.data);
    free(rows);
}

/* Where stored pixel (x, y) of a w x h picture is seen, by the EXIF standard's table. */
static void seen_at(int orientation, int x, int y, int w, int h, int *seen_x, int *seen_y) {
    const int table[9][2] = {{0},    {x, y},         {w - 1 - x, y},         {w - 1 - x, h - 1 - y}, {x, h - 1 - y},
                             {y, x}, {h - 1 - y, x}, {h - 1 - y, w - 1 - x}, {y, w - 1 - x}};
    *seen_x = table[orientation][0];
    *seen_y = table[orientation][1];
}

typedef struct exif {
    uint8_t bytes[6 + 8 + 2 + 2 * 12];
} exif;

static void put(uint8_t *at, unsigned value, int n_bytes, bool big_endian) {
    for (int i = 0; i < n_bytes; i++)
        at[i] = (uint8_t)(value >> 8 * (big_endian ? n_bytes - 1 - i : i));
}

/* A directory of two entries, of which the second is the orientation. */
static exif make_exif(unsigned orientation, bool big_endian) {
    exif made = {"Exif"};
    uint8_t *tiff = made.bytes + 6, *entries = tiff + 10;
    memset(tiff, big_endian ? 'M' : 'I', 2);
    put(tiff + 2, 42, 2, big_endian);
    put(tiff + 4, 8, 4, big_endian);
    put(tiff + 8, 2, 2, big_endian);
    put(entries, 0x010f, 2, big_endian);
    put(entries + 2, 2, 2, big_endian);
    put(entries + 12, 0x0112, 2, big_endian);
    put(entries + 14, 3, 2, big_endian);
    put(entries + 16, 1, 4, big_endian);
    put(entries + 20, orientation, 2, big_endian);
    return made;
}

static blob make_oriented(const exif *app1, unsigned app1_bytes, int width, int height, const uint8_t *rows) {
    jpeg_kind kind = {
        .in_space = JCS_RGB, .file_space = JCS_YCbCr, .n_channels = 3, .app1 = app1->bytes, .app1_bytes = app1_bytes};
    return make_jpeg(kind, (uint32_t)width, (uint32_t)height, rows);
}

static void test_orientation(void) {
    enum { WIDTH = 40, HEIGHT = 24 };
    uint8_t *rows = pattern_rows(WIDTH, HEIGHT), seen[3 * WIDTH * HEIGHT];
    for (int i = 0; i < 16; i++) {
        int orientation = i / 2 + 1;
        int seen_width = orientation >= 5 ? HEIGHT : WIDTH, seen_height = orientation >= 5 ? WIDTH : HEIGHT;
        for (int k = 0; k < WIDTH * HEIGHT; k++) {
            int x, y;
            seen_at(orientation, k % WIDTH, k / WIDTH, WIDTH, HEIGHT, &x, &y);
            memcpy(seen + 3 * (y * seen_width + x), rows + 3 * k, 3);
        }
        char what[40];
        snprintf(what, sizeof what, "orientation %d, %s-endian", orientation, i % 2 ? "big" : "little");
        exif app1 = make_exif((unsigned)orientation, i % 2);
        blob file = make_oriented(&app1, sizeof app1, WIDTH, HEIGHT, rows);
        check_decodes(what, file, seen_width, seen_height, seen, 6);
        free(file.data);
    }
    for (unsigned n_bytes = 0; n_bytes < sizeof(exif) - 2; n_bytes++) {
        exif app1 = make_exif(6, false);
        blob file = make_oriented(&app1, n_bytes, WIDTH, HEIGHT, rows);
        check_decodes("EXIF cut before the value's two bytes", file, WIDTH, HEIGHT, rows, 6);
        free(file.data);
    }
    const struct {
        const char *what;
        unsigned at, value;
        int n_bytes;
    } damages[] = {
        {"orientation 0", 36, 0, 2},          {"orientation 9", 36, 9, 2},
        {"orientation 65535", 36, 65535, 2},  {"type of the value", 30, 2, 2},
        {"directory outside", 10, 0x7fff, 4}, {"directory far outside", 10, ~0u, 4},
        {"many entries", 14, 65535, 2},       {"no entries", 14, 0, 2},
        {"magic number", 8, 43, 2},           {"order of bytes", 6, 'I' << 8, 2},
    };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        exif app1 = make_exif(6, false);
        put(app1.bytes + damages[i].at, damages[i].value, damages[i].n_bytes, false);
        if (strcmp(damages[i].what, "many entries") == 0)
            put(app1.bytes + 28, 0x0110, 2, false); /* and none of them the orientation */
        blob file = make_oriented(&app1, sizeof app1, WIDTH, HEIGHT, rows);
        check_decodes(damages[i].what, file, WIDTH, HEIGHT, rows, 6);
        free(file.data);
    }
    free(rows);
}

static void check_pnm(const char *header, const char *samples, size_t n_bytes, int width, int height,
                      const char *expected) {
    blob file = {malloc(strlen(header) + n_bytes), strlen(header) + n_bytes};
    memcpy(file.data, header, strlen(header));
    memcpy(file.data + strlen(header), samples, n_bytes);
    check_decodes(header, file, width, height, (const uint8_t *)expected, 0);
    free(file.data);
}

static void test_pnm(void) {
    check_pnm("P6 2 1 255\n", "abcdef", 6, 2, 1, "abcdef");
    check_pnm("P6\n# a comment\n2 # another\n1\n255\n", "abcdefrest", 10, 2, 1, "abcdef");
    check_pnm("P5\t1\r2\n255 ", "#\n", 2, 1, 2, "###\n\n\n");
    check_pnm("P5 3 1 1\n", "\0\1\2", 3, 3, 1, "\0\0\0\377\377\377\377\377\377");
    check_pnm("P6 1 1 100\n", "\0\62\144", 3, 1, 1, "\0\200\377");

    static const char *const damaged[] = {"P6",
                                          "P6 ",
                                          "P6 2",
                                          "P6 2 1",
                                          "P6 2 1 255",
                                          "P62 1 255 x",
                                          "P6 -2 1 255 x",
                                          "P6 x 1 255 x",
                                          "P6 2 1 255#\nabcdef",
                                          "P6 #"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++)
        check_fails(damaged[i], damaged[i], strlen(damaged[i]), &defaults, "header is damaged");
    check_fails("16 bits", "P6 1 1 65535 xxxxxx", 19, &defaults, "samples up to 65535");
    check_fails("no range", "P6 1 1 0 xxxxxx", 15, &defaults, "samples up to 0");
    check_fails("short", "P6 2 2 255 abcdefghijk", 22, &defaults, "need 12 bytes, the file ends after 11");
}

/* Every proper beginning is refused; every changed byte is survived. */
static void check_damage(const char *what, blob file) {
    for (size_t n_bytes = 0; n_bytes < file.n_bytes; n_bytes++) {
        uint8_t *part = malloc(n_bytes + 1); /* of its own, for the sanitizer to see reads beyond */
        memcpy(part, file.data, n_bytes);
        part = realloc(part, n_bytes > 0 ? n_bytes : 1);
        check_fails(what, part, n_bytes, &defaults, "");
        free(part);
    }
    const image_limits small = {256, 256 * 256 * 3};
    for (size_t at = 0; at < 256 * file.n_bytes; at += 37) {
        uint8_t kept = file.data[at / 256];
        file.data[at / 256] = (uint8_t)at;
        image got;
        char error[IMAGE_ERROR_SIZE] = "";
        bool ok = image_decode(file.data, file.n_bytes, &small, &got, error);
        CHECK(ok == (got.pixels != NULL) && ok == (error[0] == '\0'), "%s: byte %zu: '%s'", what, at / 256, error);
        image_free(&got);
        file.data[at / 256] = kept;
    }
}

static void test_damage(void) {
    enum { WIDTH = 24, HEIGHT = 18 };
    uint8_t *rows = pattern_rows(WIDTH, HEIGHT);
    exif app1 = make_exif(6, true);
    jpeg_kind jpeg = {
        .in_space = JCS_RGB, .file_space = JCS_YCbCr, .n_channels = 3, .app1 = app1.bytes, .app1_bytes = sizeof app1};
    const struct {
        const char *what;
        blob file;
    } cases[] = {
        {"PNG", make_png((png_kind){PNG_COLOR_TYPE_RGB, 8, false, false}, WIDTH, HEIGHT, rows)},
        {"interlaced PNG", make_png((png_kind){PNG_COLOR_TYPE_PALETTE, 8, true, true}, WIDTH, HEIGHT, rows)},
        {"JPEG", make_jpeg(jpeg, WIDTH, HEIGHT, rows)},
        {"progressive JPEG",
         make_jpeg((jpeg_kind){.in_space = JCS_RGB, .file_space = JCS_YCbCr, .n_channels = 3, .progressive = true},
                   WIDTH, HEIGHT, rows)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_damage(cases[i].what, cases[i].file);
        free(cases[i].file.data);
    }
    char ppm[] = "P6 3 2 255 abcdefghijklmnopqr";
    check_damage("PPM", (blob){(uint8_t *)ppm, strlen(ppm)});
    check_fails("nothing", "", 0, &defaults, "empty file");
    check_fails("text", "Hello, world", 12, &defaults, "not a PNG, JPEG");
    check_fails("GIF", "GIF89a\1\0\1\0", 10, &defaults, "not a PNG, JPEG");
    free(rows);
}

static void test_files(void) {
    enum { WIDTH = 33, HEIGHT = 7 };
    char directory[] = "/tmp/image_test.XXXXXX", path[64], missing[64], error[IMAGE_ERROR_SIZE] = "";
    if (mkdtemp(directory) == NULL) {
        CHECK(false, "no temporary directory");
        return;
    }
    snprintf(path, sizeof path, "%s/a.png", directory);
    snprintf(missing, sizeof missing, "%s/none/a.png", directory);
    image picture = {pattern_rows(WIDTH, HEIGHT), WIDTH, HEIGHT}, got;
    CHECK(image_write_png(path, &picture, error), "%s", error);
    CHECK(image_load(path, &defaults, &got, error), "%s", error);
    if (got.pixels != NULL)
        check_pixels("written and read", &got, WIDTH, HEIGHT, picture.pixels, 0);
    image_free(&got);

    CHECK(!image_load(path, &(image_limits){100, 50}, &got, error) && strstr(error, "the limit is 50"), "%s", error);
    CHECK(!image_load(missing, &defaults, &got, error) && strstr(error, "cannot open"), "%s", error);
    CHECK(!image_load(directory, &defaults, &got, error) && strstr(error, "cannot read"), "%s", error);
    CHECK(!image_load("/dev/zero", &(image_limits){100, 5000}, &got, error) && strstr(error, "longer than"), "%s",
          error);
    CHECK(!image_load("/dev/null", &defaults, &got, error) && strstr(error, "empty file"), "%s", error);
    CHECK(!image_write_png(missing, &picture, error) && strstr(error, "cannot create"), "%s", error);
    CHECK(!image_write_png(directory, &picture, error) && strstr(error, "cannot rename"), "%s", error);
    image_free(&picture);
    remove(path);
    CHECK(rmdir(directory) == 0, "something is left in %s", directory);
}

int main(void) {
    test_png();
    test_jpeg();
    test_orientation();
    test_pnm();
    test_limits();
    test_damage();
    test_files();
    printf("image_test: %d checks, %d failures\n", n_checks, n_failures);
    return n_failures == 0 ? 0 : 1;
}
