/*
 * float_panel.c - products of float rows with many rows of activations.
 *
 * In: 2 LANES rows of w, packed into a panel, and rows of x, spread. Out: y[r][o] = x[r] . w[o], the
 * same to the bit as float.c's. There a vector holds LANES units of a row, here a unit of LANES rows
 * of w, so that nothing is added across lanes. What float.c adds in lane j is a segment here:
 *
 *     panel  [LANES segments][n_steps][2 LANES rows]  units      n_steps = vectors of a row
 *     x      [LANES segments][n_steps]                units
 *
 * Segments stand in the order in which float.c's lanes meet: a sum waits until its other half is
 * there. That costs 3 % of the peak; a copy of all weights in this order would cost their size.
 */
#include "kernels.h"
#include "units.h"

enum {
    N_LEVELS = LANES == 16 ? 4 : 3, /* log2 of LANES */
    X_TILE = VECTOR_BYTES == 64 ? 8 : 4
};

/* Where lane j's segment stands: the bits of j from the other end. */
INLINE size_t place_of_lane(int lane)
{
    int place = 0;
    for (int level = 0; level < N_LEVELS; level++)
        place |= (lane >> level & 1) << (N_LEVELS - 1 - level);
    return (size_t)place;
}

/* ---- Packing --------------------------------------------------------------------------------- */

/* One vector of each of LANES rows of w, from `row` and `column` on, turned. What w lacks is zeros;
 * nothing is when `whole`, which the compiler knows. */
INLINE void pack_vectors(phi3_dtype dtype, bool bfloat16, const phi3_float_rows *w, size_t row,
                         size_t column, size_t n_columns, bool whole, float *panel, size_t n_steps)
{
    const char *from = (const char *)w->data + (row * w->stride + column) * element_bytes(dtype);
    size_t row_bytes = w->stride * element_bytes(dtype);
    floats lanes[LANES];
    for (size_t r = 0; r < LANES; r++) {
        if (whole)
            lanes[r] = load_units(dtype, bfloat16, from + r * row_bytes);
        else if (row + r < w->n_rows)
            lanes[r] = load_units_up_to(dtype, bfloat16, from + r * row_bytes, n_columns);
        else
            lanes[r] = (floats){0};
    }
    transpose(lanes);
    for (int j = 0; j < LANES; j++)
        store(panel + place_of_lane(j) * n_steps * 2 * LANES, lanes[j]);
}

INLINE void pack(phi3_dtype dtype, bool bfloat16, const phi3_float_rows *w, size_t n_columns,
                 size_t n_steps, float *panel)
{
    size_t step = columns_of_vector(bfloat16);
    for (size_t row = 0; row < 2 * LANES; row += LANES) {
        size_t i = 0, column = 0;
        for (; row + LANES <= w->n_rows && column + step <= n_columns; i++, column += step)
            pack_vectors(dtype, bfloat16, w, row, column, step, true, panel + i * 2 * LANES + row,
                         n_steps);
        for (; column < n_columns; i++, column += step)
            pack_vectors(dtype, bfloat16, w, row, column, n_columns - column, false,
                         panel + i * 2 * LANES + row, n_steps);
    }
}

void ISA_NAME(phi3_pack_float_panel)(const phi3_float_rows *w, bool bfloat16, size_t n_columns,
                                     size_t n_steps, float *panel)
{
    (void)bfloat16;
#if defined(__AVX512BF16__)
    if (bfloat16)
        pack(PHI3_BF16, true, w, n_columns, n_steps, panel);
    else
#endif
        if (w->dtype == PHI3_F32)
        pack(PHI3_F32, false, w, n_columns, n_steps, panel);
    else if (w->dtype == PHI3_F16)
        pack(PHI3_F16, false, w, n_columns, n_steps, panel);
    else
        pack(PHI3_BF16, false, w, n_columns, n_steps, panel);
}

/* ---- Spreading ------------------------------------------------------------------------------- */

INLINE void spread(bool bfloat16, const float *x, size_t n_columns, size_t n_steps, float *out)
{
    size_t step = columns_of_vector(bfloat16);
    for (size_t first = 0; first < n_steps; first += LANES) {
        floats lanes[LANES];
        for (size_t i = 0; i < LANES; i++) {
            size_t column = (first + i) * step;
            lanes[i] = (floats){0};
            if (column < n_columns)
                lanes[i] = load_units_up_to(PHI3_F32, bfloat16, (const char *)(x + column),
                                            n_columns - column);
        }
        transpose(lanes);
        for (int j = 0; j < LANES; j++)
            store_up_to(out + place_of_lane(j) * n_steps + first, lanes[j], n_steps - first);
    }
}

void ISA_NAME(phi3_spread_row)(const float *x, bool bfloat16, size_t n_columns, size_t n_steps,
                               float *out)
{
    if (bfloat16)
        spread(true, x, n_columns, n_steps, out);
    else
        spread(false, x, n_columns, n_steps, out);
}

/* ---- Products -------------------------------------------------------------------------------- */

/* sum += one segment. */
INLINE void add_segment(bool bfloat16, const float *panel, const float *x, size_t x_stride,
                        size_t n_x, size_t n_steps, floats sum[X_TILE][2])
{
    for (size_t i = 0; i < n_steps; i++, panel += 2 * LANES, x++) {
        floats w0 = load(panel), w1 = load(panel + LANES);
        for (size_t r = 0; r < n_x; r++) {
            floats unit = repeat_unit(x + r * x_stride);
            sum[r][0] = multiply_add_units(bfloat16, w0, unit, sum[r][0]);
            sum[r][1] = multiply_add_units(bfloat16, w1, unit, sum[r][1]);
        }
    }
}

/* n_x rows of x; n_x is known to the compiler. */
INLINE void multiply_tile(bool bfloat16, const float *panel, const float *x, size_t x_stride,
                          size_t n_x, size_t n_steps, size_t n_out, float *y, size_t y_stride)
{
    floats waiting[N_LEVELS][X_TILE][2], sum[X_TILE][2];
    for (size_t place = 0; place < LANES; place++) {
        for (size_t r = 0; r < n_x; r++)
            sum[r][0] = sum[r][1] = (floats){0};
        add_segment(bfloat16, panel + place * n_steps * 2 * LANES, x + place * n_steps, x_stride,
                    n_x, n_steps, sum);
        size_t level = 0;
        for (; place >> level & 1; level++)
            for (size_t r = 0; r < n_x; r++)
                for (size_t v = 0; v < 2; v++)
                    sum[r][v] += waiting[level][r][v];
        if (level < N_LEVELS)
            memcpy(waiting[level], sum, n_x * sizeof *sum);
    }
    for (size_t r = 0; r < n_x; r++) {
        store_up_to(y + r * y_stride, sum[r][0], n_out);
        if (n_out > LANES)
            store_up_to(y + r * y_stride + LANES, sum[r][1], n_out - LANES);
    }
}

INLINE void multiply(bool bfloat16, const float *panel, size_t n_steps, const float *x,
                     size_t n_rows, size_t n_out, float *y, size_t y_stride)
{
    size_t x_stride = LANES * n_steps, r = 0;
    for (; r + X_TILE <= n_rows; r += X_TILE)
        multiply_tile(bfloat16, panel, x + r * x_stride, x_stride, X_TILE, n_steps, n_out,
                      y + r * y_stride, y_stride);
    for (; r < n_rows; r++)
        multiply_tile(bfloat16, panel, x + r * x_stride, x_stride, 1, n_steps, n_out,
                      y + r * y_stride, y_stride);
}

void ISA_NAME(phi3_float_panel_product)(const float *panel, bool bfloat16, size_t n_steps,
                                        const float *x, size_t n_rows, size_t n_out, float *y,
                                        size_t y_stride)
{
    if (bfloat16)
        multiply(true, panel, n_steps, x, n_rows, n_out, y, y_stride);
    else
        multiply(false, panel, n_steps, x, n_rows, n_out, y, y_stride);
}
