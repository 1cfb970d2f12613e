/* YOLOv5, releases 6.x and 7.0. Layers carry their published numbers. Every variant and every fine-tuned or pruned
 * model is this one graph: widths, depths and the number of classes follow the checkpoint. */
#include "blocks.h"
#include "models.h"

static det_tensor_id conv(det_net *net, det_tensor_id x, int layer, int k, int stride) {
    return det_yolo_conv(net, x, det_name("model.%d", layer).text, k, stride);
}

static det_tensor_id c3(det_net *net, det_tensor_id x, int layer, bool shortcut) {
    return det_yolo_c3(net, x, det_name("model.%d", layer).text, 1, shortcut);
}

static det_tensor_id concat(det_net *net, det_tensor_id x, det_tensor_id y) {
    return det_concat(net, (det_tensor_id[]){x, y}, 2);
}

static void detect(det_net *net, const det_tensor_id p[DET_N_LEVELS]) {
    int n_classes = net->weights->info.n_classes;
    det_decode_params params = {
        .n_levels = DET_N_LEVELS, .n_classes = n_classes, .strides = {8, 16, 32}, .n_anchors = 3};
    params.anchors = det_param(net, "model.24.anchors", (int64_t[]){DET_N_LEVELS, params.n_anchors, 2}, 3);
    det_tensor_id heads[DET_N_LEVELS];
    for (int i = 0; i < DET_N_LEVELS; i++) {
        heads[i] = det_conv_act(net, p[i], det_name("model.24.m.%d", i).text, params.n_anchors * (5 + n_classes), 1, 1,
                                DET_ACT_NONE);
        det_net_tap(net, det_name("neck.p%d", i + 3).text, p[i]);
        det_net_tap(net, det_name("head.p%d", i + 3).text, heads[i]);
    }
    det_decode(net, DET_OP_DECODE_YOLOV5, heads, 1, params);
}

void det_build_yolov5(det_net *net, det_tensor_id x, const char *variant) {
    (void)variant;
    x = det_conv2d(net, x, "model.0", 0, (det_conv_options){.k = 6, .stride = 2, .pad = 2, .act = DET_ACT_SILU});
    x = conv(net, x, 1, 3, 2);
    x = c3(net, x, 2, true);
    x = conv(net, x, 3, 3, 2);
    det_tensor_id c3_out = x = c3(net, x, 4, true);
    x = conv(net, x, 5, 3, 2);
    det_tensor_id c4_out = x = c3(net, x, 6, true);
    x = conv(net, x, 7, 3, 2);
    x = c3(net, x, 8, true);
    x = det_yolo_sppf(net, x, "model.9");

    det_tensor_id top5 = x = conv(net, x, 10, 1, 1);
    x = c3(net, concat(net, det_upsample(net, x), c4_out), 13, false);
    det_tensor_id top4 = x = conv(net, x, 14, 1, 1);
    det_tensor_id p3 = c3(net, concat(net, det_upsample(net, x), c3_out), 17, false);
    det_tensor_id p4 = c3(net, concat(net, conv(net, p3, 18, 3, 2), top4), 20, false);
    det_tensor_id p5 = c3(net, concat(net, conv(net, p4, 21, 3, 2), top5), 23, false);

    net->clip = true;
    detect(net, (det_tensor_id[]){p3, p4, p5});
}
