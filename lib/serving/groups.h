/* Requests of equal thresholds form a group: only they can share a run, because a run has one set of thresholds. */
#ifndef DET_SERVING_GROUPS_H
#define DET_SERVING_GROUPS_H

#include "../status.h"

enum { DET_MAX_GROUPS = 256, DET_PRIORITIES = DET_PRIORITY_HIGHEST - DET_PRIORITY_LOWEST + 1, DET_NONE = -1 };

/* What a model and a pool say where a request says nothing. */
typedef struct det_group_defaults {
    int n_classes, multi_label;
    float score, iou;
} det_group_defaults;

typedef struct det_group {
    uint64_t hash;
    int n_requests;            /* that were given this group and have not left it; 0: the group is free */
    det_thresholds thresholds; /* every class spelled out; max_objects is the run's business */
    float *class_scores;       /* [n_classes] */
    uint8_t *class_enabled;    /* [n_classes] */

    /* The queue's. */
    int n_waiting;
    int64_t due_us; /* the first moment at which one of them should run */
    bool due_left;  /* whose moment it was has left: it is to be found again */
    struct {
        int first, last; /* slots, in order of tickets */
    } waiting[DET_PRIORITIES];
} det_group;

typedef struct det_groups {
    det_group_defaults defaults;
    int n_groups, n_used;
    det_group *items; /* [n_groups] */
    int *used;        /* [n_used] of [n_groups]: those that have requests, then those that are free */
    float *class_scores;
    uint8_t *class_enabled;
} det_groups;

det_status det_groups_open(det_groups *groups, int n_groups, const det_group_defaults *defaults);
void det_groups_close(det_groups *groups);

/* The group of these thresholds (checked; NULL: the defaults), for one more request; DET_NONE when there are as many
 * different ones as there may be. */
int det_groups_join(det_groups *groups, const det_thresholds *thresholds);
void det_groups_leave(det_groups *groups, int group);

#endif
