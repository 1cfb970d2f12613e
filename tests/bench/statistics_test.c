/* The benchmark's arithmetic, on made-up distributions with known answers. */
#include "analysis.h"
#include "check.h"
#include "statistics.h"

#include <math.h>

static bool close_to(double value, double expected) {
    return fabs(value - expected) <= 1e-9 * (1 + fabs(expected));
}

#define CHECK_IS(value, expected) CHECK_MSG(close_to((value), (expected)), "%.12g, expected %.12g", (double)(value), (double)(expected))

/* --------------------------------------------------------------------------------------------------- percentiles */

static void test_percentiles(void) {
    double values[1001];
    for (int i = 0; i <= 1000; i++)
        values[i] = (i * 5) % 1001; /* 0 to 1000 in another order */
    CHECK_IS(statistics_median(values, 1001), 500);
    CHECK(values[1] == 5);
    statistics_sort(values, 1001);
    CHECK_IS(statistics_percentile(values, 1001, 0), 0);
    CHECK_IS(statistics_percentile(values, 1001, 50), 500);
    CHECK_IS(statistics_percentile(values, 1001, 95), 950);
    CHECK_IS(statistics_percentile(values, 1001, 99), 990);
    CHECK_IS(statistics_percentile(values, 1001, 100), 1000);
    const double four[] = {1, 2, 3, 10};
    CHECK_IS(statistics_percentile(four, 4, 50), 2.5);
    CHECK_IS(statistics_percentile(four, 4, 90), 3 + 7 * 0.7);
    CHECK_IS(statistics_percentile(four, 1, 99), 1);
    double exponential[20000]; /* quantiles of exp(1): -ln(1 - p) */
    for (int i = 0; i < 20000; i++)
        exponential[i] = -log(1 - (i + 0.5) / 20000);
    CHECK(fabs(statistics_percentile(exponential, 20000, 99) - log(100)) < 0.01);
    CHECK(fabs(statistics_stdev(exponential, 20000) - 1) < 0.01);
}

static void test_enough_samples(void) {
    CHECK(statistics_needed(50) == 10 && statistics_needed(95) == 100 && statistics_needed(99) == 500);
    CHECK(statistics_needed(99.9) == 5000 && statistics_needed(5) == 100 && statistics_needed(100) == 1);
    CHECK(statistics_holds(100, 95) && !statistics_holds(99, 95) && !statistics_holds(0, 100));
}

static void test_moments(void) {
    const double values[] = {2, 4, 4, 4, 5, 5, 7, 9};
    CHECK_IS(statistics_mean(values, 8), 5);
    CHECK_IS(statistics_stdev(values, 8), sqrt(32.0 / 7));
    CHECK_IS(statistics_min(values, 8), 2);
    CHECK_IS(statistics_max(values, 8), 9);
    CHECK_IS(statistics_spread(values, 8), 7 / 4.5);
    CHECK(statistics_stdev(values, 1) == 0 && statistics_spread(values, 1) == 0 && statistics_mean(values, 0) == 0);
    size_t counts[4];
    statistics_bins(values, 8, 2, 10, 4, counts);
    CHECK(counts[0] == 1 && counts[1] == 5 && counts[2] == 1 && counts[3] == 1);
    statistics_bins(values, 8, 5, 5, 2, counts);
    CHECK(counts[0] == 8 && counts[1] == 0);
}

static void test_samples(void) {
    samples s = {0};
    samples_reserve(&s, 10);
    const double *place = s.values;
    for (int i = 0; i < 10; i++)
        samples_add(&s, i);
    CHECK(s.values == place && s.n == 10);
    for (int i = 10; i < 5000; i++)
        samples_add(&s, i);
    CHECK(s.n == 5000 && s.values[4999] == 4999 && !s.failed);
    samples_free(&s);
}

static void test_buckets(void) {
    static buckets parts[2], whole;
    static double values[10000];
    for (int i = 0; i < 10000; i++) {
        values[i] = exp((i * 37 % 10000) * 1e-3); /* 1 to 22000 */
        buckets_add(&parts[i % 2], values[i]);
    }
    buckets_join(&whole, &parts[0]);
    buckets_join(&whole, &parts[1]);
    CHECK(whole.n == 10000 && whole.min == 1 && whole.max == exp(9999e-3));
    CHECK_IS(whole.mean, statistics_mean(values, 10000));
    CHECK_IS(buckets_stdev(&whole), statistics_stdev(values, 10000));
    statistics_sort(values, 10000);
    const double places[] = {0, 1, 50, 95, 99, 99.9, 100};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        double exact = statistics_percentile(values, 10000, places[i]), found = buckets_percentile(&whole, places[i]);
        CHECK_MSG(fabs(found / exact - 1) < 0.005, "P%g: %g, expected %g", places[i], found, exact);
    }
    static buckets extreme;
    buckets_add(&extreme, 0);
    buckets_add(&extreme, 1e12);
    CHECK(buckets_percentile(&extreme, 0) >= 0 && buckets_percentile(&extreme, 100) <= 1e12);
}

/* ------------------------------------------------------------------------------------------------------ analysis */

static void test_knee(void) {
    const double rising[] = {10, 19, 35, 60, 62, 63, 62.5};
    CHECK(analysis_knee(rising, 7, 0.95) == 3);
    CHECK(analysis_knee(rising, 7, 1) == 5);
    CHECK(analysis_knee(rising, 7, 0.1) == 0);
    const double falling[] = {10, 9, 8};
    CHECK(analysis_knee(falling, 3, 0.95) == 0 && analysis_knee(falling, 1, 0.95) == 0);
}

static void test_pareto(void) {
    choice choices[] = {
        {.throughput = 10, .latency = 100, .memory = 1, .quality = 1, .usable = true},  /* slower than the next */
        {.throughput = 20, .latency = 50, .memory = 1, .quality = 1, .usable = true},   /* best latency */
        {.throughput = 40, .latency = 90, .memory = 2, .quality = 1, .usable = true},   /* best throughput */
        {.throughput = 39, .latency = 91, .memory = 2, .quality = 1, .usable = true},   /* worse than the one before */
        {.throughput = 5, .latency = 200, .memory = 3, .quality = 2, .usable = true},   /* slow, but better boxes */
        {.throughput = 99, .latency = 1, .memory = 1, .quality = 2, .usable = false},   /* over a limit */
        {.throughput = 20, .latency = 50, .memory = 1, .quality = 1, .usable = true},   /* the same as the second */
        {.throughput = 19, .latency = 51, .memory = 0.5, .quality = 1, .usable = true}, /* least memory */
    };
    static const bool expected[] = {false, true, true, false, true, false, true, true};
    analysis_pareto(choices, 8);
    for (int i = 0; i < 8; i++)
        CHECK_MSG(choices[i].on_front == expected[i], "choice %d", i);
}

static void test_cost(void) {
    CHECK(fabs(analysis_cost_per_1000(2.8, 102) - 0.0076) < 0.00005);
    CHECK_IS(analysis_cost_per_1000(2.8, 102), 2.8 / 3600 / 102 * 1000);
    CHECK_IS(analysis_cost_per_1000(3600, 1000), 1);
    monthly m = analysis_monthly(2.8, 102, 1e6);
    CHECK_IS(m.busy, 1e6 * 365 / 12 / 1000 * (2.8 / 3600 / 102 * 1000));
    CHECK_IS(m.machines, 1); /* one serves 8.8 million a day */
    CHECK_IS(m.always, 2.8 * 730);
    m = analysis_monthly(2.8, 102, 9e6);
    CHECK(m.machines == 2 && close_to(m.always, 2 * 2.8 * 730));
}

static void test_little_and_scaling(void) {
    CHECK_IS(analysis_little(200, 50, 4), 1);
    CHECK_IS(analysis_little(200, 50, 3), 0.75); /* a quarter of the callers is unaccounted for */
    CHECK_IS(analysis_efficiency(80, 8, 10, 1), 1);
    CHECK_IS(analysis_efficiency(60, 8, 20, 2), 0.75);
}

static verdict compare(const double *base, size_t n_base, const double *fresh, size_t n_fresh, bool more, double *change) {
    return analysis_compare((repeats){base, n_base}, (repeats){fresh, n_fresh}, more, 0.05, change);
}

static void test_regression(void) {
    const double base[] = {100, 101, 99}, slower[] = {110, 111, 112}, faster[] = {80, 79, 81}, near[] = {104, 103, 105},
                 wide[] = {120, 98, 125};
    double change;
    CHECK(compare(base, 3, slower, 3, false, &change) == VERDICT_WORSE);
    CHECK_IS(change, 0.11);
    CHECK(compare(base, 3, slower, 3, true, &change) == VERDICT_BETTER);
    CHECK(compare(base, 3, faster, 3, false, &change) == VERDICT_BETTER);
    CHECK_IS(change, -0.2);
    CHECK(compare(base, 3, faster, 3, true, &change) == VERDICT_WORSE);
    CHECK(compare(base, 3, near, 3, false, &change) == VERDICT_SAME);
    CHECK(compare(base, 3, wide, 3, false, &change) == VERDICT_UNCERTAIN); /* one of its repeats is as fast as the base */
    CHECK_IS(change, 0.2);
    CHECK(compare(wide, 3, base, 3, false, &change) == VERDICT_UNCERTAIN); /* and the other way round */
    CHECK(compare(base, 1, slower, 1, false, &change) == VERDICT_WORSE);
    CHECK(!strcmp(analysis_verdict_name(VERDICT_UNCERTAIN), "uncertain") && !strcmp(analysis_verdict_name(VERDICT_SAME), "same"));
}

static void test_growth_and_roof(void) {
    double flat[100], leak[100];
    for (int i = 0; i < 100; i++) {
        flat[i] = i < 20 ? 10 * i : 200; /* filling caches, then flat */
        leak[i] = 1000 + 2 * i;
    }
    CHECK_IS(analysis_growth(flat, 100), 0);
    CHECK_IS(analysis_growth(leak, 100), 2 * 50);
    CHECK(analysis_growth(leak, 3) == 0);
    CHECK_IS(analysis_roof(1e9, 1e6, 1e11, 1e10), 0.01);
    CHECK_IS(analysis_roof(1e6, 1e9, 1e11, 1e10), 0.1);
    CHECK_IS(analysis_roof(1e6, 1e9, 0, 0), 0);
}

int main(void) {
    test_percentiles();
    test_enough_samples();
    test_moments();
    test_samples();
    test_buckets();
    test_knee();
    test_pareto();
    test_cost();
    test_little_and_scaling();
    test_regression();
    test_growth_and_roof();
    return check_report("bench statistics");
}
