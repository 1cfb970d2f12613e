/* What follows from figures: knee, Pareto front, cost, Little's law, scaling, regressions. Pure functions, each with its
 * formula; docs/benchmark.md explains them. */
#ifndef BENCH_ANALYSIS_H
#define BENCH_ANALYSIS_H

#include <stdbool.h>
#include <stddef.h>

/* The knee of a sweep: the first place whose throughput is at least `share` (0 to 1) of the best one's; n >= 1. */
size_t analysis_knee(const double *throughputs, size_t n, double share);

/* A way to run a network. Of two, one is better when it is no worse in all four and better in one. */
typedef struct choice {
    double throughput; /* pictures a second: more is better */
    double latency;    /* less */
    double memory;     /* less */
    double quality;    /* more: average precision, or the pixels of the network's input */
    bool usable;       /* false: neither on the front nor in anybody's way */
    bool on_front;     /* set by analysis_pareto: nothing is better than it */
} choice;

void analysis_pareto(choice *choices, size_t n);

/* price / 3600 / throughput * 1000: what 1,000 pictures cost on a machine at `price` an hour that is kept busy. */
double analysis_cost_per_1000(double price_per_hour, double throughput);

/* Hours of a month: 365 * 24 / 12. */
#define ANALYSIS_MONTH_HOURS 730.0

typedef struct monthly {
    double busy;     /* paying for the time that the pictures take, no more */
    double machines; /* that hold `daily` pictures spread evenly over the day */
    double always;   /* paying for those machines around the clock */
} monthly;

/* busy = daily * 365 / 12 / 1000 * cost of 1,000; machines = ceil(daily / (throughput * 86400)); always = machines *
 * price * 730. */
monthly analysis_monthly(double price_per_hour, double throughput, double daily);

/* Little's law: callers = requests a second * mean seconds. Returns what the measured side gives, over the callers: 1
 * when everything is accounted for. */
double analysis_little(double callers, double requests_per_second, double mean_seconds);
enum { ANALYSIS_LITTLE_PERCENT = 5 }; /* tolerance */

/* How much of n times the resources has become throughput: (throughput / base) / (n / n_base); 1 is all. */
double analysis_efficiency(double throughput, double n, double base_throughput, double n_base);

/* The repeats of one figure in one run. */
typedef struct repeats {
    const double *values;
    size_t n;
} repeats;

typedef enum verdict {
    VERDICT_SAME,     /* the medians differ by no more than the limit                                           */
    VERDICT_BETTER,   /* by more, to the good, and no repeat of one run reaches into the other's                */
    VERDICT_WORSE,    /* a regression: by more, to the bad, and no repeat of one run reaches into the other's   */
    VERDICT_UNCERTAIN /* by more than the limit, but the repeats of both runs overlap                           */
} verdict;

const char *analysis_verdict_name(verdict v);

/* Compares two runs of one figure. `limit` is a share, such as 0.05; `change` receives new median / base median - 1. */
verdict analysis_compare(repeats base, repeats fresh, bool more_is_better, double limit, double *change);

/* Whether memory grew: the mean of the last quarter of `n` samples against that of the second, in bytes. The first
 * quarter is left out, as caches and pools still fill. */
double analysis_growth(const double *values, size_t n);

/* Time that the roof allows: the larger of macs / peak and bytes / bandwidth. Seconds. */
double analysis_roof(double macs, double bytes, double peak_macs_per_s, double bytes_per_s);

#endif
