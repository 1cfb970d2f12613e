/* tune: input size x batch x precision, within a limit of memory and of latency, and which of them are worth a thought. */
#include "analysis.h"
#include "bench.h"
#include "document.h"
#include "text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes to try when none are given: the model's own, and three quarters and half of it. */
static size_list sizes_to_try(const bench *b) {
    const size_list *given = &b->given->sizes;
    if (given->n > 1 || given->width[0] != 0)
        return *given;
    enum { STEP = 32, QUARTERS = 4 };
    size_list sizes = {.n = 0};
    for (int quarters = QUARTERS; quarters >= 2; quarters--) {
        int32_t width = b->info.input_width * quarters / QUARTERS / STEP * STEP;
        int32_t height = b->info.input_height * quarters / QUARTERS / STEP * STEP;
        bool known = sizes.n > 0 && sizes.width[sizes.n - 1] == width && sizes.height[sizes.n - 1] == height;
        if (width >= STEP && height >= STEP && !known) {
            sizes.width[sizes.n] = width;
            sizes.height[sizes.n++] = height;
        }
    }
    return sizes;
}

/* Precisions to try when none are given: all that the kind of device may have. */
static integer_list precisions_to_try(const bench *b) {
    const integer_list *given = &b->given->precisions;
    if (given->n > 1 || given->values[0] != DET_PRECISION_AUTO)
        return *given;
    bool gpu = b->setting.devices[0].device == DET_DEVICE_CUDA;
    return (integer_list){.values = {DET_FP32, DET_TF32, DET_FP16, DET_BF16}, .n = gpu ? 4 : 1};
}

static void check_limits(const bench *b, json_t *row, const measurement *m, const detector *d) {
    const options *g = b->given;
    double latency = statistics_median(m->latency_ms.values, m->latency_ms.n);
    char text[128];
    if (g->max_memory > 0 && detector_bytes(d) > g->max_memory) {
        snprintf(text, sizeof text, "%.1f MiB, over the limit of %.1f", (double)detector_bytes(d) / 1048576,
                 (double)g->max_memory / 1048576);
        row_status(row, "over_limit", text);
    } else if (g->max_latency_ms > 0 && latency > g->max_latency_ms) {
        snprintf(text, sizeof text, "%.2f ms, over the limit of %.2f", latency, g->max_latency_ms);
        row_status(row, "over_limit", text);
    }
}

/* One way to run; its row is added. */
static bool measure(bench *b, int32_t batch, bool *out_of_memory, bool *unsupported) {
    setting how = bench_setting(b, batch, 1);
    json_t *row = bench_row(b, SCENARIO_TUNE, &how, 1);
    detector d;
    measurement m = {0};
    bool ok = bench_open(b, &d, &how, 1, row, out_of_memory);
    *unsupported = strcmp(document_text(row, "status"), "unsupported") == 0;
    if (ok) {
        turns_plan plan = bench_turns_plan(b, batch);
        ok = bench_turns(b, &d, &plan, row, &m);
        if (ok)
            check_limits(b, row, &m, &d);
    }
    detector_close(&d);
    measurement_free(&m);
    bench_add(b, row);
    return ok;
}

/* Every batch of the size and precision at hand. */
static bool sweep(bench *b) {
    bool out_of_memory = false, unsupported = false, ok = true;
    for (int i = 0; ok && i < b->given->batches.n; i++)
        ok = measure(b, b->given->batches.values[i], &out_of_memory, &unsupported);
    return ok || out_of_memory || unsupported;
}

/* What a row stands for. The quality of boxes is their average precision where it is known; else more pixels are better,
 * so that a smaller input never drives out a larger one: it is another task. */
static choice choice_of(const json_t *row) {
    const json_t *input = json_object_get(row, "input");
    double pixels = json_number_value(json_array_get(input, 0)) * json_number_value(json_array_get(input, 1));
    double ap = document_number(row, "accuracy.ap");
    return (choice){.throughput = document_number(row, "throughput.value"),
                    .latency = document_number(row, "latency_ms.p50.value"),
                    .memory = document_number(row, "memory_bytes"),
                    .quality = isnan(ap) ? pixels : ap,
                    .usable = strcmp(document_text(row, "status"), "ok") == 0};
}

static void mark_front(bench *b, size_t first) {
    size_t n = json_array_size(b->rows) - first;
    choice *choices = calloc(n + 1, sizeof *choices);
    if (choices == NULL) {
        complain("tune: out of memory for the Pareto front");
        b->any_failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        choices[i] = choice_of(json_array_get(b->rows, first + i));
    analysis_pareto(choices, n);
    for (size_t i = 0; i < n; i++)
        json_object_set_new(json_array_get(b->rows, first + i), "pareto", json_boolean(choices[i].on_front));
    free(choices);
}

bool scenario_tune(bench *b) {
    size_list sizes = sizes_to_try(b);
    integer_list precisions = precisions_to_try(b);
    size_t first = json_array_size(b->rows);
    bool ok = true;
    for (int i = 0; ok && i < sizes.n; i++)
        for (int k = 0; ok && k < precisions.n; k++)
            if (bench_choose(b, precisions.values[k], sizes.width[i], sizes.height[i], SCENARIO_TUNE, &ok))
                ok = sweep(b);
    mark_front(b, first);
    return ok;
}
