/*
 * block_product.c - products of quantised rows with one row of activations, exact in float32.
 *
 * In: rows w, as they are stored, and x. Out: y[o] = w[o] . x, the same to the bit as float.c's of
 * the expanded rows (units.h). Weights are expanded in registers, where they are multiplied; with
 * more rows of x it is cheaper to expand them to memory once.
 */
#include "formats.h"
#include "kernels.h"
#include "units.h"

enum { TILE_ROWS = 4 /* each sum has to wait for its last addition */ };

/* How many tiles ahead rows are fetched, and whether into L1: on Zen 4 rows of 1536 in Q4_1 come at 17
 * GB/s by way of L2, in Q8_0 at 25, and at 14 and 15 by L1; an Emerald Rapids wants them earlier. */
#if defined(__AMX_TILE__)
enum { AHEAD_TILES = 2, TO_FIRST_LEVEL = true };
#else
enum { AHEAD_TILES = 1, TO_FIRST_LEVEL = false };
#endif

typedef struct tile {
    const uint8_t *w[TILE_ROWS];
    size_t ahead; /* from a row to what is fetched into the caches meanwhile */
} tile;

/* No array: gcc would keep that in memory. */
typedef struct tile_sums {
    floats of0, of1, of2, of3;
} tile_sums;

INLINE floats add_step(const format f, const uint8_t *group, const scales *s, size_t step,
                       size_t n_vectors, const float *x, floats sum)
{
    floats elements[STEP_VECTORS];
    expand_step(f, group, s, step, elements);
    for (size_t v = 0; v < n_vectors; v++)
        sum = multiply_add(elements[v], load(x + v * LANES), sum);
    return sum;
}

/* The first n_steps of a group, `size` bytes in each row; n_vectors of each step. */
INLINE tile_sums add_steps(const format f, const tile *t, size_t n_steps, size_t size,
                           size_t n_vectors, const float *x, tile_sums sums)
{
    scales s[TILE_ROWS];
    for (size_t o = 0; o < TILE_ROWS; o++) {
        prefetch(t->w[o] + t->ahead, size, TO_FIRST_LEVEL);
        load_scales(f, t->w[o], n_steps * BLOCKS, &s[o]);
    }
    UNROLL_STEPS
    for (size_t step = 0; step < n_steps; step++, x += STEP) {
        sums.of0 = add_step(f, t->w[0], &s[0], step, n_vectors, x, sums.of0);
        sums.of1 = add_step(f, t->w[1], &s[1], step, n_vectors, x, sums.of1);
        sums.of2 = add_step(f, t->w[2], &s[2], step, n_vectors, x, sums.of2);
        sums.of3 = add_step(f, t->w[3], &s[3], step, n_vectors, x, sums.of3);
    }
    return sums;
}

INLINE void skip(tile *t, size_t size)
{
    for (size_t o = 0; o < TILE_ROWS; o++)
        t->w[o] += size;
}

INLINE tile_sums add_half_step(const format f, const tile *t, const float *x, tile_sums sums)
{
    half_step half[TILE_ROWS];
    tile padded = {.ahead = 0};
    for (size_t o = 0; o < TILE_ROWS; o++) {
        half[o] = load_half_step(f, t->w[o]);
        padded.w[o] = half[o].blocks;
    }
    return add_steps(f, &padded, 1, 0, STEP_VECTORS / 2, x, sums);
}

/* y[o] = w[o] . x     y [TILE_ROWS] */
INLINE void multiply_tile(const format f, tile *t, const float *x, size_t n_columns, float *y)
{
    tile_sums sums = {{0}, {0}, {0}, {0}};
    const float *end = x + n_columns;
    for (; x + GROUP <= end; x += GROUP, skip(t, group_bytes(f)))
        sums = add_steps(f, t, GROUP / STEP, group_bytes(f), STEP_VECTORS, x, sums);
    if (f.block_size < GROUP) {
        for (; x + STEP <= end; x += STEP, skip(t, step_bytes(f)))
            sums = add_steps(f, t, 1, step_bytes(f), STEP_VECTORS, x, sums);
        if (x < end)
            sums = add_half_step(f, t, x, sums);
    }
    y[0] = sum_units(sums.of0);
    y[1] = sum_units(sums.of1);
    y[2] = sum_units(sums.of2);
    y[3] = sum_units(sums.of3);
}

/* Rows that the last tile lacks are the last one again. */
INLINE void multiply(const format f, const phi3_float_rows *w, const float *x, float *y)
{
    size_t row_bytes = w->stride / f.block_size * f.block_bytes;
    for (size_t first = 0; first < w->n_rows; first += TILE_ROWS) {
        size_t left = w->n_rows - first, n_rows = left < TILE_ROWS ? left : TILE_ROWS;
        tile t = {.ahead = AHEAD_TILES * TILE_ROWS * row_bytes};
        for (size_t o = 0; o < TILE_ROWS; o++)
            t.w[o] = (const uint8_t *)w->data + (first + (o < n_rows ? o : n_rows - 1)) * row_bytes;
        float sums[TILE_ROWS];
        multiply_tile(f, &t, x, w->stride, sums);
        memcpy(y + first, sums, n_rows * sizeof *y);
    }
}

void ISA_NAME(phi3_block_product)(const phi3_float_rows *w, const float *x, float *y)
{
    switch (w->dtype) {
#define MULTIPLY(dtype, name)             \
    case dtype:                           \
        multiply(format_##name, w, x, y); \
        break;
        FOR_EACH_FORMAT(MULTIPLY)
#undef MULTIPLY
    default:
        break;
    }
}
