/* Every operator against the oracle: one table row or more for each of lib/ops.def.
 *
 * Each row runs on 1, 2 and 3 threads, three pictures at once: within its tolerance of the textbook answer, the same
 * bytes on every run, the same bytes for a picture alone as in the batch, and nothing written outside its output. */
#include "check.h"
#include "cpu/cpu.h"
#include "rig.h"

enum { MAX_THREADS = 3 };

static det_device *open_device(int n_threads) {
    det_context_options options = {.struct_size = sizeof options, .device = DET_DEVICE_CPU, .n_threads = n_threads};
    det_device *device;
    REQUIRE(det_cpu_backend.open(&options, &device) == DET_OK, "%s", det_last_error());
    return device;
}

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

static double test_row(const op_row *row, det_device *device, int n_threads) {
    rig all, twin, one;
    char name[128];
    snprintf(name, sizeof name, "%s %s, %d threads", det_op_name(row->op), row->what, n_threads);
    rig_open(&all, row, device, RIG_BATCH);
    rig_open(&twin, row, device, RIG_BATCH);
    rig_open(&one, row, device, 1);
    bool in_place = all.step->node->n_inputs > 1 && all.step->node->output == all.step->node->inputs[1];
    CHECK_MSG(in_place == (row->residual && !row->residual_kept), "%s: the residual %s written over", name, in_place ? "is" : "is not");
    run(&all, RIG_BATCH);
    double error = row->error(&all);
    CHECK_MSG(error <= row->tolerance, "%s: differs from the oracle by %g, more than %g", name, error, row->tolerance);
    CHECK_MSG(rig_concatenated(&all), "%s: the concatenation has something else", name);
    check_repeats(&all, &twin, name);
    check_alone(&all, &one, name);
    CHECK_MSG(rig_guards_intact(&all) && rig_guards_intact(&twin) && rig_guards_intact(&one), "%s: writes outside its output", name);
    rig_close(&all);
    rig_close(&twin);
    rig_close(&one);
    return error;
}

int main(void) {
    const struct {
        const op_row *rows;
        int n;
    } tables[] = {{picture_rows, n_picture_rows}, {tensor_rows, n_tensor_rows}, {box_rows, n_box_rows}};
    int n_rows[DET_N_OPS] = {0};
    double worst[DET_N_OPS] = {0};
    for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
        det_device *device = open_device(n_threads);
        det_dnn_single_thread(device->dnn);
        for (size_t t = 0; t < DET_COUNT(tables); t++) {
            for (int i = 0; i < tables[t].n; i++) {
                const op_row *row = &tables[t].rows[i];
                double error = test_row(row, device, n_threads);
                worst[row->op] = DET_MAX(worst[row->op], error);
                n_rows[row->op]++;
            }
        }
        det_cpu_backend.close(device);
    }
    for (int op = 0; op < DET_N_OPS; op++) {
        printf("  %-15s %3d runs, worst %.1e\n", det_op_name((det_op)op), n_rows[op], worst[op]);
        CHECK_MSG(n_rows[op] > 0, "operator %s has no row", det_op_name((det_op)op));
    }
    return check_report("ops");
}
