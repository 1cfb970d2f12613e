/* oneDNN is C++ inside: where its containers find no memory it throws, and an exception must not cross the host. */
#ifndef DET_CPU_GUARD_H
#define DET_CPU_GUARD_H

#include "../status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* function(argument); an exception becomes DET_ERROR_OUT_OF_MEMORY or DET_ERROR_DEVICE. */
det_status det_guard(det_status (*function)(void *argument), void *argument);

#ifdef __cplusplus
}
#endif

#endif
