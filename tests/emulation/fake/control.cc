/* Counting calls, failing them by plan, telling violations. */
#include "fake.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include <cublasLt.h>
#include <cudnn_graph.h>

namespace fake {
namespace {

struct Plan {
    std::string function; /* empty: any */
    int64_t k;
    int code;
};

struct Calls {
    int64_t n;
    bool can_fail;
};

struct Control {
    std::recursive_mutex lock;
    std::map<std::string, Calls> calls;
    int64_t n_calls = 0;
    Plan call_plan{}, work_plan{};
    bool call_failed = false;
    bool tolerant = false;
    int violations = 0;
    uint64_t seed = 1;
};

void plan_from_environment(Plan &plan) {
    const char *text = getenv("DET_FAKE_CUDA_FAIL");
    char function[64];
    long long k;
    if (text && sscanf(text, "%63[^:]:%lld:%d", function, &k, &plan.code) == 3) {
        plan.function = function;
        plan.k = k;
    }
}

void check_at_exit() {
    fake_cuda_state state = fake_cuda_now();
    if (fake_cuda_holds(&state))
        violation(
            "still held at exit: %lld allocations of %lld bytes, %lld of host memory, %lld streams, %lld events, "
            "%lld graphs, %lld instances, %lld cuDNN handles, %lld descriptors, %lld cuBLAS handles, %lld descriptors",
            (long long)state.device_allocations, (long long)state.device_bytes, (long long)state.host_allocations,
            (long long)state.streams, (long long)state.events, (long long)state.graphs, (long long)state.graph_execs,
            (long long)state.cudnn_handles, (long long)state.cudnn_descriptors, (long long)state.cublas_handles,
            (long long)state.cublas_descriptors);
}

/* Never destroyed: the library may call until the very end. */
Control &control() {
    static Control *c = [] {
        auto *made = new Control;
        if (const char *seed = getenv("DET_FAKE_CUDA_SEED"))
            made->seed = strtoull(seed, nullptr, 0);
        plan_from_environment(made->call_plan);
        return made;
    }();
    return *c;
}

/* Ordered after what the library does at exit, as far as that can be known: registered with the first call. */
void watch_exit() {
    static bool watched = false;
    if (!watched && getenv("DET_FAKE_CUDA_LEAKS"))
        atexit(check_at_exit);
    watched = true;
}

thread_local cudaError_t last_error = cudaSuccess;

int default_code(Library library) {
    switch (library) {
    case Library::runtime:
        return cudaErrorUnknown;
    case Library::cudnn:
        return CUDNN_STATUS_INTERNAL_ERROR;
    case Library::cublas:
        break;
    }
    return CUBLAS_STATUS_INTERNAL_ERROR;
}

/* What a call of each library answers once the device is broken. */
int broken_code(Library library) {
    switch (library) {
    case Library::runtime:
        return broken;
    case Library::cudnn:
        return CUDNN_STATUS_EXECUTION_FAILED_CUDART;
    case Library::cublas:
        break;
    }
    return CUBLAS_STATUS_EXECUTION_FAILED;
}

/* Errors that the device does not recover from: every later call answers them, too. */
bool lasts(cudaError_t code) {
    switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchTimeout:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorAssert:
        return true;
    default:
        return false;
    }
}

bool due(Plan &plan, const char *function) {
    return plan.k > 0 && (plan.function.empty() || plan.function == function) && --plan.k == 0;
}

} // namespace

Counts counts;
cudaError_t broken = cudaSuccess;
thread_local bool inside_host_function = false;

Call::Call(const char *name, Library library, unsigned traits) : planned(0), function(name), held_(control().lock) {
    Control &c = control();
    watch_exit();
    if (inside_host_function)
        violation("%s is called by a host function of a stream", name);
    Calls &calls = c.calls[name];
    calls.n++;
    calls.can_fail = !(traits & NO_DEVICE);
    c.n_calls++;
    if (traits & DEVICE_WAIT)
        counts.device_waits++;
    if (traits & NO_DEVICE)
        return;
    if (due(c.call_plan, name)) {
        c.call_failed = true;
        planned = c.call_plan.code ? c.call_plan.code : default_code(library);
        if (library == Library::runtime && lasts((cudaError_t)planned))
            broken = (cudaError_t)planned;
    } else if (broken != cudaSuccess) {
        planned = broken_code(library);
    } else if (((traits & SPOILS) && spoils_captures()) || ((traits & UNSAFE) && capture_forbids())) {
        planned = library == Library::runtime ? (int)cudaErrorStreamCaptureUnsupported : default_code(library);
    }
}

cudaError_t Call::done(cudaError_t status) {
    if (planned)
        status = (cudaError_t)planned;
    if (status != cudaSuccess && status != cudaErrorNotReady)
        last_error = status;
    return status;
}

void violation(const char *format, ...) {
    Control &c = control();
    va_list arguments;
    va_start(arguments, format);
    fputs("fake CUDA: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    c.violations++;
    if (!c.tolerant)
        abort();
}

/* SplitMix64 */
uint64_t random() {
    uint64_t x = control().seed += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

bool work_may_run() {
    counts.work++;
    if (broken == cudaSuccess && due(control().work_plan, ""))
        broken = (cudaError_t)control().work_plan.code;
    return broken == cudaSuccess;
}

} // namespace fake

using namespace fake;

/* ----------------------------------------------------------------------------------------------- what tests may ask */

int64_t fake_cuda_calls(const char *function) {
    Control &c = control();
    std::lock_guard<std::recursive_mutex> held(c.lock);
    return function ? c.calls[function].n : c.n_calls;
}

const char *fake_cuda_function(int index) {
    Control &c = control();
    std::lock_guard<std::recursive_mutex> held(c.lock);
    for (auto &entry : c.calls)
        if (entry.second.can_fail && index-- == 0)
            return entry.first.c_str();
    return nullptr;
}

void fake_cuda_fail(const char *function, int64_t k, int code) {
    Control &c = control();
    std::lock_guard<std::recursive_mutex> held(c.lock);
    c.call_plan = {function ? function : "", k, code};
    c.call_failed = false;
}

int fake_cuda_failed(void) {
    std::lock_guard<std::recursive_mutex> held(control().lock);
    return control().call_failed;
}

void fake_cuda_fail_work(int64_t k, cudaError_t code) {
    std::lock_guard<std::recursive_mutex> held(control().lock);
    control().work_plan = {"", k, code};
}

fake_cuda_state fake_cuda_now(void) {
    std::lock_guard<std::recursive_mutex> held(control().lock);
    fake_cuda_state state = {};
    memory_state(&state);
    stream_state(&state);
    graph_state(&state);
    state.cudnn_handles = counts.cudnn_handles;
    state.cudnn_descriptors = counts.cudnn_descriptors;
    state.cublas_handles = counts.cublas_handles;
    state.cublas_descriptors = counts.cublas_descriptors;
    state.peak_bytes = counts.peak_bytes;
    state.work = counts.work;
    state.products = counts.products;
    state.device_waits = counts.device_waits;
    state.pageable_copies = counts.pageable_copies;
    return state;
}

int fake_cuda_holds(const fake_cuda_state *s) {
    return s->device_allocations || s->host_allocations || s->streams || s->events || s->graphs || s->graph_execs ||
           s->cudnn_handles || s->cudnn_descriptors || s->cublas_handles || s->cublas_descriptors || s->pending;
}

void fake_cuda_reset(void) {
    Control &c = control();
    std::lock_guard<std::recursive_mutex> held(c.lock);
    c.calls.clear();
    c.n_calls = 0;
    c.call_plan = {};
    c.work_plan = {};
    c.call_failed = false;
    c.violations = 0;
    broken = cudaSuccess;
    last_error = cudaSuccess;
    counts.work = counts.products = counts.device_waits = counts.pageable_copies = 0;
    fake_cuda_state now = {};
    memory_state(&now);
    counts.peak_bytes = now.device_bytes;
}

void fake_cuda_seed(uint64_t seed) {
    std::lock_guard<std::recursive_mutex> held(control().lock);
    control().seed = seed;
}

void fake_cuda_tolerate(int on) {
    std::lock_guard<std::recursive_mutex> held(control().lock);
    control().tolerant = on;
    control().violations = 0;
}

void fake_cuda_violation(const char *what) {
    std::lock_guard<std::recursive_mutex> held(control().lock);
    violation("%s", what);
}

int fake_cuda_violations(void) {
    std::lock_guard<std::recursive_mutex> held(control().lock);
    return control().violations;
}

/* -------------------------------------------------------------------------------------------- errors, runtime's way */

cudaError_t cudaGetLastError(void) {
    Call call(__func__, Library::runtime, NO_DEVICE);
    cudaError_t status = broken != cudaSuccess ? broken : last_error;
    last_error = cudaSuccess;
    return status;
}

cudaError_t cudaPeekAtLastError(void) {
    Call call(__func__, Library::runtime, NO_DEVICE);
    return broken != cudaSuccess ? broken : last_error;
}

namespace {
#define NAME(code, text)                                                                                               \
    { code, #code, text }
const struct {
    cudaError_t code;
    const char *name, *text;
} error_names[] = {
    NAME(cudaSuccess, "no error"),
    NAME(cudaErrorInvalidValue, "invalid argument"),
    NAME(cudaErrorMemoryAllocation, "out of memory"),
    NAME(cudaErrorInitializationError, "initialization error"),
    NAME(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    NAME(cudaErrorInvalidDevice, "invalid device ordinal"),
    NAME(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    NAME(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    NAME(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    NAME(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    NAME(cudaErrorLaunchFailure, "unspecified launch failure"),
    NAME(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered"),
    NAME(cudaErrorNotReady, "device not ready"),
    NAME(cudaErrorNotPermitted, "operation not permitted"),
    NAME(cudaErrorNotSupported, "operation not supported"),
    NAME(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    NAME(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    NAME(cudaErrorStreamCaptureUnjoined, "capture sequence contains a fork that was not joined to the primary stream"),
    NAME(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    NAME(cudaErrorUnknown, "unknown error"),
};
#undef NAME
} // namespace

const char *cudaGetErrorName(cudaError_t error) {
    for (auto &row : error_names)
        if (row.code == error)
            return row.name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
    for (auto &row : error_names)
        if (row.code == error)
            return row.text;
    return "unrecognized error code";
}
