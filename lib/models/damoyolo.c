/* DAMO-YOLO: A Report on Real-Time Object Detection Design, 2022.
 *
 * Three kinds of backbone that a search found (TinyNAS), one neck (RepGFPN), one head without layers of its own
 * (ZeroHead). RepConv comes folded into one 3x3 convolution. The kinds, and the published variants of each:
 *
 *     mobile    Ns Nm Nl    inverted residuals with a 5x5 depthwise middle; SiLU
 *     residual  T S         1x1, RepConv 3x3, add; ReLU
 *     csp       M L         cross stage partial wrappers around 3x3, RepConv 3x3, add; SiLU inside, ReLU around
 *
 * Widths, depths, distribution bins and the number of classes follow the checkpoint. */
#include "blocks.h"
#include "models.h"

enum { N_STAGES = 5, MAX_PARTS = DET_MAX_INPUTS };

/* Stride of each stage after the stem; the fourth stays at that of the third. */
static const int stage_strides[N_STAGES] = {2, 2, 2, 1, 2};

typedef struct maker {
    det_net *net;
    det_act act; /* of blocks and neck */
    bool mobile, csp;
} maker;

static det_tensor_id conv(const maker *m, det_tensor_id x, const char *name, int k, int stride, det_act act) {
    return det_conv_act(m->net, x, name, 0, k, stride, act);
}

static bool has(const maker *m, const char *name) {
    return det_net_has(m->net, name);
}

/* -------------------------------------------------------------------------------------------------------- blocks */

/* Expand, depthwise, project, add where nothing changes. The list's places: "<name>.0", ".3" and the last. */
static det_tensor_id mobile_block(const maker *m, det_tensor_id x, const char *name, int last, int stride) {
    det_tensor_id y = conv(m, x, det_name("%.100s.0", name).text, 1, 1, m->act);
    y = det_depthwise_act(m->net, y, det_name("%.100s.3", name).text, 5, stride, m->act);
    y = conv(m, y, det_name("%.100s.%d", name, last).text, 1, 1, DET_ACT_NONE);
    return stride == 1 && det_channels(m->net, x) == det_channels(m->net, y) ? det_add(m->net, y, x) : y;
}

/* 1x1, RepConv 3x3, add unless the stride changes the size. */
static det_tensor_id residual_block(const maker *m, det_tensor_id x, const char *name, int stride) {
    det_name_text projection = det_name("%.100s.residual_proj", name);
    det_tensor_id shortcut = has(m, projection.text) ? conv(m, x, projection.text, 1, 1, DET_ACT_NONE) : x;
    det_tensor_id y = conv(m, x, det_name("%.100s.conv1", name).text, 1, 1, m->act);
    y = conv(m, y, det_name("%.100s.conv2", name).text, 3, stride, DET_ACT_NONE);
    return det_activation(m->net, stride == 1 ? det_add(m->net, y, shortcut) : y, m->act);
}

/* Half the channels, and the largest values in windows of 5, 9 and 13: as pools of 5 in a row. */
static det_tensor_id spp(const maker *m, det_tensor_id x, const char *name) {
    det_tensor_id pooled[4] = {conv(m, x, det_name("%.100s.conv1", name).text, 1, 1, DET_ACT_SILU)};
    for (int i = 1; i < 4; i++)
        pooled[i] = det_max_pool(m->net, pooled[i - 1], 5, 1, 2);
    return conv(m, det_concat(m->net, pooled, 4), det_name("%.100s.conv2", name).text, 1, 1, DET_ACT_SILU);
}

/* ----------------------------------------------------------------------------------------------------- backbones */

/* Mobile and residual: outputs of stages 2, 4 and 5. In the last stage SPP is the second entry of the list. */
static void block_list_backbone(const maker *m, det_tensor_id x, det_tensor_id c[DET_N_LEVELS]) {
    int level = 0;
    if (!m->mobile)
        x = det_space_to_depth(m->net, x);
    x = conv(m, x, "backbone.block_list.0.conv", 3, m->mobile ? 2 : 1, m->act);
    for (int stage = 1; stage <= N_STAGES; stage++) {
        for (int i = 0;; i++) {
            det_name_text name = det_name("backbone.block_list.%d.block_list.%d", stage, i);
            int stride = i == 0 ? stage_strides[stage - 1] : 1;
            if (has(m, det_name("%.100s.conv.0", name.text).text))
                x = mobile_block(m, x, det_name("%.100s.conv", name.text).text, 7, stride);
            else if (!has(m, det_name("%.100s.conv1", name.text).text))
                break;
            else if (stage == N_STAGES && i == 1)
                x = spp(m, x, name.text);
            else
                x = residual_block(m, x, name.text, stride);
        }
        if (stage == 2 || stage == 4 || stage == 5)
            c[level++] = x;
    }
}

/* A wrapper: half the channels go round the blocks. The last has SPP before it splits. */
static det_tensor_id csp_stage(const maker *m, det_tensor_id x, int stage) {
    det_name_text name = det_name("backbone.csp_stage.%d", stage);
    x = conv(m, x, det_name("%.100s.downsampler.conv", name.text).text, 3, 2, DET_ACT_RELU);
    if (has(m, det_name("%.100s.spp.conv1", name.text).text))
        x = spp(m, x, det_name("%.100s.spp", name.text).text);
    det_tensor_id around = conv(m, x, det_name("%.100s.conv_shortcut.conv", name.text).text, 1, 1, DET_ACT_RELU);
    x = conv(m, x, det_name("%.100s.conv_start.conv", name.text).text, 1, 1, DET_ACT_RELU);
    for (int i = 0; has(m, det_name("%.100s.convstem.%d.conv1", name.text, i).text); i++) {
        det_tensor_id y = conv(m, x, det_name("%.100s.convstem.%d.conv1", name.text, i).text, 3, 1, m->act);
        y = conv(m, y, det_name("%.100s.convstem.%d.conv2", name.text, i).text, 3, 1, DET_ACT_NONE);
        x = det_activation(m->net, det_add(m->net, y, x), m->act);
    }
    x = det_concat(m->net, (det_tensor_id[]){x, around}, 2);
    return conv(m, x, det_name("%.100s.conv_fuse.conv", name.text).text, 1, 1, DET_ACT_RELU);
}

/* Csp: the third and fourth stages share a wrapper; outputs of wrappers 2, 3 and 4. */
static void csp_backbone(const maker *m, det_tensor_id x, det_tensor_id c[DET_N_LEVELS]) {
    x = conv(m, det_space_to_depth(m->net, x), "backbone.csp_stage.0.conv", 3, 1, m->act);
    for (int stage = 1; stage < N_STAGES; stage++) {
        x = csp_stage(m, x, stage);
        if (stage > 1)
            c[stage - 2] = x;
    }
}

/* ---------------------------------------------------------------------------------------------------------- neck */

static det_tensor_id merge_block(const maker *m, det_tensor_id x, const char *name) {
    if (m->mobile)
        return mobile_block(m, x, det_name("%.100s.conv.conv", name).text, 6, 1);
    det_tensor_id y = conv(m, x, det_name("%.100s.conv2", name).text, 3, 1, m->act);
    return det_add(m->net, x, conv(m, y, det_name("%.100s.conv1", name).text, 3, 1, m->act));
}

/* CSPStage: two halves; every block's output on the second is kept. */
static det_tensor_id merge(const maker *m, const char *name, const det_tensor_id *xs, int n) {
    det_tensor_id parts[MAX_PARTS], x = det_concat(m->net, xs, n);
    int n_parts = 0;
    parts[n_parts++] = conv(m, x, det_name("%.100s.conv1", name).text, 1, 1, m->act);
    x = conv(m, x, det_name("%.100s.conv2", name).text, 1, 1, m->act);
    for (int i = 0; n_parts < MAX_PARTS; i++) {
        det_name_text block = det_name("%.100s.convs.%d", name, i);
        if (!has(m, det_name("%.100s.%s", block.text, m->mobile ? "conv.conv.0" : "conv2").text))
            break;
        parts[n_parts++] = x = merge_block(m, x, block.text);
    }
    return conv(m, det_concat(m->net, parts, n_parts), det_name("%.100s.conv3", name).text, 1, 1, m->act);
}

static det_tensor_id down(const maker *m, det_tensor_id x, const char *name) {
    if (!m->mobile)
        return conv(m, x, name, 3, 2, m->act);
    x = det_depthwise_act(m->net, x, det_name("%.100s.depthwise", name).text, 3, 2, m->act);
    return conv(m, x, det_name("%.100s.pointwise", name).text, 1, 1, m->act);
}

/* RepGFPN, its tensors numbered as the authors do. */
static void gfpn(const maker *m, const det_tensor_id c[DET_N_LEVELS], det_tensor_id p[DET_N_LEVELS]) {
    det_net *net = m->net;
    det_tensor_id x3 = merge(m, "neck.merge_3", (det_tensor_id[]){c[2], down(m, c[1], "neck.bu_conv13")}, 2);
    det_tensor_id x4 =
        merge(m, "neck.merge_4", (det_tensor_id[]){c[1], down(m, c[0], "neck.bu_conv24"), det_upsample(net, x3)}, 3);
    det_tensor_id x5 = merge(m, "neck.merge_5", (det_tensor_id[]){c[0], det_upsample(net, x4)}, 2);
    det_tensor_id x7 = merge(m, "neck.merge_7", (det_tensor_id[]){x4, down(m, x5, "neck.bu_conv57")}, 2);
    det_tensor_id x6 = merge(m, "neck.merge_6",
                             (det_tensor_id[]){x3, down(m, x4, "neck.bu_conv46"), down(m, x7, "neck.bu_conv76")}, 3);
    p[0] = x5;
    p[1] = x7;
    p[2] = x6;
}

/* ---------------------------------------------------------------------------------------------------------- head */

static void zero_head(const maker *m, const det_tensor_id p[DET_N_LEVELS]) {
    det_net *net = m->net;
    det_tensor_id heads[2 * DET_N_LEVELS];
    det_decode_params params = {
        .n_levels = DET_N_LEVELS, .n_classes = net->weights->info.n_classes, .strides = {8, 16, 32}, .n_anchors = 1};
    int k = m->mobile ? 1 : 3;
    for (int i = 0; i < DET_N_LEVELS; i++) {
        heads[2 * i] = conv(m, p[i], det_name("head.gfl_reg.%d", i).text, k, 1, DET_ACT_NONE);
        heads[2 * i + 1] =
            det_conv_act(net, p[i], det_name("head.gfl_cls.%d", i).text, params.n_classes, k, 1, DET_ACT_NONE);
        params.scales[i] = det_param(net, det_name("head.scales.%d.scale", i).text, NULL, 0);
        det_net_tap(net, det_name("neck.p%d", i + 3).text, p[i]);
        det_net_tap(net, det_name("head.reg.p%d", i + 3).text, heads[2 * i]);
        det_net_tap(net, det_name("head.cls.p%d", i + 3).text, heads[2 * i + 1]);
    }
    params.n_bins = det_channels(net, heads[0]) / 4;
    det_decode(net, DET_OP_DECODE_DFL, heads, 2, params);
}

void det_build_damoyolo(det_net *net, det_tensor_id x, const char *variant) {
    (void)variant;
    maker m = {.net = net};
    m.csp = has(&m, "backbone.csp_stage.0.conv");
    m.mobile = has(&m, "backbone.block_list.1.block_list.0.conv.0");
    m.act = m.csp || m.mobile ? DET_ACT_SILU : DET_ACT_RELU;
    det_tensor_id c[DET_N_LEVELS], p[DET_N_LEVELS];
    (m.csp ? csp_backbone : block_list_backbone)(&m, x, c);
    for (int i = 0; i < DET_N_LEVELS; i++)
        det_net_tap(net, det_name("backbone.c%d", i + 3).text, c[i]);
    gfpn(&m, c, p);
    zero_head(&m, p);
}
