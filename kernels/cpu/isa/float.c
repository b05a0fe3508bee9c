/*
 * float.c - float32 products of a few rows, and float32 to bfloat16.
 *
 * In: rows w and x. Out: y[r][o] = x[r] . w[o]. Tiles of rows keep their sums in registers.
 */
#include "kernels.h"
#include "simd.h"

enum {
    W_TILE = 4,
    X_TILE = VECTOR_BYTES == 64 ? 4 : 2 /* as many sums as there are registers for */
};

/* One tile; n_w and n_x are known to the compiler. */
INLINE void multiply_tile(const float *w, size_t w_stride, size_t n_w, const float *x,
                          size_t x_stride, size_t n_x, size_t n_columns, bool add, float *y,
                          size_t y_stride)
{
    floats sum[X_TILE][W_TILE] = {{{0}}};
    size_t i = 0;
    for (; i + LANES <= n_columns; i += LANES) {
        floats w_lanes[W_TILE];
        for (size_t o = 0; o < n_w; o++)
            w_lanes[o] = load(w + o * w_stride + i);
        for (size_t r = 0; r < n_x; r++) {
            floats x_lanes = load(x + r * x_stride + i);
            for (size_t o = 0; o < n_w; o++)
                sum[r][o] = multiply_add(x_lanes, w_lanes[o], sum[r][o]);
        }
    }
    for (size_t r = 0; r < n_x; r++) {
        for (size_t o = 0; o < n_w; o++) {
            float total = sum_lanes(sum[r][o]);
            for (size_t j = i; j < n_columns; j++)
                total += x[r * x_stride + j] * w[o * w_stride + j];
            y[r * y_stride + o] = add ? y[r * y_stride + o] + total : total;
        }
    }
}

/* All of x with n_w weight rows. */
INLINE void multiply_strip(const float *w, size_t w_stride, size_t n_w, const phi3_float_rows *x,
                           size_t n_columns, bool add, float *y, size_t y_stride)
{
    size_t r = 0;
    for (; r + X_TILE <= x->n_rows; r += X_TILE)
        multiply_tile(w, w_stride, n_w, x->data + r * x->stride, x->stride, X_TILE, n_columns, add,
                      y + r * y_stride, y_stride);
    for (; r < x->n_rows; r++)
        multiply_tile(w, w_stride, n_w, x->data + r * x->stride, x->stride, 1, n_columns, add,
                      y + r * y_stride, y_stride);
}

void ISA_NAME(phi3_float_product)(const phi3_float_rows *w, const phi3_float_rows *x,
                                  size_t n_columns, bool add, float *y, size_t y_stride)
{
    size_t o = 0;
    for (; o + W_TILE <= w->n_rows; o += W_TILE)
        multiply_strip(w->data + o * w->stride, w->stride, W_TILE, x, n_columns, add, y + o,
                       y_stride);
    for (; o < w->n_rows; o++)
        multiply_strip(w->data + o * w->stride, w->stride, 1, x, n_columns, add, y + o, y_stride);
}

void ISA_NAME(phi3_to_bfloat16)(const float *x, size_t count, uint16_t *out)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store_bfloat16(out + i, load(x + i));
    for (; i < count; i++)
        out[i] = phi3_bf16_from_f32(x[i]);
}
