/* A CUDA module of a version that does not fit: it has the entry, and the entry says no. */
const void *det_cuda_backend(int abi, const void *core);

const void *det_cuda_backend(int abi, const void *core) {
    (void)abi;
    (void)core;
    return 0;
}
