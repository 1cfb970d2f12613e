/* Asynchronous runs on two streams: while one context's picture is under way, the next is read and sent to the other.
 *
 *     stream MODEL.safetensors PICTURE...
 *
 * Each context has a stream of its own, which NULL stands for; two contexts are two streams, and on a GPU the upload of
 * one picture overlaps the network of the other. On the CPU a run is complete when the call returns, and the same program
 * works. One that has CUDA streams already passes a cudaStream_t instead of NULL and waits for that. */
#include "image_io.h"

#include <libdetect/detect.h>

#include <stdio.h>
#include <stdlib.h>

enum { N_STREAMS = 2, MAX_OBJECTS = 100 };

/* A context and all that a run of it borrows until it is done: pixels, and where its results go. */
typedef struct lane {
    det_context *context;
    const char *path; /* of the picture under way; NULL: none */
    image picture;
    det_image seen;
    det_object objects[MAX_OBJECTS];
    int32_t n_objects;
} lane;

static int complain(const char *what, const char *why) {
    fprintf(stderr, "stream: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* Reads a picture and starts its run. */
static int start(lane *l, const char *path) {
    image_limits limits = image_default_limits();
    char error[IMAGE_ERROR_SIZE];
    if (!image_load(path, &limits, &l->picture, error))
        return complain(path, error);
    l->path = path;
    l->seen = (det_image){.planes = {l->picture.pixels},
                          .strides = {3 * (int64_t)l->picture.width},
                          .width = l->picture.width,
                          .height = l->picture.height,
                          .format = DET_RGB8};
    const det_output output = {
        .struct_size = sizeof output, .objects = l->objects, .counts = &l->n_objects, .max_objects = MAX_OBJECTS};
    if (det_run_async(l->context, &l->seen, 1, &output, NULL) != DET_OK)
        return complain(path, det_last_error());
    return EXIT_SUCCESS;
}

/* Waits for the lane's run and prints what it found. Asking for a run's times waits for its end. */
static int finish(lane *l) {
    if (l->path == NULL)
        return EXIT_SUCCESS;
    det_profile profile = {.struct_size = sizeof profile};
    det_status status = det_context_get_profile(l->context, &profile);
    if (status != DET_OK)
        complain(l->path, det_last_error());
    else
        printf("%s: %d object%s\n", l->path, (int)l->n_objects, l->n_objects == 1 ? "" : "s");
    l->path = NULL;
    image_free(&l->picture);
    return status == DET_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
    static lane lanes[N_STREAMS];
    if (argc < 3)
        return complain("usage", "stream MODEL.safetensors PICTURE...");
    det_model *model;
    if (det_model_open(argv[1], &model) != DET_OK)
        return complain(argv[1], det_last_error());
    int outcome = EXIT_SUCCESS;
    for (int i = 0; i < N_STREAMS && outcome == EXIT_SUCCESS; i++)
        if (det_context_create(model, NULL, &lanes[i].context) != DET_OK)
            outcome = complain(argv[1], det_last_error());

    /* Lane by lane in turn, so that results come in the order of the pictures. */
    for (int i = 2; i < argc && outcome == EXIT_SUCCESS; i++) {
        lane *next = &lanes[i % N_STREAMS];
        outcome = finish(next);
        if (outcome == EXIT_SUCCESS)
            outcome = start(next, argv[i]);
    }
    for (int i = 0; i < N_STREAMS && outcome == EXIT_SUCCESS; i++)
        outcome = finish(&lanes[(argc + i) % N_STREAMS]);

    for (int i = 0; i < N_STREAMS; i++) {
        det_context_destroy(lanes[i].context); /* waits for what is still under way */
        image_free(&lanes[i].picture);
    }
    det_model_close(model);
    return outcome;
}
