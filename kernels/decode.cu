/* Heads -> keys of the candidates that pass: the first step of decoding. The second is in select.cu.
 *
 * Logits are compared with the thresholds' logits first, so that nearly all priors end with a read. Four lanes share a
 * prior and read its classes together, 16 bytes each where they can; SCRFD has one class and one lane. Each block writes
 * its keys to a segment of its own and how many there are: there is nothing to clear before, and no order to keep. */
#include "heads.cuh"

using namespace det;

namespace {

enum { THREADS = 256, LANES = 4 };

__host__ __device__ constexpr int lanes_per_prior(det_head head) {
    return head == DET_HEAD_SCRFD ? 1 : LANES;
}

/* Where a block's threads put what passes. */
struct segment {
    key *keys;
    int *count; /* in shared memory */
};

__device__ __forceinline__ void append(const segment &s, float score, unsigned index) {
    s.keys[atomicAdd(s.count, 1)] = (key)__float_as_uint(score) << 32 | (unsigned)~index;
}

/* The highest of the logits that this lane of a prior reads; NaN is none. */
template <typename T>
__device__ __forceinline__ float highest_of_lane(const T *logits, int n_classes, bool wide, int lane) {
    constexpr int lanes = lanes_of<T>;
    int n_wide = wide ? n_classes / lanes : 0;
    float best = -INFINITY;
#pragma unroll 4
    for (int i = lane; i < n_wide; i += LANES) {
        float x[lanes];
        load_vector_constant(logits + i * lanes, x);
#pragma unroll
        for (int k = 0; k < lanes; k++)
            best = fmaxf(best, x[k]);
    }
    for (int i = n_wide * lanes + lane; i < n_classes; i += LANES)
        best = fmaxf(best, to_float(logits[i]));
    return best;
}

/* The first class whose logit is this one, from all lanes of a prior. */
template <typename T> __device__ int class_of(const T *logits, int n_classes, float logit, int lane) {
    int found = lane;
    while (found < n_classes && to_float(logits[found]) != logit)
        found += LANES;
    unsigned together = ((1u << LANES) - 1) << (lane_index() - lane);
#pragma unroll
    for (int d = LANES / 2; d > 0; d /= 2)
        found = min(found, __shfl_xor_sync(together, found, d));
    return found;
}

/* One prior by LANES lanes; `factor` multiplies its scores, `live` is false for lanes that only take part. */
template <typename T>
__device__ void scan_classes(const heads &h, const det_block *block, const T *logits, bool wide, bool live, int lane,
                             int prior, float factor, const segment &to) {
    if (!__any_sync(EVERY_LANE, live))
        return;
    float best = live ? highest_of_lane(logits, h.n_classes, wide, lane) : -INFINITY;
#pragma unroll
    for (int d = LANES / 2; d > 0; d /= 2)
        best = fmaxf(best, __shfl_xor_sync(EVERY_LANE, best, d));
    if (!(best > block->lowest_logit))
        return;
    unsigned first = (unsigned)prior * (unsigned)h.n_classes;
    if (!block->multi_label) {
        int class_id = class_of(logits, h.n_classes, best, lane);
        float score = factor * score_of(best);
        if (lane == 0 && score > block->class_scores[class_id])
            append(to, score, first + (unsigned)class_id);
        return;
    }
#pragma unroll 1
    for (int i = lane; i < h.n_classes; i += LANES) {
        float logit = to_float(logits[i]);
        if (!(logit > block->class_logits[i]))
            continue;
        float score = factor * score_of(logit);
        if (score > block->class_scores[i])
            append(to, score, first + (unsigned)i);
    }
}

/* Prior `local` of a level, which may be none. */
template <typename T, det_head HEAD>
__device__ void scan_prior(const heads &h, const head_level &l, const det_block *block, int picture, int local,
                           int lane, const segment &to) {
    bool live = local < l.n_priors;
    int prior = l.first_prior + local, n_cells = l.h * l.w;
    if (HEAD == DET_HEAD_SCRFD) {
        if (!live)
            return;
        float logit = to_float(cell_of<T>(l.x, l.x_stride, l, picture, local / h.n_anchors)[local % h.n_anchors]);
        if (!(logit > block->class_logits[0]))
            return;
        float score = score_of(logit);
        if (score > block->class_scores[0])
            append(to, score, (unsigned)prior);
    } else if (HEAD == DET_HEAD_DFL) {
        const T *logits = cell_of<T>(l.classes, l.classes_stride, l, picture, live ? local : 0);
        scan_classes(h, block, logits, l.wide, live, lane, prior, 1, to);
    } else {
        const T *x = cell_of<T>(l.x, l.x_stride, l, picture, live ? local % n_cells : 0);
        x += (live ? local / n_cells : 0) * (5 + h.n_classes);
        float objectness = to_float(x[4]);
        live = live && objectness > block->lowest_logit; /* score = objectness * class <= objectness */
        scan_classes(h, block, x + 5, false, live, lane, prior, score_of(objectness), to);
    }
}

template <typename T, det_head HEAD>
__global__ void __launch_bounds__(THREADS, 4) scan_heads(const __grid_constant__ heads h, const det_block *block) {
    DET_SHARED(count, int);
    int picture = (int)blockIdx.y, index = (int)blockIdx.x, level = 0;
    if (picture >= block->n)
        return;
    if (threadIdx.x == 0)
        count = 0;
    __syncthreads();
    while (level + 1 < h.n_levels && index >= h.levels[level + 1].first_segment)
        level++;
    const head_level &l = h.levels[level];
    size_t at = (size_t)picture * h.n_segments + index;
    segment to = {h.keys + at * keys_per_segment(h), &count};
    constexpr int lanes = lanes_per_prior(HEAD);
    int local = (index - l.first_segment) * (THREADS / lanes) + (int)threadIdx.x / lanes;
    scan_prior<T, HEAD>(h, l, block, picture, local, (int)threadIdx.x % lanes, to);
    __syncthreads();
    if (threadIdx.x == 0)
        h.counts[at] = count;
}

/* ------------------------------------------------------------------------------------------------------------ host */

enum { ALIGNMENT = 256, SORTED_IN_SHARED = 4096 };

size_t aligned(size_t n_bytes) {
    return div_up<size_t>(n_bytes, ALIGNMENT) * ALIGNMENT;
}

/* The heads but for pointers into the workspace, and the workspace's size; 0 when the arguments are wrong. */
size_t arrange(const det_decode_args *args, heads *h) {
    *h = {};
    h->head = args->head;
    h->n_levels = args->n_levels;
    h->n_classes = args->n_classes;
    h->n_anchors = args->n_anchors;
    h->n_bins = args->n_bins;
    h->n_landmarks = args->n_landmarks;
    h->cell_offset = args->cell_offset;
    h->max_candidates = args->max_candidates;
    h->priors_per_segment = THREADS / lanes_per_prior(args->head);
    h->lists = args->lists;
    if (args->n_levels < 1 || args->n_levels > 3 || args->n_classes < 1 || args->n_anchors < 1 || args->n_anchors > 4 ||
        args->max_candidates < 1 || args->max_candidates > 65536)
        return 0;
    int64_t n_priors = 0;
    for (int i = 0; i < args->n_levels; i++) {
        const det_decode_level &from = args->levels[i];
        head_level &to = h->levels[i];
        to.h = from.x.h;
        to.w = from.x.w;
        to.x = from.x.data;
        to.x_stride = from.x.stride;
        to.classes = from.classes.data;
        to.classes_stride = from.classes.stride;
        size_t step = (size_t)from.classes.stride * type_bytes(args->type);
        to.wide = (uintptr_t)from.classes.data % 16 == 0 && step % 16 == 0;
        to.stride = (float)from.stride;
        to.scale = from.scale;
        memcpy(to.anchors, from.anchors, sizeof to.anchors);
        to.n_priors = from.x.h * from.x.w * args->n_anchors;
        to.first_prior = (int)n_priors;
        to.first_segment = h->n_segments;
        h->n_segments += div_up(to.n_priors, h->priors_per_segment);
        n_priors += to.n_priors;
    }
    for (int room = SORTED_IN_SHARED; room < args->max_candidates; h->sort_room = room)
        room *= 2;
    if (n_priors * args->n_classes > 0xffffffff)
        return 0;
    size_t batch = (size_t)args->levels[0].x.n, n_segments = (size_t)h->n_segments;
    return aligned(batch * n_segments * sizeof *h->counts) + aligned(batch * (size_t)h->sort_room * sizeof(key)) +
           batch * n_segments * keys_per_segment(*h) * sizeof(key);
}

/* Every tensor must have the channels that its head reads. */
bool levels_fit(const det_decode_args *args) {
    int channels = args->head == DET_HEAD_SCRFD    ? args->n_anchors * (5 + 2 * args->n_landmarks)
                   : args->head == DET_HEAD_DFL    ? 4 * args->n_bins
                   : args->head == DET_HEAD_YOLOV5 ? args->n_anchors * (5 + args->n_classes)
                                                   : INT32_MAX;
    for (int i = 0; i < args->n_levels; i++) {
        const det_view &x = args->levels[i].x, &classes = args->levels[i].classes;
        if (!is_view(x) || x.c < channels || x.n != args->levels[0].x.n || x.n > 65535)
            return false;
        if (args->head == DET_HEAD_DFL && (!is_view(classes) || classes.c < args->n_classes || classes.n != x.n ||
                                           classes.h != x.h || classes.w != x.w))
            return false;
    }
    return args->n_landmarks >= 0 && args->n_landmarks <= 5 &&
           (args->head != DET_HEAD_DFL || (args->n_bins > 0 && args->n_anchors == 1)) &&
           (args->head != DET_HEAD_SCRFD || args->n_classes == 1);
}

template <typename T>
cudaError_t launch_scan(det_head head, dim3 grid, const heads &h, const det_block *block, cudaStream_t stream) {
    switch (head) {
    case DET_HEAD_SCRFD:
        return DET_LAUNCH((scan_heads<T, DET_HEAD_SCRFD>), grid, THREADS, 0, stream, h, block);
    case DET_HEAD_DFL:
        return DET_LAUNCH((scan_heads<T, DET_HEAD_DFL>), grid, THREADS, 0, stream, h, block);
    default:
        return DET_LAUNCH((scan_heads<T, DET_HEAD_YOLOV5>), grid, THREADS, 0, stream, h, block);
    }
}

} // namespace

size_t det_list_bytes(int max_candidates) {
    return sizeof(det_kernel_list) + (size_t)max_candidates * sizeof(det_kernel_candidate);
}

size_t det_decode_workspace(const det_decode_args *args) {
    heads h;
    return arrange(args, &h);
}

cudaError_t det_launch_decode(const det_decode_args *args, const det_block *block, cudaStream_t stream) {
    heads h;
    if (!arrange(args, &h) || !levels_fit(args) || !args->lists || !args->workspace || !block)
        return cudaErrorInvalidValue;
    int batch = args->levels[0].x.n;
    char *at = (char *)args->workspace;
    h.counts = (int32_t *)at;
    at += aligned((size_t)batch * (size_t)h.n_segments * sizeof *h.counts);
    h.sorted = (key *)at;
    at += aligned((size_t)batch * (size_t)h.sort_room * sizeof(key));
    h.keys = (key *)at;
    dim3 grid((unsigned)h.n_segments, (unsigned)batch);
    cudaError_t error = with_type(
        args->type, [&](auto element) { return launch_scan<decltype(element)>(args->head, grid, h, block, stream); });
    return error != cudaSuccess ? error : det_launch_select(args->type, batch, h, block, stream);
}
