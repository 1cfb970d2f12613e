/* Staging memory: blocks do not overlap, what is given back is found again, pictures arrive row by row. */
#include "check.h"
#include "random.h"
#include "serving/staging.h"

enum { PAGE = 16384, PAGES = 40 };

static uint8_t memory[PAGE * PAGES + 100];

static det_staging open_staging(size_t n_bytes) {
    det_staging s;
    REQUIRE(det_staging_open(&s, memory, n_bytes) == DET_OK, "%s", det_last_error());
    return s;
}

static void test_sizes(void) {
    det_staging s = open_staging(0);
    CHECK(s.n_pages == 0 && !det_staging_take(&s, 1));
    det_staging_close(&s);
    s = open_staging(3 * PAGE + 99); /* a part of a page is none */
    CHECK(!det_staging_take(&s, 3 * PAGE + 1) && !det_staging_take(&s, SIZE_MAX / 2));
    void *all = det_staging_take(&s, 3 * PAGE);
    CHECK(all == memory && s.used_bytes == 3 * PAGE && !det_staging_take(&s, 1));
    det_staging_give(&s, all);
    void *a = det_staging_take(&s, 1), *b = det_staging_take(&s, PAGE), *c = det_staging_take(&s, 5);
    CHECK(a == memory && b == memory + PAGE && c == memory + 2 * PAGE);
    det_staging_give(&s, a);
    det_staging_give(&s, c);
    CHECK(!det_staging_take(&s, 2 * PAGE)); /* two free pages, but apart */
    det_staging_give(&s, b);
    CHECK(det_staging_take(&s, 3 * PAGE) == memory);
    det_staging_close(&s);
}

/* Random blocks, each filled with its own number. */
static void test_blocks(void) {
    det_staging s = open_staging(PAGE * PAGES);
    struct {
        uint8_t *at;
        size_t n_bytes;
    } blocks[64] = {0};
    uint64_t random = 3;
    int n_refused = 0, n_wrong = 0;
    for (int step = 0; step < 5000; step++) {
        int i = random_below(&random, 64);
        if (blocks[i].at) {
            for (size_t k = 0; k < blocks[i].n_bytes; k += 1000)
                n_wrong += blocks[i].at[k] != i;
            det_staging_give(&s, blocks[i].at);
            blocks[i].at = NULL;
            continue;
        }
        blocks[i].n_bytes = 1 + (size_t)random_below(&random, 4 * PAGE);
        blocks[i].at = det_staging_take(&s, blocks[i].n_bytes);
        n_refused += !blocks[i].at;
        if (blocks[i].at)
            memset(blocks[i].at, i, blocks[i].n_bytes);
    }
    CHECK_MSG(n_wrong == 0 && n_refused > 10, "%d bytes wrong, %d refused", n_wrong, n_refused);
    for (int i = 0; i < 64; i++) {
        if (blocks[i].at)
            det_staging_give(&s, blocks[i].at);
    }
    CHECK(s.used_bytes == 0 && det_staging_take(&s, PAGE * PAGES) == memory);
    det_staging_close(&s);
}

static void test_copies(void) {
    static uint8_t y[7 * 20], cbcr[4 * 30];
    for (size_t i = 0; i < sizeof y; i++)
        y[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof cbcr; i++)
        cbcr[i] = (uint8_t)(200 + i);
    static const struct {
        int32_t format;
        int n_bytes, row_bytes;
    } rows[] = {{DET_RGB8, 105, 15}, {DET_BGR8, 105, 15}, {DET_RGBA8, 140, 20}, {DET_GRAY8, 35, 5}, {DET_NV12, 59, 5}};
    for (size_t r = 0; r < DET_COUNT(rows); r++) {
        det_image image = {.planes = {y, cbcr}, .strides = {20, 30}, .width = 5, .height = 7, .format = rows[r].format};
        CHECK_MSG(det_staging_bytes(&image) == (size_t)rows[r].n_bytes, "%zu bytes", det_staging_bytes(&image));
        memset(memory, 0, 300);
        det_staging_copy(&image, memory);
        int n_wrong = 0;
        for (int i = 0; i < 7 * rows[r].row_bytes; i++)
            n_wrong += memory[i] != y[i / rows[r].row_bytes * 20 + i % rows[r].row_bytes];
        for (int i = 35; rows[r].format == DET_NV12 && i < 59; i++)
            n_wrong += memory[i] != cbcr[(i - 35) / 6 * 30 + (i - 35) % 6];
        CHECK_MSG(n_wrong == 0 && memory[rows[r].n_bytes] == 0, "format %d: %d bytes wrong", rows[r].format, n_wrong);
        CHECK(image.planes[0] == memory && image.strides[0] == rows[r].row_bytes && image.width == 5);
        CHECK(rows[r].format != DET_NV12 || (image.planes[1] == memory + 35 && image.strides[1] == 6));
    }
}

int main(void) {
    test_sizes();
    test_blocks();
    test_copies();
    return check_report("staging");
}
