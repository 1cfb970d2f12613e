#include "emulation.h"
#include "emulator_asan.h"
#include "emulator_math.h"

#include <cstdio>
#include <cstdlib>

void emulation_to_elements(det_type type, const float *from, void *to, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (type == DET_TYPE_F32)
            ((float *)to)[i] = from[i];
        else if (type == DET_TYPE_F16)
            ((__half *)to)[i] = __float2half_rn(from[i]);
        else
            ((__nv_bfloat16 *)to)[i] = __float2bfloat16_rn(from[i]);
    }
}

void emulation_from_elements(det_type type, const void *from, float *to, size_t n) {
    for (size_t i = 0; i < n; i++)
        to[i] = type == DET_TYPE_F32   ? ((const float *)from)[i]
                : type == DET_TYPE_F16 ? __half2float(((const __half *)from)[i])
                                       : __bfloat162float(((const __nv_bfloat16 *)from)[i]);
}

size_t emulation_element_bytes(det_type type) {
    return type == DET_TYPE_F32 ? 4 : 2;
}

/* [header and canaries][memory][canaries]: the header remembers the size. A sanitizer lets nobody touch the canaries. */
enum { CANARY_BYTES = 256, CANARY = 0xc5 };

static size_t room_of(size_t n_bytes) {
    return (n_bytes + CANARY_BYTES - 1) / CANARY_BYTES * CANARY_BYTES;
}

static void forbid_canaries(const unsigned char *p, size_t n_bytes) {
    ASAN_POISON_MEMORY_REGION(p - CANARY_BYTES, CANARY_BYTES);
    ASAN_POISON_MEMORY_REGION(p + n_bytes, room_of(n_bytes) - n_bytes + CANARY_BYTES);
}

/* Returns how many bytes lie between them. */
static size_t allow_canaries(const unsigned char *p) {
    size_t n_bytes;
    ASAN_UNPOISON_MEMORY_REGION(p - CANARY_BYTES, CANARY_BYTES);
    memcpy(&n_bytes, p - CANARY_BYTES, sizeof n_bytes);
    ASAN_UNPOISON_MEMORY_REGION(p + n_bytes, room_of(n_bytes) - n_bytes + CANARY_BYTES);
    return n_bytes;
}

void *emulation_memory(size_t n_bytes) {
    size_t room = room_of(n_bytes);
    unsigned char *all = (unsigned char *)aligned_alloc(CANARY_BYTES, room + 2 * CANARY_BYTES);
    if (!all) {
        fprintf(stderr, "no memory for %zu bytes\n", n_bytes);
        exit(1);
    }
    memset(all, CANARY, room + 2 * CANARY_BYTES);
    memcpy(all, &n_bytes, sizeof n_bytes);
    memset(all + CANARY_BYTES, 0xff, n_bytes);
    forbid_canaries(all + CANARY_BYTES, n_bytes);
    return all + CANARY_BYTES;
}

static bool all_canaries(const unsigned char *p, const unsigned char *end) {
    while (p < end && *p == CANARY)
        p++;
    return p == end;
}

bool emulation_memory_intact(const void *memory) {
    const unsigned char *p = (const unsigned char *)memory;
    size_t n_bytes = allow_canaries(p);
    bool intact = all_canaries(p - CANARY_BYTES + sizeof n_bytes, p) &&
                  all_canaries(p + n_bytes, p + room_of(n_bytes) + CANARY_BYTES);
    forbid_canaries(p, n_bytes);
    return intact;
}

void emulation_memory_free(void *memory) {
    if (!memory)
        return;
    allow_canaries((const unsigned char *)memory);
    free((unsigned char *)memory - CANARY_BYTES);
}
