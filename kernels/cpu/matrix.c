/* matrix.c - weight matrices of the CPU backend: creation, ways to multiply, scratch, embed. */
#include "matrix.h"

#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "error.h"
#include "gemm.h"
#include "isa.h"
#include "kernels/matrix_parts.h"
#include "parallel.h"

/*
 * Up to how many rows our float kernels are used: before bfloat16, as measured on Zen 5; and before
 * oneDNN's float32, which is practically never. It is some 40 % faster from a hundred rows on, but
 * with it (3.2, gemm:jit, shapes open until run time) the heap was seen damaged after a prefill that
 * was interrupted. Until that is understood, exact products are our own.
 */
enum { MAX_ROWS_BEFORE_BF16 = 8, MAX_FLOAT_ROWS = 1 << 20 };

enum { PANEL_BYTES = 512 * 1024, CACHE_LINE = 64 };

phi3_status phi3_cpu_matrix_create(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                                   const void *packed, phi3_matrix **matrix, phi3_error *error)
{
    (void)packed;
    size_t n_rows = 0;
    PHI3_TRY(phi3_parts_check(parts, n_parts, &n_rows, error));
    PHI3_TRY(phi3_gemm_prepare(error));
    phi3_matrix *created = malloc(sizeof *created + n_parts * sizeof *parts);
    if (!created)
        return phi3_fail_memory(error, "a weight matrix");
    created->n_rows = n_rows;
    created->n_columns = parts[0].n_columns;
    created->compute = compute;
    created->n_parts = n_parts;
    memcpy(created->parts, parts, n_parts * sizeof *parts);
    *matrix = created;
    return PHI3_OK;
}

size_t phi3_cpu_matrix_packed_size(const phi3_tensor *parts, size_t n_parts, phi3_compute compute)
{
    (void)parts, (void)n_parts, (void)compute;
    return 0;
}

void phi3_cpu_matrix_pack(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                          int n_threads, void *packed)
{
    (void)parts, (void)n_parts, (void)compute, (void)n_threads, (void)packed;
}

void phi3_cpu_matrix_free(phi3_matrix *matrix)
{
    free(matrix);
}

phi3_way phi3_matrix_way(const phi3_matrix *matrix, const phi3_tensor *part, size_t n_rows)
{
    bool exact = matrix->compute == PHI3_COMPUTE_FLOAT32;
    if (!exact && phi3_cpu_kernels_current()->int8_product[part->dtype])
        return PHI3_WAY_INT8;
    bool bfloat16 = !exact && part->dtype != PHI3_F32 && phi3_isa_current() == PHI3_ISA_AVX512_BF16;
    if (n_rows <= (bfloat16 ? MAX_ROWS_BEFORE_BF16 : MAX_FLOAT_ROWS))
        return phi3_dtype_traits(part->dtype)->block_size == 1 ? PHI3_WAY_FLOAT : PHI3_WAY_EXPANDED;
    return bfloat16 ? PHI3_WAY_GEMM_BF16 : PHI3_WAY_GEMM_F32;
}

phi3_ways phi3_matrix_ways(const phi3_matrix *matrix, size_t n_rows)
{
    phi3_ways ways = {false, false, false};
    for (size_t p = 0; p < matrix->n_parts; p++) {
        phi3_way way = phi3_matrix_way(matrix, &matrix->parts[p], n_rows);
        ways.int8 |= way == PHI3_WAY_INT8;
        ways.bfloat16 |= way == PHI3_WAY_GEMM_BF16;
        ways.panels |= way == PHI3_WAY_GEMM_BF16 || way == PHI3_WAY_GEMM_F32;
    }
    return ways;
}

bool phi3_part_is_ready(const phi3_tensor *part, phi3_dtype dtype)
{
    size_t element = dtype == PHI3_F32 ? sizeof(float) : sizeof(uint16_t);
    return part->dtype == dtype && (uintptr_t)part->data % element == 0;
}

/* ---- Scratch --------------------------------------------------------------------------------- */

static size_t lines(size_t size)
{
    return (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t phi3_matrix_padded_columns(const phi3_matrix *matrix)
{
    return (matrix->n_columns + PHI3_INT8_GROUP - 1) / PHI3_INT8_GROUP * PHI3_INT8_GROUP;
}

size_t phi3_matrix_panel_rows(const phi3_matrix *matrix, int n_threads)
{
    size_t cached = PANEL_BYTES / (matrix->n_columns * sizeof(uint16_t));
    size_t share = matrix->n_rows / (2 * (size_t)n_threads);
    size_t rows = smaller(smaller(cached, share), PHI3_PANEL_ROWS) / 16 * 16;
    return rows < 32 ? 32 : rows;
}

phi3_linear_layout phi3_matrix_layout(const phi3_matrix *matrix, size_t n_rows, int n_threads)
{
    phi3_ways ways = phi3_matrix_ways(matrix, n_rows);
    size_t padded = phi3_matrix_padded_columns(matrix);
    size_t int8_rows = ways.int8 ? n_rows : 0;
    size_t block_numbers = lines(int8_rows * (padded / PHI3_INT8_BLOCK) * sizeof(float));
    size_t bfloat16 = ways.bfloat16 ? n_rows * matrix->n_columns * sizeof(uint16_t) : 0;
    size_t panel = phi3_matrix_panel_rows(matrix, n_threads) * matrix->n_columns * sizeof(float);
    size_t tile = PHI3_TILE_ROWS * PHI3_TILE_COLUMNS * sizeof(float);
    size_t float_size = lines(tile + (ways.panels ? panel : 0));
    size_t int8_size =
        ways.int8 ? lines(padded / PHI3_INT8_GROUP * PHI3_INT8_SCRATCH_PER_GROUP) : 0;
    phi3_linear_layout layout = {.codes = 0};
    layout.scales = layout.codes + lines(int8_rows * padded);
    layout.sums = layout.scales + block_numbers;
    layout.bfloat16 = layout.sums + block_numbers;
    layout.threads = layout.bfloat16 + lines(bfloat16);
    layout.thread_size = float_size > int8_size ? float_size : int8_size;
    layout.total = layout.threads + (size_t)n_threads * layout.thread_size;
    return layout;
}

size_t phi3_cpu_matrix_scratch(const phi3_matrix *matrix, size_t n_rows, int n_threads)
{
    return phi3_matrix_layout(matrix, n_rows, n_threads).total;
}

/* ---- Embed ----------------------------------------------------------------------------------- */

typedef struct embedding {
    const phi3_matrix *table;
    const int32_t *ids;
    float *out; /* [n_rows][n_columns] */
} embedding;

static void embed_row(void *context, size_t row, int thread)
{
    (void)thread;
    const embedding *e = context;
    size_t n_columns = e->table->n_columns;
    phi3_dtype dtype;
    const void *stored = phi3_parts_row(e->table->parts, (size_t)e->ids[row], &dtype);
    phi3_cpu_kernels_current()->dequantize_row(dtype, stored, n_columns, e->out + row * n_columns);
}

phi3_status phi3_cpu_embed(const phi3_exec *exec, const phi3_matrix *table, const int32_t *ids,
                           size_t n_rows, float *out)
{
    embedding e = {table, ids, out};
    phi3_parallel(n_rows > 8 ? exec->n_threads : 1, n_rows, embed_row, &e);
    return PHI3_OK;
}
