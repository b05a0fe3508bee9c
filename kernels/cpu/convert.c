/*
 * convert.c - rows of one format to another, on several threads.
 *
 * In: stored rows. Out: stored rows. What lies between, float32, is a piece of a row on the stack of
 * each thread, so nothing is allocated.
 */
#include <stdatomic.h>

#include "kernels.h"
#include "kernels/blocks.h"
#include "parallel.h"

enum { PIECE = 4 * PHI3_SUPER_BLOCK, TASK_ELEMENTS = 1 << 15 };

bool phi3_quantize_row(phi3_dtype dtype, const float *row, size_t n_columns, void *out)
{
    return phi3_cpu_kernels_current()->quantize_weights(dtype, row, n_columns, out);
}

typedef struct conversion {
    const phi3_cpu_kernels *kernels;
    phi3_dtype from, to;
    const uint8_t *rows;
    uint8_t *out;
    size_t n_rows, n_columns;
    size_t task_rows;
    atomic_size_t first_bad;
} conversion;

static bool convert_row(const conversion *c, const uint8_t *from, uint8_t *to)
{
    float piece[PIECE];
    for (size_t i = 0; i < c->n_columns; i += PIECE) {
        size_t count = c->n_columns - i < PIECE ? c->n_columns - i : PIECE;
        c->kernels->dequantize_row(c->from, from + phi3_dtype_row_bytes(c->from, i), count, piece);
        if (!c->kernels->quantize_weights(c->to, piece, count, to + phi3_dtype_row_bytes(c->to, i)))
            return false;
    }
    return true;
}

static void note_bad_row(conversion *c, size_t row)
{
    size_t first = atomic_load(&c->first_bad);
    while (row < first && !atomic_compare_exchange_weak(&c->first_bad, &first, row))
        ;
}

static void convert_task(void *context, size_t task, int thread)
{
    (void)thread;
    conversion *c = context;
    size_t from_bytes = phi3_dtype_row_bytes(c->from, c->n_columns);
    size_t to_bytes = phi3_dtype_row_bytes(c->to, c->n_columns);
    size_t end = (task + 1) * c->task_rows < c->n_rows ? (task + 1) * c->task_rows : c->n_rows;
    for (size_t row = task * c->task_rows; row < end; row++) {
        if (!convert_row(c, c->rows + row * from_bytes, c->out + row * to_bytes))
            note_bad_row(c, row);
    }
}

size_t phi3_convert_rows(phi3_dtype from, const void *rows, size_t n_rows, size_t n_columns,
                         phi3_dtype to, void *out, int n_threads)
{
    conversion c = {.kernels = phi3_cpu_kernels_current(),
                    .from = from,
                    .to = to,
                    .rows = rows,
                    .out = out,
                    .n_rows = n_rows,
                    .n_columns = n_columns,
                    .task_rows = n_columns < TASK_ELEMENTS ? TASK_ELEMENTS / n_columns : 1};
    atomic_init(&c.first_bad, n_rows);
    phi3_parallel(n_threads, (n_rows + c.task_rows - 1) / c.task_rows, convert_task, &c);
    return atomic_load(&c.first_bad);
}
