/* What the files of the runner share: runner.c (memory, runs, times), graphs.c (kernels, one by one or as a graph) and
 * transfer.c (pictures and the parameter block up, results down). */
#ifndef DET_CUDA_RUNNER_H
#define DET_CUDA_RUNNER_H

#include "cuda.h"
#include "ranges.h"

enum { DET_N_SLOTS = 4, DET_CAPTURED_SLOT = DET_N_SLOTS };

/* Where a run of the device stands; the first and the last are recorded beside the graph, the rest within. */
enum {
    DET_AT_BEGIN,
    DET_AT_UPLOADED,
    DET_AT_PREPROCESSED,
    DET_AT_NETWORK,
    DET_AT_DECODED,
    DET_AT_NMS,
    DET_AT_END,
    DET_N_EVENTS
};

/* For the host function that hands results over behind a run. */
typedef struct det_delivery {
    det_runner *runner;
    det_output output;
    int n, row_objects;
} det_delivery;

/* A place of the parameter block in host memory. */
typedef struct det_slot {
    char *block;      /* pinned, block_bytes */
    cudaEvent_t done; /* the run, delivery included */
    bool used;
    det_delivery delivery;
} det_slot;

/* For runs of up to n pictures. */
typedef struct det_graph {
    int n;
    cudaGraphExec_t exec; /* NULL: kernels are launched one by one */
} det_graph;

struct det_runner {
    int max_batch, n_classes, max_objects; /* most objects per picture */
    size_t block_bytes, pictures_offset, scores_offset, logits_offset;
    char *block; /* device */
    det_slot slots[DET_N_SLOTS + 1];
    int next_slot;
    char *images;          /* device, max_batch x image_bytes: where host pictures are copied */
    char *captured_images; /* the room that there was when a caller captured a run, once it has become too small */
    size_t image_bytes;
    char *results; /* pinned: counts [max_batch], cuts [max_batch], objects */
    size_t objects_offset;
    cudaEvent_t events[DET_N_EVENTS],
        *step_events; /* step_events: one per step and one before, when layers are timed */
    int n_steps;
    bool profiled;          /* somebody looks at ranges */
    bool has_run, captured; /* captured: by a caller, with the slot for that */
    int n_graphs;
    det_graph graphs[DET_MAX_SIZES]; /* ascending, max_batch is the last */
};

/* Offsets within device memory. */
static inline size_t det_aligned(size_t n) {
    enum { ALIGNMENT = 256 };
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ------------------------------------------------------------------------------------------------------- graphs.c */

/* Records where the run stands. in_graph: between the kernels of a graph that is being captured. */
det_status det_runner_mark(const det_runner *r, int at, cudaStream_t stream, bool in_graph);
/* The kernels of steps [begin, end) for n pictures, one of the batch sizes. */
det_status det_runner_launch(det_device *device, det_plan *plan, int n, int begin, int end, cudaStream_t stream,
                             bool in_graph);
/* Loads every kernel and captures the graphs; where that is refused, kernels will be launched one by one. */
det_status det_graphs_open(det_device *device, det_plan *plan);
void det_graphs_close(det_runner *r);
/* The smallest with room for n pictures. */
const det_graph *det_graph_for(const det_runner *r, int n);
det_status det_graph_launch(const det_runner *r, const det_graph *graph, cudaStream_t stream);

/* ----------------------------------------------------------------------------------------------------- transfer.c */

/* Makes room for host pictures that are larger than any before: the one time that a run takes memory. A run that is being
 * captured cannot. */
det_status det_make_room(det_device *device, const det_frame *frame, bool capturing);
/* Fills the slot and copies it to the device's block; with `pixels`, pictures in host memory too. */
det_status det_upload(det_runner *r, const det_frame *frame, det_slot *slot, bool pixels, cudaStream_t stream);
/* user: a det_delivery. From pinned memory to the caller's. */
void det_deliver(void *user);

#endif
