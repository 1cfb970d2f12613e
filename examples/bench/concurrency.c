/* concurrency: a closed loop. Every caller asks again as soon as it has its answer. */
#include "analysis.h"
#include "document.h"
#include "load.h"

#include <math.h>

/* Checks the figures against each other: callers = requests a second * mean seconds. The law is one of long times: at
 * each end of the period stand requests that lie in it by a part, no longer than the longest. */
static void check_little(bench *b, json_t *row, const measurement *m, const request_log *log, int n_callers) {
    double seconds = log->end - log->begin;
    double mean_s = 1e-3 * statistics_mean(m->latency_ms.values, m->latency_ms.n);
    double share = analysis_little(n_callers, (double)log->n / seconds, mean_s);
    double longest_s = 1e-3 * statistics_max(m->latency_ms.values, m->latency_ms.n);
    double tolerance = 1e-2 * ANALYSIS_LITTLE_PERCENT + longest_s / seconds;
    bool ok = fabs(share - 1) <= tolerance;
    json_object_set_new(row, "little", json_pack("{s:f, s:f, s:b}", "share", share, "tolerance", tolerance, "ok", ok));
    if (!ok)
        row_invalid(b, row, "Little's law does not hold: requests a second * mean seconds give %.1f of %d callers",
                    share * n_callers, n_callers);
}

static bool measure_callers(bench *b, detector *d, int n_callers) {
    setting how = bench_setting(b, b->given->batch, d->target.n_workers);
    json_t *row = bench_row(b, SCENARIO_CONCURRENCY, &how, d->target.n_workers);
    json_object_set_new(row, "callers", json_integer(n_callers));
    measurement m = {0};
    request_log log = {0};
    bool ok = load_closed(b, d, n_callers, row, &m, &log);
    if (ok)
        check_little(b, row, &m, &log, n_callers);
    request_log_free(&log);
    measurement_free(&m);
    bench_add(b, row);
    return ok;
}

bool scenario_concurrency(bench *b) {
    int n_contexts = bench_contexts(b);
    setting how = bench_setting(b, b->given->batch, n_contexts);
    json_t *row = bench_row(b, SCENARIO_CONCURRENCY, &how, n_contexts); /* for a failure that concerns all */
    detector d;
    bool out_of_memory;
    bool opened = load_open(b, &d, &how, n_contexts, row, &out_of_memory), ok = opened;
    for (int i = 0; ok && i < b->given->callers.n; i++)
        ok = measure_callers(b, &d, b->given->callers.values[i]);
    detector_close(&d);
    if (opened)
        json_decref(row);
    else
        bench_add(b, row);
    return ok || out_of_memory;
}
