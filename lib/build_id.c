/* The one file that is compiled anew when only the revision has changed. */
#include "libdetect/detect.h"
#include "revision.h" /* written by the build: cmake/revision.cmake */

#include <oneapi/dnnl/dnnl_version.h>

#define TEXT_OF(token)               #token
#define TEXT(macro)                  TEXT_OF(macro)
#define VERSION(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *det_version(void) {
    return VERSION(DET_VERSION_MAJOR, DET_VERSION_MINOR, DET_VERSION_PATCH);
}

const char *det_build_info(void) {
    return "libdetect " VERSION(DET_VERSION_MAJOR, DET_VERSION_MINOR,
                                DET_VERSION_PATCH) " (" DET_REVISION "), " DET_PROCESSOR ", " DET_COMPILER
                                                   ", oneDNN " VERSION(DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR,
                                                                       DNNL_VERSION_PATCH) ", " DET_CUDA;
}
