/* The smallest real program: reads a PPM picture and prints what a model finds in it.
 *
 *     minimal MODEL.safetensors PICTURE.ppm */
#include <libdetect/detect.h>

#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const char *why) {
    fprintf(stderr, "minimal: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

int main(int argc, char **argv) {
    enum { MAX_OBJECTS = 100 };
    if (argc != 3)
        return fail("usage", "minimal MODEL.safetensors PICTURE.ppm");

    int width, height;
    FILE *file = fopen(argv[2], "rb");
    if (file == NULL || fscanf(file, "P6 %5d %5d 255%*1[ \n]", &width, &height) != 2 || width < 1 || height < 1)
        return fail(argv[2], "cannot be read as a PPM picture");
    size_t n_bytes = 3 * (size_t)width * (size_t)height;
    unsigned char *pixels = malloc(n_bytes);
    if (pixels == NULL || fread(pixels, 1, n_bytes, file) != n_bytes)
        return fail(argv[2], "is shorter than its size says");
    fclose(file);

    det_model *model;
    det_context *context;
    if (det_model_open(argv[1], &model) != DET_OK || det_context_create(model, NULL, &context) != DET_OK)
        return fail(argv[1], det_last_error());

    det_image image = {
        .planes = {pixels}, .strides = {3 * (int64_t)width}, .width = width, .height = height, .format = DET_RGB8};
    det_object objects[MAX_OBJECTS];
    int32_t n_objects;
    det_output output = {
        .struct_size = sizeof output, .objects = objects, .counts = &n_objects, .max_objects = MAX_OBJECTS};
    if (det_run(context, &image, 1, &output) != DET_OK)
        return fail(argv[2], det_last_error());
    for (int32_t i = 0; i < n_objects; i++)
        printf("class %d  score %.3f  box %.1f %.1f %.1f %.1f\n", (int)objects[i].class_id, (double)objects[i].score,
               (double)objects[i].x1, (double)objects[i].y1, (double)objects[i].x2, (double)objects[i].y2);

    det_context_destroy(context);
    det_model_close(model);
    free(pixels);
    return EXIT_SUCCESS;
}
