#include "models.h"

#include <string.h>

static const struct {
    const char *family;
    void (*build)(det_net *net, det_tensor_id x, const char *variant);
} families[] = {
    {"damofd", det_build_damofd}, {"scrfd", det_build_scrfd},   {"damo-yolo", det_build_damoyolo},
    {"yolov5", det_build_yolov5}, {"yolov8", det_build_yolov8}, {"yolo11", det_build_yolo11},
};

det_status det_models_build(det_net *net, det_shape shape) {
    const det_model_info *info = &net->weights->info;
    for (size_t i = 0; i < DET_COUNT(families); i++) {
        if (!strcmp(info->family, families[i].family)) {
            families[i].build(net, det_preprocess(net, shape), info->variant);
            return net->status;
        }
    }
    DET_FAIL(DET_ERROR_UNSUPPORTED, "family '%s' is not one that this library knows", info->family);
}

void det_models_unknown_variant(det_net *net, const char *variant, const char *known) {
    if (net->status == DET_OK)
        net->status = det_fail(DET_ERROR_UNSUPPORTED, "variant '%s' of %s is none of %s", variant,
                               net->weights->info.family, known);
}
