/* The scheduler: blocks, threads, barriers, exchanges within warps, shared memory. */
#include "emulator.h"
#include "emulator_asan.h"
#include "fiber.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

/* What a block has without asking for more. Launches ask when their dynamic part alone is larger (common.cuh). */
const size_t SHARED_UNASKED = 48 * 1024;
enum { WARP = 32, MAX_THREADS = 1024, GUARD_BYTES = 64, MAX_SHARED_BYTES = 1 << 20, GUARD = 0xa5, NOT_A_NUMBER = 0xff };

const emulation_chip least_chip = {99 * 1024, 48 * 1024, 16};

enum state { READY, AT_BARRIER, IN_EXCHANGE, ENDED };

struct place {
    const char *file;
    int line;
};

struct thread {
    state is;
    uint3 index;
    fiber *on; /* NULL before it starts and after it ends */
    place at;
    emulation_exchange_kind kind;
    unsigned mask;
    uint64_t value;
    int source;
};

struct shared_object {
    const void *site;
    unsigned char *at;
    size_t n_bytes;
};

struct machine {
    emulation_chip chip = least_chip;
    unsigned order = 0;
    int launches = 0;
    bool failed = false;
    char failure[512];

    fiber scheduler = {};
    fiber *fibers = nullptr; /* MAX_THREADS */
    std::vector<fiber *> idle;
    const char *kernel;
    const std::function<void()> *body;
    int n_threads, n_left, n_at_barrier, current;
    thread threads[MAX_THREADS];

    unsigned char *memory = nullptr; /* guard, object, guard, object, ... */
    size_t memory_used, static_bytes, dynamic_bytes;
    std::vector<shared_object> objects;
    unsigned char *dynamic;
} m;

__attribute__((format(printf, 1, 2))) void fail(const char *format, ...) {
    if (m.failed)
        return;
    m.failed = true;
    int n = snprintf(m.failure, sizeof m.failure, "%s: ", m.kernel);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(m.failure + n, sizeof m.failure - (size_t)n, format, arguments);
    va_end(arguments);
}

/* ------------------------------------------------------------------------------------------------- orders */

/* Item `i` of n in this order; the shuffle depends on the seed and on `salt`. */
std::vector<unsigned> permutation(unsigned n, uint64_t salt) {
    std::vector<unsigned> p(n);
    uint64_t state = m.order * 0x9e3779b97f4a7c15u + salt;
    for (unsigned i = 0; i < n; i++) {
        p[i] = m.order == 1 ? n - 1 - i : i;
        if (m.order < 2)
            continue;
        state = state * 6364136223846793005u + 1442695040888963407u;
        unsigned j = (unsigned)((state >> 33) % (i + 1));
        p[i] = p[j];
        p[j] = i;
    }
    return p;
}

/* ------------------------------------------------------------------------------------------------- shared memory */

unsigned char *take_shared(size_t n_bytes) {
    size_t room = (n_bytes + 15) / 16 * 16;
    unsigned char *at = m.memory + m.memory_used;
    m.memory_used += room + GUARD_BYTES;
    ASAN_UNPOISON_MEMORY_REGION(at, room + GUARD_BYTES);
    memset(at, NOT_A_NUMBER, n_bytes);
    memset(at + n_bytes, GUARD, room - n_bytes + GUARD_BYTES);
    ASAN_POISON_MEMORY_REGION(at, room + GUARD_BYTES);
    ASAN_UNPOISON_MEMORY_REGION(at, n_bytes);
    return at;
}

void begin_shared() {
    if (!m.memory) {
        m.memory = (unsigned char *)aligned_alloc(64, MAX_SHARED_BYTES);
        ASAN_POISON_MEMORY_REGION(m.memory, MAX_SHARED_BYTES);
    }
    m.memory_used = GUARD_BYTES;
    m.static_bytes = 0;
    m.objects.clear();
    m.dynamic = take_shared(m.dynamic_bytes);
}

void check_guard(const unsigned char *end) {
    ASAN_UNPOISON_MEMORY_REGION(end, GUARD_BYTES);
    for (int i = 0; i < GUARD_BYTES - 16; i++) {
        if (end[i] != GUARD)
            fail("a write beyond an object in shared memory");
    }
    ASAN_POISON_MEMORY_REGION(end, GUARD_BYTES);
}

void end_shared() {
    check_guard(m.dynamic + m.dynamic_bytes);
    for (const shared_object &o : m.objects)
        check_guard(o.at + o.n_bytes);
}

/* ------------------------------------------------------------------------------------------------- threads */

/* The running thread waits for others. */
void wait(state why) {
    thread *t = &m.threads[m.current];
    t->is = why;
    fiber_leave(t->on, &m.scheduler, false);
}

void thread_body() {
    fiber_arrived(m.threads[m.current].on, &m.scheduler);
    (*m.body)();
    thread *t = &m.threads[m.current];
    t->is = ENDED;
    m.n_left--;
    fiber_leave(t->on, &m.scheduler, true);
}

void resume(int i) {
    thread *t = &m.threads[i];
    if (!t->on) {
        t->on = m.idle.back();
        m.idle.pop_back();
        fiber_start(t->on, thread_body);
    }
    m.current = i;
    threadIdx = t->index;
    fiber_enter(&m.scheduler, t->on);
    if (t->is == ENDED) {
        m.idle.push_back(t->on);
        t->on = nullptr;
    }
}

/* Runs one warp until none of its threads can go on. */
void run_warp(int warp, const std::vector<unsigned> &lanes) {
    for (bool progress = true; progress && !m.failed;) {
        progress = false;
        for (unsigned lane : lanes) {
            int i = warp * WARP + (int)lane;
            if (i < m.n_threads && m.threads[i].is == READY && !m.failed) {
                resume(i);
                progress = true;
            }
        }
    }
}

bool any_ready() {
    for (int i = 0; i < m.n_threads; i++) {
        if (m.threads[i].is == READY)
            return true;
    }
    return false;
}

/* Nobody can go on, and somebody is left. */
void report_deadlock() {
    int stuck = 0;
    while (m.threads[stuck].is == ENDED)
        stuck++;
    const thread *t = &m.threads[stuck];
    int n_ended = m.n_threads - m.n_left;
    fail("thread %d waits in vain at %s:%d (%s%#x); of %d threads %d have ended, %d wait at a barrier", stuck,
         t->at.file, t->at.line, t->is == AT_BARRIER ? "barrier of all, lanes " : "lanes ",
         t->is == AT_BARRIER ? ~0u : t->mask, m.n_threads, n_ended, m.n_at_barrier);
}

void give_up_threads() {
    for (int i = 0; i < m.n_threads; i++) {
        if (m.threads[i].on) {
            fiber_forget(m.threads[i].on);
            m.idle.push_back(m.threads[i].on);
            m.threads[i].on = nullptr;
        }
    }
}

void begin_threads() {
    m.n_left = m.n_threads;
    m.n_at_barrier = 0;
    for (int i = 0; i < m.n_threads; i++) {
        unsigned u = (unsigned)i;
        m.threads[i] = {};
        m.threads[i].index = {u % blockDim.x, u / blockDim.x % blockDim.y, u / blockDim.x / blockDim.y};
    }
}

void run_block(uint64_t salt) {
    int n_warps = (m.n_threads + WARP - 1) / WARP;
    std::vector<unsigned> warps = permutation((unsigned)n_warps, salt), lanes = permutation(WARP, salt + 1);
    begin_shared();
    begin_threads();
    while (m.n_left > 0 && !m.failed) {
        for (unsigned w : warps)
            run_warp((int)w, lanes);
        if (m.n_left > 0 && !m.failed && !any_ready())
            report_deadlock();
    }
    if (m.failed)
        give_up_threads();
    else
        end_shared();
}

void run_grid() {
    std::vector<unsigned> blocks = permutation(gridDim.x * gridDim.y * gridDim.z, 17);
    for (unsigned b : blocks) {
        if (m.failed)
            return;
        blockIdx = {b % gridDim.x, b / gridDim.x % gridDim.y, b / gridDim.x / gridDim.y};
        run_block(b);
    }
}

bool dimensions_fit(dim3 grid, dim3 block) {
    uint64_t n_threads = (uint64_t)block.x * block.y * block.z;
    return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z <= 65535 &&
           n_threads > 0 && n_threads <= MAX_THREADS && block.x <= 1024 && block.y <= 1024 && block.z <= 64;
}

} // namespace

/* ---------------------------------------------------------------------------------------------- within a kernel */

void *emulation_shared(const void *site, size_t n_bytes) {
    for (const shared_object &o : m.objects) {
        if (o.site == site)
            return o.at;
    }
    m.static_bytes += (n_bytes + 15) / 16 * 16;
    size_t most = m.dynamic_bytes > SHARED_UNASKED ? m.chip.shared_bytes : SHARED_UNASKED;
    if (m.static_bytes > m.chip.static_shared_bytes || m.static_bytes + m.dynamic_bytes > most) {
        fail("%zu static and %zu dynamic bytes of shared memory", m.static_bytes, m.dynamic_bytes);
        wait(AT_BARRIER); /* for ever: the launch ends */
    }
    m.objects.push_back({site, take_shared(n_bytes), n_bytes});
    return m.objects.back().at;
}

unsigned char *emulation_dynamic_shared() {
    return m.dynamic;
}

int emulation_lane() {
    return m.current % WARP;
}

void emulation_barrier(const char *file, int line) {
    thread *t = &m.threads[m.current];
    t->at = {file, line};
    if (++m.n_at_barrier < m.n_threads) {
        wait(AT_BARRIER);
        return;
    }
    m.n_at_barrier = 0;
    for (int i = 0; i < m.n_threads; i++) {
        const place &p = m.threads[i].at;
        if (p.line != line || strcmp(p.file, file) != 0)
            fail("threads %d and %d meet at different barriers, %s:%d and %s:%d", i, m.current, p.file, p.line, file,
                 line);
        m.threads[i].is = READY;
    }
    if (m.failed)
        wait(AT_BARRIER);
}

/* The last lane to come gives every lane of the mask its answer. */
static void complete_exchange(thread *warp, unsigned mask) {
    uint64_t answers[WARP] = {0}, ballot = 0;
    for (int lane = 0; lane < WARP; lane++)
        ballot |= (uint64_t)(mask >> lane & 1 && warp[lane].value) << lane;
    for (int lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1))
            continue;
        int source = warp[lane].source;
        if (warp[lane].kind == EMULATION_SHUFFLE && !(mask >> source & 1))
            fail("%s:%d: lane %d reads lane %d, which is not in mask %#x", warp[lane].at.file, warp[lane].at.line, lane,
                 source, mask);
        answers[lane] = warp[lane].kind == EMULATION_SHUFFLE ? warp[source].value : ballot;
    }
    for (int lane = 0; lane < WARP; lane++) {
        if (mask >> lane & 1) {
            warp[lane].value = answers[lane];
            warp[lane].is = READY;
        }
    }
}

uint64_t emulation_exchange(emulation_exchange_kind kind, unsigned mask, uint64_t value, int source, const char *file,
                            int line) {
    thread *t = &m.threads[m.current], *warp = t - m.current % WARP;
    int first = (int)(warp - m.threads), n_lanes = m.n_threads - first < WARP ? m.n_threads - first : WARP;
    t->at = {file, line};
    t->kind = kind;
    t->mask = mask;
    t->value = value;
    t->source = source;
    if (!(mask >> m.current % WARP & 1) || (n_lanes < WARP && mask >> n_lanes))
        fail("%s:%d: lane %d of %d, mask %#x", file, line, m.current % WARP, n_lanes, mask);
    bool complete = !m.failed;
    t->is = IN_EXCHANGE;
    for (int lane = 0; lane < n_lanes; lane++) {
        const thread *other = &warp[lane];
        if (!(mask >> lane & 1))
            continue;
        if (other->is != IN_EXCHANGE || !(other->mask >> m.current % WARP & 1)) { /* or still in one without us */
            complete = false;
        } else if (other->mask != mask || other->kind != kind || other->at.line != line ||
                   strcmp(other->at.file, file) != 0) {
            fail("lanes %d and %d meet in different exchanges, %s:%d (mask %#x) and %s:%d (mask %#x)", lane,
                 m.current % WARP, other->at.file, other->at.line, other->mask, file, line, mask);
            complete = false;
        }
    }
    if (complete)
        complete_exchange(warp, mask);
    if (!complete || m.failed)
        wait(IN_EXCHANGE);
    return t->value;
}

/* ---------------------------------------------------------------------------------------------- around kernels */

cudaError_t emulation_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                             const std::function<void()> &body) {
    if (m.failed)
        return cudaErrorLaunchFailure;
    if (!m.fibers) {
        m.fibers = fibers_make(MAX_THREADS);
        for (int i = MAX_THREADS; i-- > 0;)
            m.idle.push_back(&m.fibers[i]);
    }
    m.kernel = name;
    if (!dimensions_fit(grid, block) || shared_bytes > m.chip.shared_bytes) {
        fail("a grid of %u x %u x %u blocks of %u x %u x %u threads with %zu bytes of shared memory", grid.x, grid.y,
             grid.z, block.x, block.y, block.z, shared_bytes);
        return cudaErrorInvalidConfiguration;
    }
    m.launches++;
    m.body = &body;
    gridDim = grid;
    blockDim = block;
    m.n_threads = (int)(block.x * block.y * block.z);
    m.dynamic_bytes = shared_bytes;
    run_grid();
    return m.failed ? cudaErrorLaunchFailure : cudaSuccess;
}

void emulation_set_chip(const emulation_chip *chip) {
    m.chip = chip ? *chip : least_chip;
}

const emulation_chip *emulation_get_chip() {
    return &m.chip;
}

void emulation_set_order(unsigned order) {
    m.order = order;
}

const char *emulation_failure() {
    bool failed = m.failed;
    m.failed = false;
    return failed ? m.failure : nullptr;
}

int emulation_launches() {
    int n = m.launches;
    m.launches = 0;
    return n;
}
