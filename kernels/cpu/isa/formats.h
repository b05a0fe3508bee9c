/*
 * formats.h - how the quantised formats unpack into vectors, for dequantize.c.
 *
 * Work goes by groups of 256 elements: eight blocks of 32, or one of 256. A `format` says how the
 * codes and the scales of a group are taken apart. All members are known to the compiler where
 * they are used.
 */
#ifndef PHI3_ISA_FORMATS_H
#define PHI3_ISA_FORMATS_H

#include "kernels/blocks.h"
#include "kernels/cpu/kernels.h"
#include "simd.h"

enum {
    GROUP = 256,
    GROUP_BLOCKS = GROUP / 32,
    STEPS = GROUP / VECTOR_BYTES /* vectors in a group */
};

/* Before a loop over steps: shifts and places in a block become constants. */
#if defined(__AVX2__)
#define UNROLL_STEPS _Pragma("GCC unroll 8")
#else
#define UNROLL_STEPS
#endif

/* An element is scale * (code - zero) + min. */
typedef struct format {
    size_t group_bytes;
    size_t block_bytes; /* of a block of 32; 0: a block is a group */
    int zero;           /* subtracted from every code */
    bool has_mins;      /* a number is added to every weight of a block */
    bool half_blocks;   /* scales count for 16 elements, not 32 */

    /* The scales [8 or 16] and mins [8] of a group that is a block. A block of 32 begins with its
     * scale, and then its min, in float16. */
    void (*scales)(const uint8_t *group, float *scales, float *mins);
    /* The codes of vector number `step` of the group. */
    bytes (*codes)(const uint8_t *group, int step);
} format;

/* ---- Formats of blocks of 32 ----------------------------------------------------------------- */

INLINE bytes codes_q4_0(const uint8_t *group, int step)
{
    const phi3_block_q4_0 *a = (const phi3_block_q4_0 *)group + step * BLOCKS;
    const phi3_block_q4_0 *b = a + BLOCKS - 1;
    return load_nibbles(a->codes, b->codes);
}

static const format format_q4_0 = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_q4_0),
    .block_bytes = sizeof(phi3_block_q4_0),
    .zero = 8,
    .codes = codes_q4_0,
};

INLINE bytes codes_q4_1(const uint8_t *group, int step)
{
    const phi3_block_q4_1 *a = (const phi3_block_q4_1 *)group + step * BLOCKS;
    const phi3_block_q4_1 *b = a + BLOCKS - 1;
    return load_nibbles(a->codes, b->codes);
}

static const format format_q4_1 = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_q4_1),
    .block_bytes = sizeof(phi3_block_q4_1),
    .has_mins = true,
    .codes = codes_q4_1,
};

INLINE bytes codes_q5_0(const uint8_t *group, int step)
{
    const phi3_block_q5_0 *a = (const phi3_block_q5_0 *)group + step * BLOCKS;
    const phi3_block_q5_0 *b = a + BLOCKS - 1;
    return load_nibbles(a->codes, b->codes) |
           spread_bits(phi3_load_u32(a->high), phi3_load_u32(b->high), 16);
}

static const format format_q5_0 = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_q5_0),
    .block_bytes = sizeof(phi3_block_q5_0),
    .zero = 16,
    .codes = codes_q5_0,
};

INLINE bytes codes_q5_1(const uint8_t *group, int step)
{
    const phi3_block_q5_1 *a = (const phi3_block_q5_1 *)group + step * BLOCKS;
    const phi3_block_q5_1 *b = a + BLOCKS - 1;
    return load_nibbles(a->codes, b->codes) |
           spread_bits(phi3_load_u32(a->high), phi3_load_u32(b->high), 16);
}

static const format format_q5_1 = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_q5_1),
    .block_bytes = sizeof(phi3_block_q5_1),
    .has_mins = true,
    .codes = codes_q5_1,
};

/* Signed codes become unsigned ones that are 128 higher. */
INLINE bytes codes_q8_0(const uint8_t *group, int step)
{
    const phi3_block_q8_0 *a = (const phi3_block_q8_0 *)group + step * BLOCKS;
    const phi3_block_q8_0 *b = a + BLOCKS - 1;
    return load_blocks(a->codes, b->codes) ^ 128;
}

static const format format_q8_0 = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_q8_0),
    .block_bytes = sizeof(phi3_block_q8_0),
    .zero = 128,
    .codes = codes_q8_0,
};

/* phi3_iq4_values, 128 higher. */
static const uint8_t iq4_codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                      129, 141, 153, 166, 181, 197, 217, 241};

INLINE bytes codes_iq4_nl(const uint8_t *group, int step)
{
    const phi3_block_iq4_nl *a = (const phi3_block_iq4_nl *)group + step * BLOCKS;
    const phi3_block_iq4_nl *b = a + BLOCKS - 1;
    return look_up(iq4_codes, load_nibbles(a->codes, b->codes));
}

static const format format_iq4_nl = {
    .group_bytes = GROUP_BLOCKS * sizeof(phi3_block_iq4_nl),
    .block_bytes = sizeof(phi3_block_iq4_nl),
    .zero = 128,
    .codes = codes_iq4_nl,
};

/* ---- Formats of blocks of 256: a block is a group -------------------------------------------- */

/* phi3_unpack_scales, four at a time; the first scale in the lowest byte. */
INLINE void unpack_scales(const uint8_t packed[12], uint64_t *scales, uint64_t *mins)
{
    uint32_t low_scales = phi3_load_u32(packed), low_mins = phi3_load_u32(packed + 4);
    uint32_t high = phi3_load_u32(packed + 8);
    uint32_t high_scales = (high & 0x0f0f0f0f) | (low_scales >> 6 & 0x03030303) << 4;
    uint32_t high_mins = (high >> 4 & 0x0f0f0f0f) | (low_mins >> 6 & 0x03030303) << 4;
    *scales = (low_scales & 0x3f3f3f3f) | (uint64_t)high_scales << 32;
    *mins = (low_mins & 0x3f3f3f3f) | (uint64_t)high_mins << 32;
}

INLINE void scales_q4_k(const uint8_t *group, float *scales, float *mins)
{
    const phi3_block_q4_k *block = (const phi3_block_q4_k *)group;
    uint64_t packed_scales, packed_mins;
    unpack_scales(block->scales, &packed_scales, &packed_mins);
    store8(scales, unsigned_bytes_to_floats(packed_scales) * phi3_load_f16(block->d));
    store8(mins, unsigned_bytes_to_floats(packed_mins) * -phi3_load_f16(block->dmin));
}

INLINE bytes codes_q4_k(const uint8_t *group, int step)
{
    const phi3_block_q4_k *block = (const phi3_block_q4_k *)group;
    int b = step * BLOCKS;
    return load_planes(block->codes + b / 2 * 32, b % 2 / BLOCKS, 4);
}

static const format format_q4_k = {
    .group_bytes = sizeof(phi3_block_q4_k),
    .has_mins = true,
    .scales = scales_q4_k,
    .codes = codes_q4_k,
};

/* The first fields of q5_k are those of q4_k. */
INLINE bytes codes_q5_k(const uint8_t *group, int step)
{
    const phi3_block_q5_k *block = (const phi3_block_q5_k *)group;
    int b = step * BLOCKS;
    return load_planes(block->codes + b / 2 * 32, b % 2 / BLOCKS, 4) |
           shift_left(load_planes(block->high, step, 1), 4);
}

static const format format_q5_k = {
    .group_bytes = sizeof(phi3_block_q5_k),
    .has_mins = true,
    .scales = scales_q4_k,
    .codes = codes_q5_k,
};

INLINE void scales_q6_k(const uint8_t *group, float *scales, float *mins)
{
    (void)mins;
    const phi3_block_q6_k *block = (const phi3_block_q6_k *)group;
    float d = phi3_load_f16(block->d);
    store8(scales, signed_bytes_to_floats(block->scales) * d);
    store8(scales + 8, signed_bytes_to_floats(block->scales + 8) * d);
}

INLINE bytes codes_q6_k(const uint8_t *group, int step)
{
    const phi3_block_q6_k *block = (const phi3_block_q6_k *)group;
    int run = step * BLOCKS / 4, quarter = step * BLOCKS % 4;
    bytes low = load_bytes(block->codes + 64 * run + quarter % 2 * 32);
    low = shift_right(low, quarter / 2 * 4) & 15;
    return low | shift_left(load_planes(block->high + 32 * run, quarter / BLOCKS, 2), 4);
}

static const format format_q6_k = {
    .group_bytes = sizeof(phi3_block_q6_k),
    .zero = 32,
    .half_blocks = true,
    .scales = scales_q6_k,
    .codes = codes_q6_k,
};

INLINE void scales_q3_k(const uint8_t *group, float *scales, float *mins)
{
    (void)mins;
    const phi3_block_q3_k *block = (const phi3_block_q3_k *)group;
    int8_t numbers[16];
    for (int s = 0; s < 16; s++) {
        int low = block->scales[s % 8] >> (s / 8 * 4) & 15;
        int high = block->scales[8 + s % 4] >> (s / 4 * 2) & 3;
        numbers[s] = (int8_t)((low | high << 4) - 32);
    }
    float d = phi3_load_f16(block->d);
    store8(scales, signed_bytes_to_floats(numbers) * d);
    store8(scales + 8, signed_bytes_to_floats(numbers + 8) * d);
}

INLINE bytes codes_q3_k(const uint8_t *group, int step)
{
    const phi3_block_q3_k *block = (const phi3_block_q3_k *)group;
    int run = step * BLOCKS / 4, quarter = step * BLOCKS % 4;
    return load_planes(block->codes + 32 * run, quarter / BLOCKS, 2) |
           shift_left(load_planes(block->high, step, 1), 2);
}

static const format format_q3_k = {
    .group_bytes = sizeof(phi3_block_q3_k),
    .zero = 4,
    .half_blocks = true,
    .scales = scales_q3_k,
    .codes = codes_q3_k,
};

INLINE void scales_iq4_xs(const uint8_t *group, float *scales, float *mins)
{
    (void)mins;
    const phi3_block_iq4_xs *block = (const phi3_block_iq4_xs *)group;
    float d = phi3_load_f16(block->d);
    uint32_t low = phi3_load_u32(block->scales_low), high = phi3_load_u16(block->scales_high);
    for (int b = 0; b < 8; b++)
        scales[b] = d * (float)((int)((low >> (4 * b) & 15) | (high >> (2 * b) & 3) << 4) - 32);
}

INLINE bytes codes_iq4_xs(const uint8_t *group, int step)
{
    const uint8_t *codes = ((const phi3_block_iq4_xs *)group)->codes + 16 * BLOCKS * step;
    return look_up(iq4_codes, load_nibbles(codes, codes + 16 * (BLOCKS - 1)));
}

static const format format_iq4_xs = {
    .group_bytes = sizeof(phi3_block_iq4_xs),
    .zero = 128,
    .scales = scales_iq4_xs,
    .codes = codes_iq4_xs,
};

#endif
