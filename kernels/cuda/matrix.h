/* matrix.h - a weight matrix in device memory. */
#ifndef PHI3_CUDA_MATRIX_H
#define PHI3_CUDA_MATRIX_H

#include "cuda.h"
#include "planes.h"

/* One part: its planes, cut from one piece of memory. */
typedef struct phi3_device_part {
    phi3_dtype dtype;
    size_t n_rows;
    void *memory;
    phi3_planes planes;
} phi3_device_part;

struct phi3_matrix {
    size_t n_rows;
    size_t n_columns;
    phi3_compute compute;
    size_t n_parts;
    phi3_device_part parts[]; /* one below the other */
};

/* Up to so many rows of x go to our own kernels: whatever the weights are, and those in 8 bits. cuBLAS
 * gets the others. */
static const size_t PHI3_FEW_ROWS = 8, PHI3_FEW_INT8_ROWS = 16;

/* Expands `count` rows of a part, from row `first`, to float32 or bfloat16: out [count][n_columns]. */
void phi3_cuda_expand(const phi3_device_part *part, size_t first, size_t count, size_t n_columns,
                      phi3_dtype to, void *out);

#endif
