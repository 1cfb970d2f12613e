/* throughput: pictures a second at every batch, up to the one for which memory does not suffice, and the knee. */
#include "analysis.h"
#include "bench.h"

static const double KNEE_SHARE = 0.95;

/* Measures one batch; its row is added. */
static bool measure_batch(bench *b, int32_t batch, bool *out_of_memory, double *throughput) {
    setting how = bench_setting(b, batch, 1);
    json_t *row = bench_row(b, SCENARIO_THROUGHPUT, &how, 1);
    detector d;
    measurement m = {0};
    bool ok = bench_open(b, &d, &how, 1, row, out_of_memory);
    if (ok) {
        turns_plan plan = bench_turns_plan(b, batch);
        ok = bench_turns(b, &d, &plan, row, &m);
        *throughput = measurement_throughput(&m);
    }
    detector_close(&d);
    measurement_free(&m);
    bench_add(b, row);
    return ok;
}

bool scenario_throughput(bench *b) {
    const integer_list *batches = &b->given->batches;
    double throughputs[MAX_LIST];
    int n = 0;
    bool ok = true, out_of_memory = false;
    size_t first = json_array_size(b->rows);
    while (n < batches->n && ok) {
        ok = measure_batch(b, batches->values[n], &out_of_memory, &throughputs[n]);
        n += ok;
    }
    if (n > 0) {
        size_t knee = analysis_knee(throughputs, (size_t)n, KNEE_SHARE);
        json_t *row = json_array_get(b->rows, first + knee);
        json_object_set_new(row, "knee", json_true());
        row_note(row, "the knee: the smallest batch with %.0f %% of the best throughput", 100 * KNEE_SHARE);
    }
    return ok || out_of_memory;
}
