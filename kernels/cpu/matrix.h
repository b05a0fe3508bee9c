/*
 * matrix.h - a weight matrix of the CPU backend, and how a product with it is computed.
 *
 * The weights stay where they are, in the mapped file. Which way a part is multiplied depends on
 * its format, on the number of rows and on what the CPU has:
 *   - quantised: our integer kernels, with the activations quantised to 8 bits. All rows go this
 *     way, few or many: a row's result then does not depend on how many come with it, and a
 *     conversation that goes on from its cache gives the tokens of one computed afresh;
 *   - a few rows of floats of any size: our float kernels;
 *   - a few rows, otherwise: tiles of weights expanded to float32, and our float kernels;
 *   - many rows: panels of weight rows expanded to float32 or bfloat16 where they are not already,
 *     and oneDNN.
 * PHI3_COMPUTE_FLOAT32 leaves out the integers and bfloat16.
 */
#ifndef PHI3_CPU_MATRIX_H
#define PHI3_CPU_MATRIX_H

#include "kernels.h"

struct phi3_matrix {
    size_t n_rows;
    size_t n_columns;
    phi3_compute compute;
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

/* How `part` of the matrix is multiplied with n_rows rows of activations. */
phi3_way phi3_matrix_way(const phi3_matrix *matrix, const phi3_tensor *part, size_t n_rows);

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
    PHI3_PANEL_ROWS = 128 /* most weight rows of one call of oneDNN */
};

/* Weight rows in a panel: few enough to stay in the second-level cache, and to go round. */
size_t phi3_matrix_panel_rows(const phi3_matrix *matrix, int n_threads);

/* Where things stand in the scratch of a linear. Offsets and sizes in bytes. */
typedef struct phi3_linear_layout {
    size_t codes, scales, sums; /* the activations in 8 bits: phi3_int8_rows */
    size_t bfloat16;            /* [n_rows][n_columns] the activations in bfloat16 */
    size_t threads;             /* the first thread's own part */
    size_t thread_size;
    size_t total;
} phi3_linear_layout;

phi3_linear_layout phi3_matrix_layout(const phi3_matrix *matrix, size_t n_rows, int n_threads);

/* Columns of the activations' 8-bit form. */
size_t phi3_matrix_padded_columns(const phi3_matrix *matrix);

#endif
