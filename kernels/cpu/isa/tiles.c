/*
 * tiles.c - products of many rows in AMX's tiles of bfloat16.
 *
 * In: rows of weights and of activations, turned into the tiles of tile_product.h. Out: sums of
 * float32.
 *
 *     x     [2 tiles][16 rows][32 columns]                  for each step of 32 columns
 *     w     [2 tiles][16 pairs of columns][16 rows][2]
 *
 * Each tile that is read from the second-level cache is used twice. That bounds it, on Emerald Rapids:
 * the cache gives 25 to 48 bytes a cycle (the core is shared), four products of 16 cycles want 4096.
 *
 * Tiles of int8, which do twice as much, would have to hand their sums over for every block of 32
 * columns, to be scaled there: storing one takes longer (18 cycles for 12 rows) than computing it,
 * and does not overlap with that. They reached 1.5 times the rate of int8.c, these reach 2 to 4.
 */
#include "kernels.h"
#include "panel.h"
#include "tile_product.h"
#include "units.h"

#if defined(__AMX_BF16__)
enum {
    TILE = 512, /* numbers of bfloat16 */
    STEP = 2 * TILE,
    AHEAD = 2 /* steps that x is fetched ahead: it passes once, w stays */
};

/* ---- To tiles -------------------------------------------------------------------------------- */

INLINE void store_numbers(uint16_t *to, floats bfloat16)
{
    store((float *)(void *)to, bfloat16);
}

void ISA_NAME(phi3_tile_row)(const float *x, size_t n_columns, size_t row, uint16_t *out)
{
    uint16_t *to = out + row / 16 * TILE + row % 16 * 32;
    for (size_t i = 0; i < n_columns; i += 32, to += STEP) {
        floats zero = {0};
        store_numbers(to, x ? round_pairs(load(x + i), load(x + i + LANES)) : zero);
    }
}

/* A column of a quad, as weights. */
INLINE floats weights_at(bytes quad, int column, floats scale, floats add)
{
    ints code = (ints)((uints)quad >> (uint32_t)(8 * column) & 255);
    return multiply_add(ints_to_floats(code), scale, add);
}

INLINE void tile_block(const phi3_packed_format f, const uint8_t *group, size_t b, uint16_t *out)
{
    block w;
    load_block(f, group, phi3_packed_codes(&f, group, b), b, 0, &w);
#pragma GCC unroll 2
    for (int v = 0; v < WIDTH; v++) {
#pragma GCC unroll 8
        for (int q = 0; q < QUADS; q++) {
            int half = f.has_halves && q >= QUADS / 2;
            floats scale = w.scales[v][half], add = {0};
            if (f.has_m)
                add = w.mins[v][half];
            else if (f.zero_bit)
                add = scale * -(float)(1 << f.zero_bit);
            bytes quad = w.codes[v][q];
            uint16_t *to = out + v * TILE + q * 64;
            store_numbers(
                to, zip_pairs(weights_at(quad, 0, scale, add), weights_at(quad, 1, scale, add)));
            store_numbers(to + 32, zip_pairs(weights_at(quad, 2, scale, add),
                                             weights_at(quad, 3, scale, add)));
        }
    }
}

INLINE void tile_blocks(const phi3_packed_format f, const uint8_t *panel, size_t first,
                        size_t n_blocks, uint16_t *out)
{
    for (size_t b = first; b < first + n_blocks; b++, out += STEP)
        tile_block(f, panel + b / f.group_blocks * phi3_packed_group_bytes(&f), b % f.group_blocks,
                   out);
}

#define DEFINE_TILE_PANEL(name)                                                                 \
    static void tile_##name(const uint8_t *panel, size_t first, size_t n_blocks, uint16_t *out) \
    {                                                                                           \
        tile_blocks(phi3_packed_##name, panel, first, n_blocks, out);                           \
    }

DEFINE_TILE_PANEL(q4_0)
DEFINE_TILE_PANEL(q4_1)
DEFINE_TILE_PANEL(q5_0)
DEFINE_TILE_PANEL(q5_1)
DEFINE_TILE_PANEL(q8_0)
DEFINE_TILE_PANEL(q2_k)
DEFINE_TILE_PANEL(q3_k)
DEFINE_TILE_PANEL(q4_k)
DEFINE_TILE_PANEL(q5_k)
DEFINE_TILE_PANEL(q6_k)
DEFINE_TILE_PANEL(iq4_nl)
DEFINE_TILE_PANEL(iq4_xs)

void ISA_NAME(phi3_tile_panel)(phi3_dtype dtype, const uint8_t *panel, size_t first,
                               size_t n_blocks, uint16_t *out)
{
    static void (*const by_format[PHI3_DTYPE_LIMIT])(const uint8_t *, size_t, size_t,
                                                     uint16_t *) = {
        [PHI3_Q4_0] = tile_q4_0, [PHI3_Q4_1] = tile_q4_1,     [PHI3_Q5_0] = tile_q5_0,
        [PHI3_Q5_1] = tile_q5_1, [PHI3_Q8_0] = tile_q8_0,     [PHI3_Q2_K] = tile_q2_k,
        [PHI3_Q3_K] = tile_q3_k, [PHI3_Q4_K] = tile_q4_k,     [PHI3_Q5_K] = tile_q5_k,
        [PHI3_Q6_K] = tile_q6_k, [PHI3_IQ4_NL] = tile_iq4_nl, [PHI3_IQ4_XS] = tile_iq4_xs,
    };
    by_format[dtype](panel, first, n_blocks, out);
}

void ISA_NAME(phi3_tile_bfloat16)(const phi3_float_rows *w, size_t n_columns, uint16_t *out)
{
    const uint16_t *data = w->data;
    for (size_t i = 0; i < n_columns; i += 32) {
        for (size_t row = 0; row < PHI3_PANEL_ROWS; row += 16, out += TILE) {
            floats lanes[LANES];
            for (size_t r = 0; r < LANES; r++)
                lanes[r] =
                    row + r < w->n_rows ? load(data + (row + r) * w->stride + i) : (floats){0};
            transpose(lanes);
            for (size_t r = 0; r < LANES; r++)
                store_numbers(out + 32 * r, lanes[r]);
        }
    }
}

/* ---- Products -------------------------------------------------------------------------------- */

void ISA_NAME(phi3_tile_product)(const uint16_t *w, size_t n_panels, const uint16_t *x,
                                 size_t x_stride, size_t n_rows, size_t n_steps, bool add,
                                 float *sums, size_t sums_stride)
{
    const size_t line = TILE_LINE, tile = TILE * sizeof *x, step = STEP * sizeof *x;
    configure_tiles();
    for (size_t r = 0; r < n_rows; r += 32, x += x_stride) {
        tile_walk rows = {(const char *)x, line, tile, step, AHEAD * step};
        bool half = n_rows - r <= 16;
        for (size_t p = 0; p < n_panels; p++) {
            tile_walk panel = {(const char *)(w + p * n_steps * STEP), line, tile, step, 0};
            tile_sums to = {sums + r * sums_stride + p * PHI3_PANEL_ROWS, sums_stride, add};
            if (half)
                multiply_tiles(true, &rows, &panel, n_steps, &to);
            else
                multiply_tiles(false, &rows, &panel, n_steps, &to);
        }
    }
    _tile_release();
}
#endif
