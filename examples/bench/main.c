/* detect-bench: the benchmark of libdetect. */
#include "bench.h"
#include "document.h"
#include "merge.h"
#include "standard_streams.h"
#include "text.h"
#include "version.h"

#include <signal.h>
#include <stdio.h>

const char program_name[] = "detect-bench";

/* No call of setlocale, here or elsewhere: numbers have a decimal point, whatever the environment says. */
int main(int argc, char **argv) {
    fill_closed_streams();
    signal(SIGPIPE, SIG_IGN); /* a reader that has gone is a write error like any other */
    options given;
    int outcome = options_parse(argc, argv, &given);
    if (outcome != EXIT_DONE)
        return outcome;
    if (given.help || given.version) {
        if (given.help)
            print_help();
        else
            print_version(program_name);
        return close_output(stdout, "-") ? EXIT_DONE : EXIT_FAILED;
    }
    if (given.command == COMMAND_COMPARE)
        return command_compare(&given);
    if (given.command == COMMAND_MERGE)
        return command_merge(&given);
    return command_run(&given);
}
