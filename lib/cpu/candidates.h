/* The candidates of one picture: the best max_candidates of those offered, in any order of offering. */
#ifndef DET_CPU_CANDIDATES_H
#define DET_CPU_CANDIDATES_H

#include "../backend.h"

/* Higher score first; ties by lower prior, then lower class. A total order: results do not depend on threads. */
static inline bool det_candidate_better(const det_candidate *a, const det_candidate *b) {
    if (a->score != b->score)
        return a->score > b->score;
    return a->prior != b->prior ? a->prior < b->prior : a->class_id < b->class_id;
}

/* The list of picture i. */
static inline det_candidate_list *det_candidates_of(void *lists, int max_candidates, int i) {
    return (det_candidate_list *)((char *)lists + (size_t)i * det_candidates_bytes(max_candidates));
}

/* Adds one; when the list is full, the worst goes. The list is a heap with the worst on top. */
void det_candidates_offer(det_candidate_list *list, int max_candidates, const det_candidate *candidate);
/* Best first. Ends the heap. */
void det_candidates_sort(det_candidate_list *list);

/* Greedy NMS over sorted candidates: writes the indices of at most max_kept survivors, returns how many; sets *more
 * when another would have survived. */
int det_candidates_nms(const det_candidate_list *list, float iou, bool class_agnostic, int max_kept, int *kept,
                       bool *more);

#endif
