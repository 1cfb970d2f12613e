/* The kernel that pre-processes against the authors' OpenCV: grey level by grey level where they letterbox, within one
 * grey level where they stretch (their 8 bits round) and within 0.001 of the exact bilinear. */
#include "emulation.h"

#include "cuda/picture.h"

#include "golden.h"
#include "placement.h"

#include <math.h>
#include <png.h>

static det_image read_png(const char *path) {
    png_image png = {.version = PNG_IMAGE_VERSION};
    REQUIRE(png_image_begin_read_from_file(&png, path), "%s: %s", path, png.message);
    png.format = PNG_FORMAT_RGB;
    void *pixels = malloc(PNG_IMAGE_SIZE(png));
    REQUIRE(png_image_finish_read(&png, NULL, pixels, 0, NULL), "%s: %s", path, png.message);
    return (det_image){.planes = {pixels},
                       .strides = {3 * (int64_t)png.width},
                       .width = (int32_t)png.width,
                       .height = (int32_t)png.height,
                       .format = DET_RGB8};
}

typedef struct pipeline {
    int32_t resize;
    float mean, scale, pad;
    struct {
        const char *name;
        double tolerance; /* grey levels; normalised in another order, float rounds differently */
    } references[2];
} pipeline;

static const pipeline pipelines[] = {
    {DET_RESIZE_LETTERBOX_TOP, 127.5f, 1 / 128.0f, 0, {{"scrfd", 1e-3}}},
    {DET_RESIZE_LETTERBOX_CENTRE, 0, 1 / 255.0f, 114, {{"letterbox", 1e-3}}},
    {DET_RESIZE_STRETCH, 0, 1, 0, {{"stretch", 1}, {"stretch.exact", 1e-3}}},
};

/* Largest difference of pixels [h, w, 4] from a [3, h, w] reference, in grey levels. */
static double difference(const float *ours, const tensor *theirs, float scale) {
    int n = theirs->shape[1] * theirs->shape[2];
    double worst = 0;
    for (int i = 0; i < 3 * n; i++) {
        double d = fabs((double)ours[i % n * 4 + i / n] - (double)theirs->values[i]) / (double)scale;
        worst = d <= worst ? worst : d;
    }
    return worst;
}

static void test_pipeline(const tensor_file *file, const char *name, const det_image *image, const pipeline *p) {
    tensor first = tensor_find(file, det_name("%s.%s", name, p->references[0].name).text);
    REQUIRE(first.n_dims == 3, "no %s.%s", name, p->references[0].name);
    int h = first.shape[1], w = first.shape[2];
    det_placement place = det_place(p->resize, image->width, image->height, w, h);
    det_picture picture = det_picture_of(image, &place);
    det_block block = {.pictures = &picture, .n = 1};
    float *y = emulation_memory((size_t)(h * w) * 4 * sizeof *y);
    det_preprocess_args args = {DET_TYPE_F32, {y, 1, h, w, 4, 4}, p->resize != DET_RESIZE_STRETCH,
                                p->mean,      p->scale,           p->pad};
    CHECK(det_launch_preprocess(&args, &block, NULL) == cudaSuccess);
    for (size_t i = 0; i < DET_COUNT(p->references) && p->references[i].name; i++) {
        tensor theirs = tensor_find(file, det_name("%s.%s", name, p->references[i].name).text);
        REQUIRE(theirs.n_values == 3 * (int64_t)h * w, "no %s.%s", name, p->references[i].name);
        double d = difference(y, &theirs, p->scale);
        printf("  %-9s %-13s %.5f grey levels\n", name, p->references[i].name, d);
        CHECK_MSG(d <= p->references[i].tolerance, "%s.%s differs by %g grey levels", name, p->references[i].name, d);
    }
    CHECK(emulation_memory_intact(y));
    emulation_memory_free(y);
}

int main(void) {
    static const char *const names[] = {"landscape", "portrait", "up", "same", "odd"};
    tensor_file file = tensor_file_open(golden_path("ops/preprocess.safetensors").text);
    for (size_t i = 0; i < DET_COUNT(names); i++) {
        det_image image = read_png(golden_path(det_name("ops/%s.png", names[i]).text).text);
        for (size_t j = 0; j < DET_COUNT(pipelines); j++)
            test_pipeline(&file, names[i], &image, &pipelines[j]);
        free((void *)(uintptr_t)image.planes[0]);
    }
    tensor_file_close(&file);
    return check_report("golden_preprocess");
}
