/* Checks of what callers hand over, shared by the public functions. */
#ifndef DET_API_CHECKS_H
#define DET_API_CHECKS_H

#include "status.h"

enum { DET_MAX_CANDIDATES = 65536 };

/* Copies a caller's struct over our defaults: an older, shorter one leaves the new fields alone; a newer, longer one
 * must not ask for what we do not know. Both begin with struct_size. */
det_status det_take_struct(void *ours, size_t our_bytes, size_t least_bytes, const void *theirs, const char *name);

/* Fills in a caller's struct of their_bytes with our defaults: no byte beyond, and zeros where it is longer than ours. */
void det_init_struct(const void *defaults, size_t our_bytes, void *theirs, size_t their_bytes);

/* Whether a struct says how large it is. */
det_status det_check_struct(const void *theirs, size_t our_bytes, const char *name);
/* Fills in as much of a caller's struct as it has room for, struct_size aside. */
det_status det_give_struct(const void *ours, size_t our_bytes, void *theirs, const char *name);

det_status det_check_range(int value, int low, int high, const char *name);
det_status det_check_thresholds(const det_thresholds *thresholds, int n_classes);
/* host_only: device memory is refused. */
det_status det_check_image(const det_image *image, int index, bool host_only);

#endif
