#include "views.h"

#include "fuse.h"

#include <string.h>

det_tensor_id det_view_root(const det_net *net, det_tensor_id tensor, int *begin) {
    int sum = 0;
    while (net->tensors[tensor].parent != DET_NO_TENSOR) {
        sum += net->tensors[tensor].begin;
        tensor = net->tensors[tensor].parent;
    }
    if (begin)
        *begin = sum;
    return tensor;
}

/* Channels [begin, begin + c) can be used in place: they start at a vector, and end at one or with the tensor. */
static bool aligned(int begin, int c, int whole, int multiple) {
    return begin % multiple == 0 && (c % multiple == 0 || begin + c == whole);
}

static void view(det_net *net, det_tensor_id tensor, det_tensor_id parent, int begin) {
    net->tensors[tensor].parent = parent;
    net->tensors[tensor].begin = begin;
}

static void view_slice(det_net *net, det_node *node, int multiple) {
    const det_tensor *x = &net->tensors[node->inputs[0]], *y = &net->tensors[node->output];
    if (!aligned(node->u.slice_begin, y->shape.c, x->shape.c, multiple))
        return;
    view(net, node->output, node->inputs[0], node->u.slice_begin);
    node->op = (det_op)DET_OP_REMOVED;
}

static void view_concat(det_net *net, det_node *node, int multiple) {
    int n = 0, whole = net->tensors[node->output].shape.c;
    for (int i = 0; i < node->n_inputs; i++) {
        det_tensor_id x = node->inputs[i];
        int begin = node->u.concat_begins[i];
        if (net->tensors[x].parent == DET_NO_TENSOR && aligned(begin, net->tensors[x].shape.c, whole, multiple)) {
            view(net, x, node->output, begin);
            continue;
        }
        node->inputs[n] = x;
        node->u.concat_begins[n++] = begin;
    }
    node->n_inputs = n;
    if (n == 0)
        node->op = (det_op)DET_OP_REMOVED;
}

/* -------------------------------------------------------------------------------------------------- chained pools */

enum { CHAIN = 3, MAX_WINDOW = 13 };

static int count_readers(const det_net *net, det_tensor_id x) {
    int n = 0;
    for (int i = 0; i < net->n_nodes; i++) {
        for (int j = 0; j < net->nodes[i].n_inputs && net->nodes[i].op != (det_op)DET_OP_REMOVED; j++)
            n += net->nodes[i].inputs[j] == x;
    }
    for (int i = 0; i < net->n_taps; i++)
        n += net->taps[i].tensor == x;
    return n;
}

/* A max pool that keeps the size, made of `x`; or NULL. */
static det_node *pool_of(det_net *net, det_tensor_id made, det_tensor_id x) {
    for (int i = 0; i < net->n_nodes; i++) {
        det_node *node = &net->nodes[i];
        const det_pool_params *p = &node->u.pool;
        if (node->op == DET_OP_MAX_POOL && node->output == made && (x == DET_NO_TENSOR || node->inputs[0] == x))
            return p->stride == 1 && p->pad == p->k / 2 && p->k % 2 == 1 ? node : NULL;
    }
    return NULL;
}

/* Inputs i, i + 1 and i + 2 of `concat` are a chain: the first node makes all three, in a tensor that was the last one's. */
static void join_chain(det_net *net, det_node *concat, int i, int multiple) {
    det_node *pools[CHAIN];
    det_tensor_id x = DET_NO_TENSOR;
    for (int j = 0; j < CHAIN; j++) {
        det_tensor_id made = concat->inputs[i + j];
        pools[j] = pool_of(net, made, x);
        if (!pools[j] || pools[j]->u.pool.k != pools[0]->u.pool.k)
            return;
        if (count_readers(net, made) != (j < CHAIN - 1 ? 2 : 1))
            return;
        x = made;
    }
    if (CHAIN * (pools[0]->u.pool.k - 1) + 1 > MAX_WINDOW || net->tensors[x].shape.c % multiple)
        return;
    net->tensors[x].shape.c *= CHAIN;
    pools[0]->output = x;
    pools[0]->u.pool.n_chained = CHAIN;
    concat->inputs[i] = x;
    for (int j = i + 1; j + CHAIN - 1 < concat->n_inputs; j++) {
        concat->inputs[j] = concat->inputs[j + CHAIN - 1];
        concat->u.concat_begins[j] = concat->u.concat_begins[j + CHAIN - 1];
    }
    concat->n_inputs -= CHAIN - 1;
    for (int j = 1; j < CHAIN; j++)
        pools[j]->op = (det_op)DET_OP_REMOVED;
}

void det_make_views(det_net *net, int channel_multiple) {
    for (int i = 0; i < net->n_nodes; i++) {
        det_node *node = &net->nodes[i];
        for (int j = 0; node->op == DET_OP_CONCAT && j + CHAIN <= node->n_inputs; j++)
            join_chain(net, node, j, channel_multiple);
    }
    for (int i = 0; i < net->n_nodes; i++) {
        if (net->nodes[i].op == DET_OP_SLICE)
            view_slice(net, &net->nodes[i], channel_multiple);
    }
    for (int i = 0; i < net->n_nodes; i++) {
        if (net->nodes[i].op == DET_OP_CONCAT)
            view_concat(net, &net->nodes[i], channel_multiple);
    }
}
