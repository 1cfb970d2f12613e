/* The plan: tensors that live at the same time never share memory, and fusing changes no result. */
#include "check.h"
#include "context.h"
#include "cpu/cpu.h"
#include "make_model.h"
#include "memory_weights.h"

#include <math.h>

/* ------------------------------------------------------------------------------------------------- memory of networks */

/* A tensor's life: from the first step that writes it to the last that writes or reads it. */
typedef struct life {
    int first, last;
    const char *begin, *end; /* memory */
} life;

static void see(life *l, int step, const void *memory, det_shape shape) {
    l->first = l->begin ? l->first : step;
    l->last = step;
    CHECK_MSG(!l->begin || l->begin == memory, "a tensor moves at step %d", step);
    l->begin = memory;
    l->end = l->begin + (size_t)det_shape_values(shape) * sizeof(float);
}

/* From the addresses that the steps were given; tensors without values stay zeros. */
static life *find_lives(const det_plan *plan) {
    life *lives = calloc((size_t)plan->net.n_tensors, sizeof *lives);
    for (int i = 0; i < plan->n_steps; i++) {
        const det_step *step = &plan->steps[i];
        for (int j = 0; j < step->node->n_inputs; j++) {
            if (det_shape_values(step->input_shapes[j]) > 0)
                see(&lives[step->node->inputs[j]], i, step->inputs[j], step->input_shapes[j]);
        }
        if (det_shape_values(step->output_shape) > 0)
            see(&lives[step->node->output], i, step->output, step->output_shape);
        if (step->into)
            see(&lives[step->node->into], i, step->into, step->into_shape);
    }
    return lives;
}

static void check_memory(const char *name, const det_plan *plan) {
    life *lives = find_lives(plan);
    const char *begin = plan->arena, *end = begin + plan->arena_bytes;
    int64_t most = 0;
    for (int i = 0; i < plan->net.n_tensors; i++) {
        const life *a = &lives[i];
        CHECK_MSG(!a->begin || (a->begin >= begin && a->end <= end), "%s: tensor %d lies outside the arena", name, i);
        for (int j = 0; j < i; j++) {
            const life *b = &lives[j];
            bool together = a->begin && b->begin && a->first <= b->last && b->first <= a->last;
            CHECK_MSG(!together || a->end <= b->begin || b->end <= a->begin, "%s: tensors %d and %d share memory", name, i, j);
        }
    }
    for (int step = 0; step < plan->n_steps; step++) {
        int64_t live = 0;
        for (int i = 0; i < plan->net.n_tensors; i++)
            live += lives[i].first <= step && step <= lives[i].last ? lives[i].end - lives[i].begin : 0;
        most = DET_MAX(most, live);
    }
    CHECK_MSG(plan->arena_bytes <= most + most / 4, "%s: an arena of %lld bytes, where %lld live at most", name,
              (long long)plan->arena_bytes, (long long)most);
    free(lives);
}

/* Every input of a step is what an earlier step made. */
static void check_order(const char *name, const det_plan *plan) {
    for (int i = 0; i < plan->n_steps; i++) {
        for (int j = 0; j < plan->steps[i].node->n_inputs; j++) {
            det_tensor_id x = plan->steps[i].node->inputs[j];
            int from = 0;
            while (from < i && plan->steps[from].node->output != x && plan->steps[from].node->into != x)
                from++;
            CHECK_MSG(from < i, "%s: nobody makes input %d of step %d", name, j, i);
        }
    }
}

static void test_networks(void) {
    for (int i = 0; make_model_name(i); i++) {
        bytes file = make_model(make_model_name(i), NULL);
        det_model *model;
        det_context *context;
        REQUIRE(det_model_open_memory(file.data, file.n, &model) == DET_OK, "%s", det_last_error());
        det_context_options options = {.struct_size = sizeof options, .device = DET_DEVICE_CPU, .max_batch = 2, .n_threads = 2};
        REQUIRE(det_context_build(model, &options, false, &context) == DET_OK, "%s", det_last_error());
        check_memory(make_model_name(i), &context->plan);
        check_order(make_model_name(i), &context->plan);
        det_context_destroy(context);
        det_model_close(model);
        bytes_free(&file);
    }
}

/* ---------------------------------------------------------------------------------------------------- fused or not */

enum { SIDE = 8, CHANNELS = 4, N_CONVS = 4, N_RANDOM = 4, N_INPUTS = 2 };

static bool is_small(const det_net *net, det_tensor_id x) {
    return net->tensors[x].shape.h < SIDE;
}

/* A random tensor of full or half size from the last few; -1 when there is none. */
static det_tensor_id pick(const det_net *net, uint64_t *state, bool small) {
    for (int tries = 0; tries < 50; tries++) {
        det_tensor_id x = net->n_tensors - 1 - random_below(state, 4);
        if (is_small(net, x) == small && net->tensors[x].shape.c == CHANNELS)
            return x;
    }
    return DET_NO_TENSOR;
}

/* One to four random nodes on what is there. */
static void emit_some(det_net *net, uint64_t *state) {
    bool small = random_below(state, 3) == 0;
    det_tensor_id x = pick(net, state, small), y = pick(net, state, small);
    if (x == DET_NO_TENSOR || y == DET_NO_TENSOR)
        return;
    if (random_below(state, 4) == 0) {
        x = small ? det_upsample(net, x) : det_max_pool(net, x, 2, 2, 0);
        y = pick(net, state, !small);
    } else if (random_below(state, 3) == 0) {
        x = det_conv2d(net, det_concat(net, (det_tensor_id[]){x, y}, 2), "wide", CHANNELS, (det_conv_options){.k = 1});
    } else {
        det_conv_options options = {.k = 3, .act = (det_act)random_below(state, 2)};
        x = det_conv2d(net, x, det_name("conv%d", random_below(state, N_CONVS)).text, CHANNELS, options);
    }
    if (y != DET_NO_TENSOR && random_below(state, 2))
        x = random_below(state, 2) ? det_add(net, x, y) : det_add(net, y, x);
    if (random_below(state, 2))
        det_activation(net, x, (det_act)(1 + random_below(state, 3)));
}

/* A random network; `tap_all` names every tensor, which forbids every rewrite. Every convolution is used once first,
 * because leftover weights are an error. */
static void emit_random(det_net *net, uint64_t state, bool tap_all) {
    for (int i = 0; i < N_INPUTS; i++)
        det_preprocess(net, (det_shape){1, SIDE, SIDE, CHANNELS});
    det_tensor_id x = 0;
    for (int i = 0; i < N_CONVS; i++)
        x = det_conv2d(net, x, det_name("conv%d", i).text, CHANNELS, (det_conv_options){.k = 3});
    det_conv2d(net, det_concat(net, (det_tensor_id[]){x, 0}, 2), "wide", CHANNELS, (det_conv_options){.k = 1});
    for (int i = 0; i < N_RANDOM; i++)
        emit_some(net, &state);
    for (int i = tap_all ? 0 : net->n_tensors - 1; i < net->n_tensors; i++)
        det_net_tap(net, det_name("t%d", i).text, i);
}

/* Plans and runs; the last tensor's values into `out`. Returns the number of steps. */
static int run_random(const memory_weights *m, det_device *device, uint64_t state, bool tap_all, float *out, int64_t *n) {
    det_plan plan = {.backend = &det_cpu_backend, .device = device};
    det_plan_options options = {.max_batch = 1, .max_candidates = 1, .keep_taps = true};
    REQUIRE(det_net_open(&plan.net, &m->weights) == DET_OK, "%s", det_last_error());
    emit_random(&plan.net, state, tap_all);
    REQUIRE(plan.net.n_tensors <= DET_MAX_TAPS, "%d tensors are too many to tap", plan.net.n_tensors);
    REQUIRE(det_plan_complete(&plan, &options) == DET_OK, "%s", det_last_error());
    det_tensor_id last = plan.net.taps[plan.net.n_taps - 1].tensor;
    det_frame frame = {.n = 1};
    uint64_t values = random_from("inputs");
    int n_steps = plan.n_steps;
    for (int i = 0; i < plan.n_steps; i++) {
        det_step *step = &plan.steps[i];
        *n = det_shape_values(step->output_shape);
        float *y = step->output;
        if (step->node->op != DET_OP_PREPROCESS) {
            REQUIRE(det_plan_run_step(&plan, i, &frame, NULL) == DET_OK, "%s", det_last_error());
        } else {
            for (int64_t k = 0; k < *n; k++)
                y[k] = random_in(&values, -1, 1);
        }
    }
    for (int i = 0; i < plan.n_steps; i++) {
        if (plan.steps[i].node->output == last) {
            *n = det_shape_values(plan.steps[i].output_shape);
            memcpy(out, plan.steps[i].output, (size_t)*n * sizeof *out);
        }
    }
    det_plan_close(&plan);
    return n_steps;
}

static void test_fusing(void) {
    memory_weights m = {0};
    memory_weights_open(&m, "random");
    for (int i = 0; i < N_CONVS; i++) {
        memory_weights_add(&m, det_name("conv%d.weight", i).text, (int64_t[]){CHANNELS, CHANNELS, 3, 3}, 4, -0.3f, 0.3f);
        memory_weights_add(&m, det_name("conv%d.bias", i).text, (int64_t[]){CHANNELS}, 1, -1, 1);
    }
    memory_weights_add(&m, "wide.weight", (int64_t[]){CHANNELS, 2 * CHANNELS, 1, 1}, 4, -0.5f, 0.5f);
    memory_weights_add(&m, "wide.bias", (int64_t[]){CHANNELS}, 1, -1, 1);
    det_context_options options = {.struct_size = sizeof options, .n_threads = 1};
    det_device *device;
    REQUIRE(det_cpu_backend.open(&options, &device) == DET_OK, "%s", det_last_error());
    det_dnn_single_thread(device->dnn);
    uint64_t state = random_from("networks");
    int n_saved = 0;
    for (int round = 0; round < 150; round++) {
        static float fused[SIDE * SIDE * CHANNELS], plain[SIDE * SIDE * CHANNELS];
        uint64_t network = random_next(&state);
        int64_t n = 0, n_plain = 0;
        n_saved -= run_random(&m, device, network, false, fused, &n);
        n_saved += run_random(&m, device, network, true, plain, &n_plain);
        double worst = 0, largest = 0;
        for (int64_t i = 0; i < n && n == n_plain; i++) {
            worst = fmax(worst, fabs((double)fused[i] - (double)plain[i]));
            largest = fmax(largest, fabs((double)plain[i]));
        }
        CHECK_MSG(n == n_plain && worst <= 1e-5 * largest, "network %d: fused differs by %g of %g", round, worst, largest);
    }
    CHECK_MSG(n_saved > 200, "fusing saved %d steps only: the networks have nothing to join", n_saved);
    det_cpu_backend.close(device);
    memory_weights_close(&m);
}

/* --------------------------------------------------------------------------------------------------------- failures */

/* What the CPU cannot do is said at plan time, with the node's name and shape. */
static void test_refusal(void) {
    memory_weights m = {0};
    memory_weights_open(&m, "refused");
    memory_weights_add(&m, "gn.weight", (int64_t[]){1025}, 1, 0, 1);
    memory_weights_add(&m, "gn.bias", (int64_t[]){1025}, 1, 0, 1);
    det_context_options options = {.struct_size = sizeof options, .n_threads = 1};
    det_plan plan = {.backend = &det_cpu_backend};
    REQUIRE(det_cpu_backend.open(&options, &plan.device) == DET_OK, "%s", det_last_error());
    REQUIRE(det_net_open(&plan.net, &m.weights) == DET_OK, "%s", det_last_error());
    det_group_norm(&plan.net, det_preprocess(&plan.net, (det_shape){1, 2, 3, 1025}), "gn", 5, 1e-5f);
    det_plan_options plan_options = {.max_batch = 1, .max_candidates = 1};
    CHECK(det_plan_complete(&plan, &plan_options) == DET_ERROR_UNSUPPORTED);
    CHECK_MSG(!strcmp(det_last_error(), "group_norm 'gn' [1,2,3,1025]: not supported on CPU: more than 1024 channels"), "%s", det_last_error());
    det_plan_close(&plan);
    det_cpu_backend.close(plan.device);
    memory_weights_close(&m);
}

int main(void) {
    test_networks();
    test_fusing();
    test_refusal();
    return check_report("plan");
}
