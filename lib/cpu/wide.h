/* Convolutions by vectors of 16 floats, where the CPU has AVX-512. Everywhere else, and for the shapes that these do not
 * take, oneDNN does the whole. */
#ifndef DET_CPU_WIDE_H
#define DET_CPU_WIDE_H

#include "../backend.h"

/* The state of a prepared convolution begins with how it runs. */
typedef struct det_conv_state {
    det_status (*run)(det_device *device, const det_step *step, const det_frame *frame);
    void (*release)(void *state);
} det_conv_state;

typedef struct det_wide_code {
    /* Ends rows [begin, end) of a convolution whose bare sums, bias included, are in `sums`: activations, residual, and
     * out to all who want them. */
    void (*finish_rows)(const det_step *step, int picture, int begin, int end, const float *sums);
    /* Whether winograd_prepare takes the step. */
    bool (*winograd_fits)(const det_step *step);
    /* weights: [c_out, c_in, 3, 3]; bias: [c_out], or NULL; both read during the call alone. */
    det_status (*winograd_prepare)(det_device *device, det_step *step, const float *weights, const float *bias);
} det_wide_code;

/* NULL where this CPU cannot run it. */
const det_wide_code *det_cpu_wide_code(void);

#endif
