/* What the files of the CPU backend share. */
#ifndef DET_CPU_H
#define DET_CPU_H

#include "../backend.h"
#include "dnn.h"
#include "pool.h"
#include "wide.h"

struct det_device {
    det_threads *threads;
    det_dnn *dnn;
    const det_wide_code *wide; /* or NULL */
    char name[64];
};

/* Kernels, one per operator; one that is missing does not link. */
#define DET_OP(id, name) extern const det_kernel det_cpu_##name;
#include "../ops.def"
#undef DET_OP

/* Work over the rows of all pictures: `rows` is called for rows [begin, end) of picture i, in bands whose cut does not
 * depend on the number of pictures, so that a picture gives the same bytes alone and in a batch. */
typedef struct det_rows_call {
    const det_step *step;
    const det_frame *frame;
    void (*rows)(const struct det_rows_call *call, int picture, int begin, int end);
} det_rows_call;
void det_cpu_for_rows(det_device *device, const det_step *step, const det_frame *frame,
                      void (*rows)(const det_rows_call *call, int picture, int begin, int end));

/* Bands that `n_rows` rows are cut into for this device, and the first row of band `band` (of the end: n_bands). */
int det_cpu_bands(const det_device *device, int n_rows);
int det_cpu_band_begin(int n_rows, int n_bands, int band);

/* Memory that is walked through at every run: the kernel is asked for huge pages, of which a large network touches a few
 * instead of thousands. det_free gives it back. */
void *det_cpu_alloc_large(size_t n_bytes);

/* The release of kernels whose state is one block of memory. */
void det_cpu_free_state(det_device *device, void *state);

/* Copies rows [begin, end) of the output, which are fresh, to the concatenation that wants them, if there is one. */
void det_cpu_write_into(const det_step *step, int picture, int begin, int end);

/* First value of picture i of a tensor. */
static inline float *det_cpu_picture(void *values, det_shape shape, int i) {
    return (float *)values + (size_t)i * shape.h * shape.w * shape.c;
}

/* In place over n values. */
void det_cpu_activate_row(float *x, size_t n, det_act act);

/* Loops that gain from wide registers are compiled for several x86 instruction sets, chosen when the library is
 * loaded. Not under sanitizers: their checks would run in the resolvers, before they are ready. */
#if defined(__x86_64__) && defined(__GLIBC__) && __GNUC__ >= 12 && !defined(__clang__) && !defined(DET_SANITIZE)
#define DET_CPU_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define DET_CPU_CLONES
#endif

#endif
