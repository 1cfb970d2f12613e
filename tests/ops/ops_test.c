/* Every operator against the oracle: one table row or more for each of lib/ops.def.
 *
 * Each row runs three pictures at once, on the CPU with 1, 2 and 3 threads, and there once
 * more without the code for wide vectors: within its tolerance of the textbook answer,
 * the same bytes on every run, the same bytes for a picture alone as in the batch, and nothing written outside its
 * output. ops_test --device cuda [--precision fp16] runs the table there. */
#include "check.h"
#include "rig.h"
#include "test_device.h"

enum { MAX_THREADS = 3 };

static void run(rig *r, int n) {
    det_status status = rig_run(r, n);
    CHECK_MSG(status == DET_OK, "%s", det_last_error());
}

static bool same_result(const rig *a, int index_a, const rig *b, int index_b) {
    size_t n_a, n_b;
    const void *x = rig_result(a, index_a, &n_a), *y = rig_result(b, index_b, &n_b);
    return n_a == n_b && !memcmp(x, y, n_a);
}

/* `twin` is what `r` is, and runs twice; in between with fewer pictures, over what the first run left. */
static void check_repeats(const rig *r, rig *twin, const char *name) {
    for (int round = 0; round < 2; round++) {
        run(twin, RIG_BATCH);
        for (int i = 0; i < RIG_BATCH; i++)
            CHECK_MSG(same_result(r, i, twin, i), "%s: picture %d gives other bytes again", name, i);
        run(twin, RIG_BATCH - 1);
    }
}

static void check_alone(const rig *all, rig *one, const char *name) {
    for (int i = 0; i < RIG_BATCH; i++) {
        rig_copy_inputs(one, all, i);
        run(one, 1);
        CHECK_MSG(same_result(all, i, one, 0), "%s: picture %d gives other bytes alone", name, i);
    }
}

static void close_rigs(rig *all, rig *twin, rig *one) {
    rig_close(all);
    rig_close(twin);
    rig_close(one);
}

/* The row's; wider where numbers are stored or multiplied with fewer digits. Pre-processing counts grey levels, of which
 * there are 255 in a largest value. */
static double tolerance_of(const op_row *row, const det_context_options *options) {
    double least = test_precision_tolerance(options);
    return DET_MAX(row->tolerance, row->op == DET_OP_PREPROCESS ? 255 * least : least);
}

/* Negative: views have left nothing to run. */
static double test_row(const op_row *row, const det_context_options *options, const char *name) {
    rig all, twin, one;
    rig_open(&all, row, options, RIG_BATCH);
    rig_open(&twin, row, options, RIG_BATCH);
    /* on a device it is a context's smaller batch sizes that give the same bytes, not another context */
    rig_open(&one, row, options, all.on_host ? 1 : RIG_BATCH);
    if (!all.step) {
        close_rigs(&all, &twin, &one);
        return -1;
    }
    rig_round_inputs(&all);
    rig_round_inputs(&twin);
    bool in_place = all.step->node->n_inputs > 1 && all.step->node->output == all.step->node->inputs[1];
    CHECK_MSG(in_place == (all.layout.residual_in_place && row->residual && !row->residual_kept),
              "%s: the residual %s written over", name, in_place ? "is" : "is not");
    run(&all, RIG_BATCH);
    double error = row->error(&all), tolerance = tolerance_of(row, options);
    CHECK_MSG(error <= tolerance, "%s: differs from the oracle by %g, more than %g", name, error, tolerance);
    CHECK_MSG(rig_concatenated(&all), "%s: the concatenation has something else", name);
    check_repeats(&all, &twin, name);
    check_alone(&all, &one, name);
    CHECK_MSG(rig_guards_intact(&all) && rig_guards_intact(&twin) && rig_guards_intact(&one),
              "%s: writes outside its output", name);
    close_rigs(&all, &twin, &one);
    return error;
}

static const struct {
    const op_row *rows;
    const int *n;
} tables[] = {{picture_rows, &n_picture_rows}, {tensor_rows, &n_tensor_rows}, {box_rows, &n_box_rows}};

static void test_tables(const det_context_options *options, int *n_rows, int *n_views, double *worst) {
    for (size_t t = 0; t < DET_COUNT(tables); t++) {
        for (int i = 0; i < *tables[t].n; i++) {
            const op_row *row = &tables[t].rows[i];
            char name[128];
            snprintf(name, sizeof name, "%s %s, %d threads%s", det_op_name(row->op), row->what, options->n_threads,
                     rig_narrow ? ", narrow" : "");
            double error = test_row(row, options, name);
            worst[row->op] = DET_MAX(worst[row->op], error);
            n_rows[row->op]++;
            n_views[row->op] += error < 0;
        }
    }
}

int main(int argc, char **argv) {
    int n_rows[DET_N_OPS] = {0}, n_views[DET_N_OPS] = {0};
    double worst[DET_N_OPS] = {0};
    det_context_options options;
    REQUIRE(test_device_options(argc, argv, &options) == 1, "usage: ops_test [--device cuda] [--precision fp16]");
    bool on_cpu = options.device == DET_DEVICE_CPU;
    int n_rounds = on_cpu ? MAX_THREADS : 1;
    for (int i = 0; i < n_rounds * (on_cpu ? 2 : 1); i++) {
        options.n_threads = i % n_rounds + 1;
        rig_narrow = i >= n_rounds;
        test_tables(&options, n_rows, n_views, worst);
    }
    for (int op = 0; op < DET_N_OPS; op++) {
        printf("  %-15s %3d runs, worst %.1e", det_op_name((det_op)op), n_rows[op], worst[op]);
        printf(n_views[op] ? ", %d were views\n" : "\n", n_views[op]);
        CHECK_MSG(n_rows[op] > n_views[op], "operator %s has no row", det_op_name((det_op)op));
    }
    return check_report("ops");
}
