#include "blocks.h"

det_tensor_id det_conv_act(det_net *net, det_tensor_id x, const char *name, int c_out, int k, int stride, det_act act) {
    return det_conv2d(net, x, name, c_out, (det_conv_options){.k = k, .stride = stride, .act = act});
}

int det_channels(const det_net *net, det_tensor_id x) {
    return x == DET_NO_TENSOR ? 0 : net->tensors[x].shape.c;
}

det_tensor_id det_depthwise_act(det_net *net, det_tensor_id x, const char *name, int k, int stride, det_act act) {
    int c = det_channels(net, x);
    return det_conv2d(net, x, name, c, (det_conv_options){.k = k, .stride = stride, .groups = c, .act = act});
}

det_tensor_id det_yolo_conv(det_net *net, det_tensor_id x, const char *name, int k, int stride) {
    return det_conv_act(net, x, name, 0, k, stride, DET_ACT_SILU);
}

det_tensor_id det_yolo_bottleneck(det_net *net, det_tensor_id x, const char *name, int k1, int k2, bool shortcut) {
    det_tensor_id y = det_yolo_conv(net, x, det_name("%.100s.cv1", name).text, k1, 1);
    y = det_yolo_conv(net, y, det_name("%.100s.cv2", name).text, k2, 1);
    return shortcut && det_channels(net, x) == det_channels(net, y) ? det_add(net, x, y) : y;
}

det_tensor_id det_yolo_c3(det_net *net, det_tensor_id x, const char *name, int k1, bool shortcut) {
    det_tensor_id y = det_yolo_conv(net, x, det_name("%.100s.cv1", name).text, 1, 1);
    for (int i = 0; det_net_has(net, det_name("%.100s.m.%d.cv1", name, i).text); i++)
        y = det_yolo_bottleneck(net, y, det_name("%.100s.m.%d", name, i).text, k1, 3, shortcut);
    det_tensor_id halves[] = {y, det_yolo_conv(net, x, det_name("%.100s.cv2", name).text, 1, 1)};
    return det_yolo_conv(net, det_concat(net, halves, 2), det_name("%.100s.cv3", name).text, 1, 1);
}

det_tensor_id det_yolo_sppf(det_net *net, det_tensor_id x, const char *name) {
    det_tensor_id pooled[4] = {det_yolo_conv(net, x, det_name("%.100s.cv1", name).text, 1, 1)};
    for (int i = 1; i < 4; i++)
        pooled[i] = det_max_pool(net, pooled[i - 1], 5, 1, 2);
    return det_yolo_conv(net, det_concat(net, pooled, 4), det_name("%.100s.cv2", name).text, 1, 1);
}

/* A bare convolution "neck.<list>.<i>". */
static det_tensor_id neck_conv(det_net *net, det_tensor_id x, const char *list, int i, int width, int k, int stride) {
    return det_conv_act(net, x, det_name("neck.%s.%d", list, i).text, width, k, stride, DET_ACT_NONE);
}

void det_pafpn(det_net *net, const det_tensor_id c[DET_N_LEVELS], int width, det_tensor_id p[DET_N_LEVELS]) {
    det_tensor_id lateral[DET_N_LEVELS];
    for (int i = 0; i < DET_N_LEVELS; i++)
        lateral[i] = neck_conv(net, c[i], "lateral_convs", i, width, 1, 1);
    for (int i = DET_N_LEVELS - 1; i > 0; i--)
        lateral[i - 1] = det_add(net, lateral[i - 1], det_upsample(net, lateral[i]));
    for (int i = 0; i < DET_N_LEVELS; i++)
        p[i] = neck_conv(net, lateral[i], "fpn_convs", i, width, 3, 1);
    for (int i = 0; i + 1 < DET_N_LEVELS; i++)
        p[i + 1] = det_add(net, p[i + 1], neck_conv(net, p[i], "downsample_convs", i, width, 3, 2));
    for (int i = 1; i < DET_N_LEVELS; i++)
        p[i] = neck_conv(net, p[i], "pafpn_convs", i - 1, width, 3, 1);
    for (int i = 0; i < DET_N_LEVELS; i++)
        det_net_tap(net, det_name("neck.p%d", i + 3).text, p[i]);
}

/* One convolution of the tower with its norm and ReLU. */
static det_tensor_id tower_conv(det_net *net, det_tensor_id x, const char *name, int c_out, int k, int groups,
                                int n_groups) {
    det_conv_options options = {.k = k, .groups = groups, .no_bias = n_groups > 0};
    x = det_conv2d(net, x, name, c_out, options);
    if (n_groups)
        x = det_group_norm(net, x, det_name("%s.gn", name).text, n_groups, 1e-5f);
    return det_activation(net, x, DET_ACT_RELU);
}

static det_tensor_id tower(det_net *net, det_tensor_id x, int level, const det_scrfd_head *head) {
    for (int i = 0; i < head->n_convs; i++) {
        det_name_text name = det_name("bbox_head.cls_stride_convs.%d.%d", level, i);
        if (head->separable) {
            int c = det_channels(net, x);
            x = tower_conv(net, x, det_name("%.100s.depthwise_conv", name.text).text, c, 3, c, head->n_groups);
            x = tower_conv(net, x, det_name("%.100s.pointwise_conv", name.text).text, head->width, 1, 1,
                           head->n_groups);
        } else {
            x = tower_conv(net, x, name.text, head->width, 3, 1, head->n_groups);
        }
    }
    return x;
}

void det_scrfd_detect(det_net *net, const det_tensor_id p[DET_N_LEVELS], const det_scrfd_head *head) {
    det_tensor_id heads[DET_N_LEVELS];
    det_decode_params params = {.n_levels = DET_N_LEVELS,
                                .n_classes = 1,
                                .strides = {8, 16, 32},
                                .n_anchors = 2,
                                .n_landmarks = head->n_landmarks};
    for (int i = 0; i < DET_N_LEVELS; i++) {
        int level = head->shared ? 0 : i;
        det_tensor_id x = tower(net, p[i], level, head);
        det_name_text names[] = {det_name("bbox_head.stride_cls.%d", level), det_name("bbox_head.stride_reg.%d", level),
                                 det_name("bbox_head.stride_kps.%d", level)};
        int c_outs[] = {2 * 1, 2 * 4, 2 * 2 * head->n_landmarks};
        heads[i] = det_conv2d_parts(net, x, head->n_landmarks ? 3 : 2, names, c_outs, (det_conv_options){.k = 3});
        if (head->scaled)
            params.scales[i] = det_param(net, det_name("bbox_head.scales.%d.scale", i).text, NULL, 0);
        det_net_tap(net, det_name("head.p%d", i + 3).text, heads[i]);
    }
    det_decode(net, DET_OP_DECODE_SCRFD, heads, 1, params);
}
