/* Convolutions through cuDNN's graph API.
 *
 * cuDNN's heuristics answer with engine configurations, the most promising first; one that can be finalised into a plan
 * can be run. A plan's addresses are fixed once (bind), so that a run creates nothing.
 *
 * Seen in cuDNN 9.19: a SiLU, or an addition behind an activation, is done by an engine that is compiled at run time, 0.2
 * to 0.8 s for each plan, unless its graph is declared to be of any shape and shares a kernel cache with those of its form;
 * then only the first with its choices (tile, stages) costs that. So every form with its choices has a cache of its own,
 * (kernel_cache.c), which may be filled by any thread (warm.c). Engines that are not compiled at run time copy a tensor that is a view into
 * their workspace first; so a view's graph is declared to be of any shape, too, which leaves it to the compiled ones. */
#include "cudnn_graph.h"

#include <stdio.h>
#include <string.h>

enum { MAX_CONFIGS = 64, MAX_KNOBS = 24 };
static const size_t MAX_WORKSPACE_BYTES = (size_t)256 << 20;

struct det_cudnn_conv {
    det_cudnn_graph *graph;
    cudnnBackendDescriptor_t config, plan, pack;
    det_kernel_cache *cache; /* NULL: the plan compiles for itself */
    bool is_first;           /* to be of that cache */
    int64_t engine;          /* its number */
    size_t workspace_bytes;
    bool has_bias, has_residual;
    char impl[32];
};

/* ------------------------------------------------------------------------------------------------------- choices */

/* The choices that an engine configuration is made of, as descriptors of `g`. */
static det_status read_knobs(det_cudnn_graph *g, cudnnBackendDescriptor_t config, cudnnBackendDescriptor_t *knobs,
                             int64_t *n) {
    for (int i = 0; i < MAX_KNOBS; i++)
        DET_TRY(det_cudnn_graph_create(g, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i]));
    DET_TRY(
        det_cudnn_get(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_KNOBS, n, knobs));
    if (*n > MAX_KNOBS) /* all that there are, not all that were given */
        DET_FAIL(DET_ERROR_DEVICE, "an engine of %lld choices", (long long)*n);
    return DET_OK;
}

typedef struct knob {
    cudnnBackendKnobType_t type;
    int64_t value;
} knob;

static det_status read_knob(cudnnBackendDescriptor_t choice, knob *k) {
    int64_t n;
    DET_TRY(det_cudnn_get(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &n, &k->type));
    return det_cudnn_get(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &n, &k->value);
}

static det_status read_choices(det_cudnn_graph *g, cudnnBackendDescriptor_t config, knob knobs[MAX_KNOBS], int *n) {
    cudnnBackendDescriptor_t choices[MAX_KNOBS];
    int64_t n_choices = 0;
    const int before = g->n_descriptors;
    det_status status = read_knobs(g, config, choices, &n_choices);
    *n = 0;
    while (status == DET_OK && *n < n_choices) {
        status = read_knob(choices[*n], &knobs[*n]);
        *n += status == DET_OK;
    }
    while (g->n_descriptors > before)
        cudnnBackendDestroyDescriptor(g->descriptors[--g->n_descriptors]);
    return status;
}

/* FNV-1a. */
static void mix(uint64_t *key, int64_t value) {
    for (int i = 0; i < 64; i += 8)
        *key = (*key ^ ((uint64_t)value >> i & 0xff)) * 0x100000001b3;
}

/* --------------------------------------------------------------------------------------------------------- plans */

/* What there is to know of a configuration: its engine, and how that is to work. */
typedef struct engine_notes {
    int64_t number, n_numerical;
    cudnnBackendNumericalNote_t numerical[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int n_knobs;
    knob knobs[MAX_KNOBS];
} engine_notes;

static det_status read_engine(cudnnBackendDescriptor_t config, cudnnBackendDescriptor_t engine, engine_notes *notes) {
    int64_t n;
    DET_TRY(det_cudnn_get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine));
    DET_TRY(det_cudnn_get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, &notes->number));
    return det_cudnn_get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                         CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &notes->n_numerical, notes->numerical);
}

static det_status notes_of(det_cudnn_graph *g, cudnnBackendDescriptor_t config, engine_notes *notes) {
    cudnnBackendDescriptor_t engine;
    DET_TRY(det_cudnn_create(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    det_status status = read_engine(config, engine, notes);
    det_cudnn_destroy(engine);
    return status == DET_OK ? read_choices(g, config, notes->knobs, &notes->n_knobs) : status;
}

/* Whether sums are split by how much there is to do, so that a picture's bytes would hang on the pictures beside it. Seen
 * in cuDNN 9.19's engines for Hopper: with WORKSPACE at 0, partial sums take 1 MB for some batch sizes and nothing for
 * others; with 1, there never are any. */
static bool splits_by_size(const engine_notes *notes) {
    enum { STREAM_K = 38 }; /* younger than cuDNN 9.0's header */
    bool splits = false;
    for (int i = 0; i < notes->n_knobs && !splits; i++) {
        const knob *k = &notes->knobs[i];
        splits = (k->type == CUDNN_KNOB_TYPE_WORKSPACE && k->value == 0) || ((int)k->type == STREAM_K && k->value != 0);
    }
    return splits;
}

/* Whether a configuration may be used: the same bytes every time, whatever is beside a picture, no narrower inputs, and in
 * fp32 no tensor cores. */
static bool acceptable(const engine_notes *notes, const det_conv_problem *p) {
    bool good = p->n == 1 || !splits_by_size(notes), strict = p->type == DET_TYPE_F32 && !p->tf32;
    for (int64_t i = 0; good && i < notes->n_numerical && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
        cudnnBackendNumericalNote_t note = notes->numerical[i];
        good = note != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC &&
               note != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION &&
               note != CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13 &&
               (note != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS || p->tf32) &&
               (note != CUDNN_NUMERICAL_NOTE_TENSOR_CORE || !strict);
    }
    return good;
}

/* What plans that run the same kernel have in common: the form, the engine, its choices. */
static uint64_t key_of(const det_cudnn_graph *g, const engine_notes *notes) {
    uint64_t key = 0xcbf29ce484222325;
    mix(&key, g->form);
    mix(&key, notes->number);
    for (int i = 0; i < notes->n_knobs; i++) {
        mix(&key, (int64_t)notes->knobs[i].type);
        mix(&key, notes->knobs[i].value);
    }
    return key;
}

void det_cudnn_conv_free(det_cudnn_conv *conv) {
    if (!conv)
        return;
    det_cuda_begin_teardown();
    det_cudnn_destroy(conv->pack);
    det_cudnn_destroy(conv->plan);
    det_cuda_end_teardown();
    det_cudnn_destroy(conv->config);
    det_cudnn_graph_leave(conv->graph);
    det_free(conv);
}

static det_status finalize_plan(const det_device *device, det_cudnn_conv *conv) {
    int64_t n, workspace = 0;
    DET_TRY(det_cudnn_create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &conv->plan));
    DET_TRY(det_cudnn_set(conv->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &device->cudnn));
    DET_TRY(det_cudnn_set_descriptor(conv->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, conv->config));
    DET_TRY(conv->cache ? det_kernel_cache_finalize(conv->cache, conv->plan) : det_cudnn_finalize(conv->plan));
    DET_TRY(det_cudnn_get(conv->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &workspace));
    conv->workspace_bytes = (size_t)workspace;
    return DET_OK;
}

/* *good: whether the configuration may become a plan. */
static det_status look_at(det_device *device, const det_conv_problem *p, det_cudnn_conv *conv, bool *good) {
    engine_notes notes;
    DET_TRY(notes_of(conv->graph, conv->config, &notes));
    *good = acceptable(&notes, p);
    conv->engine = notes.number;
    snprintf(conv->impl, sizeof conv->impl, "cudnn:%lld", (long long)conv->engine);
    if (!*good || conv->graph->form == 0)
        return DET_OK;
    return det_kernel_cache_find(device->caches, key_of(conv->graph, &notes), conv->graph->whole, &conv->cache,
                                 &conv->is_first);
}

/* Takes `config` over. *conv stays NULL when it may not be run. */
static det_status make_named(det_device *device, det_cudnn_graph *g, const det_conv_problem *p,
                             cudnnBackendDescriptor_t config, det_cudnn_conv **out) {
    det_cudnn_conv *conv = det_alloc_array(1, sizeof *conv);
    if (!conv) {
        det_cudnn_destroy(config);
        return DET_ERROR_OUT_OF_MEMORY;
    }
    bool good = false;
    g->n_users++;
    conv->graph = g;
    conv->config = config;
    conv->has_bias = p->has_bias;
    conv->has_residual = p->has_residual;
    det_status status = look_at(device, p, conv, &good);
    if (status != DET_OK || !good) {
        det_cudnn_conv_free(conv);
        return det_cudnn_forgive(status);
    }
    *out = conv;
    return DET_OK;
}

/* Takes `config` over. *conv stays NULL when it cannot be run. */
static det_status make_plan(det_device *device, det_cudnn_graph *g, const det_conv_problem *p,
                            cudnnBackendDescriptor_t config, det_cudnn_conv **out) {
    det_cudnn_conv *conv = NULL;
    DET_TRY(make_named(device, g, p, config, &conv));
    if (!conv)
        return DET_OK;
    det_status status = finalize_plan(device, conv);
    if (status != DET_OK || conv->workspace_bytes > MAX_WORKSPACE_BYTES) {
        det_cudnn_conv_free(conv);
        return det_cudnn_forgive(status);
    }
    *out = conv;
    return DET_OK;
}

static det_status read_heuristics(cudnnBackendDescriptor_t heuristics, const det_cudnn_graph *g,
                                  cudnnBackendHeurMode_t mode, cudnnBackendDescriptor_t configs[MAX_CONFIGS],
                                  int64_t *n) {
    DET_TRY(det_cudnn_set_descriptor(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->whole));
    DET_TRY(det_cudnn_set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    DET_TRY(det_cudnn_finalize(heuristics));
    for (int i = 0; i < MAX_CONFIGS; i++)
        DET_TRY(det_cudnn_create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]));
    return det_cudnn_get(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_CONFIGS, n,
                         configs);
}

/* The configurations that one mode of the heuristics names. A mode that fails names none: another may. */
static det_status ask_heuristics(const det_cudnn_graph *g, cudnnBackendHeurMode_t mode,
                                 cudnnBackendDescriptor_t configs[MAX_CONFIGS], int *n_configs) {
    cudnnBackendDescriptor_t heuristics;
    int64_t n = 0;
    memset(configs, 0, MAX_CONFIGS * sizeof *configs);
    det_status status = det_cudnn_create(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics);
    if (status == DET_OK)
        status = read_heuristics(heuristics, g, mode, configs, &n);
    det_cudnn_destroy(heuristics);
    *n_configs = status == DET_OK ? (int)DET_MIN(n, MAX_CONFIGS) : 0;
    for (int i = *n_configs; i < MAX_CONFIGS; i++)
        det_cudnn_destroy(configs[i]);
    return det_cudnn_forgive(status);
}

/* make_plan or make_named. */
typedef det_status (*make_fn)(det_device *device, det_cudnn_graph *g, const det_conv_problem *p,
                              cudnnBackendDescriptor_t config, det_cudnn_conv **out);

static det_status find_plans(det_device *device, det_cudnn_graph *g, const det_conv_problem *p,
                             cudnnBackendHeurMode_t mode, make_fn make, int most, det_cudnn_conv **convs, int *n) {
    cudnnBackendDescriptor_t configs[MAX_CONFIGS];
    int n_configs;
    det_status status = ask_heuristics(g, mode, configs, &n_configs);
    for (int i = 0; i < n_configs; i++) {
        if (*n == most || status != DET_OK) {
            det_cudnn_destroy(configs[i]);
            continue;
        }
        det_cudnn_conv *conv = NULL;
        status = make(device, g, p, configs[i], &conv);
        if (conv)
            convs[(*n)++] = conv;
    }
    return status;
}

static det_status find_conv(det_device *device, det_cudnn_graph *g, const det_conv_problem *problem, bool fallback,
                            int most, det_cudnn_conv **convs, int *n) {
    DET_TRY(find_plans(device, g, problem, CUDNN_HEUR_MODE_A, make_plan, most, convs, n));
    if (*n == 0)
        DET_TRY(find_plans(device, g, problem, CUDNN_HEUR_MODE_B, make_plan, most, convs, n));
    if (*n == 0 && fallback)
        DET_TRY(find_plans(device, g, problem, CUDNN_HEUR_MODE_FALLBACK, make_plan, most, convs, n));
    return DET_OK;
}

det_status det_cudnn_conv_find(det_device *device, const det_conv_problem *problem, bool fallback, int most,
                               det_cudnn_conv **convs, int *n) {
    det_cudnn_graph *g = NULL;
    *n = 0;
    det_status status = det_cudnn_graph_open(device, problem, &g);
    if (status != DET_OK)
        return det_cudnn_forgive(status);
    status = find_conv(device, g, problem, fallback, most, convs, n);
    while (status != DET_OK && *n > 0)
        det_cudnn_conv_free(convs[--*n]);
    det_cudnn_graph_leave(g);
    return status;
}

det_status det_cudnn_conv_name(det_device *device, const det_conv_problem *problem, int most, det_cudnn_conv **convs,
                               int *n) {
    det_cudnn_graph *g = NULL;
    int n_named = 0;
    *n = 0;
    if (!det_has_kernel_caches() || !det_cudnn_is_compiled(problem))
        return DET_OK;
    DET_TRY(det_cudnn_graph_open(device, problem, &g));
    det_status status = find_plans(device, g, problem, CUDNN_HEUR_MODE_A, make_named, most, convs, &n_named);
    det_cudnn_graph_leave(g);
    for (int i = 0; i < n_named; i++) {
        if (convs[i]->is_first)
            convs[(*n)++] = convs[i];
        else
            det_cudnn_conv_free(convs[i]);
    }
    return status;
}

/* ------------------------------------------------------------------------------------------------- other batches */

static det_status copy_config(det_cudnn_graph *g, const det_cudnn_conv *like, cudnnBackendDescriptor_t config) {
    cudnnBackendDescriptor_t engine, knobs[MAX_KNOBS];
    int64_t n = 0;
    DET_TRY(det_cudnn_graph_create(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    DET_TRY(det_cudnn_set_descriptor(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g->whole));
    DET_TRY(det_cudnn_set(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &like->engine));
    DET_TRY(det_cudnn_finalize(engine));
    DET_TRY(read_knobs(g, like->config, knobs, &n));
    DET_TRY(det_cudnn_set_descriptor(config, CUDNN_ATTR_ENGINECFG_ENGINE, engine));
    if (n > 0)
        DET_TRY(det_cudnn_set(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, knobs));
    return det_cudnn_finalize(config);
}

static det_status copy_plan(det_device *device, det_cudnn_graph *g, const det_conv_problem *problem,
                            const det_cudnn_conv *like, det_cudnn_conv **conv) {
    cudnnBackendDescriptor_t config;
    DET_TRY(det_cudnn_create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config));
    det_status status = copy_config(g, like, config);
    if (status == DET_OK)
        return make_plan(device, g, problem, config, conv);
    det_cudnn_destroy(config);
    return status;
}

det_status det_cudnn_conv_follow(det_device *device, const det_conv_problem *problem, const det_cudnn_conv *like,
                                 det_cudnn_conv **conv) {
    det_cudnn_graph *g = NULL;
    *conv = NULL;
    det_status status = det_cudnn_graph_open(device, problem, &g);
    if (status != DET_OK)
        return det_cudnn_forgive(status);
    status = copy_plan(device, g, problem, like, conv);
    det_cudnn_graph_leave(g);
    return det_cudnn_forgive(status);
}

size_t det_cudnn_conv_workspace(const det_cudnn_conv *conv) {
    return conv->workspace_bytes;
}

const char *det_cudnn_conv_impl(const det_cudnn_conv *conv) {
    return conv->impl;
}

/* ------------------------------------------------------------------------------------------------------- running */

det_status det_cudnn_conv_bind(det_cudnn_conv *conv, const det_conv_data *data) {
    int64_t uids[5] = {DET_UID_X, DET_UID_WEIGHT, DET_UID_Y};
    void *pointers[5] = {(void *)(uintptr_t)data->x, (void *)(uintptr_t)data->weight, data->y};
    int64_t n = 3;
    if (conv->has_bias) {
        uids[n] = DET_UID_BIAS;
        pointers[n++] = (void *)(uintptr_t)data->bias;
    }
    if (conv->has_residual) {
        uids[n] = DET_UID_RESIDUAL;
        pointers[n++] = (void *)(uintptr_t)data->residual;
    }
    void *workspace = data->workspace;
    det_cudnn_destroy(conv->pack);
    DET_TRY(det_cudnn_create(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &conv->pack));
    DET_TRY(det_cudnn_set(conv->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids));
    DET_TRY(det_cudnn_set(conv->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers));
    DET_TRY(det_cudnn_set(conv->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace));
    return det_cudnn_finalize(conv->pack);
}

det_status det_cudnn_conv_run(const det_cudnn_conv *conv, cudnnHandle_t handle) {
    CUDNN_TRY(cudnnBackendExecute(handle, conv->plan, conv->pack));
    return DET_OK;
}
