/* Takes whatever it is given as changes to a complete network: tensors of other shapes, tensors missing, renamed or one too
 * many, and values that no training makes. The builders must find each change that matters, and run the rest.
 *
 * Input: the model's number, then changes of 4 bytes each: what | where, two bytes, modulo the number of tensors | with. */
#include "make_model.h"
#include "try_model.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

enum { MAX_TENSORS = 1024, MAX_CHANGES = 64, MAX_VALUES = 1 << 20, CHANGE_BYTES = 4 };

typedef struct network {
    text metadata;
    int n;
    model_tensor tensors[MAX_TENSORS];
} network;

static void add_tensor(network *net, const char *name, const json_t *entry) {
    model_tensor *t = &net->tensors[net->n++];
    const json_t *shape = json_object_get(entry, "shape");
    snprintf(t->name, sizeof t->name, "%s", name);
    t->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < t->n_dims; i++)
        t->shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
}

static network *make_network(const char *name) {
    network *net = calloc(1, sizeof *net);
    bytes file = make_model(name, NULL);
    size_t header_bytes = (size_t)file.data[0] | (size_t)file.data[1] << 8 | (size_t)file.data[2] << 16;
    json_t *header = json_loadb((const char *)file.data + 8, header_bytes, 0, NULL);
    const char *key;
    json_t *entry;
    json_object_foreach(header, key, entry) {
        if (strcmp(key, "__metadata__") != 0)
            add_tensor(net, key, entry);
    }
    json_decref(header);
    bytes_free(&file);
    net->metadata = make_metadata(name);
    return net;
}

static const char *const names[] = {"yolov5-least", "yolov5-tiny", "yolov8-tiny", "yolo11-tiny", "damo-yolo-mobile-tiny",
                                    "damo-yolo-residual-tiny", "damo-yolo-csp-tiny"};
enum { N_NAMES = sizeof names / sizeof names[0] };

static network *find_network(int index) {
    static network *networks[N_NAMES];
    index %= N_NAMES;
    if (!networks[index])
        networks[index] = make_network(names[index]);
    return networks[index];
}

/* Swaps one number of the name for another: a layer that should not be there instead of one that should. */
static void renumber(char *name, uint8_t with) {
    size_t at = strcspn(name, "0123456789");
    if (name[at])
        name[at] = (char)('0' + with % 10);
}

static void change(network *net, const uint8_t *c, float *value) {
    static const float values[] = {0, 1, -1, 1e-30f, 1e30f, -1e30f, 3e38f, 88, -104};
    static const int sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 17, 18, 24, 32, 64, 65};
    if (net->n == 0)
        return;
    model_tensor *t = &net->tensors[(c[1] << 8 | c[2]) % net->n];
    switch (c[0] % 7) {
    case 0:
        t->shape[0] = sizes[c[3] % 16];
        break;
    case 1:
        t->shape[1] = sizes[c[3] % 16];
        break;
    case 2:
        t->shape[2] = t->shape[3] = sizes[c[3] % 16];
        break;
    case 3:
        t->n_dims = c[3] % 5;
        for (int i = 0; i < t->n_dims; i++)
            t->shape[i] = t->shape[i] ? t->shape[i] : 1;
        break;
    case 4:
        *t = net->tensors[--net->n];
        break;
    case 5:
        renumber(t->name, c[3]);
        break;
    default:
        *value = values[c[3] % (sizeof values / sizeof values[0])];
    }
}

/* All tensors share one block of values. */
static void try_network(network *net, float value) {
    int64_t most = 1, total = 0;
    for (int i = 0; i < net->n; i++) {
        int64_t n = model_tensor_values(&net->tensors[i]);
        most = n > most ? n : most;
        total += n;
    }
    if (total > MAX_VALUES)
        return;
    float *values = malloc((size_t)most * sizeof *values);
    for (int64_t i = 0; i < most; i++)
        values[i] = i % 3 ? value : value / 2;
    for (int i = 0; i < net->n; i++)
        net->tensors[i].values = values;
    bytes file = model_file_of(net->metadata.chars, net->tensors, net->n);
    try_model(file.data, file.n);
    bytes_free(&file);
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    if (n_bytes < 1 || n_bytes > 1 + MAX_CHANGES * CHANGE_BYTES)
        return 0;
    network *changed = malloc(sizeof *changed);
    *changed = *find_network(data[0]);
    float value = 0.1f;
    for (size_t at = 1; at + CHANGE_BYTES <= n_bytes; at += CHANGE_BYTES)
        change(changed, data + at, &value);
    try_network(changed, value);
    free(changed);
    return 0;
}

#ifdef DET_BUILD_FUZZERS
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Before the clock of the first try runs. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    for (int i = 0; i < N_NAMES; i++)
        find_network(i);
    return 0;
}
#endif
