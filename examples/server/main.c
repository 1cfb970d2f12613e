/* detect-server: detection over HTTP. examples/server/README.md describes it. */
#include "log.h"
#include "server.h"
#include "version.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_DONE = 0, EXIT_OUTPUT = 1, EXIT_USAGE = 2, EXIT_START = 3 };

static void log_library(void *user, int level, const char *message) {
    static const char *const names[] = {"error", "warning", "info", "debug"}; /* by DET_LOG_* */
    (void)user;
    complain("%s: %s", names[level], message);
}

/* Blocked before any thread begins, so that every thread inherits it and sigwait alone receives them. */
static sigset_t block_signals(void) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGINT);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    signal(SIGPIPE, SIG_IGN); /* a client that has gone is an error of writing like any other */
    return awaited;
}

static bool start(server *s) {
    if (!connections_open(&s->clients, s->given.receive_ms, &s->counted.closed_slow))
        return false;
    s->engine = engine_open(&s->given, &s->memory);
    if (s->engine != NULL && selftest_open(&s->ready, s->engine)) {
        if (http_start(s))
            return true;
        selftest_close(&s->ready);
    }
    engine_close(s->engine);
    connections_close(&s->clients);
    return false;
}

static void stop(server *s) {
    http_stop(s);
    selftest_close(&s->ready);
    engine_close(s->engine);
    connections_close(&s->clients);
}

/* What --help and --version end with. */
static int end_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_DONE;
    complain("standard output: %s", strerror(errno));
    return EXIT_OUTPUT;
}

int main(int argc, char **argv) {
    static server s;
    if (!settings_parse(argc, argv, &s.given))
        return EXIT_USAGE;
    if (s.given.help) {
        settings_help();
        return end_output();
    }
    if (s.given.version) {
        print_version("detect-server");
        return end_output();
    }
    if (s.given.verbose)
        det_set_log(log_library, DET_LOG_INFO, NULL);
    s.memory.limit = s.given.max_memory_bytes;
    sigset_t awaited = block_signals();
    if (!start(&s))
        return EXIT_START;
    printf("listening on %s, port %d\n", s.given.address, (int)http_port(&s));
    fflush(stdout);
    int number = 0;
    while (sigwait(&awaited, &number) != 0)
        continue;
    complain("stopping: what was taken is finished first");
    sigprocmask(SIG_UNBLOCK, &awaited, NULL); /* a second signal ends it at once */
    stop(&s);
    return EXIT_DONE;
}
