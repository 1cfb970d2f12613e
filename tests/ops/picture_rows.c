/* Rows for pre-processing: every format, every way to resize, sizes that divide nothing. */
#include "rig.h"

#include "oracle.h"
#include "placement.h"
#include "random.h"

#include <math.h>
#include <stdlib.h>

static void emit(rig *r, const op_row *row) {
    rig_input(r, row->h, row->w, 3);
}

/* A plane of exactly its bytes, the last row without padding: a sanitizer sees what reads beyond. */
static void *random_plane(uint64_t *state, int row_bytes, int n_rows, int64_t stride) {
    size_t n_bytes = (size_t)(stride * (n_rows - 1) + row_bytes);
    uint8_t *plane = malloc(n_bytes);
    for (size_t i = 0; i < n_bytes; i++)
        plane[i] = (uint8_t)random_next(state);
    return plane;
}

/* Pictures of slightly different sizes, with rows that are padded by a few bytes. */
static void fill(rig *r, const op_row *row) {
    static const int pixel_bytes[] = {[DET_RGB8] = 3, [DET_BGR8] = 3, [DET_RGBA8] = 4, [DET_GRAY8] = 1, [DET_NV12] = 1};
    uint64_t state = random_from(row->what);
    for (int i = 0; i < RIG_BATCH; i++) {
        int w = DET_MAX(1, row->image_w - 3 * i), h = DET_MAX(1, row->image_h - 2 * i);
        det_image *image = &r->images[i];
        free((void *)(uintptr_t)image->planes[0]);
        free((void *)(uintptr_t)image->planes[1]);
        *image = (det_image){.width = w, .height = h, .format = row->format};
        int row_bytes = w * pixel_bytes[row->format];
        image->strides[0] = row_bytes + i;
        image->planes[0] = random_plane(&state, row_bytes, h, image->strides[0]);
        if (row->format == DET_NV12) {
            image->strides[1] = (w + 1) / 2 * 2 + 2 * i;
            image->planes[1] = random_plane(&state, (w + 1) / 2 * 2, (h + 1) / 2, image->strides[1]);
        }
        r->placements[i] = det_place(row->resize, w, h, row->w, row->h);
    }
}

/* In grey levels. */
static double error(const rig *r) {
    const op_row *row = r->row;
    size_t n = (size_t)row->h * (size_t)row->w * 3;
    double *theirs = malloc(n * sizeof *theirs), worst = 0;
    for (int picture = 0; picture < r->batch; picture++) {
        const float *ours = (const float *)r->step->output + (size_t)picture * n;
        oracle_preprocess(&r->images[picture], &r->placements[picture], &r->weights.weights.info, row->h, row->w, theirs);
        for (size_t i = 0; i < n; i++) {
            double difference = fabs((double)ours[i] - theirs[i]) / (double)row->scale;
            worst = difference <= worst ? worst : difference;
        }
    }
    free(theirs);
    return worst;
}

/* Within a thousandth of a grey level. */
#define PICTURE(what, ...)                                                                                             \
    { DET_OP_PREPROCESS, what, 1e-3, emit, fill, error, __VA_ARGS__ }
#define FACES .resize = DET_RESIZE_LETTERBOX_TOP, .mean = 127.5f, .scale = 1 / 128.0f
#define YOLO .resize = DET_RESIZE_LETTERBOX_CENTRE, .scale = 1 / 255.0f, .pad_value = 114
#define RAW .resize = DET_RESIZE_STRETCH, .scale = 1

const op_row picture_rows[] = {
    PICTURE("RGB as it is", .format = DET_RGB8, RAW, .h = 32, .w = 64, .image_h = 32, .image_w = 64),
    PICTURE("RGB stretched", .format = DET_RGB8, RAW, .h = 32, .w = 64, .image_h = 47, .image_w = 31),
    PICTURE("RGB to the top", .format = DET_RGB8, FACES, .h = 64, .w = 96, .image_h = 59, .image_w = 131),
    PICTURE("RGB to the middle", .format = DET_RGB8, YOLO, .h = 64, .w = 96, .image_h = 133, .image_w = 77),
    PICTURE("BGR stretched", .format = DET_BGR8, RAW, .h = 64, .w = 32, .image_h = 31, .image_w = 101),
    PICTURE("BGR to the top", .format = DET_BGR8, FACES, .h = 64, .w = 64, .image_h = 201, .image_w = 97),
    PICTURE("BGR to the middle", .format = DET_BGR8, YOLO, .h = 32, .w = 96, .image_h = 17, .image_w = 19),
    PICTURE("RGBA stretched", .format = DET_RGBA8, RAW, .h = 32, .w = 32, .image_h = 9, .image_w = 7),
    PICTURE("RGBA to the top", .format = DET_RGBA8, FACES, .h = 32, .w = 64, .image_h = 39, .image_w = 33),
    PICTURE("RGBA to the middle", .format = DET_RGBA8, YOLO, .h = 64, .w = 64, .image_h = 41, .image_w = 203),
    PICTURE("grey stretched", .format = DET_GRAY8, RAW, .h = 96, .w = 32, .image_h = 33, .image_w = 65),
    PICTURE("grey to the top", .format = DET_GRAY8, FACES, .h = 32, .w = 32, .image_h = 45, .image_w = 51),
    PICTURE("grey to the middle", .format = DET_GRAY8, YOLO, .h = 32, .w = 64, .image_h = 5, .image_w = 40),
    PICTURE("NV12 stretched", .format = DET_NV12, RAW, .h = 32, .w = 64, .image_h = 31, .image_w = 45),
    PICTURE("NV12 to the top", .format = DET_NV12, FACES, .h = 64, .w = 32, .image_h = 38, .image_w = 52),
    PICTURE("NV12 to the middle", .format = DET_NV12, YOLO, .h = 64, .w = 64, .image_h = 75, .image_w = 58),
    PICTURE("one RGB pixel", .format = DET_RGB8, FACES, .h = 32, .w = 32, .image_h = 1, .image_w = 1),
    PICTURE("one NV12 pixel", .format = DET_NV12, YOLO, .h = 32, .w = 32, .image_h = 1, .image_w = 1),
    PICTURE("a line across", .format = DET_GRAY8, FACES, .h = 64, .w = 64, .image_h = 1, .image_w = 16384),
    PICTURE("a line down", .format = DET_RGB8, YOLO, .h = 64, .w = 64, .image_h = 16384, .image_w = 1),
    PICTURE("the widest NV12", .format = DET_NV12, RAW, .h = 32, .w = 32, .image_h = 3, .image_w = 16384),
    PICTURE("the widest RGBA", .format = DET_RGBA8, RAW, .h = 32, .w = 32, .image_h = 2, .image_w = 16384),
};
const int n_picture_rows = DET_COUNT(picture_rows);
