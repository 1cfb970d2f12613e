/* The fake checks others; this checks the fake: that it computes what it should, and that it notices what it
 * promises. */
#include "check.h"
#include "fake_cuda.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

namespace {

#define OK(call) CHECK((call) == cudaSuccess)

cudaStream_t stream() {
    cudaStream_t s = nullptr;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

template <class T> T *device(size_t n) {
    void *p = nullptr;
    OK(cudaMalloc(&p, n * sizeof(T)));
    return (T *)p;
}

template <class T> T *pinned(size_t n) {
    void *p = nullptr;
    OK(cudaHostAlloc(&p, n * sizeof(T), cudaHostAllocDefault));
    return (T *)p;
}

/* A "kernel". */
void launch(cudaStream_t s, const std::function<void()> &run) {
    OK(fake_cuda_launch("kernel", s, run, nullptr, 0, nullptr));
}

/* How many violations `act` makes. */
int violations(const std::function<void()> &act) {
    fake_cuda_tolerate(1);
    act();
    int n = fake_cuda_violations();
    fake_cuda_tolerate(0);
    return n;
}

bool nothing_held() {
    fake_cuda_state state = fake_cuda_now();
    return !fake_cuda_holds(&state);
}

/* ----------------------------------------------------------------------------------------------------------- memory */

void test_memory() {
    uint8_t *p = device<uint8_t>(100), seen[100], zero = 0;
    CHECK((uintptr_t)p % 256 == 0 && (uintptr_t)p % 512 != 0);
    fake_cuda_peek(seen, p, 100);
    CHECK(seen[0] == 0xff && seen[99] == 0xff);
    CHECK(fake_cuda_now().device_bytes == 100);
    fake_cuda_poke(p + 100, &zero, 1);
    CHECK(violations([&] { cudaFree(p); }) == 1);
    CHECK(violations([&] { cudaFree(p); }) == 1);
    fake_cuda_limit_memory(1000);
    void *large = &zero;
    CHECK(cudaMalloc(&large, 1001) == cudaErrorMemoryAllocation && !large);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
    fake_cuda_limit_memory(0);
    CHECK(nothing_held());
}

/* An address on the host that no launch takes for a small number, or for a bool with padding behind it. */
const int *host_pointer() {
    static char memory[2 << 20];
    uintptr_t p = (uintptr_t)memory;
    while ((uint32_t)p < 1 << 20 || (p & 0xff) != 4)
        p++;
    return (const int *)p;
}

void test_copies() {
    cudaStream_t s = stream();
    int *a = device<int>(4), *b = pinned<int>(4), plain[4] = {1, 2, 3, 4};
    CHECK(violations([&] { cudaMemcpyAsync(a, b, 17, cudaMemcpyHostToDevice, s); }) == 1);
    CHECK(violations([&] { cudaMemcpyAsync(a + 1, b, 16, cudaMemcpyHostToDevice, s); }) == 1);
    CHECK(violations([&] { cudaMemcpyAsync(a, b, 16, cudaMemcpyDeviceToHost, s); }) == 1);
    CHECK(violations([&] { cudaMemcpyAsync(a, plain, 16, cudaMemcpyDeviceToDevice, s); }) == 1);
    CHECK(violations([&] { cudaMemcpyAsync(a, b, 16, cudaMemcpyHostToDevice, nullptr); }) == 1);
    CHECK(violations([&] { cudaMemsetAsync(plain, 0, 16, s); }) == 1);
    CHECK(violations([&] { cudaMemcpy(a, plain, 16, cudaMemcpyHostToDevice); }) == 1);
    const int *argument = host_pointer();
    CHECK(violations([&] {
              fake_cuda_launch(
                  "kernel", s, [] {}, &argument, sizeof argument, nullptr);
          }) == 1);
    argument = a;
    CHECK(violations([&] {
              fake_cuda_launch(
                  "kernel", s, [] {}, &argument, sizeof argument, nullptr);
          }) == 0);
    int grid[2][3] = {{1, 2, 9}, {3, 4, 9}};
    OK(cudaMemcpy2DAsync(a, 8, grid, 12, 8, 2, cudaMemcpyHostToDevice, s));
    OK(cudaMemcpyAsync(b, a, 16, cudaMemcpyDeviceToHost, s));
    OK(cudaStreamSynchronize(s));
    CHECK(b[0] == 1 && b[1] == 2 && b[2] == 3 && b[3] == 4);
    OK(cudaFree(a));
    OK(cudaFreeHost(b));
    OK(cudaStreamDestroy(s));
    CHECK(violations([&] { cudaStreamSynchronize(s); }) == 1);
    CHECK(nothing_held());
}

/* ------------------------------------------------------------------------------------------------------------ order */

/* Pinned memory that is written again before anybody waited: the copy sees the later value. */
void test_reuse() {
    cudaStream_t s = stream();
    int *a = device<int>(1), *b = pinned<int>(1), seen;
    *b = 1;
    OK(cudaMemcpyAsync(a, b, sizeof *b, cudaMemcpyHostToDevice, s));
    *b = 2;
    OK(cudaStreamSynchronize(s));
    fake_cuda_peek(&seen, a, sizeof seen);
    CHECK(seen == 2);
    OK(cudaFree(a));
    OK(cudaFreeHost(b));
    OK(cudaStreamDestroy(s));
}

/* Two streams without, then with an event between them; returns how often the second came first. */
int races(bool with_event) {
    int n = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        fake_cuda_seed(seed);
        cudaStream_t first = stream(), second = stream();
        cudaEvent_t event;
        OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
        int at = 0, came_first = 0, came_second = 0;
        launch(first, [&] { came_first = ++at; });
        OK(cudaEventRecord(event, first));
        if (with_event)
            OK(cudaStreamWaitEvent(second, event, 0));
        launch(second, [&] { came_second = ++at; });
        OK(cudaStreamSynchronize(second));
        OK(cudaStreamSynchronize(first));
        n += came_second < came_first;
        OK(cudaEventDestroy(event));
        OK(cudaStreamDestroy(first));
        OK(cudaStreamDestroy(second));
    }
    fake_cuda_seed(1);
    return n;
}

void test_events() {
    CHECK(races(false) > 0);
    CHECK(races(true) == 0);
    cudaStream_t s = stream();
    cudaEvent_t from, to, blind;
    float ms = -1;
    OK(cudaEventCreate(&from));
    OK(cudaEventCreate(&to));
    OK(cudaEventCreateWithFlags(&blind, cudaEventDisableTiming));
    CHECK(cudaEventElapsedTime(&ms, from, to) == cudaErrorInvalidResourceHandle);
    OK(cudaEventRecord(from, s));
    OK(cudaEventRecord(to, s));
    OK(cudaEventRecord(blind, s));
    CHECK(cudaEventElapsedTime(&ms, from, to) == cudaErrorNotReady);
    OK(cudaEventSynchronize(blind));
    CHECK(cudaEventElapsedTime(&ms, from, to) == cudaSuccess && ms >= 0);
    CHECK(cudaEventElapsedTime(&ms, from, blind) == cudaErrorInvalidResourceHandle);
    for (cudaEvent_t e : {from, to, blind})
        OK(cudaEventDestroy(e));
    OK(cudaStreamDestroy(s));
    cudaGetLastError();
    CHECK(nothing_held());
}

/* ----------------------------------------------------------------------------------------------------------- graphs */

cudaError_t end(cudaStream_t s, cudaGraph_t *graph) {
    return cudaStreamEndCapture(s, graph);
}

/* A diamond: one, then two branches on two streams, then one; replayed in every order that it allows. */
void test_diamond() {
    cudaStream_t s = stream(), side = stream();
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    std::vector<int> order;
    OK(cudaEventCreate(&fork));
    OK(cudaEventCreate(&join));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    launch(s, [&] { order.push_back(0); });
    OK(cudaEventRecord(fork, s));
    OK(cudaStreamWaitEvent(side, fork, 0));
    launch(side, [&] { order.push_back(1); });
    launch(s, [&] { order.push_back(2); });
    OK(cudaEventRecord(join, side));
    OK(cudaStreamWaitEvent(s, join, 0));
    launch(s, [&] { order.push_back(3); });
    OK(end(s, &graph));
    CHECK(order.empty());
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    int ones_first = 0;
    for (int i = 0; i < 40; i++) {
        order.clear();
        OK(cudaGraphLaunch(exec, s));
        OK(cudaStreamSynchronize(s));
        CHECK(order.size() == 4 && order[0] == 0 && order[3] == 3);
        ones_first += order[1] == 1;
    }
    CHECK(ones_first > 0 && ones_first < 40);
    OK(cudaGraphExecDestroy(exec));
    OK(cudaEventDestroy(fork));
    OK(cudaEventDestroy(join));
    OK(cudaStreamDestroy(s));
    OK(cudaStreamDestroy(side));
    CHECK(nothing_held());
}

void test_capture_rules() {
    cudaStream_t s = stream(), side = stream();
    cudaGraph_t graph;
    cudaEvent_t event, timed;
    void *p = nullptr;
    OK(cudaEventCreate(&event));
    OK(cudaEventCreate(&timed));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    CHECK(cudaMalloc(&p, 8) == cudaErrorStreamCaptureUnsupported && !p);
    CHECK(end(s, &graph) == cudaErrorStreamCaptureInvalidated && !graph);
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
    OK(cudaMalloc(&p, 8));
    OK(cudaFree(p));
    CHECK(cudaStreamSynchronize(s) == cudaErrorStreamCaptureUnsupported);
    CHECK(end(s, &graph) == cudaErrorStreamCaptureInvalidated);
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    OK(cudaEventRecord(event, s));
    OK(cudaStreamWaitEvent(side, event, 0));
    launch(side, [] {});
    CHECK(end(s, &graph) == cudaErrorStreamCaptureUnjoined);
    int plain = 0, *there = device<int>(1);
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    CHECK(violations([&] { cudaMemcpyAsync(there, &plain, 4, cudaMemcpyHostToDevice, s); }) == 1);
    OK(cudaEventRecordWithFlags(timed, s, cudaEventRecordExternal));
    OK(end(s, &graph));
    cudaGraphExec_t exec;
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphLaunch(exec, s));
    OK(cudaGraphLaunch(exec, side));
    OK(cudaStreamSynchronize(s));
    OK(cudaStreamSynchronize(side));
    OK(cudaEventSynchronize(timed));
    float ms;
    OK(cudaEventElapsedTime(&ms, timed, timed));
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphExecDestroy(exec));
    OK(cudaFree(there));
    OK(cudaEventDestroy(event));
    OK(cudaEventDestroy(timed));
    OK(cudaStreamDestroy(s));
    OK(cudaStreamDestroy(side));
    cudaGetLastError();
    CHECK(nothing_held());
}

/* --------------------------------------------------------------------------------------------------------- failures */

void test_failures() {
    cudaStream_t s = stream();
    void *p = nullptr;
    fake_cuda_reset();
    fake_cuda_fail("cudaMalloc", 2, cudaErrorNotSupported);
    OK(cudaMalloc(&p, 8));
    OK(cudaFree(p));
    CHECK(!fake_cuda_failed() && cudaMalloc(&p, 8) == cudaErrorNotSupported && fake_cuda_failed());
    CHECK(fake_cuda_calls("cudaMalloc") == 2 && fake_cuda_now().device_waits == 1);
    CHECK(!strcmp(fake_cuda_function(0), "cudaFree") && !strcmp(fake_cuda_function(1), "cudaMalloc"));
    CHECK(fake_cuda_function(2) == nullptr); /* the others cannot fail */
    fake_cuda_fail(nullptr, 1, 0);
    int n;
    CHECK(cudaGetDeviceCount(&n) == cudaErrorUnknown && cudaGetDeviceCount(&n) == cudaSuccess && n == 1);
    fake_cuda_fail_work(2, cudaErrorIllegalAddress);
    int ran = 0;
    for (int i = 0; i < 3; i++)
        launch(s, [&] { ran++; });
    CHECK(cudaStreamSynchronize(s) == cudaErrorIllegalAddress && ran == 1);
    CHECK(cudaMalloc(&p, 8) == cudaErrorIllegalAddress && cudaGetLastError() == cudaErrorIllegalAddress &&
          cudaGetLastError() == cudaErrorIllegalAddress);
    CHECK(cudaStreamDestroy(s) == cudaErrorIllegalAddress);
    CHECK(nothing_held());
    fake_cuda_reset();
    CHECK(cudaGetLastError() == cudaSuccess);
    fake_cuda_fail("cudaGetDevice", 1, cudaErrorECCUncorrectable);
    CHECK(cudaGetDevice(&n) == cudaErrorECCUncorrectable && cudaGetDevice(&n) == cudaErrorECCUncorrectable);
    fake_cuda_reset();
    CHECK(cudaGetDevice(&n) == cudaSuccess);
}

} // namespace

int main() {
    test_memory();
    test_copies();
    test_reuse();
    test_events();
    test_diamond();
    test_capture_rules();
    test_failures();
    return check_report("fake CUDA");
}
