/*
 * linear.c - products of weight matrices with activations, over threads.
 *
 * In: x [n_rows][n_columns] and a matrix. Out: y [n_rows][n_out]. The matrix is cut into chunks of
 * weight rows; each is computed by one thread, into its columns of y. The result does not depend on
 * the number of threads.
 */
#include <stdatomic.h>
#include <string.h>

#include "cpu.h"
#include "gemm.h"
#include "matrix.h"
#include "parallel.h"

typedef struct job {
    const phi3_cpu_kernels *kernels;
    const phi3_matrix *matrix;
    const float *x; /* [n_rows][n_columns] */
    size_t n_rows;
    float *y;               /* [n_rows][matrix->n_rows] */
    phi3_int8_block *int8;  /* x in 8 bits, when some part asks for it; see int8_chunk */
    uint16_t *bfloat16;     /* [n_rows][n_columns] x in bfloat16, the same */
    size_t few_rows_chunk;  /* weight rows of a chunk for our kernels, in whole panels */
    size_t many_rows_chunk; /* and for oneDNN */
    char *threads_scratch;  /* [n_threads][thread_size] */
    size_t thread_size;
    atomic_int status; /* the last failure */
} job;

/* Consecutive rows of one part. */
typedef struct chunk {
    const phi3_tensor *part;
    phi3_way way;
    const uint8_t *data; /* the first row, or the first panel */
    size_t row_bytes;    /* of a row, or of a panel */
    size_t n_rows;
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
    phi3_panel_product *product = j->kernels->panel_product[c->part->dtype];
    for (size_t r = 0; r < j->n_rows; r += PHI3_INT8_ROWS) {
        int8_run run = int8_run_at(j, r);
        for (size_t o = 0; o < c->n_rows; o += PHI3_PANEL_ROWS) {
            size_t left = c->n_rows - o, n_out = left < PHI3_PANEL_ROWS ? left : PHI3_PANEL_ROWS;
            product(c->data + o / PHI3_PANEL_ROWS * c->row_bytes, n_blocks, run.blocks, run.n_rows,
                    sums);
            for (size_t i = 0; i < run.n_rows; i++)
                memcpy(c->y + (r + i) * j->matrix->n_rows + o, sums + i * PHI3_PANEL_ROWS,
                       n_out * sizeof *sums);
        }
    }
}

static void multiply_float(const job *j, const chunk *c)
{
    size_t n_columns = j->matrix->n_columns;
    phi3_float_rows w = {c->data, c->part->dtype, n_columns, c->n_rows};
    phi3_float_rows x = {j->x, PHI3_F32, n_columns, j->n_rows};
    j->kernels->float_product(&w, &x, n_columns, false, c->y, j->matrix->n_rows);
}

/* Tile by tile through float32. */
static void multiply_expanded(const job *j, const chunk *c, float *tile)
{
    size_t n_columns = j->matrix->n_columns;
    for (size_t o = 0; o < c->n_rows; o += PHI3_TILE_ROWS) {
        size_t n_w = c->n_rows - o < PHI3_TILE_ROWS ? c->n_rows - o : PHI3_TILE_ROWS;
        for (size_t i = 0; i < n_columns; i += PHI3_TILE_COLUMNS) {
            size_t n_i = n_columns - i < PHI3_TILE_COLUMNS ? n_columns - i : PHI3_TILE_COLUMNS;
            const uint8_t *from =
                c->data + o * c->row_bytes + phi3_dtype_row_bytes(c->part->dtype, i);
            for (size_t r = 0; r < n_w; r++)
                j->kernels->dequantize_row(c->part->dtype, from + r * c->row_bytes, n_i,
                                           tile + r * PHI3_TILE_COLUMNS);
            phi3_float_rows w = {tile, PHI3_F32, PHI3_TILE_COLUMNS, n_w};
            phi3_float_rows x = {j->x + i, PHI3_F32, n_columns, j->n_rows};
            j->kernels->float_product(&w, &x, n_i, i > 0, c->y + o, j->matrix->n_rows);
        }
    }
}

/* Expands the chunk's rows to bfloat16, by pieces that stay in the first-level cache. */
static void fill_bfloat16_panel(const job *j, const chunk *c, float *tile, uint16_t *panel)
{
    size_t n_columns = j->matrix->n_columns;
    for (size_t r = 0; r < c->n_rows; r++) {
        for (size_t i = 0; i < n_columns; i += PHI3_TILE_COLUMNS) {
            size_t n_i = n_columns - i < PHI3_TILE_COLUMNS ? n_columns - i : PHI3_TILE_COLUMNS;
            const uint8_t *from =
                c->data + r * c->row_bytes + phi3_dtype_row_bytes(c->part->dtype, i);
            j->kernels->dequantize_row(c->part->dtype, from, n_i, tile);
            j->kernels->to_bfloat16(tile, n_i, panel + r * n_columns + i);
        }
    }
}

static phi3_status multiply_gemm(const job *j, const chunk *c, float *tile)
{
    size_t n_columns = j->matrix->n_columns;
    float *panel = tile + PHI3_TILE_ROWS * PHI3_TILE_COLUMNS;
    bool bfloat16 = c->way == PHI3_WAY_GEMM_BF16;
    phi3_gemm_shape shape = {bfloat16 ? PHI3_BF16 : PHI3_F32, j->n_rows, c->n_rows, n_columns,
                             j->matrix->n_rows};
    const void *x = bfloat16 ? (const void *)j->bfloat16 : j->x;
    const void *w = panel;
    if (phi3_part_is_ready(c->part, shape.dtype))
        w = c->data;
    else if (bfloat16)
        fill_bfloat16_panel(j, c, tile, (uint16_t *)panel);
    else
        for (size_t r = 0; r < c->n_rows; r++)
            j->kernels->dequantize_row(c->part->dtype, c->data + r * c->row_bytes, n_columns,
                                       panel + r * n_columns);
    return phi3_gemm(&shape, x, w, c->y);
}

static phi3_status multiply_chunk(const job *j, const chunk *c, float *thread_scratch)
{
    switch (c->way) {
    case PHI3_WAY_INT8:
        multiply_int8(j, c, thread_scratch);
        return PHI3_OK;
    case PHI3_WAY_FLOAT:
        multiply_float(j, c);
        return PHI3_OK;
    case PHI3_WAY_EXPANDED:
        multiply_expanded(j, c, thread_scratch);
        return PHI3_OK;
    case PHI3_WAY_GEMM_F32:
    case PHI3_WAY_GEMM_BF16:
        return multiply_gemm(j, c, thread_scratch);
    }
    return PHI3_ERROR_INTERNAL;
}

/* ---- Cutting into chunks --------------------------------------------------------------------- */

static size_t chunk_rows(const job *j, size_t part)
{
    phi3_way way = phi3_matrix_way(j->matrix, part, j->n_rows);
    bool gemm = way == PHI3_WAY_GEMM_F32 || way == PHI3_WAY_GEMM_BF16;
    return gemm ? j->many_rows_chunk : j->few_rows_chunk;
}

static size_t chunks_of(const job *j, size_t part)
{
    size_t rows = chunk_rows(j, part);
    return (j->matrix->parts[part].n_rows + rows - 1) / rows;
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
    size_t rows = chunk_rows(j, p), first = index * rows, left = part->n_rows - first;
    chunk c = {
        .part = part,
        .way = phi3_matrix_way(j->matrix, p, j->n_rows),
        .n_rows = left < rows ? left : rows,
        .y = j->y + first_column + first,
    };
    const uint8_t *panels = j->matrix->panels[p];
    if (panels) {
        c.row_bytes = phi3_panel_bytes(part->dtype, part->n_columns);
        c.data = panels + first / PHI3_PANEL_ROWS * c.row_bytes;
    } else {
        c.row_bytes = phi3_dtype_row_bytes(part->dtype, part->n_columns);
        c.data = (const uint8_t *)part->data + first * c.row_bytes;
    }
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

static void round_row(void *context, size_t row, int thread)
{
    (void)thread;
    const job *j = context;
    size_t at = row * j->matrix->n_columns;
    j->kernels->to_bfloat16(j->x + at, j->matrix->n_columns, j->bfloat16 + at);
}

/* Quantises and rounds the activations as far as some part needs it. */
static void convert_activations(job *j, int n_threads)
{
    phi3_ways ways = phi3_matrix_ways(j->matrix, j->n_rows);
    if (ways.int8)
        phi3_parallel(j->n_rows > 8 ? n_threads : 1, j->n_rows, quantize_row, j);
    if (ways.bfloat16)
        phi3_parallel(n_threads, j->n_rows, round_row, j);
}

static void multiply_chunk_at(void *context, size_t index, int thread)
{
    job *j = context;
    chunk c = chunk_at(j, index);
    char *own = j->threads_scratch + (size_t)thread * j->thread_size;
    phi3_status status = multiply_chunk(j, &c, (float *)(void *)own);
    if (status != PHI3_OK)
        j->status = status;
}

/* A chunk for our kernels: eight or so for each thread, in whole panels. */
static size_t few_rows_chunk(size_t n_rows, int n_threads)
{
    size_t rows = n_rows / (8 * (size_t)n_threads) / PHI3_PANEL_ROWS * PHI3_PANEL_ROWS;
    return rows < PHI3_PANEL_ROWS ? PHI3_PANEL_ROWS : rows;
}

phi3_status phi3_cpu_linear(const phi3_exec *exec, const phi3_matrix *weight, const float *x,
                            size_t n_rows, float *y)
{
    int n_threads = exec->n_threads;
    char *scratch = exec->scratch;
    phi3_linear_layout layout = phi3_matrix_layout(weight, n_rows, n_threads);
    job j = {
        .kernels = phi3_cpu_kernels_current(),
        .matrix = weight,
        .x = x,
        .n_rows = n_rows,
        .y = y,
        .int8 = (phi3_int8_block *)(void *)(scratch + layout.int8),
        .bfloat16 = (uint16_t *)(void *)(scratch + layout.bfloat16),
        .few_rows_chunk = few_rows_chunk(weight->n_rows, n_threads),
        .many_rows_chunk = phi3_matrix_gemm_rows(weight, n_threads),
        .threads_scratch = scratch + layout.threads,
        .thread_size = layout.thread_size,
        .status = PHI3_OK,
    };
    convert_activations(&j, n_threads);
    phi3_parallel(n_threads, count_chunks(&j), multiply_chunk_at, &j);
    return (phi3_status)j.status;
}
