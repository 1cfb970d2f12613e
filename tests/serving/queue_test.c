/* The queue by itself, on a clock that the test sets: order, groups, due times, deadlines, tickets. */
#include "check.h"
#include "random.h"
#include "serving/queue.h"

static const det_group_defaults defaults = {.n_classes = 3, .score = 0.5f, .iou = 0.4f};

static det_queue open_queue(int capacity) {
    det_queue q;
    REQUIRE(det_queue_open(&q, capacity, &defaults) == DET_OK, "%s", det_last_error());
    return q;
}

static det_slot *push(det_queue *q, const det_thresholds *t, int priority, int64_t due_us, int64_t deadline_us) {
    det_slot *slot = det_queue_acquire(q);
    REQUIRE(slot, "the queue is full");
    slot->group = det_groups_join(&q->groups, t);
    slot->level = priority - DET_PRIORITY_LOWEST;
    slot->due_us = due_us;
    slot->deadline_us = deadline_us;
    det_queue_push(q, slot);
    return slot;
}

static void release(det_queue *q, det_slot **batch, int n) {
    for (int i = 0; i < n; i++)
        det_queue_release(q, batch[i]);
}

/* The tickets of the next batch, as a text. */
static const char *take(det_queue *q, int64_t now_us, int max_batch, bool flush) {
    static char out[200];
    det_slot *batch[16];
    int n = det_queue_take(q, now_us, max_batch, flush, batch), length = 0;
    out[0] = '\0';
    for (int i = 0; i < n; i++)
        length += snprintf(out + length, sizeof out - (size_t)length, "%s%d", i ? " " : "", (int)batch[i]->ticket);
    release(q, batch, n);
    return out;
}

#define TAKES(q, now, max_batch, flush, wanted)                                                                        \
    do {                                                                                                               \
        const char *took = take(q, now, max_batch, flush);                                                             \
        CHECK_MSG(!strcmp(took, wanted), "took '%s', not '%s'", took, wanted);                                         \
    } while (0)

static void test_due(void) {
    det_queue q = open_queue(8);
    CHECK(det_queue_due(&q) == INT64_MAX);
    TAKES(&q, 1000, 4, true, "");
    push(&q, NULL, 0, 100, INT64_MAX);
    push(&q, NULL, 0, 120, INT64_MAX);
    CHECK(det_queue_due(&q) == 100);
    TAKES(&q, 99, 4, false, "");
    TAKES(&q, 100, 4, false, "1 2");
    CHECK(det_queue_due(&q) == INT64_MAX);
    push(&q, NULL, 0, 200, INT64_MAX); /* a full batch waits for nothing */
    push(&q, NULL, 0, 210, INT64_MAX);
    push(&q, NULL, 0, 220, INT64_MAX);
    TAKES(&q, 130, 2, false, "3 4");
    CHECK_MSG(det_queue_due(&q) == 220, "due at %lld", (long long)det_queue_due(&q));
    TAKES(&q, 130, 2, false, "");
    TAKES(&q, 130, 2, true, "5"); /* nor does one that is flushed */
    det_queue_close(&q);
}

/* One that leaves takes its due time with it: those behind it wait for their own. */
static void test_due_of_removed(void) {
    det_queue q = open_queue(8);
    det_slot *first = push(&q, NULL, 0, 400, INT64_MAX), *second = push(&q, NULL, -1, 500, INT64_MAX);
    push(&q, NULL, 0, 750, INT64_MAX);
    det_queue_remove(&q, second);
    CHECK(det_queue_due(&q) == 400);
    det_queue_remove(&q, first);
    TAKES(&q, 400, 4, false, "");
    CHECK_MSG(det_queue_due(&q) == 750, "due at %lld", (long long)det_queue_due(&q));
    det_slot *last = push(&q, NULL, 0, 600, INT64_MAX);
    det_queue_remove(&q, last);
    push(&q, NULL, 0, 700, INT64_MAX);
    TAKES(&q, 600, 4, false, "");
    TAKES(&q, 700, 4, false, "3 5");
    release(&q, (det_slot *[]){first, second, last}, 3);
    CHECK(det_queue_due(&q) == INT64_MAX && q.n_held == 0);
    det_queue_close(&q);
}

static void test_priorities(void) {
    det_queue q = open_queue(16);
    static const int levels[] = {0, 4, -4, 0, 1, 4, -4, 1};
    for (size_t i = 0; i < DET_COUNT(levels); i++)
        push(&q, NULL, levels[i], 0, INT64_MAX);
    TAKES(&q, 0, 3, false, "2 6 5");
    TAKES(&q, 0, 3, false, "8 1 4");
    TAKES(&q, 0, 3, false, "3 7");
    det_queue_close(&q);
}

static det_thresholds with_score(float score) {
    det_thresholds t;
    det_thresholds_init(&t);
    t.score = score;
    return t;
}

static void test_groups(void) {
    det_queue q = open_queue(16);
    det_thresholds low = with_score(0.1f), same = with_score(0.5f), agnostic = with_score(0.1f);
    agnostic.class_agnostic = 1;
    push(&q, &low, 0, 50, INT64_MAX);  /* 1 */
    push(&q, NULL, 0, 60, INT64_MAX);  /* 2 */
    push(&q, &same, 0, 70, INT64_MAX); /* 3: the same as the model's own */
    push(&q, &low, 0, 80, INT64_MAX);  /* 4 */
    push(&q, &agnostic, 1, 90, INT64_MAX);
    CHECK(q.groups.n_used == 3 && det_queue_due(&q) == 50);
    TAKES(&q, 55, 4, false, "1 4");
    CHECK(q.groups.n_used == 2 && det_queue_due(&q) == 60);
    TAKES(&q, 100, 4, false, "5"); /* both are due: priority decides */
    TAKES(&q, 100, 4, false, "2 3");
    CHECK(q.groups.n_used == 0 && q.n_held == 0);
    det_queue_close(&q);
}

/* What a group runs with is what was asked for, in full. */
static void test_thresholds(void) {
    det_groups groups;
    REQUIRE(det_groups_open(&groups, 3, &defaults) == DET_OK, "%s", det_last_error());
    det_thresholds t = with_score(0.2f);
    t.iou = 0.9f;
    t.multi_label = 1;
    t.n_classes = 3;
    t.class_scores = (float[]){-1, 0.7f, 0.8f};
    t.class_enabled = (uint8_t[]){9, 1, 0};
    t.max_objects = 7;
    int group = det_groups_join(&groups, &t);
    det_thresholds got = groups.items[group].thresholds;
    CHECK(got.iou == 0.9f && got.multi_label == 1 && got.class_agnostic == 0 && got.n_classes == 3);
    CHECK(got.class_scores[0] == 0.2f && got.class_scores[1] == 0.7f);
    CHECK(got.class_enabled[0] && got.class_enabled[1] && !got.class_enabled[2]);
    t.max_objects = 1; /* may differ within a run */
    t.class_scores = (float[]){0.2f, 0.7f, 0.1f};
    t.class_enabled = (uint8_t[]){1, 1, 0};
    CHECK(det_groups_join(&groups, &t) == group && groups.items[group].n_requests == 2);
    t.class_enabled = (uint8_t[]){1, 1, 1};
    int other = det_groups_join(&groups, &t), model = det_groups_join(&groups, NULL);
    CHECK(other != group && model != group && model != other && groups.n_used == 3);
    got = groups.items[model].thresholds;
    CHECK(got.iou == 0.4f && !got.multi_label && got.class_scores[2] == 0.5f && got.class_enabled[2]);
    t.iou = 0.1f;
    CHECK(det_groups_join(&groups, &t) == DET_NONE);
    det_groups_leave(&groups, group);
    CHECK(det_groups_join(&groups, &t) == DET_NONE);
    det_groups_leave(&groups, group);
    CHECK(groups.n_used == 2 && det_groups_join(&groups, &t) == group && groups.items[group].thresholds.iou == 0.1f);
    CHECK(det_groups_join(&groups, NULL) == model);
    det_groups_close(&groups);
}

static void test_retries(void) {
    det_queue q = open_queue(8);
    det_slot *batch[2];
    for (int i = 0; i < 4; i++)
        push(&q, NULL, 0, 0, 1000 + i);
    CHECK(det_queue_take(&q, 0, 2, false, batch) == 2 && det_queue_deadline(&q) == 1002);
    push(&q, NULL, 0, 0, INT64_MAX);
    det_queue_return(&q, batch[1]); /* 1 and 2 come before those that never ran */
    det_queue_return(&q, batch[0]);
    CHECK(det_queue_deadline(&q) == 1000);
    TAKES(&q, 0, 5, false, "1 2 3 4 5");
    CHECK(q.n_waiting == 0 && q.n_heap == 0);
    det_queue_close(&q);
}

static void test_deadlines(void) {
    det_queue q = open_queue(8);
    CHECK(det_queue_deadline(&q) == INT64_MAX && !det_queue_expired(&q, INT64_MAX));
    push(&q, NULL, 0, 0, INT64_MAX);
    CHECK(det_queue_deadline(&q) == INT64_MAX && !det_queue_expired(&q, INT64_MAX));
    det_slot *late = push(&q, NULL, 0, 0, 300), *early = push(&q, NULL, -1, 0, 200);
    push(&q, NULL, 0, 0, 400);
    CHECK(det_queue_deadline(&q) == 200 && !det_queue_expired(&q, 199) && det_queue_expired(&q, 200) == early);
    det_queue_remove(&q, early);
    CHECK(det_queue_expired(&q, 1000) == late);
    det_queue_remove(&q, late);
    CHECK(det_queue_deadline(&q) == 400 && q.n_waiting == 2);
    det_queue_release(&q, early);
    det_queue_release(&q, late);
    TAKES(&q, 0, 8, false, "1 4");
    det_queue_close(&q);
}

static void test_full(void) {
    det_queue q = open_queue(3);
    det_slot *slots[3];
    for (int i = 0; i < 3; i++)
        slots[i] = push(&q, NULL, 0, 0, INT64_MAX);
    CHECK(!det_queue_acquire(&q) && q.n_held == 3);
    CHECK(det_queue_find(&q, 2) == slots[1] && !det_queue_find(&q, 0) && !det_queue_find(&q, 4));
    det_queue_remove(&q, slots[1]);
    det_queue_release(&q, slots[1]);
    CHECK(!det_queue_find(&q, 2));
    det_slot *next = push(&q, NULL, 0, 0, INT64_MAX);
    CHECK(next == slots[1] && next->ticket == 4 && det_queue_find(&q, 4) == next); /* the number does not come again */
    det_queue_close(&q);
}

/* Whatever happens in whatever order, a plain model of the queue agrees. */
typedef struct entry {
    uint64_t ticket;
    int level, group, state; /* 0: gone, 1: waits, 2: runs */
    int64_t deadline_us;
    det_slot *slot;
} entry;

enum { STEPS = 20000, ENTRIES = STEPS + 1, CAPACITY = 37 };
static entry entries[ENTRIES];

static const entry *first_waiting(int group) {
    const entry *best = NULL;
    for (int i = 1; i < ENTRIES; i++) {
        const entry *e = &entries[i];
        if (e->state == 1 && (group < 0 || e->group == group) && (!best || e->level > best->level))
            best = e;
    }
    return best;
}

static void check_take(det_queue *q, int max_batch) {
    det_slot *batch[8];
    const entry *wanted = first_waiting(-1);
    int n = det_queue_take(q, 0, max_batch, true, batch), group = wanted ? wanted->group : -1;
    CHECK((n == 0) == (wanted == NULL));
    for (int i = 0; i < n; i++, wanted = first_waiting(group)) {
        REQUIRE(wanted && batch[i]->ticket == wanted->ticket, "ticket %d came", (int)batch[i]->ticket);
        entries[batch[i]->ticket].state = 2;
    }
    CHECK(n == 0 || n == max_batch || !wanted);
}

static void check_deadline(det_queue *q) {
    int64_t first = INT64_MAX;
    for (int i = 1; i < ENTRIES; i++) {
        if (entries[i].state == 1)
            first = DET_MIN(first, entries[i].deadline_us);
    }
    CHECK(det_queue_deadline(q) == first);
}

static void step(det_queue *q, uint64_t *random) {
    det_thresholds t = with_score(0.1f * (float)random_below(random, 3));
    entry *any = q->last_ticket ? &entries[1 + random_below(random, (int)q->last_ticket)] : &entries[0];
    switch (random_below(random, 5)) {
    case 0:
    case 1:
        if (q->n_held < CAPACITY) {
            int64_t deadline_us = random_below(random, 2) ? INT64_MAX : random_below(random, 1000);
            det_slot *slot = push(q, &t, random_below(random, 9) - 4, 0, deadline_us);
            entries[slot->ticket] = (entry){slot->ticket, slot->level, slot->group, 1, deadline_us, slot};
        }
        break;
    case 2:
        check_take(q, 1 + random_below(random, 8));
        break;
    case 3:
        if (any->state == 1)
            det_queue_remove(q, any->slot);
        if (any->state)
            det_queue_release(q, any->slot);
        any->state = 0;
        break;
    default:
        if (any->state == 2) {
            det_queue_return(q, any->slot);
            any->state = 1;
        }
    }
    for (int i = 0; i < 3; i++) { /* tickets lead to their slots, old ones nowhere */
        const entry *e = &entries[1 + random_below(random, ENTRIES - 1)];
        CHECK(!e->ticket || det_queue_find(q, e->ticket) == (e->state ? e->slot : NULL));
    }
}

static void test_against_a_model(void) {
    det_queue q = open_queue(CAPACITY);
    uint64_t random = 7;
    for (int i = 0; i < STEPS; i++) {
        step(&q, &random);
        if (i % 16 == 0)
            check_deadline(&q);
    }
    det_queue_close(&q);
}

int main(void) {
    test_due();
    test_due_of_removed();
    test_priorities();
    test_groups();
    test_thresholds();
    test_retries();
    test_deadlines();
    test_full();
    test_against_a_model();
    return check_report("queue");
}
