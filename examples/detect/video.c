/* `detect --video WxH PIPE`: frames in, results out, one after the other. */
#define _POSIX_C_SOURCE 200809L

#include "clock.h"
#include "commands.h"
#include "draw.h"
#include "drawings.h"
#include "frames.h"
#include "output.h"
#include "session.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct video {
    const options *given;
    session session;
    frames *source;
    drawings drawings;
    image picture; /* to draw on; empty when nothing is drawn */
    det_object *objects;
    int32_t max_objects;
    bool any_failed;
} video;

/* `--draw -`: the drawn frames go to standard output, for ffmpeg to make a film of; results would be in the way. */
static bool draws_to_pipe(const options *given) {
    return given->draw_directory != NULL && strcmp(given->draw_directory, "-") == 0;
}

static bool prepare(video *v) {
    int32_t asked = v->given->thresholds.max_objects;
    v->max_objects = asked > 0 ? asked : v->session.info.max_objects;
    v->objects = calloc((size_t)v->max_objects, sizeof *v->objects);
    if (v->given->draw_directory != NULL) {
        const frame_layout *layout = &v->given->layout;
        v->picture = (image){malloc((size_t)layout->width * (size_t)layout->height * 3), layout->width, layout->height};
    }
    if (v->objects == NULL || (v->given->draw_directory != NULL && v->picture.pixels == NULL)) {
        complain("out of memory for a frame and its objects");
        return false;
    }
    const file_list none = {0};
    return v->given->draw_directory == NULL || draws_to_pipe(v->given) ||
           drawings_open(&v->drawings, v->given->draw_directory, &none);
}

static bool write_frame(const image *picture) {
    size_t n_bytes = (size_t)picture->width * (size_t)picture->height * 3;
    errno = 0;
    if (fwrite(picture->pixels, 1, n_bytes, stdout) == n_bytes && fflush(stdout) == 0)
        return true;
    complain("standard output: %s", errno != 0 ? strerror(errno) : "cannot be written");
    return false;
}

static int draw(video *v, const frame *shown, int32_t n_objects) {
    frames_to_rgb(&v->given->layout, shown->bytes, &v->picture);
    draw_objects(&v->picture, v->objects, n_objects, &v->session.info);
    if (draws_to_pipe(v->given))
        return write_frame(&v->picture) ? EXIT_DONE : EXIT_PICTURES;
    char name[40];
    snprintf(name, sizeof name, "frame-%06" PRId64 ".raw", shown->number);
    if (!drawings_save(&v->drawings, name, &v->picture))
        v->any_failed = true;
    return EXIT_DONE;
}

static int report(video *v, const frame *shown, int32_t n_objects) {
    det_profile profile = {.struct_size = sizeof profile};
    if (det_context_get_profile(v->session.context, &profile) != DET_OK) {
        complain("%s", det_last_error());
        return EXIT_MODEL;
    }
    double rate = v->given->layout.rate;
    result found = {
        .frame = {.number = shown->number,
                  .seconds = rate > 0 ? (double)shown->number / rate : -1,
                  .latency_ms = clock_ms() - shown->read_ms,
                  .n_dropped = frames_dropped(v->source)},
        .is_frame = true,
        .width = v->given->layout.width,
        .height = v->given->layout.height,
        .objects = v->objects,
        .n_objects = n_objects,
        .times = {.preprocess = (double)profile.preprocess_ms,
                  .network = (double)profile.network_ms,
                  .decode_boxes = (double)profile.decode_ms,
                  .nms = (double)profile.nms_ms,
                  .total = (double)profile.total_ms},
    };
    bool ok = draws_to_pipe(v->given) || output_result(v->given->format, &v->session.info, &found);
    if (!ok)
        return EXIT_PICTURES;
    return v->given->draw_directory != NULL ? draw(v, shown, n_objects) : EXIT_DONE;
}

static int run_frame(video *v, const frame *shown) {
    det_image picture = frames_image(&v->given->layout, shown->bytes);
    int32_t n_objects;
    const det_output output = {.struct_size = sizeof output,
                               .objects = v->objects,
                               .counts = &n_objects,
                               .max_objects = v->max_objects,
                               .memory = DET_MEMORY_HOST};
    if (det_run(v->session.context, &picture, 1, &output) == DET_OK)
        return report(v, shown, n_objects);
    complain("frame %" PRId64 ": %s", shown->number, det_last_error());
    return EXIT_MODEL; /* frames are all alike: what fails once fails again */
}

static int run_frames(video *v) {
    const options *given = v->given;
    const frame_limits limits = {.drop = given->drop, .max_latency_ms = given->max_latency_ms};
    v->source = frames_open(given->paths[0], &given->layout, &limits);
    if (v->source == NULL)
        return EXIT_PICTURES;
    if (!draws_to_pipe(given))
        output_begin(given->format, &v->session.info, true);
    int outcome = EXIT_DONE;
    int64_t n_done = 0;
    frame next;
    while (outcome == EXIT_DONE && frames_next(v->source, &next)) {
        outcome = run_frame(v, &next);
        n_done++;
    }
    int64_t n_dropped = frames_dropped(v->source);
    bool whole = frames_close(v->source);
    if (outcome == EXIT_DONE && (limits.drop || limits.max_latency_ms > 0))
        complain("%" PRId64 " of %" PRId64 " frames dropped", n_dropped, n_done + n_dropped);
    bool empty = outcome == EXIT_DONE && whole && n_done + n_dropped == 0;
    if (empty) /* what should have filled the pipe has said why, or nobody would know */
        complain("%s: not one frame came", given->paths[0]);
    if (outcome == EXIT_DONE && (!output_check() || !whole || empty || v->any_failed))
        outcome = EXIT_PICTURES;
    return outcome;
}

int command_video(const options *given) {
    video v = {.given = given};
    int outcome = session_open(&v.session, given, 0);
    if (outcome == EXIT_DONE)
        outcome = session_set_thresholds(&v.session, given);
    if (outcome == EXIT_DONE)
        outcome = prepare(&v) ? run_frames(&v) : EXIT_PICTURES;
    session_close(&v.session);
    drawings_close(&v.drawings);
    image_free(&v.picture);
    free(v.objects);
    return outcome;
}
