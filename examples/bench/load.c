#include "load.h"

#include "document.h"
#include "meter.h"

/* Requests that every context serves before any clock runs. */
enum { FIRST_REQUESTS = 3 };

bool load_open(bench *b, detector *d, const setting *how, int n_contexts, json_t *row, bool *out_of_memory) {
    if (!bench_open(b, d, how, n_contexts, row, out_of_memory))
        return false;
    for (int worker = 0; worker < n_contexts; worker++)
        for (int64_t i = 0; i < FIRST_REQUESTS; i++)
            if (!d->target.serve(d->target.self, worker, i))
                return bench_fail(b, row, detector_error(d));
    return true;
}

static bool check_log(bench *b, const detector *d, const request_log *log, json_t *row) {
    if (log->no_memory)
        return bench_fail(b, row, "out of memory for the requests, or for a thread");
    return !log->failed || bench_fail(b, row, detector_error(d));
}

double load_capacity(bench *b, detector *d, json_t *row) {
    const closed_plan plan = {.n_callers = d->target.n_workers,
                              .warm_up_s = b->given->warm_up_s,
                              .measure_s = b->given->seconds,
                              .least = 3 * (size_t)d->target.n_workers};
    request_log log;
    meter_step(plan.warm_up_s + plan.measure_s);
    loop_closed(b->time, &d->target, &plan, &log);
    meter_end_step();
    double capacity = 0;
    if (check_log(b, d, &log, row))
        capacity = (double)log.n * d->batch / (log.end - log.begin);
    request_log_free(&log);
    return capacity;
}

bool load_closed(bench *b, detector *d, int n_callers, json_t *row, measurement *m, request_log *log) {
    const options *g = b->given;
    const closed_plan plan = {.n_callers = n_callers,
                              .warm_up_s = g->warm_up_s,
                              .measure_s = g->repeats * g->seconds,
                              .least = (size_t)g->repeats * (size_t)n_callers};
    resources used;
    meter_step(plan.warm_up_s + plan.measure_s);
    sampler_begin(b->sampler);
    loop_closed(b->time, &d->target, &plan, log);
    sampler_end(b->sampler, &used);
    meter_end_step();
    if (!check_log(b, d, log, row))
        return false;
    if (!measurement_from_log(log, g->repeats, d->batch, false, m))
        return bench_fail(b, row, "out of memory for the latencies");
    row_measurement(b, row, m, d);
    row_resources(b, row, &used);
    return true;
}

/* The last answers of a load that is kept up come after its end: as long after as an answer takes. */
static offered judge(const request_log *log) {
    static const double enough = 0.99;
    offered found = {.n_requests = (int64_t)log->n + log->n_unserved, .n_unserved = log->n_unserved};
    double seconds = log->end - log->begin, last = log->begin;
    for (size_t i = 0; i < log->n; i++)
        last = log->requests[i].ended > last ? log->requests[i].ended : last;
    double service = 0;
    for (size_t i = 0; i < log->n; i++)
        service += (log->requests[i].ended - log->requests[i].started) / (double)log->n;
    double busy = last - service > log->end ? last - service - log->begin : seconds;
    found.rate = (double)found.n_requests / seconds;
    found.achieved = (double)log->n / busy;
    found.sustained = log->n_unserved == 0 && found.achieved >= enough * found.rate;
    return found;
}

bool load_offered(bench *b, detector *d, const open_plan *plan, json_t *row, measurement *m, offered *found) {
    resources used;
    request_log log;
    meter_step(plan->duration_s);
    sampler_begin(b->sampler);
    loop_open(b->time, &d->target, plan, &log);
    sampler_end(b->sampler, &used);
    meter_end_step();
    bool ok = check_log(b, d, &log, row);
    if (ok && log.n == 0)
        ok = bench_fail(b, row, "no request was due in this time: give a longer --duration");
    if (ok && !measurement_from_log(&log, b->given->repeats, d->batch, true, m))
        ok = bench_fail(b, row, "out of memory for the latencies");
    if (ok) {
        *found = judge(&log);
        row_measurement(b, row, m, d);
        row_resources(b, row, &used);
        json_object_set_new(row, "offered",
                            json_pack("{s:f, s:f, s:I, s:I, s:b}", "rate", found->rate, "achieved", found->achieved,
                                      "requests", (json_int_t)found->n_requests, "unserved",
                                      (json_int_t)found->n_unserved, "sustained", found->sustained));
        if (!found->sustained)
            row_note(row, "more requests than this machine serves: the queue grows, and percentiles with it");
    }
    request_log_free(&log);
    return ok;
}
