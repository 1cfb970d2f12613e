/* What tests ask of the emulator, in C. */
#ifndef DET_EMULATION_H
#define DET_EMULATION_H

#include "kernels.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a launch may ask for. The default is the least of the chips that libdetect is built for. */
typedef struct emulation_chip {
    size_t shared_bytes;        /* of a block, static and dynamic, when it asks */
    size_t static_shared_bytes; /* of these, static */
    int multiprocessors;
} emulation_chip;
void emulation_set_chip(const emulation_chip *chip); /* NULL: the default */

/* In which order blocks, warps and lanes run: 0 first to last, 1 last to first, others shuffled by that seed. */
void emulation_set_order(unsigned order);
/* What went wrong first since the last call, or NULL; and forgets it. Until then every launch fails. */
const char *emulation_failure(void);
/* Launches since the last call. */
int emulation_launches(void);

/* Between floats and elements as a device has them. */
void emulation_to_elements(det_type type, const float *from, void *to, size_t n);
void emulation_from_elements(det_type type, const void *from, float *to, size_t n);
size_t emulation_element_bytes(det_type type);

/* Memory between canaries, full of NaN (0xff): they show what is written beyond, and AddressSanitizer what is read. Ends the
 * test when there is none. */
void *emulation_memory(size_t n_bytes);
bool emulation_memory_intact(const void *memory);
void emulation_memory_free(void *memory);

#ifdef __cplusplus
}
#endif

#endif
