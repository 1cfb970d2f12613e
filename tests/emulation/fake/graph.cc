/* Capture and graphs: nodes with what they follow, run in any order that this allows. */
#include "stream.h"

#include <algorithm>

namespace fake {
namespace {

std::set<CUgraph_st *> &graphs() {
    static auto *g = new std::set<CUgraph_st *>;
    return *g;
}

std::set<CUgraphExec_st *> &execs() {
    static auto *e = new std::set<CUgraphExec_st *>;
    return *e;
}

template <class T> T *check(std::set<T *> &live, T *handle, const char *function) {
    if (live.count(handle))
        return handle;
    violation("%s: %p is no graph of this kind", function, (void *)handle);
    return nullptr;
}

/* Where one launch of a graph has got to. */
class Run {
  public:
    explicit Run(std::shared_ptr<const Graph> graph) : graph_(std::move(graph)), done_(graph_->nodes.size(), false) {
    }

    /* One node of those that may run now; true when none is left. */
    bool step() {
        std::vector<size_t> free;
        for (size_t i = 0; i < done_.size(); i++)
            if (!done_[i] && may_run(graph_->nodes[i]))
                free.push_back(i);
        if (free.empty())
            return true;
        size_t chosen = free[random_below(free.size())];
        if (work_may_run())
            graph_->nodes[chosen].run();
        done_[chosen] = true;
        return free.size() == 1 && std::all_of(done_.begin(), done_.end(), [](bool done) { return done; });
    }

  private:
    bool may_run(const Node &node) const {
        return std::all_of(node.after.begin(), node.after.end(), [this](int i) { return done_[(size_t)i]; });
    }

    std::shared_ptr<const Graph> graph_;
    std::vector<bool> done_;
};

/* Does everything that was captured lead to what the origin captured last? */
bool joined(const Capture &capture) {
    const std::vector<Node> &nodes = capture.graph->nodes;
    std::vector<bool> reached(nodes.size(), false);
    std::vector<int> open = capture.origin->frontier;
    while (!open.empty()) {
        int node = open.back();
        open.pop_back();
        if (reached[(size_t)node])
            continue;
        reached[(size_t)node] = true;
        open.insert(open.end(), nodes[(size_t)node].after.begin(), nodes[(size_t)node].after.end());
    }
    return std::all_of(reached.begin(), reached.end(), [](bool r) { return r; });
}

uint64_t n_captures = 0;

} // namespace

void capture_node(CUstream_st *stream, const char *name, std::function<void()> run) {
    std::vector<Node> &nodes = stream->capture->graph->nodes;
    nodes.push_back({name, std::move(run), stream->frontier});
    stream->frontier = {(int)nodes.size() - 1};
}

void graph_state(fake_cuda_state *state) {
    state->graphs = (int64_t)graphs().size();
    state->graph_execs = (int64_t)execs().size();
}

} // namespace fake

using namespace fake;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    RUNTIME_CALL(ANY);
    CUstream_st *s = check_stream(stream, __func__);
    if (!s)
        return call.done(cudaErrorInvalidResourceHandle);
    if (s->capture)
        return call.done(cudaErrorIllegalState);
    auto capture = std::make_shared<Capture>();
    capture->origin = s;
    capture->mode = mode;
    capture->thread = this_thread();
    capture->id = ++n_captures;
    capture->graph = std::make_shared<Graph>();
    capture->graph->device = s->device;
    capture->streams.insert(s);
    s->capture = capture;
    s->frontier.clear();
    return call.done(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    RUNTIME_CALL(RELEASES);
    CUstream_st *s = check_stream(stream, __func__);
    if (!s || !graph)
        return call.done(s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
    *graph = nullptr;
    if (!s->capture)
        return call.done(cudaErrorIllegalState);
    auto capture = s->capture;
    if (capture->origin != s)
        return call.done(cudaErrorStreamCaptureUnmatched);
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != this_thread())
        return call.done(cudaErrorStreamCaptureWrongThread);
    bool all_joined = joined(*capture);
    for (CUstream_st *one : capture->streams)
        one->capture = nullptr;
    capture->origin = nullptr; /* it has ended */
    if (call.planned || capture->invalid)
        return call.done(cudaErrorStreamCaptureInvalidated);
    if (!all_joined)
        return call.done(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{capture->graph};
    graphs().insert(*graph);
    return call.done(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    RUNTIME_CALL(ANY);
    CUstream_st *s = check_stream(stream, __func__);
    if (!s || !status)
        return call.done(s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
    *status = !s->capture           ? cudaStreamCaptureStatusNone
              : s->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                    : cudaStreamCaptureStatusActive;
    return call.done(cudaSuccess);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n_nodes) {
    RUNTIME_CALL(ANY);
    CUgraph_st *g = check(graphs(), graph, __func__);
    if (!g || nodes || !n_nodes) /* it can count them, no more */
        return call.done(cudaErrorInvalidValue);
    *n_nodes = g->graph->nodes.size();
    return call.done(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags) {
    RUNTIME_CALL(ANY);
    CUgraph_st *g = check(graphs(), graph, __func__);
    if (!g || !exec || flags & ~(unsigned long long)cudaGraphInstantiateFlagUseNodePriority)
        return call.done(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{std::make_shared<Graph>(*g->graph), std::make_shared<bool>(false)};
    execs().insert(*exec);
    return call.done(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    RUNTIME_CALL(RELEASES);
    CUgraph_st *g = check(graphs(), graph, __func__);
    if (!g)
        return call.done(cudaErrorInvalidValue);
    graphs().erase(g);
    delete g;
    return call.done(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    RUNTIME_CALL(RELEASES);
    CUgraphExec_st *e = check(execs(), exec, __func__);
    if (!e)
        return call.done(cudaErrorInvalidValue);
    execs().erase(e);
    delete e;
    return call.done(cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
    RUNTIME_CALL(ANY);
    CUgraphExec_st *e = check(execs(), exec, __func__);
    return call.done(e ? enqueue("graph upload", stream, [] {}) : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    RUNTIME_CALL(ANY);
    CUgraphExec_st *e = check(execs(), exec, __func__);
    CUstream_st *s = check_stream(stream, __func__);
    if (!e || !s)
        return call.done(e ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue);
    if (e->graph->device != s->device) {
        violation("%s: a graph of device %d into a stream of device %d", __func__, e->graph->device, s->device);
        return call.done(cudaErrorInvalidResourceHandle);
    }
    auto graph = e->graph;
    if (s->capture) /* becomes a child graph */
        return call.done(enqueue("graph", stream, [graph] {
            Run run(graph);
            while (!run.step())
                ;
        }));
    auto run = std::make_shared<Run>(graph);
    auto running = e->running, mine = std::make_shared<bool>(false);
    auto step = [run, running, mine] {
        *running = *mine = true;
        bool done = run->step();
        if (done)
            *running = false;
        return done;
    };
    start_work(s, {"graph", step, [running, mine] { return *mine || !*running; }});
    return call.done(cudaSuccess);
}
