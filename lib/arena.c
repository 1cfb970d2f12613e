#include "arena.h"

static int64_t aligned(int64_t n_bytes) {
    return (n_bytes + DET_ARENA_ALIGNMENT - 1) / DET_ARENA_ALIGNMENT * DET_ARENA_ALIGNMENT;
}

/* Indices of spans by falling size, equal ones in order: insertion sort, a few hundred at most. */
static void sort_by_size(const det_span *spans, int *order, int n) {
    for (int i = 0; i < n; i++) {
        int j = i;
        for (; j > 0 && spans[order[j - 1]].n_bytes < spans[i].n_bytes; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
}

static bool collide(const det_span *a, const det_span *b) {
    bool same_time = a->first <= b->last && b->first <= a->last;
    return same_time && a->offset < b->offset + aligned(b->n_bytes) && b->offset < a->offset + aligned(a->n_bytes);
}

det_status det_arena_place(det_span *spans, int n, int64_t *n_bytes) {
    int *order = det_alloc_array((size_t)n, sizeof *order);
    if (!order)
        return DET_ERROR_OUT_OF_MEMORY;
    sort_by_size(spans, order, n);
    *n_bytes = 0;
    for (int i = 0; i < n; i++) {
        det_span *span = &spans[order[i]];
        span->offset = 0;
        if (span->n_bytes == 0)
            continue;
        /* Each collision moves the span up past one that is placed, so this ends. */
        for (int j = 0; j < i; j++) {
            const det_span *placed = &spans[order[j]];
            if (placed->n_bytes && collide(span, placed)) {
                span->offset = placed->offset + aligned(placed->n_bytes);
                j = -1;
            }
        }
        *n_bytes = DET_MAX(*n_bytes, span->offset + aligned(span->n_bytes));
    }
    det_free(order);
    return DET_OK;
}
