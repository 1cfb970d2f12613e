/* The builder: shapes, counts, and what it says when a network and its tensors do not fit. */
#include "check.h"
#include "memory_weights.h"
#include "net.h"

static det_tensor_id input(det_net *net, int h, int w, int c) {
    return det_preprocess(net, (det_shape){2, h, w, c});
}

static det_tensor_id conv(det_net *net, det_tensor_id x, const char *name, int c_out, int k, int stride) {
    return det_conv2d(net, x, name, c_out, (det_conv_options){.k = k, .stride = stride});
}

/* "a" is [4, 3, 3, 3], "b" [8, 4, 1, 1], "deep" [6, 2, 5, 5] in two groups of two; "gn" 6; "scale.weight" a single value. */
static void open_weights(memory_weights *m) {
    memory_weights_open(m, "net");
    m->weights.info.n_landmarks = 5;
    memory_weights_add(m, "a.weight", (int64_t[]){4, 3, 3, 3}, 4, -1, 1);
    memory_weights_add(m, "a.bias", (int64_t[]){4}, 1, -1, 1);
    memory_weights_add(m, "b.weight", (int64_t[]){8, 4, 1, 1}, 4, -1, 1);
    memory_weights_add(m, "b.bias", (int64_t[]){8}, 1, -1, 1);
    memory_weights_add(m, "deep.weight", (int64_t[]){6, 2, 5, 5}, 4, -1, 1);
    memory_weights_add(m, "gn.weight", (int64_t[]){6}, 1, -1, 1);
    memory_weights_add(m, "gn.bias", (int64_t[]){6}, 1, -1, 1);
    memory_weights_add(m, "scale.weight", NULL, 0, 1, 2);
}

static void use_all_but_a(det_net *net) {
    conv(net, input(net, 4, 4, 4), "b", 8, 1, 1);
    det_tensor_id x = det_conv2d(net, input(net, 4, 4, 4), "deep", 6, (det_conv_options){.k = 5, .groups = 2, .no_bias = true});
    det_group_norm(net, x, "gn", 3, 1e-5f);
    det_param(net, "scale.weight", NULL, 0);
}

/* --------------------------------------------------------------------------------------------------------- shapes */

static void check_shape(const det_net *net, det_tensor_id x, int h, int w, int c, int line) {
    REQUIRE(x != DET_NO_TENSOR, "line %d: %s", line, det_last_error());
    det_shape s = net->tensors[x].shape;
    CHECK_MSG(s.n == 2 && s.h == h && s.w == w && s.c == c, "line %d: [%d, %d, %d, %d]", line, s.n, s.h, s.w, s.c);
}

static void test_shapes(const det_weights *weights) {
    det_net net = {0};
    REQUIRE(det_net_open(&net, weights) == DET_OK, "%s", det_last_error());
    det_tensor_id x = input(&net, 9, 12, 3), a = conv(&net, x, "a", 4, 3, 1), small = conv(&net, x, "a", 0, 3, 2);
    check_shape(&net, a, 9, 12, 4, __LINE__);
    check_shape(&net, small, 5, 6, 4, __LINE__);
    CHECK(net.macs == 9 * 12 * 4 * 27 + 5 * 6 * 4 * 27);
    const det_node *node = &net.nodes[net.n_nodes - 2]; /* makes `a`: 4 x 3 x 3 x 3 weights and 4 biases */
    CHECK(node->output == a && det_node_values(node, &net.tensors[x].shape, net.tensors[a].shape) ==
                                   2 * 9 * 12 * (3 + 4) + 4 * 27 + 4);
    det_name_text names[] = {det_name("b"), det_name("b")};
    check_shape(&net, det_conv2d_parts(&net, a, 2, names, NULL, (det_conv_options){0}), 9, 12, 16, __LINE__);
    det_tensor_id grouped = det_conv2d(&net, a, "deep", 0, (det_conv_options){.k = 5, .stride = 2, .groups = 2, .pad = 1, .no_bias = true});
    check_shape(&net, grouped, 4, 5, 6, __LINE__);
    check_shape(&net, det_group_norm(&net, grouped, "gn", 2, 1e-5f), 4, 5, 6, __LINE__);
    CHECK(det_activation(&net, a, DET_ACT_NONE) == a);
    check_shape(&net, det_activation(&net, a, DET_ACT_SILU), 9, 12, 4, __LINE__);
    check_shape(&net, det_add(&net, a, a), 9, 12, 4, __LINE__);
    check_shape(&net, det_upsample(&net, small), 10, 12, 4, __LINE__);
    check_shape(&net, det_max_pool(&net, a, 5, 1, 2), 9, 12, 4, __LINE__);
    check_shape(&net, det_avg_pool(&net, a, 2, 2), 4, 6, 4, __LINE__);
    check_shape(&net, det_concat(&net, (det_tensor_id[]){x, a, a}, 3), 9, 12, 11, __LINE__);
    check_shape(&net, det_slice(&net, a, 3, 1), 9, 12, 1, __LINE__);
    check_shape(&net, det_space_to_depth(&net, x), 4, 6, 12, __LINE__);
    int64_t before = net.macs;
    det_attention_params p = {.n_heads = 2, .key_dim = 1, .value_dim = 0};
    p.value_dim = 1;
    check_shape(&net, det_attention(&net, grouped, p), 4, 5, 2, __LINE__);
    CHECK(net.macs - before == 20 * 20 * 2 * (1 + 1));
    CHECK(det_net_has(&net, "a") && !det_net_has(&net, "c") && det_net_c_out(&net, "b") == 8 && det_net_c_out(&net, "c") == 0);
    det_param(&net, "scale.weight", NULL, 0);
    CHECK_MSG(det_net_finish(&net) == DET_OK, "%s", det_last_error());
    det_net_close(&net);
}

static void test_priors(const det_weights *weights) {
    det_net net = {0};
    REQUIRE(det_net_open(&net, weights) == DET_OK, "%s", det_last_error());
    det_tensor_id heads[] = {input(&net, 8, 12, 30), input(&net, 4, 6, 30), input(&net, 2, 3, 30)};
    det_decode(&net, DET_OP_DECODE_SCRFD, heads, 1,
               (det_decode_params){.n_levels = 3, .n_classes = 1, .strides = {8, 16, 32}, .n_anchors = 2, .n_landmarks = 5});
    CHECK_MSG(net.status == DET_OK, "%s", det_last_error());
    CHECK_MSG(net.n_priors == 2 * (96 + 24 + 6), "%d priors", net.n_priors);
    CHECK(net.nodes[net.n_nodes - 2].op == DET_OP_DECODE_SCRFD && net.nodes[net.n_nodes - 1].op == DET_OP_NMS);
    det_net_close(&net);
}

/* --------------------------------------------------------------------------------------------------------- errors */

static void missing(det_net *net) {
    det_tensor_id x = conv(net, input(net, 4, 4, 3), "x", 4, 3, 1);
    det_group_norm(net, x, "y", 2, 1e-5f);
    use_all_but_a(net);
}

static void missing_with_unknown_width(det_net *net) {
    conv(net, conv(net, input(net, 4, 4, 3), "x", 0, 3, 1), "y", 4, 3, 1);
}

static void width_of_a_scalar(det_net *net) {
    conv(net, input(net, 4, 4, 3), "scale", 0, 3, 1);
}

static void left_over(det_net *net) {
    use_all_but_a(net);
}

static void many_missing(det_net *net) {
    det_tensor_id x = input(net, 4, 4, 3);
    for (int i = 0; i < 200; i++)
        x = conv(net, x, det_name("a.name.of.some.length.%d", i).text, 4, 3, 1);
}

static void wrong_shape(det_net *net) {
    conv(net, input(net, 4, 4, 3), "a", 5, 3, 1);
}

static void wrong_rank(det_net *net) {
    det_param(net, "scale.weight", (int64_t[]){1}, 1);
}

static void wrong_groups(det_net *net) {
    det_conv2d(net, input(net, 4, 4, 3), "a", 4, (det_conv_options){.k = 3, .groups = 2});
}

static void first_error_stays(det_net *net) {
    wrong_shape(net);
    det_tensor_id x = det_slice(net, 0, 7, 7);
    CHECK(x == DET_NO_TENSOR && det_concat(net, &x, 1) == DET_NO_TENSOR && det_upsample(net, x) == DET_NO_TENSOR);
    CHECK(det_attention(net, x, (det_attention_params){1, 1, 1}) == DET_NO_TENSOR && det_add(net, x, x) == DET_NO_TENSOR);
    CHECK(det_space_to_depth(net, x) == DET_NO_TENSOR && det_max_pool(net, x, 2, 2, 0) == DET_NO_TENSOR);
    CHECK(det_group_norm(net, x, "gn", 2, 0) == DET_NO_TENSOR && conv(net, x, "b", 8, 1, 1) == DET_NO_TENSOR);
    det_decode(net, DET_OP_DECODE_DFL, &x, 1, (det_decode_params){.n_levels = 1, .n_anchors = 1});
    det_net_tap(net, "tap", x);
    CHECK(net->n_nodes == 1 && net->n_taps == 0);
}

static void add_of_different(det_net *net) {
    det_add(net, input(net, 4, 4, 3), input(net, 4, 5, 3));
}

static void concat_of_different(det_net *net) {
    det_concat(net, (det_tensor_id[]){input(net, 4, 4, 3), input(net, 4, 5, 3)}, 2);
}

static void concat_of_nine(det_net *net) {
    det_tensor_id xs[9];
    for (int i = 0; i < 9; i++)
        xs[i] = input(net, 4, 4, 3);
    det_concat(net, xs, 9);
}

static void concat_of_none(det_net *net) {
    det_concat(net, NULL, 0);
}

static void slice_beyond(det_net *net) {
    det_slice(net, input(net, 4, 4, 3), 2, 2);
}

static void slice_of_nothing(det_net *net) {
    det_slice(net, input(net, 4, 4, 3), 1, 0);
}

static void slice_before(det_net *net) {
    det_slice(net, input(net, 4, 4, 3), -1, 2);
}

static void attention_of_other_heads(det_net *net) {
    det_attention(net, input(net, 4, 4, 10), (det_attention_params){2, 1, 1});
}

static void norm_in_uneven_groups(det_net *net) {
    det_group_norm(net, input(net, 4, 4, 6), "gn", 4, 1e-5f);
}

static void head_of_other_channels(det_net *net) {
    det_tensor_id head = input(net, 4, 4, 29);
    det_decode(net, DET_OP_DECODE_SCRFD, &head, 1,
               (det_decode_params){.n_levels = 1, .n_classes = 1, .strides = {8}, .n_anchors = 2, .n_landmarks = 5});
}

static void head_of_more_classes(det_net *net) {
    det_tensor_id heads[] = {input(net, 4, 4, 64), input(net, 4, 4, 7)};
    det_decode(net, DET_OP_DECODE_DFL, heads, 2,
               (det_decode_params){.n_levels = 1, .n_classes = 7, .strides = {8}, .n_anchors = 1, .n_bins = 16});
}

static void shared_missing(det_net *net) {
    use_all_but_a(net);
    conv(net, input(net, 4, 4, 3), "a", 4, 3, 1);
    for (int i = 0; i < 3; i++)
        conv(net, input(net, 4, 4, 3), "x", 4, 3, 1);
}

static const struct {
    const char *what;
    void (*emit)(det_net *net);
    det_status status;
    const char *message; /* a part of it */
} cases[] = {
    {"missing", missing, DET_ERROR_BAD_MODEL, "the tensors are not those of test net: 4 missing (x.weight, x.bias, y.weight, y.bias), 2 left over (a.bias, a.weight)"},
    {"missing, width unknown", missing_with_unknown_width, DET_ERROR_BAD_MODEL, "test net needs tensor 'x.weight', which is missing"},
    {"width of a scalar", width_of_a_scalar, DET_ERROR_BAD_MODEL, "tensor 'scale.weight' has shape [], which no convolution has"},
    {"left over", left_over, DET_ERROR_BAD_MODEL, "0 missing, 2 left over (a.bias, a.weight)"},
    {"many missing", many_missing, DET_ERROR_BAD_MODEL, "400 missing (a.name.of.some.length.0.weight, "},
    {"wrong shape", wrong_shape, DET_ERROR_BAD_MODEL, "tensor 'a.weight' has shape [4, 3, 3, 3]; test net needs [5, 3, 3, 3]"},
    {"wrong rank", wrong_rank, DET_ERROR_BAD_MODEL, "tensor 'scale.weight' has shape []; test net needs [1]"},
    {"wrong groups", wrong_groups, DET_ERROR_BAD_MODEL, "conv2d 'a': 3 -> 4 channels do not divide into 2 groups"},
    {"first error", first_error_stays, DET_ERROR_BAD_MODEL, "test net needs [5, 3, 3, 3]"},
    {"add", add_of_different, DET_ERROR_BAD_MODEL, "add: 4x4x3 and 4x5x3 differ"},
    {"concat", concat_of_different, DET_ERROR_BAD_MODEL, "concat: 4x4 and 4x5 differ"},
    {"concat of nine", concat_of_nine, DET_ERROR_UNSUPPORTED, "concat: 9 inputs; 1 to 8 are supported"},
    {"concat of none", concat_of_none, DET_ERROR_UNSUPPORTED, "concat: 0 inputs"},
    {"slice beyond", slice_beyond, DET_ERROR_BAD_MODEL, "slice: channels 2 to 4 of 3"},
    {"slice of nothing", slice_of_nothing, DET_ERROR_BAD_MODEL, "slice: channels 1 to 1 of 3"},
    {"slice before", slice_before, DET_ERROR_BAD_MODEL, "slice: channels -1 to 1 of 3"},
    {"attention", attention_of_other_heads, DET_ERROR_BAD_MODEL, "attention: 10 channels are not 2 heads of 2 x 1 + 1"},
    {"group norm", norm_in_uneven_groups, DET_ERROR_INTERNAL, "group_norm 'gn': 6 channels in 4 groups"},
    {"head", head_of_other_channels, DET_ERROR_BAD_MODEL, "decode_scrfd: head 0 has 29 channels, not 30"},
    {"more classes", head_of_more_classes, DET_ERROR_BAD_MODEL, "classes and landmarks of test net are 7 and 0; the metadata say 1 and 5"},
    {"shared and missing", shared_missing, DET_ERROR_BAD_MODEL, "2 missing (x.weight, x.bias), 0 left over"},
};

static void test_errors(const det_weights *weights) {
    for (size_t i = 0; i < DET_COUNT(cases); i++) {
        det_net net = {0};
        REQUIRE(det_net_open(&net, weights) == DET_OK, "%s", det_last_error());
        cases[i].emit(&net);
        det_status status = det_net_finish(&net);
        CHECK_MSG(status == cases[i].status, "%s: %s", cases[i].what, det_status_name(status));
        CHECK_MSG(strstr(det_last_error(), cases[i].message), "%s: %s", cases[i].what, det_last_error());
        CHECK_MSG(strlen(det_last_error()) < 1000, "%s: the message has %zu bytes", cases[i].what, strlen(det_last_error()));
        det_net_close(&net);
    }
}

int main(void) {
    memory_weights m = {0};
    open_weights(&m);
    test_shapes(&m.weights);
    test_priors(&m.weights);
    test_errors(&m.weights);
    memory_weights_close(&m);
    return check_report("net");
}
