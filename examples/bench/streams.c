/* streams: does this machine hold N streams of M frames a second? */
#include "document.h"
#include "load.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Cameras do not agree on when a frame begins: each stream has a phase of its own, the same for a seed. */
static double *make_phases(int32_t n, double period, int64_t seed) {
    double *phases = calloc((size_t)n, sizeof *phases);
    uint32_t *noise = calloc((size_t)n, sizeof *noise);
    if (phases != NULL && noise != NULL) {
        inputs_fill_noise((uint8_t *)noise, (size_t)n * sizeof *noise, (uint64_t)seed);
        for (int32_t i = 0; i < n; i++)
            phases[i] = period * noise[i] / 4294967296.0;
        statistics_sort(phases, (size_t)n);
    } else {
        free(phases);
        phases = NULL;
    }
    free(noise);
    return phases;
}

/* A frame is in time when its answer comes before the next frame of its stream. */
static void judge(bench *b, json_t *row, const measurement *m, const offered *found, double capacity) {
    const options *g = b->given;
    double period_ms = 1e3 / g->need_fps, need = g->need_streams * g->need_fps;
    size_t n_late = 0;
    for (size_t i = 0; i < m->latency_ms.n; i++)
        n_late += m->latency_ms.values[i] > period_ms;
    double late = (double)(n_late + (size_t)found->n_unserved) / (double)found->n_requests;
    static const double tolerated = 0.01;
    bool holds = found->sustained && late <= tolerated;
    json_object_set_new(row, "streams",
                        json_pack("{s:i, s:f, s:b, s:f, s:f, s:f, s:f}", "streams", g->need_streams, "fps", g->need_fps,
                                  "holds", holds, "late_share", late, "capacity", capacity, "headroom",
                                  capacity / need - 1, "possible_streams", floor(capacity / g->need_fps)));
    if (!holds) {
        row_note(row, "does not hold %d streams of %g frames a second", (int)g->need_streams, g->need_fps);
        b->any_failed = true;
    }
}

bool scenario_streams(bench *b) {
    const options *g = b->given;
    int n_contexts = bench_contexts(b);
    setting how = bench_setting(b, 1, n_contexts); /* a frame comes alone */
    json_t *row = bench_row(b, SCENARIO_STREAMS, &how, n_contexts);
    detector d;
    measurement m = {0};
    offered found;
    bool out_of_memory;
    double *phases = make_phases(g->need_streams, 1 / g->need_fps, g->seed);
    const open_plan plan = {.period = 1 / g->need_fps,
                            .phases = phases,
                            .n_phases = (size_t)g->need_streams,
                            .duration_s = g->duration_s,
                            .grace_s = 0.25 * g->duration_s};
    bool ok = load_open(b, &d, &how, n_contexts, row, &out_of_memory);
    if (ok && phases == NULL)
        ok = bench_fail(b, row, "out of memory for the streams");
    double capacity = ok ? load_capacity(b, &d, row) : 0;
    ok = capacity > 0 && load_offered(b, &d, &plan, row, &m, &found);
    if (ok)
        judge(b, row, &m, &found, capacity);
    detector_close(&d);
    measurement_free(&m);
    free(phases);
    bench_add(b, row);
    return ok || out_of_memory;
}
