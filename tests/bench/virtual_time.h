/* Simulated time for threads: it stands still while anyone works, and jumps to the next waking when all sleep. So loops
 * with threads run in no time, and the machine's load cannot be seen in their results. */
#ifndef VIRTUAL_TIME_H
#define VIRTUAL_TIME_H

#include "timebase.h"

/* One at a time; starts again at second 1000. */
timebase *virtual_time_start(void);

#endif
