/* Raw video frames from a pipe: read by a thread of their own, so that how long a frame has waited is known. */
#ifndef FRAMES_H
#define FRAMES_H

#include "image_io.h"

#include <libdetect/detect.h>

/* `1280x720`, `1280x720:nv12`, `1280x720:bgr24@29.97`: what lies in the pipe. */
typedef struct frame_layout {
    int32_t width, height;
    int32_t format; /* DET_RGB8, ... */
    double rate;    /* frames a second; 0: not said */
    size_t n_bytes; /* of one frame */
} frame_layout;

bool frames_parse_layout(const char *text, frame_layout *layout);

/* The frame in `bytes` as libdetect sees it, and as RGB pixels of picture->width x height, which are there already. */
det_image frames_image(const frame_layout *layout, const uint8_t *bytes);
void frames_to_rgb(const frame_layout *layout, const uint8_t *bytes, image *picture);

typedef struct frame_limits {
    bool drop;             /* keep but the newest of the frames that wait */
    double max_latency_ms; /* drop those that have waited for longer; 0: none */
} frame_limits;

typedef struct frame {
    int64_t number; /* from 0, dropped ones counted */
    double read_ms; /* when it was complete, of clock_ms */
    uint8_t *bytes;
} frame;

typedef struct frames frames;

/* Starts reading `path`, "-" for standard input. NULL after complaining. */
frames *frames_open(const char *path, const frame_layout *layout, const frame_limits *limits);

/* Waits for the next frame; valid until the next call. False at the end, which may be a failure. */
bool frames_next(frames *source, frame *next);

/* How many have been dropped so far. */
int64_t frames_dropped(frames *source);

/* Stops reading. False after complaining, when the pipe could not be read or ended inside a frame. NULL is allowed. */
bool frames_close(frames *source);

#endif
