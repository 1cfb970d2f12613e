/* SCRFD: Sample and Computation Redistribution for Efficient Face Detection (InsightFace), ICLR 2022.
 *
 * DamoFD's neck and head on InsightFace's own backbones; every level has head weights of its own, and BatchNorm, which
 * comes folded, where DamoFD has GroupNorm. */
#include "blocks.h"
#include "models.h"

#include <string.h>

enum { N_STAGES = 4 };

/* MobileNetV1 of the 500M: a stem, then depthwise separable blocks numbered from 1. */
static det_tensor_id separable(det_net *net, det_tensor_id x, int block, int c_out, int stride) {
    x = det_depthwise_act(net, x, det_name("backbone.%d.depthwise", block).text, 3, stride, DET_ACT_RELU);
    return det_conv_act(net, x, det_name("backbone.%d.pointwise", block).text, c_out, 1, 1, DET_ACT_RELU);
}

static void mobilenet_v1(det_net *net, det_tensor_id x, det_tensor_id c[N_STAGES]) {
    static const struct { int c_out, n_blocks; } stages[N_STAGES] = {{40, 2}, {72, 3}, {152, 2}, {288, 6}};
    x = det_conv_act(net, x, "backbone.0", 16, 3, 2, DET_ACT_RELU);
    int block = 1;
    x = separable(net, x, block++, 16, 1);
    for (int stage = 0; stage < N_STAGES; stage++) {
        for (int i = 0; i < stages[stage].n_blocks; i++)
            x = separable(net, x, block++, stages[stage].c_out, i == 0 ? 2 : 1);
        c[stage] = x;
    }
}

/* ResNet-V1e of the 2.5G: a deep stem, and shortcuts that average before they project. */
static det_tensor_id basic_block(det_net *net, det_tensor_id x, const char *name, int c_out, int stride) {
    det_tensor_id shortcut = x;
    if (stride > 1)
        shortcut = det_conv_act(net, det_avg_pool(net, x, 2, 2), det_name("%.100s.downsample", name).text, c_out, 1, 1,
                                DET_ACT_NONE);
    x = det_conv_act(net, x, det_name("%.100s.conv1", name).text, c_out, 3, stride, DET_ACT_RELU);
    x = det_conv_act(net, x, det_name("%.100s.conv2", name).text, c_out, 3, 1, DET_ACT_NONE);
    return det_activation(net, det_add(net, x, shortcut), DET_ACT_RELU);
}

static void resnet_v1e(det_net *net, det_tensor_id x, det_tensor_id c[N_STAGES]) {
    static const struct { int c_out, n_blocks; } stages[N_STAGES] = {{24, 3}, {48, 5}, {48, 3}, {80, 2}};
    x = det_conv_act(net, x, "backbone.stem.0", 12, 3, 2, DET_ACT_RELU);
    x = det_conv_act(net, x, "backbone.stem.1", 12, 3, 1, DET_ACT_RELU);
    x = det_conv_act(net, x, "backbone.stem.2", 24, 3, 1, DET_ACT_RELU);
    x = det_max_pool(net, x, 2, 2, 0);
    for (int stage = 0; stage < N_STAGES; stage++) {
        for (int i = 0; i < stages[stage].n_blocks; i++)
            x = basic_block(net, x, det_name("backbone.layer%d.%d", stage + 1, i).text, stages[stage].c_out,
                            stage > 0 && i == 0 ? 2 : 1);
        c[stage] = x;
    }
}

static const struct variant_row {
    const char *name;
    void (*backbone)(det_net *net, det_tensor_id x, det_tensor_id c[N_STAGES]);
    int neck_width;
    det_scrfd_head head;
} variants[] = {
    {"500m-kps", mobilenet_v1, 16, {.width = 64, .n_convs = 2, .separable = true, .n_landmarks = 5}},
    {"2.5g-kps", resnet_v1e, 24, {.width = 64, .n_convs = 2, .scaled = true, .n_landmarks = 5}},
};

void det_build_scrfd(det_net *net, det_tensor_id x, const char *variant) {
    for (size_t i = 0; i < DET_COUNT(variants); i++) {
        if (strcmp(variant, variants[i].name) != 0)
            continue;
        det_tensor_id c[N_STAGES], p[DET_N_LEVELS];
        variants[i].backbone(net, x, c);
        det_pafpn(net, &c[1], variants[i].neck_width, p);
        det_scrfd_detect(net, p, &variants[i].head);
        return;
    }
    det_models_unknown_variant(net, variant, "500m-kps, 2.5g-kps");
}
