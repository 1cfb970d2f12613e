#include "wide.h"

#ifdef __x86_64__

#include "avx512.h"

DET_AVX512 static void finish_rows(const det_step *step, int picture, int begin, int end, const float *sums) {
    det_shape out = step->output_shape;
    det_finish f = det_finish_of(step, picture);
    for (size_t pixel = (size_t)begin * out.w; pixel < (size_t)end * out.w; pixel++, sums += out.c) {
        for (int c = 0; c < out.c; c += DET_LANES) {
            __mmask16 lanes = det_lanes(c, out.c);
            det_finish_vector(&f, pixel, c, lanes, _mm512_maskz_loadu_ps(lanes, sums + c));
        }
    }
}

const det_wide_code *det_cpu_wide_code(void) {
    static const det_wide_code code = {finish_rows, det_winograd_fits, det_winograd_prepare};
    bool runs = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    return runs ? &code : NULL;
}

#else

const det_wide_code *det_cpu_wide_code(void) {
    return NULL;
}

#endif
