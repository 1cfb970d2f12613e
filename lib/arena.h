/* Life times -> offsets: tensors that never live at the same time share memory. Pure. */
#ifndef DET_ARENA_H
#define DET_ARENA_H

#include "status.h"

enum { DET_ARENA_ALIGNMENT = 256 };

typedef struct det_span {
    int64_t n_bytes; /* 0: needs no memory */
    int first, last; /* steps, both included */
    int64_t offset;  /* result, a multiple of DET_ARENA_ALIGNMENT */
} det_span;

/* Places the spans, the largest first, each at the lowest offset that is free during its life; writes the size of the
 * whole. Takes scratch memory. */
det_status det_arena_place(det_span *spans, int n, int64_t *n_bytes);

#endif
