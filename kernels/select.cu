/* Keys -> lists: the second step of decoding, one block for each picture.
 *
 * A few hundred keys, the common case, are gathered in shared memory, sorted by 32 in registers and merged by counting.
 * Up to SHARED_KEYS go through a bitonic sort there. More are first cut down to the best max_candidates, whose last key is
 * found digit by digit. Then four lanes make each candidate's box. */
#include "heads.cuh"

using namespace det;

namespace {

enum { THREADS = 1024, GROUP = 8, SHARED_KEYS = 4096, MERGED_KEYS = THREADS, DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS };

/* Calls f(key) for all keys of a picture; a group of lanes reads a segment. Nothing may wait within f. */
template <typename F> __device__ void each_key(const heads &h, int picture, F f) {
    int lane = (int)threadIdx.x % GROUP;
    const int32_t *counts = h.counts + (size_t)picture * h.n_segments;
    const key *keys = h.keys + (size_t)picture * h.n_segments * keys_per_segment(h);
    for (int i = (int)threadIdx.x / GROUP; i < h.n_segments; i += THREADS / GROUP) {
        int n = counts[i];
        for (int k = lane; k < n; k += GROUP)
            f(keys[i * keys_per_segment(h) + k]);
    }
}

/* How many keys there are, and in `sorted` as many as fit. Every thread gets the number. */
__device__ int gather(const heads &h, int picture, key *keys, int room, key least, int *count) {
    if (threadIdx.x == 0)
        *count = 0;
    __syncthreads();
    each_key(h, picture, [&](key k) {
        if (k < least)
            return;
        int at = atomicAdd(count, 1);
        if (at < room)
            keys[at] = k;
    });
    __syncthreads();
    return *count;
}

/* One warp: the digit whose bin has the *wanted-th greatest of all, and which one of that bin's it is. */
__device__ int digit_of(const int *bins, int *wanted) {
    constexpr int SHARE = DIGITS / WARP;
    int first = DIGITS - 1 - lane_index() * SHARE, mine = 0, n = *wanted;
#pragma unroll
    for (int i = 0; i < SHARE; i++)
        mine += bins[first - i];
    int through = mine;
#pragma unroll
    for (int d = 1; d < WARP; d *= 2) {
        int greater = __shfl_up_sync(EVERY_LANE, through, d);
        through += lane_index() >= d ? greater : 0;
    }
    int lane = __ffs((int)__ballot_sync(EVERY_LANE, through >= n)) - 1, digit = first, left = n - (through - mine);
    for (; lane_index() == lane && bins[digit] < left; digit--)
        left -= bins[digit];
    *wanted = __shfl_sync(EVERY_LANE, left, lane);
    return __shfl_sync(EVERY_LANE, digit, lane);
}

/* The n-th greatest key of more than n: from the highest digit down, in which bin of the keys that begin alike it is. */
__device__ key nth_greatest(const heads &h, int picture, int n, int *bins) {
    DET_SHARED(found, key);
    int wanted = n; /* the first warp's */
    if (threadIdx.x == 0)
        found = 0;
    for (int shift = 64 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        if (threadIdx.x < DIGITS)
            bins[threadIdx.x] = 0;
        __syncthreads();
        key prefix = found;
        each_key(h, picture, [&](key k) {
            if (shift == 64 - DIGIT_BITS || (k ^ prefix) >> (shift + DIGIT_BITS) == 0)
                atomicAdd(&bins[k >> shift & (DIGITS - 1)], 1);
        });
        __syncthreads();
        if (warp_index() == 0) {
            int digit = digit_of(bins, &wanted);
            if (lane_index() == 0)
                found |= (key)digit << shift;
        }
        __syncthreads();
    }
    return found;
}

/* Greatest first among the lanes of a warp: a bitonic sort in registers. */
__device__ key sort_lanes(key mine) {
    int lane = lane_index();
#pragma unroll
    for (int run = 2; run <= WARP; run *= 2) {
#pragma unroll
        for (int d = run / 2; d > 0; d /= 2) {
            key other = __shfl_xor_sync(EVERY_LANE, mine, d);
            bool greater_here = ((lane & d) == 0) == ((lane & run) == 0);
            mine = (mine > other) == greater_here ? mine : other;
        }
    }
    return mine;
}

/* How many keys of a sorted run are greater. */
__device__ __forceinline__ int count_greater(const key *run, key mine) {
    int n = 0;
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2)
        n += run[n + step - 1] > mine ? step : 0;
    return n + (run[n] > mine);
}

/* Greatest first, into `sorted`, at most MERGED_KEYS: warps sort runs of 32, then each key goes where the number of
 * greater keys in all runs says. As many lanes as there are threads for each key share the runs. */
__device__ void sort_by_merging(key *keys, int n, key *sorted) {
    int i = (int)threadIdx.x, n_runs = div_up(n, (int)WARP), size = WARP;
    while (size < n)
        size *= 2;
    if (i / WARP < n_runs)
        keys[i] = sort_lanes(i < n ? keys[i] : 0);
    __syncthreads();
    int share = THREADS / size, rank = 0;
    i /= share;
    key mine = i < n_runs * WARP ? keys[i] : 0;
    for (int run = (int)threadIdx.x % share; run < n_runs; run += share)
        rank += count_greater(keys + run * WARP, mine);
    for (int d = share / 2; d > 0; d /= 2)
        rank += __shfl_xor_sync(EVERY_LANE, rank, d);
    if (mine && (int)threadIdx.x % share == 0)
        sorted[rank] = mine;
    __syncthreads();
}

/* Greatest first, in place; `n` keys are followed by room up to a power of two. */
__device__ void sort_bitonic(key *keys, int n) {
    int size = 1;
    while (size < n)
        size *= 2;
    for (int i = n + (int)threadIdx.x; i < size; i += THREADS)
        keys[i] = 0;
    __syncthreads();
    for (int run = 2; run <= size; run *= 2) {
        for (int d = run / 2; d > 0; d /= 2) {
            for (int i = (int)threadIdx.x; i < size / 2; i += THREADS) {
                int low = 2 * i - (i & (d - 1)), high = low + d; /* pairs d apart */
                key a = keys[low], b = keys[high];
                if ((a < b) == ((low & run) == 0)) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            __syncthreads();
        }
    }
}

/* --------------------------------------------------------------------------------------------------------- boxes */

/* Where a candidate comes from. */
struct origin {
    const head_level *level;
    int cell, anchor;
    float x, y; /* its prior point */
};

__device__ origin origin_of(const heads &h, int prior) {
    int level = 0;
    while (level + 1 < h.n_levels && prior >= h.levels[level + 1].first_prior)
        level++;
    const head_level &l = h.levels[level];
    int local = prior - l.first_prior, n_cells = l.h * l.w;
    origin o;
    o.level = &l;
    o.anchor = h.head == DET_HEAD_YOLOV5 ? local / n_cells : local % h.n_anchors;
    o.cell = h.head == DET_HEAD_YOLOV5 ? local % n_cells : local / h.n_anchors;
    o.x = ((float)(o.cell % l.w) + h.cell_offset) * l.stride;
    o.y = ((float)(o.cell / l.w) + h.cell_offset) * l.stride;
    return o;
}

/* Expectation of a softmax over bins 0 .. n - 1. */
template <typename T> __device__ float expectation(const T *x, int n, float scale) {
    float highest = -INFINITY, sum = 0, weighted = 0;
#pragma unroll 8
    for (int i = 0; i < n; i++)
        highest = fmaxf(highest, to_float(x[i]));
    highest *= scale;
#pragma unroll 4
    for (int i = 0; i < n; i++) {
        float e = expf(to_float(x[i]) * scale - highest);
        sum += e;
        weighted += e * (float)i;
    }
    return weighted / sum;
}

/* Coordinate `side` of x1, y1, x2, y2. */
template <typename T> __device__ float coordinate(const heads &h, const origin &o, int picture, int side) {
    const head_level &l = *o.level;
    const T *x = cell_of<T>(l.x, l.x_stride, l, picture, o.cell);
    int axis = side % 2;
    float centre = axis ? o.y : o.x, distance;
    if (h.head == DET_HEAD_SCRFD) {
        distance = to_float(x[h.n_anchors + 4 * o.anchor + side]) * (l.scale * l.stride);
    } else if (h.head == DET_HEAD_DFL) {
        distance = expectation(x + side * h.n_bins, h.n_bins, l.scale) * l.stride;
    } else {
        x += o.anchor * (5 + h.n_classes);
        centre += (2 * score_of(to_float(x[axis])) - 0.5f) * l.stride;
        float size = 2 * score_of(to_float(x[2 + axis]));
        distance = size * size * l.anchors[o.anchor][axis] * l.stride / 2;
    }
    return side < 2 ? centre - distance : centre + distance;
}

/* One lane's part of candidate `k`: a coordinate, a quarter of the landmarks, and the first lane's the rest. */
template <typename T>
__device__ void write_candidate(const heads &h, int picture, key k, int lane, det_kernel_candidate *to) {
    unsigned index = ~(unsigned)k;
    int prior = (int)(index / (unsigned)h.n_classes);
    origin o = origin_of(h, prior);
    (&to->x1)[lane] = coordinate<T>(h, o, picture, lane);
    const T *points = cell_of<T>(o.level->x, o.level->x_stride, *o.level, picture, o.cell);
    points += 5 * h.n_anchors + 2 * h.n_landmarks * o.anchor;
    for (int i = lane; i < 10; i += 4) {
        bool has = h.head == DET_HEAD_SCRFD && i < 2 * h.n_landmarks;
        to->landmarks[i / 2][i % 2] = has ? (i % 2 ? o.y : o.x) + to_float(points[i]) * o.level->stride : 0;
    }
    if (lane == 0) {
        to->score = __uint_as_float((unsigned)(k >> 32));
        to->class_id = (int)(index % (unsigned)h.n_classes);
        to->prior = prior;
    }
}

/* Sorted keys of a picture, greatest first: in shared memory, or in the picture's part of h.sorted. */
__device__ const key *sorted_keys(const heads &h, int picture, key *keys, key *sorted, int *bins, int *total) {
    DET_SHARED(count, int);
    int n = *total = gather(h, picture, keys, SHARED_KEYS, 0, &count);
    if (n <= MERGED_KEYS) {
        sort_by_merging(keys, n, sorted);
        return sorted;
    }
    if (n > SHARED_KEYS) {
        int wanted = min(n, h.max_candidates);
        key least = n > wanted ? nth_greatest(h, picture, wanted, bins) : 0;
        __syncthreads(); /* all have read count */
        if (h.sort_room) {
            key *beyond = h.sorted + (size_t)picture * h.sort_room;
            sort_bitonic(beyond, gather(h, picture, beyond, wanted, least, &count));
            return beyond;
        }
        n = gather(h, picture, keys, wanted, least, &count);
    }
    sort_bitonic(keys, n); /* known to be in shared memory */
    return keys;
}

template <typename T>
__global__ void __launch_bounds__(THREADS, 1) select(const __grid_constant__ heads h, const det_block *block) {
    DET_SHARED(keys, key[SHARED_KEYS]);
    DET_SHARED(sorted, key[MERGED_KEYS]);
    DET_SHARED(bins, int[DIGITS]);
    int picture = (int)blockIdx.x, total;
    if (picture >= block->n)
        return;
    const key *best = sorted_keys(h, picture, keys, sorted, bins, &total);
    int n = min(total, h.max_candidates);
    size_t list_bytes = sizeof(det_kernel_list) + (size_t)h.max_candidates * sizeof(det_kernel_candidate);
    det_kernel_list *list = (det_kernel_list *)((char *)h.lists + picture * list_bytes);
    if (threadIdx.x == 0) {
        list->n = n;
        list->cut = total > n;
    }
    for (int i = (int)threadIdx.x / 4; i < n; i += THREADS / 4)
        write_candidate<T>(h, picture, best[i], (int)threadIdx.x % 4, &list->items[i]);
}

} // namespace

cudaError_t det::det_launch_select(det_type type, int batch, const heads &h, const det_block *block,
                                   cudaStream_t stream) {
    return with_type(type, [&](auto element) {
        return DET_LAUNCH(select<decltype(element)>, (unsigned)batch, THREADS, 0, stream, h, block);
    });
}
