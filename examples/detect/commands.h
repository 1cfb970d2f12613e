/* The tool's commands. Each returns its exit status. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "options.h"

int command_detect(const options *given);
int command_video(const options *given);
int command_info(const options *given);
int command_models(void);

/* The text of --help. */
void print_help(void);

#endif
