/* Lists -> objects: greedy NMS and the way back to the caller's pictures, one block for each picture, in one launch.
 *
 * Candidates are taken in order, CHUNK at a time: first all are compared with the boxes kept so far, then with each other
 * into a matrix of bits, from which one thread takes a row for each box that stays. The work is that of the serial rule,
 * kept boxes times candidates, and it ends when the objects are complete. Overlap is decided in the arithmetic of the
 * CPU's NMS, to the bit. */
#include "common.cuh"

using namespace det;

namespace {

enum { CHUNK = 64, THREADS = 512, SLICES = THREADS / CHUNK, HALVES = CHUNK / WARP, NEAR = 512 };

typedef unsigned long long bits;

/* What NMS compares. */
struct alignas(8) box {
    float x1, y1, x2, y2;
    int class_id;
    int index; /* in the list */
};

__device__ __forceinline__ float product(float a, float b) {
    return __fmul_rn(a, b); /* not to be contracted with a sum */
}

/* Does `a` go because of the better box `b`? */
__device__ __forceinline__ bool overlaps(const box &a, const box &b, float iou, bool class_agnostic) {
    if (a.class_id != b.class_id && !class_agnostic)
        return false;
    float w = (a.x2 < b.x2 ? a.x2 : b.x2) - (a.x1 > b.x1 ? a.x1 : b.x1);
    float h = (a.y2 < b.y2 ? a.y2 : b.y2) - (a.y1 > b.y1 ? a.y1 : b.y1);
    if (!(w > 0 && h > 0))
        return false;
    float both = product(w, h);
    float either = product(a.x2 - a.x1, a.y2 - a.y1) + product(b.x2 - b.x1, b.y2 - b.y1) - both;
    return __fdiv_rn(both, either) > iou;
}

/* What a block shares. */
struct chunk {
    box near[NEAR]; /* the first of the boxes kept before, which `kept` has all of */
    box boxes[CHUNK];
    bits overlap[CHUNK];   /* row: better box, bit: candidate that goes because of it */
    unsigned gone[HALVES]; /* low half first */
    bits keep;
    int n_kept, n_before; /* of this chunk */
    bool more;
};

struct rule {
    float iou;
    bool class_agnostic;
    int limit;
};

__device__ __forceinline__ box box_at(const det_kernel_list *list, int i) {
    const det_kernel_candidate *from = &list->items[i];
    return {from->x1, from->y1, from->x2, from->y2, from->class_id, i};
}

/* Marks those that a box kept before overlaps; each candidate has a thread in every slice. */
__device__ void compare_with_kept(chunk *c, int n, const box *kept, const rule &r) {
    int i = (int)threadIdx.x % CHUNK;
    bool gone = false;
    if (i < n) {
        box mine = c->boxes[i];
        int k = (int)threadIdx.x / CHUNK, n_near = min(c->n_kept, (int)NEAR);
        for (; k < n_near && !gone; k += SLICES)
            gone = overlaps(mine, c->near[k], r.iou, r.class_agnostic);
        for (; k < c->n_kept && !gone; k += SLICES)
            gone = overlaps(mine, kept[k], r.iou, r.class_agnostic);
    }
    unsigned word = __ballot_sync(EVERY_LANE, gone);
    if (lane_index() == 0 && word)
        atomicOr(&c->gone[i / WARP], word);
}

/* The chunk's own matrix. A warp has half of the candidates, one in each lane, and every so many of the better boxes. */
__device__ void compare_with_each_other(chunk *c, int n, const rule &r) {
    unsigned(*words)[HALVES] = (unsigned(*)[HALVES])c->overlap; /* low half first */
    int half = warp_index() % HALVES, i = half * WARP + lane_index();
    box mine = i < n ? c->boxes[i] : box();
    for (int better = warp_index() / HALVES; better < n; better += THREADS / WARP / HALVES) {
        unsigned word = 0;
        if (better < half * WARP + WARP)
            word = __ballot_sync(EVERY_LANE,
                                 i > better && i < n && overlaps(mine, c->boxes[better], r.iou, r.class_agnostic));
        if (lane_index() == 0)
            words[better][half] = word;
    }
}

/* One thread: keeps the best that is left, drops what it overlaps, until none is left. */
__device__ void keep_best(chunk *c, int n, int limit) {
    bits gone = (bits)c->gone[1] << WARP | c->gone[0], left = ~gone & ~(bits)0 >> (CHUNK - n), keep = 0;
    while (left) {
        int i = __ffsll((long long)left) - 1;
        keep |= (bits)1 << i;
        left &= ~((bits)1 << i | c->overlap[i]);
    }
    int n_kept = c->n_kept + __popcll(keep);
    c->keep = keep;
    c->more = n_kept > limit;
    c->n_before = c->n_kept;
    c->n_kept = min(n_kept, limit);
}

/* Puts what stays behind the boxes kept before. */
__device__ void append_kept(chunk *c, box *kept) {
    int i = (int)threadIdx.x;
    if (i >= CHUNK || !(c->keep >> i & 1))
        return;
    int at = c->n_before + __popcll(c->keep & (((bits)1 << i) - 1));
    if (at >= c->n_kept)
        return;
    kept[at] = c->boxes[i];
    if (at < NEAR)
        c->near[at] = c->boxes[i];
}

/* Returns how many boxes stay. */
__device__ int suppress(const det_kernel_list *list, int n_candidates, box *kept, const rule &r, bool *more) {
    DET_SHARED(c, chunk);
    int i = (int)threadIdx.x;
    box next = {};
    if (i < min((int)CHUNK, n_candidates))
        next = box_at(list, i);
    if (i == 0) {
        c.gone[0] = c.gone[1] = 0;
        c.n_kept = 0;
        c.more = false;
    }
    __syncthreads();
    for (int first = 0; first < n_candidates && !c.more; first += CHUNK) {
        int n = min((int)CHUNK, n_candidates - first);
        if (i < n)
            c.boxes[i] = next;
        if (i < CHUNK && first + CHUNK + i < n_candidates)
            next = box_at(list, first + CHUNK + i); /* on its way while this chunk is worked on */
        __syncthreads();
        compare_with_kept(&c, n, kept, r);
        compare_with_each_other(&c, n, r);
        __syncthreads();
        if (i == 0) {
            keep_best(&c, n, r.limit);
            c.gone[0] = c.gone[1] = 0;
        }
        __syncthreads();
        append_kept(&c, kept);
    }
    __syncthreads();
    *more = c.more;
    return c.n_kept;
}

__device__ __forceinline__ float clipped(float x, float high) {
    return x < 0 ? 0 : x > high ? high : x;
}

/* Field `field` of 16 of an object, as bits: corners, score, class, landmarks. */
__device__ unsigned object_field(const det_kernel_candidate &c, const det_picture &p, bool clip, int n_landmarks,
                                 int field) {
    if (field == 4)
        return __float_as_uint(c.score);
    if (field == 5)
        return (unsigned)c.class_id;
    bool corner = field < 4, vertical = field % 2;
    if (!corner && field - 6 >= 2 * n_landmarks)
        return 0;
    float x = corner ? (&c.x1)[field] : (&c.landmarks[0][0])[field - 6];
    x = product(x - (vertical ? p.offset_y : p.offset_x), __fdiv_rn(1, vertical ? p.scale_y : p.scale_x));
    return __float_as_uint(corner && clip ? clipped(x, (float)(vertical ? p.height : p.width)) : x);
}

struct task {
    int max_candidates, n_landmarks;
    int clip, reserved; /* no byte of an argument is left to chance */
    det_kernel_list *lists;
    box *kept; /* [batch][max_candidates] */
};

__global__ void __launch_bounds__(THREADS) nms(const task t, const det_block *block) {
    int picture = (int)blockIdx.x;
    if (picture >= block->n)
        return;
    size_t list_bytes = sizeof(det_kernel_list) + (size_t)t.max_candidates * sizeof(det_kernel_candidate);
    const det_kernel_list *list = (const det_kernel_list *)((const char *)t.lists + picture * list_bytes);
    box *kept = t.kept + (size_t)picture * t.max_candidates;
    rule r = {block->iou, block->class_agnostic != 0, min(block->max_objects, block->row_objects)};
    bool more;
    int n = suppress(list, min(list->n, t.max_candidates), kept, r, &more);
    det_object *objects = block->objects + (size_t)picture * block->row_objects;
    det_picture p = block->pictures[picture];
    for (int i = (int)threadIdx.x; i < n * 16; i += THREADS)
        ((unsigned *)&objects[i / 16])[i % 16] =
            object_field(list->items[kept[i / 16].index], p, t.clip != 0, t.n_landmarks, i % 16);
    if (threadIdx.x == 0) {
        block->counts[picture] = n;
        if (block->cuts)
            block->cuts[picture] = (more ? DET_CUT_OBJECTS : 0) | (list->cut ? DET_CUT_CANDIDATES : 0);
    }
}

} // namespace

size_t det_nms_workspace(const det_nms_args *args) {
    return (size_t)args->batch * (size_t)args->max_candidates * sizeof(box);
}

cudaError_t det_launch_nms(const det_nms_args *args, const det_block *block, cudaStream_t stream) {
    if (args->batch < 1 || args->max_candidates < 1 || args->max_candidates > 65536 || args->n_landmarks < 0 ||
        args->n_landmarks > 5 || !args->lists || !args->workspace || !block)
        return cudaErrorInvalidValue;
    task t = {args->max_candidates, args->n_landmarks, args->clip != 0, 0, args->lists, (box *)args->workspace};
    return DET_LAUNCH(nms, (unsigned)args->batch, THREADS, 0, stream, t, block);
}
