/*
 * linear.c - products of weight matrices with activations, over threads.
 *
 * In: x [n_rows][n_columns] and a matrix. Out: y [n_rows][n_out]. The matrix is cut into chunks of
 * weight rows; each is computed by one thread, into its columns of y. The result does not depend on
 * the number of threads.
 */
#include <stdatomic.h>

#include "core/base/error.h"
#include "cpu.h"
#include "linear_float.h"
#include "linear_onednn.h"
#include "linear_tiles.h"
#include "matrix.h"
#include "parallel.h"

typedef struct job {
    const phi3_cpu_kernels *kernels;
    const phi3_matrix *matrix;
    const float *x; /* [n_rows][n_columns] */
    size_t n_rows;
    bool batch_invariant;
    float *y;              /* [n_rows][matrix->n_rows] */
    phi3_int8_block *int8; /* x in 8 bits, when some part asks for it; see int8_run */
    phi3_float_x bfloat16; /* x as products of bfloat16 and of float32 read it, the same */
    phi3_float_x float32;
    phi3_onednn_x onednn;  /* and as oneDNN does */
    phi3_tiles_x tiles;    /* and as tiles do */
    atomic_bool *failed;   /* oneDNN ran out of memory */
    size_t chunk_rows;     /* weight rows of a chunk, in whole panels */
    char *threads_scratch; /* [n_threads][thread_size] */
    size_t thread_size;
} job;

/* Consecutive rows of one part. */
typedef struct chunk {
    const phi3_tensor *part;
    size_t first;          /* row of the part */
    phi3_tensor rows;      /* as they are stored */
    const uint8_t *panels; /* the same rows packed, when they are */
    phi3_way way;
    float *y; /* the chunk's first column */
} chunk;

/* ---- The ways to compute a chunk ------------------------------------------------------------- */

/* The activations in 8 bits stand in the order of their use: by PHI3_INT8_ROWS rows, and by blocks
 * in these. */
typedef struct int8_run {
    phi3_int8_block *blocks; /* [n_blocks][n_rows] */
    size_t n_rows;
} int8_run;

static int8_run int8_run_at(const job *j, size_t first_row)
{
    size_t left = j->n_rows - first_row;
    return (int8_run){j->int8 + first_row * (j->matrix->n_columns / 32),
                      left < PHI3_INT8_ROWS ? left : PHI3_INT8_ROWS};
}

/* Runs outside, panels inside: a chunk of weights and a run of activations stay in the caches. */
static void multiply_int8(const job *j, const chunk *c, float *sums)
{
    size_t n_blocks = j->matrix->n_columns / 32;
    size_t panel_bytes = phi3_panel_bytes(c->rows.dtype, c->rows.n_columns);
    phi3_panel_product *product = j->kernels->panel_product[c->rows.dtype];
    size_t stride = j->matrix->n_rows;
    bool past_caches = phi3_goes_past_caches(j->n_rows, stride);
    for (size_t r = 0; r < j->n_rows; r += PHI3_INT8_ROWS) {
        int8_run run = int8_run_at(j, r);
        for (size_t o = 0; o < c->rows.n_rows; o += PHI3_PANEL_ROWS) {
            size_t left = c->rows.n_rows - o;
            size_t n_out = left < PHI3_PANEL_ROWS ? left : PHI3_PANEL_ROWS;
            product(c->panels + o / PHI3_PANEL_ROWS * panel_bytes, n_blocks, run.blocks, run.n_rows,
                    sums);
            j->kernels->spread_sums(sums, PHI3_PANEL_ROWS, run.n_rows, n_out, past_caches,
                                    c->y + r * stride + o, stride);
        }
    }
}

static void multiply_chunk(const job *j, const chunk *c, void *scratch)
{
    size_t stride = j->matrix->n_rows;
    switch (c->way) {
    case PHI3_WAY_INT8:
        multiply_int8(j, c, scratch);
        break;
    case PHI3_WAY_ONEDNN:
        if (!phi3_onednn_multiply(&j->onednn, c->part, c->first, c->rows.n_rows, scratch, c->y,
                                  stride))
            atomic_store(j->failed, true);
        break;
    case PHI3_WAY_TILES:
        phi3_tiles_multiply(&j->tiles, &c->rows, c->panels, scratch, c->y, stride);
        break;
    case PHI3_WAY_BFLOAT16:
        phi3_float_multiply(&j->bfloat16, &c->rows, scratch, c->y, stride);
        break;
    case PHI3_WAY_FLOAT32:
        phi3_float_multiply(&j->float32, &c->rows, scratch, c->y, stride);
        break;
    }
}

/* ---- Cutting into chunks --------------------------------------------------------------------- */

static size_t chunks_of(const job *j, size_t part)
{
    return (j->matrix->parts[part].n_rows + j->chunk_rows - 1) / j->chunk_rows;
}

static size_t count_chunks(const job *j)
{
    size_t count = 0;
    for (size_t p = 0; p < j->matrix->n_parts; p++)
        count += chunks_of(j, p);
    return count;
}

static chunk chunk_at(const job *j, size_t index)
{
    size_t p = 0, first_column = 0;
    for (size_t count; index >= (count = chunks_of(j, p)); p++) {
        index -= count;
        first_column += j->matrix->parts[p].n_rows;
    }
    const phi3_tensor *part = &j->matrix->parts[p];
    const uint8_t *panels = j->matrix->panels[p];
    size_t first = index * j->chunk_rows, left = part->n_rows - first;
    chunk c = {
        .part = part,
        .first = first,
        .rows = *part,
        .way = phi3_matrix_way(j->matrix, p, j->n_rows, j->batch_invariant),
        .y = j->y + first_column + first,
    };
    c.rows.data =
        (const char *)part->data + first * phi3_dtype_row_bytes(part->dtype, part->n_columns);
    c.rows.n_rows = left < j->chunk_rows ? left : j->chunk_rows;
    if (panels)
        c.panels =
            panels + first / PHI3_PANEL_ROWS * phi3_panel_bytes(part->dtype, part->n_columns);
    return c;
}

/* ---- The op ---------------------------------------------------------------------------------- */

static void quantize_row(void *context, size_t row, int thread)
{
    (void)thread;
    const job *j = context;
    int8_run run = int8_run_at(j, row / PHI3_INT8_ROWS * PHI3_INT8_ROWS);
    size_t n_columns = j->matrix->n_columns;
    j->kernels->quantize_activations(j->x + row * n_columns, n_columns / 32, run.n_rows,
                                     run.blocks + row % PHI3_INT8_ROWS);
}

/* Converts the activations as far as some part needs it. */
static phi3_status convert_activations(job *j, int n_threads)
{
    bool needed[PHI3_WAYS] = {false};
    for (size_t p = 0; p < j->matrix->n_parts; p++)
        needed[phi3_matrix_way(j->matrix, p, j->n_rows, j->batch_invariant)] = true;
    if (needed[PHI3_WAY_INT8])
        phi3_parallel(j->n_rows > 8 ? n_threads : 1, j->n_rows, quantize_row, j);
    if (needed[PHI3_WAY_BFLOAT16])
        phi3_float_x_convert(&j->bfloat16, n_threads);
    if (needed[PHI3_WAY_FLOAT32])
        phi3_float_x_convert(&j->float32, n_threads);
    if (needed[PHI3_WAY_TILES])
        phi3_tiles_x_convert(&j->tiles, n_threads);
    if (needed[PHI3_WAY_ONEDNN])
        return phi3_onednn_x_prepare(&j->onednn, n_threads);
    return PHI3_OK;
}

static void multiply_chunk_at(void *context, size_t index, int thread)
{
    const job *j = context;
    chunk c = chunk_at(j, index);
    multiply_chunk(j, &c, j->threads_scratch + (size_t)thread * j->thread_size);
}

/* Eight chunks or so for each thread, in the units in which the parts' ways multiply. */
static size_t chunk_rows(const phi3_matrix *matrix, size_t n_rows, bool batch_invariant,
                         int n_threads)
{
    static const size_t units[PHI3_WAYS] = {
        [PHI3_WAY_ONEDNN] = PHI3_ONEDNN_TILE, [PHI3_WAY_TILES] = PHI3_TILES_WEIGHT_ROWS};
    size_t unit = PHI3_PANEL_ROWS;
    for (size_t p = 0; p < matrix->n_parts; p++) {
        size_t own = units[phi3_matrix_way(matrix, p, n_rows, batch_invariant)];
        unit = own > unit ? own : unit;
    }
    size_t rows = matrix->n_rows / (8 * (size_t)n_threads) / unit * unit;
    return rows < unit ? unit : rows;
}

phi3_status phi3_cpu_linear(const phi3_exec *exec, const phi3_matrix *weight, const float *x,
                            size_t n_rows, float *y)
{
    int n_threads = exec->n_threads;
    char *scratch = exec->scratch;
    phi3_linear_layout layout =
        phi3_matrix_layout(weight, n_rows, exec->batch_invariant, n_threads);
    size_t n_columns = weight->n_columns;
    atomic_bool failed = false;
    job j = {
        .kernels = phi3_cpu_kernels_current(),
        .matrix = weight,
        .x = x,
        .n_rows = n_rows,
        .batch_invariant = exec->batch_invariant,
        .y = y,
        .int8 = (phi3_int8_block *)(void *)(scratch + layout.converted[PHI3_WAY_INT8]),
        .bfloat16 = {x, n_rows, n_columns, true, scratch + layout.converted[PHI3_WAY_BFLOAT16]},
        .float32 = {x, n_rows, n_columns, false, scratch + layout.converted[PHI3_WAY_FLOAT32]},
        .onednn = {.rows = x,
                   .n_rows = n_rows,
                   .n_columns = n_columns,
                   .converted = (void *)(scratch + layout.converted[PHI3_WAY_ONEDNN])},
        .tiles = {x, n_rows, n_columns, (void *)(scratch + layout.converted[PHI3_WAY_TILES])},
        .failed = &failed,
        .chunk_rows = chunk_rows(weight, n_rows, exec->batch_invariant, n_threads),
        .threads_scratch = scratch + layout.threads,
        .thread_size = layout.thread_size,
    };
    PHI3_TRY(convert_activations(&j, n_threads));
    phi3_parallel(n_threads, count_chunks(&j), multiply_chunk_at, &j);
    phi3_onednn_x_finish(&j.onednn);
    return failed ? PHI3_ERROR_OUT_OF_MEMORY : PHI3_OK;
}
