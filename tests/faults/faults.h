/* Makes the k-th call of some kind fail, once. The functions of the C library are replaced for the whole process: faults.c is
 * linked into the program that is tested, or preloaded into it. */
#ifndef DET_TEST_FAULTS_H
#define DET_TEST_FAULTS_H

typedef enum fault_kind {
    FAULT_MEMORY, /* malloc and its kin */
    FAULT_NEW,    /* the same, called for C++'s operator new: oneDNN's containers */
    FAULT_THREAD, /* pthread_create */
    FAULT_LOCK,   /* pthread_mutex_init, pthread_cond_init */
    FAULT_OPEN,   /* open, openat, fopen: EMFILE */
    FAULT_READ,   /* read: EIO */
    FAULT_END,    /* read: the file ends early */
    FAULT_SIGNAL, /* read: EINTR, which nobody may notice */
    FAULT_SHORT,  /* read: one byte only, which nobody may notice */
    FAULT_STAT,   /* fstat: EIO */
    FAULT_WRITE,  /* write: ENOSPC */
    FAULT_MAP,    /* mmap: ENOMEM */
    N_FAULTS
} fault_kind;

extern const char *const fault_names[N_FAULTS];

/* Call number `at` of that kind fails from now on, counted from 1; 0: none, only count. */
void fault_arm(fault_kind kind, long at);
/* Calls of the armed kind since then. */
long fault_calls(void);
void fault_disarm(void);

/* Blocks of memory that are taken and not given back. */
long fault_live_blocks(void);
/* Those among them that oneDNN and the C++ runtime did not take. */
long fault_own_blocks(void);

#endif
