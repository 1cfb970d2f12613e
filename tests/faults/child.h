/* Tries that may crash run in a process of their own. */
#ifndef DET_TEST_CHILD_H
#define DET_TEST_CHILD_H

#include "check.h"

#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

/* What `try_it` returned in a child: 0 or 1; or its exit status, or 128 and a signal. */
static inline int in_child(int (*try_it)(const void *what), const void *what) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int status = try_it(what);
        fflush(NULL);
        _exit(status);
    }
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child, "no child");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline bool is_line(const char *message) {
    return message[0] && !strpbrk(message, "\n\r");
}

#endif
