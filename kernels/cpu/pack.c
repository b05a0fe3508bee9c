/*
 * pack.c - stored rows to panels, as packed.h lays them out.
 *
 * In: a part of a matrix, its blocks as in kernels/blocks.h. Out: its panels. A group of each row is
 * first taken apart, by format, and then put into its lane, the same way for all; formats of most
 * files have a quicker way (pack_words.c).
 */
#include <string.h>

#include "kernels/blocks.h"
#include "kernels/float16.h"
#include "pack_words.h"
#include "packed.h"

/* One row's share of a group. */
typedef struct group {
    uint8_t codes[256]; /* [blocks][32] */
    uint8_t d[2];
    uint8_t m[2];
    uint8_t scales[16]; /* [blocks][scale_bytes], as packed.h has them */
} group;

/* ---- Taking blocks of 32 apart --------------------------------------------------------------- */

static void take_nibbles(const uint8_t nibbles[16], uint8_t codes[32])
{
    for (int j = 0; j < 16; j++) {
        codes[j] = nibbles[j] & 15;
        codes[j + 16] = nibbles[j] >> 4;
    }
}

static void add_fifth_bits(const uint8_t high[4], uint8_t codes[32])
{
    uint32_t bits = phi3_load_u32(high);
    for (int j = 0; j < 32; j++)
        codes[j] |= (uint8_t)((bits >> j & 1) << 4);
}

/* Also iq4_nl. */
static void take_q4_0(const void *from, group *to)
{
    const phi3_block_q4_0 *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    take_nibbles(block->codes, to->codes);
}

static void take_q4_1(const void *from, group *to)
{
    const phi3_block_q4_1 *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    memcpy(to->m, block->m, sizeof to->m);
    take_nibbles(block->codes, to->codes);
}

static void take_q5_0(const void *from, group *to)
{
    const phi3_block_q5_0 *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    take_nibbles(block->codes, to->codes);
    add_fifth_bits(block->high, to->codes);
}

static void take_q5_1(const void *from, group *to)
{
    const phi3_block_q5_1 *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    memcpy(to->m, block->m, sizeof to->m);
    take_nibbles(block->codes, to->codes);
    add_fifth_bits(block->high, to->codes);
}

static void take_q8_0(const void *from, group *to)
{
    const phi3_block_q8_0 *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    for (int j = 0; j < 32; j++)
        to->codes[j] = (uint8_t)block->codes[j] ^ 128;
}

/* ---- Taking blocks of 256 apart -------------------------------------------------------------- */

/* The bit pairs of q2_k and q3_k: two runs of 32 bytes, each four quarters of 32 elements. */
static void take_pairs(const uint8_t pairs[64], uint8_t codes[256])
{
    for (int b = 0; b < 8; b++)
        for (int j = 0; j < 32; j++)
            codes[32 * b + j] = pairs[b / 4 * 32 + j] >> (b % 4 * 2) & 3;
}

/* Bit b of high[j] belongs to element j of block b. */
static void add_high_bits(const uint8_t high[32], int shift, uint8_t codes[256])
{
    for (int b = 0; b < 8; b++)
        for (int j = 0; j < 32; j++)
            codes[32 * b + j] |= (uint8_t)((high[j] >> b & 1) << shift);
}

static void take_q2_k(const void *from, group *to)
{
    const phi3_block_q2_k *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    memcpy(to->m, block->dmin, sizeof to->m);
    memcpy(to->scales, block->scales, sizeof to->scales);
    take_pairs(block->codes, to->codes);
}

static void take_q3_k(const void *from, group *to)
{
    const phi3_block_q3_k *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    for (int s = 0; s < 16; s++) {
        int low = block->scales[s % 8] >> (s / 8 * 4) & 15;
        int high = block->scales[8 + s % 4] >> (s / 4 * 2) & 3;
        to->scales[s] = (uint8_t)((low | high << 4) - 32);
    }
    take_pairs(block->codes, to->codes);
    add_high_bits(block->high, 2, to->codes);
}

/* The codes, scales and mins that q4_k and q5_k have in common. */
static void take_k(const uint8_t packed_scales[12], const uint8_t nibbles[128], group *to)
{
    uint8_t scales[8], mins[8];
    phi3_unpack_scales(packed_scales, scales, mins);
    for (int b = 0; b < 8; b++) {
        to->scales[2 * b] = scales[b];
        to->scales[2 * b + 1] = mins[b];
        for (int j = 0; j < 32; j++)
            to->codes[32 * b + j] = nibbles[b / 2 * 32 + j] >> (b % 2 * 4) & 15;
    }
}

static void take_q4_k(const void *from, group *to)
{
    const phi3_block_q4_k *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    memcpy(to->m, block->dmin, sizeof to->m);
    take_k(block->scales, block->codes, to);
}

static void take_q5_k(const void *from, group *to)
{
    const phi3_block_q5_k *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    memcpy(to->m, block->dmin, sizeof to->m);
    take_k(block->scales, block->codes, to);
    add_high_bits(block->high, 4, to->codes);
}

static void take_q6_k(const void *from, group *to)
{
    const phi3_block_q6_k *block = from;
    memcpy(to->d, block->d, sizeof to->d);
    memcpy(to->scales, block->scales, sizeof to->scales);
    for (int b = 0; b < 8; b++) {
        int run = b / 4, quarter = b % 4;
        const uint8_t *low = block->codes + 64 * run + quarter % 2 * 32;
        const uint8_t *high = block->high + 32 * run;
        for (int j = 0; j < 32; j++)
            to->codes[32 * b + j] =
                (uint8_t)((low[j] >> (quarter / 2 * 4) & 15) | (high[j] >> (quarter * 2) & 3) << 4);
    }
}

static void take_iq4_xs(const void *from, group *to)
{
    const phi3_block_iq4_xs *block = from;
    uint16_t high_scales = phi3_load_u16(block->scales_high);
    memcpy(to->d, block->d, sizeof to->d);
    for (int b = 0; b < 8; b++) {
        int low = block->scales_low[b / 2] >> (b % 2 * 4) & 15;
        to->scales[b] = (uint8_t)((low | (high_scales >> (2 * b) & 3) << 4) - 32);
        take_nibbles(block->codes + 16 * b, to->codes + 32 * b);
    }
}

/* ---- The formats ----------------------------------------------------------------------------- */

typedef struct packing {
    const phi3_packed_format *format;
    void (*take)(const void *blocks, group *to);
} packing;

static const packing packings[PHI3_DTYPE_LIMIT] = {
    [PHI3_Q4_0] = {&phi3_packed_q4_0, take_q4_0},
    [PHI3_Q4_1] = {&phi3_packed_q4_1, take_q4_1},
    [PHI3_Q5_0] = {&phi3_packed_q5_0, take_q5_0},
    [PHI3_Q5_1] = {&phi3_packed_q5_1, take_q5_1},
    [PHI3_Q8_0] = {&phi3_packed_q8_0, take_q8_0},
    [PHI3_Q2_K] = {&phi3_packed_q2_k, take_q2_k},
    [PHI3_Q3_K] = {&phi3_packed_q3_k, take_q3_k},
    [PHI3_Q4_K] = {&phi3_packed_q4_k, take_q4_k},
    [PHI3_Q5_K] = {&phi3_packed_q5_k, take_q5_k},
    [PHI3_Q6_K] = {&phi3_packed_q6_k, take_q6_k},
    [PHI3_IQ4_NL] = {&phi3_packed_iq4_nl, take_q4_0},
    [PHI3_IQ4_XS] = {&phi3_packed_iq4_xs, take_iq4_xs},
};

size_t phi3_panel_bytes(phi3_dtype dtype, size_t n_columns)
{
    const phi3_packed_format *f = packings[dtype].format;
    if (!f)
        return 0;
    return n_columns / 32 / f->group_blocks * phi3_packed_group_bytes(f);
}

/* ---- Putting rows into their lanes ----------------------------------------------------------- */

/* One plane of a block: bits [from, from + width) of its codes. */
static void put_plane(const uint8_t codes[32], int from, int width, uint8_t *lane)
{
    uint32_t mask = 0x01010101 * ((1U << width) - 1);
    uint32_t quads[8];
    memcpy(quads, codes, sizeof quads); /* bytes stay where they are on any machine */
    for (int j = 0; j < width; j++, lane += PHI3_QUAD_BYTES) {
        uint32_t packed = 0;
        for (int k = 0; k < 8 / width; k++)
            packed |= (quads[j + width * k] >> from & mask) << (width * k);
        memcpy(lane, &packed, sizeof packed);
    }
}

static void put_codes(const phi3_packed_format *f, const uint8_t codes[32], uint8_t *lane)
{
    if (f->low_bits == 4)
        put_plane(codes, 0, 4, lane);
    else if (f->low_bits == 8)
        put_plane(codes, 0, 8, lane);
    else
        put_plane(codes, 0, 2, lane);
    lane += PHI3_QUAD_BYTES * f->low_bits;
    if (f->high_bits == 1)
        put_plane(codes, f->low_bits, 1, lane);
    else if (f->high_bits == 2)
        put_plane(codes, f->low_bits, 2, lane);
}

static void put_group(const phi3_packed_format *f, const group *g, size_t row, uint8_t *out)
{
    uint8_t *codes = out + phi3_packed_header_bytes(f) + 4 * row;
    memcpy(out + 2 * row, g->d, sizeof g->d);
    out += 2 * PHI3_PANEL_ROWS;
    if (f->has_m) {
        memcpy(out + 2 * row, g->m, sizeof g->m);
        out += 2 * PHI3_PANEL_ROWS;
    }
    for (size_t i = 0; i < (size_t)f->group_blocks * f->scale_bytes; i++)
        out[PHI3_PANEL_ROWS * i + row] = g->scales[i];
    for (size_t b = 0; b < f->group_blocks; b++)
        put_codes(f, g->codes + 32 * b, codes + b * phi3_packed_code_bytes(f));
}

void phi3_pack_group(phi3_dtype dtype, const uint8_t *blocks, size_t row_bytes, size_t n_rows,
                     uint8_t *out)
{
    const packing *p = &packings[dtype];
    for (size_t row = 0; row < n_rows; row++) {
        group taken;
        p->take(blocks + row * row_bytes, &taken);
        put_group(p->format, &taken, row, out);
    }
}

/* All bits of a float16's exponent are set in NaN and infinity only. */
static bool are_finite(const uint8_t *numbers, size_t count)
{
    const uint16_t exponent = 0x7c00;
    uint16_t n_bad = 0;
    for (size_t i = 0; i < count; i++)
        n_bad += (phi3_load_u16(numbers + 2 * i) & exponent) == exponent;
    return n_bad == 0;
}

bool phi3_pack_panel(const phi3_tensor *part, size_t panel, uint8_t *out)
{
    const packing *p = &packings[part->dtype];
    phi3_group_writer *write_group = phi3_group_writer_for(part->dtype);
    size_t bytes = phi3_panel_bytes(part->dtype, part->n_columns);
    size_t row_bytes = phi3_dtype_row_bytes(part->dtype, part->n_columns);
    size_t first = panel * PHI3_PANEL_ROWS, left = part->n_rows - first;
    size_t n_rows = left < PHI3_PANEL_ROWS ? left : PHI3_PANEL_ROWS;
    if (n_rows < PHI3_PANEL_ROWS)
        memset(out, 0, bytes);
    const uint8_t *rows = (const uint8_t *)part->data + first * row_bytes;
    size_t group_bytes = phi3_packed_group_bytes(p->format);
    size_t stored_bytes = row_bytes / (bytes / group_bytes);
    bool finite = true;
    for (size_t g = 0; g < bytes / group_bytes; g++, rows += stored_bytes, out += group_bytes) {
        if (write_group)
            write_group(rows, row_bytes, n_rows, out);
        else
            phi3_pack_group(part->dtype, rows, row_bytes, n_rows, out);
        finite &= are_finite(out, (p->format->has_m ? 2 : 1) * PHI3_PANEL_ROWS);
    }
    return finite;
}
