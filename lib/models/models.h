/* The registry of networks. A network file includes only net.h, blocks.h and this. */
#ifndef DET_MODELS_H
#define DET_MODELS_H

#include "net.h"

/* Emits the network of net->weights->info's family and variant for an input of `shape`. */
det_status det_models_build(det_net *net, det_shape shape);

/* Each emits one family, and fails when it does not know the variant. */
void det_build_damofd(det_net *net, det_tensor_id x, const char *variant);
void det_build_scrfd(det_net *net, det_tensor_id x, const char *variant);
void det_build_damoyolo(det_net *net, det_tensor_id x, const char *variant);
void det_build_yolov5(det_net *net, det_tensor_id x, const char *variant);
void det_build_yolov8(det_net *net, det_tensor_id x, const char *variant);
void det_build_yolo11(det_net *net, det_tensor_id x, const char *variant);

/* For a family whose variants are rows: an unknown one becomes the net's error. */
void det_models_unknown_variant(det_net *net, const char *variant, const char *known);

#endif
