#include "queue.h"

#include "clock.h"

static int index_of(const det_queue *q, const det_slot *slot) {
    return (int)(slot - q->slots);
}

/* ------------------------------------------------------------------------------------------------- deadline heap */

static int64_t heap_key(const det_queue *q, int at) {
    return q->slots[q->heap[at]].deadline_us;
}

static void heap_set(det_queue *q, int at, int slot) {
    q->heap[at] = slot;
    q->slots[slot].heap_at = at;
}

static void heap_swap(det_queue *q, int a, int b) {
    int slot = q->heap[a];
    heap_set(q, a, q->heap[b]);
    heap_set(q, b, slot);
}

static void heap_settle(det_queue *q, int at) {
    for (; at > 0 && heap_key(q, at) < heap_key(q, (at - 1) / 2); at = (at - 1) / 2)
        heap_swap(q, at, (at - 1) / 2);
    for (;;) {
        int least = at;
        for (int child = 2 * at + 1; child <= 2 * at + 2 && child < q->n_heap; child++)
            least = heap_key(q, child) < heap_key(q, least) ? child : least;
        if (least == at)
            return;
        heap_swap(q, at, least);
        at = least;
    }
}

static void heap_add(det_queue *q, det_slot *slot) {
    if (slot->deadline_us == INT64_MAX)
        return;
    heap_set(q, q->n_heap++, index_of(q, slot));
    heap_settle(q, q->n_heap - 1);
}

static void heap_remove(det_queue *q, det_slot *slot) {
    int at = slot->heap_at;
    if (at == DET_NONE)
        return;
    slot->heap_at = DET_NONE;
    if (at == --q->n_heap)
        return;
    heap_set(q, at, q->heap[q->n_heap]);
    heap_settle(q, at);
}

int64_t det_queue_deadline(const det_queue *q) {
    return q->n_heap ? heap_key(q, 0) : INT64_MAX;
}

det_slot *det_queue_expired(det_queue *q, int64_t now_us) {
    return det_queue_deadline(q) <= now_us && q->n_heap ? &q->slots[q->heap[0]] : NULL;
}

/* ------------------------------------------------------------------------------------------------ slots, tickets */

det_slot *det_queue_acquire(det_queue *q) {
    if (q->first_free == DET_NONE)
        return NULL;
    det_slot *slot = &q->slots[q->first_free];
    q->first_free = slot->next;
    q->n_held++;
    slot->state = DET_SLOT_HELD;
    slot->ticket = 0;
    slot->n_failures = 0;
    slot->group = slot->heap_at = DET_NONE;
    slot->staged = NULL;
    slot->awaited = false;
    slot->message[0] = '\0';
    return slot;
}

void det_queue_release(det_queue *q, det_slot *slot) {
    if (slot->ticket) {
        int *link = &q->buckets[(int)(slot->ticket & (uint64_t)q->bucket_mask)];
        while (&q->slots[*link] != slot)
            link = &q->slots[*link].next_of_bucket;
        *link = slot->next_of_bucket;
    }
    if (slot->group != DET_NONE)
        det_groups_leave(&q->groups, slot->group);
    slot->state = DET_SLOT_FREE;
    slot->next = q->first_free;
    q->first_free = index_of(q, slot);
    q->n_held--;
}

det_slot *det_queue_find(det_queue *q, uint64_t ticket) {
    int at = ticket ? q->buckets[(int)(ticket & (uint64_t)q->bucket_mask)] : DET_NONE;
    while (at != DET_NONE && q->slots[at].ticket != ticket)
        at = q->slots[at].next_of_bucket;
    return at == DET_NONE ? NULL : &q->slots[at];
}

/* --------------------------------------------------------------------------------------------------------- order */

/* Behind all with smaller tickets: from the end, where new ones belong. */
static void insert(det_queue *q, det_slot *slot) {
    det_group *g = &q->groups.items[slot->group];
    int *first = &g->waiting[slot->level].first, *last = &g->waiting[slot->level].last;
    int index = index_of(q, slot), before = *last;
    while (before != DET_NONE && q->slots[before].ticket > slot->ticket)
        before = q->slots[before].previous;
    slot->previous = before;
    slot->next = before == DET_NONE ? *first : q->slots[before].next;
    *(slot->previous == DET_NONE ? first : &q->slots[slot->previous].next) = index;
    *(slot->next == DET_NONE ? last : &q->slots[slot->next].previous) = index;
    g->n_waiting++;
    q->n_waiting++;
    g->due_us = DET_MIN(g->due_us, slot->due_us);
    slot->state = DET_SLOT_WAITING;
    heap_add(q, slot);
}

void det_queue_push(det_queue *q, det_slot *slot) {
    slot->ticket = ++q->last_ticket;
    int *bucket = &q->buckets[(int)(slot->ticket & (uint64_t)q->bucket_mask)];
    slot->next_of_bucket = *bucket;
    *bucket = index_of(q, slot);
    insert(q, slot);
}

void det_queue_return(det_queue *q, det_slot *slot) {
    insert(q, slot);
}

void det_queue_remove(det_queue *q, det_slot *slot) {
    det_group *g = &q->groups.items[slot->group];
    int *first = &g->waiting[slot->level].first, *last = &g->waiting[slot->level].last;
    *(slot->previous == DET_NONE ? first : &q->slots[slot->previous].next) = slot->next;
    *(slot->next == DET_NONE ? last : &q->slots[slot->next].previous) = slot->previous;
    q->n_waiting--;
    g->n_waiting--;
    g->due_left = g->due_left || slot->due_us == g->due_us;
    slot->state = DET_SLOT_HELD;
    heap_remove(q, slot);
}

/* The first of a group, or NULL. */
static det_slot *head(const det_queue *q, const det_group *g) {
    for (int level = DET_PRIORITIES - 1; level >= 0; level--) {
        if (g->waiting[level].first != DET_NONE)
            return &q->slots[g->waiting[level].first];
    }
    return NULL;
}

static bool comes_before(const det_slot *a, const det_slot *b) {
    return a->level != b->level ? a->level > b->level : a->ticket < b->ticket;
}

/* Once for all that have left: a batch, or many that were cancelled. */
static int64_t due_of(const det_queue *q, det_group *g) {
    if (!g->due_left)
        return g->due_us;
    g->due_left = false;
    g->due_us = INT64_MAX;
    for (int level = 0; level < DET_PRIORITIES; level++) {
        for (int i = g->waiting[level].first; i != DET_NONE; i = q->slots[i].next)
            g->due_us = DET_MIN(g->due_us, q->slots[i].due_us);
    }
    return g->due_us;
}

int det_queue_take(det_queue *q, int64_t now_us, int max_batch, bool flush, det_slot **batch) {
    det_group *best = NULL;
    det_slot *best_head = NULL;
    for (int i = 0; i < q->groups.n_used; i++) {
        det_group *g = &q->groups.items[q->groups.used[i]];
        det_slot *first = head(q, g);
        bool ready = first && (flush || g->n_waiting >= max_batch || due_of(q, g) <= now_us);
        if (ready && (!best || comes_before(first, best_head))) {
            best = g;
            best_head = first;
        }
    }
    int n = 0;
    while (best && n < max_batch && best->n_waiting > 0) {
        det_slot *slot = head(q, best);
        det_queue_remove(q, slot);
        slot->state = DET_SLOT_RUNNING;
        batch[n++] = slot;
    }
    return n;
}

int64_t det_queue_due(det_queue *q) {
    int64_t due_us = INT64_MAX;
    for (int i = 0; i < q->groups.n_used; i++)
        due_us = DET_MIN(due_us, due_of(q, &q->groups.items[q->groups.used[i]]));
    return due_us;
}

det_slot *det_queue_any(det_queue *q) {
    for (int i = 0; i < q->groups.n_used; i++) {
        det_slot *first = head(q, &q->groups.items[q->groups.used[i]]);
        if (first)
            return first;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------------- life */

static det_status begin_slots(det_queue *q) {
    bool made = true;
    for (int i = 0; i < q->capacity; i++) {
        q->slots[i].next = i + 1 < q->capacity ? i + 1 : DET_NONE;
        made = det_clock_condition(&q->slots[i].answered) && made;
    }
    for (int i = 0; i <= q->bucket_mask; i++)
        q->buckets[i] = DET_NONE;
    if (!made)
        DET_FAIL(DET_ERROR_OUT_OF_MEMORY, "the queue's locks cannot be made");
    return DET_OK;
}

det_status det_queue_open(det_queue *q, int capacity, const det_group_defaults *defaults) {
    int n_buckets = 1;
    while (n_buckets < capacity)
        n_buckets *= 2;
    *q = (det_queue){.capacity = capacity, .bucket_mask = n_buckets - 1};
    q->buckets = det_alloc_array((size_t)n_buckets, sizeof *q->buckets);
    q->heap = det_alloc_array((size_t)capacity, sizeof *q->heap);
    q->slots = det_alloc_array((size_t)capacity, sizeof *q->slots);
    if (!q->buckets || !q->heap || !q->slots)
        return DET_ERROR_OUT_OF_MEMORY;
    DET_TRY(begin_slots(q));
    return det_groups_open(&q->groups, DET_MIN(capacity, DET_MAX_GROUPS), defaults);
}

void det_queue_close(det_queue *q) {
    for (int i = 0; q->slots && q->heap && q->buckets && i < q->capacity; i++)
        pthread_cond_destroy(&q->slots[i].answered);
    det_groups_close(&q->groups);
    det_free(q->slots);
    det_free(q->heap);
    det_free(q->buckets);
}
