/* A GPU as NVML would describe it, for a machine that has none. FAKE_NVML_THROTTLE holds the throttle reasons that it
 * reports, FAKE_NVML_FAIL the status with which it starts. */
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
typedef struct device *device_handle;
typedef struct memory_info {
    unsigned long long total, free, used;
} memory_info;
typedef struct utilization {
    unsigned gpu, memory;
} utilization;
typedef struct process_info {
    unsigned pid;
    unsigned long long used_memory;
    unsigned gpu_instance, compute_instance;
} process_info;

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlShutdown(void);
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned n);
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_handle *device);
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, device_handle *device);
EXPORT int nvmlDeviceGetName(device_handle device, char *text, unsigned n);
EXPORT int nvmlDeviceGetUtilizationRates(device_handle device, utilization *used);
EXPORT int nvmlDeviceGetMemoryInfo(device_handle device, memory_info *memory);
EXPORT int nvmlDeviceGetTemperature(device_handle device, unsigned kind, unsigned *value);
EXPORT int nvmlDeviceGetPowerUsage(device_handle device, unsigned *value);
EXPORT int nvmlDeviceGetEnforcedPowerLimit(device_handle device, unsigned *value);
EXPORT int nvmlDeviceGetClockInfo(device_handle device, unsigned kind, unsigned *value);
EXPORT int nvmlDeviceGetMaxClockInfo(device_handle device, unsigned kind, unsigned *value);
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(device_handle device, unsigned long long *value);
EXPORT int nvmlDeviceGetEccMode(device_handle device, unsigned *current, unsigned *pending);
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(device_handle device, unsigned *n, process_info *processes);
EXPORT int nvmlDeviceGetMemoryBusWidth(device_handle device, unsigned *value);
EXPORT int nvmlDeviceGetNumGpuCores(device_handle device, unsigned *value);
EXPORT int nvmlDeviceGetCudaComputeCapability(device_handle device, int *major, int *minor);

enum { NOT_FOUND = 6, N_DEVICES = 3 };

static unsigned long long variable(const char *name) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 0) : 0;
}

static unsigned index_of(device_handle device) {
    return (unsigned)(size_t)device - 1;
}

static int give(unsigned *place, unsigned value) {
    *place = value;
    return 0;
}

int nvmlInit_v2(void) {
    return (int)variable("FAKE_NVML_FAIL");
}

int nvmlShutdown(void) {
    return 0;
}

int nvmlSystemGetDriverVersion(char *text, unsigned n) {
    snprintf(text, n, "555.42");
    return 0;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 12050;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_handle *device) {
    *device = (device_handle)(size_t)(index + 1);
    return index < N_DEVICES ? 0 : NOT_FOUND;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device_handle *device) {
    return nvmlDeviceGetHandleByIndex_v2((unsigned)(uuid[4] - '0'), device); /* GPU-<index> */
}

int nvmlDeviceGetName(device_handle device, char *text, unsigned n) {
    snprintf(text, n, "Fake GPU %u", index_of(device));
    return 0;
}

int nvmlDeviceGetUtilizationRates(device_handle device, utilization *used) {
    (void)device;
    *used = (utilization){87, 30};
    return 0;
}

int nvmlDeviceGetMemoryInfo(device_handle device, memory_info *memory) {
    (void)device;
    *memory = (memory_info){80ull << 30, 70ull << 30, 10ull << 30};
    return 0;
}

int nvmlDeviceGetTemperature(device_handle device, unsigned kind, unsigned *value) {
    (void)device;
    (void)kind;
    return give(value, 61);
}

int nvmlDeviceGetPowerUsage(device_handle device, unsigned *value) {
    (void)device;
    return give(value, 412000);
}

int nvmlDeviceGetEnforcedPowerLimit(device_handle device, unsigned *value) {
    (void)device;
    return give(value, 700000);
}

int nvmlDeviceGetClockInfo(device_handle device, unsigned kind, unsigned *value) {
    (void)device;
    return give(value, kind == 1 ? 1755 : 2619);
}

int nvmlDeviceGetMaxClockInfo(device_handle device, unsigned kind, unsigned *value) {
    (void)device;
    return give(value, kind == 1 ? 1980 : 3201);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(device_handle device, unsigned long long *value) {
    (void)device;
    *value = variable("FAKE_NVML_THROTTLE");
    return 0;
}

int nvmlDeviceGetEccMode(device_handle device, unsigned *current, unsigned *pending) {
    (void)device;
    *current = *pending = 1;
    return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_handle device, unsigned *n, process_info *processes) {
    (void)device;
    *n = 2;
    processes[0] = (process_info){.pid = (unsigned)getpid()};
    processes[1] = (process_info){.pid = 1};
    return 0;
}

int nvmlDeviceGetMemoryBusWidth(device_handle device, unsigned *value) {
    (void)device;
    return give(value, 6144);
}

int nvmlDeviceGetNumGpuCores(device_handle device, unsigned *value) {
    (void)device;
    return give(value, 132 * 128);
}

int nvmlDeviceGetCudaComputeCapability(device_handle device, int *major, int *minor) {
    (void)device;
    *major = 9;
    *minor = 0;
    return 0;
}
