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

/* ---- Blocks of 256 -------------------------------------------------------------------------- */

/* The 2-bit code of element i in q2_k and q3_k. */
static int two_bit_code(const uint8_t codes[64], int i)
{
    int byte = i / 128 * 32 + i % 32;
    int pair = i % 128 / 32;
    return codes[byte] >> (2 * pair) & 3;
}

static void q2_k(const phi3_block_q2_k *block, float *out)
{
    float d = phi3_load_f16(block->d), dmin = phi3_load_f16(block->dmin);
    for (int i = 0; i < 256; i++) {
        float scale = d * (float)(block->scales[i / 16] & 15);
        float min = dmin * (float)(block->scales[i / 16] >> 4);
        out[i] = scale * (float)two_bit_code(block->codes, i) - min;
    }
}

static void q3_k(const phi3_block_q3_k *block, float *out)
{
    float d = phi3_load_f16(block->d);
    for (int i = 0; i < 256; i++) {
        int s = i / 16;
        int low = block->scales[s % 8] >> (s / 8 * 4) & 15;
        int high = block->scales[8 + s % 4] >> (s / 4 * 2) & 3;
        float scale = d * (float)((low | high << 4) - 32);
        int offset = block->high[i % 32] >> (i / 32) & 1 ? 0 : 4;
        out[i] = scale * (float)(two_bit_code(block->codes, i) - offset);
    }
}

static void q4_k(const phi3_block_q4_k *block, float *out)
{
    float d = phi3_load_f16(block->d), dmin = phi3_load_f16(block->dmin);
    uint8_t scales[8], mins[8];
    phi3_unpack_scales(block->scales, scales, mins);
    for (int i = 0; i < 256; i++) {
        int code = block->codes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
        out[i] = d * (float)scales[i / 32] * (float)code - dmin * (float)mins[i / 32];
    }
}

static void q5_k(const phi3_block_q5_k *block, float *out)
{
    float d = phi3_load_f16(block->d), dmin = phi3_load_f16(block->dmin);
    uint8_t scales[8], mins[8];
    phi3_unpack_scales(block->scales, scales, mins);
    for (int i = 0; i < 256; i++) {
        int code = block->codes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
        code |= (block->high[i % 32] >> (i / 32) & 1) << 4;
        out[i] = d * (float)scales[i / 32] * (float)code - dmin * (float)mins[i / 32];
    }
}

static void q6_k(const phi3_block_q6_k *block, float *out)
{
    float d = phi3_load_f16(block->d);
    for (int i = 0; i < 256; i++) {
        int code = block->codes[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
        code |= (block->high[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) << 4;
        out[i] = d * (float)block->scales[i / 16] * (float)(code - 32);
    }
}

static void iq4_xs(const phi3_block_iq4_xs *block, float *out)
{
    float d = phi3_load_f16(block->d);
    uint16_t scales_high = phi3_load_u16(block->scales_high);
    for (int s = 0; s < 8; s++) {
        int scale = (block->scales_low[s / 2] >> (s % 2 * 4) & 15) | (scales_high >> (2 * s) & 3)
                                                                         << 4;
        float d_sub = d * (float)(scale - 32);
        for (int j = 0; j < 16; j++) {
            uint8_t codes = block->codes[16 * s + j];
            out[32 * s + j] = d_sub * (float)phi3_iq4_values[codes & 15];
            out[32 * s + j + 16] = d_sub * (float)phi3_iq4_values[codes >> 4];
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
    const uint8_t *bytes = row;
    switch (dtype) {
    case PHI3_F32:
        memcpy(out, row, n_columns * sizeof *out);
        break;
    case PHI3_F16:
        for (size_t i = 0; i < n_columns; i++)
            out[i] = phi3_load_f16(bytes + 2 * i);
        break;
    case PHI3_BF16:
        for (size_t i = 0; i < n_columns; i++)
            out[i] = phi3_load_bf16(bytes + 2 * i);
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
    case PHI3_DTYPE_LIMIT:
        break;
    }
}
