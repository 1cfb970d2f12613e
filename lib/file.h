/* Model files from disk. */
#ifndef DET_FILE_H
#define DET_FILE_H

#include "status.h"

/* Reads a whole model file; its first bytes are checked before memory is taken for it. Messages do not name the file.
 * The caller gives *data back with det_free, after a failure too. */
det_status det_file_read(const char *path, uint8_t **data, size_t *n_bytes);

#endif
