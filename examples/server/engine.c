#include "engine.h"

#include "clock.h"
#include "find_model.h"
#include "detectors.h"
#include "log.h"
#include "metrics.h"
#include "probe.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct engine {
    const settings *given;
    budget *memory;
    det_model *model;
    det_model_info info;
    detectors *detectors;

    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    job *first, *last; /* waiting for a decoder */
    int32_t n_jobs;    /* anywhere between submission and end */
    bool closing;
    pthread_t *decoders;
    int32_t n_decoders;
};

static void release_picture(engine *e, job *finished) {
    body_free(&finished->body, e->memory);
    image_free(&finished->picture);
    budget_give(e->memory, finished->picture_bytes);
    finished->picture_bytes = 0;
}

void job_free(engine *e, job *finished) {
    release_picture(e, finished);
    query_free(&finished->asked);
    free(finished->objects);
    finished->objects = NULL;
}

void job_finish(job *finished, outcome how) {
    engine *e = finished->engine;
    release_picture(e, finished);
    finished->outcome = how;
    pthread_mutex_lock(&e->mutex);
    e->n_jobs--;
    pthread_mutex_unlock(&e->mutex);
    finished->done(finished); /* the job may be gone after this */
}

/* Makes room for the results and hands the picture to the detectors. */
static void detect(engine *e, job *decoded) {
    det_thresholds *thresholds = &decoded->asked.thresholds;
    int32_t limit = e->given->max_objects;
    if (thresholds->max_objects < 0)
        thresholds->max_objects = e->info.max_objects < limit ? e->info.max_objects : limit;
    decoded->objects = malloc((size_t)thresholds->max_objects * sizeof *decoded->objects);
    if (decoded->objects == NULL) {
        job_finish(decoded, OUTCOME_BUSY);
        return;
    }
    decoded->width = decoded->picture.width;
    decoded->height = decoded->picture.height;
    decoded->begin_ms = clock_ms();
    detectors_submit(e->detectors, decoded);
}

/* Refuses by the header alone what would be refused anyway. */
static outcome check_claim(const engine *e, job *waiting) {
    picture_claim claim;
    switch (probe_picture(waiting->data, waiting->n_bytes, &claim)) {
    case PROBE_UNKNOWN:
        return OUTCOME_NOT_A_PICTURE;
    case PROBE_DAMAGED:
        return OUTCOME_DAMAGED;
    case PROBE_OK:
        break;
    }
    uint64_t n_pixels = (uint64_t)claim.width * claim.height;
    uint32_t max_side = (uint32_t)e->given->max_side;
    if (n_pixels > (uint64_t)e->given->max_pixels || claim.width > max_side || claim.height > max_side)
        return OUTCOME_TOO_LARGE;
    size_t n_bytes = 3 * (size_t)n_pixels;
    if (!budget_take(e->memory, n_bytes))
        return OUTCOME_BUSY;
    waiting->picture_bytes = n_bytes;
    return OUTCOME_OK;
}

static void decode(engine *e, job *waiting) {
    if (clock_ms() > waiting->deadline_ms) {
        job_finish(waiting, OUTCOME_LATE);
        return;
    }
    outcome claimed = check_claim(e, waiting);
    if (claimed != OUTCOME_OK) {
        job_finish(waiting, claimed);
        return;
    }
    /* What was claimed is what may be taken, whatever the rest of the file says. */
    image_limits limits = {.max_side = e->given->max_side, .max_bytes = waiting->picture_bytes};
    if (limits.max_bytes < waiting->n_bytes)
        limits.max_bytes = waiting->n_bytes;
    if (!image_decode(waiting->data, waiting->n_bytes, &limits, &waiting->picture, waiting->error)) {
        job_finish(waiting, OUTCOME_DAMAGED);
        return;
    }
    body_free(&waiting->body, e->memory);
    detect(e, waiting);
}

static void *run_decoder(void *context) {
    engine *e = context;
    pthread_mutex_lock(&e->mutex);
    for (;;) {
        while (e->first == NULL && !e->closing)
            pthread_cond_wait(&e->arrived, &e->mutex);
        if (e->first == NULL)
            break;
        job *taken = e->first;
        e->first = taken->next;
        if (e->first == NULL)
            e->last = NULL;
        pthread_mutex_unlock(&e->mutex);
        decode(e, taken);
        pthread_mutex_lock(&e->mutex);
    }
    pthread_mutex_unlock(&e->mutex);
    return NULL;
}

/* Counts the job in. A full line is told to the job itself. */
static bool admit(engine *e, job *submitted) {
    submitted->engine = e;
    pthread_mutex_lock(&e->mutex);
    bool full = e->n_jobs >= e->given->max_queue;
    e->n_jobs++;
    pthread_mutex_unlock(&e->mutex);
    if (full)
        job_finish(submitted, OUTCOME_BUSY);
    return !full;
}

void engine_submit(engine *e, job *submitted) {
    if (!admit(e, submitted))
        return;
    submitted->next = NULL;
    pthread_mutex_lock(&e->mutex);
    if (e->last != NULL)
        e->last->next = submitted;
    else
        e->first = submitted;
    e->last = submitted;
    pthread_cond_signal(&e->arrived);
    pthread_mutex_unlock(&e->mutex);
}

void engine_submit_picture(engine *e, job *submitted) {
    if (admit(e, submitted))
        detect(e, submitted);
}

const det_model_info *engine_model(const engine *e) {
    return &e->info;
}

void engine_print_metrics(engine *e, FILE *file) {
    pthread_mutex_lock(&e->mutex);
    int32_t n_jobs = e->n_jobs;
    pthread_mutex_unlock(&e->mutex);
    metrics_print_number(file, "detect_pictures_under_way", "gauge", "Pictures that wait, are decoded or run.", n_jobs);
    detectors_print_metrics(e->detectors, file);
}

static bool open_model(engine *e) {
    char room[4096];
    const char *path = find_model(e->given->model, room, sizeof room);
    if (path == NULL) {
        complain("no model: this build comes without one; give --model FILE or set LIBDETECT_MODEL");
        return false;
    }
    e->info.struct_size = sizeof e->info;
    if (det_model_open(path, &e->model) == DET_OK && det_model_get_info(e->model, &e->info) == DET_OK)
        return true;
    complain("%s", det_last_error());
    return false;
}

static bool start_decoders(engine *e) {
    int32_t n = e->given->decoders > 0 ? e->given->decoders : (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    e->decoders = calloc((size_t)n, sizeof *e->decoders);
    int error = e->decoders == NULL ? ENOMEM : 0;
    while (error == 0 && e->n_decoders < n) {
        error = pthread_create(&e->decoders[e->n_decoders], NULL, run_decoder, e);
        e->n_decoders += error == 0;
    }
    if (error != 0)
        complain("cannot start a thread: %s", strerror(error));
    return error == 0;
}

engine *engine_open(const settings *given, budget *shared) {
    engine *e = calloc(1, sizeof *e);
    if (e == NULL) {
        complain("out of memory");
        return NULL;
    }
    e->given = given;
    e->memory = shared;
    pthread_mutex_init(&e->mutex, NULL);
    pthread_cond_init(&e->arrived, NULL);
    if (open_model(e) && (e->detectors = detectors_open(given, e->model)) != NULL && start_decoders(e))
        return e;
    engine_close(e);
    return NULL;
}

void engine_close(engine *e) {
    if (e == NULL)
        return;
    pthread_mutex_lock(&e->mutex);
    e->closing = true;
    pthread_cond_broadcast(&e->arrived);
    pthread_mutex_unlock(&e->mutex);
    for (int32_t i = 0; i < e->n_decoders; i++)
        pthread_join(e->decoders[i], NULL);
    free(e->decoders);
    detectors_close(e->detectors);
    det_model_close(e->model);
    pthread_cond_destroy(&e->arrived);
    pthread_mutex_destroy(&e->mutex);
    free(e);
}
