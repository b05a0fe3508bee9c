/*
 * dequantize.c - stored rows to float32, one short loop per format.
 *
 * In: a row of any alignment. Out: the values that the Python package gguf computes, with the same
 * float32 operations in the same order, so that the results are equal bit for bit. The file must be
 * compiled without fused multiply-add (-ffp-contract=off).
 */
#include "kernels/blocks.h"
#include "kernels/float16.h"
#include "kernels/formats.h"

/* ---- Blocks of 32 --------------------------------------------------------------------------- */

static void q4_0(const phi3_block_q4_0 *block, float *out)
{
    float d = phi3_load_f16(block->d);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)((block->codes[j] & 15) - 8);
        out[j + 16] = d * (float)((block->codes[j] >> 4) - 8);
    }
}

static void q4_1(const phi3_block_q4_1 *block, float *out)
{
    float d = phi3_load_f16(block->d), m = phi3_load_f16(block->m);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)(block->codes[j] & 15) + m;
        out[j + 16] = d * (float)(block->codes[j] >> 4) + m;
    }
}

static void q5_0(const phi3_block_q5_0 *block, float *out)
{
    float d = phi3_load_f16(block->d);
    uint32_t high = phi3_load_u32(block->high);
    for (int j = 0; j < 16; j++) {
        int low_code = (block->codes[j] & 15) | (int)(high >> j & 1) << 4;
        int high_code = block->codes[j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
        out[j] = d * (float)(low_code - 16);
        out[j + 16] = d * (float)(high_code - 16);
    }
}

static void q5_1(const phi3_block_q5_1 *block, float *out)
{
    float d = phi3_load_f16(block->d), m = phi3_load_f16(block->m);
    uint32_t high = phi3_load_u32(block->high);
    for (int j = 0; j < 16; j++) {
        int low_code = (block->codes[j] & 15) | (int)(high >> j & 1) << 4;
        int high_code = block->codes[j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
        out[j] = d * (float)low_code + m;
        out[j + 16] = d * (float)high_code + m;
    }
}

static void q8_0(const phi3_block_q8_0 *block, float *out)
{
    float d = phi3_load_f16(block->d);
    for (int j = 0; j < 32; j++)
        out[j] = d * (float)block->codes[j];
}

static void iq4_nl(const phi3_block_iq4_nl *block, float *out)
{
    float d = phi3_load_f16(block->d);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)phi3_iq4_values[block->codes[j] & 15];
        out[j + 16] = d * (float)phi3_iq4_values[block->codes[j] >> 4];
    }
}

/* ---- Blocks of 256: by sub-blocks that share a scale ----------------------------------------- */

/* Sub-block s of 16 elements in q2_k, q3_k and q6_k: a block has two runs of four quarters of two
 * sub-blocks; the quarters of a run share bytes. */
typedef struct place {
    int run, quarter, half;
} place;

static place place_of(int s)
{
    return (place){s / 8, s % 8 / 2, s % 2};
}

static void q2_k(const phi3_block_q2_k *block, float *out)
{
    float d = phi3_load_f16(block->d), dmin = phi3_load_f16(block->dmin);
    for (int s = 0; s < 16; s++, out += 16) {
        place p = place_of(s);
        const uint8_t *codes = block->codes + 32 * p.run + 16 * p.half;
        float scale = d * (float)(block->scales[s] & 15);
        float min = dmin * (float)(block->scales[s] >> 4);
        for (int j = 0; j < 16; j++)
            out[j] = scale * (float)(codes[j] >> (2 * p.quarter) & 3) - min;
    }
}

static void q3_k(const phi3_block_q3_k *block, float *out)
{
    float d = phi3_load_f16(block->d);
    for (int s = 0; s < 16; s++, out += 16) {
        place p = place_of(s);
        const uint8_t *codes = block->codes + 32 * p.run + 16 * p.half;
        const uint8_t *high = block->high + 16 * p.half;
        int low_scale = block->scales[s % 8] >> (s / 8 * 4) & 15;
        int high_scale = block->scales[8 + s % 4] >> (s / 4 * 2) & 3;
        float scale = d * (float)((low_scale | high_scale << 4) - 32);
        for (int j = 0; j < 16; j++) {
            int code = (codes[j] >> (2 * p.quarter) & 3) | (high[j] >> (s / 2) & 1) << 2;
            out[j] = scale * (float)(code - 4);
        }
    }
}

static void q4_k(const phi3_block_q4_k *block, float *out)
{
    float d = phi3_load_f16(block->d), dmin = phi3_load_f16(block->dmin);
    uint8_t scales[8], mins[8];
    phi3_unpack_scales(block->scales, scales, mins);
    for (int s = 0; s < 8; s++, out += 32) {
        const uint8_t *codes = block->codes + s / 2 * 32;
        float scale = d * (float)scales[s], min = dmin * (float)mins[s];
        for (int j = 0; j < 32; j++)
            out[j] = scale * (float)(codes[j] >> (s % 2 * 4) & 15) - min;
    }
}

static void q5_k(const phi3_block_q5_k *block, float *out)
{
    float d = phi3_load_f16(block->d), dmin = phi3_load_f16(block->dmin);
    uint8_t scales[8], mins[8];
    phi3_unpack_scales(block->scales, scales, mins);
    for (int s = 0; s < 8; s++, out += 32) {
        const uint8_t *codes = block->codes + s / 2 * 32;
        float scale = d * (float)scales[s], min = dmin * (float)mins[s];
        for (int j = 0; j < 32; j++) {
            int code = (codes[j] >> (s % 2 * 4) & 15) | (block->high[j] >> s & 1) << 4;
            out[j] = scale * (float)code - min;
        }
    }
}

static void q6_k(const phi3_block_q6_k *block, float *out)
{
    float d = phi3_load_f16(block->d);
    for (int s = 0; s < 16; s++, out += 16) {
        place p = place_of(s);
        const uint8_t *codes = block->codes + 64 * p.run + p.quarter % 2 * 32 + 16 * p.half;
        const uint8_t *high = block->high + 32 * p.run + 16 * p.half;
        float scale = d * (float)block->scales[s];
        for (int j = 0; j < 16; j++) {
            int code = (codes[j] >> (p.quarter / 2 * 4) & 15) | (high[j] >> (2 * p.quarter) & 3)
                                                                    << 4;
            out[j] = scale * (float)(code - 32);
        }
    }
}

static void iq4_xs(const phi3_block_iq4_xs *block, float *out)
{
    float d = phi3_load_f16(block->d);
    uint16_t high_scales = phi3_load_u16(block->scales_high);
    for (int s = 0; s < 8; s++, out += 32) {
        int low_scale = block->scales_low[s / 2] >> (s % 2 * 4) & 15;
        int high_scale = high_scales >> (2 * s) & 3;
        float scale = d * (float)((low_scale | high_scale << 4) - 32);
        for (int j = 0; j < 16; j++) {
            uint8_t codes = block->codes[16 * s + j];
            out[j] = scale * (float)phi3_iq4_values[codes & 15];
            out[j + 16] = scale * (float)phi3_iq4_values[codes >> 4];
        }
    }
}

/* ---- Rows ----------------------------------------------------------------------------------- */

#define EACH_BLOCK(size, format)                                \
    do {                                                        \
        const phi3_block_##format *block = row;                 \
        for (size_t i = 0; i < n_columns; i += (size), block++) \
            format(block, out + i);                             \
    } while (0)

void phi3_dequantize_row(phi3_dtype dtype, const void *row, size_t n_columns, float *out)
{
    const uint8_t *from = row;
    switch (dtype) {
    case PHI3_F32:
        memcpy(out, row, n_columns * sizeof *out);
        break;
    case PHI3_F16:
        for (size_t i = 0; i < n_columns; i++)
            out[i] = phi3_load_f16(from + 2 * i);
        break;
    case PHI3_BF16:
        for (size_t i = 0; i < n_columns; i++)
            out[i] = phi3_load_bf16(from + 2 * i);
        break;
    case PHI3_Q4_0:
        EACH_BLOCK(PHI3_BLOCK, q4_0);
        break;
    case PHI3_Q4_1:
        EACH_BLOCK(PHI3_BLOCK, q4_1);
        break;
    case PHI3_Q5_0:
        EACH_BLOCK(PHI3_BLOCK, q5_0);
        break;
    case PHI3_Q5_1:
        EACH_BLOCK(PHI3_BLOCK, q5_1);
        break;
    case PHI3_Q8_0:
        EACH_BLOCK(PHI3_BLOCK, q8_0);
        break;
    case PHI3_Q2_K:
        EACH_BLOCK(PHI3_SUPER_BLOCK, q2_k);
        break;
    case PHI3_Q3_K:
        EACH_BLOCK(PHI3_SUPER_BLOCK, q3_k);
        break;
    case PHI3_Q4_K:
        EACH_BLOCK(PHI3_SUPER_BLOCK, q4_k);
        break;
    case PHI3_Q5_K:
        EACH_BLOCK(PHI3_SUPER_BLOCK, q5_k);
        break;
    case PHI3_Q6_K:
        EACH_BLOCK(PHI3_SUPER_BLOCK, q6_k);
        break;
    case PHI3_IQ4_NL:
        EACH_BLOCK(PHI3_BLOCK, iq4_nl);
        break;
    case PHI3_IQ4_XS:
        EACH_BLOCK(PHI3_SUPER_BLOCK, iq4_xs);
        break;
    case PHI3_I8:
    case PHI3_DTYPE_LIMIT:
        break;
    }
}
