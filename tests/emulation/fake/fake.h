/* Inside the fake: what its files share. Everything below is called with the lock of a Call held. */
#ifndef DET_FAKE_H
#define DET_FAKE_H

#include "fake_cuda.h"

#include <library_types.h>

#include <cstdarg>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace fake {

/* ----------------------------------------------------------------------------------------- calls and their failures */

enum class Library { runtime, cudnn, cublas };

/* What a call may do, for the rules of capture and of broken devices. */
enum Trait : unsigned {
    ANY = 0,
    UNSAFE = 1,      /* not while somebody captures a stream, unless in relaxed mode */
    DEVICE_WAIT = 2, /* waits for the whole device */
    RELEASES = 4,    /* gives something back: does so on a broken device and under a planned failure, too */
    NO_DEVICE = 8,   /* works on a broken device, and cannot fail by plan */
    SPOILS = 16,     /* not while anybody captures a stream of the current device, in whatever mode: it spoils that */
};

/* One per API function: takes the lock, counts, and says whether the call fails before it begins. */
class Call {
  public:
    Call(const char *function, Library library, unsigned traits);
    int planned; /* status to return, 0: go on */
    /* For runtime functions: remembers a failure as the thread's last error. */
    cudaError_t done(cudaError_t status);
    const char *function;

  private:
    std::unique_lock<std::recursive_mutex> held_;
};

#define RUNTIME_CALL(traits)                                                                                           \
    fake::Call call(__func__, fake::Library::runtime, traits);                                                         \
    if (call.planned && !((traits)&fake::RELEASES))                                                                    \
    return call.done((cudaError_t)call.planned)

/* Prints, and ends the process unless violations are tolerated. */
__attribute__((format(printf, 1, 2))) void violation(const char *format, ...);

struct Counts {
    int64_t work, products, device_waits, pageable_copies, peak_bytes;
    int64_t cudnn_handles, cudnn_descriptors, cublas_handles, cublas_descriptors; /* held now */
};
extern Counts counts;

uint64_t random(); /* of the seed */
inline uint64_t random_below(uint64_t n) {
    return random() % n;
}

extern cudaError_t broken;                     /* the sticky error, or cudaSuccess */
extern thread_local bool inside_host_function; /* which must not call CUDA */
/* Before a piece of work: counts it; false when the device is broken, perhaps just now by plan. */
bool work_may_run();

/* ----------------------------------------------------------------------------------------------------------- memory */

enum class Kind { pageable, pinned, device };

struct Allocation {
    Kind kind;
    int device;
    char *data; /* n_bytes, between canaries */
    size_t n_bytes;
    char *pages;
    size_t page_bytes;
};

/* The allocation that `p` lies in, or NULL. */
const Allocation *find(const void *p);
/* Checks that [p, p + n_bytes) is whole: inside one allocation, or outside all. A violation naming `what` if not. */
bool whole(const void *p, size_t n_bytes, const char *what);
/* ... and device memory of `device`, aligned so. */
bool on_device(const void *p, size_t n_bytes, int device, size_t alignment, const char *what);
bool canaries_intact(); /* of all; a violation each */
void memory_state(fake_cuda_state *state);
bool looks_like_host_pointer(uintptr_t value);

/* Device memory can be touched while one of these lives; `device` -1: of all. */
class Access {
  public:
    explicit Access(int device);
    ~Access();
    Access(const Access &) = delete;

  private:
    int before_;
};

/* ----------------------------------------------------------------------------------------------- streams and graphs */

int current_device(); /* of this thread */
int n_devices();

/* Puts a piece of work into a stream, or into the graph that it captures. */
cudaError_t enqueue(const char *name, cudaStream_t stream, std::function<void()> run);
/* NULL with a violation for the default stream and dead handles. */
CUstream_st *check_stream(cudaStream_t stream, const char *function);
bool is_capturing(cudaStream_t stream);
int stream_device(cudaStream_t stream);
/* Somebody captures in a mode that forbids unsafe calls of this thread: invalidates the capture. */
bool capture_forbids();
bool spoils_captures();   /* of the current device; whether there are any */
void run_all(int device); /* until nothing is queued; -1: on any device */
void run_stream(CUstream_st *stream);
void stream_state(fake_cuda_state *state);
void graph_state(fake_cuda_state *state);

/* ---------------------------------------------------------------------------------------------------------- numbers */

size_t type_bytes(cudaDataType type); /* CUDA_R_32F, 16F, 16BF */
float load(cudaDataType type, const void *p, int64_t index);
void store(cudaDataType type, void *p, int64_t index, float value); /* rounds to nearest even */
float round_tf32(float value);                                      /* to nearest even, 10 bits */

} // namespace fake

#endif
