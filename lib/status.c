#include "status.h"

#include "api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024, ALIGNMENT = 64 };

static _Thread_local char last_error[MESSAGE_BYTES];

const char *det_status_name(det_status status) {
    switch (status) {
    case DET_OK:
        return "DET_OK";
    case DET_ERROR_INVALID_ARGUMENT:
        return "DET_ERROR_INVALID_ARGUMENT";
    case DET_ERROR_OUT_OF_MEMORY:
        return "DET_ERROR_OUT_OF_MEMORY";
    case DET_ERROR_IO:
        return "DET_ERROR_IO";
    case DET_ERROR_BAD_MODEL:
        return "DET_ERROR_BAD_MODEL";
    case DET_ERROR_UNSUPPORTED:
        return "DET_ERROR_UNSUPPORTED";
    case DET_ERROR_NO_DEVICE:
        return "DET_ERROR_NO_DEVICE";
    case DET_ERROR_DEVICE:
        return "DET_ERROR_DEVICE";
    case DET_ERROR_BUSY:
        return "DET_ERROR_BUSY";
    case DET_ERROR_INTERNAL:
        return "DET_ERROR_INTERNAL";
    case DET_ERROR_QUEUE_FULL:
        return "DET_ERROR_QUEUE_FULL";
    case DET_ERROR_TIMEOUT:
        return "DET_ERROR_TIMEOUT";
    case DET_ERROR_DEADLINE:
        return "DET_ERROR_DEADLINE";
    case DET_ERROR_CANCELLED:
        return "DET_ERROR_CANCELLED";
    case DET_ERROR_CLOSED:
        return "DET_ERROR_CLOSED";
    default:
        return "unknown status";
    }
}

const char *det_last_error(void) {
    return last_error;
}

/* A message must stay one line and valid for a terminal, whatever a file put into it. The controls of ISO 6429, which some
 * terminals obey, are U+0080 to U+009F. */
static void make_printable(char *text) {
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
        else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
            c[0] = c[1] = '?';
    }
}

/* vsnprintf, but what is cut ends with "..." behind a whole character. */
static void print(char *text, size_t size, const char *format, va_list arguments) {
    size_t n = (size_t)vsnprintf(text, size, format, arguments);
    if (n < size)
        return;
    n = size - sizeof "...";
    for (int i = 0; i < 3 && ((unsigned char)text[n] & 0xc0) == 0x80; i++)
        n--;
    memcpy(text + n, "...", sizeof "...");
}

det_status det_fail(det_status status, const char *format, ...) {
    char message[MESSAGE_BYTES]; /* arguments may point into last_error */
    va_list arguments;
    va_start(arguments, format);
    print(message, sizeof message, format, arguments);
    va_end(arguments);
    make_printable(message);
    memcpy(last_error, message, sizeof message);
    return status;
}

void det_fail_prefix(const char *format, ...) {
    char prefix[MESSAGE_BYTES / 2];
    va_list arguments;
    va_start(arguments, format);
    print(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    det_fail(DET_OK, "%s: %s", prefix, last_error);
}

/* The only mutable globals of the library: set before other threads use it. */
static det_log_fn log_callback;
static int log_level = DET_LOG_ERROR;
static void *log_user;
static det_allocator hooks;

void det_set_log(det_log_fn callback, int level, void *user) {
    log_callback = callback;
    log_level = level;
    log_user = user;
}

bool det_log_wanted(int level) {
    return log_callback && level <= log_level;
}

void det_log(int level, const char *format, ...) {
    if (!det_log_wanted(level))
        return;
    char message[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    print(message, sizeof message, format, arguments);
    va_end(arguments);
    make_printable(message);
    log_callback(log_user, level, message);
}

det_status det_set_allocator(const det_allocator *allocator) {
    if (!allocator) {
        memset(&hooks, 0, sizeof hooks);
        return DET_OK;
    }
    det_allocator own = {0};
    const size_t first = offsetof(det_allocator, user) + sizeof own.user; /* of the first release */
    DET_TRY(det_take_struct(&own, sizeof own, first, allocator, "det_allocator"));
    if (!own.allocate || !own.release)
        DET_FAIL(DET_ERROR_INVALID_ARGUMENT, "det_allocator: %s is NULL", own.allocate ? "release" : "allocate");
    hooks = own;
    return DET_OK;
}

void *det_alloc(size_t n_bytes) {
    size_t rounded = n_bytes > SIZE_MAX - ALIGNMENT ? 0 : (DET_MAX(n_bytes, 1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *pointer = NULL;
    if (rounded)
        pointer = hooks.allocate ? hooks.allocate(hooks.user, rounded, ALIGNMENT) : aligned_alloc(ALIGNMENT, rounded);
    if (!pointer)
        det_fail(DET_ERROR_OUT_OF_MEMORY, "out of host memory: %zu bytes asked for", n_bytes);
    return pointer;
}

void *det_alloc_array(size_t n, size_t element_bytes) {
    size_t n_bytes = n * element_bytes;
    if (element_bytes && n > SIZE_MAX / element_bytes) {
        det_fail(DET_ERROR_OUT_OF_MEMORY, "out of host memory: %zu elements of %zu bytes asked for", n, element_bytes);
        return NULL;
    }
    void *pointer = det_alloc(n_bytes);
    if (pointer)
        memset(pointer, 0, n_bytes);
    return pointer;
}

void det_free(void *pointer) {
    if (!pointer)
        return;
    if (hooks.release)
        hooks.release(hooks.user, pointer);
    else
        free(pointer);
}

det_status det_grow(void **array, int n, int *capacity, size_t element_bytes) {
    if (n < *capacity)
        return DET_OK;
    int larger = DET_MAX(16, 2 * *capacity);
    void *grown = det_alloc_array((size_t)larger, element_bytes);
    if (!grown)
        return DET_ERROR_OUT_OF_MEMORY;
    if (n)
        memcpy(grown, *array, (size_t)n * element_bytes);
    det_free(*array);
    *array = grown;
    *capacity = larger;
    return DET_OK;
}
