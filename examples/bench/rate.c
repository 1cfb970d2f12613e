/* rate: an open loop. Requests come when they are due, and latency counts from there. */
#include "document.h"
#include "load.h"

static bool measure_rate(bench *b, detector *d, double rate, double capacity) {
    setting how = bench_setting(b, b->given->batch, d->target.n_workers);
    json_t *row = bench_row(b, SCENARIO_RATE, &how, d->target.n_workers);
    const double phase = 0;
    const open_plan plan = {.period = 1 / rate,
                            .phases = &phase,
                            .n_phases = 1,
                            .duration_s = b->given->duration_s,
                            .grace_s = 0.25 * b->given->duration_s};
    measurement m = {0};
    offered found;
    json_object_set_new(row, "rate", json_real(rate));
    if (capacity > 0)
        json_object_set_new(row, "load", json_real(rate * d->batch / capacity));
    bool ok = load_offered(b, d, &plan, row, &m, &found);
    measurement_free(&m);
    bench_add(b, row);
    return ok;
}

bool scenario_rate(bench *b) {
    static const double shares[] = {0.25, 0.5, 0.75, 0.9};
    enum { N_SHARES = sizeof shares / sizeof shares[0] };
    int n_contexts = bench_contexts(b);
    setting how = bench_setting(b, b->given->batch, n_contexts);
    json_t *row = bench_row(b, SCENARIO_RATE, &how, n_contexts); /* for a failure that concerns all */
    detector d;
    bool out_of_memory;
    bool opened = load_open(b, &d, &how, n_contexts, row, &out_of_memory);
    double capacity = opened ? load_capacity(b, &d, row) : 0;
    bool ready = capacity > 0, ok = ready;
    const number_list *rates = &b->given->rates;
    for (int i = 0; ok && i < (rates->n > 0 ? rates->n : N_SHARES); i++)
        ok = measure_rate(b, &d, rates->n > 0 ? rates->values[i] : shares[i] * capacity / d.batch, capacity);
    detector_close(&d);
    if (ready)
        json_decref(row);
    else
        bench_add(b, row);
    return ok || out_of_memory;
}
