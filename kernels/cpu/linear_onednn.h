/*
 * linear_onednn.h - products of many rows with weights of bfloat16, through oneDNN.
 *
 * The weights are the rows of the product and the activations its columns: so it is the activations,
 * which are turned once for all weights, that stand in oneDNN's order, and the weights are read where
 * they are stored. (The other way round oneDNN turned a copy of each tile of weights: 4 % of the time
 * with 512 rows, 6 to 15 % with 128.)
 *
 * In 10^9 operations a second on 2 cores of a Zen 4, oneDNN 3.2 (bf16 peak: 462) and our own panels
 * (linear_float.h); weights [n_out][n_columns]:
 *
 *     rows    9216 x 3072    16384 x 3072    3072 x 8192    32064 x 3072
 *       24      286   273      290   274       219   241      290   273
 *       32      384   301      348   270       294   274      383   296
 *       64      400   334      401   336       400   332      408   342
 *      128      407   359      412   360       415   366      419   367
 *      512      427   390      423   379       412   389      415   369
 *
 * So it is oneDNN from 32 rows on. Ours give a row the same result among any others.
 */
#ifndef PHI3_CPU_LINEAR_ONEDNN_H
#define PHI3_CPU_LINEAR_ONEDNN_H

#include "kernels.h"
#include "onednn_product.h"

enum {
    PHI3_ONEDNN_MIN_ROWS = 32,
    /* Weight rows that are multiplied at a time; a part has as many. 32 are 3 % slower, 48, 96 and 128
     * as fast. */
    PHI3_ONEDNN_TILE = 64
};

/* Whether weights of this shape can go through oneDNN here; asked of many rows only. */
bool phi3_onednn_takes(const phi3_tensor *weights);

/* Rows of activations, in blocks of equal size; a block is panels of 64 of its rows. */
typedef struct phi3_onednn_x {
    const float *rows; /* [n_rows][n_columns] */
    size_t n_rows;
    size_t n_columns;
    uint16_t *converted;          /* to panels of bfloat16: phi3_onednn_x_bytes, 64-byte aligned */
    size_t block_rows;            /* a multiple of PHI3_ONEDNN_TURN */
    phi3_onednn_product *product; /* of a tile and a block */
} phi3_onednn_x;

/* Bytes of `converted`, and of a thread's scratch: enough for fewer rows, too. Multiples of 64. */
size_t phi3_onednn_x_bytes(size_t n_rows, size_t n_columns);
size_t phi3_onednn_scratch_bytes(size_t n_rows);

/* Sets what is below `converted` and fills that. */
phi3_status phi3_onednn_x_prepare(phi3_onednn_x *x, int n_threads);
void phi3_onednn_x_finish(phi3_onednn_x *x);

/* y = x w^T on this thread, for `count` rows of w from `first` on, a multiple of the tile. False:
 * memory ran out.     y [x.n_rows][count], rows y_stride apart */
bool phi3_onednn_multiply(const phi3_onednn_x *x, const phi3_tensor *w, size_t first, size_t count,
                          void *scratch, float *y, size_t y_stride);

#endif
