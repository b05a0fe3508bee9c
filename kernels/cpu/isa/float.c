/*
 * float.c - float32 products of a few rows, and float32 to bfloat16.
 *
 * In: rows w, of float32 or 16-bit floats, and x. Out: y[r][o] = x[r] . w[o]. Tiles of rows keep
 * their sums in registers.
 */
#include "kernels.h"
#include "simd.h"

enum {
    W_TILE = 4,
    X_TILE = VECTOR_BYTES == 64 ? 4 : 2 /* as many sums as there are registers for */
};

/* Element i and the vector that starts there, of a row of any dtype. */
INLINE float element_at(phi3_dtype dtype, const char *row, size_t i)
{
    if (dtype == PHI3_F32)
        return phi3_load_f32(row + 4 * i);
    return dtype == PHI3_F16 ? phi3_load_f16(row + 2 * i) : phi3_load_bf16(row + 2 * i);
}

INLINE floats lanes_at(phi3_dtype dtype, const char *row, size_t i)
{
    if (dtype == PHI3_F32)
        return load(row + 4 * i);
    return dtype == PHI3_F16 ? load_float16(row + 2 * i) : load_bfloat16(row + 2 * i);
}

/* One tile; dtype, n_w and n_x are known to the compiler. */
INLINE void multiply_tile(phi3_dtype dtype, const char *w, size_t w_bytes, size_t n_w,
                          const float *x, size_t x_stride, size_t n_x, size_t n_columns, bool add,
                          float *y, size_t y_stride)
{
    floats sum[X_TILE][W_TILE] = {{{0}}};
    size_t i = 0;
    for (; i + LANES <= n_columns; i += LANES) {
        floats w_lanes[W_TILE];
        for (size_t o = 0; o < n_w; o++)
            w_lanes[o] = lanes_at(dtype, w + o * w_bytes, i);
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
                total += x[r * x_stride + j] * element_at(dtype, w + o * w_bytes, j);
            y[r * y_stride + o] = add ? y[r * y_stride + o] + total : total;
        }
    }
}

/* All of x with n_w weight rows. */
INLINE void multiply_strip(phi3_dtype dtype, const char *w, size_t w_bytes, size_t n_w,
                           const phi3_float_rows *x, size_t n_columns, bool add, float *y,
                           size_t y_stride)
{
    const float *x_row = x->data;
    size_t r = 0;
    for (; r + X_TILE <= x->n_rows; r += X_TILE)
        multiply_tile(dtype, w, w_bytes, n_w, x_row + r * x->stride, x->stride, X_TILE, n_columns,
                      add, y + r * y_stride, y_stride);
    for (; r < x->n_rows; r++)
        multiply_tile(dtype, w, w_bytes, n_w, x_row + r * x->stride, x->stride, 1, n_columns, add,
                      y + r * y_stride, y_stride);
}

INLINE void multiply(phi3_dtype dtype, const phi3_float_rows *w, const phi3_float_rows *x,
                     size_t n_columns, bool add, float *y, size_t y_stride)
{
    size_t w_bytes = w->stride * (dtype == PHI3_F32 ? sizeof(float) : sizeof(uint16_t)), o = 0;
    const char *w_row = w->data;
    for (; o + W_TILE <= w->n_rows; o += W_TILE)
        multiply_strip(dtype, w_row + o * w_bytes, w_bytes, W_TILE, x, n_columns, add, y + o,
                       y_stride);
    for (; o < w->n_rows; o++)
        multiply_strip(dtype, w_row + o * w_bytes, w_bytes, 1, x, n_columns, add, y + o, y_stride);
}

void ISA_NAME(phi3_float_product)(const phi3_float_rows *w, const phi3_float_rows *x,
                                  size_t n_columns, bool add, float *y, size_t y_stride)
{
    if (w->dtype == PHI3_F32)
        multiply(PHI3_F32, w, x, n_columns, add, y, y_stride);
    else if (w->dtype == PHI3_F16)
        multiply(PHI3_F16, w, x, n_columns, add, y, y_stride);
    else
        multiply(PHI3_BF16, w, x, n_columns, add, y, y_stride);
}

void ISA_NAME(phi3_to_bfloat16)(const float *x, size_t count, uint16_t *out)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store_bfloat16(out + i, load(x + i));
    for (; i < count; i++)
        out[i] = phi3_bf16_from_f32(x[i]);
}
