/* Shared libraries that are opened at run time. */
#ifndef DET_MODULE_H
#define DET_MODULE_H

#include "status.h"

/* Opens libdetect's own module of that file name: the file that LIBDETECT_CUDA_MODULE names in the environment, or beside
 * this library, or, where there is none, where the system's loader looks. NULL after writing the last error. */
void *det_module_open(const char *name);

/* Whether this machine has NVIDIA's driver, or the environment names a module that may do without: looks before
 * hundreds of megabytes of CUDA libraries are mapped for nothing. */
bool det_module_has_driver(void);

#endif
