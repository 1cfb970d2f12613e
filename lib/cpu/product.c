/* The matrix product behind convolutions with AVX-512. */
#include "wide.h"

#ifdef __x86_64__

#include "avx512.h"

enum {
    MAX_ROWS = 12, /* with two vectors each: 24 sums and their operands fit the 32 registers */
    MAX_VECTORS = DET_PANEL / DET_LANES,
    AHEAD = 1024, /* floats of u that are asked for before their turn: they come from the second or third cache */
};

DET_AVX512_INLINE void multiply_rows(int n_rows, int n_vectors, const float *v, size_t v_stride, const float *u, int n,
                                     float *m) {
    __m512 sums[MAX_ROWS][MAX_VECTORS];
    DET_UNROLLED (i, n_rows) {
        DET_UNROLLED (k, n_vectors)
            sums[i][k] = _mm512_setzero_ps();
    }
    for (int j = 0; j < n; j++, u += n_vectors * DET_LANES) {
        __m512 factors[MAX_VECTORS];
        DET_UNROLLED (k, n_vectors) {
            factors[k] = _mm512_loadu_ps(u + k * DET_LANES);
            _mm_prefetch((const char *)(u + k * DET_LANES + AHEAD), _MM_HINT_T0);
        }
        DET_UNROLLED (i, n_rows) {
            __m512 value = _mm512_set1_ps(v[i * v_stride + j]);
            DET_UNROLLED (k, n_vectors)
                sums[i][k] = _mm512_fmadd_ps(value, factors[k], sums[i][k]);
        }
    }
    DET_UNROLLED (i, n_rows) {
        DET_UNROLLED (k, n_vectors)
            _mm512_storeu_ps(m + i * DET_PANEL + k * DET_LANES, sums[i][k]);
    }
}

/* The number of rows must be known when this is compiled for sums to be registers. */
#define FOR_EACH_N_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define DEFINE_MULTIPLY(name, n_vectors)                                                                               \
    DET_AVX512 static void name(int n_rows, const float *v, size_t v_stride, const float *u, int n, float *m) {        \
        switch (n_rows) { FOR_EACH_N_ROWS(CASE_##n_vectors) }                                                          \
    }
#define CASE(n_rows, n_vectors)                                                                                        \
    case n_rows:                                                                                                       \
        multiply_rows(n_rows, n_vectors, v, v_stride, u, n, m);                                                        \
        break;
#define CASE_1(n_rows) CASE(n_rows, 1)
#define CASE_2(n_rows) CASE(n_rows, 2)
DEFINE_MULTIPLY(multiply_narrow, 1)
DEFINE_MULTIPLY(multiply_wide, 2)

void det_multiply(int n_rows, int width, const float *v, size_t v_stride, const float *u, int n, float *m) {
    int n_groups = (n_rows + MAX_ROWS - 1) / MAX_ROWS; /* as even as can be */
    for (int i = 0; i < n_groups; i++) {
        int begin = n_rows * i / n_groups, end = n_rows * (i + 1) / n_groups;
        (width == DET_PANEL ? multiply_wide : multiply_narrow)(end - begin, v + begin * v_stride, v_stride, u, n,
                                                               m + (size_t)begin * DET_PANEL);
    }
}

#endif
