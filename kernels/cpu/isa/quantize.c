/*
 * quantize.c - float32 rows to stored ones: the float types and the blocks of 32.
 *
 * In: a row of finite numbers. Out: for the formats of this file the bytes that the Python package
 * gguf makes, with the same float32 operations in the same order. Must be compiled without fused
 * multiply-add. The blocks of 256 are quantised by quantize_k.c and quantize_iq4.c.
 */
#include "quantize.h"

#include <math.h>

#include "kernels.h"
#include "kernels/float16.h"

/* ---- Numbers -------------------------------------------------------------------------------- */

static void store_u16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

/* False when the number rounds to infinity. */
static bool store_f16(uint8_t *to, float value)
{
    uint16_t half = phi3_f16_from_f32(value);
    store_u16(to, half);
    return (half & 0x7c00) != 0x7c00;
}

/* 1/d; 0 where it would be infinite: then d is 0 as a float16 and the codes count for nothing. */
static float inverse(float d)
{
    float result = d == 0 ? 0 : 1 / d;
    return isfinite(result) ? result : 0;
}

/* The whole part; `highest` for more, and for the NaN of a block whose range is infinite. */
static int clamp_code(float value, int highest)
{
    return value < (float)(highest + 1) ? (int)value : highest;
}

static bool all_finite(const float *x, size_t count)
{
    uint32_t n_bad = 0;
    for (size_t i = 0; i < count; i++)
        n_bad += (phi3_float_bits(x[i]) & 0x7f800000) == 0x7f800000;
    return n_bad == 0;
}

/* ---- Float types ---------------------------------------------------------------------------- */

static bool to_f32(const float *x, size_t count, uint8_t *out)
{
    memcpy(out, x, count * sizeof *x);
    return true;
}

static bool to_f16(const float *x, size_t count, uint8_t *out)
{
    bool fits = true;
    for (size_t i = 0; i < count; i++)
        fits &= store_f16(out + 2 * i, x[i]);
    return fits;
}

/* The largest float32 rounds up to infinity. */
static bool to_bf16(const float *x, size_t count, uint8_t *out)
{
    bool fits = true;
    for (size_t i = 0; i < count; i++) {
        uint16_t half = phi3_bf16_from_f32(x[i]);
        store_u16(out + 2 * i, half);
        fits &= (half & 0x7f80) != 0x7f80;
    }
    return fits;
}

/* ---- Blocks of 32 --------------------------------------------------------------------------- */

/* The element of the largest size, with its sign: of equals the first. */
static float largest(const float *x)
{
    float max = x[0];
    for (int j = 1; j < PHI3_BLOCK; j++) {
        if (fabsf(x[j]) > fabsf(max))
            max = x[j];
    }
    return max;
}

static void find_range(const float *x, float *min, float *max)
{
    *min = *max = x[0];
    for (int j = 1; j < PHI3_BLOCK; j++) {
        *min = x[j] < *min ? x[j] : *min;
        *max = x[j] > *max ? x[j] : *max;
    }
}

/* u = x / d + offset. The last codes go to the low halves of all bytes, then to the high ones. */
static void pack_low_bits(const uint8_t *codes, uint8_t packed[16])
{
    for (int j = 0; j < 16; j++)
        packed[j] = (uint8_t)((codes[j] & 15) | codes[j + 16] << 4);
}

static void pack_fifth_bits(const uint8_t *codes, uint8_t high[4])
{
    for (int j = 0; j < 4; j++) {
        high[j] = 0;
        for (int bit = 0; bit < 8; bit++)
            high[j] |= (uint8_t)((codes[8 * j + bit] >> 4) << bit);
    }
}

/* Codes of d (u - middle): the largest element becomes u = 0, exactly. Returns d. */
static float symmetric_codes(const float *x, int middle, uint8_t codes[PHI3_BLOCK])
{
    float d = largest(x) / (float)-middle, id = inverse(d);
    for (int j = 0; j < PHI3_BLOCK; j++)
        codes[j] = (uint8_t)clamp_code(x[j] * id + ((float)middle + 0.5f), 2 * middle - 1);
    return d;
}

/* Codes of d u + min. Returns d. */
static float affine_codes(const float *x, int highest, float *min, uint8_t codes[PHI3_BLOCK])
{
    float max;
    find_range(x, min, &max);
    float d = (max - *min) / (float)highest, id = inverse(d);
    for (int j = 0; j < PHI3_BLOCK; j++)
        codes[j] = (uint8_t)clamp_code((x[j] - *min) * id + 0.5f, highest);
    return d;
}

static bool to_q4_0(const float *x, phi3_block_q4_0 *block)
{
    uint8_t codes[PHI3_BLOCK];
    float d = symmetric_codes(x, 8, codes);
    pack_low_bits(codes, block->codes);
    return store_f16(block->d, d);
}

static bool to_q5_0(const float *x, phi3_block_q5_0 *block)
{
    uint8_t codes[PHI3_BLOCK];
    float d = symmetric_codes(x, 16, codes);
    pack_low_bits(codes, block->codes);
    pack_fifth_bits(codes, block->high);
    return store_f16(block->d, d);
}

static bool to_q4_1(const float *x, phi3_block_q4_1 *block)
{
    uint8_t codes[PHI3_BLOCK];
    float min, d = affine_codes(x, 15, &min, codes);
    pack_low_bits(codes, block->codes);
    return store_f16(block->d, d) & store_f16(block->m, min);
}

static bool to_q5_1(const float *x, phi3_block_q5_1 *block)
{
    uint8_t codes[PHI3_BLOCK];
    float min, d = affine_codes(x, 31, &min, codes);
    pack_low_bits(codes, block->codes);
    pack_fifth_bits(codes, block->high);
    return store_f16(block->d, d) & store_f16(block->m, min);
}

static bool to_q8_0(const float *x, phi3_block_q8_0 *block)
{
    float d = fabsf(largest(x)) / 127, id = inverse(d);
    for (int j = 0; j < PHI3_BLOCK; j++) { /* rounds halves away from zero */
        float size = fabsf(x[j] * id), whole = (float)(int)size;
        int code = (int)(whole + (float)(int)(2 * (size - whole)));
        block->codes[j] = (int8_t)(x[j] * id < 0 ? -code : code);
    }
    return store_f16(block->d, d);
}

/* ---- Rows ----------------------------------------------------------------------------------- */

/* Runs the quantiser of a block format over a row. */
#define BLOCKS_TO(quantize, type, size)                                       \
    do {                                                                      \
        type *block = out;                                                    \
        bool fits = true;                                                     \
        for (const float *x = row; x < row + n_columns; x += (size), block++) \
            fits &= quantize(x, block);                                       \
        return fits;                                                          \
    } while (0)

bool ISA_NAME(phi3_quantize_weights)(phi3_dtype dtype, const float *row, size_t n_columns,
                                     void *out)
{
    if (!all_finite(row, n_columns))
        return false;
    switch (dtype) {
    case PHI3_F32:
        return to_f32(row, n_columns, out);
    case PHI3_F16:
        return to_f16(row, n_columns, out);
    case PHI3_BF16:
        return to_bf16(row, n_columns, out);
    case PHI3_Q4_0:
        BLOCKS_TO(to_q4_0, phi3_block_q4_0, PHI3_BLOCK);
    case PHI3_Q4_1:
        BLOCKS_TO(to_q4_1, phi3_block_q4_1, PHI3_BLOCK);
    case PHI3_Q5_0:
        BLOCKS_TO(to_q5_0, phi3_block_q5_0, PHI3_BLOCK);
    case PHI3_Q5_1:
        BLOCKS_TO(to_q5_1, phi3_block_q5_1, PHI3_BLOCK);
    case PHI3_Q8_0:
        BLOCKS_TO(to_q8_0, phi3_block_q8_0, PHI3_BLOCK);
    case PHI3_Q2_K:
        BLOCKS_TO(ISA_NAME(phi3_quantize_q2_k), phi3_block_q2_k, PHI3_SUPER_BLOCK);
    case PHI3_Q3_K:
        BLOCKS_TO(ISA_NAME(phi3_quantize_q3_k), phi3_block_q3_k, PHI3_SUPER_BLOCK);
    case PHI3_Q4_K:
        BLOCKS_TO(ISA_NAME(phi3_quantize_q4_k), phi3_block_q4_k, PHI3_SUPER_BLOCK);
    case PHI3_Q5_K:
        BLOCKS_TO(ISA_NAME(phi3_quantize_q5_k), phi3_block_q5_k, PHI3_SUPER_BLOCK);
    case PHI3_Q6_K:
        BLOCKS_TO(ISA_NAME(phi3_quantize_q6_k), phi3_block_q6_k, PHI3_SUPER_BLOCK);
    case PHI3_IQ4_NL:
        BLOCKS_TO(ISA_NAME(phi3_quantize_iq4_nl), phi3_block_iq4_nl, PHI3_BLOCK);
    case PHI3_IQ4_XS:
        BLOCKS_TO(ISA_NAME(phi3_quantize_iq4_xs), phi3_block_iq4_xs, PHI3_SUPER_BLOCK);
    case PHI3_I8:
    case PHI3_DTYPE_LIMIT:
        break;
    }
    return false;
}
