/* A progress bar on stderr, when that is a terminal and there is something to wait for. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdint.h>

/* Starts a bar of `n_total` steps; without a terminal, or with few steps, the others then do nothing. */
void progress_begin(int64_t n_total);

/* Shows that `n_done` steps are done, several times a second at most. */
void progress_show(int64_t n_done);

/* Wipes the bar, before something else is printed; the next progress_show brings it back. */
void progress_hide(void);

#endif
