/* matrix_parts.h - checks and look-ups on the parts of a weight matrix, for host backends. */
#ifndef PHI3_MATRIX_PARTS_H
#define PHI3_MATRIX_PARTS_H

#include "backend.h"

/* Checks that the parts can stand below each other: known formats, whole blocks, one width.
 * *n_rows gets the sum of their rows. */
phi3_status phi3_parts_check(const phi3_tensor *parts, size_t n_parts, size_t *n_rows,
                             phi3_error *error);

/* Row `row` of the whole matrix: its bytes, and its format in *dtype. */
const void *phi3_parts_row(const phi3_tensor *parts, size_t row, phi3_dtype *dtype);

#endif
