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

/* With one row of x: as many rows of w at a time. Then how far ahead of its use w is fetched: whole
 * tiles, and bytes of every row; behind a row's end comes the next tile's.
 * Zen 4 reads mapped bfloat16 at 52 to 56 GB/s of 51 with it (rows of 3072 and 8192), 45 and 49 by
 * itself, 42 when it comes into the first level; with 8 rows of x 26 and 23. An Emerald Rapids reads
 * 26 with it, 21 without, but float32 slower. */
#if defined(__AMX_TILE__)
enum { LONE_TILE = W_TILE, AHEAD_TILES = 2, AHEAD_BYTES = 0, FIRST_LEVEL = true };
#else
enum { LONE_TILE = 8, AHEAD_TILES = 0, AHEAD_BYTES = 2048, FIRST_LEVEL = false };
#endif

INLINE bool fetches(phi3_dtype dtype)
{
    return !FIRST_LEVEL || dtype != PHI3_F32;
}

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

/* The units from `column` on of each row of a tile that comes later. */
INLINE void fetch_units(const strip *s, size_t n_w, size_t column)
{
    size_t at = column * element_bytes(s->dtype) + AHEAD_BYTES;
    if (at >= s->w_bytes)
        at += (n_w - 1) * s->w_bytes;
    for (size_t o = 0; o < n_w; o++)
        prefetch(s->w + (AHEAD_TILES * n_w + o) * s->w_bytes + at, 1, FIRST_LEVEL);
}

/* One tile, which may fetch another; the dtypes, n_w and n_x are known to the compiler. */
INLINE void multiply_tile(const strip *s, size_t n_w, const char *x, size_t x_bytes, size_t n_x,
                          bool fetch, float *y)
{
    floats sum[X_TILE][LONE_TILE];
    for (size_t r = 0; r < n_x; r++)
        for (size_t o = 0; o < n_w; o++)
            sum[r][o] = (floats){0};
    size_t i = 0, step = columns_of_vector(s->x_dtype == PHI3_BF16);
    for (; i + step <= s->n_columns; i += step) {
        if (fetch)
            fetch_units(s, n_w, i);
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
    const bool fetch = fetches(s->dtype);
    for (; r + X_TILE <= x->n_rows; r += X_TILE)
        multiply_tile(s, n_w, rows + r * x_bytes, x_bytes, X_TILE, fetch && r == 0,
                      s->y + r * s->y_stride);
    for (; r < x->n_rows; r++)
        multiply_tile(s, n_w, rows + r * x_bytes, x_bytes, 1, fetch && r == 0,
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
