/*
 * linear_onednn.h - products of many rows with weights of bfloat16, through oneDNN.
 *
 * In 10^9 operations a second on 2 cores of a Zen 5, oneDNN 3.2 (bf16 peak: 1055) and our own panels
 * (linear_float.h), both reading the weights where they are stored; weights [n_out][n_columns]:
 *
 *     rows    9216 x 3072    16384 x 3072    3072 x 8192    32064 x 3072
 *       32      578   555      561   561       600   570      564   561
 *       64      755   699      738   710       757   701      740   719
 *       96      810   772      809   770       831   758      813   794
 *      128      841   805      848   806       861   796      855   831
 *      512      920   896      940   926       943   890      942   945
 *
 * So it is oneDNN from 64 rows on: a prefill of 512 rows takes 5 % less. Below, where the rows of
 * many sequences are, little is gained, and ours give a row the same result among any others.
 *
 * What both do not reach they spend on turning the weights: oneDNN reaches 1036 with weights that it
 * has put in order before, which would be a second copy of all. Tiles of 64 outputs are its best: of
 * 32 they reach 3 % less, of 96 1 %, and of 128 no more.
 */
#ifndef PHI3_CPU_LINEAR_ONEDNN_H
#define PHI3_CPU_LINEAR_ONEDNN_H

#include "kernels.h"
#include "onednn_product.h"

enum {
    PHI3_ONEDNN_MIN_ROWS = 64,
    PHI3_ONEDNN_TILE = 64 /* weight rows that are multiplied at a time; a part has as many */
};

/* Whether weights of this shape can go through oneDNN here; asked of many rows only. */
bool phi3_onednn_takes(const phi3_tensor *weights);

/* Rows of activations, in blocks of equal size. */
typedef struct phi3_onednn_x {
    const float *rows; /* [n_rows][n_columns] */
    size_t n_rows;
    size_t n_columns;
    uint16_t *converted; /* to bfloat16: phi3_onednn_x_bytes, 64-byte aligned */
    size_t block_rows;
    phi3_onednn_product *product; /* of a block and a tile */
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
