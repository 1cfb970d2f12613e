/* cuDNN itself for a device that is not here: its heuristics and its run-time compiler work from a device's properties
 * (tests/data/cudnn), with the driver of driver.c. The library knows handles alone: what it sets passes through
 * absent_device.c, and the device goes in the handle's place. */
#ifndef DET_FAKE_ABSENT_DEVICE_H
#define DET_FAKE_ABSENT_DEVICE_H

#include <stdbool.h>

/* The device that a file describes; false when this cuDNN takes no such description (older than 9.8). */
bool absent_device_open(const char *path);
void absent_device_close(void);
/* Kernels compiled so far; the driver counts them. */
int absent_device_loads(void);

#endif
