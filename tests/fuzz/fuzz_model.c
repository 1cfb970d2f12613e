/* Opens whatever it is given as a model file and, when that works, plans its network for a small picture and runs it. */
#include "try_model.h"

#include <stdbool.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    try_model(data, n_bytes);
    return 0;
}

#ifdef DET_BUILD_FUZZERS
enum { LENGTH_BYTES = 8 };

size_t LLVMFuzzerMutate(uint8_t *data, size_t n_bytes, size_t max_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n_bytes, size_t max_bytes, unsigned seed);

static size_t header_length(const uint8_t *data) {
    uint64_t length = 0;
    for (int i = 0; i < LENGTH_BYTES; i++)
        length |= (uint64_t)data[i] << 8 * i;
    return (size_t)length;
}

/* Mostly mutates the header or the data and keeps the header's length right, so that few tries end there. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n_bytes, size_t max_bytes, unsigned seed) {
    size_t length = n_bytes >= LENGTH_BYTES ? header_length(data) : 0;
    if (seed % 16 == 0 || n_bytes < LENGTH_BYTES || length > n_bytes - LENGTH_BYTES)
        return LLVMFuzzerMutate(data, n_bytes, max_bytes);
    uint8_t *header = data + LENGTH_BYTES;
    size_t rest = n_bytes - LENGTH_BYTES - length, free_bytes = max_bytes - n_bytes;
    bool in_header = seed % 4 != 0;
    if (free_bytes + (in_header ? length : rest) == 0) /* LLVMFuzzerMutate makes a byte even where there is no room */
        return LLVMFuzzerMutate(data, n_bytes, max_bytes);
    if (!in_header)
        return LENGTH_BYTES + length + LLVMFuzzerMutate(header + length, rest, rest + free_bytes);
    uint8_t *kept = malloc(rest + 1);
    if (!kept)
        return n_bytes;
    memcpy(kept, header + length, rest);
    length = LLVMFuzzerMutate(header, length, length + free_bytes);
    memcpy(header + length, kept, rest);
    free(kept);
    for (int i = 0; i < LENGTH_BYTES; i++)
        data[i] = (uint8_t)((uint64_t)length >> 8 * i);
    return LENGTH_BYTES + length + rest;
}
#endif
