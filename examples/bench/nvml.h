/* NVIDIA's management library, opened at run time: what a GPU is, and how it fares. Where there is none, there is no GPU
 * to ask about. */
#ifndef BENCH_NVML_H
#define BENCH_NVML_H

#include <stdbool.h>
#include <stdint.h>

typedef struct nvml nvml;

/* Opens the library and finds the device of a UUID, or, where that is "", the one that CUDA calls `cuda_index`, as
 * CUDA_VISIBLE_DEVICES renumbers it. NULL when there is no library, driver or device; `reason` then says which in one
 * line. */
nvml *nvml_open(int cuda_index, const char *uuid, char reason[128]);
void nvml_close(nvml *gpu);

/* Numbers that the device does not tell are negative, texts empty. */
typedef struct nvml_description {
    char name[96], driver[96];
    int cuda_version; /* of the driver, such as 12040 */
    double power_cap_w;
    double max_sm_mhz, max_memory_mhz;
    double bus_bits, n_cores;
    int capability; /* 10 * major + minor */
    int ecc;        /* 1 on, 0 off */
    double memory_bytes;
    int n_other_processes; /* that compute on it, this one left out */
} nvml_description;

void nvml_describe(const nvml *gpu, nvml_description *description);

typedef struct nvml_reading {
    double utilisation; /* percent */
    double memory_bytes;
    double temperature; /* degrees Celsius */
    double power_w;
    double sm_mhz, memory_mhz;
    uint64_t throttle; /* NVML_* bits */
} nvml_reading;

void nvml_read(const nvml *gpu, nvml_reading *reading);

/* Bits of nvml_reading.throttle that make a device slower than it is. Idling and clocks that someone has set are none. */
#define NVML_SOFTWARE_POWER_CAP 0x04u
#define NVML_HARDWARE_SLOWDOWN  0x08u
#define NVML_SOFTWARE_THERMAL   0x20u
#define NVML_HARDWARE_THERMAL   0x40u
#define NVML_POWER_BRAKE        0x80u

/* Their names with commas between, or "". */
const char *nvml_throttle_text(uint64_t throttle, char text[160]);

/* Multiply-accumulates a second at the highest clock, by the published rate of a multiprocessor for a precision (DET_*);
 * 0 when the device is not known. */
double nvml_peak_macs(const nvml_description *gpu, int precision);
/* Bytes a second: twice the memory clock times the bus. 0 when the device does not tell. */
double nvml_bandwidth(const nvml_description *gpu);

#endif
