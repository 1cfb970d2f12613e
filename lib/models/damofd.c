/* DamoFD: Digging into Backbone Design on Face Detection, ICLR 2023.
 *
 * A searched backbone of super-blocks, a PAFPN neck and SCRFD's head. The backbones stand below in the paper's own
 * notation: block (in, out, stride, bottleneck, repeats). The stride applies in a super-block's first repeat. */
#include "blocks.h"
#include "models.h"

#include <string.h>

typedef enum block_kind {
    CONV_K3,     /* SuperConvK3BNRELU:   conv 3x3                                             */
    RES_KXKX,    /* SuperResKxKx:        conv kxk, conv kxk, add                              */
    RES_K1KXK1,  /* SuperResK1KxK1:      conv 1x1, conv kxk, conv 1x1, add; twice             */
    RES_IDWE1KX, /* SuperResIDWE1Kx:     conv 1x1, depthwise kxk, conv 1x1, add; twice        */
} block_kind;

typedef struct super_block {
    block_kind kind;
    int k, in, out, stride, bottleneck, repeats;
} super_block;

enum { N_SUPER_BLOCKS = 5 };

typedef struct variant_row {
    const char *name;
    super_block backbone[N_SUPER_BLOCKS];
    int neck_width;
    det_scrfd_head head;
} variant_row;

static const variant_row variants[] = {
    {"0.5g",
     {{CONV_K3, 3, 3, 32, 2, 32, 1},
      {RES_IDWE1KX, 3, 32, 32, 2, 8, 1},
      {RES_IDWE1KX, 7, 32, 64, 2, 40, 1},
      {RES_IDWE1KX, 7, 64, 120, 2, 40, 2},
      {RES_IDWE1KX, 5, 120, 160, 2, 120, 1}},
     16,
     {.width = 64, .n_convs = 2, .separable = true, .n_groups = 16}},
    {"2.5g",
     {{CONV_K3, 3, 3, 24, 2, 24, 2},
      {RES_KXKX, 3, 24, 32, 2, 24, 4},
      {RES_KXKX, 3, 32, 56, 2, 16, 4},
      {RES_KXKX, 5, 56, 88, 2, 8, 5},
      {RES_K1KXK1, 5, 88, 128, 2, 8, 4}},
     24,
     {.width = 64, .n_convs = 2, .n_groups = 16}},
    {"10g",
     {{CONV_K3, 3, 3, 56, 2, 56, 2},
      {RES_K1KXK1, 3, 56, 80, 2, 40, 5},
      {RES_K1KXK1, 5, 80, 112, 2, 32, 5},
      {RES_K1KXK1, 3, 112, 168, 2, 16, 4},
      {RES_KXKX, 7, 168, 256, 2, 8, 1}},
     56,
     {.width = 80, .n_convs = 3, .n_groups = 16}},
    {"34g",
     {{CONV_K3, 3, 3, 56, 2, 56, 2},
      {RES_K1KXK1, 3, 56, 224, 2, 80, 5},
      {RES_K1KXK1, 3, 224, 488, 2, 40, 6},
      {RES_K1KXK1, 3, 488, 624, 2, 72, 4},
      {RES_K1KXK1, 7, 624, 816, 2, 24, 3}},
     128,
     {.width = 256, .n_convs = 2, .n_groups = 32}},
};

/* The residual blocks: their convolutions, each named by its place in the published list of layers (conv, norm,
 * activation: three places each). The last has no activation before the addition. */
typedef struct residual_row {
    int k, c_out, stride;
    bool depthwise;
} residual_row;

static det_tensor_id residual(det_net *net, det_tensor_id x, const char *name, const residual_row *rows, int n,
                              bool project) {
    det_tensor_id shortcut = x;
    int c_out = rows[n - 1].c_out, stride = 1;
    for (int i = 0; i < n; i++)
        stride *= rows[i].stride;
    if (project || stride > 1 || det_channels(net, x) != c_out)
        shortcut = det_conv_act(net, x, det_name("%.100s.proj", name).text, c_out, 1, stride, DET_ACT_NONE);
    for (int i = 0; i < n; i++) {
        det_name_text layer = det_name("%.100s.%d", name, 3 * i);
        det_act act = i + 1 < n ? DET_ACT_RELU : DET_ACT_NONE;
        x = rows[i].depthwise ? det_depthwise_act(net, x, layer.text, rows[i].k, rows[i].stride, act)
                              : det_conv_act(net, x, layer.text, rows[i].c_out, rows[i].k, rows[i].stride, act);
    }
    return det_activation(net, det_add(net, x, shortcut), DET_ACT_RELU);
}

/* One super-block "backbone.<index>"; its layers are numbered through, activations counted. */
static det_tensor_id super_block_out(det_net *net, det_tensor_id x, int index, const super_block *b) {
    int layer = 0;
    for (int repeat = 0; repeat < b->repeats; repeat++) {
        int stride = repeat == 0 ? b->stride : 1, mid = b->bottleneck, k = b->k;
        bool first = repeat == 0;
        det_name_text name = det_name("backbone.%d.%d", index, layer);
        det_name_text second = det_name("backbone.%d.%d", index, layer + 2);
        switch (b->kind) {
        case CONV_K3:
            x = det_conv_act(net, x, name.text, b->out, k, stride, DET_ACT_RELU);
            layer += 3;
            break;
        case RES_KXKX:
            x = residual(net, x, name.text, (residual_row[]){{k, mid, stride, false}, {k, b->out, 1, false}}, 2, first);
            layer += 2;
            break;
        case RES_K1KXK1:
            for (int half = 0; half < 2; half++) {
                residual_row rows[] = {{1, mid, 1, false}, {k, mid, half ? 1 : stride, false}, {1, b->out, 1, false}};
                x = residual(net, x, half ? second.text : name.text, rows, 3, first && half == 0);
            }
            layer += 4;
            break;
        case RES_IDWE1KX: {
            residual_row narrow[] = {{1, mid, 1, false}, {k, mid, stride, true}, {1, mid, 1, false}};
            residual_row wide[] = {{1, b->out, 1, false}, {k, b->out, 1, true}, {1, b->out, 1, false}};
            x = residual(net, x, name.text, narrow, 3, first);
            x = residual(net, x, second.text, wide, 3, false);
            layer += 4;
            break;
        }
        }
    }
    return x;
}

static void build(det_net *net, det_tensor_id x, const variant_row *row, bool keypoints) {
    det_tensor_id c[N_SUPER_BLOCKS];
    for (int i = 0; i < N_SUPER_BLOCKS; i++) {
        x = c[i] = super_block_out(net, x, i, &row->backbone[i]);
        if (i > 0)
            det_net_tap(net, det_name("backbone.c%d", i + 1).text, x);
    }
    det_tensor_id p[DET_N_LEVELS];
    det_pafpn(net, &c[2], row->neck_width, p);
    det_scrfd_head head = row->head;
    head.shared = head.scaled = true;
    head.n_landmarks = keypoints ? 5 : 0;
    det_scrfd_detect(net, p, &head);
}

void det_build_damofd(det_net *net, det_tensor_id x, const char *variant) {
    for (size_t i = 0; i < DET_COUNT(variants); i++) {
        for (int keypoints = 0; keypoints < 2; keypoints++) {
            if (!strcmp(variant, det_name("%s%s", variants[i].name, keypoints ? "-kps" : "").text)) {
                build(net, x, &variants[i], keypoints);
                return;
            }
        }
    }
    det_models_unknown_variant(net, variant, "0.5g, 2.5g, 10g, 34g, each also with -kps");
}
