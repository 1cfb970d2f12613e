/* latency: one picture at a time, by one caller. */
#include "bench.h"

bool scenario_latency(bench *b) {
    setting how = bench_setting(b, 1, 1);
    json_t *row = bench_row(b, SCENARIO_LATENCY, &how, 1);
    detector d;
    measurement m = {0};
    bool out_of_memory;
    bool ok = bench_open(b, &d, &how, 1, row, &out_of_memory);
    if (ok) {
        turns_plan plan = bench_turns_plan(b, 1);
        ok = bench_turns(b, &d, &plan, row, &m);
    }
    detector_close(&d);
    measurement_free(&m);
    bench_add(b, row);
    return ok || out_of_memory;
}
