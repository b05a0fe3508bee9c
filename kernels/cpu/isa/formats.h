/*
 * formats.h - how the quantised formats unpack into vectors of float32.
 *
 * In: blocks, as they are stored. Out: their elements in registers, equal to the reference to the
 * bit. A `format` says how scales and codes are taken apart; all its members are known to the
 * compiler where they are used. Work goes by groups of 256 elements, eight blocks of 32 or one of
 * 256, and in them by steps of as many elements as a vector has bytes.
 */
#ifndef PHI3_ISA_FORMATS_H
#define PHI3_ISA_FORMATS_H

#include "kernels/blocks.h"
#include "kernels/cpu/kernels.h"
#include "simd_bytes.h"
#include "simd_narrow.h"

enum {
    GROUP = PHI3_SUPER_BLOCK,
    STEP = VECTOR_BYTES,
    STEP_VECTORS = STEP / LANES,
    MOST_SCALES = GROUP / 16
};

/* Before a loop over steps: shifts and places in a block become constants. */
#if defined(__AVX2__)
#define UNROLL_STEPS _Pragma("GCC unroll 8")
#else
#define UNROLL_STEPS
#endif

/* An element is scale * code + min. That rounds once: the product has 24 bits at most. */
typedef struct format {
    size_t block_size; /* 32 or 256 */
    size_t block_bytes;
    bool has_mins;
    bool has_halves; /* scales and mins count for 16 elements, not 32 */

    /* Of a block of 256; NULL: a block begins with its scale, and then its min, in float16.
     *     scales, mins [8 or 16] */
    void (*scales)(const uint8_t *block, float *scales, float *mins);

    /* One of the three. The 32 codes of a block as they stand, signed. Or the 16 bytes that hold them
     * in their low halves and then in their high halves, and what a code stands for. Or the codes of
     * step number `step`, signed, taken out of what holds them. */
    const int8_t *(*codes)(const uint8_t *group, int block);
    const uint8_t *(*nibbles)(const uint8_t *group, int block);
    const int8_t *values; /* [16] */
    bytes (*take_codes)(const uint8_t *group, int step);
} format;

static const int8_t codes_from_minus_8[16] = {-8, -7, -6, -5, -4, -3, -2, -1,
                                              0,  1,  2,  3,  4,  5,  6,  7};
static const int8_t codes_from_0[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* ---- Formats of blocks of 32 ----------------------------------------------------------------- */

INLINE const uint8_t *nibbles_q4_0(const uint8_t *group, int block)
{
    return ((const phi3_block_q4_0 *)group)[block].codes;
}

static const format format_q4_0 = {
    .block_size = PHI3_BLOCK,
    .block_bytes = sizeof(phi3_block_q4_0),
    .nibbles = nibbles_q4_0,
    .values = codes_from_minus_8,
};

INLINE const uint8_t *nibbles_q4_1(const uint8_t *group, int block)
{
    return ((const phi3_block_q4_1 *)group)[block].codes;
}

static const format format_q4_1 = {
    .block_size = PHI3_BLOCK,
    .block_bytes = sizeof(phi3_block_q4_1),
    .has_mins = true,
    .nibbles = nibbles_q4_1,
    .values = codes_from_0,
};

INLINE bytes take_codes_q5_0(const uint8_t *group, int step)
{
    const phi3_block_q5_0 *a = (const phi3_block_q5_0 *)group + step * BLOCKS, *b = a + BLOCKS - 1;
    bytes high = spread_bits(phi3_load_u32(a->high), phi3_load_u32(b->high), 16);
    return (load_nibbles(a->codes, b->codes) | high) - 16;
}

static const format format_q5_0 = {
    .block_size = PHI3_BLOCK,
    .block_bytes = sizeof(phi3_block_q5_0),
    .take_codes = take_codes_q5_0,
};

INLINE bytes take_codes_q5_1(const uint8_t *group, int step)
{
    const phi3_block_q5_1 *a = (const phi3_block_q5_1 *)group + step * BLOCKS, *b = a + BLOCKS - 1;
    return load_nibbles(a->codes, b->codes) |
           spread_bits(phi3_load_u32(a->high), phi3_load_u32(b->high), 16);
}

static const format format_q5_1 = {
    .block_size = PHI3_BLOCK,
    .block_bytes = sizeof(phi3_block_q5_1),
    .has_mins = true,
    .take_codes = take_codes_q5_1,
};

INLINE const int8_t *codes_q8_0(const uint8_t *group, int block)
{
    return ((const phi3_block_q8_0 *)group)[block].codes;
}

static const format format_q8_0 = {
    .block_size = PHI3_BLOCK,
    .block_bytes = sizeof(phi3_block_q8_0),
    .codes = codes_q8_0,
};

INLINE const uint8_t *nibbles_iq4_nl(const uint8_t *group, int block)
{
    return ((const phi3_block_iq4_nl *)group)[block].codes;
}

static const format format_iq4_nl = {
    .block_size = PHI3_BLOCK,
    .block_bytes = sizeof(phi3_block_iq4_nl),
    .nibbles = nibbles_iq4_nl,
    .values = phi3_iq4_values,
};

/* ---- Formats of blocks of 256 --------------------------------------------------------------- */

/* Numbers of a byte are taken apart eight at a time, the first in the lowest byte. */

/* phi3_unpack_scales. */
INLINE void unpack_scales(const uint8_t packed[12], uint64_t *scales, uint64_t *mins)
{
    uint32_t low_scales = phi3_load_u32(packed), low_mins = phi3_load_u32(packed + 4);
    uint32_t high = phi3_load_u32(packed + 8);
    uint32_t high_scales = (high & 0x0f0f0f0f) | (low_scales >> 6 & 0x03030303) << 4;
    uint32_t high_mins = (high >> 4 & 0x0f0f0f0f) | (low_mins >> 6 & 0x03030303) << 4;
    *scales = (low_scales & 0x3f3f3f3f) | (uint64_t)high_scales << 32;
    *mins = (low_mins & 0x3f3f3f3f) | (uint64_t)high_mins << 32;
}

INLINE void scales_q4_k(const uint8_t *from, float *scales, float *mins)
{
    const phi3_block_q4_k *block = (const phi3_block_q4_k *)from;
    uint64_t packed_scales, packed_mins;
    unpack_scales(block->scales, &packed_scales, &packed_mins);
    store8(scales, unsigned_bytes_to_floats(packed_scales) * load_float16_number(block->d));
    store8(mins, unsigned_bytes_to_floats(packed_mins) * -load_float16_number(block->dmin));
}

INLINE bytes take_codes_q4_k(const uint8_t *from, int step)
{
    const phi3_block_q4_k *block = (const phi3_block_q4_k *)from;
    int b = step * BLOCKS;
    return load_planes(block->codes + b / 2 * 32, b % 2 / BLOCKS, 4);
}

static const format format_q4_k = {
    .block_size = PHI3_SUPER_BLOCK,
    .block_bytes = sizeof(phi3_block_q4_k),
    .has_mins = true,
    .scales = scales_q4_k,
    .take_codes = take_codes_q4_k,
};

/* The first fields of q5_k are those of q4_k. */
INLINE bytes take_codes_q5_k(const uint8_t *from, int step)
{
    const phi3_block_q5_k *block = (const phi3_block_q5_k *)from;
    int b = step * BLOCKS;
    return load_planes(block->codes + b / 2 * 32, b % 2 / BLOCKS, 4) |
           shift_left(load_planes(block->high, step, 1), 4);
}

static const format format_q5_k = {
    .block_size = PHI3_SUPER_BLOCK,
    .block_bytes = sizeof(phi3_block_q5_k),
    .has_mins = true,
    .scales = scales_q4_k,
    .take_codes = take_codes_q5_k,
};

INLINE void scales_q6_k(const uint8_t *from, float *scales, float *mins)
{
    (void)mins;
    const phi3_block_q6_k *block = (const phi3_block_q6_k *)from;
    float d = load_float16_number(block->d);
    store8(scales, signed_bytes_to_floats(block->scales) * d);
    store8(scales + 8, signed_bytes_to_floats(block->scales + 8) * d);
}

INLINE bytes take_codes_q6_k(const uint8_t *from, int step)
{
    const phi3_block_q6_k *block = (const phi3_block_q6_k *)from;
    int run = step * BLOCKS / 4, quarter = step * BLOCKS % 4;
    bytes low = load_bytes(block->codes + 64 * run + quarter % 2 * 32);
    bytes high = load_planes(block->high + 32 * run, quarter / BLOCKS, 2);
    return ((shift_right(low, quarter / 2 * 4) & 15) | shift_left(high, 4)) - 32;
}

static const format format_q6_k = {
    .block_size = PHI3_SUPER_BLOCK,
    .block_bytes = sizeof(phi3_block_q6_k),
    .has_halves = true,
    .scales = scales_q6_k,
    .take_codes = take_codes_q6_k,
};

INLINE void scales_q2_k(const uint8_t *from, float *scales, float *mins)
{
    const phi3_block_q2_k *block = (const phi3_block_q2_k *)from;
    const uint64_t fours = 0x0f0f0f0f0f0f0f0f;
    float d = load_float16_number(block->d), dmin = load_float16_number(block->dmin);
    for (int s = 0; s < 16; s += 8) {
        uint64_t both = load_u64(block->scales + s);
        store8(scales + s, unsigned_bytes_to_floats(both & fours) * d);
        store8(mins + s, unsigned_bytes_to_floats(both >> 4 & fours) * -dmin);
    }
}

INLINE bytes take_codes_q2_k(const uint8_t *from, int step)
{
    const phi3_block_q2_k *block = (const phi3_block_q2_k *)from;
    int run = step * BLOCKS / 4, quarter = step * BLOCKS % 4;
    return load_planes(block->codes + 32 * run, quarter / BLOCKS, 2);
}

static const format format_q2_k = {
    .block_size = PHI3_SUPER_BLOCK,
    .block_bytes = sizeof(phi3_block_q2_k),
    .has_mins = true,
    .has_halves = true,
    .scales = scales_q2_k,
    .take_codes = take_codes_q2_k,
};

INLINE void scales_q3_k(const uint8_t *from, float *scales, float *mins)
{
    (void)mins;
    const phi3_block_q3_k *block = (const phi3_block_q3_k *)from;
    const uint64_t fours = 0x0f0f0f0f0f0f0f0f, twos = 0x30303030;
    uint64_t low = load_u64(block->scales), high = phi3_load_u32(block->scales + 8);
    uint64_t first = (low & fours) | (high << 4 & twos) | (high << 2 & twos) << 32;
    uint64_t last = (low >> 4 & fours) | (high & twos) | (high >> 2 & twos) << 32;
    float d = load_float16_number(block->d);
    store8(scales, (unsigned_bytes_to_floats(first) - 32) * d);
    store8(scales + 8, (unsigned_bytes_to_floats(last) - 32) * d);
}

INLINE bytes take_codes_q3_k(const uint8_t *from, int step)
{
    const phi3_block_q3_k *block = (const phi3_block_q3_k *)from;
    int run = step * BLOCKS / 4, quarter = step * BLOCKS % 4;
    bytes high = shift_left(load_planes(block->high, step, 1), 2);
    return (load_planes(block->codes + 32 * run, quarter / BLOCKS, 2) | high) - 4;
}

static const format format_q3_k = {
    .block_size = PHI3_SUPER_BLOCK,
    .block_bytes = sizeof(phi3_block_q3_k),
    .has_halves = true,
    .scales = scales_q3_k,
    .take_codes = take_codes_q3_k,
};

INLINE void scales_iq4_xs(const uint8_t *from, float *scales, float *mins)
{
    (void)mins;
    const phi3_block_iq4_xs *block = (const phi3_block_iq4_xs *)from;
    float d = load_float16_number(block->d);
    uint64_t low = phi3_load_u32(block->scales_low), high = phi3_load_u16(block->scales_high);
    uint64_t numbers = 0;
    for (int b = 0; b < 8; b++)
        numbers |= ((low >> (4 * b) & 15) | (high >> (2 * b) & 3) << 4) << (8 * b);
    store8(scales, (unsigned_bytes_to_floats(numbers) - 32) * d);
}

INLINE const uint8_t *nibbles_iq4_xs(const uint8_t *group, int block)
{
    return ((const phi3_block_iq4_xs *)group)->codes + 16 * block;
}

static const format format_iq4_xs = {
    .block_size = PHI3_SUPER_BLOCK,
    .block_bytes = sizeof(phi3_block_iq4_xs),
    .scales = scales_iq4_xs,
    .nibbles = nibbles_iq4_xs,
    .values = phi3_iq4_values,
};

#define FOR_EACH_FORMAT(DO) \
    DO(PHI3_Q4_0, q4_0)     \
    DO(PHI3_Q4_1, q4_1)     \
    DO(PHI3_Q5_0, q5_0)     \
    DO(PHI3_Q5_1, q5_1)     \
    DO(PHI3_Q8_0, q8_0)     \
    DO(PHI3_Q2_K, q2_k)     \
    DO(PHI3_Q3_K, q3_k)     \
    DO(PHI3_Q4_K, q4_k)     \
    DO(PHI3_Q5_K, q5_k)     \
    DO(PHI3_Q6_K, q6_k)     \
    DO(PHI3_IQ4_NL, iq4_nl) \
    DO(PHI3_IQ4_XS, iq4_xs)

/* ---- Elements -------------------------------------------------------------------------------- */

INLINE size_t group_bytes(const format f)
{
    return GROUP / f.block_size * f.block_bytes;
}

/* Of blocks of 32: what a row has beyond its groups goes by single steps. */
INLINE size_t step_bytes(const format f)
{
    return BLOCKS * f.block_bytes;
}

/* Scales and mins of a group, or of its first n_blocks blocks of 32. Those of blocks of 32 stand in
 * turn in `scales`. */
typedef struct scales {
    float scales[MOST_SCALES], mins[MOST_SCALES];
} scales;

INLINE void load_scales(const format f, const uint8_t *group, size_t n_blocks, scales *s)
{
    if (f.scales)
        f.scales(group, s->scales, s->mins);
    else
        load_float16_numbers(group, f.block_bytes, f.has_mins, n_blocks, s->scales);
    PUT_IN_MEMORY(*s);
}

INLINE floats scale_codes(const format f, const scales *s, size_t element, floats codes)
{
    const bool in_turn = !f.scales && f.has_mins;
    const size_t number = element / (f.has_halves ? 16 : 32);
    const floats scale = splat(s->scales[in_turn ? 2 * number : number]);
    if (!f.has_mins)
        return scale * codes;
    return multiply_add(scale, codes, splat(in_turn ? s->scales[2 * number + 1] : s->mins[number]));
}

/* A vector that holds all of the sixteen elements that a block can have is its own table. */
INLINE void look_up_block(const format f, const uint8_t *group, const scales *s, size_t block,
                          floats out[2])
{
    floats elements = scale_codes(f, s, block * PHI3_BLOCK, load_int8(f.values));
    uints codes = load_lane_bytes(f.nibbles(group, (int)block));
    out[0] = __builtin_shuffle(elements, (ints)codes);
    out[1] = __builtin_shuffle(elements, (ints)(codes >> 4));
}

INLINE bytes take_codes(const format f, const uint8_t *group, int step)
{
    if (!f.nibbles)
        return f.take_codes(group, step);
    int block = step * BLOCKS;
    return look_up(f.values,
                   load_nibbles(f.nibbles(group, block), f.nibbles(group, block + BLOCKS - 1)));
}

/* The elements of one step of a group. */
INLINE void expand_step(const format f, const uint8_t *group, const scales *s, size_t step,
                        floats out[STEP_VECTORS])
{
    if (f.nibbles && LANES == 16) {
        look_up_block(f, group, s, step * BLOCKS, out);
        look_up_block(f, group, s, step * BLOCKS + 1, out + 2);
        return;
    }
    bytes taken;
    if (!f.codes) {
        taken = take_codes(f, group, (int)step);
        PUT_IN_MEMORY(taken);
    }
#pragma GCC unroll 4
    for (size_t v = 0; v < STEP_VECTORS; v++) {
        size_t at = v * LANES;
        const void *codes = f.codes ? f.codes(group, (int)(step * BLOCKS + at / 32)) + at % 32
                                    : (const int8_t *)&taken + at;
        out[v] = scale_codes(f, s, step * STEP + at, load_int8(codes));
    }
}

/* The block of 32 that a row may end with, half a step, with zeros behind it. */
typedef struct half_step {
    uint8_t blocks[BLOCKS * sizeof(phi3_block_q8_0)]; /* the largest of them */
} half_step;

INLINE half_step load_half_step(const format f, const uint8_t *block)
{
    half_step half = {{0}};
    memcpy(half.blocks, block, f.block_bytes);
    return half;
}

#endif
