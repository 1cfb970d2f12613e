/* Streams: queues of work, run when somebody waits, in an order drawn by chance among the legal ones. */
#include "stream.h"

#include <cstdlib>
#include <pthread.h>
#include <time.h>

namespace fake {
namespace {

std::set<CUstream_st *> &streams() {
    static auto *s = new std::set<CUstream_st *>;
    return *s;
}

bool ready(const CUstream_st *s) {
    return !s->queue.empty() && (!s->queue.front().ready || s->queue.front().ready());
}

void drop_if_done(CUstream_st *s) {
    if (s->destroyed && s->queue.empty()) {
        streams().erase(s);
        delete s;
    }
}

void advance(CUstream_st *s) {
    bool done;
    {
        Access access(s->device);
        done = s->queue.front().step();
    }
    if (done)
        s->queue.pop_front();
    drop_if_done(s);
}

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
thread_local CUstream_st *per_thread = nullptr; /* cudaStreamPerThread; lives as long as the process */

} // namespace

/* Runs streams until done() says so. How the others get on meanwhile is drawn at every wait: hardly, alike, or
 * first. */
void run_until(const std::function<bool()> &done, CUstream_st *target) {
    enum { ALIKE = 0, TARGET_FIRST = 1, OTHERS_FIRST = 2, N_MOODS };
    uint64_t mood = random_below(N_MOODS);
    Access access(target ? target->device : current_device()); /* not opened and closed for every piece */
    while (!done()) {
        std::vector<CUstream_st *> others;
        for (CUstream_st *s : streams())
            if (s != target && ready(s))
                others.push_back(s);
        bool target_ready = target && ready(target);
        if (others.empty() && !target_ready) {
            violation("waiting for work that waits for what nobody will do");
            return;
        }
        bool prefer_target = target_ready && (mood == TARGET_FIRST || (mood == ALIKE && random_below(2)));
        advance(others.empty() || prefer_target ? target : others[random_below(others.size())]);
    }
    canaries_intact();
}

double now_ms() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

uint64_t this_thread() {
    return (uint64_t)pthread_self();
}

void start_work(CUstream_st *stream, Work work) {
    stream->queue.push_back(std::move(work));
}

void run_stream(CUstream_st *stream) {
    run_until([stream] { return stream->queue.empty(); }, stream);
}

void run_all(int device) {
    auto idle = [device] {
        for (CUstream_st *s : streams())
            if ((device < 0 || s->device == device) && !s->queue.empty())
                return false;
        return true;
    };
    run_until(idle, nullptr);
}

CUstream_st *check_stream(cudaStream_t stream, const char *function) {
    if (stream == cudaStreamPerThread) {
        if (!per_thread)
            per_thread = new CUstream_st{current_device(), cudaStreamNonBlocking, 0, {}, nullptr, {}, false};
        streams().insert(per_thread);
        return per_thread;
    }
    if (stream == nullptr || stream == cudaStreamLegacy) {
        violation("%s uses the default stream", function);
        return nullptr;
    }
    if (!streams().count(stream) || stream->destroyed) {
        violation("%s: %p is no stream", function, (void *)stream);
        return nullptr;
    }
    return stream;
}

bool is_capturing(cudaStream_t stream) {
    CUstream_st *s = check_stream(stream, "is_capturing");
    return s && s->capture;
}

int stream_device(cudaStream_t stream) {
    CUstream_st *s = check_stream(stream, "stream_device");
    return s ? s->device : -1;
}

void invalidate(CUstream_st *stream) {
    if (stream->capture)
        stream->capture->invalid = true;
}

bool capture_forbids() {
    bool forbidden = false;
    if (thread_mode == cudaStreamCaptureModeRelaxed)
        return false;
    for (CUstream_st *s : streams()) {
        if (!s->capture || s->capture->mode == cudaStreamCaptureModeRelaxed)
            continue;
        bool global = s->capture->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal;
        if (global || s->capture->thread == this_thread()) {
            s->capture->invalid = true;
            forbidden = true;
        }
    }
    return forbidden;
}

bool spoils_captures() {
    bool spoiled = false;
    for (CUstream_st *s : streams()) {
        if (s->capture && s->device == current_device())
            s->capture->invalid = spoiled = true;
    }
    return spoiled;
}

cudaError_t enqueue(const char *name, cudaStream_t stream, std::function<void()> run) {
    CUstream_st *s = check_stream(stream, name);
    if (!s)
        return cudaErrorInvalidResourceHandle;
    if (s->capture) {
        if (s->capture->invalid)
            return cudaErrorStreamCaptureInvalidated;
        capture_node(s, name, std::move(run));
        return cudaSuccess;
    }
    auto step = [run] {
        if (work_may_run())
            run();
        return true;
    };
    start_work(s, {name, step, nullptr});
    return cudaSuccess;
}

void stream_state(fake_cuda_state *state) {
    for (CUstream_st *s : streams()) {
        state->streams += !s->destroyed;
        state->pending += (int64_t)s->queue.size();
    }
    event_state(state);
}

} // namespace fake

using namespace fake;

cudaError_t fake_cuda_launch(const char *name, cudaStream_t stream, std::function<void()> run, const void *arguments,
                             size_t n_bytes, const void *kernel) {
    Call call("cudaLaunchKernel", Library::runtime, ANY);
    if (call.planned)
        return call.done((cudaError_t)call.planned);
    CUstream_st *s = check_stream(stream, name);
    if (!s)
        return call.done(cudaErrorInvalidResourceHandle);
    if (s->device != current_device()) {
        violation("%s: launched into a stream of device %d while device %d is current", name, s->device,
                  current_device());
        return call.done(cudaErrorInvalidResourceHandle);
    }
    for (size_t i = 0; i + sizeof(uintptr_t) <= n_bytes; i += sizeof(uintptr_t)) {
        uintptr_t value = *(const uintptr_t *)((const char *)arguments + i);
        if (value != (uintptr_t)kernel && looks_like_host_pointer(value))
            violation("%s: an argument points to host memory at %p", name, (void *)value);
    }
    return call.done(enqueue(name, stream, std::move(run)));
}

static cudaError_t create_stream(Call &call, cudaStream_t *stream, unsigned flags, int priority) {
    if (!stream || flags & ~cudaStreamNonBlocking)
        return call.done(cudaErrorInvalidValue);
    if (!(flags & cudaStreamNonBlocking))
        violation("%s: a stream that waits for the default stream", call.function);
    *stream = new CUstream_st{current_device(), flags, priority, {}, nullptr, {}, false};
    streams().insert(*stream);
    return call.done(cudaSuccess);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    RUNTIME_CALL(ANY);
    return create_stream(call, stream, flags, priority);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    RUNTIME_CALL(ANY);
    return create_stream(call, stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    RUNTIME_CALL(ANY);
    return create_stream(call, stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    RUNTIME_CALL(RELEASES);
    CUstream_st *s = check_stream(stream, __func__);
    if (!s || stream == cudaStreamPerThread)
        return call.done(cudaErrorInvalidResourceHandle);
    if (s->capture)
        violation("%s: the stream is being captured", __func__);
    s->destroyed = true;
    drop_if_done(s);
    return call.done(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    RUNTIME_CALL(UNSAFE);
    CUstream_st *s = check_stream(stream, __func__);
    if (!s)
        return call.done(cudaErrorInvalidResourceHandle);
    if (s->capture) {
        invalidate(s);
        return call.done(cudaErrorStreamCaptureUnsupported);
    }
    run_stream(s);
    return call.done(broken);
}

/* The device gets on by a few steps between two questions. */
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    RUNTIME_CALL(UNSAFE);
    CUstream_st *s = check_stream(stream, __func__);
    if (!s)
        return call.done(cudaErrorInvalidResourceHandle);
    if (s->capture) {
        invalidate(s);
        return call.done(cudaErrorStreamCaptureUnsupported);
    }
    int64_t steps = (int64_t)random_below(4);
    run_until([&] { return s->queue.empty() || steps-- == 0; }, s);
    if (broken != cudaSuccess)
        return call.done(broken);
    return s->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned *flags) {
    RUNTIME_CALL(ANY);
    CUstream_st *s = check_stream(stream, __func__);
    if (s)
        *flags = s->flags;
    return call.done(s ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) {
    RUNTIME_CALL(ANY);
    CUstream_st *s = check_stream(stream, __func__);
    if (s)
        *priority = s->priority;
    return call.done(s ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

#if CUDART_VERSION >= 12080
cudaError_t cudaStreamGetDevice(cudaStream_t stream, int *device) {
    RUNTIME_CALL(ANY);
    CUstream_st *s = check_stream(stream, __func__);
    if (s)
        *device = s->device;
    return call.done(s ? cudaSuccess : cudaErrorInvalidResourceHandle);
}
#endif

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
    RUNTIME_CALL(ANY);
    std::swap(*mode, thread_mode);
    return call.done(cudaSuccess);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *user) {
    RUNTIME_CALL(ANY);
    if (!function)
        return call.done(cudaErrorInvalidValue);
    return call.done(enqueue("host function", stream, [=] {
        inside_host_function = true;
        function(user);
        inside_host_function = false;
    }));
}
