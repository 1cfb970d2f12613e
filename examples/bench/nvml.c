#include "nvml.h"

#include <libdetect/detect.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As the library's interface has them; its header is not needed to build. */
typedef struct device *device_handle;
enum { SUCCESS = 0, CLOCK_SM = 1, CLOCK_MEMORY = 2, TEMPERATURE_GPU = 0, MOST_PROCESSES = 256 };

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

struct nvml {
    void *library;
    device_handle device;
    int (*shut_down)(void);
    int (*driver_version)(char *, unsigned);
    int (*cuda_version)(int *);
    int (*name)(device_handle, char *, unsigned);
    int (*utilization)(device_handle, utilization *);
    int (*memory)(device_handle, memory_info *);
    int (*temperature)(device_handle, unsigned, unsigned *);
    int (*power)(device_handle, unsigned *);
    int (*power_cap)(device_handle, unsigned *);
    int (*clock)(device_handle, unsigned, unsigned *);
    int (*max_clock)(device_handle, unsigned, unsigned *);
    int (*throttle)(device_handle, unsigned long long *);
    int (*ecc)(device_handle, unsigned *, unsigned *);
    int (*processes)(device_handle, unsigned *, process_info *);
    int (*bus)(device_handle, unsigned *);
    int (*cores)(device_handle, unsigned *);
    int (*capability)(device_handle, int *, int *);
};

/* ------------------------------------------------------------------------------------------------------- opening */

/* Functions that an older driver does not have stay NULL. */
static void find_functions(nvml *gpu) {
    const struct {
        const char *name;
        void *place;
    } wanted[] = {
        {"nvmlShutdown", &gpu->shut_down},
        {"nvmlSystemGetDriverVersion", &gpu->driver_version},
        {"nvmlSystemGetCudaDriverVersion_v2", &gpu->cuda_version},
        {"nvmlDeviceGetName", &gpu->name},
        {"nvmlDeviceGetUtilizationRates", &gpu->utilization},
        {"nvmlDeviceGetMemoryInfo", &gpu->memory},
        {"nvmlDeviceGetTemperature", &gpu->temperature},
        {"nvmlDeviceGetPowerUsage", &gpu->power},
        {"nvmlDeviceGetEnforcedPowerLimit", &gpu->power_cap},
        {"nvmlDeviceGetClockInfo", &gpu->clock},
        {"nvmlDeviceGetMaxClockInfo", &gpu->max_clock},
        {"nvmlDeviceGetCurrentClocksThrottleReasons", &gpu->throttle},
        {"nvmlDeviceGetEccMode", &gpu->ecc},
        {"nvmlDeviceGetComputeRunningProcesses_v3", &gpu->processes},
        {"nvmlDeviceGetMemoryBusWidth", &gpu->bus},
        {"nvmlDeviceGetNumGpuCores", &gpu->cores},
        {"nvmlDeviceGetCudaComputeCapability", &gpu->capability},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        void *function = dlsym(gpu->library, wanted[i].name);
        memcpy(wanted[i].place, &function, sizeof function); /* POSIX: a data pointer holds a function's */
    }
}

/* The entry of CUDA_VISIBLE_DEVICES that a CUDA device stands for: an index or a UUID. */
static void visible_device(int cuda_index, char entry[96]) {
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    snprintf(entry, 96, "%d", cuda_index);
    if (list == NULL)
        return;
    for (int i = 0; i < cuda_index && list != NULL; i++) {
        list = strchr(list, ',');
        list = list != NULL ? list + 1 : NULL;
    }
    if (list != NULL)
        snprintf(entry, 96, "%.*s", (int)strcspn(list, ","), list);
}

static bool find_device(nvml *gpu, int cuda_index, const char *uuid) {
    int (*by_index)(unsigned, device_handle *), (*by_uuid)(const char *, device_handle *);
    *(void **)&by_index = dlsym(gpu->library, "nvmlDeviceGetHandleByIndex_v2");
    *(void **)&by_uuid = dlsym(gpu->library, "nvmlDeviceGetHandleByUUID");
    char entry[96];
    if (uuid[0] != '\0')
        snprintf(entry, sizeof entry, "%s", uuid);
    else
        visible_device(cuda_index, entry);
    if (strncmp(entry, "GPU-", 4) == 0 || strncmp(entry, "MIG-", 4) == 0)
        return by_uuid != NULL && by_uuid(entry, &gpu->device) == SUCCESS;
    return by_index != NULL && by_index((unsigned)atoi(entry), &gpu->device) == SUCCESS;
}

nvml *nvml_open(int cuda_index, const char *uuid, char reason[128]) {
    nvml *gpu = calloc(1, sizeof *gpu);
    reason[0] = '\0';
    if (gpu == NULL) {
        snprintf(reason, 128, "out of memory");
        return NULL;
    }
    gpu->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (gpu->library == NULL) {
        snprintf(reason, 128, "libnvidia-ml.so.1 is not on this machine");
        free(gpu);
        return NULL;
    }
    int (*start)(void);
    *(void **)&start = dlsym(gpu->library, "nvmlInit_v2");
    int status = start != NULL ? start() : -1;
    find_functions(gpu);
    if (status == SUCCESS && find_device(gpu, cuda_index, uuid))
        return gpu;
    if (status == SUCCESS && uuid[0] != '\0')
        snprintf(reason, 128, "NVML has no device %s", uuid);
    else if (status == SUCCESS)
        snprintf(reason, 128, "NVML has no device for cuda:%d", cuda_index);
    else
        snprintf(reason, 128, "NVML does not start: error %d", status);
    if (status != SUCCESS)
        gpu->shut_down = NULL;
    nvml_close(gpu);
    return NULL;
}

void nvml_close(nvml *gpu) {
    if (gpu == NULL)
        return;
    if (gpu->shut_down != NULL)
        gpu->shut_down();
    dlclose(gpu->library);
    free(gpu);
}

/* ------------------------------------------------------------------------------------------------------- reading */

/* Negative where a function is missing or fails. */
static double ask(const nvml *gpu, int (*function)(device_handle, unsigned *)) {
    unsigned value;
    return function != NULL && function(gpu->device, &value) == SUCCESS ? (double)value : -1;
}

static double ask_kind(const nvml *gpu, int (*function)(device_handle, unsigned, unsigned *), unsigned kind) {
    unsigned value;
    return function != NULL && function(gpu->device, kind, &value) == SUCCESS ? (double)value : -1;
}

static double milli(double value) {
    return value >= 0 ? 1e-3 * value : value;
}

static int count_others(const nvml *gpu) {
    static process_info processes[MOST_PROCESSES];
    unsigned n = MOST_PROCESSES;
    if (gpu->processes == NULL || gpu->processes(gpu->device, &n, processes) != SUCCESS)
        return -1;
    int n_others = 0;
    for (unsigned i = 0; i < n && i < MOST_PROCESSES; i++)
        n_others += processes[i].pid != (unsigned)getpid();
    return n_others;
}

void nvml_describe(const nvml *gpu, nvml_description *d) {
    *d = (nvml_description){.cuda_version = -1, .capability = -1, .ecc = -1, .memory_bytes = -1};
    memory_info memory;
    unsigned current, pending;
    int major, minor;
    if (gpu->name != NULL && gpu->name(gpu->device, d->name, sizeof d->name) != SUCCESS)
        d->name[0] = '\0';
    if (gpu->driver_version != NULL && gpu->driver_version(d->driver, sizeof d->driver) != SUCCESS)
        d->driver[0] = '\0';
    if (gpu->cuda_version != NULL && gpu->cuda_version(&d->cuda_version) != SUCCESS)
        d->cuda_version = -1;
    if (gpu->ecc != NULL && gpu->ecc(gpu->device, &current, &pending) == SUCCESS)
        d->ecc = current != 0;
    if (gpu->memory != NULL && gpu->memory(gpu->device, &memory) == SUCCESS)
        d->memory_bytes = (double)memory.total;
    if (gpu->capability != NULL && gpu->capability(gpu->device, &major, &minor) == SUCCESS)
        d->capability = 10 * major + minor;
    d->power_cap_w = milli(ask(gpu, gpu->power_cap));
    d->max_sm_mhz = ask_kind(gpu, gpu->max_clock, CLOCK_SM);
    d->max_memory_mhz = ask_kind(gpu, gpu->max_clock, CLOCK_MEMORY);
    d->bus_bits = ask(gpu, gpu->bus);
    d->n_cores = ask(gpu, gpu->cores);
    d->n_other_processes = count_others(gpu);
}

void nvml_read(const nvml *gpu, nvml_reading *r) {
    utilization used;
    memory_info memory;
    unsigned long long throttle;
    *r = (nvml_reading){.utilisation = -1, .memory_bytes = -1};
    if (gpu->utilization != NULL && gpu->utilization(gpu->device, &used) == SUCCESS)
        r->utilisation = used.gpu;
    if (gpu->memory != NULL && gpu->memory(gpu->device, &memory) == SUCCESS)
        r->memory_bytes = (double)memory.used;
    if (gpu->throttle != NULL && gpu->throttle(gpu->device, &throttle) == SUCCESS)
        r->throttle = throttle;
    r->temperature = ask_kind(gpu, gpu->temperature, TEMPERATURE_GPU);
    r->power_w = milli(ask(gpu, gpu->power));
    r->sm_mhz = ask_kind(gpu, gpu->clock, CLOCK_SM);
    r->memory_mhz = ask_kind(gpu, gpu->clock, CLOCK_MEMORY);
}

const char *nvml_throttle_text(uint64_t throttle, char text[160]) {
    static const struct {
        uint64_t bit;
        const char *name;
    } reasons[] = {
        {NVML_SOFTWARE_POWER_CAP, "power cap"},
        {NVML_HARDWARE_SLOWDOWN, "hardware slowdown"},
        {NVML_SOFTWARE_THERMAL, "software thermal limit"},
        {NVML_HARDWARE_THERMAL, "hardware thermal limit"},
        {NVML_POWER_BRAKE, "power brake"},
    };
    text[0] = '\0';
    size_t length = 0;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (throttle & reasons[i].bit)
            length += (size_t)snprintf(text + length, 160 - length, "%s%s", length > 0 ? ", " : "", reasons[i].name);
    return text;
}

/* ---------------------------------------------------------------------------------------------------------- roof */

/* Published rates: multiply-accumulates of a multiprocessor in a clock. Half precision is on tensor cores, dense. */
static const struct rate {
    int capability; /* from this one on */
    int cores;      /* of a multiprocessor */
    int fp32, tf32, half;
} rates[] = {
    {70, 64, 64, 0, 512},     {75, 64, 64, 0, 512},     {80, 64, 64, 512, 1024},
    {86, 128, 128, 256, 512}, {89, 128, 128, 256, 512}, {90, 128, 128, 1024, 2048},
};

double nvml_peak_macs(const nvml_description *gpu, int precision) {
    const struct rate *found = NULL;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        if (gpu->capability == rates[i].capability)
            found = &rates[i];
    if (found == NULL || gpu->n_cores <= 0 || gpu->max_sm_mhz <= 0)
        return 0;
    int rate = precision == DET_FP32 ? found->fp32 : precision == DET_TF32 ? found->tf32 : found->half;
    return gpu->n_cores / found->cores * rate * 1e6 * gpu->max_sm_mhz;
}

double nvml_bandwidth(const nvml_description *gpu) {
    return gpu->bus_bits > 0 && gpu->max_memory_mhz > 0 ? 2 * 1e6 * gpu->max_memory_mhz * gpu->bus_bits / 8 : 0;
}
