/* The kernel that pre-processes, against the textbook: in 8-bit arithmetic to the bit, in float within a thousandth of a
 * grey level, with elements of two bytes to the nearest of them. */
#include "emulation.h"

#include "cuda/picture.h"

#include "check.h"
#include "oracle.h"
#include "placement.h"
#include "random.h"

#include <math.h>

enum { BATCH = 4 };

typedef struct row {
    const char *what;
    int32_t resize;
    int h, w;        /* of the network's input */
    int formats[3];  /* of the pictures */
    int sizes[3][2]; /* their heights and widths */
    float mean, scale, pad;
} row;

/* What the output looks like: c channels, every `stride` elements, `offset` elements into its memory. */
typedef struct layout {
    det_type type;
    int c, stride, offset;
} layout;

#define FACES .resize = DET_RESIZE_LETTERBOX_TOP, .mean = 127.5f, .scale = 1 / 128.0f
#define YOLO  .resize = DET_RESIZE_LETTERBOX_CENTRE, .scale = 1 / 255.0f, .pad = 114
#define RAW   .resize = DET_RESIZE_STRETCH, .scale = 1

static const row rows[] = {
    {"faces, packed", FACES, .h = 64, .w = 96, .formats = {DET_RGB8, DET_BGR8, DET_RGBA8}, .sizes = {{59, 131}, {201, 97}, {39, 33}}},
    {"faces, the rest", FACES, .h = 96, .w = 64, .formats = {DET_NV12, DET_GRAY8, DET_NV12}, .sizes = {{38, 53}, {45, 51}, {1, 1}}},
    {"objects, packed", YOLO, .h = 64, .w = 64, .formats = {DET_BGR8, DET_RGBA8, DET_RGB8}, .sizes = {{17, 19}, {41, 203}, {133, 77}}},
    {"objects, the rest", YOLO, .h = 32, .w = 96, .formats = {DET_GRAY8, DET_NV12, DET_RGB8}, .sizes = {{5, 40}, {75, 59}, {1, 1}}},
    {"stretched", RAW, .h = 32, .w = 64, .formats = {DET_RGB8, DET_RGBA8, DET_BGR8}, .sizes = {{32, 64}, {9, 7}, {31, 101}}},
    {"stretched, the rest", RAW, .h = 33, .w = 35, .formats = {DET_GRAY8, DET_NV12, DET_NV12}, .sizes = {{33, 65}, {31, 45}, {3, 1024}}},
    {"lines", YOLO, .h = 64, .w = 64, .formats = {DET_GRAY8, DET_RGB8, DET_RGBA8}, .sizes = {{1, 16384}, {16384, 1}, {2, 16384}}},
};

static const layout layouts[] = {
    {DET_TYPE_F32, 3, 3, 0}, {DET_TYPE_F32, 4, 4, 0},    {DET_TYPE_F16, 8, 8, 0}, {DET_TYPE_F16, 8, 24, 8},
    {DET_TYPE_F16, 5, 7, 1}, {DET_TYPE_BF16, 16, 16, 0}, {DET_TYPE_F32, 4, 8, 3},
};

/* A plane of exactly its bytes: what reads beyond would be seen. */
static void *random_plane(uint64_t *state, int row_bytes, int n_rows, int64_t stride) {
    size_t n_bytes = (size_t)(stride * (n_rows - 1) + row_bytes);
    uint8_t *plane = malloc(n_bytes);
    REQUIRE(plane, "no memory for %zu bytes", n_bytes);
    for (size_t i = 0; i < n_bytes; i++)
        plane[i] = (uint8_t)random_next(state);
    return plane;
}

static det_image random_image(uint64_t *state, int format, int h, int w, int slack) {
    static const int pixel_bytes[] = {[DET_RGB8] = 3, [DET_BGR8] = 3, [DET_RGBA8] = 4, [DET_GRAY8] = 1, [DET_NV12] = 1};
    det_image image = {.width = w, .height = h, .format = format, .strides = {w * pixel_bytes[format] + slack}};
    image.planes[0] = random_plane(state, w * pixel_bytes[format], h, image.strides[0]);
    if (format == DET_NV12) {
        int row_bytes = (w + 1) / 2 * 2;
        image.strides[1] = row_bytes + 2 * slack;
        image.planes[1] = random_plane(state, row_bytes, (h + 1) / 2, image.strides[1]);
    }
    return image;
}

/* The picture as elements: grey levels from the oracle, normalised in float as the kernel promises, and rounded. */
static float expected(const row *r, double grey, det_type type) {
    float x = ((float)grey - r->mean) * r->scale, y;
    char element[4];
    emulation_to_elements(type, &x, element, 1);
    emulation_from_elements(type, element, &y, 1);
    return y;
}

/* How far a value may be from the expected one: nothing in whole numbers. */
static float allowed(const row *r, det_type type, bool whole, float value) {
    float rounding = type == DET_TYPE_F32 ? 0 : type == DET_TYPE_F16 ? 0x1p-10f : 0x1p-7f;
    return whole ? 0 : 1e-3f * r->scale + rounding * fabsf(value);
}

static void check_picture(const row *r, const layout *l, int i, const det_image *image, const det_placement *p,
                          const void *memory) {
    det_model_info info = {.scale = 1, .resize = r->resize, .pad_value = r->pad};
    size_t n = (size_t)(r->h * r->w), wrong = 0;
    double *grey = malloc(n * 3 * sizeof *grey);
    bool whole = image && r->resize != DET_RESIZE_STRETCH && image->format != DET_NV12;
    for (size_t k = 0; k < 3 * n && !image; k++)
        grey[k] = r->pad;
    if (image)
        oracle_preprocess(image, p, &info, r->h, r->w, grey);
    size_t element = emulation_element_bytes(l->type);
    const char *pixels = (const char *)memory + ((size_t)l->offset + (size_t)i * n * (size_t)l->stride) * element;
    for (size_t at = 0; at < n; at++, pixels += (size_t)l->stride * element) {
        float x[32];
        emulation_from_elements(l->type, pixels, x, (size_t)l->c);
        for (int k = 0; k < l->c; k++) {
            float want = k < 3 ? expected(r, grey[3 * at + (size_t)k], l->type) : 0;
            wrong += !(fabsf(x[k] - want) <= (k < 3 ? allowed(r, l->type, whole || !image, want) : 0));
        }
        size_t rest = at + 1 < n ? (size_t)(l->stride - l->c) * element : 0;
        for (size_t k = 0; k < rest; k++) /* other tensors' */
            wrong += ((const uint8_t *)pixels)[(size_t)l->c * element + k] != 0xff;
    }
    CHECK_MSG(wrong == 0, "%s, picture %d, type %d, %d of %d channels: %zu wrong", r->what, i, (int)l->type, l->c,
              l->stride, wrong);
    free(grey);
}

static size_t output_bytes(const row *r, const layout *l) {
    size_t pixels = BATCH * (size_t)(r->h * r->w);
    return ((size_t)l->offset + (pixels - 1) * (size_t)l->stride + (size_t)l->c) * emulation_element_bytes(l->type);
}

/* Three pictures, and one that is not given. */
static void test_row(const row *r, const layout *l) {
    uint64_t state = random_from(r->what);
    det_image images[3];
    det_placement places[3];
    det_picture pictures[3];
    for (int i = 0; i < 3; i++) {
        images[i] = random_image(&state, r->formats[i], r->sizes[i][0], r->sizes[i][1], i);
        places[i] = det_place(r->resize, images[i].width, images[i].height, r->w, r->h);
        pictures[i] = det_picture_of(&images[i], &places[i]);
    }
    det_block block = {.pictures = pictures, .n = 3};
    void *memory[3] = {NULL};
    for (unsigned order = 0; order < 3; order++) {
        memory[order] = emulation_memory(output_bytes(r, l));
        det_view y = {(char *)memory[order] + (size_t)l->offset * emulation_element_bytes(l->type),
                      BATCH,
                      r->h,
                      r->w,
                      l->c,
                      l->stride};
        det_preprocess_args args = {l->type, y, r->resize != DET_RESIZE_STRETCH, r->mean, r->scale, r->pad};
        emulation_set_order(order);
        CHECK(det_launch_preprocess(&args, &block, NULL) == cudaSuccess);
        CHECK(emulation_memory_intact(memory[order]));
        CHECK(memcmp(memory[order], memory[0], output_bytes(r, l)) == 0);
    }
    for (int i = 0; i < BATCH; i++)
        check_picture(r, l, i, i < 3 ? &images[i] : NULL, &places[i < 3 ? i : 0], memory[0]);
    for (int i = 0; i < 3; i++) {
        emulation_memory_free(memory[i]);
        free((void *)(uintptr_t)images[i].planes[0]);
        free((void *)(uintptr_t)images[i].planes[1]);
    }
}

static void test_arguments(void) {
    float y[3 * 4];
    det_block block = {0};
    det_preprocess_args args = {DET_TYPE_F32, {y, 1, 2, 2, 3, 3}, 1, 0, 1, 0};
    CHECK(det_launch_preprocess(&args, &block, NULL) == cudaSuccess);
    CHECK(det_launch_preprocess(&args, NULL, NULL) == cudaErrorInvalidValue);
    args.y.c = 2;
    CHECK(det_launch_preprocess(&args, &block, NULL) == cudaErrorInvalidValue);
    args.y.c = 4; /* more than the stride */
    CHECK(det_launch_preprocess(&args, &block, NULL) == cudaErrorInvalidValue);
    args.y.c = 3;
    args.y.data = NULL;
    CHECK(det_launch_preprocess(&args, &block, NULL) == cudaErrorInvalidValue);
}

int main(void) {
    for (size_t i = 0; i < DET_COUNT(rows); i++) {
        for (size_t j = 0; j < DET_COUNT(layouts); j++)
            test_row(&rows[i], &layouts[j]);
    }
    test_arguments();
    const char *failure = emulation_failure();
    CHECK_MSG(!failure, "%s", failure);
    return check_report("preprocess");
}
