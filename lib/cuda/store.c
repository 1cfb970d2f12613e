/* What the contexts of a model share on a device: weights, packed, converted and uploaded once for each element type, and what
 * cuDNN has compiled (kernel_cache.c). */
#include "cudnn_graph.h"

#include <stdio.h>
#include <string.h>

typedef struct item {
    struct item *next;
    char name[DET_NAME_BYTES + 32];
    void *data;
} item;

struct det_store {
    det_store *next;
    int index; /* of the device */
    det_type type;
    int n_users;
    item *items;
    det_kernel_caches *caches;
};

/* ------------------------------------------------------------------------------------------------------ conversion */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Round to nearest, ties to even. */
static uint16_t to_bf16(float x) {
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); /* a NaN stays one */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint16_t to_f16(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x47800000) /* 65536 and up, infinity, NaN */
        return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (magnitude < 0x38800000) { /* below 2^-14: the unit of the last place is 2^-24 */
        float scaled = (x < 0 ? -x : x) * 16777216.0f;
        uint32_t whole = (uint32_t)scaled;
        float rest = scaled - (float)whole;
        whole += rest > 0.5f || (rest == 0.5f && (whole & 1));
        return (uint16_t)(sign | whole);
    }
    uint32_t half = magnitude - 0x38000000;
    half = (half + 0xfff + (half >> 13 & 1)) >> 13;
    return (uint16_t)(sign | half);
}

/* In place: the halves overtake nothing, for each is written behind what is read next. */
static void convert(float *values, size_t n, det_type type) {
    uint16_t *halves = (uint16_t *)(void *)values;
    for (size_t i = 0; type != DET_TYPE_F32 && i < n; i++) {
        float value;
        memcpy(&value, (const char *)values + i * sizeof value, sizeof value);
        uint16_t half = type == DET_TYPE_F16 ? to_f16(value) : to_bf16(value);
        memcpy(&halves[i], &half, sizeof half);
    }
}

/* ------------------------------------------------------------------------------------------------------- the store */

static det_status make_store(const det_device *device, det_store **out) {
    det_store *store = det_alloc_array(1, sizeof *store);
    if (!store)
        return DET_ERROR_OUT_OF_MEMORY;
    store->index = device->index;
    store->type = device->type;
    det_status status = det_kernel_caches_open(&store->caches);
    if (status == DET_OK)
        *out = store;
    else
        det_free(store);
    return status;
}

/* `list`: of the model's stores, or NULL. */
static det_status open_store(det_device *device, det_store **list) {
    for (det_store *s = list ? *list : NULL; s && !device->store; s = s->next) {
        if (s->index == device->index && s->type == device->type)
            device->store = s;
    }
    if (!device->store) {
        DET_TRY(make_store(device, &device->store));
        device->store->next = list ? *list : NULL;
        if (list)
            *list = device->store;
    }
    device->store->n_users++;
    device->caches = device->store->caches;
    return DET_OK;
}

det_status det_cuda_store_open(det_device *device, det_shared *shared) {
    if (device->store)
        return DET_OK;
    if (!shared)
        return open_store(device, NULL);
    device->shared = shared;
    pthread_mutex_lock(&shared->lock);
    det_status status = open_store(device, (det_store **)(void *)&shared->stores);
    pthread_mutex_unlock(&shared->lock);
    return status;
}

static void free_store(det_device *device, det_store *store) {
    while (store->items) {
        item *next = store->items->next;
        det_cuda_release(device, store->items->data);
        det_free(store->items);
        store->items = next;
    }
    det_kernel_caches_close(store->caches);
    det_free(store);
}

void det_cuda_store_close(det_device *device) {
    det_store *store = device->store;
    if (!store)
        return;
    if (device->shared)
        pthread_mutex_lock(&device->shared->lock);
    if (--store->n_users == 0) {
        det_store **link = device->shared ? (det_store **)(void *)&device->shared->stores : &store;
        while (*link != store)
            link = &(*link)->next;
        *link = store->next;
        free_store(device, device->store);
    }
    if (device->shared)
        pthread_mutex_unlock(&device->shared->lock);
    device->store = NULL;
    device->caches = NULL;
}

static det_status copy(det_device *device, const void *values, size_t n_bytes, void *data) {
    CUDA_TRY(cudaMemcpyAsync(data, values, n_bytes, cudaMemcpyHostToDevice, device->stream));
    CUDA_TRY(cudaStreamSynchronize(device->stream));
    return DET_OK;
}

static det_status upload(det_device *device, const void *values, size_t n_bytes, void *data) {
    det_visit visit;
    DET_TRY(det_cuda_enter(device, &visit));
    return det_cuda_leave(device, &visit, copy(device, values, n_bytes, data));
}

static det_status fill(det_device *device, item *new, det_type type, size_t n, det_pack_fn pack, const void *what) {
    size_t n_bytes = n * (size_t)det_type_bytes(type);
    float *values = det_alloc_array(n, sizeof *values);
    if (!values)
        return DET_ERROR_OUT_OF_MEMORY;
    pack(what, values);
    convert(values, n, type);
    det_status status = det_cuda_allocate(device, n_bytes, &new->data);
    if (status == DET_OK)
        status = upload(device, values, n_bytes, new->data);
    if (status != DET_OK)
        det_cuda_release(device, new->data); /* waits for a copy that is on its way */
    det_free(values);
    return status;
}

static det_status find_or_make(det_device *device, const char *name, det_type type, size_t n, det_pack_fn pack,
                               const void *what, const void **data) {
    for (const item *i = device->store->items; i && device->shared; i = i->next) {
        if (!strcmp(i->name, name)) {
            *data = i->data;
            return DET_OK;
        }
    }
    item *new = det_alloc_array(1, sizeof *new);
    if (!new)
        return DET_ERROR_OUT_OF_MEMORY;
    snprintf(new->name, sizeof new->name, "%s", name);
    det_status status = fill(device, new, type, n, pack, what);
    if (status != DET_OK) {
        det_free(new);
        return status;
    }
    new->next = device->store->items;
    device->store->items = new;
    *data = new->data;
    return DET_OK;
}

det_status det_cuda_weights(det_device *device, const det_plan_facts *facts, const char *node, const char *part,
                            det_type type, size_t n, det_pack_fn pack, const void *what, size_t *n_bytes,
                            const void **data) {
    char name[sizeof((item *)0)->name];
    snprintf(name, sizeof name, "%s/%s", node, part);
    *n_bytes += n * (size_t)det_type_bytes(type);
    DET_TRY(det_cuda_store_open(device, facts->shared));
    if (facts->shared)
        pthread_mutex_lock(&facts->shared->lock);
    det_status status = find_or_make(device, name, type, n, pack, what, data);
    if (facts->shared)
        pthread_mutex_unlock(&facts->shared->lock);
    return status;
}
