/* Errors, log and host memory: what every other file of lib/ builds on. */
#ifndef DET_STATUS_H
#define DET_STATUS_H

#include "libdetect/detect.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define DET_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define DET_PRINTF(text, first)
#endif

#define DET_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define DET_MAX(a, b)    ((a) > (b) ? (a) : (b))
#define DET_COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Forwards a failure to the caller. */
#define DET_TRY(expression)                                                                                            \
    do {                                                                                                               \
        det_status try_status = (expression);                                                                          \
        if (try_status != DET_OK)                                                                                      \
            return try_status;                                                                                         \
    } while (0)

/* Creates a failure: the message says what, with the numbers. (Static analysis sees here that it is no success.) */
#define DET_FAIL(status, ...) return det_fail(status, __VA_ARGS__), (status)

/* Writes this thread's last error and returns `status`. */
det_status det_fail(det_status status, const char *format, ...) DET_PRINTF(2, 3);

/* Puts "prefix: " before this thread's last error, for the places that know the context. */
void det_fail_prefix(const char *format, ...) DET_PRINTF(1, 2);

bool det_log_wanted(int level);
void det_log(int level, const char *format, ...) DET_PRINTF(2, 3);

/* Memory aligned to 64 bytes, uninitialised; NULL after writing the last error. Zero bytes give a valid pointer. */
void *det_alloc(size_t n_bytes);
/* The same for an array, zeroed; the product is checked. */
void *det_alloc_array(size_t n, size_t element_bytes);
void det_free(void *pointer);
/* Doubles `*array` (elements of `element_bytes`) when its `n` elements fill its `*capacity`. */
det_status det_grow(void **array, int n, int *capacity, size_t element_bytes);

#endif
