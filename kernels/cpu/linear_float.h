/*
 * linear_float.h - products with weights that are read where they are stored, exact in float32 or
 * with both sides rounded to bfloat16.
 *
 * A few rows of activations multiply the stored rows of weights as they come; quantised ones are
 * expanded for it, in registers when there is one row, a few at a time when there are more. Many
 * rows multiply panels, into which each thread turns its share of the weights on the way: that takes
 * 3 % of a prefill and no memory. All add in the same order (isa/units.h): a row's result is the
 * same to the bit however many come with it.
 */
#ifndef PHI3_CPU_LINEAR_FLOAT_H
#define PHI3_CPU_LINEAR_FLOAT_H

#include "kernels.h"

/* Rows of activations, and the form in which the products read them. */
typedef struct phi3_float_x {
    const float *rows; /* [n_rows][n_columns] */
    size_t n_rows;
    size_t n_columns;
    bool bfloat16;
    void *converted; /* phi3_float_x_bytes, 64-byte aligned */
} phi3_float_x;

/* Bytes of `converted`, and of a thread's scratch; both multiples of 64. */
size_t phi3_float_x_bytes(const phi3_float_x *x);
size_t phi3_float_scratch_bytes(const phi3_float_x *x);

/* Fills `converted`, before the first product. */
void phi3_float_x_convert(const phi3_float_x *x, int n_threads);

/* y = x w^T on this thread.     w [n_out][x.n_columns] of any dtype, at any alignment; y
 * [x.n_rows][n_out], rows y_stride apart */
void phi3_float_multiply(const phi3_float_x *x, const phi3_tensor *w, void *scratch, float *y,
                         size_t y_stride);

#endif
