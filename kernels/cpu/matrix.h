/*
 * matrix.h - a weight matrix of the CPU backend, and how a product with it is computed.
 *
 * The way depends on a part's format and on what the CPU has:
 *   - with AMX, many rows of activations, and quantised weights or bfloat16: tiles of bfloat16
 *     (linear_tiles.h). Of the rest:
 *   - quantised: our integer kernels, from packed panels (packed.h), with the activations quantised
 *     to 8 bits;
 *   - bfloat16: products of bfloat16, where the CPU has them: of many rows through oneDNN
 *     (linear_onednn.h), else our own;
 *   - else (float16, too, which has 3 bits more than bfloat16), and with PHI3_COMPUTE_FLOAT32:
 *     products of float32. Tiles of weights are expanded where they are quantised.
 * Weights that are not packed are read in place (linear_float.h). But for tiles and oneDNN, which take
 * many rows another way than few, a row's result does not depend on how many come with it: a
 * conversation that goes on from its cache gives the tokens of one computed afresh. An exec that asks
 * for batch_invariant does without these two.
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
    PHI3_WAY_BFLOAT16,
    PHI3_WAY_FLOAT32,
    PHI3_WAY_ONEDNN,
    PHI3_WAY_TILES
} phi3_way;

enum { PHI3_WAYS = 5 };

/* How part number `part` of the matrix is multiplied with n_rows rows of activations; batch_invariant:
 * without the ways that only many rows go. */
phi3_way phi3_matrix_way(const phi3_matrix *matrix, size_t part, size_t n_rows,
                         bool batch_invariant);

/* Most rows of activations that go over a panel together. */
enum { PHI3_INT8_ROWS = 48 };

/* Where things stand in the scratch of a linear. Offsets and sizes in bytes; what no part needs takes
 * none. */
typedef struct phi3_linear_layout {
    size_t converted[PHI3_WAYS]; /* the activations as each way reads them */
    size_t threads;              /* the first thread's own part */
    size_t thread_size;
    size_t total;
} phi3_linear_layout;

phi3_linear_layout phi3_matrix_layout(const phi3_matrix *matrix, size_t n_rows,
                                      bool batch_invariant, int n_threads);

#endif
