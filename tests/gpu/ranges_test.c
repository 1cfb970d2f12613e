/* The ranges that a profiler sees: ranges_test with NVTX_INJECTION64_PATH naming ranges_recorder; without it, that there are
 * none. On the fake device. */
#include "../api/api.h"
#include "ranges_recorder.h"

/* What was recorded since the last call. */
static const char *recorded(void) {
    static size_t seen;
    int left_open = 0;
    const char *all = recorded_ranges(&left_open), *since = all + seen;
    CHECK_MSG(left_open == 0, "%d ranges are open", left_open);
    seen = strlen(all);
    return since;
}

/* The lines are there, in this order. */
static void check_order(const char *what, const char *ranges, const char *const *lines, int n) {
    for (int i = 0; i < n; i++) {
        const char *at = strstr(ranges, lines[i]);
        CHECK_MSG(at, "%s: no '%.*s' where it should be among:\n%s", what, (int)strcspn(lines[i], "\n"), lines[i],
                  ranges);
        ranges = at ? at + strlen(lines[i]) : ranges;
    }
}

static void run_once(const det_model *model, uint32_t flags) {
    static results r;
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CUDA;
    options.flags = flags;
    det_context *context = create(model, &options);
    det_image picture = random_picture(66, 66, DET_RGB8, 0);
    run(context, &picture, 1, &r);
    free_picture(&picture);
    det_context_destroy(context);
}

int main(void) {
    static const char *const with_graph[] = {"libdetect capture\n", ".preprocess\n", ".backbone.0.0\n",
                                             ".decode_scrfd\n",     ".nms\n",        "libdetect run\n",
                                             ".upload\n",           ".graph\n",      ".download\n"};
    static const char *const without[] = {"libdetect run\n", ".upload\n", ".preprocess\n", ".backbone.0.0\n",
                                          ".decode_scrfd\n", ".nms\n",    ".download\n"};
    det_model *model = open_made(make_model_name(0));
    run_once(model, 0);
    if (getenv("NVTX_INJECTION64_PATH"))
        check_order("with a graph", recorded(), with_graph, COUNT(with_graph));
    run_once(model, DET_CONTEXT_NO_GRAPH);
    if (getenv("NVTX_INJECTION64_PATH"))
        check_order("without", recorded(), without, COUNT(without));
    else
        CHECK_MSG(!*recorded(), "ranges without a profiler");
    det_model_close(model);
    return check_report("ranges");
}
