/* A CUDA module of a version that does not fit: it has the entry, and the entry says no. NEEDY: and needs a library. */
const void *det_cuda_backend(int abi, const void *core);

#ifdef NEEDY
int needed_since_yesterday(void);
#else
#define needed_since_yesterday() 0
#endif

const void *det_cuda_backend(int abi, const void *core) {
    (void)abi;
    (void)core;
    return needed_since_yesterday() ? core : 0;
}
