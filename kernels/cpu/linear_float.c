/* linear_float.c - few rows as they are stored, many in panels; quantised ones through tiles. */
#include "linear_float.h"

#include "parallel.h"

enum {
    /* Up to here the weights' way from memory takes longer than any product with them. */
    FEW_ROWS = 16,
    TILE_ROWS = 4,      /* weight rows that are expanded at a time for a few rows of x */
    TILE_COLUMNS = 256, /* columns that are for a panel */
    CACHE_LINE = 64
};

static bool is_few(const phi3_float_x *x)
{
    return x->n_rows <= FEW_ROWS;
}

static size_t lines(size_t size)
{
    return (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

/* Vectors of a row. */
static size_t count_steps(const phi3_float_x *x)
{
    size_t columns = phi3_cpu_kernels_current()->float_lanes * (x->bfloat16 ? 2 : 1);
    return (x->n_columns + columns - 1) / columns;
}

/* Floats that a row takes in a panel, or spread. */
static size_t padded_row(const phi3_float_x *x)
{
    return phi3_cpu_kernels_current()->float_lanes * count_steps(x);
}

/* ---- Activations ----------------------------------------------------------------------------- */

size_t phi3_float_x_bytes(const phi3_float_x *x)
{
    if (is_few(x))
        return x->bfloat16 ? lines(x->n_rows * x->n_columns * sizeof(uint16_t)) : 0;
    return lines(x->n_rows * padded_row(x) * sizeof(float));
}

static void convert_row(void *context, size_t row, int thread)
{
    (void)thread;
    const phi3_float_x *x = context;
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    const float *from = x->rows + row * x->n_columns;
    if (is_few(x))
        kernels->to_bfloat16(from, x->n_columns, (uint16_t *)x->converted + row * x->n_columns);
    else
        kernels->spread_row(from, x->bfloat16, x->n_columns, count_steps(x),
                            (float *)x->converted + row * padded_row(x));
}

void phi3_float_x_convert(const phi3_float_x *x, int n_threads)
{
    if (x->bfloat16 || !is_few(x))
        phi3_parallel(is_few(x) ? 1 : n_threads, x->n_rows, convert_row, (void *)x);
}

/* ---- Products -------------------------------------------------------------------------------- */

size_t phi3_float_scratch_bytes(const phi3_float_x *x)
{
    size_t panel_rows = 2 * phi3_cpu_kernels_current()->float_lanes;
    size_t floats =
        is_few(x) ? TILE_ROWS * x->n_columns : panel_rows * (padded_row(x) + TILE_COLUMNS);
    return lines(floats * sizeof(float));
}

static bool is_float(phi3_dtype dtype)
{
    return phi3_dtype_traits(dtype)->block_size == 1;
}

/* Rows first to first + count of w, or as many as there are. */
static phi3_float_rows rows_of(const phi3_tensor *w, size_t first, size_t count)
{
    size_t left = w->n_rows - first;
    return (phi3_float_rows){(const char *)w->data +
                                 first * phi3_dtype_row_bytes(w->dtype, w->n_columns),
                             w->dtype, w->n_columns, left < count ? left : count};
}

/* Expands n_columns of the rows to `tile`, dense. */
static phi3_float_rows expand(const phi3_float_rows *rows, size_t column, size_t n_columns,
                              float *tile)
{
    size_t row_bytes = phi3_dtype_row_bytes(rows->dtype, rows->stride);
    const char *from = (const char *)rows->data + phi3_dtype_row_bytes(rows->dtype, column);
    for (size_t r = 0; r < rows->n_rows; r++)
        phi3_cpu_kernels_current()->dequantize_row(rows->dtype, from + r * row_bytes, n_columns,
                                                   tile + r * n_columns);
    return (phi3_float_rows){tile, PHI3_F32, n_columns, rows->n_rows};
}

static void multiply_few(const phi3_float_x *x, const phi3_tensor *w, float *tile, float *y,
                         size_t y_stride)
{
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    if (x->n_rows == 1 && !is_float(w->dtype)) {
        phi3_float_rows rows = rows_of(w, 0, w->n_rows);
        kernels->block_product(&rows, x->rows, y);
        return;
    }
    phi3_float_rows x_rows = {x->bfloat16 ? x->converted : x->rows,
                              x->bfloat16 ? PHI3_BF16 : PHI3_F32, x->n_columns, x->n_rows};
    size_t step = is_float(w->dtype) ? w->n_rows : TILE_ROWS;
    for (size_t o = 0; o < w->n_rows; o += step) {
        phi3_float_rows rows = rows_of(w, o, step);
        if (!is_float(w->dtype))
            rows = expand(&rows, 0, x->n_columns, tile);
        kernels->float_product(&rows, &x_rows, x->n_columns, y + o, y_stride);
    }
}

/* Through tiles of TILE_COLUMNS, which are whole blocks of every format and whole vectors. */
static void pack_expanded(const phi3_float_x *x, const phi3_float_rows *rows, float *panel,
                          float *tile)
{
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    size_t n_steps = count_steps(x), panel_rows = 2 * kernels->float_lanes;
    for (size_t i = 0; i < x->n_columns; i += TILE_COLUMNS) {
        size_t left = x->n_columns - i, n_columns = left < TILE_COLUMNS ? left : TILE_COLUMNS;
        phi3_float_rows expanded = expand(rows, i, n_columns, tile);
        kernels->pack_float_panel(&expanded, false, n_columns, n_steps,
                                  panel + i / kernels->float_lanes * panel_rows);
    }
}

static void multiply_many(const phi3_float_x *x, const phi3_tensor *w, float *panel, float *y,
                          size_t y_stride)
{
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    size_t n_steps = count_steps(x), panel_rows = 2 * kernels->float_lanes;
    for (size_t o = 0; o < w->n_rows; o += panel_rows) {
        phi3_float_rows rows = rows_of(w, o, panel_rows);
        if (is_float(w->dtype))
            kernels->pack_float_panel(&rows, x->bfloat16, x->n_columns, n_steps, panel);
        else
            pack_expanded(x, &rows, panel, panel + panel_rows * padded_row(x));
        kernels->float_panel_product(panel, x->bfloat16, n_steps, x->converted, x->n_rows,
                                     rows.n_rows, y + o, y_stride);
    }
}

void phi3_float_multiply(const phi3_float_x *x, const phi3_tensor *w, void *scratch, float *y,
                         size_t y_stride)
{
    if (is_few(x))
        multiply_few(x, w, scratch, y, y_stride);
    else
        multiply_many(x, w, scratch, y, y_stride);
}
