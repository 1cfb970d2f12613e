/* What the files with AVX-512 code share: what a convolution's values go through on their way to memory, 16 at a time. */
#ifndef DET_CPU_AVX512_H
#define DET_CPU_AVX512_H

#include "cpu.h"

#include <immintrin.h>

#define DET_AVX512        __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw")))
#define DET_AVX512_INLINE DET_AVX512 __attribute__((always_inline)) static inline

/* for (int i = 0; i < n; i++), n <= 12, written out: arrays that it indexes are to be registers. */
#ifdef __clang__
#define DET_UNROLLED(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define DET_UNROLLED(i, n) _Pragma("GCC unroll 12") for (int i = 0; i < (n); i++)
#endif

enum {
    DET_LANES = 16,
    DET_PANEL = 2 * DET_LANES, /* output channels that products are made of at a time */
};

/* Lanes of the vector that begins at channel `first` of c. */
DET_AVX512_INLINE __mmask16 det_lanes(int first, int c) {
    return c - first >= DET_LANES ? 0xffff : (__mmask16)((1u << (c - first)) - 1);
}

/* 1 + e^-x, within 4e-7 of it. e^-x is 2^n by scaling times 2^r, |r| <= 1/2, by a polynomial of the smallest relative
 * error (8e-8). */
DET_AVX512_INLINE __m512 det_one_plus_exp(__m512 x) {
    const __m512 minus_log2e = _mm512_set1_ps(-1.44269504f);
    x = _mm512_min_ps(x, _mm512_set1_ps(100)); /* infinity has no fraction; beyond this the sum is 1 */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, minus_log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fmsub_ps(x, minus_log2e, n);
    __m512 p = _mm512_set1_ps(0.00132764701f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.00967554096f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0555071346f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.240221202f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693146944f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.00000012f));
    return _mm512_add_ps(_mm512_scalef_ps(p, n), _mm512_set1_ps(1));
}

DET_AVX512_INLINE __m512 det_activate_vector(__m512 x, det_act act) {
    switch (act) {
    case DET_ACT_RELU:
        return _mm512_max_ps(x, _mm512_setzero_ps());
    case DET_ACT_SILU:
        return _mm512_div_ps(x, det_one_plus_exp(x));
    case DET_ACT_SIGMOID:
        return _mm512_div_ps(_mm512_set1_ps(1), det_one_plus_exp(x));
    case DET_ACT_NONE:
        break;
    }
    return x;
}

/* Where the values of one picture go after the products: activation, residual, second activation, then to all who want
 * them. */
typedef struct det_finish {
    det_act act, post_act;
    int c;
    const float *residual; /* NULL: none */
    float *y;              /* NULL: nobody reads the output itself */
    float *into;           /* channel 0 of this output within a concatenation, or NULL */
    int into_c;            /* channels of the concatenation */
} det_finish;

static inline det_finish det_finish_of(const det_step *step, int picture) {
    const det_node *node = step->node;
    const det_conv_params *p = &node->u.conv;
    det_finish f = {.act = p->act, .post_act = p->post_act, .c = step->output_shape.c, .into_c = step->into_shape.c};
    if (p->has_residual)
        f.residual = det_cpu_picture(step->inputs[1], step->output_shape, picture);
    if (step->into)
        f.into = det_cpu_picture(step->into, step->into_shape, picture) + node->into_begin;
    if (!step->into || !node->only_into)
        f.y = det_cpu_picture(step->output, step->output_shape, picture);
    return f;
}

DET_AVX512_INLINE void det_finish_vector(const det_finish *f, size_t pixel, int channel, __mmask16 lanes, __m512 x) {
    x = det_activate_vector(x, f->act);
    size_t at = pixel * (size_t)f->c + (size_t)channel;
    if (f->residual)
        x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes, f->residual + at));
    x = det_activate_vector(x, f->post_act);
    if (f->y)
        _mm512_mask_storeu_ps(f->y + at, lanes, x);
    if (f->into)
        _mm512_mask_storeu_ps(f->into + pixel * (size_t)f->into_c + channel, lanes, x);
}

/* Matrix product: m[n_rows][DET_PANEL] = v[n_rows][n] * u[n][width], where v's rows are v_stride apart;
 * width is DET_PANEL, or DET_LANES for the last panel of an odd number of vectors. */
void det_multiply(int n_rows, int width, const float *v, size_t v_stride, const float *u, int n, float *m);

/* Channels of the panel that begins at channel `first` of c, in whole vectors. */
static inline int det_panel_width(int first, int c) {
    return c - first > DET_LANES ? DET_PANEL : DET_LANES;
}

static inline int det_round_up(int n, int multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

bool det_winograd_fits(const det_step *step);
det_status det_winograd_prepare(det_device *device, det_step *step, const float *weights, const float *bias);

#endif
