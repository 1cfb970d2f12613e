/* 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): a tile of 4x4 outputs takes 36 products for each pair of
 * channels instead of 144.
 *
 * A patch of 6x6 inputs is transformed into the values of a polynomial at six points in each direction, so are the
 * weights, ahead of time; at each of the 36 points the products are a plain matrix product over the channels, and the
 * sums are transformed back. The points 0, +-sqrt(1/2), +-sqrt(2) and infinity keep the numbers of one magnitude: the
 * error is that of a few roundings more than the direct sum has.
 *
 * Work is cut into blocks of tiles small enough for everything between the transforms to stay in the second-level
 * cache. A tile's arithmetic does not depend on its block, so neither do the bytes on threads or batches. */
#include "wide.h"

#ifdef __x86_64__

#include "avx512.h"

#include <string.h>

enum {
    TILE = 4,
    PATCH = TILE + 2,
    N_POINTS = PATCH * PATCH,
    MAX_BLOCK_TILES = 96,
    MIN_BLOCK_TILES = 32, /* every block reads all weights */
    BLOCK_BYTES = 512 << 10,
    /* Below these the transforms cost more than the products that they save. */
    MIN_CHANNELS = 12,
};

static const float half_root = 0.707106781f, root = 1.41421356f; /* the points */

typedef struct winograd {
    det_conv_state base;
    int c_in, c_out;
    int tiles_x, n_tiles, n_blocks, block_tiles; /* of a picture; most tiles of a block */
    size_t v_plane, m_plane;                     /* floats from one point's matrix to the next */
    size_t scratch_bytes;                        /* of one thread */
    float *weights;                              /* by panel: [36][c_in][channels of the panel, in whole vectors] */
    float *bias;                                 /* [c_out in whole vectors] */
} winograd;

/* ------------------------------------------------------------------------------------------------------ weights */

/* Values at the six points of the polynomial with coefficients g, over the derivative of the points' product there. */
static void weight_points(const double g[3], double u[PATCH]) {
    const double a = 0.70710678118654752, b = 1.4142135623730950;
    u[0] = g[0];
    u[1] = -2.0 / 3 * (g[0] + a * g[1] + a * a * g[2]);
    u[2] = -2.0 / 3 * (g[0] - a * g[1] + a * a * g[2]);
    u[3] = 1.0 / 6 * (g[0] + b * g[1] + b * b * g[2]);
    u[4] = 1.0 / 6 * (g[0] - b * g[1] + b * b * g[2]);
    u[5] = g[2];
}

static void transform_kernel(const float *g, double u[PATCH][PATCH]) {
    double rows[3][PATCH];
    for (int i = 0; i < 3; i++)
        weight_points((double[]){g[3 * i], g[3 * i + 1], g[3 * i + 2]}, rows[i]);
    for (int j = 0; j < PATCH; j++) {
        double column[PATCH];
        weight_points((double[]){rows[0][j], rows[1][j], rows[2][j]}, column);
        for (int i = 0; i < PATCH; i++)
            u[i][j] = column[i];
    }
}

/* From [c_out, c_in, 3, 3]. */
static void pack_weights(winograd *w, const float *weights) {
    for (int o = 0; o < w->c_out; o++) {
        int panel = o / DET_PANEL * DET_PANEL, width = det_panel_width(panel, w->c_out);
        float *to = w->weights + (size_t)panel * N_POINTS * w->c_in + (o - panel);
        for (int i = 0; i < w->c_in; i++) {
            double u[PATCH][PATCH];
            transform_kernel(weights + ((size_t)o * w->c_in + i) * 9, u);
            for (int p = 0; p < N_POINTS; p++)
                to[((size_t)p * w->c_in + i) * width] = (float)u[p / PATCH][p % PATCH];
        }
    }
}

/* --------------------------------------------------------------------------------------------------- transforms */

/* Of six inputs, in place. */
DET_AVX512_INLINE void input_points(__m512 x[PATCH]) {
    const __m512 a = _mm512_set1_ps(half_root), b = _mm512_set1_ps(root), two = _mm512_set1_ps(2);
    const __m512 half = _mm512_set1_ps(0.5f), five_halves = _mm512_set1_ps(2.5f);
    __m512 first = _mm512_add_ps(_mm512_fnmadd_ps(five_halves, x[2], x[0]), x[4]);
    __m512 last = _mm512_add_ps(_mm512_fnmadd_ps(five_halves, x[3], x[1]), x[5]);
    __m512 even_a = _mm512_fnmadd_ps(two, x[2], x[4]), odd_a = _mm512_fnmadd_ps(two, x[1], x[3]);
    __m512 even_b = _mm512_fnmadd_ps(half, x[2], x[4]), odd_b = _mm512_fnmadd_ps(half, x[1], x[3]);
    x[0] = first;
    x[1] = _mm512_fmadd_ps(a, odd_a, even_a);
    x[2] = _mm512_fnmadd_ps(a, odd_a, even_a);
    x[3] = _mm512_fmadd_ps(b, odd_b, even_b);
    x[4] = _mm512_fnmadd_ps(b, odd_b, even_b);
    x[5] = last;
}

/* Six sums at the points into four outputs, in place. */
DET_AVX512_INLINE void output_values(__m512 m[PATCH]) {
    const __m512 a = _mm512_set1_ps(half_root), b = _mm512_set1_ps(root), two = _mm512_set1_ps(2);
    const __m512 half = _mm512_set1_ps(0.5f), a3 = _mm512_set1_ps(0.5f * half_root), b3 = _mm512_set1_ps(2 * root);
    __m512 sum_a = _mm512_add_ps(m[1], m[2]), difference_a = _mm512_sub_ps(m[1], m[2]);
    __m512 sum_b = _mm512_add_ps(m[3], m[4]), difference_b = _mm512_sub_ps(m[3], m[4]);
    m[0] = _mm512_add_ps(_mm512_add_ps(m[0], sum_a), sum_b);
    m[1] = _mm512_fmadd_ps(a, difference_a, _mm512_mul_ps(b, difference_b));
    m[2] = _mm512_fmadd_ps(half, sum_a, _mm512_mul_ps(two, sum_b));
    m[3] = _mm512_fmadd_ps(b3, difference_b, _mm512_fmadd_ps(a3, difference_a, m[5]));
}

/* The patch of tile (tile_y, tile_x), with zeros outside the picture, to row `v` of each point's matrix. */
DET_AVX512 static void transform_patch(const winograd *w, det_shape in, const float *x, int tile_y, int tile_x,
                                       float *v) {
    int top = tile_y * TILE - 1, left = tile_x * TILE - 1;
    for (int c = 0; c < in.c; c += DET_LANES) {
        __mmask16 lanes = det_lanes(c, in.c);
        __m512 columns[PATCH][PATCH];
        DET_UNROLLED (j, PATCH) {
            bool inside = left + j >= 0 && left + j < in.w;
            DET_UNROLLED (i, PATCH) {
                bool reads = inside && top + i >= 0 && top + i < in.h;
                size_t pixel = reads ? (size_t)(top + i) * in.w + (size_t)(left + j) : 0;
                columns[j][i] = _mm512_maskz_loadu_ps(reads ? lanes : 0, x + pixel * in.c + c);
            }
            input_points(columns[j]);
        }
        DET_UNROLLED (i, PATCH) {
            __m512 row[PATCH];
            DET_UNROLLED (j, PATCH)
                row[j] = columns[j][i];
            input_points(row);
            DET_UNROLLED (j, PATCH)
                _mm512_storeu_ps(v + (size_t)(i * PATCH + j) * w->v_plane + c, row[j]);
        }
    }
}

/* Row `m` of each point's sums, for 16 channels from `channel` on, to the outputs of tile (tile_y, tile_x). */
DET_AVX512 static void transform_sums(const winograd *w, det_shape out, const det_finish *f, int tile_y, int tile_x,
                                      int channel, const float *m) {
    __m512 columns[PATCH][PATCH];
    DET_UNROLLED (j, PATCH) {
        DET_UNROLLED (i, PATCH)
            columns[j][i] = _mm512_loadu_ps(m + (size_t)(i * PATCH + j) * w->m_plane);
        output_values(columns[j]);
    }
    __mmask16 lanes = det_lanes(channel, out.c);
    __m512 bias = _mm512_loadu_ps(w->bias + channel);
    int rows = DET_MIN(TILE, out.h - tile_y * TILE), width = DET_MIN(TILE, out.w - tile_x * TILE);
    DET_UNROLLED (i, TILE) {
        __m512 row[PATCH];
        DET_UNROLLED (j, PATCH)
            row[j] = columns[j][i];
        output_values(row);
        size_t pixel = (size_t)(tile_y * TILE + i) * out.w + (size_t)tile_x * TILE;
        DET_UNROLLED (j, TILE) {
            if (i < rows && j < width)
                det_finish_vector(f, pixel + j, channel, lanes, _mm512_add_ps(row[j], bias));
        }
    }
}

/* ---------------------------------------------------------------------------------------------------------- run */

typedef struct winograd_task {
    const det_step *step;
    const winograd *w;
} winograd_task;

static void run_block(void *context, int task, int thread) {
    const winograd_task *t = context;
    const winograd *w = t->w;
    const det_step *step = t->step;
    int picture = task / w->n_blocks, block = task % w->n_blocks;
    int begin = (int)((int64_t)w->n_tiles * block / w->n_blocks),
        end = (int)((int64_t)w->n_tiles * (block + 1) / w->n_blocks);
    float *v = (float *)((char *)step->workspace + (size_t)thread * w->scratch_bytes), *m = v + N_POINTS * w->v_plane;
    const float *x = det_cpu_picture(step->inputs[0], step->input_shapes[0], picture);
    size_t v_stride = (size_t)det_round_up(w->c_in, DET_LANES);
    det_finish finish = det_finish_of(step, picture);
    for (int i = begin; i < end; i++)
        transform_patch(w, step->input_shapes[0], x, i / w->tiles_x, i % w->tiles_x,
                        v + (size_t)(i - begin) * v_stride);
    for (int panel = 0; panel < w->c_out; panel += DET_PANEL) {
        int width = det_panel_width(panel, w->c_out);
        const float *u = w->weights + (size_t)panel * N_POINTS * w->c_in;
        for (int p = 0; p < N_POINTS; p++)
            det_multiply(end - begin, width, v + p * w->v_plane, v_stride, u + (size_t)p * w->c_in * width, w->c_in,
                         m + p * w->m_plane);
        for (int i = begin; i < end; i++) {
            for (int c = 0; c < width; c += DET_LANES)
                transform_sums(w, step->output_shape, &finish, i / w->tiles_x, i % w->tiles_x, panel + c,
                               m + (size_t)(i - begin) * DET_PANEL + c);
        }
    }
}

static det_status run(det_device *device, const det_step *step, const det_frame *frame) {
    winograd_task t = {step, step->state};
    det_threads_run(device->threads, frame->n * t.w->n_blocks, run_block, &t);
    return DET_OK;
}

/* ------------------------------------------------------------------------------------------------------ prepare */

static void release(void *state) {
    winograd *w = state;
    det_free(w->weights);
    det_free(w->bias);
    det_free(w);
}

/* Blocks of one size, a whole number for each thread. */
static void cut_blocks(winograd *w, int n_threads) {
    int bytes = N_POINTS * (det_round_up(w->c_in, DET_LANES) + DET_PANEL) * (int)sizeof(float);
    int most = DET_MIN(MAX_BLOCK_TILES, DET_MAX(MIN_BLOCK_TILES, BLOCK_BYTES / bytes));
    w->n_blocks = DET_MIN(w->n_tiles, det_round_up((w->n_tiles + most - 1) / most, n_threads));
    w->block_tiles = (w->n_tiles + w->n_blocks - 1) / w->n_blocks;
    /* A vector more than the matrix, or the 36 places that a tile is written to would share a set of the cache. */
    w->v_plane = (size_t)w->block_tiles * det_round_up(w->c_in, DET_LANES) + DET_LANES;
    w->m_plane = (size_t)w->block_tiles * DET_PANEL + DET_LANES;
    w->scratch_bytes = N_POINTS * (w->v_plane + w->m_plane) * sizeof(float);
}

bool det_winograd_fits(const det_step *step) {
    const det_conv_params *p = &step->node->u.conv;
    return p->k == 3 && p->stride == 1 && p->pad == 1 && p->groups == 1 && step->input_shapes[0].c >= MIN_CHANNELS &&
           step->output_shape.c >= MIN_CHANNELS;
}

det_status det_winograd_prepare(det_device *device, det_step *step, const float *weights, const float *bias) {
    winograd *w = det_alloc_array(1, sizeof *w);
    if (!w)
        return DET_ERROR_OUT_OF_MEMORY;
    step->state = w; /* released by the plan, whatever happens */
    det_shape out = step->output_shape;
    *w = (winograd){.base = {.run = run, .release = release},
                    .c_in = step->input_shapes[0].c,
                    .c_out = out.c,
                    .tiles_x = (out.w + TILE - 1) / TILE};
    w->n_tiles = w->tiles_x * ((out.h + TILE - 1) / TILE);
    cut_blocks(w, det_threads_count(device->threads));
    size_t padded = (size_t)det_round_up(out.c, DET_LANES), n_weights = padded * N_POINTS * w->c_in;
    w->weights = det_cpu_alloc_large(n_weights * sizeof(float));
    w->bias = det_alloc_array(padded, sizeof(float));
    if (!w->weights || !w->bias)
        return DET_ERROR_OUT_OF_MEMORY;
    memset(w->weights, 0, n_weights * sizeof(float)); /* the channels that fill up the last vector stay zero */
    pack_weights(w, weights);
    for (int i = 0; bias && i < out.c; i++)
        w->bias[i] = bias[i];
    step->weights_bytes = (n_weights + padded) * sizeof(float);
    step->workspace_bytes = w->scratch_bytes * (size_t)det_threads_count(device->threads);
    step->impl = "winograd:avx512";
    return DET_OK;
}

#endif
