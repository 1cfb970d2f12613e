#include "file.h"

#include "weights.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_BYTES (4LL << 30)

static det_status find_size(int file, uint64_t *n_bytes) {
    struct stat about;
    if (fstat(file, &about))
        DET_FAIL(DET_ERROR_IO, "cannot be read: %m");
    if (!S_ISREG(about.st_mode))
        DET_FAIL(DET_ERROR_IO, "not a regular file");
    if (about.st_size > MAX_FILE_BYTES)
        DET_FAIL(DET_ERROR_BAD_MODEL, "%lld bytes; at most %lld are allowed", (long long)about.st_size, MAX_FILE_BYTES);
    *n_bytes = (uint64_t)about.st_size;
    return DET_OK;
}

/* Exactly n_bytes, which the file had a moment ago. */
static det_status read_exactly(int file, uint8_t *data, size_t n_bytes) {
    size_t n_read = 0;
    while (n_read < n_bytes) {
        ssize_t n = read(file, data + n_read, n_bytes - n_read);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            DET_FAIL(DET_ERROR_IO, "cannot be read: %m");
        if (n == 0)
            DET_FAIL(DET_ERROR_IO, "ends %zu bytes too early", n_bytes - n_read);
        n_read += (size_t)n;
    }
    return DET_OK;
}

static det_status read_file(int file, uint8_t **data, size_t *n_bytes) {
    uint8_t start[DET_WEIGHTS_START_BYTES] = {0};
    uint64_t size = 0, header_bytes = 0;
    DET_TRY(find_size(file, &size));
    size_t n_start = DET_MIN(size, sizeof start);
    DET_TRY(read_exactly(file, start, n_start));
    DET_TRY(det_weights_check_start(start, size, &header_bytes));
    *n_bytes = (size_t)size;
    *data = det_alloc(*n_bytes);
    if (!*data)
        return DET_ERROR_OUT_OF_MEMORY;
    memcpy(*data, start, n_start);
    return read_exactly(file, *data + n_start, *n_bytes - n_start);
}

det_status det_file_read(const char *path, uint8_t **data, size_t *n_bytes) {
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold the caller */
    if (file < 0)
        DET_FAIL(DET_ERROR_IO, "cannot be opened: %m");
    det_status status = read_file(file, data, n_bytes);
    close(file);
    return status;
}
