/*
 * top_k.c - the CPU backend's choice of the highest logits, one row per thread.
 *
 * A sorted list of the k highest so far; a scan leaps to the next logit that is higher than the last
 * of them. On logits in no particular order that happens about k log(n / k) times in n.
 */
#include <math.h>
#include <string.h>

#include "cpu.h"
#include "kernels.h"
#include "parallel.h"

/* Waking the threads costs more than this many logits. */
enum { MIN_PARALLEL_LOGITS = 262144 };

typedef struct selection {
    const float *logits; /* [n_rows][n_columns] */
    size_t n_columns;
    size_t k;
    float *values; /* [n_rows][k], or NULL */
    int32_t *ids;  /* [n_rows][k] */
} selection;

/* NaN is the highest. */
static bool is_higher(float a, float b)
{
    return isnan(a) ? !isnan(b) : a > b;
}

/* Puts a logit behind its equals in a list of `count`, and returns its new length, at most k. */
static size_t insert(float *values, int32_t *ids, size_t count, size_t k, float value,
                     int32_t column)
{
    size_t place = count < k ? count : k;
    while (place > 0 && is_higher(value, values[place - 1]))
        place--;
    if (place == k)
        return k;
    size_t length = count < k ? count + 1 : k;
    memmove(values + place + 1, values + place, (length - place - 1) * sizeof *values);
    memmove(ids + place + 1, ids + place, (length - place - 1) * sizeof *ids);
    values[place] = value;
    ids[place] = column;
    return length;
}

static void select_row(void *context, size_t row, int thread)
{
    (void)thread;
    const selection *s = context;
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    const float *logits = s->logits + row * s->n_columns;
    int32_t *ids = s->ids + row * s->k;
    float values[PHI3_TOP_K_MAX];
    size_t count = 0, column = 0;
    for (; column < s->n_columns && count < s->k; column++)
        count = insert(values, ids, count, s->k, logits[column], (int32_t)column);
    while (column < s->n_columns) {
        column = kernels->find_above(logits, column, s->n_columns, values[s->k - 1]);
        if (column < s->n_columns)
            insert(values, ids, s->k, s->k, logits[column], (int32_t)column);
        column++;
    }
    for (; count < s->k; count++) {
        values[count] = -INFINITY;
        ids[count] = -1;
    }
    if (s->values)
        memcpy(s->values + row * s->k, values, s->k * sizeof *values);
}

size_t phi3_cpu_top_k_scratch(size_t n_rows, size_t n_columns, size_t k)
{
    (void)n_rows, (void)n_columns, (void)k;
    return 0;
}

phi3_status phi3_cpu_top_k(const phi3_exec *exec, const float *logits, size_t n_rows,
                           size_t n_columns, size_t k, float *values, int32_t *ids)
{
    selection s = {logits, n_columns, k, values, ids};
    int n_threads = n_rows * n_columns < MIN_PARALLEL_LOGITS ? 1 : exec->n_threads;
    phi3_parallel(n_threads, n_rows, select_row, &s);
    return PHI3_OK;
}
