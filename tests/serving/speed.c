/* How fast a pool is beside the best that its contexts can do without one.
 *
 *     serving_speed [--model FILE] [--device cpu|cuda] [--size PIXELS] [--batch N] [--threads N] [--seconds S]
 *                   [--rounds N] [--check]
 *
 * --threads: of each CPU context (default 1). --seconds: of each measurement (3). --rounds: all of them in turn, so often;
 * figures are medians (1). --check: exit status 1 where a figure misses its mark; for a machine that does nothing else. */
#include "check.h"
#include "libdetect/detect.h"
#include "make_model.h"
#include "random.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

enum { WIDTH = 640, HEIGHT = 480, ROOM = 100, MAX_BATCH = 64, MAX_LONE = 200, MAX_ROUNDS = 100 };

typedef struct settings {
    const char *model;
    int32_t device;
    int size, batch, threads, rounds;
    double seconds;
    bool check;
} settings;

static settings s = {.device = DET_DEVICE_CPU, .size = 320, .batch = 8, .threads = 1, .rounds = 1, .seconds = 3};
static det_model *model;
static uint8_t pixels[WIDTH * HEIGHT * 3];
static const det_image picture = {
    .planes = {pixels}, .strides = {3 * WIDTH}, .width = WIDTH, .height = HEIGHT, .format = DET_RGB8};
static int n_missed;

#define NEED(call) REQUIRE((call) == DET_OK, "%s", det_last_error())

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void figure(const char *what, double value, double mark, const char *unit) {
    bool missed = mark > 0 && value < mark;
    n_missed += missed;
    printf("  %-60s %9.2f %s%s\n", what, value, unit, missed ? "  (too little)" : "");
}

static det_context_options options_of(int max_batch) {
    det_context_options o;
    det_context_options_init(&o);
    o.device = s.device;
    o.width = o.height = s.size;
    o.max_batch = max_batch;
    o.n_threads = s.device == DET_DEVICE_CPU ? s.threads : 0;
    return o;
}

/* Pictures per second of one context, batch after batch. */
static double fixed(int batch) {
    static det_object objects[MAX_BATCH * ROOM];
    det_image images[MAX_BATCH];
    int32_t counts[MAX_BATCH];
    det_context_options o = options_of(batch);
    det_context *context;
    NEED(det_context_create(model, &o, &context));
    for (int i = 0; i < batch; i++)
        images[i] = picture;
    det_output output = {sizeof output, objects, counts, ROOM, DET_MEMORY_HOST, NULL};
    NEED(det_run(context, images, batch, &output));
    int n = 0;
    double begin = now();
    for (; now() - begin < s.seconds; n += batch)
        NEED(det_run(context, images, batch, &output));
    double speed = n / (now() - begin);
    det_context_destroy(context);
    return speed;
}

static det_pool *create_pool(int n_contexts, int max_delay_us) {
    det_context_options context = options_of(s.batch);
    det_pool_device entry = {&context, n_contexts, 0};
    det_pool_options o;
    det_pool *pool;
    det_pool_options_init(&o);
    o.devices = &entry;
    o.n_devices = 1;
    o.max_delay_us = max_delay_us;
    o.capacity = 16 * s.batch * n_contexts;
    NEED(det_pool_create(model, &o, &pool));
    return pool;
}

typedef struct pump {
    det_pool *pool;
    double end;
    pthread_mutex_t mutex;
    pthread_cond_t done;
    int n_open;
    long n_done;
} pump;

/* One of the requests that are open at a time. */
typedef struct seat {
    pump *pump;
    det_request request;
    det_object object;
} seat;

/* The callback of each request submits the next. */
static void refill(void *user, const det_answer *answer) {
    seat *own = user;
    pump *p = own->pump;
    pthread_mutex_lock(&p->mutex);
    REQUIRE(answer->status == DET_OK, "%s", answer->message);
    p->n_done++;
    bool more = now() < p->end;
    if (!more && --p->n_open == 0)
        pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->mutex);
    if (more)
        NEED(det_pool_submit(p->pool, &picture, &own->request, refill, own, NULL));
}

static double pooled(int n_contexts, int max_delay_us) {
    static seat seats[4 * MAX_BATCH * 2];
    pump p = {.pool = create_pool(n_contexts, max_delay_us),
              .mutex = PTHREAD_MUTEX_INITIALIZER,
              .done = PTHREAD_COND_INITIALIZER};
    double begin = now();
    p.end = begin + s.seconds;
    int n = 4 * s.batch * n_contexts;
    p.n_open = n;
    for (int i = 0; i < n; i++) {
        seats[i].pump = &p;
        det_request_init(&seats[i].request);
        seats[i].request.objects = &seats[i].object;
        seats[i].request.max_objects = 1;
        NEED(det_pool_submit(p.pool, &picture, &seats[i].request, refill, &seats[i], NULL));
    }
    pthread_mutex_lock(&p.mutex);
    while (p.n_open > 0)
        pthread_cond_wait(&p.done, &p.mutex);
    pthread_mutex_unlock(&p.mutex);
    double speed = (double)p.n_done / (now() - begin);
    det_pool_destroy(p.pool);
    return speed;
}

static int compare_numbers(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, compare_numbers);
    return 0.5 * (values[(n - 1) / 2] + values[n / 2]);
}

/* Pictures per second with as many on their way as there is room for. Ratios are taken round by round. */
static void load(void) {
    static double lone[MAX_ROUNDS], batches[MAX_ROUNDS], pool[MAX_ROUNDS], two[MAX_ROUNDS], of_best[MAX_ROUNDS],
        delayed_of_best[MAX_ROUNDS], beside_one[MAX_ROUNDS];
    for (int i = 0; i < s.rounds; i++) {
        lone[i] = fixed(1);
        batches[i] = fixed(s.batch);
        pool[i] = pooled(1, 0);
        two[i] = pooled(2, 0);
        double best = lone[i] > batches[i] ? lone[i] : batches[i];
        of_best[i] = 100 * pool[i] / best;
        delayed_of_best[i] = 100 * pooled(1, 2000) / best;
        beside_one[i] = two[i] / pool[i];
    }
    figure("a context, one picture after the other", median(lone, s.rounds), 0, "pictures/s");
    figure("a context, batch after batch", median(batches, s.rounds), 0, "pictures/s");
    figure("a pool of one context", median(pool, s.rounds), 0, "pictures/s");
    figure("    of the best above", median(of_best, s.rounds), 90, "%");
    figure("    with max_delay_us 2000, of the best above", median(delayed_of_best, s.rounds), 90, "%");
    figure("a pool of two contexts", median(two, s.rounds), 0, "pictures/s");
    figure("    beside one", median(beside_one, s.rounds), 0, "times");
    printf("    beside one, in each round, the least first:");
    for (int i = 0; i < s.rounds; i++)
        printf(" %.2f", beside_one[i]);
    printf("\n");
}

static void light_load(int max_delay_us) {
    double waits[MAX_LONE];
    int n = s.seconds < 1 ? 10 : MAX_LONE;
    det_pool *pool = create_pool(1, max_delay_us);
    det_object objects[ROOM];
    det_request request;
    det_request_init(&request);
    request.objects = objects;
    request.max_objects = ROOM;
    for (int i = 0; i < n; i++) {
        uint64_t ticket;
        det_answer answer = {.struct_size = sizeof answer};
        NEED(det_pool_submit(pool, &picture, &request, NULL, NULL, &ticket));
        NEED(det_pool_wait(pool, ticket, -1, &answer));
        waits[i] = (double)answer.wait_us;
    }
    det_pool_destroy(pool);
    double middle = median(waits, n); /* which sorts them */
    char what[80];
    snprintf(what, sizeof what, "lone requests, delay %d us: wait, median", max_delay_us);
    figure(what, middle, 0, "us");
    figure("    99 of 100 below", waits[n * 99 / 100], 0, "us");
    n_missed += middle > max_delay_us + 1000;
}

static void take_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(name, "--check")) {
            s.check = true;
            continue;
        }
        i++;
        if (!strcmp(name, "--model"))
            s.model = value;
        else if (!strcmp(name, "--device"))
            s.device = !strcmp(value, "cuda") ? DET_DEVICE_CUDA : DET_DEVICE_CPU;
        else if (!strcmp(name, "--size"))
            s.size = atoi(value);
        else if (!strcmp(name, "--batch"))
            s.batch = atoi(value);
        else if (!strcmp(name, "--threads"))
            s.threads = atoi(value);
        else if (!strcmp(name, "--rounds"))
            s.rounds = atoi(value);
        else if (!strcmp(name, "--seconds"))
            s.seconds = atof(value);
        else
            REQUIRE(false, "%s is no option", name);
    }
    REQUIRE(s.batch >= 1 && s.batch <= MAX_BATCH && s.seconds > 0, "batch %d, %g seconds", s.batch, s.seconds);
    REQUIRE(s.rounds >= 1 && s.rounds <= MAX_ROUNDS, "%d rounds", s.rounds);
}

static void open_model(void) {
    if (s.model) {
        NEED(det_model_open(s.model, &model));
        return;
    }
    bytes file = make_model("damofd-0.5g-kps", NULL);
    NEED(det_model_open_memory(file.data, file.n, &model));
    bytes_free(&file);
}

int main(int argc, char **argv) {
    take_options(argc, argv);
    open_model();
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)random_next(&random);
    load();
    light_load(0);
    light_load(2000);
    det_model_close(model);
    return s.check && n_missed ? 1 : 0;
}
