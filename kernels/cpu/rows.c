/* rows.c - the CPU backend's ops that work row by row: norm, gated activation, gather. */
#include <string.h>

#include "cpu.h"
#include "kernels.h"

/* Waking the threads costs more than this many elements of work. */
enum { MIN_PARALLEL_ELEMENTS = 16384 };

static int threads_for(const phi3_exec *exec, size_t n_rows, size_t n_columns)
{
    return n_rows * n_columns < MIN_PARALLEL_ELEMENTS ? 1 : exec->n_threads;
}

phi3_status phi3_cpu_add_rms_norm(const phi3_exec *exec, float *x, const float *delta,
                                  const float *weight, float epsilon, size_t n_rows,
                                  size_t n_columns, float *out)
{
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
#pragma omp parallel for num_threads(threads_for(exec, n_rows, n_columns))
    for (size_t r = 0; r < n_rows; r++) {
        size_t at = r * n_columns;
        kernels->add_rms_norm(x + at, delta ? delta + at : NULL, weight, epsilon, n_columns,
                              out + at);
    }
    return PHI3_OK;
}

phi3_status phi3_cpu_swiglu(const phi3_exec *exec, const float *gate_up, size_t n_rows,
                            size_t n_columns, float *out)
{
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
#pragma omp parallel for num_threads(threads_for(exec, n_rows, n_columns))
    for (size_t r = 0; r < n_rows; r++) {
        const float *gate = gate_up + 2 * r * n_columns;
        kernels->swiglu(gate, gate + n_columns, n_columns, out + r * n_columns);
    }
    return PHI3_OK;
}

phi3_status phi3_cpu_gather_rows(const phi3_exec *exec, const float *x, const size_t *rows,
                                 size_t n_rows, size_t n_columns, float *out)
{
    (void)exec;
    for (size_t r = 0; r < n_rows; r++)
        memcpy(out + r * n_columns, x + rows[r] * n_columns, n_columns * sizeof *out);
    return PHI3_OK;
}
