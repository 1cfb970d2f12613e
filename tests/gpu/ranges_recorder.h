/* The ranges that ranges_recorder.c has seen. */
#ifndef DET_TEST_RANGES_RECORDER_H
#define DET_TEST_RANGES_RECORDER_H

enum { RECORDED_BYTES = 1 << 16 };
#define RECORDER_API __attribute__((visibility("default")))

/* Names in the order they began, a line each, with a dot for each range around it; *left_open: how many have not ended. */
RECORDER_API const char *recorded_ranges(int *left_open);

#endif
