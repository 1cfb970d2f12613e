#include "dnn.h"

#include "cpu.h"
#include "guard.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>
#include <sys/mman.h>

#if DNNL_VERSION_MAJOR < 2 || DNNL_VERSION_MAJOR > 3
#error "oneDNN 2 or 3 is needed"
#endif

#define DNN_TRY(call)                                                                                                  \
    do {                                                                                                               \
        dnnl_status_t dnn_status = (call);                                                                             \
        if (dnn_status == dnnl_out_of_memory)                                                                          \
            return det_fail(DET_ERROR_OUT_OF_MEMORY, "oneDNN: out of host memory");                                    \
        if (dnn_status != dnnl_success)                                                                                \
            return det_fail(DET_ERROR_DEVICE, "oneDNN: %s -> %d", #call, (int)dnn_status);                             \
    } while (0)

/* ------------------------------------------------------------------------------------------ memory descriptors */

/* Version 2 has descriptors by value, version 3 handles: md holds one, MD_ARGUMENT passes it, md_view borrows it. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md;
#define MD_ARGUMENT(m) (m)
static dnnl_status_t md_by_tag(md *m, int n_dims, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_create_with_tag(m, n_dims, dims, dnnl_f32, tag);
}
static void md_destroy(md *m) {
    if (*m)
        dnnl_memory_desc_destroy(*m);
    *m = NULL;
}
typedef const_dnnl_memory_desc_t md_view;
#else
typedef dnnl_memory_desc_t md;
#define MD_ARGUMENT(m) (&(m))
static dnnl_status_t md_by_tag(md *m, int n_dims, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_init_by_tag(m, n_dims, dims, dnnl_f32, tag);
}
static void md_destroy(md *m) {
    memset(m, 0, sizeof *m);
}
typedef const dnnl_memory_desc_t *md_view;
#endif

/* Of [c_out, c_in / groups, k, k]; oneDNN gives grouped weights a dimension more. */
static dnnl_status_t md_of_weights(md *m, const det_dnn_conv_shape *s, dnnl_format_tag_t tag,
                                   dnnl_format_tag_t grouped_tag) {
    dnnl_dims_t plain = {s->c_out, s->c_in, s->k, s->k};
    dnnl_dims_t grouped = {s->groups, s->c_out / s->groups, s->c_in / s->groups, s->k, s->k};
    return s->groups > 1 ? md_by_tag(m, 5, grouped, grouped_tag) : md_by_tag(m, 4, plain, tag);
}

/* ------------------------------------------------------------------------------------------------------- engine */

struct det_dnn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int (*omp_get_max_threads)(void);
    void (*omp_set_num_threads)(int n);
};

/* The functions of the OpenMP runtime that oneDNN itself was linked with, wherever that is; none when it was built
 * without OpenMP. */
static void find_omp(det_dnn *dnn) {
    Dl_info info;
    if (!dladdr((const void *)&dnnl_engine_create, &info) || !info.dli_fname)
        return;
    void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (!library)
        return;
    void *get = dlsym(library, "omp_get_max_threads"), *set = dlsym(library, "omp_set_num_threads");
    if (get && set) {
        memcpy(&dnn->omp_get_max_threads, &get, sizeof get);
        memcpy(&dnn->omp_set_num_threads, &set, sizeof set);
    }
    dlclose(library); /* it stays loaded: this library needs it */
}

int det_dnn_single_thread(const det_dnn *dnn) {
    if (!dnn->omp_set_num_threads)
        return 0;
    int before = dnn->omp_get_max_threads();
    dnn->omp_set_num_threads(1);
    return before;
}

void det_dnn_restore_threads(const det_dnn *dnn, int n_threads) {
    if (n_threads > 0)
        dnn->omp_set_num_threads(n_threads);
}

/* oneDNN 2 writes the code that it generates without asking whether there was memory for it; a primitive takes up to
 * 2 MiB. So there must be enough, for a few threads at a time. */
static dnnl_status_t create_primitive(dnnl_primitive_t *primitive, const_dnnl_primitive_desc_t description) {
    const size_t n_bytes = 8 << 20;
    void *room = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return dnnl_out_of_memory;
    munmap(room, n_bytes);
    return dnnl_primitive_create(primitive, description);
}

static det_status open_engine(void *argument) {
    det_dnn *dnn = argument;
    DNN_TRY(dnnl_engine_create(&dnn->engine, dnnl_cpu, 0));
    DNN_TRY(dnnl_stream_create(&dnn->stream, dnn->engine, dnnl_stream_default_flags));
    return DET_OK;
}

det_status det_dnn_open(det_dnn **out) {
    det_dnn *dnn = det_alloc_array(1, sizeof *dnn);
    if (!dnn)
        return DET_ERROR_OUT_OF_MEMORY;
    find_omp(dnn);
    det_status status = det_guard(open_engine, dnn);
    if (status != DET_OK) {
        det_dnn_close(dnn);
        return status;
    }
    *out = dnn;
    return DET_OK;
}

void det_dnn_close(det_dnn *dnn) {
    if (!dnn)
        return;
    if (dnn->stream)
        dnnl_stream_destroy(dnn->stream);
    if (dnn->engine)
        dnnl_engine_destroy(dnn->engine);
    det_free(dnn);
}

/* ------------------------------------------------------------------------------------------------------ weights */

struct det_dnn_weights {
    int n_references;
    size_t n_bytes;
    float *values;
};

size_t det_dnn_weights_bytes(const det_dnn_weights *weights) {
    return weights->n_bytes;
}

static void release_weights(det_dnn_weights *weights) {
    if (!weights || --weights->n_references > 0)
        return;
    det_free(weights->values);
    det_free(weights);
}

/* What is made on the way to a convolution. An exception of oneDNN's skips the functions that it passes: so they leave
 * what they hold here, and who catches gives it back. */
enum { MD_SRC, MD_WEIGHTS, MD_BIAS, MD_DST, MD_PLAIN, N_MDS };

typedef struct temporaries {
    md descriptions[N_MDS];
    dnnl_primitive_attr_t attributes;
    dnnl_post_ops_t ops;
    dnnl_memory_t source, target; /* of the reorder, like the next two */
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
} temporaries;

static void release_temporaries(temporaries *t) {
    for (int i = 0; i < N_MDS; i++)
        md_destroy(&t->descriptions[i]);
    if (t->ops)
        dnnl_post_ops_destroy(t->ops);
    if (t->attributes)
        dnnl_primitive_attr_destroy(t->attributes);
    if (t->primitive)
        dnnl_primitive_destroy(t->primitive);
    if (t->description)
        dnnl_primitive_desc_destroy(t->description);
    if (t->source)
        dnnl_memory_destroy(t->source);
    if (t->target)
        dnnl_memory_destroy(t->target);
}

static det_status reorder(det_dnn *dnn, temporaries *t, md_view from, float *from_values, md_view to, float *to_values) {
    DNN_TRY(dnnl_memory_create(&t->source, from, dnn->engine, from_values));
    DNN_TRY(dnnl_memory_create(&t->target, to, dnn->engine, to_values));
    DNN_TRY(dnnl_reorder_primitive_desc_create(&t->description, from, dnn->engine, to, dnn->engine, NULL));
    DNN_TRY(create_primitive(&t->primitive, t->description));
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, t->source}, {DNNL_ARG_TO, t->target}};
    DNN_TRY(dnnl_primitive_execute(t->primitive, dnn->stream, 2, arguments));
    DNN_TRY(dnnl_stream_wait(dnn->stream));
    return DET_OK;
}

/* Repacks [c_out, c_in / groups, k, k] into the form `wanted`, in *out whatever happens. */
static det_status pack_weights(det_dnn *dnn, temporaries *t, const det_dnn_conv_shape *s, const float *weights,
                               md_view wanted, det_dnn_weights **out) {
    det_dnn_weights *packed = det_alloc_array(1, sizeof *packed);
    if (!packed)
        return DET_ERROR_OUT_OF_MEMORY;
    *out = packed;
    packed->n_references = 1;
    packed->n_bytes = dnnl_memory_desc_get_size(wanted);
    packed->values = det_cpu_alloc_large(packed->n_bytes);
    if (!packed->values)
        return DET_ERROR_OUT_OF_MEMORY;
    md *plain = &t->descriptions[MD_PLAIN];
    DNN_TRY(md_of_weights(plain, s, dnnl_oihw, dnnl_goihw));
    return reorder(dnn, t, MD_ARGUMENT(*plain), (float *)(uintptr_t)weights, wanted, packed->values);
}

/* -------------------------------------------------------------------------------------------------- convolution */

enum { SRC, WEIGHTS, BIAS, DST, RESIDUAL, SCRATCH, N_ARGUMENTS };

/* A thread's own arguments: handles are set before each run. */
typedef struct conv_arguments {
    dnnl_memory_t memory[N_ARGUMENTS];
} conv_arguments;

struct det_dnn_conv {
    det_dnn *dnn;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    det_dnn_weights *weights;
    const char *impl;
    size_t scratch_bytes;
    int residual_argument;
    size_t residual_bytes; /* copied into y before a run, for oneDNN to add it there; 0: nothing is copied */
    int n_threads;
    conv_arguments *arguments; /* [n_threads] */
};

static dnnl_status_t append_eltwise(dnnl_post_ops_t ops, det_act act) {
    dnnl_alg_kind_t kind = act == DET_ACT_RELU   ? dnnl_eltwise_relu
                           : act == DET_ACT_SILU ? dnnl_eltwise_swish
                                                 : dnnl_eltwise_logistic;
    float alpha = act == DET_ACT_SILU ? 1.0f : 0.0f;
    if (act == DET_ACT_NONE)
        return dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, 0.0f);
#else
    return dnnl_post_ops_append_eltwise(ops, 1.0f, kind, alpha, 0.0f);
#endif
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
#else
    return dnnl_post_ops_append_sum(ops, 1.0f);
#endif
}

static det_status make_attributes(const det_dnn_conv_shape *s, md *dst, dnnl_primitive_attr_t attributes,
                                  dnnl_post_ops_t ops) {
    DNN_TRY(append_eltwise(ops, s->act));
    if (s->has_residual && s->residual_in_place)
        DNN_TRY(append_sum(ops));
    else if (s->has_residual)
        DNN_TRY(dnnl_post_ops_append_binary(ops, dnnl_binary_add, MD_ARGUMENT(*dst)));
    DNN_TRY(append_eltwise(ops, s->post_act));
    DNN_TRY(dnnl_primitive_attr_set_post_ops(attributes, ops));
    DNN_TRY(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user));
    return DET_OK;
}

static det_status make_descriptions(const det_dnn_conv_shape *s, md m[N_MDS]) {
    dnnl_dims_t src = {1, s->c_in, s->h_in, s->w_in}, dst = {1, s->c_out, s->h_out, s->w_out}, bias = {s->c_out};
    DNN_TRY(md_by_tag(&m[MD_SRC], 4, src, dnnl_nhwc));
    DNN_TRY(md_by_tag(&m[MD_DST], 4, dst, dnnl_nhwc));
    if (s->has_bias)
        DNN_TRY(md_by_tag(&m[MD_BIAS], 1, bias, dnnl_a));
    DNN_TRY(md_of_weights(&m[MD_WEIGHTS], s, dnnl_format_tag_any, dnnl_format_tag_any));
    return DET_OK;
}

static det_status describe(det_dnn_conv *conv, const det_dnn_conv_shape *s, md m[N_MDS],
                           dnnl_primitive_attr_t attributes) {
    dnnl_dims_t strides = {s->stride, s->stride};
    dnnl_dims_t before = {s->pad_top, s->pad_left}, after = {s->pad_bottom, s->pad_right};
#if DNNL_VERSION_MAJOR >= 3
    dnnl_dims_t dilates = {0, 0};
    DNN_TRY(dnnl_convolution_forward_primitive_desc_create(
        &conv->description, conv->dnn->engine, dnnl_forward_inference, dnnl_convolution_direct, m[MD_SRC],
        m[MD_WEIGHTS], s->has_bias ? m[MD_BIAS] : NULL, m[MD_DST], strides, dilates, before, after, attributes));
#else
    dnnl_convolution_desc_t operation;
    DNN_TRY(dnnl_convolution_forward_desc_init(&operation, dnnl_forward_inference, dnnl_convolution_direct, &m[MD_SRC],
                                               &m[MD_WEIGHTS], s->has_bias ? &m[MD_BIAS] : NULL, &m[MD_DST], strides,
                                               before, after));
    DNN_TRY(dnnl_primitive_desc_create(&conv->description, &operation, attributes, conv->dnn->engine, NULL));
#endif
    DNN_TRY(dnnl_primitive_desc_query(conv->description, dnnl_query_impl_info_str, 0, &conv->impl));
    return DET_OK;
}

static det_status choose(det_dnn_conv *conv, const det_dnn_conv_shape *s, temporaries *t) {
    DNN_TRY(dnnl_primitive_attr_create(&t->attributes));
    DNN_TRY(dnnl_post_ops_create(&t->ops));
    DET_TRY(make_attributes(s, &t->descriptions[MD_DST], t->attributes, t->ops));
    return describe(conv, s, t->descriptions, t->attributes);
}

/* oneDNN 2.6 adds what is elsewhere wrongly in its convolution by matrix products, the one that it has for 64-bit ARM:
 * there the residual is copied into the output first. */
static det_status choose_that_adds(det_dnn_conv *conv, const det_dnn_conv_shape *s, temporaries *t) {
    DET_TRY(choose(conv, s, t));
    if (!s->has_residual || s->residual_in_place || strncmp(conv->impl, "gemm", 4) != 0)
        return DET_OK;
    det_dnn_conv_shape in_place = *s;
    in_place.residual_in_place = true;
    dnnl_primitive_desc_destroy(conv->description);
    conv->description = NULL;
    conv->residual_bytes = sizeof(float) * (size_t)s->h_out * (size_t)s->w_out * (size_t)s->c_out;
    dnnl_primitive_attr_destroy(t->attributes);
    dnnl_post_ops_destroy(t->ops);
    t->attributes = NULL;
    t->ops = NULL;
    return choose(conv, &in_place, t);
}

static md_view query(const det_dnn_conv *conv, dnnl_query_t what, int index) {
    return dnnl_primitive_desc_query_md(conv->description, what, index);
}

/* The sibling's weights when their form is this convolution's, too: their sizes tell, and then their bytes, because a
 * description of version 2 does not outlive its convolution. */
static det_status get_weights(det_dnn_conv *conv, temporaries *t, const det_dnn_conv_shape *s, const float *weights,
                              det_dnn_weights **packed) {
    DET_TRY(pack_weights(conv->dnn, t, s, weights, query(conv, dnnl_query_weights_md, 0), &conv->weights));
    det_dnn_weights *own = conv->weights, *shared = *packed;
    if (shared && shared->n_bytes == own->n_bytes && !memcmp(shared->values, own->values, own->n_bytes)) {
        release_weights(own);
        conv->weights = shared;
        shared->n_references++;
    }
    return DET_OK;
}

static det_status make_arguments(det_dnn_conv *conv, const det_dnn_conv_shape *s, const float *bias) {
    conv->arguments = det_alloc_array((size_t)conv->n_threads, sizeof *conv->arguments);
    if (!conv->arguments)
        return DET_ERROR_OUT_OF_MEMORY;
    md_view dst = query(conv, dnnl_query_dst_md, 0), scratch = query(conv, dnnl_query_scratchpad_md, 0);
    conv->scratch_bytes = dnnl_memory_desc_get_size(scratch);
    dnnl_engine_t engine = conv->dnn->engine;
    for (int i = 0; i < conv->n_threads; i++) {
        dnnl_memory_t *m = conv->arguments[i].memory;
        DNN_TRY(dnnl_memory_create(&m[SRC], query(conv, dnnl_query_src_md, 0), engine, DNNL_MEMORY_NONE));
        DNN_TRY(dnnl_memory_create(&m[WEIGHTS], query(conv, dnnl_query_weights_md, 0), engine, conv->weights->values));
        DNN_TRY(dnnl_memory_create(&m[DST], dst, engine, DNNL_MEMORY_NONE));
        DNN_TRY(dnnl_memory_create(&m[SCRATCH], scratch, engine, DNNL_MEMORY_NONE));
        if (s->has_bias)
            DNN_TRY(
                dnnl_memory_create(&m[BIAS], query(conv, dnnl_query_weights_md, 1), engine, (float *)(uintptr_t)bias));
        if (s->has_residual && !s->residual_in_place && conv->residual_bytes == 0)
            DNN_TRY(dnnl_memory_create(&m[RESIDUAL], dst, engine, DNNL_MEMORY_NONE));
    }
    conv->residual_argument = DNNL_ARG_ATTR_MULTIPLE_POST_OP(s->act != DET_ACT_NONE ? 1 : 0) | DNNL_ARG_SRC_1;
    return DET_OK;
}

typedef struct create_call {
    const det_dnn_conv_shape *shape;
    const float *weights, *bias;
    det_dnn_weights **packed;
    det_dnn_conv *conv;
    temporaries temporaries;
} create_call;

static det_status create(void *argument) {
    create_call *call = argument;
    const det_dnn_conv_shape *s = call->shape;
    det_dnn_conv *conv = call->conv;
    temporaries *t = &call->temporaries;
    DET_TRY(make_descriptions(s, t->descriptions));
    DET_TRY(choose_that_adds(conv, s, t));
    DNN_TRY(create_primitive(&conv->primitive, conv->description));
    DET_TRY(get_weights(conv, t, s, call->weights, call->packed));
    return make_arguments(conv, s, call->bias);
}

det_status det_dnn_conv_create(det_dnn *dnn, const det_dnn_conv_shape *shape, const float *weights, const float *bias,
                               int n_threads, det_dnn_weights **packed, det_dnn_conv **out) {
    det_dnn_conv *conv = det_alloc_array(1, sizeof *conv);
    if (!conv)
        return DET_ERROR_OUT_OF_MEMORY;
    conv->dnn = dnn;
    conv->n_threads = n_threads;
    create_call call = {.shape = shape, .weights = weights, .bias = bias, .packed = packed, .conv = conv};
    det_status status = det_guard(create, &call);
    release_temporaries(&call.temporaries);
    if (status != DET_OK) {
        det_dnn_conv_destroy(conv);
        return status;
    }
    *packed = conv->weights;
    if (!strncmp(conv->impl, "ref", 3))
        det_log(DET_LOG_WARNING, "oneDNN has only its slow reference code for a convolution of %d -> %d channels, k %d",
                shape->c_in, shape->c_out, shape->k);
    *out = conv;
    return DET_OK;
}

void det_dnn_conv_destroy(det_dnn_conv *conv) {
    if (!conv)
        return;
    for (int i = 0; conv->arguments && i < conv->n_threads; i++) {
        for (int j = 0; j < N_ARGUMENTS; j++) {
            if (conv->arguments[i].memory[j])
                dnnl_memory_destroy(conv->arguments[i].memory[j]);
        }
    }
    det_free(conv->arguments);
    if (conv->primitive)
        dnnl_primitive_destroy(conv->primitive);
    if (conv->description)
        dnnl_primitive_desc_destroy(conv->description);
    release_weights(conv->weights);
    det_free(conv);
}

size_t det_dnn_conv_scratch_bytes(const det_dnn_conv *conv) {
    return conv->scratch_bytes;
}

const char *det_dnn_conv_impl(const det_dnn_conv *conv) {
    return conv->impl;
}

typedef struct run_call {
    det_dnn_conv *conv;
    dnnl_memory_t *memory;
    const void *handles[N_ARGUMENTS]; /* those that change */
} run_call;

static det_status run(void *argument) {
    run_call *call = argument;
    const int kinds[N_ARGUMENTS] = {
        DNNL_ARG_SRC,       DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST, call->conv->residual_argument,
        DNNL_ARG_SCRATCHPAD};
    dnnl_exec_arg_t arguments[N_ARGUMENTS];
    int n = 0;
    for (int i = 0; i < N_ARGUMENTS; i++) {
        if (!call->memory[i])
            continue;
        if (call->handles[i])
            DNN_TRY(dnnl_memory_set_data_handle(call->memory[i], (void *)(uintptr_t)call->handles[i]));
        arguments[n++] = (dnnl_exec_arg_t){kinds[i], call->memory[i]};
    }
    DNN_TRY(dnnl_primitive_execute(call->conv->primitive, call->conv->dnn->stream, n, arguments));
    return DET_OK;
}

det_status det_dnn_conv_run(det_dnn_conv *conv, int thread, const float *x, const float *residual, float *y,
                            void *scratch) {
    if (conv->residual_bytes > 0)
        memcpy(y, residual, conv->residual_bytes);
    run_call call = {
        conv, conv->arguments[thread].memory, {[SRC] = x, [DST] = y, [RESIDUAL] = residual, [SCRATCH] = scratch}};
    return det_guard(run, &call);
}
