/* YOLOv8 and YOLO11. Layers carry their published numbers. Every variant and every fine-tuned or pruned model is one
 * of two graphs: widths, depths and the number of classes follow the checkpoint. */
#include "blocks.h"
#include "models.h"

enum { N_BINS = 16, HEAD_DIM = 64 };

static det_tensor_id conv(det_net *net, det_tensor_id x, int layer, int k, int stride) {
    return det_yolo_conv(net, x, det_name("model.%d", layer).text, k, stride);
}

static det_tensor_id concat(det_net *net, det_tensor_id x, det_tensor_id y) {
    return det_concat(net, (det_tensor_id[]){x, y}, 2);
}

/* ------------------------------------------------------------------------------------------------------- blocks */

/* C2f and C3k2: the second half of cv1's channels goes through a chain of blocks, and cv2 reads both halves and every
 * block's output. C2f's and the plain C3k2's blocks are bottlenecks, the other C3k2's are small C3s. */
static det_tensor_id c2f(det_net *net, det_tensor_id x, int layer, bool shortcut) {
    det_tensor_id outputs[DET_MAX_INPUTS];
    int n = 0;
    det_tensor_id both = det_yolo_conv(net, x, det_name("model.%d.cv1", layer).text, 1, 1);
    int half = det_channels(net, both) / 2;
    outputs[n++] = both;
    x = det_slice(net, both, half, half);
    for (int i = 0; n < DET_MAX_INPUTS; i++) {
        det_name_text block = det_name("model.%d.m.%d", layer, i);
        if (!det_net_has(net, det_name("%.100s.cv1", block.text).text))
            break;
        bool nested = det_net_has(net, det_name("%.100s.cv3", block.text).text);
        x = nested ? det_yolo_c3(net, x, block.text, 3, shortcut)
                   : det_yolo_bottleneck(net, x, block.text, 3, 3, shortcut);
        outputs[n++] = x;
    }
    return det_yolo_conv(net, det_concat(net, outputs, n), det_name("model.%d.cv2", layer).text, 1, 1);
}

static det_tensor_id bare_conv(det_net *net, det_tensor_id x, const char *name, const char *part) {
    return det_conv_act(net, x, det_name("%.100s.%s", name, part).text, 0, 1, 1, DET_ACT_NONE);
}

/* The channels [begin, begin + c) of every head of qkv, one after another. */
static det_tensor_id gather_heads(det_net *net, det_tensor_id qkv, const det_attention_params *p, int begin, int c) {
    det_tensor_id heads[DET_MAX_INPUTS];
    for (int i = 0; i < p->n_heads && i < DET_MAX_INPUTS; i++)
        heads[i] = det_slice(net, qkv, i * (2 * p->key_dim + p->value_dim) + begin, c);
    return det_concat(net, heads, p->n_heads);
}

/* PSABlock: attention, then a feed-forward of two convolutions, each with a shortcut. */
static det_tensor_id psa_block(det_net *net, det_tensor_id x, const char *name) {
    int c = det_channels(net, x);
    det_attention_params p = {.n_heads = DET_MAX(1, c / HEAD_DIM)};
    p.value_dim = c / p.n_heads;
    p.key_dim = p.value_dim / 2;
    det_tensor_id qkv = bare_conv(net, x, name, "attn.qkv");
    det_tensor_id mixed = det_attention(net, qkv, p);
    det_tensor_id values = gather_heads(net, qkv, &p, 2 * p.key_dim, p.value_dim);
    det_tensor_id position = det_depthwise_act(net, values, det_name("%.100s.attn.pe", name).text, 3, 1, DET_ACT_NONE);
    x = det_add(net, x, bare_conv(net, det_add(net, mixed, position), name, "attn.proj"));
    det_tensor_id y = det_yolo_conv(net, x, det_name("%.100s.ffn.0", name).text, 1, 1);
    return det_add(net, x, bare_conv(net, y, name, "ffn.1"));
}

/* C2PSA: attention on the second half of the channels. */
static det_tensor_id c2psa(det_net *net, det_tensor_id x, const char *name) {
    det_tensor_id both = det_yolo_conv(net, x, det_name("%.100s.cv1", name).text, 1, 1);
    int half = det_channels(net, both) / 2;
    det_tensor_id a = det_slice(net, both, 0, half), b = det_slice(net, both, half, half);
    for (int i = 0; det_net_has(net, det_name("%.100s.m.%d.attn.qkv", name, i).text); i++)
        b = psa_block(net, b, det_name("%.100s.m.%d", name, i).text);
    return det_yolo_conv(net, concat(net, a, b), det_name("%.100s.cv2", name).text, 1, 1);
}

/* The deep variants repeat the whole block: "model.10.0", "model.10.1". */
static det_tensor_id c2psa_layer(det_net *net, det_tensor_id x, int layer) {
    if (!det_net_has(net, det_name("model.%d.0.cv1", layer).text))
        return c2psa(net, x, det_name("model.%d", layer).text);
    for (int i = 0; det_net_has(net, det_name("model.%d.%d.cv1", layer, i).text); i++)
        x = c2psa(net, x, det_name("model.%d.%d", layer, i).text);
    return x;
}

/* ------------------------------------------------------------------------------------------------------- the head */

static det_tensor_id class_branch(det_net *net, det_tensor_id x, const char *name, bool separable) {
    for (int i = 0; i < 2; i++) {
        if (separable) {
            x = det_depthwise_act(net, x, det_name("%.100s.%d.0", name, i).text, 3, 1, DET_ACT_SILU);
            x = det_yolo_conv(net, x, det_name("%.100s.%d.1", name, i).text, 1, 1);
        } else {
            x = det_yolo_conv(net, x, det_name("%.100s.%d", name, i).text, 3, 1);
        }
    }
    return det_conv_act(net, x, det_name("%.100s.2", name).text, net->weights->info.n_classes, 1, 1, DET_ACT_NONE);
}

/* Per level, boxes as four distributions of 16 bins (cv2) and classes (cv3). */
static void detect(det_net *net, const det_tensor_id p[DET_N_LEVELS], int layer, bool separable) {
    det_tensor_id heads[2 * DET_N_LEVELS];
    for (int i = 0; i < DET_N_LEVELS; i++) {
        det_tensor_id x = p[i];
        for (int j = 0; j < 2; j++)
            x = det_yolo_conv(net, x, det_name("model.%d.cv2.%d.%d", layer, i, j).text, 3, 1);
        heads[2 * i] =
            det_conv_act(net, x, det_name("model.%d.cv2.%d.2", layer, i).text, 4 * N_BINS, 1, 1, DET_ACT_NONE);
        heads[2 * i + 1] = class_branch(net, p[i], det_name("model.%d.cv3.%d", layer, i).text, separable);
        det_net_tap(net, det_name("neck.p%d", i + 3).text, p[i]);
        det_net_tap(net, det_name("head.reg.p%d", i + 3).text, heads[2 * i]);
        det_net_tap(net, det_name("head.cls.p%d", i + 3).text, heads[2 * i + 1]);
    }
    det_decode_params params = {.n_levels = DET_N_LEVELS,
                                .n_classes = net->weights->info.n_classes,
                                .strides = {8, 16, 32},
                                .n_anchors = 1,
                                .cell_offset = 0.5f,
                                .n_bins = N_BINS};
    net->clip = true;
    det_decode(net, DET_OP_DECODE_DFL, heads, 2, params);
}

/* ------------------------------------------------------------------------------------------------------ networks */

/* The two differ by the attention after SPPF, which moves the later layers' numbers by one, by shortcuts in the neck, and
 * by the class branch. */
static void build(det_net *net, det_tensor_id x, bool yolo11) {
    int shift = yolo11 ? 1 : 0;
    x = conv(net, x, 0, 3, 2);
    x = conv(net, x, 1, 3, 2);
    x = c2f(net, x, 2, true);
    x = conv(net, x, 3, 3, 2);
    det_tensor_id c3 = x = c2f(net, x, 4, true);
    x = conv(net, x, 5, 3, 2);
    det_tensor_id c4 = x = c2f(net, x, 6, true);
    x = conv(net, x, 7, 3, 2);
    x = c2f(net, x, 8, true);
    det_tensor_id c5 = x = det_yolo_sppf(net, x, "model.9");
    if (yolo11)
        c5 = c2psa_layer(net, x, 10);

    det_tensor_id top4 = c2f(net, concat(net, det_upsample(net, c5), c4), 12 + shift, yolo11);
    det_tensor_id p3 = c2f(net, concat(net, det_upsample(net, top4), c3), 15 + shift, yolo11);
    det_tensor_id p4 = c2f(net, concat(net, conv(net, p3, 16 + shift, 3, 2), top4), 18 + shift, yolo11);
    det_tensor_id p5 = c2f(net, concat(net, conv(net, p4, 19 + shift, 3, 2), c5), 21 + shift, yolo11);
    detect(net, (det_tensor_id[]){p3, p4, p5}, 22 + shift, yolo11);
}

void det_build_yolov8(det_net *net, det_tensor_id x, const char *variant) {
    (void)variant;
    build(net, x, false);
}

void det_build_yolo11(det_net *net, det_tensor_id x, const char *variant) {
    (void)variant;
    build(net, x, true);
}
