/*
 * int8.c - products of quantised weights with activations quantised to 8 bits.
 *
 * In: stored weight rows and phi3_int8_rows. Out: y in float32. A block's product is an exact
 * integer; it is multiplied by the scales of both sides and added to a float per lane.
 */
#include <math.h>

#include "formats.h"
#include "kernels.h"

enum {
    TILE = 4,     /* weight rows that share the loads of x */
    MANY_ROWS = 4 /* rows of x that pay for unpacking the weights */
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

/* ---- Many rows of x: a wide tile is unpacked once ---------------------------------------------- */

/* Weight rows of a wide tile, and rows of x that go over it together: as many as leave registers. */
enum { WIDE_TILE = VECTOR_BYTES / 8, PAIR = 2 };

/*
 * One vector of codes of each weight row of the tile, and the scales of all rows together: row after
 * row, one for each block (or half block) of a vector. A single product with those of x then does
 * for all rows, and a permutation, for which there are other units, spreads a row's own.
 */
typedef struct unpacked_step {
    bytes codes[WIDE_TILE];
    floats scales[2]; /* the second for half blocks alone */
} unpacked_step;

typedef struct unpacked_group {
    unpacked_step steps[STEPS];
    floats8 mins[WIDE_TILE];
} unpacked_group;

_Static_assert(sizeof(unpacked_group) <= PHI3_INT8_SCRATCH_PER_GROUP, "room for a group");

/* Scales of one row in a vector, and rows that share a vector of scales. */
INLINE int scales_of_row(const format f)
{
    return f.half_blocks ? 2 * BLOCKS : BLOCKS;
}

INLINE int rows_of_vector(const format f)
{
    return f.half_blocks ? WIDE_TILE / 2 : WIDE_TILE;
}

/* Unpacks a group of n_blocks blocks of every row. */
INLINE void unpack_group(const format f, const uint8_t *const rows[WIDE_TILE], size_t n_blocks,
                         int n_steps, unpacked_group *out)
{
    int count = scales_of_row(f), sharing = rows_of_vector(f);
    for (int r = 0; r < WIDE_TILE; r++) {
        float scales[16], mins[8];
        f.scales(rows[r], n_blocks, scales, mins);
        if (f.has_mins)
            out->mins[r] = load8(mins);
        UNROLL_STEPS
        for (int step = 0; step < n_steps; step++) {
            unpacked_step *to = &out->steps[step];
            to->codes[r] = f.codes(rows[r], step, n_blocks);
            float *place = (float *)&to->scales[r / sharing] + r % sharing * count;
            memcpy(place, scales + step * count, (size_t)count * sizeof *place);
        }
    }
}

/* Adds the products of one unpacked group, in the order of add_group: to the last bit, a row's
 * result is the same however many rows come with it. */
INLINE void add_unpacked(const format f, const unpacked_group *group, const operand x[PAIR],
                         int n_steps, floats sum[PAIR][WIDE_TILE])
{
    int count = scales_of_row(f), sharing = rows_of_vector(f);
    for (int step = 0; step < n_steps; step++) {
        const unpacked_step *w = &group->steps[step];
        bytes codes_x[PAIR];
        floats scales[PAIR][2];
        ints start[PAIR] = {0};
#pragma GCC unroll 2
        for (int p = 0; p < PAIR; p++) {
            codes_x[p] = load_bytes(x[p].codes + step * VECTOR_BYTES);
            floats scale_x = repeat_blocks(x[p].scales + step * BLOCKS, count / BLOCKS);
            scales[p][0] = w->scales[0] * scale_x;
            if (f.half_blocks)
                scales[p][1] = w->scales[1] * scale_x;
            if (f.zero)
                start[p] -= dot(f, start[p], splat_byte((uint8_t)f.zero), codes_x[p]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < WIDE_TILE; r++) {
#pragma GCC unroll 2
            for (int p = 0; p < PAIR; p++) {
                ints product = dot(f, start[p], w->codes[r], codes_x[p]);
                floats scale = spread_run(scales[p][r / sharing], r % sharing * count, count);
                sum[p][r] = multiply_add(ints_to_floats(product), scale, sum[p][r]);
            }
        }
    }
}

/* out[p][r] += what the mins add. Apart from the products: both together need too many registers. */
INLINE void add_mins(const unpacked_group *groups, size_t n_groups, const operand x[PAIR],
                     float out[PAIR][WIDE_TILE])
{
    for (int p = 0; p < PAIR; p++) {
        floats8 sum[WIDE_TILE] = {0};
        for (size_t g = 0; g < n_groups; g++) {
            floats8 sums_x = load8(x[p].sums + g * GROUP_BLOCKS);
#pragma GCC unroll 8
            for (int r = 0; r < WIDE_TILE; r++)
                sum[r] += groups[g].mins[r] * sums_x;
        }
        for (int r = 0; r < WIDE_TILE; r++)
            out[p][r] += sum_lanes8(sum[r]);
    }
}

/* out[p][r] = x[p] . row r of the tile. */
INLINE void multiply_pair(const format f, const unpacked_group *groups, size_t n_blocks,
                          const operand first[PAIR], float out[PAIR][WIDE_TILE])
{
    operand x[PAIR] = {first[0], first[1]};
    floats sum[PAIR][WIDE_TILE] = {0};
    size_t n_groups = n_blocks / GROUP_BLOCKS, rest = n_blocks % GROUP_BLOCKS;
    for (size_t g = 0; g < n_groups; g++) {
        add_unpacked(f, groups + g, x, STEPS, sum);
        for (int p = 0; p < PAIR; p++) {
            x[p].codes += PHI3_INT8_GROUP;
            x[p].scales += GROUP_BLOCKS;
        }
    }
    if (f.small_blocks && rest > 0)
        add_unpacked(f, groups + n_groups, x, (int)((rest + BLOCKS - 1) / BLOCKS), sum);
    for (int p = 0; p < PAIR; p++)
        for (int r = 0; r < WIDE_TILE; r++)
            out[p][r] = sum_lanes(sum[p][r]);
    if (f.has_mins)
        add_mins(groups, n_groups + (rest > 0), first, out);
}

INLINE void unpack_tile(const format f, const uint8_t *const first[WIDE_TILE], size_t n_blocks,
                        unpacked_group *groups)
{
    const uint8_t *rows[WIDE_TILE];
    memcpy(rows, first, sizeof rows);
    for (; n_blocks >= GROUP_BLOCKS; n_blocks -= GROUP_BLOCKS) {
        unpack_group(f, rows, GROUP_BLOCKS, STEPS, groups++);
        for (int r = 0; r < WIDE_TILE; r++)
            rows[r] += f.group_bytes;
    }
    if (f.small_blocks && n_blocks > 0)
        unpack_group(f, rows, n_blocks, (int)((n_blocks + BLOCKS - 1) / BLOCKS), groups);
}

/* ---- All rows ---------------------------------------------------------------------------------- */

INLINE operand operand_at(const phi3_int8_rows *x, size_t row)
{
    size_t n_blocks = x->n_padded / PHI3_INT8_BLOCK;
    return (operand){x->codes + row * x->n_padded, x->scales + row * n_blocks,
                     x->sums + row * n_blocks};
}

/* The addresses of a tile's rows; one at the end repeats the last row to be whole. */
INLINE void tile_rows(const phi3_weight_rows *weights, size_t first, size_t count,
                      const uint8_t **rows)
{
    size_t left = weights->n_rows - first;
    for (size_t r = 0; r < count; r++)
        rows[r] = weights->data + (first + (r < left ? r : left - 1)) * weights->row_bytes;
}

INLINE void multiply_many(const format f, const phi3_weight_rows *weights, const phi3_int8_rows *x,
                          unpacked_group *groups, float *y, size_t y_stride)
{
    size_t n_blocks = weights->n_columns / PHI3_INT8_BLOCK;
    for (size_t o = 0; o < weights->n_rows; o += WIDE_TILE) {
        const uint8_t *rows[WIDE_TILE];
        tile_rows(weights, o, WIDE_TILE, rows);
        unpack_tile(f, rows, n_blocks, groups);
        size_t left = weights->n_rows - o;
        size_t bytes_out = (left < WIDE_TILE ? left : WIDE_TILE) * sizeof(float);
        for (size_t r = 0; r < x->n_rows; r += PAIR) {
            size_t last = r + 1 < x->n_rows ? r + 1 : r;
            operand pair[PAIR] = {operand_at(x, r), operand_at(x, last)};
            float out[PAIR][WIDE_TILE];
            multiply_pair(f, groups, n_blocks, pair, out);
            memcpy(y + r * y_stride + o, out[0], bytes_out);
            memcpy(y + last * y_stride + o, out[last - r], bytes_out);
        }
    }
}

INLINE void multiply_few(const format f, const phi3_weight_rows *weights, const phi3_int8_rows *x,
                         float *y, size_t y_stride)
{
    for (size_t o = 0; o < weights->n_rows; o += TILE) {
        const uint8_t *rows[TILE];
        tile_rows(weights, o, TILE, rows);
        size_t left = weights->n_rows - o;
        for (size_t r = 0; r < x->n_rows; r++) {
            float out[TILE];
            multiply_tile(f, rows, weights->n_columns / PHI3_INT8_BLOCK, operand_at(x, r), out);
            memcpy(y + r * y_stride + o, out, (left < TILE ? left : TILE) * sizeof *out);
        }
    }
}

/* ---- The products ---------------------------------------------------------------------------- */

#define DEFINE_PRODUCT(name)                                                                     \
    void ISA_NAME(phi3_product_##name)(const phi3_weight_rows *weights, const phi3_int8_rows *x, \
                                       void *scratch, float *y, size_t y_stride)                 \
    {                                                                                            \
        if (x->n_rows < MANY_ROWS)                                                               \
            multiply_few(format_##name, weights, x, y, y_stride);                                \
        else                                                                                     \
            multiply_many(format_##name, weights, x, scratch, y, y_stride);                      \
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
