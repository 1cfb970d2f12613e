/* The emulator itself: what it computes, and that it sees the mistakes that it is there to see. */
#include "common.cuh"

#include "check.h"
#include "emulator_asan.h"

#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

enum { THREADS = 96 };

/* Every thread adds what the others left in shared memory, the other way round. */
__global__ void __launch_bounds__(THREADS) reverse(const int *x, int *y) {
    DET_SHARED(tile, int[THREADS]);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = x[i];
    __syncthreads();
    y[i] = tile[THREADS - 1 - threadIdx.x];
}

__global__ void __launch_bounds__(THREADS) without_barrier(const int *x, int *y) {
    DET_SHARED(tile, int[THREADS]);
    tile[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = tile[THREADS - 1 - threadIdx.x];
}

__global__ void __launch_bounds__(THREADS) some_leave(int *y) {
    if (threadIdx.x > 5)
        return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

__global__ void __launch_bounds__(THREADS) two_barriers(int *y) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads(); /* another line */
    y[threadIdx.x] = 1;
}

__global__ void __launch_bounds__(THREADS) missing_lane(float *y) {
    if (threadIdx.x == 3)
        return;
    y[threadIdx.x] = det::warp_sum(1);
}

__global__ void __launch_bounds__(THREADS) beyond_dynamic(int *y, int at) {
    DET_DYNAMIC_SHARED(bytes);
    bytes[at] = 1;
    y[0] = bytes[at];
}

__global__ void __launch_bounds__(THREADS) too_much(int *y) {
    DET_SHARED(tile, int[13 * 1024]);
    tile[threadIdx.x] = 1;
    y[threadIdx.x] = tile[threadIdx.x];
}

/* Lanes of both halves are in the exchange at different times. */
__global__ void __launch_bounds__(THREADS) exchanges(int *y) {
    int lane = det::lane_index(), n = 0;
    n += __popc(__ballot_sync(det::EVERY_LANE, lane % 3 == 0));
    if (lane < 16)
        n += 100 * __shfl_down_sync(0xffffu, lane, 1, 16);
    else
        n += 1000 * __shfl_up_sync(0xffff0000u, lane, 2, 16);
    n += 100000 * __shfl_xor_sync(det::EVERY_LANE, lane, 1);
    y[threadIdx.x] = n + 10000000 * __shfl_sync(det::EVERY_LANE, lane / 8, 9);
}

__global__ void __launch_bounds__(32) static_and_dynamic(int *y) {
    DET_SHARED(room, int[40 * 256]);
    room[threadIdx.x] = 1;
    y[0] = room[0];
}

__global__ void __launch_bounds__(1024) count(int *n) {
    for (int i = 0; i < 8; i++)
        __syncthreads();
    atomicAdd(n, 1);
}

__global__ void __launch_bounds__(1) order_of_blocks(int *at, int *y) {
    y[(*at)++] = (int)blockIdx.x;
}

void test_results(unsigned order) {
    emulation_set_order(order);
    std::vector<int> x(3 * THREADS), y(3 * THREADS, -1);
    for (int i = 0; i < 3 * THREADS; i++)
        x[i] = i;
    CHECK(DET_LAUNCH(reverse, 3, THREADS, 0, nullptr, x.data(), y.data()) == cudaSuccess);
    for (int i = 0; i < 3 * THREADS; i++)
        CHECK(y[i] == i / THREADS * THREADS + THREADS - 1 - i % THREADS);
    CHECK(DET_LAUNCH(exchanges, 1, THREADS, 0, nullptr, y.data()) == cudaSuccess);
    for (int i = 0; i < THREADS; i++) {
        int lane = i % 32, half = lane < 16 ? 100 * (lane == 15 ? 15 : lane + 1) : 1000 * (lane < 18 ? lane : lane - 2);
        CHECK_MSG(y[i] == 11 + half + 100000 * (lane ^ 1) + 10000000, "lane %d has %d", lane, y[i]);
    }
    int n = 0;
    CHECK(DET_LAUNCH(count, dim3(2, 3, 2), dim3(8, 16, 8), 0, nullptr, &n) == cudaSuccess);
    CHECK(n == 12 * 1024);
    CHECK(!emulation_failure());
}

void test_orders() {
    int seen[3][16];
    for (unsigned order = 0; order < 3; order++) {
        int at = 0;
        emulation_set_order(order);
        CHECK(DET_LAUNCH(order_of_blocks, 16, 1, 0, nullptr, &at, seen[order]) == cudaSuccess && at == 16);
    }
    CHECK(seen[0][0] == 0 && seen[0][15] == 15 && seen[1][0] == 15 && seen[1][15] == 0);
    CHECK(memcmp(seen[2], seen[0], sizeof seen[2]) != 0 && memcmp(seen[2], seen[1], sizeof seen[2]) != 0);
    int x[THREADS], y[2][THREADS];
    for (int i = 0; i < THREADS; i++)
        x[i] = i;
    for (unsigned order = 0; order < 2; order++) {
        emulation_set_order(order);
        CHECK(DET_LAUNCH(without_barrier, 1, THREADS, 0, nullptr, x, y[order]) == cudaSuccess);
    }
    CHECK(memcmp(y[0], y[1], sizeof y[0]) != 0); /* a race shows */
    emulation_set_order(0);
}

/* The launch must fail, for that reason, and the next must not run before the failure is fetched. */
#define CHECK_FAILS(reason, launch)                                                                                    \
    do {                                                                                                               \
        CHECK((launch) != cudaSuccess);                                                                                \
        int ran = 0;                                                                                                   \
        CHECK(DET_LAUNCH(count, 1, 32, 0, nullptr, &ran) == cudaErrorLaunchFailure && ran == 0);                       \
        const char *failure = emulation_failure();                                                                     \
        CHECK_MSG(failure &&strstr(failure, reason), "%s", failure ? failure : "no failure");                          \
        CHECK(!emulation_failure());                                                                                   \
    } while (0)

void test_failures() {
    std::vector<int> y(THREADS);
    std::vector<float> sums(THREADS);
    CHECK_FAILS("waits in vain", DET_LAUNCH(some_leave, 1, THREADS, 0, nullptr, y.data()));
    CHECK_FAILS("different barriers", DET_LAUNCH(two_barriers, 1, THREADS, 0, nullptr, y.data()));
    CHECK_FAILS("waits in vain", DET_LAUNCH(missing_lane, 1, THREADS, 0, nullptr, sums.data()));
    CHECK_FAILS("mask", DET_LAUNCH(exchanges, 1, 40, 0, nullptr, y.data()));
    CHECK_FAILS("53248 static", DET_LAUNCH(too_much, 1, 32, 0, nullptr, y.data()));
    CHECK_FAILS("40960 static and 9216 dynamic", DET_LAUNCH(static_and_dynamic, 1, 32, 9 * 1024, nullptr, y.data()));
    CHECK(DET_LAUNCH(static_and_dynamic, 1, 32, 8 * 1024, nullptr, y.data()) == cudaSuccess);
    CHECK(DET_LAUNCH(static_and_dynamic, 1, 32, 49 * 1024, nullptr, y.data()) == cudaSuccess);
    CHECK_FAILS("shared memory", DET_LAUNCH(count, 1, 32, 100 * 1024, nullptr, y.data()));
    CHECK_FAILS("threads", DET_LAUNCH(count, 1, 1025, 0, nullptr, y.data()));
    CHECK_FAILS("a grid of 0", DET_LAUNCH(count, 0, 32, 0, nullptr, y.data()));
    CHECK_FAILS("65536 blocks", DET_LAUNCH(count, dim3(1, 1, 65536), 32, 0, nullptr, y.data()));
    CHECK(DET_LAUNCH(beyond_dynamic, 1, 1, 100, nullptr, y.data(), 99) == cudaSuccess);
#ifndef SANITIZED /* there, it would end the program */
    CHECK_FAILS("beyond an object", DET_LAUNCH(beyond_dynamic, 1, 1, 100, nullptr, y.data(), 100));
#endif
}

#ifdef SANITIZED
__global__ void __launch_bounds__(1) read_at(const int *x, int i, int *y) {
    y[0] = x[i];
}

/* A kernel that reads beyond its memory ends the program. */
void test_reads_beyond() {
    int *x = (int *)emulation_memory(5 * sizeof(int)), y;
    CHECK(DET_LAUNCH(read_at, 1, 1, 0, nullptr, x, 4, &y) == cudaSuccess);
    for (int i : {-1, 5, 63}) {
        pid_t child = fork();
        if (child == 0) {
            fclose(stderr);
            (void)DET_LAUNCH(read_at, 1, 1, 0, nullptr, x, i, &y);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && status != 0);
    }
    CHECK(emulation_memory_intact(x));
    emulation_memory_free(x);
}
#endif

/* Every half and bfloat16 comes back from float, and rounding goes to the nearest, ties to even. */
void test_elements() {
    for (unsigned bits = 0; bits < 0x10000; bits++) {
        __half h = {(unsigned short)bits};
        float x = __half2float(h);
        CHECK(x != x ? (bits & 0x7fff) > 0x7c00 : __float2half_rn(x).bits == bits);
        __nv_bfloat16 b = {(unsigned short)bits};
        x = __bfloat162float(b);
        CHECK(x != x ? (bits & 0x7fff) > 0x7f80 : __float2bfloat16_rn(x).bits == bits);
        if (bits < 0x7bff) { /* halfway to the next half */
            float next = __half2float({(unsigned short)(bits + 1)}), here = __half2float(h),
                  between = (here + next) / 2;
            CHECK(__float2half_rn(between).bits == bits + (bits & 1));
            CHECK(__float2half_rn(nextafterf(between, next)).bits == bits + 1);
            CHECK(__float2half_rn(nextafterf(between, here)).bits == bits);
        }
    }
    CHECK(__half2float({0x3c00}) == 1 && __half2float({0xc000}) == -2 && __half2float({1}) == 0x1p-24f);
    CHECK(__float2half_rn(65519).bits == 0x7bff && __float2half_rn(65520).bits == 0x7c00);
    float x[8], y[8];
    for (int i = 0; i < 8; i++)
        x[i] = (float)(i * i) - 10.5f;
    det::unpack<__half>(det::pack<__half>(x), y);
    CHECK(memcmp(x, y, sizeof x) == 0);
    det::unpack<__nv_bfloat16>(det::pack<__nv_bfloat16>(x), y);
    CHECK(memcmp(x, y, sizeof x) == 0);
    float u[4], v[4] = {1.5f, -2, 3e30f, 0};
    det::unpack<float>(det::pack<float>(v), u);
    CHECK(memcmp(u, v, sizeof u) == 0);
}

} // namespace

int main() {
    for (unsigned order = 0; order < 4; order++)
        test_results(order);
    test_orders();
    test_failures();
#ifdef SANITIZED
    test_reads_beyond();
#endif
    test_elements();
    return check_report("emulator");
}
