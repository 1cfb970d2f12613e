#include "fuse.h"

#include "views.h"

#include <string.h>

typedef struct fuser {
    det_net *net;
    int *producer; /* by tensor: index of its node */
    int *n_uses;   /* by tensor: readers and taps */
} fuser;

static det_node *producer_of(const fuser *f, det_tensor_id x) {
    return &f->net->nodes[f->producer[x]];
}

/* `node` takes over the work and the output of the node after it, which alone reads `node`'s output. */
static void take_over(fuser *f, det_node *node, det_node *next) {
    node->output = next->output;
    f->producer[next->output] = (int)(node - f->net->nodes);
    next->op = (det_op)DET_OP_REMOVED;
}

/* The activation that a node applies last, or NULL when it cannot. */
static det_act *last_act(det_node *node) {
    switch (node->op) {
    case DET_OP_CONV2D:
        return node->u.conv.has_residual ? &node->u.conv.post_act : &node->u.conv.act;
    case DET_OP_GROUP_NORM:
        return &node->u.group_norm.act;
    case DET_OP_ADD:
        return &node->u.add.act;
    default:
        return NULL;
    }
}

static void fuse_activation(fuser *f, det_node *node) {
    det_tensor_id x = node->inputs[0];
    det_act *act = last_act(producer_of(f, x));
    if (f->n_uses[x] != 1 || !act || *act != DET_ACT_NONE)
        return;
    *act = node->u.act;
    take_over(f, producer_of(f, x), node);
}

static void fuse_add(fuser *f, det_node *node) {
    /* The operand made later can take the other one in: by then it exists. */
    int later = f->producer[node->inputs[0]] < f->producer[node->inputs[1]];
    det_tensor_id x = node->inputs[later], other = node->inputs[1 - later];
    det_node *producer = producer_of(f, x);
    if (f->n_uses[x] != 1 || x == other)
        return;
    if (producer->op == DET_OP_CONV2D && !producer->u.conv.has_residual && producer->u.conv.n_parts == 1) {
        producer->u.conv.has_residual = true;
        producer->inputs[producer->n_inputs++] = other;
        take_over(f, producer, node);
    } else if (producer->op == DET_OP_UPSAMPLE) {
        node->inputs[0] = other;
        node->inputs[1] = producer->inputs[0];
        node->u.add.upsample = true;
        producer->op = (det_op)DET_OP_REMOVED;
    }
}

/* Nodes that write their output in rows, and so can write it twice. */
static bool can_write_into(const det_node *node) {
    switch (node->op) {
    case DET_OP_CONV2D:
    case DET_OP_ADD:
    case DET_OP_ACTIVATION:
    case DET_OP_UPSAMPLE:
    case DET_OP_MAX_POOL:
    case DET_OP_AVG_POOL:
    case DET_OP_SLICE:
    case DET_OP_SPACE_TO_DEPTH:
        return node->into == DET_NO_TENSOR;
    default:
        return false;
    }
}

static void fuse_concat(fuser *f, det_node *node) {
    int n = 0;
    for (int i = 0; i < node->n_inputs; i++) {
        det_node *producer = producer_of(f, node->inputs[i]);
        if (can_write_into(producer)) {
            producer->into = node->output;
            producer->only_into = f->n_uses[node->inputs[i]] == 1;
            producer->into_begin = node->u.concat_begins[i];
        } else {
            node->inputs[n] = node->inputs[i];
            node->u.concat_begins[n++] = node->u.concat_begins[i];
        }
    }
    node->n_inputs = n;
    if (n == 0)
        node->op = (det_op)DET_OP_REMOVED;
}

/* Whether a node after node `index` reads `x`, or a test does. */
static bool read_later(const det_net *net, det_tensor_id x, int index) {
    for (int i = index + 1; i < net->n_nodes; i++) {
        for (int j = 0; j < net->nodes[i].n_inputs; j++) {
            if (net->nodes[i].inputs[j] == x)
                return true;
        }
    }
    for (int i = 0; i < net->n_taps; i++) {
        if (net->taps[i].tensor == x)
            return true;
    }
    return false;
}

static void rename_tensor(det_net *net, det_tensor_id from, det_tensor_id to) {
    for (int i = 0; i < net->n_nodes; i++) {
        det_node *node = &net->nodes[i];
        for (int j = 0; j < node->n_inputs; j++)
            node->inputs[j] = node->inputs[j] == from ? to : node->inputs[j];
        node->output = node->output == from ? to : node->output;
    }
    for (int i = 0; i < net->n_taps; i++)
        net->taps[i].tensor = net->taps[i].tensor == from ? to : net->taps[i].tensor;
}

static void write_over_residuals(det_net *net) {
    for (int i = 0; i < net->n_nodes; i++) {
        const det_node *node = &net->nodes[i];
        if (node->op != DET_OP_CONV2D || !node->u.conv.has_residual || node->inputs[0] == node->inputs[1])
            continue;
        if (!read_later(net, node->inputs[1], i))
            rename_tensor(net, node->output, node->inputs[1]);
    }
}

static void rewrite(fuser *f, const det_layout *layout) {
    det_net *net = f->net;
    for (int i = 0; i < net->n_nodes; i++) {
        const det_node *node = &net->nodes[i];
        f->producer[node->output] = i;
        for (int j = 0; j < node->n_inputs; j++)
            f->n_uses[node->inputs[j]]++;
    }
    for (int i = 0; i < net->n_taps; i++)
        f->n_uses[net->taps[i].tensor]++;
    for (int i = 0; i < net->n_nodes; i++) {
        if (net->nodes[i].op == DET_OP_ACTIVATION)
            fuse_activation(f, &net->nodes[i]);
        else if (net->nodes[i].op == DET_OP_ADD)
            fuse_add(f, &net->nodes[i]);
    }
    if (layout->views)
        det_make_views(net, layout->channel_multiple);
    for (int i = 0; i < net->n_nodes && !layout->views; i++) {
        if (net->nodes[i].op == DET_OP_CONCAT)
            fuse_concat(f, &net->nodes[i]);
    }
    int n = 0;
    for (int i = 0; i < net->n_nodes; i++) {
        if (net->nodes[i].op != (det_op)DET_OP_REMOVED)
            net->nodes[n++] = net->nodes[i];
    }
    net->n_nodes = n;
}

det_status det_fuse(det_net *net, const det_layout *layout) {
    fuser f = {.net = net};
    f.producer = det_alloc_array((size_t)net->n_tensors, sizeof *f.producer);
    f.n_uses = det_alloc_array((size_t)net->n_tensors, sizeof *f.n_uses);
    det_status status = f.producer && f.n_uses ? DET_OK : DET_ERROR_OUT_OF_MEMORY;
    if (status == DET_OK)
        rewrite(&f, layout);
    if (status == DET_OK && layout->residual_in_place)
        write_over_residuals(net);
    det_free(f.producer);
    det_free(f.n_uses);
    return status;
}
