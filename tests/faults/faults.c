/* Calls from within the loader, oneDNN, OpenMP and the C++ runtime pass: their failures are not this project's to survive,
 * but for operator new, which throws through oneDNN and has a kind of its own.
 *
 * Preloaded, it is told by the environment: DET_FAULT=KIND:NUMBER. At the end it writes the number of calls to the file
 * that DET_FAULT_REPORT names. */
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const fault_names[N_FAULTS] = {"memory", "new",    "thread", "lock", "open",  "read",
                                           "end",    "signal", "short",  "stat", "write", "map"};

/* ------------------------------------------------------------------------------------------------------- who calls */

enum { MAX_RANGES = 64 };

typedef struct range {
    uintptr_t begin, end;
} range;

static range vendors[MAX_RANGES], runtime[MAX_RANGES]; /* runtime: of C++ */
static int n_vendors, n_runtime;

static void add_ranges(const struct dl_phdr_info *info, range *ranges, int *n) {
    for (int i = 0; i < info->dlpi_phnum && *n < MAX_RANGES; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_LOAD)
            ranges[(*n)++] = (range){begin, begin + segment->p_memsz};
    }
}

static int add_library(struct dl_phdr_info *info, size_t size, void *user) {
    static const char *const names[] = {"libdnnl", "libgomp", "libomp", "libOpenCL", "libtbb", "ld-linux", "libgcc_s"};
    (void)size;
    (void)user;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strstr(info->dlpi_name, names[i]))
            add_ranges(info, vendors, &n_vendors);
    }
    if (strstr(info->dlpi_name, "libstdc++"))
        add_ranges(info, runtime, &n_runtime);
    return 0;
}

static bool is_in(const range *ranges, int n, const void *address) {
    for (int i = 0; i < n; i++) {
        if ((uintptr_t)address >= ranges[i].begin && (uintptr_t)address < ranges[i].end)
            return true;
    }
    return false;
}

/* -------------------------------------------------------------------------------------------------------- counting */

static atomic_int armed_kind = -1;
static atomic_long n_calls, fail_at, n_live;

static void find_libraries(void) {
    n_vendors = n_runtime = 0;
    dl_iterate_phdr(add_library, NULL);
}

void fault_arm(fault_kind kind, long at) {
    find_libraries();
    atomic_store(&n_calls, 0);
    atomic_store(&fail_at, at);
    atomic_store(&armed_kind, (int)kind);
}

void fault_disarm(void) {
    atomic_store(&armed_kind, -1);
}

long fault_calls(void) {
    return atomic_load(&n_calls);
}

/* The blocks that are alive and not oneDNN's: a table of addresses with linear probing; TAKEN_BACK marks a gap. */
enum { TABLE_SIZE = 1 << 16 };
#define TAKEN_BACK ((void *)1)
static void *own_blocks[TABLE_SIZE];
static atomic_long n_own;
static atomic_flag table_lock = ATOMIC_FLAG_INIT;

static size_t first_place(const void *block) {
    return ((uintptr_t)block >> 4) * 0x9e3779b97f4a7c15u >> 48 & (TABLE_SIZE - 1);
}

/* Puts `block` in place of what is NULL, or TAKEN_BACK in place of `block`; whether it did. */
static bool change_table(void *block, bool add) {
    bool done = false;
    while (atomic_flag_test_and_set(&table_lock))
        ;
    size_t i = first_place(block);
    for (int n = 0; n < TABLE_SIZE && !done; n++, i = (i + 1) & (TABLE_SIZE - 1)) {
        if (add ? own_blocks[i] == NULL || own_blocks[i] == TAKEN_BACK : own_blocks[i] == block) {
            own_blocks[i] = add ? block : TAKEN_BACK;
            done = true;
        } else if (!add && own_blocks[i] == NULL) {
            break;
        }
    }
    atomic_flag_clear(&table_lock);
    return done;
}

long fault_live_blocks(void) {
    return atomic_load(&n_live);
}

long fault_own_blocks(void) {
    return atomic_load(&n_own);
}

static bool is_due(fault_kind kind, const void *caller) {
    if (atomic_load(&armed_kind) != (int)kind || is_in(vendors, n_vendors, caller))
        return false;
    if (is_in(runtime, n_runtime, caller) != (kind == FAULT_NEW))
        return false;
    return atomic_fetch_add(&n_calls, 1) + 1 == atomic_load(&fail_at);
}

#define DUE(kind) is_due(kind, __builtin_return_address(0))

/* The next definition of a function, after this one. */
#define REAL(name)                                                                                                     \
    static __typeof__(name) *real;                                                                                     \
    if (!real) {                                                                                                       \
        void *found = dlsym(RTLD_NEXT, #name);                                                                         \
        memcpy(&real, &found, sizeof real);                                                                            \
    }

/* ---------------------------------------------------------------------------------------------------------- memory */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *block);

static void *counted(void *block, const void *caller) {
    if (!block)
        return NULL;
    atomic_fetch_add(&n_live, 1);
    if (!is_in(vendors, n_vendors, caller) && !is_in(runtime, n_runtime, caller) && change_table(block, true))
        atomic_fetch_add(&n_own, 1);
    return block;
}

static void discount(void *block) {
    if (!block)
        return;
    atomic_fetch_sub(&n_live, 1);
    if (change_table(block, false))
        atomic_fetch_sub(&n_own, 1);
}

#define COUNTED(block) counted(block, __builtin_return_address(0))

#define MEMORY_DUE() (DUE(FAULT_MEMORY) || DUE(FAULT_NEW))
#define NO_MEMORY    (errno = ENOMEM, (void *)NULL)

void *malloc(size_t n) {
    return MEMORY_DUE() ? NO_MEMORY : COUNTED(__libc_malloc(n));
}

void *calloc(size_t n, size_t size) {
    return MEMORY_DUE() ? NO_MEMORY : COUNTED(__libc_calloc(n, size));
}

void *realloc(void *block, size_t n) {
    if (MEMORY_DUE())
        return NO_MEMORY;
    void *moved = __libc_realloc(block, n);
    if (!moved && n)
        return NULL; /* and `block` is as it was */
    discount(block);
    return COUNTED(moved);
}

void *memalign(size_t alignment, size_t n);
void *memalign(size_t alignment, size_t n) {
    return MEMORY_DUE() ? NO_MEMORY : COUNTED(__libc_memalign(alignment, n));
}

void *aligned_alloc(size_t alignment, size_t n) {
    return MEMORY_DUE() ? NO_MEMORY : COUNTED(__libc_memalign(alignment, n));
}

int posix_memalign(void **block, size_t alignment, size_t n) {
    if (MEMORY_DUE())
        return ENOMEM;
    void *taken = COUNTED(__libc_memalign(alignment, n));
    if (!taken)
        return ENOMEM;
    *block = taken;
    return 0;
}

void free(void *block) {
    discount(block);
    __libc_free(block);
}

/* --------------------------------------------------------------------------------------------------------- threads */

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    REAL(pthread_create)
    return DUE(FAULT_THREAD) ? EAGAIN : real(thread, attributes, run, argument);
}

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes) {
    REAL(pthread_mutex_init)
    return DUE(FAULT_LOCK) ? ENOMEM : real(mutex, attributes);
}

int pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes) {
    REAL(pthread_cond_init)
    return DUE(FAULT_LOCK) ? ENOMEM : real(condition, attributes);
}

/* ----------------------------------------------------------------------------------------------------------- files */

int open(const char *path, int flags, ...) {
    REAL(open)
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return DUE(FAULT_OPEN) ? (errno = EMFILE, -1) : real(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode) {
    REAL(fopen)
    return DUE(FAULT_OPEN) ? (errno = EMFILE, NULL) : real(path, mode);
}

ssize_t read(int file, void *data, size_t n) {
    REAL(read)
    if (DUE(FAULT_READ))
        return errno = EIO, -1;
    if (DUE(FAULT_END))
        return 0;
    if (DUE(FAULT_SIGNAL))
        return errno = EINTR, -1;
    return real(file, data, DUE(FAULT_SHORT) && n > 1 ? 1 : n);
}

int fstat(int file, struct stat *about) {
    REAL(fstat)
    return DUE(FAULT_STAT) ? (errno = EIO, -1) : real(file, about);
}

ssize_t write(int file, const void *data, size_t n) {
    REAL(write)
    return DUE(FAULT_WRITE) ? (errno = ENOSPC, -1) : real(file, data, n);
}

void *mmap(void *address, size_t n, int protection, int flags, int file, off_t offset) {
    REAL(mmap)
    return DUE(FAULT_MAP) ? (errno = ENOMEM, MAP_FAILED) : real(address, n, protection, flags, file, offset);
}

/* ------------------------------------------------------------------------------------------------------- preloaded */

__attribute__((constructor)) static void arm_from_environment(void) {
    find_libraries();
    const char *given = getenv("DET_FAULT"), *colon = given ? strchr(given, ':') : NULL;
    for (int i = 0; colon && i < N_FAULTS; i++) {
        if (!strncmp(given, fault_names[i], (size_t)(colon - given)) && !fault_names[i][colon - given])
            fault_arm((fault_kind)i, atol(colon + 1));
    }
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("DET_FAULT_REPORT");
    long n = fault_calls();
    fault_disarm();
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", n);
        fclose(file);
    }
}
