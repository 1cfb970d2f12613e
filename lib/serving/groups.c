#include "groups.h"

/* One class as the run will see it: its threshold, and whether it counts at all. */
typedef struct class_rule {
    float score;
    uint8_t enabled;
} class_rule;

static class_rule rule_of(const det_group_defaults *defaults, const det_thresholds *t, int class_id) {
    float score = t && t->score >= 0 ? t->score : defaults->score;
    if (t && t->class_enabled && !t->class_enabled[class_id])
        return (class_rule){0, 0};
    if (t && t->class_scores && t->class_scores[class_id] >= 0)
        score = t->class_scores[class_id];
    return (class_rule){score, 1};
}

/* What is not said class by class. */
static det_thresholds common(const det_group_defaults *defaults, const det_thresholds *t) {
    det_thresholds c = {.struct_size = sizeof c, .score = -1, .n_classes = defaults->n_classes, .max_objects = -1};
    c.iou = t && t->iou >= 0 ? t->iou : defaults->iou;
    c.class_agnostic = t && t->class_agnostic > 0;
    c.multi_label = (t && t->multi_label >= 0 ? t->multi_label : defaults->multi_label) > 0;
    return c;
}

static uint64_t mix(uint64_t hash, const void *data, size_t n_bytes) { /* FNV-1a */
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t hash_of(const det_group_defaults *defaults, const det_thresholds *t) {
    det_thresholds c = common(defaults, t);
    uint64_t hash = mix(0xcbf29ce484222325u, &c.iou, sizeof c.iou);
    hash = mix(hash, &c.class_agnostic, sizeof c.class_agnostic);
    hash = mix(hash, &c.multi_label, sizeof c.multi_label);
    for (int i = 0; i < defaults->n_classes; i++) {
        class_rule rule = rule_of(defaults, t, i);
        hash = mix(hash, &rule.score, sizeof rule.score);
        hash = mix(hash, &rule.enabled, sizeof rule.enabled);
    }
    return hash;
}

static bool is_of(const det_group *g, const det_group_defaults *defaults, const det_thresholds *t, uint64_t hash) {
    det_thresholds c = common(defaults, t);
    if (g->hash != hash || g->thresholds.iou != c.iou || g->thresholds.class_agnostic != c.class_agnostic ||
        g->thresholds.multi_label != c.multi_label)
        return false;
    for (int i = 0; i < defaults->n_classes; i++) {
        class_rule rule = rule_of(defaults, t, i);
        if (g->class_scores[i] != rule.score || g->class_enabled[i] != rule.enabled)
            return false;
    }
    return true;
}

static void begin(det_group *g, const det_group_defaults *defaults, const det_thresholds *t, uint64_t hash) {
    g->hash = hash;
    g->n_requests = g->n_waiting = 0;
    g->due_us = INT64_MAX;
    g->due_left = false;
    g->thresholds = common(defaults, t);
    g->thresholds.class_scores = g->class_scores;
    g->thresholds.class_enabled = g->class_enabled;
    for (int i = 0; i < defaults->n_classes; i++) {
        class_rule rule = rule_of(defaults, t, i);
        g->class_scores[i] = rule.score;
        g->class_enabled[i] = rule.enabled;
    }
    for (int i = 0; i < DET_PRIORITIES; i++)
        g->waiting[i].first = g->waiting[i].last = DET_NONE;
}

int det_groups_join(det_groups *groups, const det_thresholds *thresholds) {
    uint64_t hash = hash_of(&groups->defaults, thresholds);
    for (int i = 0; i < groups->n_used; i++) {
        det_group *g = &groups->items[groups->used[i]];
        if (is_of(g, &groups->defaults, thresholds, hash)) {
            g->n_requests++;
            return groups->used[i];
        }
    }
    if (groups->n_used == groups->n_groups)
        return DET_NONE;
    int group = groups->used[groups->n_used++];
    begin(&groups->items[group], &groups->defaults, thresholds, hash);
    groups->items[group].n_requests = 1;
    return group;
}

void det_groups_leave(det_groups *groups, int group) {
    if (--groups->items[group].n_requests > 0)
        return;
    for (int i = 0; i < groups->n_used; i++) {
        if (groups->used[i] == group) { /* changes places with the last that is used */
            groups->used[i] = groups->used[--groups->n_used];
            groups->used[groups->n_used] = group;
            return;
        }
    }
}

det_status det_groups_open(det_groups *groups, int n_groups, const det_group_defaults *defaults) {
    size_t n = (size_t)n_groups, n_classes = (size_t)defaults->n_classes;
    *groups = (det_groups){.defaults = *defaults, .n_groups = n_groups};
    groups->items = det_alloc_array(n, sizeof *groups->items);
    groups->used = det_alloc_array(n, sizeof *groups->used);
    groups->class_scores = det_alloc_array(n * n_classes, sizeof *groups->class_scores);
    groups->class_enabled = det_alloc_array(n * n_classes, sizeof *groups->class_enabled);
    if (!groups->items || !groups->used || !groups->class_scores || !groups->class_enabled)
        return DET_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < n; i++) {
        groups->used[i] = (int)i;
        groups->items[i].class_scores = groups->class_scores + i * n_classes;
        groups->items[i].class_enabled = groups->class_enabled + i * n_classes;
    }
    return DET_OK;
}

void det_groups_close(det_groups *groups) {
    det_free(groups->items);
    det_free(groups->used);
    det_free(groups->class_scores);
    det_free(groups->class_enabled);
}
