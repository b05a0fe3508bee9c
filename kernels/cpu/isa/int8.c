/*
 * int8.c - products of quantised weights with activations quantised to 8 bits.
 *
 * In: stored weight rows and phi3_int8_rows. Out: y in float32.
 *
 * Work goes by groups of 256 elements. A block's product is an exact integer; it is multiplied by the
 * scales of both sides and added to a float per lane. What a format adds to this scheme is in its
 * `format`: how a vector of codes and the scales of a group are unpacked.
 */
#include <math.h>

#include "kernels.h"
#include "kernels/blocks.h"
#include "simd.h"

enum {
    STEPS = PHI3_INT8_GROUP / VECTOR_BYTES, /* vectors in a group */
    GROUP_BLOCKS = PHI3_INT8_GROUP / 32,
    TILE = 4 /* weight rows that share the loads of x */
};

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

/* ---- The scheme ------------------------------------------------------------------------------ */

typedef struct format {
    size_t group_bytes;
    int zero;         /* subtracted from every code */
    bool wide;        /* codes go above 127 */
    bool has_mins;    /* a number is added to every weight of a block */
    bool half_blocks; /* scales count for 16 elements, not 32 */

    /* The scales [8 or 16] and mins [8] of a group that has n_blocks blocks; zeros above. */
    void (*scales)(const uint8_t *group, size_t n_blocks, float *scales, float *mins);
    /* The codes of vector number `step` of the group. */
    bytes (*codes)(const uint8_t *group, int step, size_t n_blocks);
} format;

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

#define DEFINE_PRODUCT(name)                                                                     \
    void ISA_NAME(phi3_product_##name)(const phi3_weight_rows *weights, const phi3_int8_rows *x, \
                                       float *y, size_t y_stride)                                \
    {                                                                                            \
        multiply(name, weights, x, y, y_stride);                                                 \
    }

/* ---- Formats of blocks of 32 ----------------------------------------------------------------- */

/* Eight float16 numbers, one per block; zeros for blocks that the group does not have. */
INLINE void block_numbers(const uint8_t *from, size_t block_bytes, size_t n_blocks, float *numbers)
{
    if (n_blocks == GROUP_BLOCKS) {
        floats8 v = load_float16_strided(from, block_bytes);
        memcpy(numbers, &v, sizeof v);
        return;
    }
    for (size_t b = 0; b < GROUP_BLOCKS; b++)
        numbers[b] = b < n_blocks ? phi3_load_f16(from + b * block_bytes) : 0;
}

/* The block after block b; b again at the end of the row, where x has only zeros. */
INLINE size_t block_after(size_t b, size_t n_blocks)
{
    return b + 1 < n_blocks ? b + 1 : b;
}

INLINE void scales_q4_0(const uint8_t *group, size_t n_blocks, float *scales, float *mins)
{
    (void)mins;
    block_numbers(group, sizeof(phi3_block_q4_0), n_blocks, scales);
}

INLINE bytes codes_q4_0(const uint8_t *group, int step, size_t n_blocks)
{
    const phi3_block_q4_0 *block = (const phi3_block_q4_0 *)group;
    size_t b = (size_t)(step * BLOCKS);
    return load_nibbles(block[b].codes, block[block_after(b, n_blocks)].codes);
}

static const format q4_0 = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_q4_0),
    .zero = 8,
    .scales = scales_q4_0,
    .codes = codes_q4_0,
};
DEFINE_PRODUCT(q4_0)

INLINE void scales_q4_1(const uint8_t *group, size_t n_blocks, float *scales, float *mins)
{
    block_numbers(group, sizeof(phi3_block_q4_1), n_blocks, scales);
    block_numbers(group + 2, sizeof(phi3_block_q4_1), n_blocks, mins);
}

INLINE bytes codes_q4_1(const uint8_t *group, int step, size_t n_blocks)
{
    const phi3_block_q4_1 *block = (const phi3_block_q4_1 *)group;
    size_t b = (size_t)(step * BLOCKS);
    return load_nibbles(block[b].codes, block[block_after(b, n_blocks)].codes);
}

static const format q4_1 = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_q4_1),
    .has_mins = true,
    .scales = scales_q4_1,
    .codes = codes_q4_1,
};
DEFINE_PRODUCT(q4_1)

INLINE void scales_q8_0(const uint8_t *group, size_t n_blocks, float *scales, float *mins)
{
    (void)mins;
    block_numbers(group, sizeof(phi3_block_q8_0), n_blocks, scales);
}

/* Signed codes become unsigned ones that are 128 higher. */
INLINE bytes codes_q8_0(const uint8_t *group, int step, size_t n_blocks)
{
    const phi3_block_q8_0 *block = (const phi3_block_q8_0 *)group;
    size_t b = (size_t)(step * BLOCKS);
    return load_blocks(block[b].codes, block[block_after(b, n_blocks)].codes) ^ 128;
}

static const format q8_0 = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_q8_0),
    .zero = 128,
    .wide = true,
    .scales = scales_q8_0,
    .codes = codes_q8_0,
};
DEFINE_PRODUCT(q8_0)

/* ---- Formats of blocks of 256: a block is a group --------------------------------------------- */

/* 8 bytes as floats, times d. */
INLINE void scaled_bytes(uint32_t first, uint32_t second, float d, float *out)
{
    typedef uint8_t bytes8 __attribute__((vector_size(8)));
    uint64_t packed = first | (uint64_t)second << 32;
    bytes8 numbers;
    memcpy(&numbers, &packed, sizeof packed);
    floats8 scaled = __builtin_convertvector(numbers, floats8) * d;
    memcpy(out, &scaled, sizeof scaled);
}

/* phi3_unpack_scales, four at a time. */
INLINE void scales_q4_k(const uint8_t *group, size_t n_blocks, float *scales, float *mins)
{
    (void)n_blocks;
    const phi3_block_q4_k *block = (const phi3_block_q4_k *)group;
    uint32_t low_scales = phi3_load_u32(block->scales);
    uint32_t low_mins = phi3_load_u32(block->scales + 4);
    uint32_t high = phi3_load_u32(block->scales + 8);
    scaled_bytes(low_scales & 0x3f3f3f3f, (high & 0x0f0f0f0f) | (low_scales >> 6 & 0x03030303) << 4,
                 phi3_load_f16(block->d), scales);
    scaled_bytes(low_mins & 0x3f3f3f3f,
                 (high >> 4 & 0x0f0f0f0f) | (low_mins >> 6 & 0x03030303) << 4,
                 -phi3_load_f16(block->dmin), mins);
}

INLINE bytes codes_q4_k(const uint8_t *group, int step, size_t n_blocks)
{
    (void)n_blocks;
    const phi3_block_q4_k *block = (const phi3_block_q4_k *)group;
    int b = step * BLOCKS;
    return load_planes(block->codes + b / 2 * 32, b % 2 / BLOCKS, 4);
}

static const format q4_k = {
    .group_bytes = sizeof(phi3_block_q4_k),
    .has_mins = true,
    .scales = scales_q4_k,
    .codes = codes_q4_k,
};
DEFINE_PRODUCT(q4_k)

INLINE void scales_q6_k(const uint8_t *group, size_t n_blocks, float *scales, float *mins)
{
    (void)n_blocks, (void)mins;
    const phi3_block_q6_k *block = (const phi3_block_q6_k *)group;
    float d = phi3_load_f16(block->d);
    for (int i = 0; i < 16; i++)
        scales[i] = d * (float)block->scales[i];
}

INLINE bytes codes_q6_k(const uint8_t *group, int step, size_t n_blocks)
{
    (void)n_blocks;
    const phi3_block_q6_k *block = (const phi3_block_q6_k *)group;
    int run = step * BLOCKS / 4, quarter = step * BLOCKS % 4;
    bytes low = load_bytes(block->codes + 64 * run + quarter % 2 * 32);
    low = low >> (uint8_t)(quarter / 2 * 4) & 15;
    return low | load_planes(block->high + 32 * run, quarter / BLOCKS, 2) << 4;
}

static const format q6_k = {
    .group_bytes = sizeof(phi3_block_q6_k),
    .zero = 32,
    .half_blocks = true,
    .scales = scales_q6_k,
    .codes = codes_q6_k,
};
DEFINE_PRODUCT(q6_k)
