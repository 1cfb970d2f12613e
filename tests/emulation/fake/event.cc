/* Events: recorded when their stream gets there; inside a capture they stand for what was captured before them. */
#include "stream.h"

#include <algorithm>

namespace fake {
namespace {

std::set<CUevent_st *> &events() {
    static auto *e = new std::set<CUevent_st *>;
    return *e;
}

CUevent_st *check_event(cudaEvent_t event, const char *function) {
    if (events().count(event))
        return event;
    violation("%s: %p is no event", function, (void *)event);
    return nullptr;
}

void add_nodes(std::vector<int> &to, const std::vector<int> &from) {
    for (int node : from)
        if (std::find(to.begin(), to.end(), node) == to.end())
            to.push_back(node);
}

/* What happens on the device when a stream comes to the record. */
std::function<void()> recorder(const std::shared_ptr<Moments> &moments) {
    return [moments] {
        moments->n_done = std::min(moments->n_done + 1, moments->n_asked);
        moments->ms = now_ms();
    };
}

cudaError_t record(Call &call, cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    CUevent_st *e = check_event(event, call.function);
    CUstream_st *s = check_stream(stream, call.function);
    if (!e || !s || e->device != s->device)
        return cudaErrorInvalidResourceHandle;
    if (flags & ~cudaEventRecordExternal)
        return cudaErrorInvalidValue;
    auto moments = e->moments;
    if (s->capture && s->capture->invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (s->capture && flags & cudaEventRecordExternal) {
        capture_node(s, "event record", [moments] {
            moments->n_done = ++moments->n_asked;
            moments->ms = now_ms();
        });
        return cudaSuccess;
    }
    if (s->capture) {
        e->capture = s->capture;
        e->captured = s->frontier;
        return cudaSuccess;
    }
    if (flags & cudaEventRecordExternal) /* of use in a capture alone */
        return cudaErrorIllegalState;
    e->capture = nullptr;
    moments->n_asked++;
    auto note = recorder(moments);
    start_work(s, {"event record",
                   [note] {
                       note();
                       return true;
                   },
                   nullptr});
    return cudaSuccess;
}

/* A stream that waits for what another captured joins its capture. */
cudaError_t wait_captured(CUstream_st *s, CUevent_st *e) {
    if (!e->capture->origin) {
        violation("a wait for an event that a finished capture recorded");
        return cudaErrorCapturedEvent;
    }
    if (s->capture && s->capture != e->capture) {
        invalidate(s);
        return cudaErrorStreamCaptureMerge;
    }
    if (!s->capture) {
        s->capture = e->capture;
        s->capture->streams.insert(s);
        s->frontier.clear();
    }
    add_nodes(s->frontier, e->captured);
    return cudaSuccess;
}

} // namespace

void event_state(fake_cuda_state *state) {
    state->events = (int64_t)events().size();
}

} // namespace fake

using namespace fake;

static cudaError_t create_event(Call &call, cudaEvent_t *event, unsigned flags) {
    if (!event || flags & ~(cudaEventBlockingSync | cudaEventDisableTiming))
        return call.done(cudaErrorInvalidValue);
    *event = new CUevent_st{current_device(), flags, std::make_shared<Moments>(), nullptr, {}};
    events().insert(*event);
    return call.done(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    RUNTIME_CALL(ANY);
    return create_event(call, event, flags);
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    RUNTIME_CALL(ANY);
    return create_event(call, event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    RUNTIME_CALL(RELEASES);
    CUevent_st *e = check_event(event, __func__);
    if (!e)
        return call.done(cudaErrorInvalidResourceHandle);
    events().erase(e);
    delete e;
    return call.done(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    RUNTIME_CALL(ANY);
    return call.done(record(call, event, stream, cudaEventRecordDefault));
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    RUNTIME_CALL(ANY);
    return call.done(record(call, event, stream, flags));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    RUNTIME_CALL(ANY);
    CUevent_st *e = check_event(event, __func__);
    CUstream_st *s = check_stream(stream, __func__);
    if (!e || !s)
        return call.done(cudaErrorInvalidResourceHandle);
    if (e->capture)
        return call.done(wait_captured(s, e));
    if (s->capture) {
        violation("%s: a stream that is captured waits for an event that is not%s", __func__,
                  flags ? " (external waits are not supported by the fake)" : "");
        invalidate(s);
        return call.done(cudaErrorStreamCaptureIsolation);
    }
    auto moments = e->moments;
    int64_t wanted = moments->n_asked;
    start_work(s, {"event wait", [] { return true; }, [moments, wanted] { return moments->n_done >= wanted; }});
    return call.done(cudaSuccess);
}

/* Common to queries and waits: NULL when the event can be asked. */
static cudaError_t askable(CUevent_st *e) {
    if (!e)
        return cudaErrorInvalidResourceHandle;
    if (!e->capture)
        return cudaSuccess;
    if (e->capture->origin)
        e->capture->invalid = true;
    return cudaErrorCapturedEvent;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    RUNTIME_CALL(UNSAFE);
    CUevent_st *e = check_event(event, __func__);
    cudaError_t status = askable(e);
    if (status != cudaSuccess)
        return call.done(status);
    auto moments = e->moments;
    int64_t wanted = moments->n_asked;
    run_until([moments, wanted] { return moments->n_done >= wanted; }, nullptr);
    return call.done(broken);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    RUNTIME_CALL(UNSAFE);
    CUevent_st *e = check_event(event, __func__);
    cudaError_t status = askable(e);
    if (status != cudaSuccess)
        return call.done(status);
    int64_t steps = (int64_t)random_below(4);
    auto moments = e->moments;
    run_until([&] { return moments->n_done >= moments->n_asked || steps-- == 0; }, nullptr);
    if (broken != cudaSuccess)
        return call.done(broken);
    return moments->n_done >= moments->n_asked ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    RUNTIME_CALL(ANY);
    CUevent_st *a = check_event(from, __func__), *b = check_event(to, __func__);
    if (!ms || !a || !b)
        return call.done(ms ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue);
    bool timed = !((a->flags | b->flags) & cudaEventDisableTiming), asked = a->moments->n_asked && b->moments->n_asked;
    if (!timed || !asked || a->device != b->device)
        return call.done(cudaErrorInvalidResourceHandle);
    if (a->moments->n_done < a->moments->n_asked || b->moments->n_done < b->moments->n_asked)
        return cudaErrorNotReady;
    *ms = (float)(b->moments->ms - a->moments->ms);
    return call.done(cudaSuccess);
}
