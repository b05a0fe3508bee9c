/*
 * int8.c - products of quantised weights with activations quantised to 8 bits.
 *
 * In: stored weight rows and phi3_int8_rows. Out: y in float32. A block's product is an exact
 * integer; it is multiplied by the scales of both sides and added to a float per lane.
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

/* A block with a NaN or an infinity gets that as its scale, and so spoils the product as it
 * should. */
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

/* ---- One row of x with a tile of weight rows ------------------------------------------------- */

/* A place in a row of x. */
typedef struct operand {
    const int8_t *codes;
    const float *scales;
    const float *sums;
} operand;

INLINE ints dot(const format f, ints sum, bytes codes, bytes x)
{
    return f.wide ? dot_wide_codes(sum, codes, x) : dot_codes(sum, codes, x);
}

/* Adds the products of one group, which has n_blocks blocks in n_steps vectors. */
INLINE void add_group(const format f, const uint8_t *const rows[TILE], operand x, size_t n_blocks,
                      int n_steps, floats sum[TILE], floats8 min_sum[TILE])
{
    float scales[TILE][16], mins[8];
    for (int r = 0; r < TILE; r++) {
        f.scales(rows[r], n_blocks, scales[r], mins);
        if (f.has_mins)
            min_sum[r] += load8(mins) * load8(x.sums);
    }
    UNROLL_STEPS
    for (int step = 0; step < n_steps; step++) {
        bytes codes_x = load_bytes(x.codes + step * VECTOR_BYTES);
        floats scale_x = spread_blocks(x.scales, step);
        ints start = {0};
        if (f.zero)
            start -= dot(f, start, splat_byte((uint8_t)f.zero), codes_x);
        for (int r = 0; r < TILE; r++) {
            ints product = dot(f, start, f.codes(rows[r], step, n_blocks), codes_x);
            floats scale = f.half_blocks ? spread_half_blocks(scales[r], step)
                                         : spread_blocks(scales[r], step);
            sum[r] = multiply_add(ints_to_floats(product), scale * scale_x, sum[r]);
        }
    }
}

/* out[r] = x . rows[r] for a whole tile. */
INLINE void multiply_tile(const format f, const uint8_t *const first[TILE], size_t n_blocks,
                          operand x, float out[TILE])
{
    const uint8_t *rows[TILE];
    memcpy(rows, first, sizeof rows);
    floats sum[TILE] = {0};
    floats8 min_sum[TILE] = {0};
    for (; n_blocks >= GROUP_BLOCKS; n_blocks -= GROUP_BLOCKS) {
        add_group(f, rows, x, GROUP_BLOCKS, STEPS, sum, min_sum);
        for (int r = 0; r < TILE; r++)
            rows[r] += f.group_bytes;
        x.codes += PHI3_INT8_GROUP;
        x.scales += GROUP_BLOCKS;
        x.sums += GROUP_BLOCKS;
    }
    if (f.small_blocks && n_blocks > 0)
        add_group(f, rows, x, n_blocks, (int)((n_blocks + BLOCKS - 1) / BLOCKS), sum, min_sum);
    for (int r = 0; r < TILE; r++)
        out[r] = sum_lanes(sum[r]) + (f.has_mins ? sum_lanes8(min_sum[r]) : 0);
}

INLINE void multiply(const format f, const phi3_weight_rows *weights, const phi3_int8_rows *x,
                     float *y, size_t y_stride)
{
    for (size_t o = 0; o < weights->n_rows; o += TILE) {
        size_t left = weights->n_rows - o;
        const uint8_t *rows[TILE];
        for (size_t r = 0; r < TILE; r++) /* the last tile repeats a row to be whole */
            rows[r] = weights->data + (o + (r < left ? r : left - 1)) * weights->row_bytes;
        for (size_t r = 0; r < x->n_rows; r++) {
            size_t n_x_blocks = x->n_padded / PHI3_INT8_BLOCK;
            operand row = {x->codes + r * x->n_padded, x->scales + r * n_x_blocks,
                           x->sums + r * n_x_blocks};
            float out[TILE];
            multiply_tile(f, rows, weights->n_columns / PHI3_INT8_BLOCK, row, out);
            memcpy(y + r * y_stride + o, out, (left < TILE ? left : TILE) * sizeof *out);
        }
    }
}

/* ---- The products ---------------------------------------------------------------------------- */

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
