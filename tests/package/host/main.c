/* Prints what it was linked with, and the network of the model that it is given. */
#include <libdetect/detect.h>

#include <stdio.h>

int main(int argc, char **argv) {
    det_model *model;
    det_model_info info = {.struct_size = sizeof info};
    if (argc != 2 || det_model_open(argv[1], &model) != DET_OK || det_model_get_info(model, &info) != DET_OK)
        return fprintf(stderr, "%s\n", det_last_error()), 1;
    printf("%s\n%s\n", det_build_info(), info.family);
    det_model_close(model);
    return 0;
}
