/* Programs that were built with an older or a newer detect.h: every struct_size from nothing to beyond ours goes through
 * every call that takes one. Older callers' memory ends where their struct does, so that one byte too many is seen; and
 * what they do not know keeps its default. */
#include "../api/api.h"

#include <stddef.h>
#include <stdlib.h>

enum { BEYOND = 24, LARGEST = 4096 };

/* The sizes of each release, by struct: the last entry is today's. Never shorten a row. */
static const size_t allocator_sizes[] = {32, 0}, options_sizes[] = {64, 0}, thresholds_sizes[] = {48, 0},
                    output_sizes[] = {40, 0}, model_info_sizes[] = {112, 0}, context_info_sizes[] = {80, 0},
                    profile_sizes[] = {48, 0}, pool_options_sizes[] = {48, 0}, request_sizes[] = {48, 0},
                    answer_sizes[] = {72, 0}, pool_stats_sizes[] = {2712, 0}, pool_context_stats_sizes[] = {72, 0};

/* A struct of `size` bytes at the end of a block, as an older or newer program has it: the first bytes of `ours`, zeros
 * beyond, struct_size set. The caller frees *block. */
static void *as_sized(const void *ours, size_t our_size, size_t size, void **block) {
    size_t room = size > sizeof(size_t) ? size : sizeof(size_t);
    *block = calloc(1, room + 16);
    char *place = (char *)*block;
    memcpy(place, ours, our_size < size ? our_size : size);
    memcpy(place, &size, sizeof size);
    memset(place + room, 0xab, 16);
    return place;
}

/* Whether nothing was written behind a struct; frees its block. */
static bool ended(void *block, size_t size) {
    const unsigned char *place = block;
    size_t room = size > sizeof(size_t) ? size : sizeof(size_t);
    bool same = true;
    for (int i = 0; i < 16; i++)
        same = same && place[room + (size_t)i] == 0xab;
    free(block);
    return same;
}

typedef det_status call(void *object, void *sized);

/* A call with a struct of every size: refused below `least`, accepted from there on, also beyond ours. */
static void try_sizes(const char *name, call *function, void *object, const void *ours, size_t our_size, size_t least,
                      const size_t *released) {
    size_t last = 0;
    for (; *released; released++) {
        CHECK_MSG(*released >= least && *released > last, "%s: a released size is %zu", name, *released);
        last = *released;
    }
    CHECK_MSG(last == our_size, "%s has %zu bytes: add that to its row", name, our_size);
    for (size_t size = 0; size <= our_size + BEYOND; size += sizeof(size_t)) { /* no compiler makes others */
        void *block, *sized = as_sized(ours, our_size, size, &block);
        det_status status = function(object, sized);
        det_status expected = size < least ? DET_ERROR_INVALID_ARGUMENT : DET_OK;
        CHECK_MSG(status == expected, "%s of %zu bytes: %s, %s", name, size, det_status_name(status), det_last_error());
        CHECK_MSG(ended(block, size), "%s of %zu bytes: written beyond its end", name, size);
    }
    void *block, *sized = as_sized(ours, our_size, LARGEST + 1, &block);
    CHECK(function(object, sized) == DET_ERROR_INVALID_ARGUMENT);
    free(block);
}

typedef void init(void *theirs, size_t size);

/* The defaults in a struct of every size: as far as it reaches, zeros where it reaches further than ours, and not a byte
 * beyond; nothing at all where its size has no room. */
static void try_init(const char *name, init *function, const void *defaults, size_t our_size) {
    function(NULL, our_size);
    for (size_t size = 0; size <= our_size + BEYOND; size++) {
        unsigned char expected[LARGEST], got[LARGEST];
        memset(expected, 0xab, sizeof expected);
        memset(got, 0xab, sizeof got);
        if (size >= sizeof size) {
            memset(expected, 0, size);
            memcpy(expected, defaults, our_size < size ? our_size : size);
            memcpy(expected, &size, sizeof size);
        }
        function(got, size);
        CHECK_MSG(memcmp(got, expected, sizeof got) == 0, "%s_init_sized of %zu bytes", name, size);
    }
}

static void init_options(void *theirs, size_t size) {
    det_context_options_init_sized(theirs, size);
}

static void init_thresholds(void *theirs, size_t size) {
    det_thresholds_init_sized(theirs, size);
}

static void init_pool_options(void *theirs, size_t size) {
    det_pool_options_init_sized(theirs, size);
}

static void init_request(void *theirs, size_t size) {
    det_request_init_sized(theirs, size);
}

static void try_inits(void) {
    static const det_context_options options = {0};
    static const det_thresholds thresholds = {
        .score = -1, .iou = -1, .class_agnostic = -1, .multi_label = -1, .max_objects = -1};
    static const det_pool_options pool_options = {0};
    static const det_request request = {0};
    try_init("det_context_options", init_options, &options, sizeof options);
    try_init("det_thresholds", init_thresholds, &thresholds, sizeof thresholds);
    try_init("det_pool_options", init_pool_options, &pool_options, sizeof pool_options);
    try_init("det_request", init_request, &request, sizeof request);
}

static det_status get_model_info(void *model, void *sized) {
    return det_model_get_info(model, sized);
}

static det_status get_context_info(void *context, void *sized) {
    return det_context_get_info(context, sized);
}

static det_status get_profile(void *context, void *sized) {
    return det_context_get_profile(context, sized);
}

static det_status set_thresholds(void *context, void *sized) {
    return det_context_set_thresholds(context, sized);
}

static det_status set_allocator(void *unused, void *sized) {
    (void)unused;
    return det_set_allocator(sized);
}

static det_status create_and_destroy(void *model, void *sized) {
    det_context *context;
    det_status status = det_context_create(model, sized, &context);
    det_context_destroy(context);
    return status;
}

static det_status run_grey(void *context, void *sized) {
    static const unsigned char grey[64 * 64];
    det_image image = {.planes = {grey}, .strides = {64}, .width = 64, .height = 64, .format = DET_GRAY8};
    return det_run(context, &image, 1, sized);
}

static det_status create_and_destroy_pool(void *model, void *sized) {
    det_pool *pool;
    det_status status = det_pool_create(model, sized, &pool);
    det_pool_destroy(pool);
    return status;
}

static det_status submit(void *pool, const void *request, uint64_t *ticket) {
    static const unsigned char grey[64 * 64];
    det_image image = {.planes = {grey}, .strides = {64}, .width = 64, .height = 64, .format = DET_GRAY8};
    return det_pool_submit(pool, &image, request, NULL, NULL, ticket);
}

static det_status submit_and_wait(void *pool, void *sized) {
    uint64_t ticket;
    det_status status = submit(pool, sized, &ticket);
    return status == DET_OK ? det_pool_wait(pool, ticket, -1, NULL) : status;
}

static det_status wait_for_answer(void *pool, void *sized) {
    static det_object object;
    det_request request;
    det_request_init(&request);
    request.objects = &object;
    request.max_objects = 1;
    uint64_t ticket;
    OK(submit(pool, &request, &ticket));
    det_status status = det_pool_wait(pool, ticket, -1, sized);
    if (status != DET_OK) /* nothing was collected */
        OK(det_pool_wait(pool, ticket, -1, NULL));
    return status;
}

static det_status get_pool_stats(void *pool, void *sized) {
    return det_pool_get_stats(pool, sized);
}

static det_status get_pool_context_stats(void *pool, void *sized) {
    return det_pool_get_context_stats(pool, 0, sized);
}

static void *take(void *user, size_t n_bytes, size_t alignment) {
    (void)user;
    return aligned_alloc(alignment, (n_bytes + alignment - 1) / alignment * alignment);
}

static void give_back(void *user, void *pointer) {
    (void)user;
    free(pointer);
}

static void try_pool(det_model *model, const det_context_options *context) {
    const char zeros[4096] = {0};
    enum { LEAST_GIVEN = 2 * sizeof(size_t) };
    const det_pool_device device = {.options = context, .n_contexts = 1};
    det_pool_options options;
    det_pool_options_init(&options);
    options.devices = &device;
    options.n_devices = 1;
    try_sizes("det_pool_options", create_and_destroy_pool, model, &options, sizeof options,
              offsetof(det_pool_options, max_batch), pool_options_sizes);
    det_pool *pool;
    OK(det_pool_create(model, &options, &pool));
    det_object object;
    det_request request;
    det_request_init(&request);
    request.objects = &object;
    request.max_objects = 1;
    try_sizes("det_request", submit_and_wait, pool, &request, sizeof request, offsetof(det_request, priority),
              request_sizes);
    try_sizes("det_answer", wait_for_answer, pool, zeros, sizeof(det_answer), LEAST_GIVEN, answer_sizes);
    try_sizes("det_pool_stats", get_pool_stats, pool, zeros, sizeof(det_pool_stats), LEAST_GIVEN, pool_stats_sizes);
    try_sizes("det_pool_context_stats", get_pool_context_stats, pool, zeros, sizeof(det_pool_context_stats),
              LEAST_GIVEN, pool_context_stats_sizes);
    det_pool_destroy(pool);
}

int main(void) {
    try_inits();
    const det_allocator allocator = {.struct_size = sizeof allocator, .allocate = take, .release = give_back};
    try_sizes("det_allocator", set_allocator, NULL, &allocator, sizeof allocator, allocator_sizes[0], allocator_sizes);
    OK(det_set_allocator(NULL));

    det_model *model = open_made("yolov8-tiny");
    det_context_options options = cpu_options(1, 1);
    options.width = options.height = 32;
    try_sizes("det_context_options", create_and_destroy, model, &options, sizeof options, sizeof(size_t),
              options_sizes);
    det_context *context = create(model, &options);

    det_thresholds thresholds;
    det_thresholds_init(&thresholds);
    try_sizes("det_thresholds", set_thresholds, context, &thresholds, sizeof thresholds, sizeof(size_t),
              thresholds_sizes);
    det_object objects[4];
    int32_t count, cut;
    const det_output output = {
        .struct_size = sizeof output, .objects = objects, .counts = &count, .max_objects = 4, .cuts = &cut};
    try_sizes("det_output", run_grey, context, &output, sizeof output, offsetof(det_output, cuts), output_sizes);

    const char zeros[256] = {0};
    enum { LEAST_GIVEN = 2 * sizeof(size_t) };
    try_sizes("det_model_info", get_model_info, model, zeros, sizeof(det_model_info), LEAST_GIVEN, model_info_sizes);
    try_sizes("det_context_info", get_context_info, context, zeros, sizeof(det_context_info), LEAST_GIVEN,
              context_info_sizes);
    try_sizes("det_profile", get_profile, context, zeros, sizeof(det_profile), LEAST_GIVEN, profile_sizes);
    det_context_destroy(context);
    try_pool(model, &options);
    det_model_close(model);
    return check_report("sizes");
}
