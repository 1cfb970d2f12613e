#define _POSIX_C_SOURCE 200809L

#include "progress.h"

#include "clock.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FEWEST_STEPS = 8, BAR_WIDTH = 30 };
static const double INTERVAL_MS = 100;

/* There is one stderr, so there is one bar. */
static struct {
    bool enabled, visible;
    int64_t n_total;
    double begin_ms, last_ms;
} bar;

void progress_begin(int64_t n_total) {
    const char *terminal = getenv("TERM");
    bool capable = isatty(STDERR_FILENO) && (terminal == NULL || strcmp(terminal, "dumb") != 0);
    bar.enabled = capable && n_total >= FEWEST_STEPS;
    bar.n_total = n_total;
    bar.begin_ms = clock_ms();
    bar.last_ms = bar.begin_ms;
}

void progress_show(int64_t n_done) {
    double now_ms = clock_ms();
    if (!bar.enabled || (now_ms < bar.last_ms + INTERVAL_MS && n_done < bar.n_total))
        return;
    bar.last_ms = now_ms;
    char cells[BAR_WIDTH + 1];
    int n_filled = (int)(BAR_WIDTH * n_done / bar.n_total);
    memset(cells, '.', BAR_WIDTH);
    memset(cells, '#', (size_t)n_filled);
    cells[BAR_WIDTH] = '\0';
    double left_s = n_done > 0 ? (now_ms - bar.begin_ms) / 1e3 * (double)(bar.n_total - n_done) / (double)n_done : 0;
    fprintf(stderr, "\r[%s] %" PRId64 "/%" PRId64 ", %.0f s left \033[K", cells, n_done, bar.n_total, left_s);
    fflush(stderr);
    bar.visible = true;
}

void progress_hide(void) {
    if (!bar.visible)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    bar.visible = false;
}
