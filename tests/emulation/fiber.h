/* Threads that one system thread runs in turns: the emulator's. */
#ifndef DET_EMULATION_FIBER_H
#define DET_EMULATION_FIBER_H

#include <cstddef>

#if !defined(__x86_64__) || defined(DET_EMULATION_UCONTEXT)
#define DET_FIBER_UCONTEXT 1
#include <ucontext.h>
#endif

/* A stack and where its owner stands. Memory comes from a mapping with a guard page below each stack. */
struct fiber {
    char *stack; /* lowest byte */
    size_t stack_bytes;
#ifdef DET_FIBER_UCONTEXT
    ucontext_t context;
#else
    void *top; /* saved stack pointer */
#endif
    void *fake_stack; /* AddressSanitizer's */
};

/* Makes n fibers; ends the program when memory runs out. */
fiber *fibers_make(int n);
/* A fiber to begin `entry`, which ends with fiber_leave(..., true) and never returns. */
void fiber_start(fiber *f, void (*entry)());
/* From the scheduler into the fiber, until it leaves. */
void fiber_enter(fiber *scheduler, fiber *f);
/* From the fiber back into the scheduler; `forever`: it will be started anew before it is entered again. */
void fiber_leave(fiber *f, fiber *scheduler, bool forever);
/* What a fiber must do first. */
void fiber_arrived(fiber *f, fiber *scheduler);
/* After a fiber was given up in the midst of its work. */
void fiber_forget(fiber *f);

#endif
