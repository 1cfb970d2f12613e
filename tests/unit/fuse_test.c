/* The rewrites: each happens exactly where it may. A case emits a few nodes; what fusing leaves is written as text and
 * compared. "2:conv2d(1,0)relu+silu" is node 2, a convolution of node 1 with ReLU, to which node 0 is added, then
 * SiLU; "+=" when the result is written over node 0's. "{1@0! 2@4}" is a concatenation to which node 1 writes from
 * channel 0, and which alone reads it, and node 2 from channel 4. */
#include "check.h"
#include "fuse.h"
#include "memory_weights.h"
#include "model_file.h"

static det_tensor_id input(det_net *net) {
    return det_preprocess(net, (det_shape){1, 8, 8, 4});
}

static det_tensor_id conv(det_net *net, det_tensor_id x, const char *name, det_act act) {
    return det_conv2d(net, x, name, 4, (det_conv_options){.k = 1, .act = act});
}

static det_tensor_id relu(det_net *net, det_tensor_id x) {
    return det_activation(net, x, DET_ACT_RELU);
}

/* -------------------------------------------------------------------------------------------------- activations */

static void act_after_conv(det_net *net) {
    relu(net, conv(net, input(net), "a", DET_ACT_NONE));
}

static void act_after_group_norm(det_net *net) {
    det_activation(net, det_group_norm(net, input(net), "gn", 2, 1e-5f), DET_ACT_SILU);
}

static void act_after_input(det_net *net) {
    relu(net, input(net));
}

static void act_after_pool(det_net *net) {
    relu(net, det_max_pool(net, input(net), 2, 2, 0));
}

static void act_after_act(det_net *net) {
    det_activation(net, conv(net, input(net), "a", DET_ACT_RELU), DET_ACT_SILU);
}

static void act_of_two_readers(det_net *net) {
    det_tensor_id x = conv(net, input(net), "a", DET_ACT_NONE);
    relu(net, x);
    det_max_pool(net, x, 2, 2, 0);
}

static void act_twice_on_one(det_net *net) {
    det_tensor_id x = conv(net, input(net), "a", DET_ACT_NONE);
    relu(net, x);
    det_activation(net, x, DET_ACT_SIGMOID);
}

static void act_of_tapped(det_net *net) {
    det_tensor_id x = conv(net, input(net), "a", DET_ACT_NONE);
    det_net_tap(net, "x", x);
    relu(net, x);
}

static void act_whose_output_is_tapped(det_net *net) {
    det_net_tap(net, "y", relu(net, conv(net, input(net), "a", DET_ACT_NONE)));
}

/* ------------------------------------------------------------------------------------------------------ additions */

static void add_to_conv(det_net *net) {
    det_tensor_id x = input(net);
    det_add(net, conv(net, x, "a", DET_ACT_NONE), x);
}

static void add_to_conv_swapped(det_net *net) {
    det_tensor_id x = input(net);
    det_add(net, x, conv(net, x, "a", DET_ACT_NONE));
}

static void add_then_act(det_net *net) {
    det_tensor_id x = input(net);
    relu(net, det_add(net, conv(net, x, "a", DET_ACT_NONE), x));
}

static void act_add_act(det_net *net) {
    det_tensor_id x = input(net);
    relu(net, det_add(net, det_activation(net, conv(net, x, "a", DET_ACT_NONE), DET_ACT_SILU), x));
}

static void add_two_convs(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE), b = conv(net, x, "b", DET_ACT_NONE);
    det_add(net, a, b);
}

static void add_two_convs_swapped(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE), b = conv(net, x, "b", DET_ACT_NONE);
    det_add(net, b, a);
}

static void add_where_later_is_read_twice(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE), b = conv(net, x, "b", DET_ACT_NONE);
    det_add(net, a, b);
    det_max_pool(net, b, 2, 2, 0);
}

static void add_where_earlier_is_read_twice(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE), b = conv(net, x, "b", DET_ACT_NONE);
    det_add(net, a, b);
    det_max_pool(net, a, 2, 2, 0);
}

static void add_where_later_is_tapped(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE);
    det_net_tap(net, "a", a);
    det_add(net, a, x);
}

static void add_where_later_is_no_conv(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE), b = det_max_pool(net, x, 3, 1, 1);
    relu(net, det_add(net, a, b));
}

static void add_to_itself(det_net *net) {
    det_tensor_id a = conv(net, input(net), "a", DET_ACT_NONE);
    det_add(net, a, a);
}

static void add_twice(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE);
    relu(net, det_add(net, det_add(net, a, x), x));
}

static void add_to_parts(det_net *net) {
    det_tensor_id x = det_preprocess(net, (det_shape){1, 8, 8, 8});
    det_tensor_id wide = det_concat(net, (det_tensor_id[]){input(net), input(net)}, 2);
    det_name_text names[] = {det_name("wide0"), det_name("wide1")};
    det_add(net, det_conv2d_parts(net, wide, 2, names, (int[]){4, 4}, (det_conv_options){.k = 1}), x);
}

/* The joined chain: a residual block whose input is a residual block's output. */
static void residual_chain(det_net *net) {
    det_tensor_id x = input(net);
    for (int i = 0; i < 2; i++)
        x = relu(net, det_add(net, x, conv(net, conv(net, x, i ? "c" : "a", DET_ACT_RELU), i ? "d" : "b", DET_ACT_NONE)));
}

/* --------------------------------------------------------------------------------------------------- upsamplings */

static void add_upsampled(det_net *net) {
    det_tensor_id x = input(net), half = det_max_pool(net, x, 2, 2, 0);
    relu(net, det_add(net, x, det_upsample(net, half)));
}

static void add_upsampled_swapped(det_net *net) {
    det_tensor_id x = input(net), half = det_max_pool(net, x, 2, 2, 0);
    det_add(net, det_upsample(net, half), x);
}

static void add_upsampled_to_later_conv(det_net *net) {
    det_tensor_id x = input(net), up = det_upsample(net, det_max_pool(net, x, 2, 2, 0));
    det_add(net, conv(net, x, "a", DET_ACT_NONE), up);
}

static void add_upsampled_of_two_readers(det_net *net) {
    det_tensor_id x = input(net), up = det_upsample(net, det_max_pool(net, x, 2, 2, 0));
    det_add(net, x, up);
    relu(net, up);
}

static void add_upsampled_tapped(det_net *net) {
    det_tensor_id x = input(net), up = det_upsample(net, det_max_pool(net, x, 2, 2, 0));
    det_net_tap(net, "up", up);
    det_add(net, x, up);
}

/* ------------------------------------------------------------------------------------------------ concatenations */

static det_tensor_id joined(det_net *net, det_tensor_id x, det_tensor_id y) {
    return det_concat(net, (det_tensor_id[]){x, y}, 2);
}

static void read_wide(det_net *net, det_tensor_id wide) {
    det_conv2d(net, wide, "wide0", 4, (det_conv_options){.k = 1});
}

static void concat_of_convs(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE);
    read_wide(net, joined(net, a, relu(net, conv(net, x, "b", DET_ACT_NONE))));
}

static void concat_with_input(det_net *net) {
    det_tensor_id x = input(net);
    read_wide(net, joined(net, x, conv(net, x, "a", DET_ACT_NONE)));
}

static void concat_with_norm(det_net *net) {
    det_tensor_id x = input(net), pooled = det_max_pool(net, x, 3, 1, 1);
    read_wide(net, joined(net, pooled, det_group_norm(net, x, "gn", 2, 1e-5f)));
}

static void concat_of_one_twice(det_net *net) {
    det_tensor_id a = conv(net, input(net), "a", DET_ACT_NONE);
    read_wide(net, joined(net, a, a));
}

static void concat_twice_of_one(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE), b = conv(net, x, "b", DET_ACT_NONE);
    read_wide(net, joined(net, a, b));
    read_wide(net, joined(net, b, a));
}

static void concat_of_read(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE);
    read_wide(net, joined(net, a, conv(net, a, "b", DET_ACT_NONE)));
}

static void concat_of_tapped(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE), wide = joined(net, a, conv(net, a, "b", DET_ACT_NONE));
    det_net_tap(net, "a", a);
    det_net_tap(net, "wide", wide);
    read_wide(net, wide);
}

/* ------------------------------------------------------------------------------------------- residuals written over */

static void residual_block(det_net *net) {
    det_tensor_id x = input(net), y = conv(net, conv(net, x, "a", DET_ACT_RELU), "b", DET_ACT_NONE);
    relu(net, det_add(net, x, y));
}

static void residual_read_later(det_net *net) {
    det_tensor_id x = input(net), y = conv(net, conv(net, x, "a", DET_ACT_RELU), "b", DET_ACT_NONE);
    det_add(net, x, y);
    det_max_pool(net, x, 2, 2, 0);
}

static void residual_tapped(det_net *net) {
    det_tensor_id x = input(net), y = conv(net, conv(net, x, "a", DET_ACT_RELU), "b", DET_ACT_NONE);
    det_net_tap(net, "x", x);
    det_add(net, x, y);
}

static void residual_result_tapped(det_net *net) {
    det_tensor_id x = input(net), y = conv(net, conv(net, x, "a", DET_ACT_RELU), "b", DET_ACT_NONE);
    det_net_tap(net, "sum", det_add(net, x, y));
}

static void residual_in_concat(det_net *net) {
    det_tensor_id x = input(net), a = conv(net, x, "a", DET_ACT_NONE), b = conv(net, a, "b", DET_ACT_NONE);
    read_wide(net, joined(net, a, det_add(net, a, b)));
}

typedef struct fuse_case {
    const char *what;
    void (*emit)(det_net *net);
    const char *expected;
} fuse_case;

static const fuse_case cases[] = {
    {"activation after a convolution", act_after_conv, "0:preprocess() 1:conv2d(0)relu"},
    {"activation after GroupNorm", act_after_group_norm, "0:preprocess() 1:group_norm(0)silu"},
    {"activation of an input", act_after_input, "0:preprocess() 1:activation(0)relu"},
    {"activation after a pool", act_after_pool, "0:preprocess() 1:max_pool(0) 2:activation(1)relu"},
    {"second activation", act_after_act, "0:preprocess() 1:conv2d(0)relu 2:activation(1)silu"},
    {"activation of two readers", act_of_two_readers, "0:preprocess() 1:conv2d(0) 2:activation(1)relu 3:max_pool(1)"},
    {"two activations of one", act_twice_on_one, "0:preprocess() 1:conv2d(0) 2:activation(1)relu 3:activation(1)sigmoid"},
    {"activation of a tapped tensor", act_of_tapped, "0:preprocess() 1:conv2d(0) 2:activation(1)relu"},
    {"activation whose output is tapped", act_whose_output_is_tapped, "0:preprocess() 1:conv2d(0)relu"},
    {"conv + x", add_to_conv, "0:preprocess() 1:conv2d(0,0)+"},
    {"x + conv", add_to_conv_swapped, "0:preprocess() 1:conv2d(0,0)+"},
    {"relu(conv + x)", add_then_act, "0:preprocess() 1:conv2d(0,0)+relu"},
    {"relu(silu(conv) + x)", act_add_act, "0:preprocess() 1:conv2d(0,0)silu+relu"},
    {"conv + conv", add_two_convs, "0:preprocess() 1:conv2d(0) 2:conv2d(0,1)+"},
    {"conv + conv, swapped", add_two_convs_swapped, "0:preprocess() 1:conv2d(0) 2:conv2d(0,1)+"},
    {"later operand read twice", add_where_later_is_read_twice, "0:preprocess() 1:conv2d(0) 2:conv2d(0) 3:add(1,2) 4:max_pool(2)"},
    {"earlier operand read twice", add_where_earlier_is_read_twice, "0:preprocess() 1:conv2d(0) 2:conv2d(0,1)+ 3:max_pool(1)"},
    {"later operand tapped", add_where_later_is_tapped, "0:preprocess() 1:conv2d(0) 2:add(1,0)"},
    {"later operand no convolution", add_where_later_is_no_conv, "0:preprocess() 1:conv2d(0) 2:max_pool(0) 3:add(1,2)relu"},
    {"x + x", add_to_itself, "0:preprocess() 1:conv2d(0) 2:add(1,1)"},
    {"relu((conv + x) + x)", add_twice, "0:preprocess() 1:conv2d(0,0)+ 2:add(1,0)relu"},
    {"two parts + x", add_to_parts, "0:preprocess() 1:preprocess() 2:preprocess() 3:concat(1,2)@0@4 4:conv2d(3) 5:add(4,0)"},
    {"residual blocks", residual_chain, "0:preprocess() 1:conv2d(0)relu 2:conv2d(1,0)+relu 3:conv2d(2)relu 4:conv2d(3,2)+relu"},
    {"x + upsampled", add_upsampled, "0:preprocess() 1:max_pool(0) 2:add(0,1)up relu"},
    {"upsampled + x", add_upsampled_swapped, "0:preprocess() 1:max_pool(0) 2:add(0,1)up"},
    {"later conv + upsampled", add_upsampled_to_later_conv, "0:preprocess() 1:max_pool(0) 2:upsample(1) 3:conv2d(0,2)+"},
    {"upsampled of two readers", add_upsampled_of_two_readers, "0:preprocess() 1:max_pool(0) 2:upsample(1) 3:add(0,2) 4:activation(2)relu"},
    {"upsampled and tapped", add_upsampled_tapped, "0:preprocess() 1:max_pool(0) 2:upsample(1) 3:add(0,2)"},
    {"concatenated convolutions", concat_of_convs, "0:preprocess() 1:conv2d(0) 2:conv2d(0)relu 3:conv2d({1@0! 2@4!})"},
    {"concatenation with an input", concat_with_input, "0:preprocess() 1:conv2d(0) 2:concat(0)@0 3:conv2d({1@4! 2})"},
    {"concatenation with GroupNorm", concat_with_norm, "0:preprocess() 1:max_pool(0) 2:group_norm(0) 3:concat(2)@4 4:conv2d({1@0! 3})"},
    {"concatenation of one twice", concat_of_one_twice, "0:preprocess() 1:conv2d(0) 2:concat(1)@4 3:conv2d({1@0 2})"},
    {"two concatenations of one", concat_twice_of_one,
     "0:preprocess() 1:conv2d(0) 2:conv2d(0) 3:conv2d({1@0 2@4}) 4:concat(2,1)@0@4 5:conv2d(4)"},
    {"concatenation of what is read, too", concat_of_read, "0:preprocess() 1:conv2d(0) 2:conv2d(1) 3:conv2d({1@0 2@4!})"},
    {"concatenation of what is tapped", concat_of_tapped, "0:preprocess() 1:conv2d(0) 2:conv2d(1) 3:conv2d({1@0 2@4!})"},
    {"residual block, not in place", residual_block, "0:preprocess() 1:conv2d(0)relu 2:conv2d(1,0)+relu"},
};

/* For backends that write over residuals. */
static const fuse_case in_place_cases[] = {
    {"residual block", residual_block, "0:preprocess() 1:conv2d(0)relu 2:conv2d(1,0)+=relu"},
    {"residual read later", residual_read_later, "0:preprocess() 1:conv2d(0)relu 2:conv2d(1,0)+ 3:max_pool(0)"},
    {"residual tapped", residual_tapped, "0:preprocess() 1:conv2d(0)relu 2:conv2d(1,0)+"},
    {"residual whose sum is tapped", residual_result_tapped, "0:preprocess() 1:conv2d(0)relu 2:conv2d(1,0)+="},
    {"residual that is the input", add_to_conv, "0:preprocess() 1:conv2d(0,0)+"},
    {"residual blocks in place", residual_chain, "0:preprocess() 1:conv2d(0)relu 2:conv2d(1,0)+=relu 3:conv2d(2)relu 4:conv2d(3,2)+=relu"},
    {"residual in a concatenation", residual_in_concat, "0:preprocess() 1:conv2d(0) 2:conv2d(1,1)+ 3:conv2d({1@0 2@4!})"},
};

/* ------------------------------------------------------------------------------------------------ nodes -> text */

static void describe_node(const det_node *node, text *t) {
    static const char *const acts[] = {"", "relu", "silu", "sigmoid"};
    switch (node->op) {
    case DET_OP_CONV2D:
        text_add(t, "%s", acts[node->u.conv.act]);
        if (node->u.conv.has_residual)
            text_add(t, "%s%s", node->output == node->inputs[1] ? "+=" : "+", acts[node->u.conv.post_act]);
        break;
    case DET_OP_GROUP_NORM:
        text_add(t, "%s", acts[node->u.group_norm.act]);
        break;
    case DET_OP_ADD:
        text_add(t, "%s%s%s", node->u.add.upsample ? "up" : "", node->u.add.upsample && node->u.add.act ? " " : "", acts[node->u.add.act]);
        break;
    case DET_OP_ACTIVATION:
        text_add(t, "%s", acts[node->u.act]);
        break;
    case DET_OP_CONCAT:
        for (int i = 0; i < node->n_inputs; i++)
            text_add(t, "@%d", node->u.concat_begins[i]);
        break;
    default:
        break;
    }
}

/* Who makes tensor `x` before node `reader`: the last node that has it as output, and those that write into it. */
static void describe_input(const det_net *net, det_tensor_id x, int reader, text *t) {
    int maker = -1, n_writers = 0;
    for (int i = 0; i < reader; i++) {
        maker = net->nodes[i].output == x ? i : maker;
        if (net->nodes[i].into == x)
            text_add(t, "%s%d@%d%s", n_writers++ ? " " : "{", i, net->nodes[i].into_begin, net->nodes[i].only_into ? "!" : "");
    }
    CHECK_MSG(maker >= 0 || n_writers > 0, "an input of node %d is not made before it", reader);
    if (maker >= 0)
        text_add(t, "%s%d", n_writers ? " " : "", maker);
    text_add(t, "%s", n_writers ? "}" : "");
}

static void describe(const det_net *net, text *t) {
    for (int i = 0; i < net->n_nodes; i++) {
        const det_node *node = &net->nodes[i];
        text_add(t, "%s%d:%s(", i ? " " : "", i, det_op_name(node->op));
        for (int j = 0; j < node->n_inputs; j++) {
            text_add(t, "%s", j ? "," : "");
            describe_input(net, node->inputs[j], i, t);
        }
        text_add(t, ")");
        describe_node(node, t);
    }
}

/* Every tap must still be written by somebody. */
static void check_taps(const det_net *net) {
    for (int i = 0; i < net->n_taps; i++) {
        det_tensor_id x = net->taps[i].tensor;
        int n_makers = 0;
        for (int j = 0; j < net->n_nodes; j++)
            n_makers += net->nodes[j].output == x || net->nodes[j].into == x;
        CHECK_MSG(n_makers >= 1, "nobody makes tap %s", net->taps[i].name);
    }
}

static void test_case(const fuse_case *c, const det_weights *weights, bool in_place) {
    det_net net = {0};
    text t = {0};
    REQUIRE(det_net_open(&net, weights) == DET_OK, "%s", det_last_error());
    c->emit(&net);
    REQUIRE(net.status == DET_OK, "%s: %s", c->what, det_last_error());
    det_layout layout = {.element_bytes = 4, .channel_multiple = 1, .residual_in_place = in_place};
    CHECK(det_fuse(&net, &layout) == DET_OK);
    describe(&net, &t);
    CHECK_MSG(!strcmp(t.chars, c->expected), "%s: %s", c->what, t.chars);
    check_taps(&net);
    text_free(&t);
    det_net_close(&net);
}

int main(void) {
    memory_weights m = {0};
    memory_weights_open(&m, "fuse");
    static const char *const convs[] = {"a", "b", "c", "d"}, *const wide[] = {"wide0", "wide1"};
    for (size_t i = 0; i < DET_COUNT(convs); i++) {
        memory_weights_add(&m, det_name("%s.weight", convs[i]).text, (int64_t[]){4, 4, 1, 1}, 4, -1, 1);
        memory_weights_add(&m, det_name("%s.bias", convs[i]).text, (int64_t[]){4}, 1, -1, 1);
    }
    for (size_t i = 0; i < DET_COUNT(wide); i++) {
        memory_weights_add(&m, det_name("%s.weight", wide[i]).text, (int64_t[]){4, 8, 1, 1}, 4, -1, 1);
        memory_weights_add(&m, det_name("%s.bias", wide[i]).text, (int64_t[]){4}, 1, -1, 1);
    }
    memory_weights_add(&m, "gn.weight", (int64_t[]){4}, 1, -1, 1);
    memory_weights_add(&m, "gn.bias", (int64_t[]){4}, 1, -1, 1);
    for (size_t i = 0; i < DET_COUNT(cases); i++)
        test_case(&cases[i], &m.weights, false);
    for (size_t i = 0; i < DET_COUNT(in_place_cases); i++)
        test_case(&in_place_cases[i], &m.weights, true);
    memory_weights_close(&m);
    return check_report("fuse");
}
