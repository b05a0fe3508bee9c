/*
 * panel_product.h - the product of attention: rows of numbers times a panel of vectors.
 *
 * In: rows and a panel, in float32, or with a pair of bfloat16 numbers in each float's place. Out:
 * sums of float32. A tile of them stays in registers, or in those of AMX; each lane is one chain of
 * sums over the steps, whatever the tile.
 */
#ifndef PHI3_PANEL_PRODUCT_H
#define PHI3_PANEL_PRODUCT_H

#include <stdbool.h>

#include "simd.h"
#include "tile_product.h"

enum {
    PRODUCT_ROWS = 6,
    PRODUCT_VECTORS = VECTOR_BYTES == 64 ? 4 : 2 /* as many sums as there are registers for */
};

/* out[r][c] (+)= sum over k of rows[r][k] * panel[k][c] */
typedef struct product {
    const float *rows, *panel;
    float *out;
    size_t row_stride, panel_stride, out_stride; /* floats */
    size_t n_steps;
    bool pairs, add;
    bool tiles; /* of pairs, with AMX; up to 32 rows, and whole tiles: multiples of 16 steps */
} product;

/* Rows that are best computed at a time. */
static size_t product_rows(bool tiles)
{
    return tiles ? 32 : PRODUCT_ROWS;
}

/* ---- In registers ---------------------------------------------------------------------------- */

INLINE floats multiply_add_step(bool pairs, floats a, floats b, floats sum)
{
#if defined(__AVX512BF16__)
    if (pairs)
        return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    (void)pairs;
#endif
    return multiply_add(a, b, sum);
}

/* The tile at row r and column c; all but those are known to the compiler. */
INLINE void multiply_tile(bool pairs, bool add, const product *p, size_t r, size_t n_r, size_t c,
                          size_t n_c)
{
    const float *rows = p->rows + r * p->row_stride, *panel = p->panel + c;
    float *out = p->out + r * p->out_stride + c;
    floats sum[PRODUCT_ROWS][PRODUCT_VECTORS] = {{{0}}};
    if (add)
#pragma GCC unroll 8
        for (size_t a = 0; a < n_r; a++)
#pragma GCC unroll 4
            for (size_t b = 0; b < n_c; b++)
                sum[a][b] = load(out + a * p->out_stride + b * LANES);
    for (size_t k = 0; k < p->n_steps; k++) {
        floats vectors[PRODUCT_VECTORS];
#pragma GCC unroll 4
        for (size_t b = 0; b < n_c; b++)
            vectors[b] = load(panel + k * p->panel_stride + b * LANES);
#pragma GCC unroll 8
        for (size_t a = 0; a < n_r; a++) {
            floats number = splat(rows[a * p->row_stride + k]);
#pragma GCC unroll 4
            for (size_t b = 0; b < n_c; b++)
                sum[a][b] = multiply_add_step(pairs, number, vectors[b], sum[a][b]);
        }
    }
#pragma GCC unroll 8
    for (size_t a = 0; a < n_r; a++)
#pragma GCC unroll 4
        for (size_t b = 0; b < n_c; b++)
            store(out + a * p->out_stride + b * LANES, sum[a][b]);
}

INLINE void multiply_strip(bool pairs, bool add, const product *p, size_t r, size_t n_r,
                           size_t n_columns)
{
    size_t c = 0;
    for (; c + PRODUCT_VECTORS * LANES <= n_columns; c += PRODUCT_VECTORS * LANES)
        multiply_tile(pairs, add, p, r, n_r, c, PRODUCT_VECTORS);
    if (PRODUCT_VECTORS > 2 && c + 2 * LANES <= n_columns) {
        multiply_tile(pairs, add, p, r, n_r, c, 2);
        c += 2 * LANES;
    }
    for (; c < n_columns; c += LANES)
        multiply_tile(pairs, add, p, r, n_r, c, 1);
}

INLINE void multiply_any(bool pairs, bool add, const product *p, size_t n_rows, size_t n_columns)
{
    size_t r = 0;
    for (; r + PRODUCT_ROWS <= n_rows; r += PRODUCT_ROWS)
        multiply_strip(pairs, add, p, r, PRODUCT_ROWS, n_columns);
    for (; r + 2 <= n_rows; r += 2)
        multiply_strip(pairs, add, p, r, 2, n_columns);
    for (; r < n_rows; r++)
        multiply_strip(pairs, add, p, r, 1, n_columns);
}

/* ---- In tiles -------------------------------------------------------------------------------- */

#if defined(__AMX_BF16__)
/* A panel of pairs is tiles as it stands. */
INLINE void multiply_blocks(bool half, const product *p, size_t n_columns)
{
    size_t line = p->row_stride * sizeof(float), step = p->panel_stride * sizeof(float);
    tile_walk rows = {(const char *)p->rows, line, TILE_ROWS * line, TILE_LINE, 0};
    for (size_t c = 0; c < n_columns; c += 32) {
        tile_walk panel = {(const char *)(p->panel + c), step, TILE_LINE, TILE_ROWS * step, 0};
        tile_sums to = {p->out + c, p->out_stride, p->add};
        multiply_tiles(half, &rows, &panel, p->n_steps / 16, &to);
    }
}

static void multiply_in_tiles(const product *p, size_t n_rows, size_t n_columns)
{
    if (n_rows > TILE_ROWS) {
        configure_rows(TILE_ROWS, n_rows - TILE_ROWS);
        multiply_blocks(false, p, n_columns);
    } else {
        configure_rows(n_rows, TILE_ROWS);
        multiply_blocks(true, p, n_columns);
    }
    _tile_release();
}
#endif

/* ---- Either ---------------------------------------------------------------------------------- */

/* n_columns: whole vectors, or with tiles a multiple of 32. */
static void multiply(const product *p, size_t n_rows, size_t n_columns)
{
#if defined(__AMX_BF16__)
    if (p->tiles) {
        multiply_in_tiles(p, n_rows, n_columns);
        return;
    }
#endif
    if (p->pairs && p->add)
        multiply_any(true, true, p, n_rows, n_columns);
    else if (p->pairs)
        multiply_any(true, false, p, n_rows, n_columns);
    else if (p->add)
        multiply_any(false, true, p, n_rows, n_columns);
    else
        multiply_any(false, false, p, n_rows, n_columns);
}

#endif
