/* What a cuDNN plan or a cublasLt product comes to: numbers on views of tensors. */
#ifndef DET_FAKE_CONVOLUTION_H
#define DET_FAKE_CONVOLUTION_H

#include "fake.h"

namespace fake {

/* [n, h, w, c], channels together; strides in elements. */
struct Tensor {
    cudaDataType type;
    int64_t n, h, w, c;
    int64_t picture_stride, row_stride, pixel_stride;

    int64_t at(int64_t i, int64_t y, int64_t x) const {
        return i * picture_stride + y * row_stride + x * pixel_stride;
    }
    size_t n_bytes() const { /* from the first element to the last */
        return (size_t)(at(n - 1, h - 1, w - 1) + c) * type_bytes(type);
    }
};

struct Convolution {
    Tensor x, w, y; /* w: [c_out, k_h, k_w, c_in / groups] */
    int64_t pad_h, pad_w, stride_h, stride_w;
    bool tf32;     /* inputs are rounded so */
    int64_t split; /* 2: the channels of each window are added up in two sums, which are joined at the end; else 1 */

    int64_t groups() const {
        return x.c / w.c;
    }
};

/* How many sums a library chooses for so much work. With DET_FAKE_CUDA_SPLIT it spreads little work over idle processors, so
 * that the same picture comes out with other last bits when it is alone and the choice is made anew. */
int64_t split_for(int64_t pixels);

/* y [n, h, w, c] dense, in float, sums in float. */
void convolve(const Convolution &c, const void *x, const void *w, float *y);

/* Do two views share an element? Views that interleave channels of one wider tensor need not. */
bool overlap(const Tensor &a, const void *a_data, const Tensor &b, const void *b_data);

} // namespace fake

#endif
