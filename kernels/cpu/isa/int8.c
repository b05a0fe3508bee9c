/*
 * int8.c - products of quantised weights with activations quantised to 8 bits.
 *
 * In: stored weight rows and phi3_int8_rows. Out: y in float32. A block's product is an exact integer;
 * it is multiplied by the scales of both sides and added to a float per lane.
 */
#include <math.h>

#include "formats.h"
#include "kernels.h"

/* Weight rows that share the loads of x. */
enum { TILE = 4 };

/* ---- Activations ----------------------------------------------------------------------------- */

/* The largest |x| as an integer maximum over the bits: a NaN counts as more than infinity. */
INLINE float largest_magnitude(const float *x, size_t count)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = phi3_float_bits(x[i]) & 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return phi3_float_from_bits(largest);
}

/* A block with a NaN or an infinity gets that as its scale, and so spoils the product as it should. */
INLINE void quantize_block(const float x[32], int8_t codes[32], float *scale, float *sum)
{
    float largest = largest_magnitude(x, 32);
    float inverse = isfinite(largest) && largest > 0 ? 127 / largest : 0;
    int total = 0;
    for (int i = 0; i < 32; i++) {
        float scaled = x[i] * inverse;
        int32_t code = (int32_t)phi3_float_bits(scaled + 0x1.8p23f) - 0x4b400000; /* to nearest */
        codes[i] = (int8_t)code;
        total += codes[i];
    }
    *scale = largest / 127;
    *sum = *scale * (float)total;
}

void ISA_NAME(phi3_quantize_row)(const float *x, size_t n_columns, size_t row,
                                 const phi3_int8_rows *out)
{
    size_t n_blocks = out->n_padded / 32;
    int8_t *codes = out->codes + row * out->n_padded;
    float *scales = out->scales + row * n_blocks;
    float *sums = out->sums + row * n_blocks;
    for (size_t b = 0; b < n_columns / 32; b++)
        quantize_block(x + 32 * b, codes + 32 * b, scales + b, sums + b);
    for (size_t b = n_columns / 32; b < n_blocks; b++) {
        memset(codes + 32 * b, 0, 32);
        scales[b] = sums[b] = 0;
    }
}

/* ---- One group -------------------------------------------------------------------------------- */

/* Adds the products of one group of `count` weight rows with one row of x. */
INLINE void add_group(const format f, const uint8_t *weights, size_t row_bytes, size_t count,
                      size_t n_blocks, int n_steps, const int8_t *x, const float *x_scales,
                      const float *x_sums, floats sum[TILE], floats8 min_sum[TILE])
{
    float scales[TILE][16], mins[8];
    for (size_t r = 0; r < count; r++) {
        f.scales(weights + r * row_bytes, n_blocks, scales[r], mins);
        if (f.has_mins)
            min_sum[r] += load8(mins) * load8(x_sums);
    }
#pragma GCC unroll 8 /* so that shifts and places in a block are constants */
    for (int step = 0; step < n_steps; step++) {
        bytes codes_x = load_bytes(x + step * VECTOR_BYTES);
        floats scale_x = spread_blocks(x_scales, step);
        ints start = {0};
        if (f.zero)
            start -= f.wide ? dot_wide_codes(start, splat_byte((uint8_t)f.zero), codes_x)
                            : dot_codes(start, splat_byte((uint8_t)f.zero), codes_x);
        for (size_t r = 0; r < count; r++) {
            bytes codes = f.codes(weights + r * row_bytes, step, n_blocks);
            ints dot =
                f.wide ? dot_wide_codes(start, codes, codes_x) : dot_codes(start, codes, codes_x);
            floats scale = f.half_blocks ? spread_half_blocks(scales[r], step)
                                         : spread_blocks(scales[r], step);
            sum[r] = multiply_add(ints_to_floats(dot), scale * scale_x, sum[r]);
        }
    }
}

/* y[o] = x . weights[o] for `count` (1 or TILE, known to the compiler) weight rows. */
INLINE void multiply_rows(const format f, const uint8_t *weights, const phi3_weight_rows *shape,
                          size_t count, const int8_t *x, const float *x_scales, const float *x_sums,
                          float *y)
{
    size_t n_blocks = shape->n_columns / 32;
    floats sum[TILE] = {0};
    floats8 min_sum[TILE] = {0};
    size_t b = 0;
    for (; b + GROUP_BLOCKS <= n_blocks; b += GROUP_BLOCKS) {
        add_group(f, weights, shape->row_bytes, count, GROUP_BLOCKS, STEPS, x + 32 * b,
                  x_scales + b, x_sums + b, sum, min_sum);
        weights += f.group_bytes;
    }
    if (b < n_blocks)
        add_group(f, weights, shape->row_bytes, count, n_blocks - b,
                  (int)((n_blocks - b + BLOCKS - 1) / BLOCKS), x + 32 * b, x_scales + b, x_sums + b,
                  sum, min_sum);
    for (size_t r = 0; r < count; r++)
        y[r] = sum_lanes(sum[r]) + (f.has_mins ? sum_lanes8(min_sum[r]) : 0);
}

INLINE void multiply(const format f, const phi3_weight_rows *weights, const phi3_int8_rows *x,
                     float *y, size_t y_stride)
{
    for (size_t o = 0; o < weights->n_rows;) {
        const uint8_t *rows = weights->data + o * weights->row_bytes;
        bool whole = weights->n_rows - o >= TILE;
        for (size_t r = 0; r < x->n_rows; r++) {
            const int8_t *codes = x->codes + r * x->n_padded;
            const float *scales = x->scales + r * (x->n_padded / 32);
            const float *sums = x->sums + r * (x->n_padded / 32);
            float *out = y + r * y_stride + o;
            if (whole)
                multiply_rows(f, rows, weights, TILE, codes, scales, sums, out);
            else
                multiply_rows(f, rows, weights, 1, codes, scales, sums, out);
        }
        o += whole ? TILE : 1;
    }
}

/* ---- The products ------------------------------------------------------------------------------ */

#define DEFINE_PRODUCT(name)                                                                     \
    void ISA_NAME(phi3_product_##name)(const phi3_weight_rows *weights, const phi3_int8_rows *x, \
                                       float *y, size_t y_stride)                                \
    {                                                                                            \
        multiply(format_##name, weights, x, y, y_stride);                                        \
    }

DEFINE_PRODUCT(q4_0)
DEFINE_PRODUCT(q4_1)
DEFINE_PRODUCT(q5_0)
DEFINE_PRODUCT(q5_1)
DEFINE_PRODUCT(q8_0)
DEFINE_PRODUCT(iq4_nl)
DEFINE_PRODUCT(q3_k)
DEFINE_PRODUCT(q4_k)
DEFINE_PRODUCT(q5_k)
DEFINE_PRODUCT(q6_k)
DEFINE_PRODUCT(iq4_xs)
