/* Memory for copied pictures, taken once: blocks of whole pages, first fit. The pool's mutex guards it; pictures are
 * copied outside. */
#ifndef DET_SERVING_STAGING_H
#define DET_SERVING_STAGING_H

#include "../status.h"

typedef struct det_staging {
    uint8_t *memory;
    int n_pages;
    int *blocks;        /* [n_pages]: pages of the block that begins here, negative when it is free */
    int64_t used_bytes; /* whole pages */
} det_staging;

/* memory: n_bytes that outlive the staging; NULL when n_bytes is less than a page. */
det_status det_staging_open(det_staging *staging, void *memory, size_t n_bytes);
void det_staging_close(det_staging *staging);

/* NULL: no room. */
void *det_staging_take(det_staging *staging, size_t n_bytes);
void det_staging_give(det_staging *staging, void *pointer);

/* Bytes of a picture whose rows lie side by side. */
size_t det_staging_bytes(const det_image *image);
/* The most that ever fits. */
size_t det_staging_capacity(const det_staging *s);
/* Copies a picture there and points `image` at the copy. */
void det_staging_copy(det_image *image, void *to);

#endif
