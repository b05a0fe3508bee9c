/*
 * packed.h - the layout of packed weights: what matrix_pack writes and the products read.
 *
 * It is one layout for all instruction sets, numbers little-endian, so that a packed file serves
 * any machine. The rows of a part are packed by panels of 32; rows that the last panel lacks are
 * zeros. A panel is one run of memory, read from its beginning to its end:
 *
 *     panel    group | group | ...                            along the columns
 *     group    d [32] | m [32] | scales | codes | codes ...   for one block of 32 columns, or eight
 *
 *     d, m     float16, one for each row; m only in formats that add a number to every weight
 *     scales   only in groups of eight blocks: the blocks' own scales, in bytes. For each block:
 *              [32] a scale, or [2][32] one for each half of the columns, then [32] the min.
 *              Q2_K: [2][32] the scale in the low 4 bits, the min in the high 4 bits.
 *     codes    of a block, unsigned. Four columns of a row, a quad, stand side by side in bytes:
 *
 *                  row 0        row 1               row 31
 *                  c0 c1 c2 c3  c0 c1 c2 c3   ...   c0 c1 c2 c3      columns 4 q ... 4 q + 3
 *
 *              That is a vector of 128 bytes. Multiplied with four bytes of x that are repeated all
 *              along, and summed by fours, it gives 32 outputs in 32 lanes: nothing is ever summed
 *              across lanes. Codes of 8 bits are eight such vectors. In a plane of `width` bits
 *              there are `width` vectors, and quads share bytes: vector j has quad j in its lowest
 *              bits, quad j + width above it, and so on. Codes of 3, 5 and 6 bits are two planes:
 *              the low 2 or 4 bits of all, then the high bits.
 */
#ifndef PHI3_CPU_PACKED_H
#define PHI3_CPU_PACKED_H

#include <stdbool.h>

#include "kernels/backend.h"

/* Name and version: part of the key of files that keep packed weights. */
#define PHI3_PACKED_LAYOUT "panels of 32 rows, version 1"

enum {
    PHI3_PANEL_ROWS = 32,
    PHI3_QUAD_BYTES = 4 * PHI3_PANEL_ROWS, /* a quad of every row of a panel */
};

/* How the integer formats are packed. A weight is d scale (code - zero) + m, or - m min. */
typedef struct phi3_packed_format {
    uint8_t low_bits; /* of a code: in the first plane and in the second */
    uint8_t high_bits;
    uint8_t zero_bit;     /* zero is 1 << zero_bit; 0: there is no zero */
    uint8_t group_blocks; /* 1 or 8 */
    uint8_t scale_bytes;  /* of a row and block, beside d and m */
    bool has_m;
    bool has_halves;    /* scales count for 16 columns, not 32 */
    bool signed_scales; /* the scales in bytes are signed */
    bool is_table;      /* codes are places in phi3_iq4_values, which counts from -128 */
} phi3_packed_format;

static const phi3_packed_format phi3_packed_q4_0 = {
    .low_bits = 4, .zero_bit = 3, .group_blocks = 1};
static const phi3_packed_format phi3_packed_q4_1 = {
    .low_bits = 4, .has_m = true, .group_blocks = 1};
static const phi3_packed_format phi3_packed_q5_0 = {
    .low_bits = 4, .high_bits = 1, .zero_bit = 4, .group_blocks = 1};
static const phi3_packed_format phi3_packed_q5_1 = {
    .low_bits = 4, .high_bits = 1, .has_m = true, .group_blocks = 1};
static const phi3_packed_format phi3_packed_q8_0 = {
    .low_bits = 8, .zero_bit = 7, .group_blocks = 1};
static const phi3_packed_format phi3_packed_iq4_nl = {
    .low_bits = 4, .zero_bit = 7, .is_table = true, .group_blocks = 1};
static const phi3_packed_format phi3_packed_q2_k = {
    .low_bits = 2, .has_m = true, .has_halves = true, .scale_bytes = 2, .group_blocks = 8};
static const phi3_packed_format phi3_packed_q3_k = {.low_bits = 2,
                                                    .high_bits = 1,
                                                    .zero_bit = 2,
                                                    .has_halves = true,
                                                    .signed_scales = true,
                                                    .scale_bytes = 2,
                                                    .group_blocks = 8};
static const phi3_packed_format phi3_packed_q4_k = {
    .low_bits = 4, .has_m = true, .scale_bytes = 2, .group_blocks = 8};
static const phi3_packed_format phi3_packed_q5_k = {
    .low_bits = 4, .high_bits = 1, .has_m = true, .scale_bytes = 2, .group_blocks = 8};
static const phi3_packed_format phi3_packed_q6_k = {.low_bits = 4,
                                                    .high_bits = 2,
                                                    .zero_bit = 5,
                                                    .has_halves = true,
                                                    .signed_scales = true,
                                                    .scale_bytes = 2,
                                                    .group_blocks = 8};
static const phi3_packed_format phi3_packed_iq4_xs = {.low_bits = 4,
                                                      .zero_bit = 7,
                                                      .is_table = true,
                                                      .signed_scales = true,
                                                      .scale_bytes = 1,
                                                      .group_blocks = 8};

/* Bytes of what stands before a group's codes, and of a block's codes. */
static inline size_t phi3_packed_header_bytes(const phi3_packed_format *f)
{
    size_t numbers = f->has_m ? 4 : 2;
    return PHI3_PANEL_ROWS * (numbers + (size_t)f->group_blocks * f->scale_bytes);
}

static inline size_t phi3_packed_code_bytes(const phi3_packed_format *f)
{
    return (size_t)PHI3_QUAD_BYTES * (f->low_bits + f->high_bits);
}

/* The codes of block b of a group. */
static inline const uint8_t *phi3_packed_codes(const phi3_packed_format *f, const uint8_t *group,
                                               size_t b)
{
    return group + phi3_packed_header_bytes(f) + b * phi3_packed_code_bytes(f);
}

static inline size_t phi3_packed_group_bytes(const phi3_packed_format *f)
{
    return phi3_packed_header_bytes(f) + f->group_blocks * phi3_packed_code_bytes(f);
}

/* Bytes of a panel of a part; 0 for formats that are read in place. */
size_t phi3_panel_bytes(phi3_dtype dtype, size_t n_columns);

/* Packs panel number `panel` of a part. False: some d or m is NaN or infinite. */
bool phi3_pack_panel(const phi3_tensor *part, size_t panel, uint8_t *out);

/* One group of the first n_rows rows of a panel, whose blocks are row_bytes apart: the plain way for
 * any format. */
void phi3_pack_group(phi3_dtype dtype, const uint8_t *blocks, size_t row_bytes, size_t n_rows,
                     uint8_t *out);

#endif
