/* What one model costs on CUDA device 0, as JSON, one object a line:
 *
 *     gpu_speed MODEL PRECISION BATCH[,BATCH...] [SECONDS] [tune] [layers]
 *
 * From 640x640 pictures of seeded noise in device memory to boxes on the host: latency of det_run, one call after the
 * other (median, P99), that of a single picture in the same context, and pictures a second of two contexts with two runs
 * each on their way. Beside them roof_ms, what the layers' bytes alone would take at the bandwidth that a large copy on the
 * device reaches here; and whether a hundred runs gave the same bytes, and each picture the same alone. tune:
 * DET_CONTEXT_TUNE. layers: what every layer took, in a context that times them. */
#include "check.h"
#include "libdetect/detect.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <time.h>

#ifndef GPU_SPEED_SMALL
enum { SIDE = 640, COPY_BYTES = 1 << 30, REPEATS = 100, LAYER_RUNS = 20 };
#else /* for the fake device */
enum { SIDE = 64, COPY_BYTES = 1 << 16, REPEATS = 3, LAYER_RUNS = 2 };
#endif
enum { N_PICTURES = 64, MAX_RUNS = 20000, ROOM = 300, WARM_UP = SIDE / 32, IN_FLIGHT = 2 };

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
static void make_pictures(void) {
    size_t n_bytes = (size_t)SIDE * SIDE * 3;
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
                                  .strides = {SIDE * 3},
                                  .width = SIDE,
                                  .height = SIDE,
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

static double roof_ms(const det_profile *p, double bandwidth) {
    double n_bytes = 0;
    for (int i = 0; i < p->n_layers; i++)
        n_bytes += (double)p->layers[i].bytes;
    return 1e3 * n_bytes / bandwidth;
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

static void measure(const det_model *model, const char *precision, int batch, double seconds, double bandwidth,
                    bool tune, bool layers) {
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CUDA;
    options.precision = precision_of(precision);
    options.max_batch = batch;
    options.width = options.height = SIDE;
    options.flags = tune ? DET_CONTEXT_TUNE : 0;
    det_context *contexts[2];
    double begin = now();
    OK(det_context_create(model, &options, &contexts[0]));
    double created = now() - begin;
    OK(det_context_create(model, &options, &contexts[1]));
    det_model_info info = {.struct_size = sizeof info};
    det_context_info about = {.struct_size = sizeof about};
    det_profile profile = {.struct_size = sizeof profile};
    OK(det_model_get_info(model, &info));
    OK(det_context_get_info(contexts[0], &about));
    int n = measure_latency(contexts[0], 1, seconds / 2);
    double one = latencies[n / 2];
    n = measure_latency(contexts[0], batch, seconds);
    OK(det_context_get_profile(contexts[0], &profile));
    double roof = roof_ms(&profile, bandwidth), rate = measure_throughput(contexts, batch, seconds);
    printf(
        "{\"family\": \"%s\", \"variant\": \"%s\", \"precision\": \"%s\", \"tuned\": %s, \"batch\": %d, \"runs\": %d, ",
        info.family, info.variant, precision, tune ? "true" : "false", batch, n);
    printf("\"median_ms\": %.4f, \"p99_ms\": %.4f, \"pictures_per_second\": %.1f, \"create_s\": %.3f, ",
           latencies[n / 2], latencies[n * 99 / 100], rate, created);
    printf("\"one_picture_ms\": %.4f, \"same_bytes\": %s, ", one,
           gives_same_bytes(contexts[0], batch) ? "true" : "false");
    print_stages(&profile);
    printf(", \"roof_ms\": %.4f, \"copy_gbs\": %.1f", roof, 1e-9 * bandwidth);
    printf(", \"gmac\": %.3f, \"weights_bytes\": %lld, \"arena_bytes\": %lld", 1e-9 * (double)about.macs,
           (long long)about.weights_bytes, (long long)about.arena_bytes);
    det_context_destroy(contexts[0]);
    det_context_destroy(contexts[1]);
    if (layers)
        print_layers(model, &options);
    printf("}\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    REQUIRE(argc >= 4, "usage: gpu_speed MODEL PRECISION BATCH[,BATCH...] [SECONDS] [tune] [layers]");
    det_model *model;
    int n_devices = 0;
    bool tune = false, layers = false;
    if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
        printf("SKIP: there is no CUDA device\n");
        return CHECK_SKIP;
    }
    for (int i = 5; i < argc; i++) {
        tune = tune || !strcmp(argv[i], "tune");
        layers = layers || !strcmp(argv[i], "layers");
    }
    OK(det_model_open(argv[1], &model));
    make_pictures();
    double bandwidth = measure_bandwidth();
    for (char *text = argv[3]; *text; text += *text == ',') {
        int batch = (int)strtol(text, &text, 10);
        REQUIRE(batch >= 1 && batch <= 256, "batch %d", batch);
        measure(model, argv[2], batch, argc > 4 ? atof(argv[4]) : 1, bandwidth, tune, layers);
    }
    det_model_close(model);
    return 0;
}
