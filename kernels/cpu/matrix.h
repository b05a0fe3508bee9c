/*
 * matrix.h - a weight matrix of the CPU backend, and how a product with it is computed.
 *
 * Which way a part is multiplied depends on its format, on the number of rows and on what the CPU
 * has:
 *   - quantised: our integer kernels, from packed panels (packed.h), with the activations quantised
 *     to 8 bits. All rows go this way, few or many: a row's result then does not depend on how many
 *     come with it, and a conversation that goes on from its cache gives the tokens of one computed
 *     afresh;
 *   - a few rows of floats of any size: our float kernels;
 *   - many rows of floats: oneDNN in bfloat16, on panels of weight rows that are converted where
 *     they are not bfloat16 already.
 * PHI3_COMPUTE_FLOAT32 leaves out the integers and bfloat16: weights stay in the mapped file, and
 * tiles of them are expanded to float32 where they are not floats.
 */
#ifndef PHI3_CPU_MATRIX_H
#define PHI3_CPU_MATRIX_H

#include "kernels.h"
#include "packed.h"

struct phi3_matrix {
    size_t n_rows;
    size_t n_columns;
    phi3_compute compute;
    void *own;              /* the packed weights, when the matrix has packed for itself */
    const uint8_t **panels; /* [n_parts] the first panel; NULL: read in place */
    size_t n_parts;
    phi3_tensor parts[]; /* one below the other */
};

typedef enum phi3_way {
    PHI3_WAY_INT8,
    PHI3_WAY_FLOAT,
    PHI3_WAY_EXPANDED,
    PHI3_WAY_GEMM_F32,
    PHI3_WAY_GEMM_BF16,
} phi3_way;

/* How part number `part` of the matrix is multiplied with n_rows rows of activations. */
phi3_way phi3_matrix_way(const phi3_matrix *matrix, size_t part, size_t n_rows);

/* What the ways of all parts need. */
typedef struct phi3_ways {
    bool int8;     /* the activations in 8 bits */
    bool bfloat16; /* the activations in bfloat16 */
    bool panels;   /* weights expanded for oneDNN */
} phi3_ways;

phi3_ways phi3_matrix_ways(const phi3_matrix *matrix, size_t n_rows);

/* True when oneDNN can read the part's rows in place. */
bool phi3_part_is_ready(const phi3_tensor *part, phi3_dtype dtype);

enum {
    PHI3_TILE_ROWS = 4, /* weight rows and columns that are expanded at a time for our kernels */
    PHI3_TILE_COLUMNS = 1024,
    PHI3_GEMM_ROWS = 128, /* most weight rows of one call of oneDNN */
    PHI3_INT8_ROWS = 48   /* most rows of activations that go over a panel together */
};

/* Weight rows of a call of oneDNN: few enough to stay in the second-level cache, and to go round. */
size_t phi3_matrix_gemm_rows(const phi3_matrix *matrix, int n_threads);

/* Where things stand in the scratch of a linear. Offsets and sizes in bytes. */
typedef struct phi3_linear_layout {
    size_t int8;     /* the activations in 8 bits */
    size_t bfloat16; /* [n_rows][n_columns] the activations in bfloat16 */
    size_t threads;  /* the first thread's own part */
    size_t thread_size;
    size_t total;
} phi3_linear_layout;

phi3_linear_layout phi3_matrix_layout(const phi3_matrix *matrix, size_t n_rows, int n_threads);

#endif
