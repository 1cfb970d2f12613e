/* A batch of candidate lists, NMS on them by the kernel, and what came out. */
#ifndef DET_EMULATION_NMS_RIG_H
#define DET_EMULATION_NMS_RIG_H

#include "emulation.h"

#include "check.h"
#include "cpu/candidates.h"

#include <stddef.h>

_Static_assert(sizeof(det_kernel_candidate) == sizeof(det_candidate) &&
                   sizeof(det_kernel_list) == sizeof(det_candidate_list) &&
                   offsetof(det_kernel_candidate, landmarks) == offsetof(det_candidate, landmarks) &&
                   offsetof(det_kernel_candidate, prior) == offsetof(det_candidate, prior),
               "the CPU's candidates are the device's");

typedef struct nms_rig {
    det_nms_args args;
    det_block block;
    void *lists;
} nms_rig;

/* With room for `max_objects` of each picture; the caller fills the lists, pictures and thresholds. */
static inline void nms_rig_open(nms_rig *r, int batch, int max_candidates, int max_objects) {
    *r = (nms_rig){.args = {.batch = batch, .max_candidates = max_candidates}};
    r->lists = r->args.lists = emulation_memory((size_t)batch * det_list_bytes(max_candidates));
    r->args.workspace = emulation_memory(det_nms_workspace(&r->args));
    r->block.objects = emulation_memory((size_t)batch * (size_t)max_objects * sizeof(det_object));
    r->block.counts = emulation_memory((size_t)batch * sizeof(int32_t));
    r->block.cuts = emulation_memory((size_t)batch * sizeof(int32_t));
    r->block.row_objects = r->block.max_objects = max_objects;
    r->block.n = batch;
}

static inline void nms_rig_close(nms_rig *r) {
    void *const all[] = {r->lists, r->args.workspace, r->block.objects, r->block.counts, r->block.cuts};
    for (size_t i = 0; i < DET_COUNT(all); i++) {
        CHECK(emulation_memory_intact(all[i]));
        emulation_memory_free(all[i]);
    }
}

static inline det_candidate_list *nms_rig_list(const nms_rig *r, int i) {
    return det_candidates_of(r->lists, r->args.max_candidates, i);
}

#endif
