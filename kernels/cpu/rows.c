/* rows.c - the CPU backend's ops that work row by row: norm, gated activation, gather. */
#include <string.h>

#include "cpu.h"
#include "kernels.h"
#include "parallel.h"

/* Waking the threads costs more than this many elements of work. */
enum { MIN_PARALLEL_ELEMENTS = 16384 };

static int threads_for(const phi3_exec *exec, size_t n_rows, size_t n_columns)
{
    return n_rows * n_columns < MIN_PARALLEL_ELEMENTS ? 1 : exec->n_threads;
}

typedef struct norm {
    float *x, *out;      /* [n_rows][n_columns] */
    const float *delta;  /* the same, or NULL */
    const float *weight; /* [n_columns] */
    float epsilon;
    size_t n_columns;
} norm;

static void norm_row(void *context, size_t row, int thread)
{
    (void)thread;
    const norm *n = context;
    size_t at = row * n->n_columns;
    phi3_cpu_kernels_current()->add_rms_norm(n->x + at, n->delta ? n->delta + at : NULL, n->weight,
                                             n->epsilon, n->n_columns, n->out + at);
}

phi3_status phi3_cpu_add_rms_norm(const phi3_exec *exec, float *x, const float *delta,
                                  const float *weight, float epsilon, size_t n_rows,
                                  size_t n_columns, float *out)
{
    norm n = {x, out, delta, weight, epsilon, n_columns};
    phi3_parallel(threads_for(exec, n_rows, n_columns), n_rows, norm_row, &n);
    return PHI3_OK;
}

typedef struct activation {
    const float *gate_up; /* [n_rows][2 n_columns] */
    size_t n_columns;
    float *out; /* [n_rows][n_columns] */
} activation;

static void swiglu_row(void *context, size_t row, int thread)
{
    (void)thread;
    const activation *a = context;
    const float *gate = a->gate_up + 2 * row * a->n_columns;
    phi3_cpu_kernels_current()->swiglu(gate, gate + a->n_columns, a->n_columns,
                                       a->out + row * a->n_columns);
}

phi3_status phi3_cpu_swiglu(const phi3_exec *exec, const float *gate_up, size_t n_rows,
                            size_t n_columns, float *out)
{
    activation a = {gate_up, n_columns, out};
    phi3_parallel(threads_for(exec, n_rows, n_columns), n_rows, swiglu_row, &a);
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
