/* The commands on files of results. */
#ifndef BENCH_MERGE_H
#define BENCH_MERGE_H

#include "options.h"

/* One document of many, and its tables and charts. */
int command_merge(const options *given);

/* Is a run worse than another? Returns EXIT_DONE, EXIT_REGRESSION, or EXIT_FAILED when they cannot be compared. */
int command_compare(const options *given);

#endif
