/* What one model costs on CUDA device 0, as JSON, one object a line:
 *
 *     gpu_speed MODEL PRECISION BATCH[,BATCH...] [SECONDS] [WIDTHxHEIGHT] [peak=TFLOPS] [tune] [layers]
 *
 * From pictures of seeded noise in device memory, 640x640 unless told otherwise, to boxes on the host: latency of det_run,
 * one call after the other (median, P99), that of a single picture in the same context, and pictures a second of two
 * contexts with two runs each on their way. Thresholds are such that some hundred objects are found in a picture, for
 * decoding and NMS to have something to do. Beside them roof_ms, the sum over the layers of what their bytes would take at
 * the bandwidth that a large copy on the device reaches here or, if that is more, their arithmetic at `peak`; and whether a
 * hundred runs gave the same bytes, and each picture the same alone. tune: DET_CONTEXT_TUNE. layers: what every layer took,
 * in a context that times them. */
#include "check.h"
#include "libdetect/detect.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <time.h>

#ifndef GPU_SPEED_SMALL
enum { SIDE = 640, COPY_BYTES = 1 << 30, REPEATS = 100, LAYER_RUNS = 20, WARM_UP = 20 };
#else /* for the fake device */
enum { SIDE = 64, COPY_BYTES = 1 << 16, REPEATS = 3, LAYER_RUNS = 2, WARM_UP = 2 };
#endif
enum { N_PICTURES = 64, MAX_RUNS = 20000, ROOM = 300, OBJECTS = 100 /* of a picture, about */, IN_FLIGHT = 2 };

typedef struct request {
    const char *precision;
    double seconds, peak; /* operations a second; 0: unknown */
    int width, height;
    bool tune, layers;
} request;

static det_image pictures[N_PICTURES];
static det_object objects[2][IN_FLIGHT][256 * ROOM];
static int32_t counts[2][IN_FLIGHT][256];
static double latencies[MAX_RUNS];

#define OK(call)      REQUIRE((call) == DET_OK, "%s", det_last_error())
#define CUDA_OK(call) REQUIRE((call) == cudaSuccess, "%s", cudaGetErrorString(cudaGetLastError()))

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Different pictures, more bytes than any cache holds. */
static void make_pictures(const request *asked) {
    size_t n_bytes = (size_t)asked->width * (size_t)asked->height * 3;
    uint8_t *noise = malloc(n_bytes);
    uint64_t state = 1;
    cudaStream_t stream;
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int i = 0; i < N_PICTURES; i++) {
        void *plane;
        for (size_t k = 0; k < n_bytes; k++)
            noise[k] = (uint8_t)((state = state * 6364136223846793005u + 1442695040888963407u) >> 56);
        CUDA_OK(cudaMalloc(&plane, n_bytes));
        CUDA_OK(cudaMemcpyAsync(plane, noise, n_bytes, cudaMemcpyHostToDevice, stream));
        CUDA_OK(cudaStreamSynchronize(stream));
        pictures[i] = (det_image){.planes = {plane},
                                  .strides = {asked->width * 3},
                                  .width = asked->width,
                                  .height = asked->height,
                                  .format = DET_RGB8,
                                  .memory = DET_MEMORY_DEVICE};
    }
    CUDA_OK(cudaStreamDestroy(stream));
    free(noise);
}

/* Bytes a second, read and written, of copies on the device. */
static double measure_bandwidth(void) {
    enum { COPIES = 10 };
    const size_t n_bytes = COPY_BYTES;
    void *from, *to;
    cudaStream_t stream;
    CUDA_OK(cudaMalloc(&from, n_bytes));
    CUDA_OK(cudaMalloc(&to, n_bytes));
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    double begin = 0;
    for (int i = -1; i < COPIES; i++) {
        if (i == 0) {
            CUDA_OK(cudaStreamSynchronize(stream));
            begin = now();
        }
        CUDA_OK(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, stream));
    }
    CUDA_OK(cudaStreamSynchronize(stream));
    double rate = 2.0 * COPIES * (double)n_bytes / (now() - begin);
    CUDA_OK(cudaStreamDestroy(stream));
    cudaFree(from);
    cudaFree(to);
    return rate;
}

static double roof_ms(const det_profile *p, double bandwidth, double peak) {
    double sum = 0;
    for (int i = 0; i < p->n_layers; i++) {
        double moving = (double)p->layers[i].bytes / bandwidth;
        double computing = peak > 0 ? 2 * (double)p->layers[i].macs / peak : 0;
        sum += moving > computing ? moving : computing;
    }
    return 1e3 * sum;
}

static void choose_pictures(det_image *images, int batch, int run) {
    for (int i = 0; i < batch; i++)
        images[i] = pictures[(run * batch + i) % N_PICTURES];
}

static det_output output_of(int context, int place) {
    return (det_output){.struct_size = sizeof(det_output),
                        .objects = objects[context][place],
                        .counts = counts[context][place],
                        .max_objects = ROOM};
}

/* Objects of a picture, in the mean. */
static double count_objects(det_context *context, int batch) {
    static det_image images[256];
    det_output output = output_of(0, 0);
    double n = 0;
    choose_pictures(images, batch, 0);
    OK(det_run(context, images, batch, &output));
    for (int i = 0; i < batch; i++)
        n += output.counts[i];
    return n / batch;
}

/* Halves the range of scores until there are about as many objects as are meant, or the weights' scores lie too close together
 * for that. Returns how many there are. */
static double set_thresholds(det_context *contexts[2], int batch) {
    enum { STEPS = 16 };
    float low = 0, high = 1;
    double n = 0;
    for (int i = 0; i < STEPS && (n < 0.8 * OBJECTS || n > 1.25 * OBJECTS); i++) {
        det_thresholds thresholds;
        det_thresholds_init(&thresholds);
        thresholds.score = (low + high) / 2;
        OK(det_context_set_thresholds(contexts[0], &thresholds));
        OK(det_context_set_thresholds(contexts[1], &thresholds));
        n = count_objects(contexts[0], batch);
        if (n < OBJECTS)
            high = thresholds.score;
        else
            low = thresholds.score;
    }
    return n;
}

/* One run after the other; returns how many were measured. */
static int measure_latency(det_context *context, int batch, double seconds) {
    det_image images[256];
    det_output output = output_of(0, 0);
    int n = 0;
    double end = 0;
    for (int run = -WARM_UP; n < MAX_RUNS && (run <= 10 || now() < end); run++) {
        choose_pictures(images, batch, run + WARM_UP);
        double begin = now();
        OK(det_run(context, images, batch, &output));
        if (run >= 0)
            latencies[n++] = 1e3 * (now() - begin);
        if (run == 0)
            end = now() + seconds;
    }
    qsort(latencies, (size_t)n, sizeof *latencies, by_value);
    return n;
}

/* ----------------------------------------------------------------------------------------------------- same bytes */

static bool same(const det_output *a, int i, const det_output *b, int j) {
    return a->counts[i] == b->counts[j] && !memcmp(a->objects + (size_t)i * ROOM, b->objects + (size_t)j * ROOM,
                                                   (size_t)a->counts[i] * sizeof(det_object));
}

/* Of `batch` pictures: in run after run, and of each alone. */
static bool gives_same_bytes(det_context *context, int batch) {
    det_image images[256];
    det_output first = output_of(0, 0), again = output_of(0, 1);
    bool good = true;
    choose_pictures(images, batch, 0);
    OK(det_run(context, images, batch, &first));
    for (int run = 0; run < REPEATS; run++) {
        OK(det_run(context, images, batch, &again));
        for (int i = 0; i < batch; i++)
            good = good && same(&first, i, &again, i);
    }
    for (int i = 0; i < batch; i++) {
        OK(det_run(context, &images[i], 1, &again));
        good = good && same(&first, i, &again, 0);
    }
    return good;
}

/* ---------------------------------------------------------------------------------------------------------- times */

/* Pictures a second: each context always has IN_FLIGHT runs on its way. */
static double measure_throughput(det_context *contexts[2], int batch, double seconds) {
    cudaStream_t streams[2];
    cudaEvent_t done[2][IN_FLIGHT];
    det_image images[256];
    int n = 0;
    double begin = 0;
    for (int c = 0; c < 2; c++) {
        CUDA_OK(cudaStreamCreateWithFlags(&streams[c], cudaStreamNonBlocking));
        for (int i = 0; i < IN_FLIGHT; i++)
            CUDA_OK(cudaEventCreateWithFlags(&done[c][i], cudaEventDisableTiming));
    }
    for (int run = 0; run < 2 * IN_FLIGHT + WARM_UP || now() - begin < seconds; run++) {
        int c = run % 2, place = run / 2 % IN_FLIGHT;
        det_output output = output_of(c, place);
        if (run >= 2 * IN_FLIGHT)
            CUDA_OK(cudaEventSynchronize(done[c][place]));
        if (run == WARM_UP + 2 * IN_FLIGHT - 1) {
            begin = now();
            n = 0;
        }
        choose_pictures(images, batch, run);
        OK(det_run_async(contexts[c], images, batch, &output, streams[c]));
        CUDA_OK(cudaEventRecord(done[c][place], streams[c]));
        n += batch;
    }
    for (int c = 0; c < 2; c++)
        CUDA_OK(cudaStreamSynchronize(streams[c]));
    double rate = n / (now() - begin);
    for (int c = 0; c < 2; c++) {
        CUDA_OK(cudaStreamDestroy(streams[c]));
        for (int i = 0; i < IN_FLIGHT; i++)
            CUDA_OK(cudaEventDestroy(done[c][i]));
    }
    return rate;
}

static int32_t precision_of(const char *name) {
    static const char *const names[] = {"auto", "fp32", "tf32", "fp16", "bf16"};
    for (int i = 1; i < 5; i++) {
        if (!strcmp(name, names[i]))
            return i;
    }
    REQUIRE(0, "%s: fp32, tf32, fp16 or bf16 is meant", name);
    return 0;
}

static void print_stages(const det_profile *p) {
    printf("\"upload_ms\": %.4f, \"preprocess_ms\": %.4f, \"network_ms\": %.4f, \"decode_ms\": %.4f, \"nms_ms\": %.4f",
           (double)p->upload_ms, (double)p->preprocess_ms, (double)p->network_ms, (double)p->decode_ms,
           (double)p->nms_ms);
}

/* Mean milliseconds of every layer, in a context of its own. */
static void print_layers(const det_model *model, const det_context_options *plain) {
    enum { MOST = 1024 };
    static double sums[MOST];
    det_context_options options = *plain;
    options.flags |= DET_CONTEXT_PROFILE_LAYERS;
    det_context *context;
    det_image images[256];
    det_output output = output_of(0, 0);
    det_profile profile = {.struct_size = sizeof profile};
    OK(det_context_create(model, &options, &context));
    memset(sums, 0, sizeof sums);
    for (int run = -2; run < LAYER_RUNS; run++) {
        choose_pictures(images, options.max_batch, run + 2);
        OK(det_run(context, images, options.max_batch, &output));
        OK(det_context_get_profile(context, &profile));
        for (int i = 0; run >= 0 && i < profile.n_layers && i < MOST; i++)
            sums[i] += (double)profile.layers[i].ms / LAYER_RUNS;
    }
    printf(", \"layers\": [");
    for (int i = 0; i < profile.n_layers && i < MOST; i++) {
        const det_layer_time *layer = &profile.layers[i];
        printf("%s{\"op\": \"%s\", \"name\": \"%s\", \"impl\": \"%s\", \"ms\": %.5f, \"gmac\": %.5f, \"mb\": %.4f}",
               i ? ", " : "", layer->op, layer->name ? layer->name : "", layer->impl ? layer->impl : "", sums[i],
               1e-9 * (double)layer->macs, 1e-6 * (double)layer->bytes);
    }
    printf("]");
    det_context_destroy(context);
}

static void measure(const det_model *model, const request *asked, int batch, double bandwidth) {
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CUDA;
    options.precision = precision_of(asked->precision);
    options.max_batch = batch;
    options.width = asked->width;
    options.height = asked->height;
    options.flags = asked->tune ? DET_CONTEXT_TUNE : 0;
    det_context *contexts[2];
    double begin = now();
    OK(det_context_create(model, &options, &contexts[0]));
    double created = now() - begin;
    OK(det_context_create(model, &options, &contexts[1]));
    double n_objects = set_thresholds(contexts, batch);
    det_model_info info = {.struct_size = sizeof info};
    det_context_info about = {.struct_size = sizeof about};
    det_profile profile = {.struct_size = sizeof profile};
    OK(det_model_get_info(model, &info));
    OK(det_context_get_info(contexts[0], &about));
    int n = measure_latency(contexts[0], 1, asked->seconds / 2);
    double one = latencies[n / 2];
    n = measure_latency(contexts[0], batch, asked->seconds);
    OK(det_context_get_profile(contexts[0], &profile));
    double roof = roof_ms(&profile, bandwidth, asked->peak);
    double rate = measure_throughput(contexts, batch, asked->seconds);
    printf("{\"family\": \"%s\", \"variant\": \"%s\", \"precision\": \"%s\", \"tuned\": %s, \"width\": %d, \"height\": "
           "%d, ",
           info.family, info.variant, asked->precision, asked->tune ? "true" : "false", asked->width, asked->height);
    printf("\"batch\": %d, \"runs\": %d, \"objects\": %.1f, ", batch, n, n_objects);
    printf("\"median_ms\": %.4f, \"p99_ms\": %.4f, \"pictures_per_second\": %.1f, \"create_s\": %.3f, ",
           latencies[n / 2], latencies[n * 99 / 100], rate, created);
    printf("\"one_picture_ms\": %.4f, \"same_bytes\": %s, ", one,
           gives_same_bytes(contexts[0], batch) ? "true" : "false");
    print_stages(&profile);
    printf(", \"roof_ms\": %.4f, \"copy_gbs\": %.1f, \"peak_tflops\": %.1f", roof, 1e-9 * bandwidth,
           1e-12 * asked->peak);
    printf(", \"gmac\": %.3f, \"weights_bytes\": %lld, \"arena_bytes\": %lld", 1e-9 * (double)about.macs,
           (long long)about.weights_bytes, (long long)about.arena_bytes);
    det_context_destroy(contexts[0]);
    det_context_destroy(contexts[1]);
    if (asked->layers)
        print_layers(model, &options);
    printf("}\n");
    fflush(stdout);
}

/* What follows the batches, in any order. */
static request read_request(int argc, char **argv) {
    request asked = {.precision = argv[2], .seconds = 1, .width = SIDE, .height = SIDE};
    for (int i = 4; i < argc; i++) {
        char end;
        double seconds;
        if (!strcmp(argv[i], "tune"))
            asked.tune = true;
        else if (!strcmp(argv[i], "layers"))
            asked.layers = true;
        else if (sscanf(argv[i], "peak=%lf%c", &asked.peak, &end) == 1)
            asked.peak *= 1e12;
        else if (sscanf(argv[i], "%lf%c", &seconds, &end) == 1)
            asked.seconds = seconds;
        else
            REQUIRE(sscanf(argv[i], "%dx%d%c", &asked.width, &asked.height, &end) == 2 && asked.width > 0 &&
                        asked.width <= 8192 && asked.height > 0 && asked.height <= 8192,
                    "%s: seconds, WIDTHxHEIGHT, peak=TFLOPS, tune or layers is meant", argv[i]);
    }
    return asked;
}

int main(int argc, char **argv) {
    REQUIRE(argc >= 4,
            "usage: gpu_speed MODEL PRECISION BATCH[,BATCH...] [SECONDS] [WIDTHxHEIGHT] [peak=TFLOPS] [tune] "
            "[layers]");
    det_model *model;
    int n_devices = 0;
    if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
        printf("SKIP: there is no CUDA device\n");
        return CHECK_SKIP;
    }
    request asked = read_request(argc, argv);
    OK(det_model_open(argv[1], &model));
    make_pictures(&asked);
    double bandwidth = measure_bandwidth();
    for (char *text = argv[3]; *text; text += *text == ',') {
        int batch = (int)strtol(text, &text, 10);
        REQUIRE(batch >= 1 && batch <= 256, "batch %d", batch);
        measure(model, &asked, batch, bandwidth);
    }
    det_model_close(model);
    return 0;
}
