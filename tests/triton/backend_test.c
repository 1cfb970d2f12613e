/* Loads the Triton backend as Triton does and drives it: backend_test BACKEND.so REPOSITORY
 *
 * REPOSITORY/1/model.safetensors is a model file. What comes back is compared with det_run's own results. */
#include "check.h"
#include "core.h"

#include <libdetect/detect.h>

#include <dlfcn.h>
#include <pthread.h>

typedef TRITONSERVER_Error *model_fn(TRITONBACKEND_Model *);
typedef TRITONSERVER_Error *instance_fn(TRITONBACKEND_ModelInstance *);
typedef TRITONSERVER_Error *execute_fn(TRITONBACKEND_ModelInstance *, TRITONBACKEND_Request **, const uint32_t);

static struct {
    model_fn *model_begin, *model_end;
    instance_fn *instance_begin, *instance_end;
    execute_fn *execute;
} backend;

enum { MAX_OBJECTS = 7, MAX_SIDE = 96, MAX_PICTURES = 3 };
#define CONFIG(max_batch, more)                                                                                        \
    "{\"name\":\"faces\",\"max_batch_size\":" #max_batch ",\"parameters\":{"                                           \
    "\"max_objects\":{\"string_value\":\"7\"},\"threads\":{\"string_value\":\"1\"},"                                   \
    "\"score\":{\"string_value\":\"0\"},\"iou\":{\"string_value\":\"0.9\"}" more "}}"
#define PARAMETER(name, value) ",\"" name "\":{\"string_value\":\"" value "\"}"

static const char *repository;

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    REQUIRE(found != NULL, "%s", name);
    return found;
}

static void load(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    REQUIRE(library != NULL, "%s", dlerror());
    *(void **)&backend.model_begin = symbol(library, "TRITONBACKEND_ModelInitialize");
    *(void **)&backend.model_end = symbol(library, "TRITONBACKEND_ModelFinalize");
    *(void **)&backend.instance_begin = symbol(library, "TRITONBACKEND_ModelInstanceInitialize");
    *(void **)&backend.instance_end = symbol(library, "TRITONBACKEND_ModelInstanceFinalize");
    *(void **)&backend.execute = symbol(library, "TRITONBACKEND_ModelInstanceExecute");
    CHECK(dlsym(library, "execute") == NULL && dlsym(library, "config_read") == NULL);
}

/* Takes an error and says whether it holds the words. */
static bool says(TRITONSERVER_Error *error, const char *words) {
    bool found = error != NULL && strstr(error->message, words) != NULL;
    if (!found)
        fprintf(stderr, "'%s' is not in '%s'\n", words, error != NULL ? error->message : "success");
    if (error != NULL)
        TRITONSERVER_ErrorDelete(error);
    return found;
}

static void succeed(TRITONSERVER_Error *error) {
    REQUIRE(error == NULL, "%s", error->message);
}

/* ----------------------------------------------------------------------------------------------- requests and answers */

/* A request of n pictures of a pattern that depends on `seed`. */
typedef struct sample {
    uint8_t pixels[MAX_PICTURES * MAX_SIDE * MAX_SIDE * 3];
    TRITONBACKEND_Request request;
    int64_t n, width, height;
} sample;

static void fill(sample *s, int seed, int64_t n, int64_t width, int64_t height, bool batched) {
    static const char *const outputs[] = {"BOXES", "SCORES", "CLASSES", "LANDMARKS", "COUNTS"};
    memset(s, 0, sizeof *s);
    s->n = n;
    s->width = width;
    s->height = height;
    uint64_t n_bytes = (uint64_t)(n * width * height * 3);
    for (uint64_t i = 0; i < n_bytes; i++)
        s->pixels[i] = (uint8_t)((i * (uint64_t)(seed + 3) >> 2) ^ (i >> 7));
    TRITONBACKEND_Request *r = &s->request;
    r->input_name = "IMAGE";
    r->input = (TRITONBACKEND_Input){.type = TRITONSERVER_TYPE_UINT8, .n_pieces = 1, .n_bytes = n_bytes};
    const int64_t shape[] = {n, height, width, 3};
    r->input.n_dims = batched ? 4 : 3;
    memcpy(r->input.shape, batched ? shape : shape + 1, r->input.n_dims * sizeof *shape);
    r->input.pieces[0] = s->pixels;
    r->input.piece_bytes[0] = n_bytes;
    memcpy(r->outputs, outputs, sizeof outputs);
    r->n_outputs = 5;
}

static void split(sample *s, uint64_t at) {
    TRITONBACKEND_Input *input = &s->request.input;
    input->n_pieces = 2;
    input->pieces[1] = s->pixels + at;
    input->piece_bytes[1] = input->n_bytes - at;
    input->piece_bytes[0] = at;
}

static const TRITONBACKEND_Output *find_output(const sample *s, const char *name) {
    for (uint32_t i = 0; i < s->request.response.n_outputs; i++)
        if (strcmp(s->request.response.outputs[i].name, name) == 0)
            return &s->request.response.outputs[i];
    return NULL;
}

static const void *data_of(const sample *s, const char *name, uint32_t n_dims, uint64_t n_bytes) {
    const TRITONBACKEND_Output *output = find_output(s, name);
    REQUIRE(output != NULL, "%s", name);
    CHECK_MSG(output->n_dims == n_dims && output->n_bytes == n_bytes, "%s: %u dimensions, %llu bytes", name,
              (unsigned)output->n_dims, (unsigned long long)output->n_bytes);
    return output->buffer;
}

/* Every number of the response against det_run on the same pixels. */
static void check_results(const sample *s, det_context *context, bool batched) {
    uint64_t n = (uint64_t)s->n, rows = n * MAX_OBJECTS;
    uint32_t extra = batched ? 1 : 0;
    const float *boxes = data_of(s, "BOXES", 2 + extra, 16 * rows), *scores = data_of(s, "SCORES", 1 + extra, 4 * rows);
    const float *landmarks = data_of(s, "LANDMARKS", 2 + extra, 40 * rows);
    const int32_t *classes = data_of(s, "CLASSES", 1 + extra, 4 * rows),
                  *counts = data_of(s, "COUNTS", 1 + extra, 4 * n);
    for (int64_t i = 0; i < s->n; i++) {
        det_object objects[MAX_OBJECTS];
        int32_t count;
        det_image image = {.planes = {s->pixels + i * s->width * s->height * 3},
                           .strides = {3 * s->width},
                           .width = (int32_t)s->width,
                           .height = (int32_t)s->height};
        det_output output = {
            .struct_size = sizeof output, .objects = objects, .counts = &count, .max_objects = MAX_OBJECTS};
        REQUIRE(det_run(context, &image, 1, &output) == DET_OK, "%s", det_last_error());
        CHECK(counts[i] == count && count > 0);
        for (int64_t k = 0; k < MAX_OBJECTS; k++) {
            static const det_object none;
            const det_object *expected = k < count ? &objects[k] : &none;
            int64_t row = i * MAX_OBJECTS + k;
            CHECK(memcmp(boxes + 4 * row, &expected->x1, 16) == 0);
            CHECK(memcmp(landmarks + 10 * row, expected->landmarks, 40) == 0);
            CHECK(scores[row] == expected->score && classes[row] == expected->class_id);
        }
    }
}

/* Whatever became of it: one response, one release. */
static void check_answered(const sample *s, const char *error) {
    const TRITONBACKEND_Request *r = &s->request;
    CHECK(r->n_created == 1 && r->n_sent == 1 && r->n_released == 1 && r->n_deleted == 0);
    CHECK_MSG(r->failed == (error != NULL) && (error == NULL || strstr(r->error, error) != NULL), "'%s' for '%s'",
              r->error, error != NULL ? error : "success");
}

/* ---------------------------------------------------------------------------------------------------------- the tests */

typedef struct rig {
    TRITONBACKEND_Model model;
    TRITONBACKEND_ModelInstance instance;
    det_context *context; /* of the same settings, to compare with */
} rig;

static void rig_open(rig *r, const char *config) {
    *r = (rig){.model = {.config = config, .repository = repository, .version = 1}};
    r->instance = (TRITONBACKEND_ModelInstance){.model = &r->model, .kind = TRITONSERVER_INSTANCEGROUPKIND_CPU};
    succeed(backend.model_begin(&r->model));
    succeed(backend.instance_begin(&r->instance));
    char path[4096];
    snprintf(path, sizeof path, "%s/1/model.safetensors", repository);
    det_model *model;
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CPU;
    options.n_threads = 1;
    det_thresholds thresholds;
    det_thresholds_init(&thresholds);
    thresholds.score = 0;
    thresholds.iou = 0.9f;
    thresholds.max_objects = MAX_OBJECTS;
    REQUIRE(det_model_open(path, &model) == DET_OK && det_context_create(model, &options, &r->context) == DET_OK &&
                det_context_set_thresholds(r->context, &thresholds) == DET_OK,
            "%s", det_last_error());
    det_model_close(model);
}

static void rig_close(rig *r) {
    succeed(backend.instance_end(&r->instance));
    succeed(backend.model_end(&r->model));
    det_context_destroy(r->context);
}

/* Requests of several sizes and numbers of pictures in one call, among them some that cannot be answered. */
static void test_batch(void) {
    enum { N = 8 };
    static sample s[N];
    TRITONBACKEND_Request *requests[N];
    const char *errors[N] = {[3] = "no RGB picture",
                             [4] = "no such input",
                             [5] = "no output",
                             [6] = "cannot read it",
                             [7] = "which is not its shape"};
    rig r;
    rig_open(&r, CONFIG(4, ""));
    for (int i = 0; i < N; i++) {
        fill(&s[i], i, 1 + i % 3, 64 + 5 * i, 40 + 7 * i, true);
        requests[i] = &s[i].request;
    }
    split(&s[1], 1000);
    s[3].request.input.shape[3] = 4;
    s[4].request.input_name = "PICTURE";
    s[5].request.outputs[2] = "NAMES";
    s[6].request.input.memory = TRITONSERVER_MEMORY_GPU;
    s[7].request.input.n_bytes--;
    succeed(backend.execute(&r.instance, requests, N));
    for (int i = 0; i < N; i++) {
        check_answered(&s[i], errors[i]);
        if (errors[i] == NULL)
            check_results(&s[i], r.context, true);
        core_free_outputs(&s[i].request);
    }
    CHECK(r.instance.n_reports == N && r.instance.n_successes == 3 && r.instance.n_pictures == 1 + 2 + 3 + 3);
    rig_close(&r);
}

static void test_unbatched(void) {
    static sample s;
    TRITONBACKEND_Request *requests[] = {&s.request};
    rig r;
    rig_open(&r, CONFIG(0, ""));
    fill(&s, 1, 1, 80, 60, false);
    succeed(backend.execute(&r.instance, requests, 1));
    check_answered(&s, NULL);
    check_results(&s, r.context, false);
    core_free_outputs(&s.request);
    fill(&s, 1, 1, 80, 60, true);
    succeed(backend.execute(&r.instance, requests, 1));
    check_answered(&s, "IMAGE must be UINT8 height x width x 3");
    rig_close(&r);
}

static void test_some_outputs(void) {
    static sample s;
    TRITONBACKEND_Request *requests[] = {&s.request};
    rig r;
    rig_open(&r, CONFIG(2, ""));
    fill(&s, 2, 2, 50, 50, true);
    s.request.outputs[0] = "COUNTS";
    s.request.n_outputs = 1;
    succeed(backend.execute(&r.instance, requests, 1));
    check_answered(&s, NULL);
    CHECK(s.request.response.n_outputs == 1 && find_output(&s, "COUNTS") != NULL);
    core_free_outputs(&s.request);
    rig_close(&r);
}

static void test_core_fails(void) {
    static sample s[3];
    TRITONBACKEND_Request *requests[3];
    rig r;
    rig_open(&r, CONFIG(4, ""));
    for (int i = 0; i < 3; i++) {
        fill(&s[i], i, 1, 64, 64, true);
        requests[i] = &s[i].request;
    }
    core.fail_response_after = 2; /* then the requests stay Triton's */
    CHECK(says(backend.execute(&r.instance, requests, 3), "no more responses"));
    core.fail_response_after = -1;
    for (int i = 0; i < 3; i++) {
        const TRITONBACKEND_Request *request = &s[i].request;
        CHECK(request->n_created == (i < 2) && request->n_deleted == request->n_created && request->n_sent == 0 &&
              request->n_released == 0);
        fill(&s[i], i, 1, 64, 64, true);
    }
    core.gpu_outputs = true;
    succeed(backend.execute(&r.instance, requests, 3));
    core.gpu_outputs = false;
    for (int i = 0; i < 3; i++) {
        check_answered(&s[i], "there is no host memory");
        core_free_outputs(&s[i].request);
    }
    rig_close(&r);
}

static void test_bad_models(void) {
    static const struct {
        const char *config, *words;
        uint64_t version;
    } rows[] = {
        {NULL, "no configuration", 1},
        {"{", "not JSON", 1},
        {CONFIG(257, ""), "max_batch_size is 257", 1},
        {CONFIG(-1, ""), "max_batch_size is -1", 1},
        {CONFIG(4, PARAMETER("width", "x")), "'width': 'x' is no number", 1},
        {CONFIG(4, PARAMETER("height", "9999")), "'height': '9999' is no number", 1},
        {CONFIG(4, PARAMETER("precision", "fp8")), "'precision'", 1},
        {CONFIG(4, ""), "cannot be opened", 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        TRITONBACKEND_Model model = {.config = rows[i].config, .repository = repository, .version = rows[i].version};
        CHECK_MSG(says(backend.model_begin(&model), rows[i].words) && model.state == NULL, "row %zu", i);
    }
    TRITONBACKEND_Model model = {.config = CONFIG(4, ""), .repository = repository, .version = 1};
    core.api_major = 2;
    CHECK(says(backend.model_begin(&model), "backend API is 2"));
    core.api_major = 1;
}

static void test_bad_instances(void) {
    TRITONBACKEND_Model model = {.config = CONFIG(4, PARAMETER("width", "65")), .repository = repository, .version = 1};
    succeed(backend.model_begin(&model));
    TRITONBACKEND_ModelInstance instance = {.model = &model, .kind = TRITONSERVER_INSTANCEGROUPKIND_CPU};
    CHECK(says(backend.instance_begin(&instance), "DET_ERROR_INVALID_ARGUMENT") && instance.state == NULL);
    instance.kind = TRITONSERVER_INSTANCEGROUPKIND_MODEL;
    CHECK(says(backend.instance_begin(&instance), "KIND_CPU or KIND_GPU") && instance.state == NULL);
    instance.kind = TRITONSERVER_INSTANCEGROUPKIND_GPU;
    CHECK(says(backend.instance_begin(&instance), "DET_ERROR_") && instance.state == NULL);
    succeed(backend.model_end(&model));
}

/* Two instances of one model at the same time, as an instance group of two. */
typedef struct caller {
    TRITONBACKEND_ModelInstance *instance;
    sample s;
    int n_done;
} caller;

static void *call_often(void *arguments) {
    caller *c = arguments;
    for (int i = 0; i < 20; i++) {
        TRITONBACKEND_Request *requests[] = {&c->s.request};
        fill(&c->s, i, 2, 64, 48, true);
        succeed(backend.execute(c->instance, requests, 1));
        c->n_done += !c->s.request.failed && c->s.request.n_released == 1;
        if (i < 19)
            core_free_outputs(&c->s.request);
    }
    return NULL;
}

static void test_instances(void) {
    static caller callers[2];
    rig r;
    rig_open(&r, CONFIG(4, ""));
    TRITONBACKEND_ModelInstance second = {.model = &r.model, .kind = TRITONSERVER_INSTANCEGROUPKIND_CPU};
    succeed(backend.instance_begin(&second));
    callers[0].instance = &r.instance;
    callers[1].instance = &second;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        REQUIRE(pthread_create(&threads[i], NULL, call_often, &callers[i]) == 0, "thread %d", i);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK(callers[i].n_done == 20);
        check_results(&callers[i].s, r.context, true);
        core_free_outputs(&callers[i].s.request);
    }
    succeed(backend.instance_end(&second));
    rig_close(&r);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3, "usage: backend_test BACKEND.so REPOSITORY");
    repository = argv[2];
    load(argv[1]);
    test_batch();
    test_unbatched();
    test_some_outputs();
    test_core_fails();
    test_bad_models();
    test_bad_instances();
    test_instances();
    CHECK(core.n_errors == 0 && core.n_messages == 0 && core.n_logged == 0);
    return check_report("backend_test");
}
