/* blas.h - the one product that cuBLAS does for us. */
#ifndef PHI3_CUDA_BLAS_H
#define PHI3_CUDA_BLAS_H

#include "cuda.h"

/* y[r][o] = x[r] . w[o], added up in float32.
 *     w [n_out][n_columns] and x [n_rows][n_columns] of `dtype` (F32 or BF16), y [n_rows][.] float32
 *     with rows y_stride apart; all in device memory */
phi3_status phi3_cuda_gemm(phi3_dtype dtype, const void *w, size_t n_out, const void *x,
                           size_t n_rows, size_t n_columns, float *y, size_t y_stride);

#endif
