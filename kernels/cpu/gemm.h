/*
 * gemm.h - dense products through oneDNN.
 *
 * Two primitives serve the process, one per element type; their shapes are given at run time. They
 * need no scratchpad of oneDNN's and may run on any thread: one that is inside a parallel region
 * computes its product alone.
 */
#ifndef PHI3_CPU_GEMM_H
#define PHI3_CPU_GEMM_H

#include "kernels/backend.h"

/* x [n_rows][n_columns], w [n_out][n_columns] of one type (PHI3_F32 or PHI3_BF16), both dense;
 * y [n_rows][n_out] in float32, rows y_stride apart. */
typedef struct phi3_gemm_shape {
    phi3_dtype dtype;
    size_t n_rows;
    size_t n_out;
    size_t n_columns;
    size_t y_stride;
} phi3_gemm_shape;

/* Creates the primitives at the first call; afterwards says how that went. */
phi3_status phi3_gemm_prepare(phi3_error *error);

/* y = x w^T */
phi3_status phi3_gemm(const phi3_gemm_shape *shape, const void *x, const void *w, float *y);

/* oneDNN's name of what computes products of a type, "gemm:jit:f32" say; NULL when nothing does. */
const char *phi3_gemm_implementation(phi3_dtype dtype);

#endif
