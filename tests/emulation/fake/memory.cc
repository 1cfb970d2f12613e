/* Memory of the device and pinned memory of the host: mapped pages, canaries, poison; copies. */
#include "fake.h"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, n_bytes)   ((void)(address), (void)(n_bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, n_bytes) ((void)(address), (void)(n_bytes))
#endif

namespace fake {
namespace {

/* cudaMalloc promises alignment to 256 bytes at least: no more here, so that more is not relied upon. */
enum : size_t { ALIGNMENT = 256, CANARY_BYTES = 256, PAGE = 4096, FRESH_BYTES = 4 << 20 };
enum : uint8_t { CANARY = 0xa5, FRESH = 0xff };
const int64_t REPORTED_BYTES = 143771ll << 20; /* an H200's */
enum { ALL_DEVICES = -1, NO_DEVICES = -2 };

std::map<uintptr_t, Allocation> &table() { /* by address of its data */
    static auto *t = new std::map<uintptr_t, Allocation>;
    return *t;
}

int64_t memory_limit() {
    static const int64_t from_environment = [] {
        const char *text = getenv("DET_FAKE_CUDA_MEMORY");
        return text ? strtoll(text, nullptr, 0) : 0;
    }();
    return from_environment ? from_environment : REPORTED_BYTES;
}
int64_t set_limit = 0; /* by fake_cuda_limit_memory */
int64_t limit() {
    return set_limit ? set_limit : memory_limit();
}

int64_t device_bytes(int device) {
    int64_t sum = 0;
    for (auto &entry : table())
        if (entry.second.kind == Kind::device && entry.second.device == device)
            sum += (int64_t)entry.second.n_bytes;
    return sum;
}

int accessible = NO_DEVICES;

bool is_open(const Allocation &a, int to) {
    return to == ALL_DEVICES || to == a.device;
}

void protect(char *pages, size_t n_bytes, bool open) {
    if (n_bytes && mprotect(pages, n_bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        abort();
}

/* One call for allocations that lie side by side, as they mostly do: there are hundreds, at every wait. */
void make_accessible(int device) {
    char *pages = nullptr;
    size_t n_bytes = 0;
    bool opens = false;
    for (auto &entry : table()) {
        const Allocation &a = entry.second;
        bool open = is_open(a, device);
        if (a.kind != Kind::device || open == is_open(a, accessible))
            continue;
        if (pages + n_bytes != a.pages || open != opens) {
            protect(pages, n_bytes, opens);
            pages = a.pages;
            n_bytes = 0;
            opens = open;
        }
        n_bytes += a.page_bytes;
    }
    protect(pages, n_bytes, opens);
    accessible = device;
}

char *canary_before(const Allocation &a) {
    return a.data - CANARY_BYTES;
}

void draw_canaries(const Allocation &a) {
    ASAN_UNPOISON_MEMORY_REGION(a.pages, a.page_bytes);
    memset(canary_before(a), CANARY, CANARY_BYTES);
    memset(a.data + a.n_bytes, CANARY, CANARY_BYTES);
    ASAN_POISON_MEMORY_REGION(canary_before(a), CANARY_BYTES);
    ASAN_POISON_MEMORY_REGION(a.data + a.n_bytes, CANARY_BYTES);
}

bool intact(const Allocation &a) {
    bool good = true;
    ASAN_UNPOISON_MEMORY_REGION(canary_before(a), CANARY_BYTES);
    ASAN_UNPOISON_MEMORY_REGION(a.data + a.n_bytes, CANARY_BYTES);
    for (size_t i = 0; i < CANARY_BYTES; i++)
        good &= (uint8_t)canary_before(a)[i] == CANARY && (uint8_t)a.data[a.n_bytes + i] == CANARY;
    ASAN_POISON_MEMORY_REGION(canary_before(a), CANARY_BYTES);
    ASAN_POISON_MEMORY_REGION(a.data + a.n_bytes, CANARY_BYTES);
    return good;
}

/* A file of FRESH bytes: fresh memory is a private copy of it, page by page as it is written to. */
int fresh_file() {
    static const int file = [] {
        std::vector<char> fresh(FRESH_BYTES, (char)FRESH);
        int made = memfd_create("fake_cuda", MFD_CLOEXEC);
        if (made < 0 || write(made, fresh.data(), FRESH_BYTES) != (ssize_t)FRESH_BYTES)
            abort();
        return made;
    }();
    return file;
}

char *map_fresh(size_t n_bytes) {
    void *pages = mmap(nullptr, n_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED)
        return nullptr;
    for (size_t at = 0; at < n_bytes; at += FRESH_BYTES) {
        size_t n = n_bytes - at < FRESH_BYTES ? n_bytes - at : FRESH_BYTES;
        void *part = mmap((char *)pages + at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                          fresh_file(), 0);
        if (part == MAP_FAILED) {
            munmap(pages, n_bytes);
            return nullptr;
        }
    }
    return (char *)pages;
}

/* Data begin at an odd multiple of ALIGNMENT. */
void *take(Kind kind, int device, size_t n_bytes) {
    Allocation a = {kind, device, nullptr, n_bytes, nullptr, 0};
    a.page_bytes = (2 * CANARY_BYTES + n_bytes + ALIGNMENT + PAGE - 1) / PAGE * PAGE;
    a.pages = map_fresh(a.page_bytes);
    if (!a.pages)
        return nullptr;
    a.data = a.pages + CANARY_BYTES;
    draw_canaries(a);
    table()[(uintptr_t)a.data] = a;
    if (kind == Kind::device)
        protect(a.pages, a.page_bytes, is_open(a, accessible));
    return a.data;
}

/* True when `p` was an allocation of this kind. */
bool give_back(Kind kind, void *p, const char *function) {
    auto at = table().find((uintptr_t)p);
    if (at == table().end() || at->second.kind != kind) {
        violation("%s: %p is no allocation of this kind: freed twice, or never taken", function, p);
        return false;
    }
    Allocation a = at->second;
    {
        Access access(ALL_DEVICES);
        if (!intact(a))
            violation("%s: %p of %zu bytes: the bytes around it were overwritten", function, p, a.n_bytes);
        ASAN_UNPOISON_MEMORY_REGION(a.pages, a.page_bytes);
    }
    table().erase(at);
    munmap(a.pages, a.page_bytes);
    return true;
}

} // namespace

Access::Access(int device) : before_(accessible) {
    make_accessible(device);
}
Access::~Access() {
    make_accessible(before_);
}

const Allocation *find(const void *p) {
    auto at = table().upper_bound((uintptr_t)p);
    if (at == table().begin())
        return nullptr;
    const Allocation &a = (--at)->second;
    return (const char *)p < a.pages + a.page_bytes ? &a : nullptr;
}

bool whole(const void *p, size_t n_bytes, const char *what) {
    const Allocation *a = find(p);
    if (!p || (!a && n_bytes && find((const char *)p + n_bytes - 1))) {
        violation("%s: %zu bytes at %p run into an allocation", what, n_bytes, p);
        return false;
    }
    if (a && ((const char *)p < a->data || (const char *)p + n_bytes > a->data + a->n_bytes)) {
        violation("%s: %zu bytes at %p are not within the allocation of %zu bytes at %p", what, n_bytes, p, a->n_bytes,
                  (void *)a->data);
        return false;
    }
    return true;
}

bool on_device(const void *p, size_t n_bytes, int device, size_t alignment, const char *what) {
    const Allocation *a = find(p);
    if (!a || a->kind != Kind::device || a->device != device) {
        violation("%s: %p is not memory of device %d", what, p, device);
        return false;
    }
    if (alignment && (uintptr_t)p % alignment) {
        violation("%s: %p is not aligned to %zu bytes", what, p, alignment);
        return false;
    }
    return whole(p, n_bytes, what);
}

bool canaries_intact() {
    Access access(ALL_DEVICES);
    bool good = true;
    for (auto &entry : table()) {
        if (!intact(entry.second)) {
            violation("the bytes around %p of %zu bytes were overwritten", (void *)entry.second.data,
                      entry.second.n_bytes);
            draw_canaries(entry.second);
            good = false;
        }
    }
    return good;
}

void memory_state(fake_cuda_state *state) {
    for (auto &entry : table()) {
        bool device = entry.second.kind == Kind::device;
        (device ? state->device_allocations : state->host_allocations)++;
        (device ? state->device_bytes : state->host_bytes) += (int64_t)entry.second.n_bytes;
    }
}

/* Where Linux puts stacks, heaps and mappings on 64-bit machines; numbers in arguments are rarely as high. But padding
 * behind a small number may still hold half of an old pointer, and behind a bool nearly all of it. */
bool looks_like_host_pointer(uintptr_t value) {
    bool number = (uint32_t)value < 1 << 20, boolean = (value & 0xff) <= 1;
    if (value >> 32 < 0x5500 || value >> 47 || number || boolean || find((void *)value))
        return false;
    unsigned char resident;
    return mincore((void *)(value / PAGE * PAGE), PAGE, &resident) == 0;
}

} // namespace fake

using namespace fake;

void fake_cuda_limit_memory(int64_t n_bytes) {
    Call call("fake_cuda_limit_memory", Library::runtime, NO_DEVICE);
    set_limit = n_bytes;
}

/* Past a sanitizer, too: tests may write into canaries. */
__attribute__((no_sanitize("address"))) static void copy_bytes(volatile char *to, const volatile char *from, size_t n) {
    Access access(ALL_DEVICES);
    for (size_t i = 0; i < n; i++)
        to[i] = from[i];
}

void fake_cuda_peek(void *host, const void *device, size_t n_bytes) {
    Call call("fake_cuda_peek", Library::runtime, NO_DEVICE);
    copy_bytes((char *)host, (const char *)device, n_bytes);
}

void fake_cuda_poke(void *device, const void *host, size_t n_bytes) {
    Call call("fake_cuda_poke", Library::runtime, NO_DEVICE);
    copy_bytes((char *)device, (const char *)host, n_bytes);
}

/* ---------------------------------------------------------------------------------------------- taking, giving back */

cudaError_t cudaMalloc(void **memory, size_t n_bytes) {
    RUNTIME_CALL(UNSAFE);
    if (!memory)
        return call.done(cudaErrorInvalidValue);
    *memory = nullptr;
    if (n_bytes == 0)
        return cudaSuccess;
    int device = current_device();
    int64_t held = device_bytes(device) + (int64_t)n_bytes;
    if (n_bytes > (size_t)LLONG_MAX / 2 || held > limit())
        return call.done(cudaErrorMemoryAllocation);
    *memory = take(Kind::device, device, n_bytes);
    if (held > counts.peak_bytes)
        counts.peak_bytes = held;
    return call.done(*memory ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *memory) {
    RUNTIME_CALL(UNSAFE | DEVICE_WAIT | RELEASES);
    const Allocation *a = find(memory);
    if (!memory)
        return call.done(cudaSuccess);
    if (call.planned == cudaErrorStreamCaptureUnsupported)
        return call.done(cudaErrorStreamCaptureUnsupported);
    run_all(a ? a->device : current_device());
    return call.done(give_back(Kind::device, memory, __func__) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **memory, size_t n_bytes, unsigned flags) {
    RUNTIME_CALL(UNSAFE);
    if (!memory || flags & ~(cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined))
        return call.done(cudaErrorInvalidValue);
    *memory = n_bytes ? take(Kind::pinned, current_device(), n_bytes) : nullptr;
    return call.done(*memory || !n_bytes ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaMallocHost(void **memory, size_t n_bytes) {
    return cudaHostAlloc(memory, n_bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *memory) {
    RUNTIME_CALL(UNSAFE | DEVICE_WAIT | RELEASES);
    if (!memory)
        return call.done(cudaSuccess);
    if (call.planned == cudaErrorStreamCaptureUnsupported)
        return call.done(cudaErrorStreamCaptureUnsupported);
    run_all(-1);
    return call.done(give_back(Kind::pinned, memory, __func__) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    RUNTIME_CALL(ANY);
    *total = (size_t)limit();
    *free = (size_t)(limit() - device_bytes(current_device()));
    return call.done(cudaSuccess);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags) {
    RUNTIME_CALL(ANY);
    const Allocation *a = find(host);
    if (!device || flags || !a || a->kind != Kind::pinned)
        return call.done(cudaErrorInvalidValue);
    *device = host;
    return call.done(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p) {
    RUNTIME_CALL(ANY);
    if (!attributes)
        return call.done(cudaErrorInvalidValue);
    const Allocation *a = find(p);
    memset(attributes, 0, sizeof *attributes);
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -2; /* what the runtime says of memory that it does not know */
    if (a) {
        attributes->type = a->kind == Kind::device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
        attributes->device = a->device;
        attributes->devicePointer = (void *)(uintptr_t)p;
        attributes->hostPointer = a->kind == Kind::pinned ? (void *)(uintptr_t)p : nullptr;
    } else {
        attributes->hostPointer = (void *)(uintptr_t)p;
    }
    return call.done(cudaSuccess);
}

/* ----------------------------------------------------------------------------------------------------------- copies */

namespace {

Kind kind_of(const void *p) {
    const Allocation *a = find(p);
    return a ? a->kind : Kind::pageable;
}

bool is_host(Kind kind) {
    return kind != Kind::device;
}

/* Does the direction that the caller states fit the memory? */
bool direction_fits(cudaMemcpyKind direction, Kind to, Kind from) {
    switch (direction) {
    case cudaMemcpyDefault:
        return true;
    case cudaMemcpyHostToHost:
        return is_host(to) && is_host(from);
    case cudaMemcpyHostToDevice:
        return !is_host(to) && is_host(from);
    case cudaMemcpyDeviceToHost:
        return is_host(to) && !is_host(from);
    case cudaMemcpyDeviceToDevice:
        return !is_host(to) && !is_host(from);
    }
    return false;
}

struct Rows {
    char *to;
    size_t to_pitch;
    const char *from;
    size_t from_pitch, width, height;
};

void copy(const Rows &r) {
    Access access(-1); /* a copy may reach another device */
    for (size_t i = 0; i < r.height; i++)
        memmove(r.to + i * r.to_pitch, r.from + i * r.from_pitch, r.width);
}

bool rows_good(const Rows &r, cudaMemcpyKind direction, const char *function) {
    size_t to_bytes = (r.height - 1) * r.to_pitch + r.width, from_bytes = (r.height - 1) * r.from_pitch + r.width;
    if (r.to_pitch < r.width || r.from_pitch < r.width || !whole(r.to, to_bytes, function) ||
        !whole(r.from, from_bytes, function))
        return false;
    if (!direction_fits(direction, kind_of(r.to), kind_of(r.from))) {
        violation("%s: direction %d does not fit %p <- %p", function, (int)direction, (void *)r.to,
                  (const void *)r.from);
        return false;
    }
    return true;
}

/* Pageable memory: the runtime may read it at once or later, and may wait or not; so does this, by chance. */
cudaError_t copy_async(Call &call, const Rows &r, cudaMemcpyKind direction, cudaStream_t stream) {
    if (!check_stream(stream, call.function))
        return cudaErrorInvalidResourceHandle;
    if (r.width == 0 || r.height == 0)
        return cudaSuccess;
    if (!rows_good(r, direction, call.function))
        return cudaErrorInvalidValue;
    bool pageable_from = kind_of(r.from) == Kind::pageable, pageable_to = kind_of(r.to) == Kind::pageable;
    if (pageable_from || pageable_to) {
        counts.pageable_copies++;
        if (is_capturing(stream)) {
            violation("%s: a graph would keep a pointer to pageable memory", call.function);
            return cudaErrorStreamCaptureUnsupported;
        }
    }
    if (pageable_from && random_below(2)) {
        auto staged = std::make_shared<std::vector<char>>(r.width * r.height);
        copy({staged->data(), r.width, r.from, r.from_pitch, r.width, r.height});
        return enqueue("copy", stream, [r, staged] {
            copy({r.to, r.to_pitch, staged->data(), r.width, r.width, r.height});
        });
    }
    cudaError_t status = enqueue("copy", stream, [r] { copy(r); });
    if (status == cudaSuccess && pageable_to && random_below(2))
        run_stream(check_stream(stream, call.function));
    return status;
}

} // namespace

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, cudaMemcpyKind direction, cudaStream_t stream) {
    RUNTIME_CALL(ANY);
    return call.done(
        copy_async(call, {(char *)to, n_bytes, (const char *)from, n_bytes, n_bytes, 1}, direction, stream));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind direction, cudaStream_t stream) {
    RUNTIME_CALL(ANY);
    return call.done(
        copy_async(call, {(char *)to, to_pitch, (const char *)from, from_pitch, width, height}, direction, stream));
}

/* Works, but through the default stream, which a library has no business with. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, cudaMemcpyKind direction) {
    RUNTIME_CALL(UNSAFE);
    Rows r = {(char *)to, n_bytes, (const char *)from, n_bytes, n_bytes, 1};
    violation("%s uses the default stream", __func__);
    if (n_bytes == 0)
        return call.done(cudaSuccess);
    if (!rows_good(r, direction, __func__))
        return call.done(cudaErrorInvalidValue);
    run_all(current_device());
    if (work_may_run())
        copy(r);
    return call.done(broken);
}

static cudaError_t set_async(Call &call, void *p, int value, size_t pitch, size_t width, size_t height,
                             cudaStream_t stream) {
    if (!check_stream(stream, call.function))
        return cudaErrorInvalidResourceHandle;
    if (width == 0 || height == 0)
        return cudaSuccess;
    if (kind_of(p) == Kind::pageable || pitch < width || !whole(p, (height - 1) * pitch + width, call.function)) {
        violation("%s: %p is no device memory of %zu rows of %zu bytes", call.function, p, height, width);
        return cudaErrorInvalidValue;
    }
    return enqueue("set", stream, [=] {
        for (size_t i = 0; i < height; i++)
            memset((char *)p + i * pitch, value, width);
    });
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n_bytes, cudaStream_t stream) {
    RUNTIME_CALL(ANY);
    return call.done(set_async(call, p, value, n_bytes, n_bytes, 1, stream));
}

cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
    RUNTIME_CALL(ANY);
    return call.done(set_async(call, p, value, pitch, width, height, stream));
}
