/* blas.h - the one product that cuBLAS does for us. */
#ifndef PHI3_CUDA_BLAS_H
#define PHI3_CUDA_BLAS_H

#include "cuda.h"

/* What is multiplied: bfloat16; float32; or float32 of which the tensor cores take ten bits after the
 * point (TF32). Sums are float32. */
typedef enum phi3_operand {
    PHI3_OPERAND_BFLOAT16,
    PHI3_OPERAND_TF32,
    PHI3_OPERAND_FLOAT32
} phi3_operand;

/* y[r][o] = x[r] . w[o].
 *     w [n_out][n_columns], x [n_rows][n_columns], y [n_rows][.] float32 with rows y_stride apart;
 *     all in device memory */
phi3_status phi3_cuda_gemm(phi3_operand operand, const void *w, size_t n_out, const void *x,
                           size_t n_rows, size_t n_columns, float *y, size_t y_stride);

#endif
