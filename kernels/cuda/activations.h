/* activations.h - x rounded for products: to 8 bits for a few rows, to bfloat16 for many. */
#ifndef PHI3_CUDA_ACTIVATIONS_H
#define PHI3_CUDA_ACTIVATIONS_H

#include "cuda.h"

/* Of 16 columns of x: x = scale * code, scales are of 32 columns. */
typedef struct phi3_x_group {
    float scale;
    int sum; /* of the codes: what a weight's zero and min are multiplied by */
} phi3_x_group;

typedef struct phi3_int8_rows {
    int8_t *codes;        /* [n_rows][n_columns] */
    phi3_x_group *groups; /* [n_rows][n_columns / 16] */
} phi3_int8_rows;

/* Bytes that phi3_cuda_round_to_int8 fills. */
size_t phi3_cuda_int8_bytes(size_t n_rows, size_t n_columns);

/* Rounds x [n_rows][n_columns] into `memory`, at a multiple of 256; n_columns: a multiple of 32. */
phi3_int8_rows phi3_cuda_round_to_int8(const float *x, size_t n_rows, size_t n_columns,
                                       void *memory);

/* out [count] = x, rounded to the nearest bfloat16. */
void phi3_cuda_round_to_bfloat16(const float *x, size_t count, uint16_t *out);

#endif
