/* Shared libraries that are opened at run time. */
#ifndef DET_MODULE_H
#define DET_MODULE_H

#include "status.h"

/* Opens libdetect's own module of that file name: the file that LIBDETECT_CUDA_MODULE names in the environment, or beside
 * this library, or, where there is none, where the system's loader looks. NULL after writing the last error. */
void *det_module_open(const char *name);

#endif
