/* The device that a test is asked to run on: [--device cpu|cuda] [--precision fp32|tf32|fp16|bf16] among its arguments. */
#ifndef DET_TEST_DEVICE_H
#define DET_TEST_DEVICE_H

#include "check.h"
#include "libdetect/detect.h"

#include <string.h>

/* Takes these arguments out of argv; returns how many are left. */
static inline int test_device_options(int argc, char **argv, det_context_options *options) {
    static const char *const precisions[] = {"auto", "fp32", "tf32", "fp16", "bf16"};
    int n = 0;
    det_context_options_init(options);
    options->device = DET_DEVICE_CPU;
    options->precision = DET_FP32;
    options->n_threads = 2;
    options->max_image_bytes = 1 << 16; /* grows where a picture needs it */
    for (int i = 0; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--device")) {
            REQUIRE(!strcmp(value, "cpu") || !strcmp(value, "cuda"), "--device %s: cpu or cuda is meant", value);
            options->device = *argv[++i] == 'c' && argv[i][1] == 'u' ? DET_DEVICE_CUDA : DET_DEVICE_CPU;
        } else if (!strcmp(argv[i], "--precision")) {
            int found = -1;
            for (int j = 0; j < 5; j++)
                found = strcmp(value, precisions[j]) ? found : j;
            REQUIRE(found >= 0, "--precision %s: fp32, tf32, fp16 or bf16 is meant", value);
            options->precision = found;
            i++;
        } else {
            argv[n++] = argv[i];
        }
    }
    return n;
}

/* How far one operator's result may be off, as a share of its largest value. A result is stored with an error of at most
 * half a unit of its last place (2^-9 in bf16, 2^-12 in fp16); tf32 rounds the factors of every product to 2^-11. What
 * is added for exponentials, and for sums of rounded terms, makes it these; nothing on the CPU. */
static inline double test_precision_tolerance(const det_context_options *options) {
    switch (options->precision) {
    case DET_BF16:
        return 1.6e-2;
    case DET_FP16:
        return 2e-3;
    case DET_TF32:
        return 2e-3;
    default: /* fp32: libraries add in an order of their own */
        return options->device == DET_DEVICE_CUDA ? 1e-5 : 0;
    }
}

#endif
