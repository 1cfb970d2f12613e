/* The progress bar of a run: steps of known length, moved on by the sampler's thread, so that no timed loop draws. */
#ifndef BENCH_METER_H
#define BENCH_METER_H

void meter_begin(int n_steps);
/* A step that takes about so many seconds. Nothing else may be printed until it ends. */
void meter_step(double expected_s);
void meter_end_step(void);
/* By any thread. */
void meter_tick(void);
void meter_end(void);

#endif
