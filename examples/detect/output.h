/* Results on standard output, as a table, JSON or CSV. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "options.h"

/* Milliseconds. With --batch, a picture's share of its batch, but for `decode`. */
typedef struct picture_times {
    double decode; /* reading the file */
    double preprocess, network, decode_boxes, nms;
    double total; /* all of these, and moving data to and from the device */
} picture_times;

/* Of a video. */
typedef struct frame_times {
    int64_t number;    /* from 0 */
    double seconds;    /* from the first frame; negative: the rate is not known */
    double latency_ms; /* from the frame's last byte to its result */
    int64_t n_dropped; /* so far */
} frame_times;

typedef struct result {
    const char *path; /* of a picture; a frame has none */
    bool is_frame;
    frame_times frame;
    int32_t width, height;
    const det_object *objects;
    int32_t n_objects;
    picture_times times;
} result;

/* Before the first result; only CSV has something to say then. */
void output_begin(output_format format, const det_model_info *model, bool of_frames);

/* Prints one picture's result and flushes it: a reader at the other end of a pipe need not wait for the next.
 * Returns what output_check does. */
bool output_result(output_format format, const det_model_info *model, const result *found);

/* Flushes. False after complaining when anything since the program began could not be written. */
bool output_check(void);

#endif
