/* products.h - y = x W^T for a few rows of x, by our own kernels. */
#ifndef PHI3_CUDA_PRODUCTS_H
#define PHI3_CUDA_PRODUCTS_H

#include "activations.h"
#include "matrix.h"

/* Rows of one part of a matrix, by a few rows of x. */
typedef struct phi3_product {
    phi3_planes planes;
    int n_out;         /* weight rows */
    int n_columns;     /* a multiple of the format's block */
    int n_rows;        /* of x */
    const float *x;    /* [n_rows][n_columns] */
    phi3_int8_rows x8; /* the same in 8 bits, for products of these */
    float *y;          /* [n_rows][y_stride] */
    size_t y_stride;
} phi3_product;

/* Weights in blocks, x in 8 bits, 1 to 16 rows: int8_products.cu. */
void phi3_cuda_multiply_int8(phi3_dtype dtype, const phi3_product &product);

/* Weights in blocks, all in float32, 1 to 8 rows: exact_products.cu. */
void phi3_cuda_multiply_exact(phi3_dtype dtype, const phi3_product &product);

/* Float weights, 1 to 8 rows: float_products.cu. */
void phi3_cuda_multiply_floats(phi3_dtype dtype, const phi3_product &product);

#endif
