/* detect: the command-line tool of libdetect. */
#include "commands.h"
#include "output.h"
#include "standard_streams.h"
#include "text.h"
#include "version.h"

#include <signal.h>
#include <stdio.h>

const char program_name[] = "detect";

/* No call of setlocale, here or elsewhere: numbers have a decimal point, whatever the environment says. */
int main(int argc, char **argv) {
    fill_closed_streams();
    signal(SIGPIPE, SIG_IGN); /* a reader that has gone is a write error like any other */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow */

    options given;
    int outcome = options_parse(argc, argv, &given);
    if (outcome != EXIT_DONE)
        return outcome;
    if (given.help)
        print_help();
    else if (given.version)
        print_version(program_name);
    else if (given.command == COMMAND_MODELS)
        outcome = command_models();
    else if (given.command == COMMAND_INFO)
        outcome = command_info(&given);
    else
        return given.is_video ? command_video(&given) : command_detect(&given);
    return output_check() || outcome != EXIT_DONE ? outcome : EXIT_PICTURES;
}
