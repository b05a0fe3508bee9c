/*
 * linear_tiles.h - products of many rows in AMX's tiles of bfloat16, where the CPU has them.
 *
 * Both sides are rounded to bfloat16; weights are expanded on the way, a few panels at a time, as
 * many columns of them as stay in the second-level cache while all rows of activations go by. The
 * sums of a row are the same among any others that go this way, but not those of the other ways.
 *
 * In 10^9 operations a second on one core of an Emerald Rapids, tiles and our integer kernels, by rows,
 * 8192 x 3072:
 *
 *     rows     32          48          64          128
 *     q4_0     357  321    308  342    548  341    740  371
 *     q6_k     305  182    297  184    473  178    398  251
 */
#ifndef PHI3_CPU_LINEAR_TILES_H
#define PHI3_CPU_LINEAR_TILES_H

#include "kernels.h"

enum {
    PHI3_TILES_MIN_ROWS = 32,
    PHI3_TILES_WEIGHT_ROWS = 128 /* whose products are computed at a time */
};

/* Whether products with weights of this shape can go through tiles here. */
bool phi3_tiles_take(const phi3_tensor *weights);

/* Rows of activations. */
typedef struct phi3_tiles_x {
    const float *rows; /* [n_rows][n_columns] */
    size_t n_rows;
    size_t n_columns;
    uint16_t *converted; /* to tiles: phi3_tiles_x_bytes, 64-byte aligned */
} phi3_tiles_x;

/* Bytes of `converted`, and of a thread's scratch; both multiples of 64, and enough for fewer rows. */
size_t phi3_tiles_x_bytes(size_t n_rows, size_t n_columns);
size_t phi3_tiles_scratch_bytes(size_t n_rows, size_t n_columns);

/* Fills `converted`, before the first product. */
void phi3_tiles_x_convert(const phi3_tiles_x *x, int n_threads);

/* y = x w^T on this thread.     panels: w packed (packed.h), or NULL where w is of bfloat16;
 * y [x.n_rows][w.n_rows], rows y_stride apart */
void phi3_tiles_multiply(const phi3_tiles_x *x, const phi3_tensor *w, const uint8_t *panels,
                         void *scratch, float *y, size_t y_stride);

#endif
