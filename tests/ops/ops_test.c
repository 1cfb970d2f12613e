/* Every operator against the oracle: one table row or more for each of lib/ops.def.
 *
 * Each row runs three pictures at once, on the CPU with 1, 2 and 3 threads, and there once
 * more without the code for wide vectors: within its tolerance of the textbook answer,
 * the same bytes on every run, the same bytes for a picture alone as in the batch, and nothing written outside its
 * output. ops_test --device cuda [--precision fp16] [--skip OPERATOR]... runs the table there. */
#include "check.h"
#include "rig.h"
#include "test_device.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_THREADS = 3, ROW_SECONDS = 60 /* on a device, then it has hung */ };

/* What the rows have come to, in memory that all processes of this test share. */
typedef struct tally {
    int next; /* the row that runs, of all tables */
    int n_rows[DET_N_OPS], n_views[DET_N_OPS];
    double worst[DET_N_OPS];
    int n_checks, n_failures;
} tally;

static bool skipped[DET_N_OPS];

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

/* NULL: there are no more. */
static const op_row *row_at(int index) {
    for (size_t t = 0; t < DET_COUNT(tables); index -= *tables[t++].n) {
        if (index < *tables[t].n)
            return &tables[t].rows[index];
    }
    return NULL;
}

static void count_row(const op_row *row, const det_context_options *options, tally *all) {
    char name[128];
    snprintf(name, sizeof name, "%s %s, %d threads%s", det_op_name(row->op), row->what, options->n_threads,
             rig_narrow ? ", narrow" : "");
    double error = test_row(row, options, name);
    all->worst[row->op] = DET_MAX(all->worst[row->op], error);
    all->n_rows[row->op]++;
    all->n_views[row->op] += error < 0;
}

static void test_on_cpu(det_context_options *options, tally *all) {
    for (int i = 0; i < 2 * MAX_THREADS; i++) {
        options->n_threads = i % MAX_THREADS + 1;
        rig_narrow = i >= MAX_THREADS;
        for (all->next = 0; row_at(all->next); all->next++)
            count_row(row_at(all->next), options, all);
    }
}

/* From row all->next on, until one fails: what has broken the device is not to break the next row. */
static void test_rows(const det_context_options *options, tally *all) {
    for (const op_row *row; (row = row_at(all->next)) && check_failures == all->n_failures; all->next++) {
        if (skipped[row->op])
            continue;
        alarm(ROW_SECONDS);
        count_row(row, options, all);
        alarm(0);
        all->n_checks = check_count;
    }
    all->n_failures = check_failures;
}

/* Rows run in a process that alone touches the device, and after one that fails, dies or hangs in another. */
static void test_on_device(const det_context_options *options, tally *all) {
    while (row_at(all->next)) {
        fflush(NULL);
        pid_t child = fork();
        REQUIRE(child >= 0, "no process");
        if (child == 0) {
            test_rows(options, all);
            exit(0);
        }
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child, "process %d", (int)child);
        check_count = all->n_checks;
        check_failures = all->n_failures;
        const op_row *row = row_at(all->next);
        if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0) {
            CHECK_MSG(false, "%s %s: %s %d", row ? det_op_name(row->op) : "the end", row ? row->what : "",
                      WIFSIGNALED(status) ? "ended by signal" : "exit status",
                      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            all->n_checks = check_count;
            all->n_failures = check_failures;
            all->next++;
        }
    }
}

/* Takes --skip OPERATOR out of argv; returns how many are left. */
static int take_skips(int argc, char **argv) {
    int n = 0;
    for (int i = 0; i < argc; i++) {
        int op = 0;
        if (strcmp(argv[i], "--skip") != 0) {
            argv[n++] = argv[i];
            continue;
        }
        const char *name = ++i < argc ? argv[i] : "";
        while (op < DET_N_OPS && strcmp(name, det_op_name((det_op)op)) != 0)
            op++;
        REQUIRE(op < DET_N_OPS, "--skip %s: no such operator", name);
        skipped[op] = true;
    }
    return n;
}

int main(int argc, char **argv) {
    det_context_options options;
    REQUIRE(test_device_options(take_skips(argc, argv), argv, &options) == 1,
            "usage: ops_test [--device cuda] [--precision fp16] [--skip OPERATOR]...");
    tally *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(all != MAP_FAILED, "%zu bytes", sizeof *all);
    if (options.device == DET_DEVICE_CPU)
        test_on_cpu(&options, all);
    else
        test_on_device(&options, all);
    for (int op = 0; op < DET_N_OPS; op++) {
        printf("  %-15s %3d runs, worst %.1e", det_op_name((det_op)op), all->n_rows[op], all->worst[op]);
        printf(all->n_views[op] ? ", %d were views\n" : "\n", all->n_views[op]);
        CHECK_MSG(skipped[op] || all->n_rows[op] > all->n_views[op], "operator %s has no row", det_op_name((det_op)op));
    }
    munmap(all, sizeof *all);
    return check_report("ops");
}
