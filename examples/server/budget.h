/* How much memory bodies and decoded pictures may take together. */
#ifndef BUDGET_H
#define BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct budget {
    size_t limit;
    atomic_size_t used;
} budget;

/* Thread-safe; never over the limit, not even for a moment. */
static inline bool budget_take(budget *shared, size_t n_bytes) {
    size_t used = atomic_load(&shared->used);
    do {
        if (n_bytes > shared->limit - used)
            return false;
    } while (!atomic_compare_exchange_weak(&shared->used, &used, used + n_bytes));
    return true;
}

static inline void budget_give(budget *shared, size_t n_bytes) {
    atomic_fetch_sub(&shared->used, n_bytes);
}

#endif
