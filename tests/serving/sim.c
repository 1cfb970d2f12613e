#include "sim.h"

#include <errno.h>

void sim_sleep(int64_t us) {
    struct timespec t = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    while (us > 0 && nanosleep(&t, &t) && errno == EINTR)
        ;
}

static uint64_t number_of(const det_image *image) {
    uint64_t number;
    memcpy(&number, image->planes[0], sizeof number);
    return number;
}

/* 0 to 4 objects, each of which says whose it is. */
static int n_planted(uint64_t number) {
    return (int)(number % 5);
}

static det_object planted(uint64_t number, int i) {
    det_object o = {.x1 = (float)(number & 0xffff),
                    .y1 = (float)(number >> 16 & 0xffff),
                    .x2 = (float)(number >> 32 & 0xffff),
                    .y2 = (float)(number >> 48),
                    .score = 1 - 0.1f * (float)i,
                    .class_id = i};
    o.landmarks[4][1] = (float)i + 0.5f;
    return o;
}

static void answer(const det_image *image, int at, const det_thresholds *thresholds, const det_output *output) {
    uint64_t number = number_of(image);
    int room = DET_MIN(thresholds->max_objects, output->max_objects), n = n_planted(number);
    output->counts[at] = DET_MIN(n, room);
    output->cuts[at] = n > room ? DET_CUT_OBJECTS : 0;
    for (int i = 0; i < DET_MIN(n, room); i++)
        output->objects[(size_t)at * (size_t)output->max_objects + (size_t)i] = planted(number, i);
}

static void take_time(sim *s, int n) {
    if (s->gate) {
        pthread_mutex_lock(s->gate);
        pthread_mutex_unlock(s->gate);
    }
    if (!s->gpu) {
        sim_sleep(s->fixed_us + n * s->picture_us);
        return;
    }
    pthread_mutex_lock(&s->gpu->upload);
    sim_sleep(n * s->upload_us);
    pthread_mutex_unlock(&s->gpu->upload);
    pthread_mutex_lock(&s->gpu->compute);
    sim_sleep(s->fixed_us + n * s->picture_us);
    pthread_mutex_unlock(&s->gpu->compute);
}

static det_status run_sim(void *state, const det_image *images, int n, const det_thresholds *thresholds,
                          const det_output *output) {
    sim *s = state;
    det_status status = DET_OK;
    if (atomic_fetch_add(&s->inside, 1))
        atomic_fetch_add(&s->n_overlaps, 1);
    int run = atomic_fetch_add(&s->n_runs, 1) + 1;
    atomic_fetch_add(&s->n_pictures, n);
    if (n > atomic_load(&s->largest))
        atomic_store(&s->largest, n);
    take_time(s, n);
    if (s->fails_with && run >= s->fails_at && run < s->fails_at + s->n_failures)
        status = det_fail(s->fails_with, "run %d was to fail", run);
    for (int i = 0; i < n && status == DET_OK; i++) {
        if (s->poison && number_of(&images[i]) == s->poison)
            status = det_fail(DET_ERROR_INVALID_ARGUMENT, "images[%d] is poison", i);
        else
            answer(&images[i], i, thresholds, output);
    }
    atomic_fetch_sub(&s->inside, 1);
    return status;
}

static void close_sim(void *state) {
    atomic_fetch_add(&((sim *)state)->closed, 1);
}

const det_runner_ops sim_ops = {run_sim, close_sim};

/* ---------------------------------------------------------------------------------------------------------- pools */

det_pool_setup sim_setup(int capacity) {
    return (det_pool_setup){.defaults = {.n_classes = 3, .score = 0.5f, .iou = 0.5f},
                            .capacity = capacity,
                            .max_attempts = 3,
                            .model_objects = SIM_OBJECTS,
                            .max_objects = SIM_OBJECTS,
                            .host_only = true};
}

det_pool *sim_pool(const det_pool_setup *setup, sim *devices, int n, int max_batch) {
    det_runner runners[64];
    det_pool *pool;
    for (int i = 0; i < n; i++)
        runners[i] = (det_runner){&sim_ops, &devices[i], "simulated", DET_DEVICE_CUDA, i, max_batch, i};
    REQUIRE(det_pool_build(setup, runners, n, &pool) == DET_OK, "%s", det_last_error());
    return pool;
}

det_image sim_picture(uint64_t *pixels, uint64_t number) {
    *pixels = number;
    return (det_image){.planes = {pixels}, .strides = {8}, .width = 8, .height = 1, .format = DET_GRAY8};
}

bool sim_is_right(const det_answer *a, uint64_t number, int max_objects) {
    int n = n_planted(number), wanted = DET_MIN(n, max_objects);
    if (a->status != DET_OK || a->n_objects != wanted || a->cuts != (n > max_objects ? DET_CUT_OBJECTS : 0))
        return false;
    for (int i = 0; i < wanted; i++) {
        det_object o = planted(number, i);
        if (memcmp(&a->objects[i], &o, sizeof o) != 0)
            return false;
    }
    return a->message[0] == '\0' && a->n_attempts >= 1 && a->batch >= 1 && a->context >= 0;
}

det_request sim_request(det_object *objects) {
    det_request request;
    det_request_init(&request);
    request.objects = objects;
    request.max_objects = SIM_OBJECTS;
    return request;
}

uint64_t sim_submit(det_pool *pool, const det_image *image, const det_request *request) {
    uint64_t ticket = 0;
    REQUIRE(det_pool_submit(pool, image, request, NULL, NULL, &ticket) == DET_OK, "%s", det_last_error());
    return ticket;
}

det_pool_stats sim_stats(det_pool *pool) {
    det_pool_stats stats = {.struct_size = sizeof stats};
    CHECK(det_pool_get_stats(pool, &stats) == DET_OK);
    return stats;
}
