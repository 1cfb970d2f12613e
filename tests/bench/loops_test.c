/* Closed and open loops and requests in turn, on a simulated detector whose service times are known. */
#include "analysis.h"
#include "check.h"
#include "measurement.h"
#include "virtual_time.h"

#include <math.h>

enum { MOST_WORKERS = 16 };

/* A detector that takes as long as it is told. */
typedef struct simulated {
    timebase *time;
    double service_s[4]; /* of requests 0, 1, 2, ... in turn */
    int n_services;
    int64_t fails_at; /* this request fails; negative: none */
    int64_t n_served[MOST_WORKERS];
} simulated;

static bool serve(void *self, int worker, int64_t number) {
    simulated *s = self;
    s->time->sleep_until(s->time, timebase_now(s->time) + s->service_s[number % s->n_services]);
    s->n_served[worker]++;
    return number != s->fails_at;
}

static simulated simulate(double service_s) {
    return (simulated){.time = virtual_time_start(), .service_s = {service_s}, .n_services = 1, .fails_at = -1};
}

static bool near(double value, double expected, double share) {
    return fabs(value - expected) <= share * expected;
}

/* Measured and expected, to 5 % as documented. */
#define CHECK_NEAR(value, expected) \
    CHECK_MSG(near((value), (expected), 0.05), "%g, expected %g", (double)(value), (double)(expected))

/* -------------------------------------------------------------------------------------------------------- closed */

static void check_closed(int n_workers, int n_callers, double service_s) {
    simulated s = simulate(service_s);
    target what = {&s, n_workers, serve};
    closed_plan plan = {.n_callers = n_callers, .warm_up_s = 0.1, .measure_s = 600 * service_s, .least = 100};
    request_log log;
    loop_closed(s.time, &what, &plan, &log);
    REQUIRE(!log.failed && !log.no_memory && log.n >= 100, "%zu requests", log.n);
    measurement m;
    CHECK(measurement_from_log(&log, 3, 1, false, &m));
    int busy = n_workers < n_callers ? n_workers : n_callers;
    CHECK_NEAR(measurement_throughput(&m), busy / service_s);
    double mean_ms = statistics_mean(m.latency_ms.values, m.latency_ms.n);
    CHECK_NEAR(mean_ms, 1e3 * service_s * n_callers / busy);
    CHECK_NEAR(mean_ms - statistics_mean(m.waiting_ms.values, m.waiting_ms.n), 1e3 * service_s);
    CHECK_NEAR(analysis_little(n_callers, (double)log.n / (log.end - log.begin), 1e-3 * mean_ms), 1);
    for (int i = 0; i < n_workers; i++)
        CHECK_MSG((s.n_served[i] > 0) == (i < busy), "worker %d served %lld", i, (long long)s.n_served[i]);
    measurement_free(&m);
    request_log_free(&log);
}

static void test_closed(void) {
    static const int callers[] = {1, 2, 3, 4, 7, 50, 200};
    for (size_t i = 0; i < sizeof callers / sizeof callers[0]; i++)
        for (int workers = 1; workers <= 4; workers += 3)
            check_closed(workers, callers[i], 0.02);
    check_closed(16, 200, 1e-3);
}

/* A cold start must not be in the figures: the queue is full from the first second on, and first answers come early. */
static void test_closed_leaves_out_the_start(void) {
    simulated s = simulate(0.1);
    target what = {&s, 1, serve};
    closed_plan plan = {.n_callers = 10, .warm_up_s = 0, .measure_s = 0, .least = 1};
    request_log log;
    loop_closed(s.time, &what, &plan, &log);
    CHECK(log.n == 1);
    CHECK_NEAR(log.requests[0].ended - log.requests[0].due, 1.0);
    request_log_free(&log);
}

static void test_failure_ends_a_load(void) {
    for (int open = 0; open < 2; open++) {
        simulated s = simulate(0.01);
        s.fails_at = 25;
        target what = {&s, 3, serve};
        request_log log;
        double phase = 0;
        if (open)
            loop_open(s.time, &what, &(open_plan){0.02, &phase, 1, 1000, 0}, &log);
        else
            loop_closed(s.time, &what, &(closed_plan){.n_callers = 5, .measure_s = 1000, .least = 1}, &log);
        int64_t n = s.n_served[0] + s.n_served[1] + s.n_served[2];
        CHECK_MSG(log.failed && n >= 26 && n <= 30, "%lld served", (long long)n);
        request_log_free(&log);
    }
}

/* ---------------------------------------------------------------------------------------------------------- open */

static void open_log(simulated *s, int n_workers, double rate, double duration_s, double grace_s, request_log *log) {
    target what = {s, n_workers, serve};
    double phase = 0;
    loop_open(s->time, &what, &(open_plan){1 / rate, &phase, 1, duration_s, grace_s}, log);
    REQUIRE(!log->failed && !log->no_memory, "%zu requests", log->n);
}

static void test_open_below_capacity(void) {
    static const double rates[] = {1, 5, 20, 49};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        simulated s = simulate(0.02);
        request_log log;
        open_log(&s, 1, rates[i], 60, 0, &log);
        measurement m;
        CHECK(measurement_from_log(&log, 3, 1, true, &m));
        CHECK_NEAR(measurement_throughput(&m), rates[i]);
        CHECK_NEAR(statistics_max(m.latency_ms.values, m.latency_ms.n), 20);
        CHECK_NEAR(statistics_min(m.latency_ms.values, m.latency_ms.n), 20);
        CHECK(log.n_unserved == 0 && statistics_max(m.waiting_ms.values, m.waiting_ms.n) < 1e-6);
        measurement_free(&m);
        request_log_free(&log);
    }
}

/* A detector that stalls once: whoever measures from the actual start would see one slow request, not the queue. */
static void test_open_counts_from_the_intended_start(void) {
    simulated s = simulate(0.01);
    request_log log;
    open_log(&s, 1, 200, 1, 10, &log); /* 200 a second, and 100 can be served: request k waits k * 5 ms */
    CHECK(log.n == 200 && log.n_unserved == 0);
    CHECK_NEAR(log.requests[199].ended - log.requests[199].due, 200 * 0.01 - 199 * 0.005);
    double mean = 0;
    for (size_t i = 0; i < log.n; i++)
        mean += (log.requests[i].ended - log.requests[i].due) / 200;
    CHECK_NEAR(mean, 0.01 + 0.005 * 199 / 2);
    request_log_free(&log);
}

static void test_open_gives_up(void) {
    simulated s = simulate(0.01);
    request_log log;
    open_log(&s, 1, 200, 1, 0.25, &log); /* 1.25 seconds of work for 2 of arrivals */
    CHECK_MSG(log.n >= 124 && log.n <= 127 && (int64_t)log.n + log.n_unserved == 200, "%zu served, %lld not", log.n,
              (long long)log.n_unserved);
    request_log_free(&log);
}

static void test_open_with_several_workers(void) {
    simulated s = simulate(0.1);
    request_log log;
    open_log(&s, 4, 35, 20, 0, &log); /* each could serve 10 */
    CHECK(log.n == 700);
    CHECK_NEAR(log.requests[699].ended - log.requests[699].due, 0.1);
    request_log_free(&log);
}

static void test_open_phases(void) {
    simulated s = simulate(0.01);
    target what = {&s, 2, serve};
    const double phases[] = {0.01, 0.02, 0.05};
    request_log log;
    loop_open(s.time, &what, &(open_plan){0.1, phases, 3, 1, 0}, &log);
    CHECK_MSG(log.n == 30, "%zu", log.n);
    for (size_t i = 0; i < log.n; i++)
        CHECK(fabs(log.requests[i].due - log.begin - 0.1 * (double)(i / 3) - phases[i % 3]) < 1e-9);
    request_log_free(&log);
}

/* --------------------------------------------------------------------------------------------------------- turns */

static void test_turns(void) {
    simulated s = simulate(0.01);
    s.service_s[0] = 0.01;
    s.service_s[1] = 0.03;
    s.n_services = 2;
    target what = {&s, 1, serve};
    measurement m;
    CHECK(measure_turns(s.time, &what, &(turns_plan){.repeats = 4, .seconds = 2, .least = 10, .warm_up_s = 0.5, .batch = 8}, &m));
    CHECK(m.n_repeats == 4);
    CHECK_NEAR(measurement_throughput(&m), 8 / 0.02);
    CHECK_NEAR(statistics_mean(m.latency_ms.values, m.latency_ms.n), 20);
    CHECK_NEAR(m.measured_s, 8);
    CHECK(m.n_warm_ups >= 3 && near(m.warm_up_s, 0.5, 0.1) && near(m.first_ms, 10, 1e-6));
    measurement_free(&m);
    s.fails_at = 100;
    CHECK(!measure_turns(s.time, &what, &(turns_plan){.repeats = 4, .seconds = 2, .least = 10, .warm_up_s = 0.5, .batch = 8}, &m));
    measurement_free(&m);
}

/* The least number of requests counts where one takes longer than a repeat. */
static void test_turns_of_slow_requests(void) {
    simulated s = simulate(5);
    target what = {&s, 1, serve};
    measurement m;
    CHECK(measure_turns(s.time, &what, &(turns_plan){.repeats = 2, .seconds = 1, .least = 3, .batch = 1}, &m));
    CHECK(m.latency_ms.n == 6 && m.n_warm_ups == 3);
    CHECK_NEAR(measurement_throughput(&m), 0.2);
    measurement_free(&m);
}

int main(void) {
    test_closed();
    test_closed_leaves_out_the_start();
    test_failure_ends_a_load();
    test_open_below_capacity();
    test_open_counts_from_the_intended_start();
    test_open_gives_up();
    test_open_with_several_workers();
    test_open_phases();
    test_turns();
    test_turns_of_slow_requests();
    return check_report("bench loops");
}
