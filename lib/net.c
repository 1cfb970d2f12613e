#include "net.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const op_names[] = {
#define DET_OP(id, name) [DET_OP_##id] = #name,
#include "ops.def"
#undef DET_OP
};

const char *det_op_name(det_op op) {
    return op_names[op];
}

int64_t det_node_macs(const det_node *node, const det_shape *inputs, det_shape output) {
    int64_t pixels = (int64_t)output.n * output.h * output.w;
    if (node->op == DET_OP_CONV2D) {
        const det_conv_params *p = &node->u.conv;
        return pixels * output.c * (inputs[0].c / p->groups) * p->k * p->k;
    }
    if (node->op == DET_OP_ATTENTION) {
        const det_attention_params *p = &node->u.attention;
        return pixels * output.h * output.w * p->n_heads * (p->key_dim + p->value_dim);
    }
    return 0;
}

static int64_t weight_values(const det_weight *weight) {
    int64_t values = weight ? 1 : 0;
    for (int i = 0; weight && i < weight->n_dims; i++)
        values *= weight->shape[i];
    return values;
}

int64_t det_node_values(const det_node *node, const det_shape *inputs, det_shape output) {
    int64_t values = det_shape_values(output);
    for (int i = 0; i < node->n_inputs; i++)
        values += det_shape_values(inputs[i]);
    if (node->op == DET_OP_CONV2D)
        for (int i = 0; i < node->u.conv.n_parts; i++)
            values += weight_values(node->u.conv.parts[i].weight) + weight_values(node->u.conv.parts[i].bias);
    if (node->op == DET_OP_GROUP_NORM)
        values += weight_values(node->u.group_norm.weight) + weight_values(node->u.group_norm.bias);
    return values;
}

det_name_text det_name(const char *format, ...) {
    det_name_text name;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name.text, sizeof name.text, format, arguments);
    va_end(arguments);
    return name;
}

det_status det_net_open(det_net *net, const det_weights *weights) {
    net->weights = weights;
    net->weight_used = det_alloc_array((size_t)weights->n_tensors, sizeof *net->weight_used);
    return net->weight_used ? DET_OK : DET_ERROR_OUT_OF_MEMORY;
}

void det_net_close(det_net *net) {
    det_free(net->weight_used);
    det_free(net->missing);
    det_free(net->tensors);
    det_free(net->nodes);
    memset(net, 0, sizeof *net);
}

/* Names, as many as fit. */
typedef struct name_list {
    int n;
    char text[400];
} name_list;

static void list_name(name_list *list, const char *name) {
    size_t n = strlen(list->text);
    if (n + strlen(name) + 8 < sizeof list->text)
        snprintf(list->text + n, sizeof list->text - n, "%s%s", list->n ? ", " : "", name);
    list->n++;
}

det_status det_net_finish(det_net *net) {
    if (net->status != DET_OK)
        return net->status;
    name_list missing = {0}, unused = {0};
    for (int i = 0; i < net->n_missing; i++)
        list_name(&missing, net->missing[i].text);
    for (int i = 0; i < net->weights->n_tensors; i++) {
        if (!net->weight_used[i])
            list_name(&unused, net->weights->tensors[i].name);
    }
    if (missing.n || unused.n)
        net->status = det_fail(
            DET_ERROR_BAD_MODEL, "the tensors are not those of %s %s: %d missing%s%s%s, %d left over%s%s%s",
            net->weights->info.family, net->weights->info.variant, missing.n, missing.n ? " (" : "", missing.text,
            missing.n ? ")" : "", unused.n, unused.n ? " (" : "", unused.text, unused.n ? ")" : "");
    return net->status;
}

static void fail(det_net *net, det_status status) {
    if (net->status == DET_OK)
        net->status = status;
}

static bool failed(const det_net *net, det_tensor_id x) {
    return net->status != DET_OK || x == DET_NO_TENSOR;
}

static det_shape shape_of(const det_net *net, det_tensor_id x) {
    return net->tensors[x].shape;
}

static const det_weight *use_weight(det_net *net, const char *name) {
    const det_weight *weight = det_weights_find(net->weights, name);
    if (weight) {
        net->weight_used[weight - net->weights->tensors] = true;
        return weight;
    }
    for (int i = 0; i < net->n_missing; i++) {
        if (!strcmp(net->missing[i].text, name)) /* levels share it */
            return NULL;
    }
    det_status status = det_grow((void **)&net->missing, net->n_missing, &net->missing_capacity, sizeof *net->missing);
    if (status == DET_OK)
        net->missing[net->n_missing++] = det_name("%s", name);
    else
        fail(net, status);
    return NULL;
}

const det_weight *det_param(det_net *net, const char *name, const int64_t *shape, int n_dims) {
    if (net->status != DET_OK)
        return NULL;
    const det_weight *weight = use_weight(net, name);
    if (!weight)
        return NULL;
    bool same = weight->n_dims == n_dims;
    for (int i = 0; same && i < n_dims; i++)
        same = weight->shape[i] == shape[i];
    if (!same) {
        char has[64], wants[64];
        fail(net, det_fail(DET_ERROR_BAD_MODEL, "tensor '%s' has shape %s; %s %s needs %s", name,
                           det_shape_text(weight->shape, weight->n_dims, has), net->weights->info.family,
                           net->weights->info.variant, det_shape_text(shape, n_dims, wants)));
    }
    return weight;
}

bool det_net_has(const det_net *net, const char *name) {
    return det_weights_find(net->weights, det_name("%s.weight", name).text) != NULL;
}

int det_net_c_out(det_net *net, const char *name) {
    const det_weight *weight = det_weights_find(net->weights, det_name("%s.weight", name).text);
    return weight && weight->n_dims > 0 && weight->shape[0] <= 65536 ? (int)weight->shape[0] : 0;
}

static det_tensor_id new_tensor(det_net *net, det_shape shape) {
    det_status status = det_grow((void **)&net->tensors, net->n_tensors, &net->tensor_capacity, sizeof *net->tensors);
    if (status != DET_OK) {
        fail(net, status);
        return DET_NO_TENSOR;
    }
    net->tensors[net->n_tensors] = (det_tensor){.shape = shape, .parent = DET_NO_TENSOR};
    return net->n_tensors++;
}

/* Emits a node and the tensor it makes. */
static det_node *emit(det_net *net, det_op op, const char *name, const det_tensor_id *inputs, int n_inputs,
                      det_shape shape) {
    det_status status = det_grow((void **)&net->nodes, net->n_nodes, &net->node_capacity, sizeof *net->nodes);
    if (status != DET_OK) {
        fail(net, status);
        return NULL;
    }
    det_tensor_id output = new_tensor(net, shape);
    if (output == DET_NO_TENSOR)
        return NULL;
    det_node *node = &net->nodes[net->n_nodes++];
    node->op = op;
    snprintf(node->name, sizeof node->name, "%s", name);
    node->n_inputs = n_inputs;
    for (int i = 0; i < n_inputs; i++)
        node->inputs[i] = inputs[i];
    node->output = output;
    node->into = DET_NO_TENSOR;
    return node;
}

static det_tensor_id emit_unary(det_net *net, det_op op, det_tensor_id x, det_shape shape, det_node **node) {
    *node = emit(net, op, det_op_name(op), &x, 1, shape);
    return *node ? (*node)->output : DET_NO_TENSOR;
}

det_tensor_id det_preprocess(det_net *net, det_shape shape) {
    det_node *node = emit(net, DET_OP_PREPROCESS, "preprocess", NULL, 0, shape);
    return node ? node->output : DET_NO_TENSOR;
}

/* The weights of one part; returns its output channels, 0 after an error. */
static int bind_part(det_net *net, const char *name, int c_out, int c_in, const det_conv_params *p, bool no_bias,
                     det_conv_part *part) {
    if (c_out == 0) {
        c_out = det_net_c_out(net, name);
        if (c_out == 0) {
            const det_weight *weight = use_weight(net, det_name("%s.weight", name).text);
            char has[64];
            if (weight)
                fail(net, det_fail(DET_ERROR_BAD_MODEL, "tensor '%s.weight' has shape %s, which no convolution has",
                                   name, det_shape_text(weight->shape, weight->n_dims, has)));
            return 0;
        }
    }
    if (c_in % p->groups || c_out % p->groups) {
        fail(net, det_fail(DET_ERROR_BAD_MODEL, "conv2d '%s': %d -> %d channels do not divide into %d groups", name,
                           c_in, c_out, p->groups));
        return 0;
    }
    part->weight =
        det_param(net, det_name("%s.weight", name).text, (int64_t[]){c_out, c_in / p->groups, p->k, p->k}, 4);
    if (!no_bias)
        part->bias = det_param(net, det_name("%s.bias", name).text, (int64_t[]){c_out}, 1);
    return c_out;
}

det_tensor_id det_conv2d_parts(det_net *net, det_tensor_id x, int n_parts, const det_name_text *names,
                               const int *c_outs, det_conv_options options) {
    if (failed(net, x))
        return DET_NO_TENSOR;
    det_shape in = shape_of(net, x);
    det_conv_params p = {.k = DET_MAX(options.k, 1),
                         .stride = DET_MAX(options.stride, 1),
                         .groups = DET_MAX(options.groups, 1),
                         .n_parts = n_parts,
                         .act = options.act};
    p.pad = options.pad ? options.pad : p.k / 2;
    int c = 0;
    for (int i = 0; i < n_parts; i++) {
        int c_part = bind_part(net, names[i].text, c_outs ? c_outs[i] : 0, in.c, &p, options.no_bias, &p.parts[i]);
        if (c_part == 0) /* its channels cannot be known: the rest of the network cannot be built */
            fail(net, net->status != DET_OK
                          ? net->status
                          : det_fail(DET_ERROR_BAD_MODEL, "%s %s needs tensor '%s.weight', which is missing",
                                     net->weights->info.family, net->weights->info.variant, names[i].text));
        c += c_part;
    }
    if (net->status != DET_OK)
        return DET_NO_TENSOR;
    det_shape out = {in.n, (in.h + 2 * p.pad - p.k) / p.stride + 1, (in.w + 2 * p.pad - p.k) / p.stride + 1, c};
    det_node *node = emit(net, DET_OP_CONV2D, names[0].text, &x, 1, out);
    if (!node)
        return DET_NO_TENSOR;
    node->u.conv = p;
    net->macs += det_node_macs(node, &in, out) / in.n;
    return node->output;
}

det_tensor_id det_conv2d(det_net *net, det_tensor_id x, const char *name, int c_out, det_conv_options options) {
    det_name_text text = det_name("%s", name);
    return det_conv2d_parts(net, x, 1, &text, &c_out, options);
}

det_tensor_id det_group_norm(det_net *net, det_tensor_id x, const char *name, int n_groups, float epsilon) {
    if (failed(net, x))
        return DET_NO_TENSOR;
    det_shape shape = shape_of(net, x);
    det_group_norm_params p = {.n_groups = n_groups, .epsilon = epsilon};
    p.weight = det_param(net, det_name("%s.weight", name).text, (int64_t[]){shape.c}, 1);
    p.bias = det_param(net, det_name("%s.bias", name).text, (int64_t[]){shape.c}, 1);
    if (shape.c % n_groups)
        fail(net, det_fail(DET_ERROR_INTERNAL, "group_norm '%s': %d channels in %d groups", name, shape.c, n_groups));
    det_node *node = emit(net, DET_OP_GROUP_NORM, name, &x, 1, shape);
    if (!node)
        return DET_NO_TENSOR;
    node->u.group_norm = p;
    return node->output;
}

det_tensor_id det_activation(det_net *net, det_tensor_id x, det_act act) {
    if (failed(net, x) || act == DET_ACT_NONE)
        return x;
    det_node *node;
    det_tensor_id y = emit_unary(net, DET_OP_ACTIVATION, x, shape_of(net, x), &node);
    if (node)
        node->u.act = act;
    return y;
}

det_tensor_id det_add(det_net *net, det_tensor_id x, det_tensor_id y) {
    if (failed(net, x) || failed(net, y))
        return DET_NO_TENSOR;
    det_shape a = shape_of(net, x), b = shape_of(net, y);
    if (memcmp(&a, &b, sizeof a) != 0) {
        fail(net, det_fail(DET_ERROR_BAD_MODEL, "add: %dx%dx%d and %dx%dx%d differ", a.h, a.w, a.c, b.h, b.w, b.c));
        return DET_NO_TENSOR;
    }
    det_node *node = emit(net, DET_OP_ADD, "add", (det_tensor_id[]){x, y}, 2, a);
    if (!node)
        return DET_NO_TENSOR;
    node->u.add = (det_add_params){0};
    return node->output;
}

det_tensor_id det_upsample(det_net *net, det_tensor_id x) {
    if (failed(net, x))
        return DET_NO_TENSOR;
    det_shape shape = shape_of(net, x);
    det_node *node;
    return emit_unary(net, DET_OP_UPSAMPLE, x, (det_shape){shape.n, 2 * shape.h, 2 * shape.w, shape.c}, &node);
}

static det_tensor_id pool(det_net *net, det_op op, det_tensor_id x, det_pool_params p) {
    if (failed(net, x))
        return DET_NO_TENSOR;
    det_shape in = shape_of(net, x);
    det_shape out = {in.n, (in.h + 2 * p.pad - p.k) / p.stride + 1, (in.w + 2 * p.pad - p.k) / p.stride + 1, in.c};
    det_node *node;
    det_tensor_id y = emit_unary(net, op, x, out, &node);
    if (node)
        node->u.pool = p;
    return y;
}

det_tensor_id det_max_pool(det_net *net, det_tensor_id x, int k, int stride, int pad) {
    return pool(net, DET_OP_MAX_POOL, x, (det_pool_params){.k = k, .stride = stride, .pad = pad});
}

det_tensor_id det_avg_pool(det_net *net, det_tensor_id x, int k, int stride) {
    return pool(net, DET_OP_AVG_POOL, x, (det_pool_params){.k = k, .stride = stride});
}

det_tensor_id det_concat(det_net *net, const det_tensor_id *xs, int n) {
    if (n < 1 || n > DET_MAX_INPUTS) {
        fail(net, det_fail(DET_ERROR_UNSUPPORTED, "concat: %d inputs; 1 to %d are supported", n, DET_MAX_INPUTS));
        return DET_NO_TENSOR;
    }
    det_shape out = {0};
    int begins[DET_MAX_INPUTS] = {0};
    for (int i = 0; i < n; i++) {
        if (failed(net, xs[i]))
            return DET_NO_TENSOR;
        begins[i] = out.c;
        det_shape in = shape_of(net, xs[i]);
        if (i && (in.h != out.h || in.w != out.w)) {
            fail(net, det_fail(DET_ERROR_BAD_MODEL, "concat: %dx%d and %dx%d differ", out.h, out.w, in.h, in.w));
            return DET_NO_TENSOR;
        }
        in.c += out.c;
        out = in;
    }
    det_node *node = emit(net, DET_OP_CONCAT, "concat", xs, n, out);
    if (!node)
        return DET_NO_TENSOR;
    memcpy(node->u.concat_begins, begins, sizeof begins);
    return node->output;
}

det_tensor_id det_slice(det_net *net, det_tensor_id x, int begin, int c) {
    if (failed(net, x))
        return DET_NO_TENSOR;
    det_shape shape = shape_of(net, x);
    if (begin < 0 || c < 1 || begin > shape.c - c) {
        fail(net, det_fail(DET_ERROR_BAD_MODEL, "slice: channels %d to %d of %d", begin, begin + c, shape.c));
        return DET_NO_TENSOR;
    }
    shape.c = c;
    det_node *node;
    det_tensor_id y = emit_unary(net, DET_OP_SLICE, x, shape, &node);
    if (node)
        node->u.slice_begin = begin;
    return y;
}

det_tensor_id det_space_to_depth(det_net *net, det_tensor_id x) {
    if (failed(net, x))
        return DET_NO_TENSOR;
    det_shape shape = shape_of(net, x);
    det_node *node;
    return emit_unary(net, DET_OP_SPACE_TO_DEPTH, x, (det_shape){shape.n, shape.h / 2, shape.w / 2, 4 * shape.c},
                      &node);
}

det_tensor_id det_attention(det_net *net, det_tensor_id qkv, det_attention_params p) {
    if (failed(net, qkv))
        return DET_NO_TENSOR;
    det_shape shape = shape_of(net, qkv);
    if (p.n_heads < 1 || p.key_dim < 1 || p.value_dim < 1 || shape.c != p.n_heads * (2 * p.key_dim + p.value_dim)) {
        fail(net, det_fail(DET_ERROR_BAD_MODEL, "attention: %d channels are not %d heads of 2 x %d + %d", shape.c,
                           p.n_heads, p.key_dim, p.value_dim));
        return DET_NO_TENSOR;
    }
    det_shape out = shape;
    out.c = p.n_heads * p.value_dim;
    det_node *node;
    det_tensor_id y = emit_unary(net, DET_OP_ATTENTION, qkv, out, &node);
    if (node) {
        node->u.attention = p;
        net->macs += det_node_macs(node, &shape, out) / shape.n;
    }
    return y;
}

/* Channels that input `i` of a level must have. */
static int head_channels(det_op op, const det_decode_params *p, int i) {
    switch (op) {
    case DET_OP_DECODE_SCRFD:
        return p->n_anchors * (1 + 4 + 2 * p->n_landmarks);
    case DET_OP_DECODE_DFL:
        return i == 0 ? 4 * p->n_bins : p->n_classes;
    default:
        return p->n_anchors * (5 + p->n_classes);
    }
}

void det_decode(det_net *net, det_op op, const det_tensor_id *heads, int inputs_per_level, det_decode_params params) {
    int n_inputs = params.n_levels * inputs_per_level;
    for (int i = 0; i < n_inputs; i++) {
        if (failed(net, heads[i]))
            return;
        int wanted = head_channels(op, &params, i % inputs_per_level), c = shape_of(net, heads[i]).c;
        if (c != wanted || c < 1) {
            fail(net,
                 det_fail(DET_ERROR_BAD_MODEL, "%s: head %d has %d channels, not %d", det_op_name(op), i, c, wanted));
            return;
        }
    }
    const det_model_info *info = &net->weights->info;
    if (params.n_classes != info->n_classes || params.n_landmarks != info->n_landmarks) {
        fail(net, det_fail(DET_ERROR_BAD_MODEL,
                           "classes and landmarks of %s %s are %d and %d; the metadata say %d and %d", info->family,
                           info->variant, params.n_classes, params.n_landmarks, info->n_classes, info->n_landmarks));
        return;
    }
    net->n_priors = 0;
    for (int level = 0; level < params.n_levels; level++) {
        det_shape shape = shape_of(net, heads[level * inputs_per_level]);
        net->n_priors += shape.h * shape.w * params.n_anchors;
    }
    det_shape no_values = {.n = shape_of(net, heads[0]).n};
    det_node *decode = emit(net, op, det_op_name(op), heads, n_inputs, no_values);
    if (!decode)
        return;
    decode->u.decode = params;
    det_tensor_id candidates = decode->output;
    emit(net, DET_OP_NMS, "nms", &candidates, 1, no_values);
}

void det_net_tap(det_net *net, const char *name, det_tensor_id x) {
    if (failed(net, x) || net->n_taps == DET_MAX_TAPS)
        return;
    det_tap *tap = &net->taps[net->n_taps++];
    snprintf(tap->name, sizeof tap->name, "%s", name);
    tap->tensor = x;
}
