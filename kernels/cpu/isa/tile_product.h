/*
 * tile_product.h - products of two blocks of bfloat16 in AMX's tiles.
 *
 * In: rows of x and a panel of w. A tile is 16 rows of 64 bytes, of x 16 rows of 32 columns, of w the
 * same columns of 16 weight rows (or of 16 positions), whose pairs of columns stand below each other.
 * Out: sums of float32. Four sums of 16 x 16 stay in tiles while 32 rows of x and of w go by, step by
 * step; each is one chain over the columns, whichever others are computed with it.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18 (AMX).
 */
#ifndef PHI3_CPU_ISA_TILE_PRODUCT_H
#define PHI3_CPU_ISA_TILE_PRODUCT_H

#include "amx.h"

#if defined(__AMX_BF16__)
/* Where tiles are, all in bytes. */
typedef struct tile_walk {
    const char *at;
    size_t line;  /* from one row of a tile to the next */
    size_t other; /* to the second tile of a step */
    size_t step;  /* to the next one */
    size_t ahead; /* how far tiles are fetched ahead; 0: not at all */
} tile_walk;

typedef struct tile_sums {
    float *at; /* [32][32] */
    size_t stride;
    bool add; /* to what is there */
} tile_sums;

INLINE void fetch_tile(const tile_walk *x, const char *tile)
{
    if (x->ahead)
        for (int row = 0; row < TILE_ROWS; row++)
            __builtin_prefetch(tile + x->ahead + (size_t)row * x->line);
}

/* 32 rows of x, or with `half` 16. Tiles 0 to 3 are sums, 4 and 5 of x, 6 and 7 of w. */
INLINE void multiply_step(bool half, const tile_walk *x, const tile_walk *w, size_t step)
{
    const char *rows = x->at + step * x->step, *panel = w->at + step * w->step;
    _tile_loadd(4, rows, x->line);
    _tile_loadd(6, panel, w->line);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, panel + w->other, w->line);
    fetch_tile(x, rows);
    _tile_dpbf16ps(1, 4, 7);
    if (half)
        return;
    _tile_loadd(5, rows + x->other, x->line);
    _tile_dpbf16ps(2, 5, 6);
    fetch_tile(x, rows + x->other);
    _tile_dpbf16ps(3, 5, 7);
}

/* sums (+)= x w^T, of as many rows as tiles are configured for. */
INLINE void multiply_tiles(bool half, const tile_walk *x, const tile_walk *w, size_t n_steps,
                           const tile_sums *sums)
{
    size_t row_bytes = sums->stride * sizeof(float);
    float *above = sums->at, *below = above + TILE_ROWS * sums->stride;
    if (sums->add) {
        _tile_loadd(0, above, row_bytes);
        _tile_loadd(1, above + 16, row_bytes);
        if (!half) {
            _tile_loadd(2, below, row_bytes);
            _tile_loadd(3, below + 16, row_bytes);
        }
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t k = 0; k < n_steps; k++)
        multiply_step(half, x, w, k);
    _tile_stored(0, above, row_bytes);
    _tile_stored(1, above + 16, row_bytes);
    if (!half) {
        _tile_stored(2, below, row_bytes);
        _tile_stored(3, below + 16, row_bytes);
    }
}
#endif

#endif
