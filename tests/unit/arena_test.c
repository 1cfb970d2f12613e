/* The arena: spans that live at the same time never share a byte, and the whole stays close to what is needed. */
#include "arena.h"
#include "check.h"
#include "random.h"

enum { MAX_SPANS = 48, MAX_STEPS = 40 };

static int64_t aligned(int64_t n_bytes) {
    return (n_bytes + DET_ARENA_ALIGNMENT - 1) / DET_ARENA_ALIGNMENT * DET_ARENA_ALIGNMENT;
}

/* The most that lives at any one step: no placement can do with less. */
static int64_t lower_bound(const det_span *spans, int n) {
    int64_t most = 0;
    for (int step = 0; step < MAX_STEPS; step++) {
        int64_t live = 0;
        for (int i = 0; i < n; i++)
            live += spans[i].first <= step && step <= spans[i].last ? aligned(spans[i].n_bytes) : 0;
        most = DET_MAX(most, live);
    }
    return most;
}

/* Step by step and pair by pair. */
static bool any_overlap(const det_span *spans, int n) {
    for (int step = 0; step < MAX_STEPS; step++) {
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < i; j++) {
                const det_span *a = &spans[i], *b = &spans[j];
                bool both_live = a->first <= step && step <= a->last && b->first <= step && step <= b->last;
                if (both_live && a->n_bytes && b->n_bytes && a->offset < b->offset + b->n_bytes &&
                    b->offset < a->offset + a->n_bytes)
                    return true;
            }
        }
    }
    return false;
}

/* Places and checks what must always hold; returns the size of the whole. */
static int64_t place(det_span *spans, int n) {
    int64_t whole = -1, end = 0, sum = 0;
    CHECK(det_arena_place(spans, n, &whole) == DET_OK);
    for (int i = 0; i < n; i++) {
        CHECK(spans[i].offset >= 0 && spans[i].offset % DET_ARENA_ALIGNMENT == 0);
        end = DET_MAX(end, spans[i].n_bytes ? spans[i].offset + aligned(spans[i].n_bytes) : 0);
        sum += aligned(spans[i].n_bytes);
    }
    CHECK(!any_overlap(spans, n));
    CHECK_MSG(whole == end, "the whole is %lld, the last span ends at %lld", (long long)whole, (long long)end);
    CHECK(whole >= lower_bound(spans, n) && whole <= sum);
    return whole;
}

static void test_by_hand(void) {
    CHECK(place(NULL, 0) == 0);
    det_span one[] = {{.n_bytes = 1, .first = 0, .last = 0}};
    CHECK(place(one, 1) == 256 && one[0].offset == 0);
    det_span apart[] = {{.n_bytes = 300, .first = 0, .last = 1}, {.n_bytes = 700, .first = 2, .last = 3}};
    CHECK(place(apart, 2) == 768 && apart[0].offset == 0 && apart[1].offset == 0);
    det_span touching[] = {{.n_bytes = 300, .first = 0, .last = 2}, {.n_bytes = 700, .first = 2, .last = 3}};
    CHECK(place(touching, 2) == 768 + 512 && touching[1].offset == 0 && touching[0].offset == 768);
    det_span hole[] = {{.n_bytes = 1024, .first = 0, .last = 9}, /* the last fits where the second was */
                       {.n_bytes = 768, .first = 0, .last = 4},
                       {.n_bytes = 512, .first = 5, .last = 9}};
    CHECK(place(hole, 3) == 1024 + 768 && hole[2].offset == 1024);
    det_span empty[] = {{.n_bytes = 0, .first = 0, .last = 9}, {.n_bytes = 256, .first = 0, .last = 9}};
    CHECK(place(empty, 2) == 256);
    det_span huge[] = {{.n_bytes = INT64_C(1) << 40, .first = 0, .last = 1}, {.n_bytes = INT64_C(1) << 40, .first = 1, .last = 2}};
    CHECK(place(huge, 2) == INT64_C(1) << 41);
}

/* Chains: each tensor is read by the next step alone. Equal sizes meet the bound; random ones, far wilder than a
 * network's, waste less than half of it at worst, and a tenth on average. */
static void test_chains(void) {
    enum { ROUNDS = 400 };
    uint64_t state = random_from("chains");
    double excess = 0;
    for (int round = 0; round < ROUNDS; round++) {
        det_span spans[MAX_STEPS - 1];
        bool equal = round % 2;
        int n = 2 + random_below(&state, MAX_STEPS - 2);
        for (int i = 0; i < n; i++)
            spans[i] = (det_span){.n_bytes = equal ? 1000 : 1 + random_below(&state, 1 << 20), .first = i, .last = i + 1};
        int64_t whole = place(spans, n), bound = lower_bound(spans, n);
        CHECK_MSG(equal ? whole == bound : whole < bound + bound / 2, "a chain of %d takes %lld bytes; %lld would do", n,
                  (long long)whole, (long long)bound);
        excess += equal ? 0 : (double)(whole - bound) / (double)bound;
    }
    CHECK_MSG(excess / (ROUNDS / 2) < 0.1, "%g of the bound is wasted on average", excess / (ROUNDS / 2));
}

/* Life times of every kind. */
static void test_random(void) {
    uint64_t state = random_from("spans");
    for (int round = 0; round < 400; round++) {
        det_span spans[MAX_SPANS];
        int n = random_below(&state, MAX_SPANS + 1), longest = 1 + random_below(&state, MAX_STEPS);
        for (int i = 0; i < n; i++) {
            int first = random_below(&state, MAX_STEPS), last = first + random_below(&state, longest);
            spans[i] = (det_span){.first = first, .last = DET_MIN(last, MAX_STEPS - 1)};
            spans[i].n_bytes = random_below(&state, 8) ? random_below(&state, 5000) : 0;
        }
        place(spans, n);
    }
}

/* The least over every order in which the spans can be put down, each as low as it goes: the true optimum. */
static int64_t optimum(det_span *spans, int n_placed, int n) {
    if (n_placed == n) {
        int64_t end = 0;
        for (int i = 0; i < n; i++)
            end = DET_MAX(end, spans[i].offset + aligned(spans[i].n_bytes));
        return end;
    }
    int64_t least = INT64_MAX;
    for (int i = n_placed; i < n; i++) {
        det_span next = spans[i];
        spans[i] = spans[n_placed];
        next.offset = 0;
        for (int j = 0; j < n_placed; j++) {
            const det_span *s = &spans[j];
            bool collides = next.first <= s->last && s->first <= next.last && next.offset < s->offset + aligned(s->n_bytes) &&
                            s->offset < next.offset + aligned(next.n_bytes);
            if (collides) {
                next.offset = s->offset + aligned(s->n_bytes);
                j = -1;
            }
        }
        spans[n_placed] = next;
        int64_t end = optimum(spans, n_placed + 1, n);
        spans[n_placed] = spans[i];
        spans[i] = next;
        least = DET_MIN(least, end);
    }
    return least;
}

static void test_against_optimum(void) {
    enum { N = 6, ROUNDS = 200 };
    uint64_t state = random_from("optimum");
    double excess = 0;
    for (int round = 0; round < ROUNDS; round++) {
        det_span spans[N], scratch[N];
        for (int i = 0; i < N; i++) {
            int first = random_below(&state, 8);
            spans[i] = (det_span){.n_bytes = 256 * (1 + random_below(&state, 12)), .first = first, .last = first + random_below(&state, 4)};
        }
        memcpy(scratch, spans, sizeof spans);
        int64_t ours = place(spans, N), best = optimum(scratch, 0, N);
        CHECK(ours >= best);
        excess += (double)(ours - best) / (double)best;
    }
    CHECK_MSG(excess / ROUNDS < 0.05, "%g of the optimum is wasted on average", excess / ROUNDS);
}

int main(void) {
    test_by_hand();
    test_chains();
    test_random();
    test_against_optimum();
    return check_report("arena");
}
