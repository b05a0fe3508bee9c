/*
 * kv_panels.h - the keys and values of a page as the panels that attention's products read.
 *
 * In: runs of a page in any dtype of the cache. Out: keys with their positions side by side, so that
 * a vector holds one dimension of LANES positions, and values as they are, all as float32, or as
 * pairs of bfloat16: of two dimensions of a key, of two positions of a value. A pair stands in a
 * float's place. Codes of int8 stay codes (bfloat16 holds them exactly): their scales are applied to
 * scores and weights.
 */
#ifndef PHI3_KV_PANELS_H
#define PHI3_KV_PANELS_H

#include "kernels/backend.h"
#include "simd.h"

/* The elements from `from` on, up to `count` of them, as float32; zeros above. */
INLINE floats load_elements(phi3_dtype dtype, const char *from, size_t count)
{
    char few[VECTOR_BYTES];
    if (count < LANES) {
        memset(few, 0, sizeof few);
        memcpy(few, from, count * phi3_kv_element_bytes(dtype));
        from = few;
    }
    switch (dtype) {
    case PHI3_F16:
        return load_float16(from);
    case PHI3_BF16:
        return load_bfloat16(from);
    case PHI3_I8:
        return load_int8(from);
    default:
        return load(from);
    }
}

/* Within each 16 bytes, runs of `run` floats of a and b in turn: of their low or high halves. */
INLINE floats interleave(int run, bool high, floats a, floats b)
{
    ints from;
    for (int i = 0; i < LANES; i++)
        from[i] =
            i / 4 * 4 + i % 4 / (2 * run) * run + i % run + (high ? 2 : 0) + i / run % 2 * LANES;
    return __builtin_shuffle(a, b, from);
}

/* Every other 16 bytes of a, then of b, from the first or the second on. */
INLINE floats every_other(bool second, floats a, floats b)
{
    ints from;
    for (int i = 0; i < LANES; i++)
        from[i] = i / 4 * 8 + i % 4 + (second ? 4 : 0);
    return __builtin_shuffle(a, b, from);
}

/* Turns LANES vectors, the rows of a square, into its columns: floats first, in squares of 4, then
 * those squares. */
INLINE void transpose(floats rows[LANES])
{
    floats next[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        next[i] = interleave(1, i % 2, rows[i / 2 * 2], rows[i / 2 * 2 + 1]);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        rows[i] =
            interleave(2, i % 2, next[i / 4 * 4 + i % 4 / 2], next[i / 4 * 4 + i % 4 / 2 + 2]);
#pragma GCC unroll 2
    for (int round = 4; round < LANES; round *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            int pair = i % (LANES / 2) / 4 * 8 + i % 4;
            next[i] = every_other(i >= LANES / 2, rows[pair], rows[pair + 4]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            rows[i] = next[i];
    }
}

/* Asks for `size` bytes at `from`, which are wanted about a page later. */
INLINE void prefetch(const char *from, size_t size)
{
    for (size_t i = 0; i < size; i += 64)
        __builtin_prefetch(from + i, 0, 2);
}

/* What a vector of a key holds that begins at element i: LANES elements, or LANES pairs. */
INLINE floats load_key(phi3_dtype dtype, bool pairs, const char *row, size_t i, size_t head_dim)
{
    size_t left = head_dim - i, size = phi3_kv_element_bytes(dtype);
    floats low = load_elements(dtype, row + i * size, left);
    if (!pairs)
        return low;
    floats high = {0};
    if (left > LANES)
        high = load_elements(dtype, row + (i + LANES) * size, left - LANES);
    return round_pairs(low, high);
}

/* Packs a square of keys: LANES positions from `rows` on, dimensions i to i + LANES - 1, or as many
 * pairs. `whole`: head_dim has them all.     panel [LANES][PHI3_PAGE_POSITIONS] */
INLINE void pack_key_square(phi3_dtype dtype, bool pairs, bool whole, const char *rows, size_t i,
                            size_t head_dim, float *panel)
{
    size_t row_bytes = head_dim * phi3_kv_element_bytes(dtype), columns = pairs ? 2 * LANES : LANES;
    size_t end = whole ? i + columns : head_dim, count = LANES;
    floats square[LANES];
#pragma GCC unroll 16
    for (size_t r = 0; r < LANES; r++)
        square[r] = load_key(dtype, pairs, rows + r * row_bytes, i, end);
    transpose(square);
    if (!whole)
        count = pairs ? (head_dim - i + 1) / 2 : head_dim - i;
#pragma GCC unroll 16
    for (size_t r = 0; r < count; r++)
        store(panel + r * PHI3_PAGE_POSITIONS, square[r]);
}

/* Packs the keys of the first `count` positions, in whole vectors of positions.
 *     run [PHI3_PAGE_POSITIONS][head_dim]; next: the run that comes after, or NULL
 *     panel [head_dim, or head_dim / 2 pairs][PHI3_PAGE_POSITIONS] */
INLINE void pack_keys(phi3_dtype dtype, bool pairs, const char *run, const char *next, size_t count,
                      size_t head_dim, float *panel)
{
    size_t size = phi3_kv_element_bytes(dtype), row_bytes = head_dim * size, step = pairs ? 2 : 1;
    for (size_t j = 0; j < count; j += LANES)
        for (size_t i = 0; i < head_dim; i += LANES * step) {
            if (next) /* as much of it, but the bytes in their order */
                prefetch(next + j * row_bytes + i * LANES * size, LANES * LANES * step * size);
            const char *rows = run + j * row_bytes;
            float *to = panel + i / step * PHI3_PAGE_POSITIONS + j;
            if (i + LANES * step <= head_dim)
                pack_key_square(dtype, pairs, true, rows, i, head_dim, to);
            else
                pack_key_square(dtype, pairs, false, rows, i, head_dim, to);
        }
}

/* Packs the first `count` values.
 *     run, next as above; panel [count, or count / 2 pairs][width], zeros beyond head_dim */
INLINE void pack_values(phi3_dtype dtype, bool pairs, const char *run, const char *next,
                        size_t count, size_t head_dim, size_t width, float *panel)
{
    size_t size = phi3_kv_element_bytes(dtype), row_bytes = head_dim * size;
    for (size_t j = 0; j < count; j += pairs ? 2 : 1, panel += width) {
        const char *row = run + j * row_bytes;
        if (next)
            prefetch(next + j * row_bytes, pairs ? 2 * row_bytes : row_bytes);
        for (size_t i = 0; i < width; i += LANES) {
            size_t left = i < head_dim ? head_dim - i : 0;
            floats value = load_elements(dtype, row + i * size, left);
            if (pairs) {
                floats second = {0};
                if (j + 1 < count)
                    second = load_elements(dtype, row + row_bytes + i * size, left);
                value = zip_pairs(value, second);
            }
            store(panel + i, value);
        }
    }
}

#endif
