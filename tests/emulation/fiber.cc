#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
enum { STACK_BYTES = 512 * 1024 }; /* its frames are large */
#else
enum { STACK_BYTES = 128 * 1024 };
#endif

fiber *fibers_make(int n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), each = STACK_BYTES + page;
    char *memory = (char *)mmap(nullptr, each * (size_t)n, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    fiber *fibers = (fiber *)calloc((size_t)n, sizeof(fiber));
    if (memory == MAP_FAILED || !fibers) {
        fprintf(stderr, "emulator: no memory for %d threads\n", n);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        char *guard = memory + each * (size_t)i;
        mprotect(guard, page, PROT_NONE);
        fibers[i].stack = guard + page;
        fibers[i].stack_bytes = STACK_BYTES;
    }
    return fibers;
}

/* ---------------------------------------------------------------------------------------------------- the switch */

#ifdef DET_FIBER_UCONTEXT
void fiber_start(fiber *f, void (*entry)()) {
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = f->stack_bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, entry, 0);
    f->fake_stack = nullptr;
}

static void change(fiber *from, fiber *to) {
    swapcontext(&from->context, &to->context);
}
#else
/* What a call must preserve goes on the old stack, and comes from the new one. */
extern "C" void det_fiber_change(void **save, void *load);
asm(R"(
    .text
    .globl det_fiber_change
    .hidden det_fiber_change
    .type det_fiber_change, @function
det_fiber_change:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size det_fiber_change, .-det_fiber_change
)");

void fiber_start(fiber *f, void (*entry)()) {
    void **top = (void **)(f->stack + f->stack_bytes);
    *--top = nullptr; /* where entry would return to; the stack is aligned as after a call */
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f->top = top;
    f->fake_stack = nullptr;
}

static void change(fiber *from, fiber *to) {
    det_fiber_change(&from->top, to->top);
}
#endif

/* ------------------------------------------------------------------------------------------ and AddressSanitizer's */

void fiber_enter(fiber *scheduler, fiber *f) {
#ifdef SANITIZED
    __sanitizer_start_switch_fiber(&scheduler->fake_stack, f->stack, f->stack_bytes);
#endif
    change(scheduler, f);
#ifdef SANITIZED
    __sanitizer_finish_switch_fiber(scheduler->fake_stack, nullptr, nullptr);
#endif
}

void fiber_leave(fiber *f, fiber *scheduler, bool forever) {
#ifdef SANITIZED
    __sanitizer_start_switch_fiber(forever ? nullptr : &f->fake_stack, scheduler->stack, scheduler->stack_bytes);
#endif
    (void)forever;
    change(f, scheduler);
    fiber_arrived(f, scheduler);
}

void fiber_arrived(fiber *f, fiber *scheduler) {
#ifdef SANITIZED
    const void *stack;
    __sanitizer_finish_switch_fiber(f->fake_stack, &stack, &scheduler->stack_bytes);
    scheduler->stack = (char *)(uintptr_t)stack;
#endif
    (void)f;
    (void)scheduler;
}

void fiber_forget(fiber *f) {
#ifdef SANITIZED
    __asan_unpoison_memory_region(f->stack, f->stack_bytes);
#endif
    (void)f;
}
