/* `detect models`: what networks there are. */
#include "commands.h"

#include <stdio.h>

/* Families in the order of the library's registry. */
static const struct model_row {
    const char *family, *variants, *finds, *input;
} model_rows[] = {
    {"damofd", "0.5g 2.5g 10g 34g", "faces", "640x640"},
    {"damofd", "0.5g-kps 2.5g-kps 10g-kps 34g-kps", "faces, 5 landmarks", "640x640"},
    {"scrfd", "500m-kps 2.5g-kps", "faces, 5 landmarks", "640x640"},
    {"damo-yolo", "t s m l", "objects", "640x640"},
    {"damo-yolo", "ns nm nl", "objects", "416x416"},
    {"yolov5", "n s m l x", "objects", "640x640"},
    {"yolov8", "n s m l x", "objects", "640x640"},
    {"yolo11", "n s m l x", "objects", "640x640"},
};

int command_models(void) {
    printf("%-10s %-34s %-19s %s\n", "FAMILY", "VARIANTS", "FINDS", "INPUT");
    for (size_t i = 0; i < sizeof model_rows / sizeof model_rows[0]; i++) {
        const struct model_row *row = &model_rows[i];
        printf("%-10s %-34s %-19s %s\n", row->family, row->variants, row->finds, row->input);
    }
    fputs("\nObjects are those of the weights' training, mostly the 80 classes of COCO. The input may be any\n"
          "multiple of 32 (--size).\n"
          "\n"
          "damofd-2.5g-kps and damofd-0.5g-kps come with libdetect, trained by the project; the first is what runs\n"
          "when no model is named, the second is smaller, faster and finds less (--model damofd-0.5g-kps).\n"
          "A model file is made from the authors' checkpoint (.pt, .pth, .onnx or .safetensors), whose licence\n"
          "goes with it:\n"
          "\n"
          "    python3 -m libdetect.convert CHECKPOINT MODEL.safetensors\n"
          "    detect info MODEL.safetensors\n",
          stdout);
    return EXIT_DONE;
}
