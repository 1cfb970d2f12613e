/* Time as the loops see it: the machine's, or a simulation's. */
#ifndef BENCH_TIMEBASE_H
#define BENCH_TIMEBASE_H

typedef struct timebase timebase;
struct timebase {
    /* Seconds on a clock that never jumps. */
    double (*now)(timebase *time);
    /* Sleeps to that second; returns at once when it is past. */
    void (*sleep_until)(timebase *time, double when_s);
    /* A simulation lets time pass only while all threads sleep, so it is told of them: `n` threads are about to start,
     * and one has ended. NULL where time passes by itself. */
    void (*enter)(timebase *time, int n);
    void (*leave)(timebase *time);
};

/* The machine's. */
timebase *timebase_machine(void);

static inline double timebase_now(timebase *time) {
    return time->now(time);
}

#endif
