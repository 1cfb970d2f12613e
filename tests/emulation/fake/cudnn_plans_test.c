/* The library's convolutions asked of cuDNN itself for a device that is not here: cuDNN's heuristics and its
 * run-time compiler work from a device's properties (tests/data/cudnn). Every kind of convolution must find an
 * engine among those that the heuristics put first, one that copies no view, and SiLU is compiled once for all
 * shapes and batches; the table that is printed says which, with what workspace. */
#include "absent_device.h"
#include "check.h"
#include "cuda/cudnn_graph.h"

#include <time.h>

static det_device device; /* for what plans share */

/* For the messages of cudnn_conv.c; the runtime is not linked. */
det_status det_cudnn_fail(cudnnStatus_t status, const char *call, const char *file, int line) {
    return det_fail(DET_ERROR_DEVICE, "%s -> %s (%s:%d)", call, cudnnGetErrorString(status), file, line);
}

/* Nor is anything captured here. */
void det_cuda_begin_teardown(void) {
}

void det_cuda_end_teardown(void) {
}

typedef struct row {
    const char *what;
    det_type type;
    int size, c_in, c_out, k, stride, groups;
    int x_beside, y_beside; /* channels of others in x's and y's pixels */
    bool residual;
    det_unit unit, post_unit;
} row;

#define F16     DET_TYPE_F16
#define F32     DET_TYPE_F32
#define BF16    DET_TYPE_BF16
#define SILU    DET_UNIT_SILU
#define RELU    DET_UNIT_RELU
#define NOTHING DET_UNIT_NONE

static const row rows[] = {
    {"stem", F16, 640, 8, 32, 3, 2, 1, 0, 0, false, SILU, NOTHING},
    {"3x3 SiLU", F16, 80, 64, 64, 3, 1, 1, 0, 0, false, SILU, NOTHING},
    {"3x3 SiLU, down", F16, 80, 64, 128, 3, 2, 1, 0, 0, false, SILU, NOTHING},
    {"1x1 SiLU", F16, 40, 128, 128, 1, 1, 1, 0, 0, false, SILU, NOTHING},
    {"1x1 SiLU into a concatenation", F16, 40, 128, 64, 1, 1, 1, 0, 64, false, SILU, NOTHING},
    {"3x3 SiLU of a slice", F16, 40, 64, 64, 3, 1, 1, 128, 64, false, SILU, NOTHING},
    {"3x3 SiLU, residual", F16, 40, 64, 64, 3, 1, 1, 0, 64, true, SILU, NOTHING},
    {"3x3 ReLU", F16, 80, 64, 64, 3, 1, 1, 0, 0, false, RELU, NOTHING},
    {"3x3 ReLU into a concatenation", F16, 80, 64, 64, 3, 1, 1, 0, 64, false, RELU, NOTHING},
    {"1x1 ReLU", F16, 80, 64, 32, 1, 1, 1, 0, 0, false, RELU, NOTHING},
    {"3x3, residual, ReLU", F16, 40, 64, 64, 3, 1, 1, 0, 0, true, NOTHING, RELU},
    {"1x1 head", F16, 80, 64, 88, 1, 1, 1, 0, 0, false, NOTHING, NOTHING},
    {"3x3 bfloat16", BF16, 80, 64, 64, 3, 1, 1, 0, 0, false, SILU, NOTHING},
    {"3x3 ReLU fp32", F32, 80, 64, 64, 3, 1, 1, 0, 0, false, RELU, NOTHING},
    {"3x3 fp32", F32, 80, 64, 64, 3, 1, 1, 0, 0, false, NOTHING, NOTHING},
};

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static det_conv_problem problem_of(const row *r) {
    det_conv_problem p = {.type = r->type,
                          .n = 4,
                          .h = r->size,
                          .w = r->size,
                          .c_in = r->c_in,
                          .x_stride = r->c_in + r->x_beside,
                          .c_out = r->c_out,
                          .y_stride = r->c_out + r->y_beside,
                          .residual_stride = r->c_out,
                          .k = r->k,
                          .stride = r->stride,
                          .pad = r->k / 2,
                          .groups = r->groups,
                          .has_bias = true,
                          .has_residual = r->residual,
                          .unit = r->unit,
                          .post_unit = r->post_unit};
    p.h_out = p.w_out = (r->size + 2 * p.pad - r->k) / r->stride + 1;
    return p;
}

/* SiLU at another size, with other channels and windows: nothing is compiled again. */
static void test_cache(void) {
    const row again = {"3x3 SiLU again", F16, 20, 96, 160, 3, 1, 1, 32, 0, false, SILU, NOTHING};
    det_conv_problem p = problem_of(&again);
    det_cudnn_conv *conv = NULL;
    int n = 0, before = absent_device_loads();
    CHECK(det_cudnn_conv_find(&device, &p, false, 1, &conv, &n) == DET_OK && n == 1);
    CHECK_MSG(before > 0 && absent_device_loads() == before, "%d modules, then %d", before, absent_device_loads());
    if (n == 1)
        det_cudnn_conv_free(conv);
}

/* The engine of a batch of 4 for one picture: nothing is compiled. */
static void test_follow(const row *r, const det_conv_problem *whole, const det_cudnn_conv *like) {
    det_conv_problem p = *whole;
    det_cudnn_conv *conv = NULL;
    int before = absent_device_loads();
    p.n = 1;
    CHECK_MSG(det_cudnn_conv_follow(&device, &p, like, &conv) == DET_OK, "%s: %s", r->what, det_last_error());
    CHECK_MSG(conv && !strcmp(det_cudnn_conv_impl(conv), det_cudnn_conv_impl(like)) && absent_device_loads() == before,
              "%s: %s instead of %s, %d modules, then %d", r->what, conv ? det_cudnn_conv_impl(conv) : "nothing",
              det_cudnn_conv_impl(like), before, absent_device_loads());
    det_cudnn_conv_free(conv);
}

/* Layers of DAMO-YOLO-S and a ResNet that the heuristics put split sums first for. */
static const row split_rows[] = {
    {"head 20", F16, 20, 512, 80, 3, 1, 1, 0, 0, false, NOTHING, NOTHING},
    {"head 40", F16, 40, 256, 72, 3, 1, 1, 0, 0, false, NOTHING, NOTHING},
    {"3x3 ReLU, down", F16, 160, 88, 128, 3, 2, 1, 0, 0, false, RELU, NOTHING},
    {"3x3 ReLU 20", F16, 20, 256, 256, 3, 1, 1, 0, 0, false, RELU, NOTHING},
};

/* A picture's bytes are the same whatever is beside it: no engine that is tried for 64 pictures begins or ceases to keep
 * partial sums (in a workspace of more than some flags) when there are fewer. */
static void test_split(const row *r) {
    enum { FLAGS = 4096 };
    det_conv_problem p = problem_of(r);
    det_cudnn_conv *convs[DET_MAX_TRIED];
    int n = 0;
    p.n = 64;
    CHECK(det_cudnn_conv_find(&device, &p, false, DET_MAX_TRIED, convs, &n) == DET_OK && n > 1);
    for (int i = 0; i < n; i++) {
        size_t whole = det_cudnn_conv_workspace(convs[i]);
        for (p.n = 1; p.n < 64; p.n *= 2) {
            det_cudnn_conv *conv = NULL;
            CHECK(det_cudnn_conv_follow(&device, &p, convs[i], &conv) == DET_OK && conv);
            size_t part = conv ? det_cudnn_conv_workspace(conv) : whole;
            CHECK_MSG((part > FLAGS) == (whole > FLAGS), "%s by %s: %zu bytes for 64 pictures, %zu for %d", r->what,
                      det_cudnn_conv_impl(convs[i]), whole, part, p.n);
            det_cudnn_conv_free(conv);
        }
        det_cudnn_conv_free(convs[i]);
    }
}

static void test_row(const row *r) {
    det_conv_problem p = problem_of(r);
    det_cudnn_conv *conv = NULL;
    int n = 0;
    double begin = cpu_seconds();
    det_status status = det_cudnn_conv_find(&device, &p, false, 1, &conv, &n);
    CHECK_MSG(status == DET_OK, "%s: %s", r->what, det_last_error());
    CHECK_MSG(n == 1, "%s: no engine", r->what);
    if (n == 1) {
        printf("  %-32s %-10s %8zu bytes of workspace, found in %.2f s\n", r->what, det_cudnn_conv_impl(conv),
               det_cudnn_conv_workspace(conv), cpu_seconds() - begin);
        if (r->x_beside || r->y_beside) /* no copy of a view */
            CHECK_MSG(det_cudnn_conv_workspace(conv) < (size_t)p.h * p.w * DET_MIN(p.c_in, p.c_out), "%s", r->what);
        test_follow(r, &p, conv);
        det_cudnn_conv_free(conv);
    }
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2, "usage: cudnn_plans_test DEVICE.json");
    if (!absent_device_open(argv[1])) { /* older than 9.8 */
        printf("SKIP: cuDNN %zu does not take this description of a device\n", cudnnGetVersion());
        return CHECK_SKIP;
    }
    REQUIRE(det_kernel_caches_open(&device.caches) == DET_OK, "%s", det_last_error());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        test_row(&rows[i]);
    for (size_t i = 0; i < sizeof split_rows / sizeof *split_rows; i++)
        test_split(&split_rows[i]);
    test_cache();
    det_kernel_caches_close(device.caches);
    absent_device_close();
    return check_report("cuDNN's plans");
}
