/* matrix.c - weight matrices of the CPU backend: creation, ways to multiply, scratch, embed. */
#include "matrix.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "cpu.h"
#include "isa.h"
#include "kernels/host_memory.h"
#include "kernels/matrix_parts.h"
#include "linear_float.h"
#include "linear_onednn.h"
#include "linear_tiles.h"
#include "parallel.h"

enum { CACHE_LINE = 64 };

/* ---- Packing --------------------------------------------------------------------------------- */

static size_t count_panels(const phi3_tensor *part)
{
    return (part->n_rows + PHI3_PANEL_ROWS - 1) / PHI3_PANEL_ROWS;
}

/* Bytes of a part's panels; 0: it is read in place. */
static size_t packed_part_size(const phi3_tensor *part, phi3_compute compute)
{
    if (compute == PHI3_COMPUTE_FLOAT32)
        return 0;
    return count_panels(part) * phi3_panel_bytes(part->dtype, part->n_columns);
}

size_t phi3_cpu_matrix_packed_size(const phi3_tensor *parts, size_t n_parts, phi3_compute compute)
{
    size_t size = 0;
    for (size_t p = 0; p < n_parts; p++)
        size += packed_part_size(&parts[p], compute);
    return size;
}

typedef struct packing {
    const phi3_tensor *part;
    uint8_t *out; /* the part's panels */
    atomic_bool has_bad_scale;
} packing;

static void pack_panel(void *context, size_t panel, int thread)
{
    (void)thread;
    packing *p = context;
    size_t bytes = phi3_panel_bytes(p->part->dtype, p->part->n_columns);
    if (!phi3_pack_panel(p->part, panel, p->out + panel * bytes))
        atomic_store(&p->has_bad_scale, true);
}

bool phi3_cpu_matrix_pack(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                          int n_threads, void *packed)
{
    uint8_t *out = packed;
    bool finite = true;
    for (size_t p = 0; p < n_parts; p++) {
        size_t size = packed_part_size(&parts[p], compute);
        packing part = {.part = &parts[p], .out = out};
        if (size)
            phi3_parallel(n_threads, count_panels(&parts[p]), pack_panel, &part);
        finite &= !part.has_bad_scale;
        out += size;
    }
    return finite;
}

/* ---- Creation -------------------------------------------------------------------------------- */

/* Packs for itself when nobody has. */
static phi3_status pack_own(phi3_matrix *matrix, const uint8_t **packed, phi3_error *error)
{
    size_t size = phi3_cpu_matrix_packed_size(matrix->parts, matrix->n_parts, matrix->compute);
    if (!size || *packed)
        return PHI3_OK;
    matrix->own = phi3_host_allocate(size);
    if (!matrix->own)
        return phi3_fail_memory(error, "packed weights");
    if (!phi3_cpu_matrix_pack(matrix->parts, matrix->n_parts, matrix->compute,
                              phi3_default_threads(), matrix->own))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "a matrix with a scale that is NaN or infinite");
    *packed = matrix->own;
    return PHI3_OK;
}

static void find_panels(phi3_matrix *matrix, const uint8_t *packed)
{
    for (size_t p = 0; p < matrix->n_parts; p++) {
        size_t size = packed_part_size(&matrix->parts[p], matrix->compute);
        matrix->panels[p] = size ? packed : NULL;
        packed += size;
    }
}

phi3_status phi3_cpu_matrix_create(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                                   const void *packed, phi3_matrix **matrix, phi3_error *error)
{
    size_t n_rows = 0;
    PHI3_TRY(phi3_parts_check(parts, n_parts, &n_rows, error));
    phi3_matrix *created = calloc(1, sizeof *created + n_parts * sizeof *parts);
    const uint8_t **panels = malloc(n_parts * sizeof *panels), *first = packed;
    if (!created || !panels) {
        free(created);
        free(panels);
        return phi3_fail_memory(error, "a weight matrix");
    }
    created->n_rows = n_rows;
    created->n_columns = parts[0].n_columns;
    created->compute = compute;
    created->panels = panels;
    created->n_parts = n_parts;
    memcpy(created->parts, parts, n_parts * sizeof *parts);
    phi3_status status = pack_own(created, &first, error);
    if (status != PHI3_OK) {
        phi3_cpu_matrix_free(created);
        return status;
    }
    find_panels(created, first);
    *matrix = created;
    return PHI3_OK;
}

void phi3_cpu_matrix_free(phi3_matrix *matrix)
{
    phi3_host_release(matrix->own);
    free(matrix->panels);
    free(matrix);
}

/* ---- Ways ------------------------------------------------------------------------------------ */

phi3_way phi3_matrix_way(const phi3_matrix *matrix, size_t part, size_t n_rows,
                         bool batch_invariant)
{
    const bool is_packed = matrix->panels[part] != NULL;
    bool rounded = matrix->compute == PHI3_COMPUTE_MIXED && matrix->parts[part].dtype == PHI3_BF16;
    if ((is_packed || rounded) && !batch_invariant && n_rows >= PHI3_TILES_MIN_ROWS &&
        phi3_tiles_take(&matrix->parts[part]))
        return PHI3_WAY_TILES;
    if (is_packed)
        return PHI3_WAY_INT8;
    if (!rounded || phi3_isa_current() < PHI3_ISA_AVX512_BF16)
        return PHI3_WAY_FLOAT32;
    bool is_many = n_rows >= PHI3_ONEDNN_MIN_ROWS && !batch_invariant;
    return is_many && phi3_onednn_takes(&matrix->parts[part]) ? PHI3_WAY_ONEDNN : PHI3_WAY_BFLOAT16;
}

/* ---- Scratch --------------------------------------------------------------------------------- */

static size_t lines(size_t size)
{
    return (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* What a way needs for n_rows rows, and for fewer that go this way. */
static void scratch_of_way(phi3_way way, size_t n_rows, size_t n_columns, size_t *converted,
                           size_t *thread_size)
{
    if (way == PHI3_WAY_INT8) {
        size_t rows = n_rows < PHI3_INT8_ROWS ? n_rows : PHI3_INT8_ROWS;
        *converted = lines(n_rows * (n_columns / 32) * sizeof(phi3_int8_block));
        *thread_size = lines(rows * PHI3_PANEL_ROWS * sizeof(float));
        return;
    }
    if (way == PHI3_WAY_TILES) {
        *converted = phi3_tiles_x_bytes(n_rows, n_columns);
        *thread_size = phi3_tiles_scratch_bytes(n_rows, n_columns);
        return;
    }
    if (way == PHI3_WAY_ONEDNN) {
        *converted = phi3_onednn_x_bytes(n_rows, n_columns);
        *thread_size = phi3_onednn_scratch_bytes(n_rows);
        return;
    }
    phi3_float_x x = {
        .n_rows = n_rows, .n_columns = n_columns, .bfloat16 = way == PHI3_WAY_BFLOAT16};
    *converted = phi3_float_x_bytes(&x);
    *thread_size = phi3_float_scratch_bytes(&x);
}

phi3_linear_layout phi3_matrix_layout(const phi3_matrix *matrix, size_t n_rows,
                                      bool batch_invariant, int n_threads)
{
    size_t sizes[PHI3_WAYS] = {0};
    phi3_linear_layout layout = {.thread_size = 0};
    for (size_t p = 0; p < matrix->n_parts; p++) {
        size_t thread_size;
        phi3_way way = phi3_matrix_way(matrix, p, n_rows, batch_invariant);
        scratch_of_way(way, n_rows, matrix->n_columns, &sizes[way], &thread_size);
        layout.thread_size = larger(layout.thread_size, thread_size);
    }
    for (int way = 0; way < PHI3_WAYS; way++) {
        layout.converted[way] = layout.threads;
        layout.threads += sizes[way];
    }
    layout.total = layout.threads + (size_t)n_threads * layout.thread_size;
    return layout;
}

size_t phi3_cpu_matrix_scratch(const phi3_matrix *matrix, size_t n_rows, int n_threads)
{
    /* Fewer rows go the ways of batch_invariant. */
    return larger(phi3_matrix_layout(matrix, n_rows, false, n_threads).total,
                  phi3_matrix_layout(matrix, n_rows, true, n_threads).total);
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
