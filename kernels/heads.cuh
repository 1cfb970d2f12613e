/* What the two steps of decoding share: the heads as the device sees them, and where the keys lie between the steps.
 *
 * A key stands for one prior and class that passed: score bits << 32 | ~(prior * n_classes + class). Scores are positive,
 * so a greater key is a better candidate in the order that det_kernel_list promises, and no two keys are equal. */
#ifndef DET_HEADS_CUH
#define DET_HEADS_CUH

#include "common.cuh"

namespace det {

typedef unsigned long long key;

/* Each block of the first step has a segment of the keys of its picture, with room for all its priors and classes. */
struct head_level {
    const void *x, *classes;
    int x_stride, classes_stride; /* elements of a pixel */
    int h, w;
    int n_priors, first_prior, first_segment;
    bool wide; /* classes can be read 16 bytes at a time */
    float stride, scale;
    float anchors[4][2];
};

struct heads {
    int head, n_levels, n_classes, n_anchors, n_bins, n_landmarks;
    float cell_offset;
    int n_segments, priors_per_segment; /* of one picture */
    int max_candidates;
    int sort_room;   /* keys; 0: they are sorted in shared memory */
    int32_t *counts; /* [batch][n_segments] */
    key *keys;       /* [batch][n_segments][priors_per_segment][n_classes] */
    key *sorted;     /* [batch][sort_room] */
    det_kernel_list *lists;
    head_level levels[3];
};

/* The values of the first element of cell `cell` of a picture. */
template <typename T>
__device__ __forceinline__ const T *cell_of(const void *x, int stride, const head_level &l, int picture, int cell) {
    return (const T *)x + ((size_t)picture * l.h * l.w + cell) * stride;
}

__host__ __device__ inline size_t keys_per_segment(const heads &h) {
    return (size_t)h.priors_per_segment * h.n_classes;
}

/* Exact whatever the elements are: scores are compared with thresholds. */
__device__ __forceinline__ float score_of(float logit) {
    return sigmoid<float>(logit);
}

/* The second step: the best max_candidates keys of each picture, sorted, and their boxes. */
cudaError_t det_launch_select(det_type type, int batch, const heads &h, const det_block *block, cudaStream_t stream);

} // namespace det

#endif
