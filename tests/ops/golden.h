/* The folder of reference outputs: $DET_GOLDEN, else beside the source tree. A test without it is skipped. */
#ifndef DET_TEST_GOLDEN_H
#define DET_TEST_GOLDEN_H

#include "check.h"
#include "net.h"
#include "tensors.h"

#include <unistd.h>

typedef struct golden_text {
    char text[4096];
} golden_text;

static inline golden_text golden_path(const char *file) {
    const char *folder = getenv("DET_GOLDEN");
    golden_text path;
    int n = snprintf(path.text, sizeof path.text, "%s/%s", folder ? folder : DET_GOLDEN_DEFAULT, file);
    REQUIRE(n < (int)sizeof path.text, "the path of %s is too long", file);
    if (access(path.text, R_OK) != 0) {
        printf("SKIP: %s is not there\n", path.text);
        exit(CHECK_SKIP);
    }
    return path;
}

#endif
