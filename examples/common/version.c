#include "version.h"

#include <libdetect/detect.h>

#include <stdio.h>

void print_version(const char *program) {
    printf("%s %s\n%s\n", program, det_version(), det_build_info());
}
