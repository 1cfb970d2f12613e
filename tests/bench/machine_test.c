/* What the benchmark sees of a machine and of a GPU, and what it makes of throttling. The GPU is a made-up one
 * (fake_nvml.c), found where the loader looks for NVML; throttled cores are files in a folder of the test's own. */
#include "bench.h"
#include "check.h"
#include "document.h"
#include "roof.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

const char program_name[] = "machine_test";

/* ------------------------------------------------------------------------------------------------------------ GPU */

static void test_description(void) {
    char reason[128];
    nvml *gpu = nvml_open(0, "", reason);
    REQUIRE(gpu != NULL, "%s", reason);
    nvml_description d;
    nvml_describe(gpu, &d);
    CHECK(!strcmp(d.name, "Fake GPU 0") && !strcmp(d.driver, "555.42") && d.cuda_version == 12050);
    CHECK(d.power_cap_w == 700 && d.max_sm_mhz == 1980 && d.ecc == 1 && d.capability == 90);
    CHECK_MSG(d.n_other_processes == 1, "%d", d.n_other_processes);
    nvml_reading r;
    nvml_read(gpu, &r);
    CHECK(r.utilisation == 87 && r.memory_bytes == 10.0 * (1 << 30) && r.temperature == 61 && r.power_w == 412);
    CHECK(r.sm_mhz == 1755 && r.memory_mhz == 2619 && r.throttle == 0);
    /* 132 multiprocessors at 1.98 GHz: 33.5 T fp32 and 535 T half-precision products a second; 4.9 TB/s */
    CHECK(fabs(nvml_peak_macs(&d, DET_FP32) - 132 * 128 * 1.98e9) < 1e6);
    CHECK(fabs(nvml_peak_macs(&d, DET_TF32) - 132 * 1024 * 1.98e9) < 1e6);
    CHECK(fabs(nvml_peak_macs(&d, DET_FP16) - 132 * 2048 * 1.98e9) < 1e6);
    CHECK(fabs(nvml_bandwidth(&d) - 2 * 3201e6 * 6144 / 8) < 1e6);
    d.capability = 1234;
    CHECK(nvml_peak_macs(&d, DET_FP16) == 0);
    nvml_close(gpu);
}

static void test_device_choice(void) {
    static const struct {
        const char *visible;
        int index;
        const char *uuid;
        const char *name; /* NULL: none */
    } cases[] = {{NULL, 2, "", "Fake GPU 2"},       {"2,0", 0, "", "Fake GPU 2"},
                 {"2,0", 1, "", "Fake GPU 0"},      {NULL, 3, "", NULL},
                 {"GPU-1,0", 0, "", "Fake GPU 1"},  {"GPU-1,0", 1, "", "Fake GPU 0"},
                 {"2,0", 0, "GPU-1", "Fake GPU 1"}, {NULL, 0, "GPU-7", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char reason[128];
        if (cases[i].visible != NULL)
            setenv("CUDA_VISIBLE_DEVICES", cases[i].visible, 1);
        else
            unsetenv("CUDA_VISIBLE_DEVICES");
        nvml *gpu = nvml_open(cases[i].index, cases[i].uuid, reason);
        nvml_description d = {.name = ""};
        if (gpu != NULL)
            nvml_describe(gpu, &d);
        CHECK_MSG((gpu != NULL) == (cases[i].name != NULL), "case %zu: %s", i, reason);
        CHECK_MSG(cases[i].name == NULL ? reason[0] != '\0' : !strcmp(d.name, cases[i].name), "case %zu: %s", i,
                  d.name);
        nvml_close(gpu);
    }
    unsetenv("CUDA_VISIBLE_DEVICES");
}

static void test_no_driver(void) {
    char reason[128];
    setenv("FAKE_NVML_FAIL", "9", 1);
    CHECK(nvml_open(0, "", reason) == NULL && strstr(reason, "error 9") != NULL);
    unsetenv("FAKE_NVML_FAIL");
}

/* ------------------------------------------------------------------------------------------------------ throttling */

static resources sample(const sampler_plan *plan, void (*meanwhile)(const void *), const void *data) {
    resources used;
    sampler *s = sampler_start(plan);
    REQUIRE(s != NULL, "no sampler");
    sampler_begin(s);
    if (meanwhile != NULL)
        meanwhile(data);
    usleep(50000);
    sampler_end(s, &used);
    sampler_stop(s);
    return used;
}

/* The rows that a throttled run would leave. */
static void check_row(const resources *used, bool valid, const char *word) {
    bench b = {0};
    json_t *row = json_pack("{s:[], s:[]}", "invalid", "notes");
    row_resources(&b, row, used);
    const char *reason = json_string_value(json_array_get(json_object_get(row, "invalid"), 0));
    CHECK_MSG((reason == NULL) == valid && b.any_failed == !valid, "%s", reason != NULL ? reason : "valid");
    CHECK_MSG(valid || strstr(reason, word) != NULL, "%s", reason);
    json_decref(row);
}

static void test_gpu_throttling(void) {
    char reason[128];
    static const struct {
        const char *bits;
        bool valid;
        const char *word;
    } cases[] = {{"0x0", true, ""},
                 {"0x1", true, ""},
                 {"0x2", true, ""}, /* idle; clocks that were set */
                 {"0x4", false, "power cap"},
                 {"0x40", false, "hardware thermal"},
                 {"0x29", false, "software thermal"},
                 {"0x80", false, "power brake"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setenv("FAKE_NVML_THROTTLE", cases[i].bits, 1);
        nvml *gpu = nvml_open(0, "", reason);
        REQUIRE(gpu != NULL, "%s", reason);
        resources used = sample(&(sampler_plan){.root = "/nowhere", .gpu = gpu, .interval_s = 0.005}, NULL, NULL);
        CHECK(used.has_gpu && used.gpu_utilisation == 87 && used.gpu_power_mean == 412 &&
              used.gpu_temperature_max == 61);
        CHECK(used.n_samples >= 2 && used.gpu_sm_mhz_min == 1755);
        check_row(&used, cases[i].valid, cases[i].word);
        nvml_close(gpu);
    }
    unsetenv("FAKE_NVML_THROTTLE");
}

static void write_count(const char *root, const char *count) {
    static const char *const folders[] = {"",
                                          "/sys",
                                          "/sys/devices",
                                          "/sys/devices/system",
                                          "/sys/devices/system/cpu",
                                          "/sys/devices/system/cpu/cpu0",
                                          "/sys/devices/system/cpu/cpu0/thermal_throttle"};
    char path[512];
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(path, sizeof path, "%s%s", root, folders[i]);
        mkdir(path, 0777);
    }
    strcat(path, "/core_throttle_count");
    FILE *file = fopen(path, "w");
    REQUIRE(file != NULL, "%s", path);
    fprintf(file, "%s\n", count);
    fclose(file);
}

static void become_hot(const void *root) {
    write_count(root, "9");
}

static void test_cpu_throttling(void) {
    const char *root = "machine_test.root";
    write_count(root, "7");
    resources used = sample(&(sampler_plan){.root = root, .interval_s = 0.005}, NULL, NULL);
    CHECK(used.n_cpu_throttled == 0 && !used.has_gpu);
    check_row(&used, true, "");
    used = sample(&(sampler_plan){.root = root, .interval_s = 0.005}, become_hot, root);
    CHECK_MSG(used.n_cpu_throttled == 2, "%lld", (long long)used.n_cpu_throttled);
    check_row(&used, false, "2 times");
}

/* ------------------------------------------------------------------------------------------------------- readings */

static char *memory_taken;

static void take_memory(const void *bytes) {
    memory_taken = malloc((size_t)bytes);
    REQUIRE(memory_taken != NULL, "no memory");
    memset(memory_taken, 1, (size_t)bytes);
}

static void work(const void *data) {
    (void)data;
    timebase *time = timebase_machine();
    machine_reading r;
    double cpu_s;
    machine_read("/nowhere", &r);
    for (cpu_s = r.own_cpu_s + 0.05; r.own_cpu_s < cpu_s; machine_read("/nowhere", &r))
        (void)timebase_now(time);
}

static void test_use(void) {
    enum { TAKEN = 64 * 1024 * 1024 };
    const sampler_plan plan = {.root = "/nowhere", .interval_s = 0.005};
    resources before = sample(&plan, NULL, NULL), used = sample(&plan, take_memory, (const void *)(size_t)TAKEN);
    CHECK_MSG(used.rss_max >= before.rss_mean + 0.9 * TAKEN, "%g, before %g", used.rss_max, before.rss_mean);
    free(memory_taken);
    used = sample(&plan, work, NULL);
    CHECK_MSG(used.cpu_cores * used.seconds >= 0.045, "%g cores in %g s", used.cpu_cores, used.seconds);
}

static void test_description_of_the_machine(void) {
    machine_description d;
    machine_describe(&d);
    CHECK(d.n_logical >= 1 && d.n_cores >= 1 && d.n_cores <= d.n_logical && d.n_usable >= 1);
    CHECK(d.kernel[0] != '\0' && d.memory_bytes > 1e6 && d.load >= 0);
    char path[4096], text[32];
    CHECK(strstr(machine_file_of((const void *)(size_t)det_version, path), "libdetect.so") != NULL);
    CHECK_MSG(strchr(machine_onednn_version(text), '.') != NULL, "oneDNN '%s'", text);
    CHECK(machine_library_version("libnothing", "nothing") == 0);
}

static void test_roof(void) {
    roof one = roof_measure(1, 0.05);
    CHECK_MSG(one.macs_per_s > 1e7 && one.bytes_per_s > 1e7 && !strcmp(one.source, "measured"), "%g MAC/s, %g B/s",
              one.macs_per_s, one.bytes_per_s);
    options given = {.roof_gmacs = 12, .roof_gbytes = 3};
    bench b = {.given = &given};
    roof told = roof_of(&b, &(det_context_info){.device = DET_DEVICE_CUDA});
    CHECK(told.macs_per_s == 12e9 && told.bytes_per_s == 3e9 && !strcmp(told.source, "given"));
    given.roof_gmacs = 0;
    told = roof_of(&b, &(det_context_info){.device = DET_DEVICE_CUDA});
    CHECK(!strcmp(told.source, "unknown") && told.macs_per_s == 0);
}

int main(void) {
    test_description();
    test_device_choice();
    test_no_driver();
    test_gpu_throttling();
    test_cpu_throttling();
    test_use();
    test_description_of_the_machine();
    test_roof();
    return check_report("bench machine");
}
