/*
 * kv_panels.h - the keys and values of a page as the panels that attention's products read.
 *
 * In: runs of a page in any dtype of the cache. Out: keys with all positions of a page side by side,
 * and values as they are, as float32, or as pairs of bfloat16: of two dimensions of a key, of two
 * positions of a value. A pair stands in a float's place. Codes of int8 stay codes (bfloat16 holds them
 * exactly): their scales are applied to scores and weights.
 */
#ifndef PHI3_KV_PANELS_H
#define PHI3_KV_PANELS_H

#include "kernels/cpu/kernels.h"
#include "simd_narrow.h"

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

/* Dimension i of the keys of LANES positions, or pairs of it and the next.
 *     block [head_dim][PHI3_KEY_LANES] from the first of these positions on */
INLINE floats load_keys(phi3_dtype dtype, bool pairs, const char *block, size_t i, size_t head_dim)
{
    size_t row_bytes = PHI3_KEY_LANES * phi3_kv_element_bytes(dtype);
    floats keys = load_elements(dtype, block + i * row_bytes, LANES);
    if (!pairs)
        return keys;
    floats second = {0};
    if (i + 1 < head_dim)
        second = load_elements(dtype, block + (i + 1) * row_bytes, LANES);
    return zip_pairs(keys, second);
}

/* Packs the keys of the first `count` positions, rounded up to whole blocks.
 *     run [PHI3_PAGE_POSITIONS / PHI3_KEY_LANES][head_dim][PHI3_KEY_LANES]; next: the run that comes
 *     after, or NULL; panel [head_dim, or head_dim / 2 pairs][PHI3_PAGE_POSITIONS] */
INLINE void pack_keys(phi3_dtype dtype, bool pairs, const char *run, const char *next, size_t count,
                      size_t head_dim, float *panel)
{
    size_t size = phi3_kv_element_bytes(dtype), step = pairs ? 2 : 1;
    for (size_t j = 0; j < count; j += PHI3_KEY_LANES) {
        float *to = panel + j;
        for (size_t i = 0; i < head_dim; i += step, to += PHI3_PAGE_POSITIONS) {
            if (next)
                prefetch(next + (j * head_dim + i * PHI3_KEY_LANES) * size,
                         step * PHI3_KEY_LANES * size, false);
#pragma GCC unroll 4
            for (size_t v = 0; v < PHI3_KEY_LANES; v += LANES)
                store(to + v,
                      load_keys(dtype, pairs, run + (j * head_dim + v) * size, i, head_dim));
        }
    }
}

/* Packs the first `count` values.
 *     run [PHI3_PAGE_POSITIONS][head_dim], next as above
 *     panel [count, or count / 2 pairs][width], zeros beyond head_dim */
INLINE void pack_values(phi3_dtype dtype, bool pairs, const char *run, const char *next,
                        size_t count, size_t head_dim, size_t width, float *panel)
{
    size_t size = phi3_kv_element_bytes(dtype), row_bytes = head_dim * size;
    for (size_t j = 0; j < count; j += pairs ? 2 : 1, panel += width) {
        const char *row = run + j * row_bytes;
        if (next)
            prefetch(next + j * row_bytes, pairs ? 2 * row_bytes : row_bytes, false);
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
