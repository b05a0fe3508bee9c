/*
 * float.c - products of float rows with a few rows of activations, and float32 to bfloat16.
 *
 * In: rows w, as they are stored, and x. Out: y[r][o] = x[r] . w[o]. Tiles of rows keep their sums
 * in registers; units.h has the order of the sums.
 */
#include "kernels.h"
#include "units.h"

enum {
    W_TILE = 4,
    X_TILE = VECTOR_BYTES == 64 ? 4 : 2 /* as many sums as there are registers for */
};

/* With one row of x: as many rows of w at a time, and how many rows ahead the caches are filled with w of
 * 16 bits, beyond what the CPU does by itself. With bfloat16 Zen 4 reads 31 and 43 GB/s of 33 and 55 by
 * eight rows, 29 and 36 by four. An Emerald Rapids reads 21 GB/s without fetching and 26 with it, but
 * float32 slower; Zen 5 was slower with it. */
#if defined(__AMX_TILE__)
enum { LONE_TILE = W_TILE, AHEAD_ROWS = 2 * W_TILE };
#else
enum { LONE_TILE = 8, AHEAD_ROWS = 0 };
#endif

typedef struct strip {
    phi3_dtype dtype;
    const char *w; /* its rows, w_bytes apart */
    size_t w_bytes;
    phi3_dtype x_dtype; /* BF16: products of bfloat16 */
    size_t n_columns;
    float *y; /* the strip's columns */
    size_t y_stride;
} strip;

INLINE void add_units(const strip *s, size_t n_w, const char *x, size_t x_bytes, size_t n_x,
                      size_t column, size_t n_columns, floats sum[X_TILE][LONE_TILE])
{
    bool bfloat16 = s->x_dtype == PHI3_BF16;
    floats w[LONE_TILE];
    for (size_t o = 0; o < n_w; o++)
        w[o] =
            load_units_up_to(s->dtype, bfloat16,
                             s->w + o * s->w_bytes + column * element_bytes(s->dtype), n_columns);
    for (size_t r = 0; r < n_x; r++) {
        floats units = load_units_up_to(
            s->x_dtype, bfloat16, x + r * x_bytes + column * element_bytes(s->x_dtype), n_columns);
        for (size_t o = 0; o < n_w; o++)
            sum[r][o] = multiply_add_units(bfloat16, w[o], units, sum[r][o]);
    }
}

/* One tile, which may fetch another strip; the dtypes, n_w and n_x are known to the compiler. */
INLINE void multiply_tile(const strip *s, size_t n_w, const char *x, size_t x_bytes, size_t n_x,
                          bool fetches, float *y)
{
    floats sum[X_TILE][LONE_TILE];
    for (size_t r = 0; r < n_x; r++)
        for (size_t o = 0; o < n_w; o++)
            sum[r][o] = (floats){0};
    size_t i = 0, step = columns_of_vector(s->x_dtype == PHI3_BF16);
    for (; i + step <= s->n_columns; i += step) {
        for (size_t o = 0; fetches && o < n_w; o++)
            prefetch(s->w + (AHEAD_ROWS + o) * s->w_bytes + i * element_bytes(s->dtype), 1, true);
        add_units(s, n_w, x, x_bytes, n_x, i, step, sum);
    }
    if (i < s->n_columns)
        add_units(s, n_w, x, x_bytes, n_x, i, s->n_columns - i, sum);
    for (size_t r = 0; r < n_x; r++)
        for (size_t o = 0; o < n_w; o++)
            y[r * s->y_stride + o] = sum_units(sum[r][o]);
}

/* All of x with n_w weight rows. */
INLINE void multiply_strip(const strip *s, size_t n_w, const phi3_float_rows *x)
{
    size_t x_bytes = x->stride * element_bytes(s->x_dtype), r = 0;
    const char *rows = x->data;
    const bool fetches = AHEAD_ROWS && s->dtype != PHI3_F32;
    for (; r + X_TILE <= x->n_rows; r += X_TILE)
        multiply_tile(s, n_w, rows + r * x_bytes, x_bytes, X_TILE, fetches && r == 0,
                      s->y + r * s->y_stride);
    for (; r < x->n_rows; r++)
        multiply_tile(s, n_w, rows + r * x_bytes, x_bytes, 1, fetches && r == 0,
                      s->y + r * s->y_stride);
}

INLINE void multiply(phi3_dtype dtype, phi3_dtype x_dtype, const phi3_float_rows *w,
                     const phi3_float_rows *x, size_t n_columns, float *y, size_t y_stride)
{
    strip s = {dtype, w->data, w->stride * element_bytes(dtype), x_dtype, n_columns, y, y_stride};
    size_t left = w->n_rows;
    for (; x->n_rows == 1 && left >= LONE_TILE; left -= LONE_TILE, s.y += LONE_TILE) {
        multiply_strip(&s, LONE_TILE, x);
        s.w += LONE_TILE * s.w_bytes;
    }
    for (; left >= W_TILE; left -= W_TILE, s.w += W_TILE * s.w_bytes, s.y += W_TILE)
        multiply_strip(&s, W_TILE, x);
    for (; left > 0; left--, s.w += s.w_bytes, s.y++)
        multiply_strip(&s, 1, x);
}

void ISA_NAME(phi3_float_product)(const phi3_float_rows *w, const phi3_float_rows *x,
                                  size_t n_columns, float *y, size_t y_stride)
{
#if defined(__AVX512BF16__)
    if (x->dtype == PHI3_BF16)
        multiply(PHI3_BF16, PHI3_BF16, w, x, n_columns, y, y_stride);
    else
#endif
        if (w->dtype == PHI3_F32)
        multiply(PHI3_F32, PHI3_F32, w, x, n_columns, y, y_stride);
    else if (w->dtype == PHI3_F16)
        multiply(PHI3_F16, PHI3_F32, w, x, n_columns, y, y_stride);
    else
        multiply(PHI3_BF16, PHI3_F32, w, x, n_columns, y, y_stride);
}

void ISA_NAME(phi3_to_bfloat16)(const float *x, size_t count, uint16_t *out)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store_bfloat16(out + i, load(x + i));
    for (; i < count; i++)
        out[i] = phi3_bf16_from_f32(x[i]);
}
