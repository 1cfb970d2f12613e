/* `detect PICTURE...`: pictures in, results out, a batch at a time. */
#include "clock.h"
#include "commands.h"
#include "draw.h"
#include "drawings.h"
#include "output.h"
#include "progress.h"
#include "session.h"
#include "text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A picture of the batch at hand. */
typedef struct slot {
    const char *path;
    image picture;
    double decode_ms;
} slot;

typedef struct run {
    const options *given;
    session session;
    drawings drawings;
    file_list files;
    bool any_failed; /* some picture or drawing */

    /* One batch: `n_slots` of plan.max_batch. */
    slot *slots;
    int32_t n_slots;
    det_image *images;
    det_object *objects; /* max_objects for each */
    int32_t *counts, *cuts;
    int32_t max_objects;
} run;

static bool allocate_batch(run *r) {
    size_t n = (size_t)r->session.plan.max_batch;
    int32_t asked = r->given->thresholds.max_objects;
    r->max_objects = asked > 0 ? asked : r->session.info.max_objects;
    r->slots = calloc(n, sizeof *r->slots);
    r->images = calloc(n, sizeof *r->images);
    r->objects = calloc(n * (size_t)r->max_objects, sizeof *r->objects);
    r->counts = calloc(n, sizeof *r->counts);
    r->cuts = calloc(n, sizeof *r->cuts);
    if (r->slots != NULL && r->images != NULL && r->objects != NULL && r->counts != NULL && r->cuts != NULL)
        return true;
    complain("out of memory for %zu pictures of %" PRId32 " objects", n, r->max_objects);
    return false;
}

static void load_picture(run *r, const char *path) {
    slot *next = &r->slots[r->n_slots];
    char error[IMAGE_ERROR_SIZE];
    double begin_ms = clock_ms();
    if (!image_load(path, &r->given->limits, &next->picture, error)) {
        complain("%s: %s", path, error);
        r->any_failed = true;
        return;
    }
    next->path = path;
    next->decode_ms = clock_ms() - begin_ms;
    r->images[r->n_slots++] = (det_image){
        .planes = {next->picture.pixels},
        .strides = {3 * (int64_t)next->picture.width},
        .width = next->picture.width,
        .height = next->picture.height,
        .format = DET_RGB8,
        .memory = DET_MEMORY_HOST,
    };
}

static void complain_of_cuts(const run *r, int32_t i) {
    if (!r->given->verbose)
        return;
    if (r->cuts[i] & DET_CUT_OBJECTS)
        complain("%s: only the best %" PRId32 " of more objects are kept", r->slots[i].path, r->max_objects);
    if (r->cuts[i] & DET_CUT_CANDIDATES)
        complain("%s: only the best of very many candidates entered NMS", r->slots[i].path);
}

/* Prints and draws picture i of the batch. Only failing output is an end to everything. */
static int report_picture(run *r, int32_t i, const det_profile *profile) {
    slot *done = &r->slots[i];
    double share = 1.0 / (double)r->n_slots;
    result found = {
        .path = done->path,
        .width = done->picture.width,
        .height = done->picture.height,
        .objects = r->objects + (size_t)i * (size_t)r->max_objects,
        .n_objects = r->counts[i],
        .times = {.decode = done->decode_ms,
                  .preprocess = (double)profile->preprocess_ms * share,
                  .network = (double)profile->network_ms * share,
                  .decode_boxes = (double)profile->decode_ms * share,
                  .nms = (double)profile->nms_ms * share,
                  .total = done->decode_ms + (double)profile->total_ms * share},
    };
    complain_of_cuts(r, i);
    if (!output_result(r->given->format, &r->session.info, &found))
        return EXIT_PICTURES;
    if (r->given->draw_directory != NULL) {
        draw_objects(&done->picture, found.objects, found.n_objects, &r->session.info);
        if (!drawings_save(&r->drawings, done->path, &done->picture))
            r->any_failed = true;
    }
    return EXIT_DONE;
}

/* A failure of the device would only repeat itself; any other is the pictures' own. */
static int run_failed(run *r, det_status status) {
    if (status == DET_ERROR_DEVICE || status == DET_ERROR_NO_DEVICE) {
        complain("%s", det_last_error());
        return EXIT_MODEL;
    }
    for (int32_t i = 0; i < r->n_slots; i++)
        complain("%s: %s", r->slots[i].path, det_last_error());
    r->any_failed = true;
    return EXIT_DONE;
}

static int run_batch(run *r) {
    const det_output output = {
        .struct_size = sizeof output,
        .objects = r->objects,
        .counts = r->counts,
        .cuts = r->cuts,
        .max_objects = r->max_objects,
        .memory = DET_MEMORY_HOST,
    };
    det_profile profile = {.struct_size = sizeof profile};
    int outcome = EXIT_DONE;
    det_status status = DET_OK;
    if (r->n_slots > 0)
        status = det_run(r->session.context, r->images, r->n_slots, &output);
    if (r->n_slots > 0 && status == DET_OK)
        status = det_context_get_profile(r->session.context, &profile);
    if (status != DET_OK)
        outcome = run_failed(r, status);
    for (int32_t i = 0; i < r->n_slots; i++) {
        if (outcome == EXIT_DONE && status == DET_OK)
            outcome = report_picture(r, i, &profile);
        image_free(&r->slots[i].picture);
    }
    r->n_slots = 0;
    return outcome;
}

static int run_files(run *r) {
    output_begin(r->given->format, &r->session.info, false);
    progress_begin((int64_t)r->files.n_paths);
    int outcome = EXIT_DONE;
    for (size_t i = 0; i < r->files.n_paths && outcome == EXIT_DONE; i++) {
        load_picture(r, r->files.paths[i]);
        bool last = i + 1 == r->files.n_paths;
        if (last || r->n_slots == r->session.plan.max_batch)
            outcome = run_batch(r);
        progress_show((int64_t)i + 1);
    }
    progress_hide();
    if (outcome == EXIT_DONE && (!output_check() || r->any_failed))
        outcome = EXIT_PICTURES;
    return outcome;
}

int command_detect(const options *given) {
    run r = {.given = given};
    int outcome = session_open(&r.session, given, 0);
    if (outcome == EXIT_DONE)
        outcome = session_set_thresholds(&r.session, given);
    if (outcome == EXIT_DONE) {
        for (int i = 0; i < given->n_paths; i++)
            if (!files_add(&r.files, given->paths[i]))
                r.any_failed = true;
        bool ready = given->draw_directory == NULL || drawings_open(&r.drawings, given->draw_directory, &r.files);
        outcome = ready && allocate_batch(&r) ? run_files(&r) : EXIT_PICTURES;
    }
    session_close(&r.session);
    drawings_close(&r.drawings);
    files_free(&r.files);
    free(r.slots);
    free(r.images);
    free(r.objects);
    free(r.counts);
    free(r.cuts);
    return outcome;
}
