/* detect: the command-line tool of libdetect. */
#define _POSIX_C_SOURCE 200809L

#include "commands.h"
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* A program may be started with standard streams closed. Their numbers would go to the next files opened, and results
 * end up in a picture. What takes their place can only be used in the wrong direction, so that using them fails. */
static void fill_closed_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

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
        printf("detect %s\n", det_version());
    else if (given.command == COMMAND_MODELS)
        outcome = command_models();
    else if (given.command == COMMAND_INFO)
        outcome = command_info(&given);
    else
        return given.is_video ? command_video(&given) : command_detect(&given);
    return output_check() || outcome != EXIT_DONE ? outcome : EXIT_PICTURES;
}
