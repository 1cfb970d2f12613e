/* Pre-processing against the authors': where they letterbox, grey level by grey level what their OpenCV makes; where
 * they stretch, within one grey level of OpenCV, which rounds to 8 bits, and within 0.001 of the exact bilinear. The
 * letterbox's place and scale are exact. */
#include "golden.h"

#include "placement.h"
#include "rig.h"
#include "test_device.h"

#include <math.h>
#include <png.h>

static det_image read_png(const char *path) {
    png_image png = {.version = PNG_IMAGE_VERSION};
    REQUIRE(png_image_begin_read_from_file(&png, path), "%s: %s", path, png.message);
    png.format = PNG_FORMAT_RGB;
    void *pixels = malloc(PNG_IMAGE_SIZE(png));
    REQUIRE(png_image_finish_read(&png, NULL, pixels, 0, NULL), "%s: %s", path, png.message);
    det_image image = {.planes = {pixels}, .strides = {3 * (int64_t)png.width}, .format = DET_RGB8};
    image.width = (int32_t)png.width;
    image.height = (int32_t)png.height;
    return image;
}

static void emit(rig *r, const op_row *row) {
    rig_input(r, row->h, row->w, 3);
}

/* Largest difference from a [3, h, w] reference, in grey levels. */
static double difference(const float *ours, const tensor *theirs, float scale) {
    int h = theirs->shape[1], w = theirs->shape[2];
    double worst = 0;
    for (int i = 0; i < h * w; i++) {
        for (int k = 0; k < 3; k++) {
            double d = fabs((double)ours[3 * i + k] - (double)theirs->values[k * h * w + i]) / (double)scale;
            worst = d <= worst ? worst : d;
        }
    }
    return worst;
}

/* A way of pre-processing, the references to compare with, and how far from each the result may be. Normalised in
 * another order, float rounds differently: 0.001 stands for the same grey level. */
typedef struct pipeline {
    int32_t resize;
    float mean, scale, pad;
    struct {
        const char *name;
        double tolerance;
    } references[2];
} pipeline;

static const pipeline pipelines[] = {
    {DET_RESIZE_LETTERBOX_TOP, 127.5f, 1 / 128.0f, 0, {{"scrfd", 1e-3}}},
    {DET_RESIZE_LETTERBOX_CENTRE, 0, 1 / 255.0f, 114, {{"letterbox", 1e-3}}},
    {DET_RESIZE_STRETCH, 0, 1, 0, {{"stretch", 1}, {"stretch.exact", 1e-3}}},
};

static void test_pipeline(const tensor_file *file, const char *name, const pipeline *p, const det_context_options *options) {
    tensor first = tensor_find(file, det_name("%s.%s", name, p->references[0].name).text);
    REQUIRE(first.n_dims == 3, "no %s.%s", name, p->references[0].name);
    op_row row = {DET_OP_PREPROCESS, name, .emit = emit, .h = first.shape[1], .w = first.shape[2], .resize = p->resize};
    row.mean = p->mean;
    row.scale = p->scale;
    row.pad_value = p->pad;
    rig r;
    rig_open(&r, &row, options, 1);
    r.images[0] = read_png(golden_path(det_name("ops/%s.png", name).text).text);
    r.placements[0] = det_place(p->resize, r.images[0].width, r.images[0].height, row.w, row.h);
    CHECK(rig_run(&r, 1) == DET_OK);
    for (size_t i = 0; i < DET_COUNT(p->references) && p->references[i].name; i++) {
        tensor theirs = tensor_find(file, det_name("%s.%s", name, p->references[i].name).text);
        double d = difference(r.step->output, &theirs, p->scale);
        printf("  %-9s %-13s %.5f grey levels\n", name, p->references[i].name, d);
        CHECK_MSG(d <= p->references[i].tolerance, "%s.%s differs by %g grey levels", name, p->references[i].name, d);
    }
    rig_close(&r);
}

/* [scale, x, y, w, h] of the letterbox in the middle, and the scale of the one at the top. */
static void test_placements(const tensor_file *file, const char *name) {
    tensor theirs = tensor_find(file, det_name("%s.letterbox.placement", name).text);
    tensor scale = tensor_find(file, det_name("%s.scrfd.scale", name).text);
    tensor input = tensor_find(file, det_name("%s.letterbox", name).text);
    REQUIRE(theirs.n_values == 5 && scale.n_values == 1 && input.n_dims == 3, "%s has no placement", name);
    det_image image = read_png(golden_path(det_name("ops/%s.png", name).text).text);
    det_placement p = det_place(DET_RESIZE_LETTERBOX_CENTRE, image.width, image.height, input.shape[2], input.shape[1]);
    const float ours[] = {p.scale_x, (float)p.x, (float)p.y, (float)p.w, (float)p.h};
    for (int i = 0; i < 5; i++)
        CHECK_MSG(ours[i] == theirs.values[i], "%s: placement[%d] is %g, not %g", name, i, (double)ours[i], (double)theirs.values[i]);
    CHECK(p.scale_x == p.scale_y && p.offset_x == (float)p.x && p.offset_y == (float)p.y);
    p = det_place(DET_RESIZE_LETTERBOX_TOP, image.width, image.height, input.shape[2], input.shape[1]);
    CHECK(p.scale_x == scale.values[0] && p.scale_y == scale.values[0] && p.x == 0 && p.y == 0);
    free((void *)(uintptr_t)image.planes[0]);
}

int main(int argc, char **argv) {
    static const char *const pictures[] = {"landscape", "portrait", "up", "same", "odd"};
    tensor_file file = tensor_file_open(golden_path("ops/preprocess.safetensors").text);
    det_context_options options;
    test_device_options(argc, argv, &options);
    for (size_t i = 0; i < DET_COUNT(pictures); i++) {
        test_placements(&file, pictures[i]);
        for (size_t j = 0; j < DET_COUNT(pipelines); j++)
            test_pipeline(&file, pictures[i], &pipelines[j], &options);
    }
    tensor_file_close(&file);
    return check_report("golden_preprocess");
}
