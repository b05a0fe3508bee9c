/* rows.c - the reference backend's ops that work row by row: norm, gated activation, gather. */
#include <math.h>
#include <string.h>

#include "reference.h"

phi3_status phi3_reference_add_rms_norm(const phi3_exec *exec, float *x, const float *delta,
                                        const float *weight, float epsilon, size_t n_rows,
                                        size_t n_columns, float *out)
{
    (void)exec;
    for (size_t r = 0; r < n_rows; r++) {
        float *row = x + r * n_columns;
        double sum = 0;
        for (size_t i = 0; i < n_columns; i++) {
            if (delta)
                row[i] += delta[r * n_columns + i];
            sum += (double)row[i] * row[i];
        }
        double scale = 1 / sqrt(sum / (double)n_columns + epsilon);
        for (size_t i = 0; i < n_columns; i++)
            out[r * n_columns + i] = (float)(weight[i] * (row[i] * scale));
    }
    return PHI3_OK;
}

phi3_status phi3_reference_swiglu(const phi3_exec *exec, const float *gate_up, size_t n_rows,
                                  size_t n_columns, float *out)
{
    (void)exec;
    for (size_t r = 0; r < n_rows; r++) {
        const float *gate = gate_up + 2 * r * n_columns;
        const float *up = gate + n_columns;
        for (size_t i = 0; i < n_columns; i++) {
            double silu = gate[i] / (1 + exp(-(double)gate[i]));
            out[r * n_columns + i] = (float)(silu * up[i]);
        }
    }
    return PHI3_OK;
}

phi3_status phi3_reference_gather_rows(const phi3_exec *exec, const float *x, const size_t *rows,
                                       size_t n_rows, size_t n_columns, float *out)
{
    (void)exec;
    for (size_t r = 0; r < n_rows; r++)
        memcpy(out + r * n_columns, x + rows[r] * n_columns, n_columns * sizeof *out);
    return PHI3_OK;
}
