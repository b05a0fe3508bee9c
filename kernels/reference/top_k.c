/* top_k.c - the reference backend's choice of the highest logits: row by row, one logit after the
 * other is put into its place in a sorted list. */
#include <math.h>
#include <string.h>

#include "reference.h"

static bool is_higher(float a, float b)
{
    return isnan(a) ? !isnan(b) : a > b;
}

/* Puts a logit into a list of k, of which it is the column's turn: after its equals. */
static void insert(float *values, int32_t *ids, size_t k, float value, int32_t column)
{
    size_t place = k;
    while (place > 0 && (ids[place - 1] < 0 || is_higher(value, values[place - 1])))
        place--;
    if (place == k)
        return;
    memmove(values + place + 1, values + place, (k - place - 1) * sizeof *values);
    memmove(ids + place + 1, ids + place, (k - place - 1) * sizeof *ids);
    values[place] = value;
    ids[place] = column;
}

size_t phi3_reference_top_k_scratch(size_t n_rows, size_t n_columns, size_t k)
{
    (void)n_rows, (void)n_columns, (void)k;
    return 0;
}

phi3_status phi3_reference_top_k(const phi3_exec *exec, const float *logits, size_t n_rows,
                                 size_t n_columns, size_t k, float *values, int32_t *ids)
{
    (void)exec;
    for (size_t r = 0; r < n_rows; r++) {
        float list[PHI3_TOP_K_MAX];
        for (size_t i = 0; i < k; i++) {
            list[i] = -INFINITY;
            ids[r * k + i] = -1;
        }
        for (size_t c = 0; c < n_columns; c++)
            insert(list, ids + r * k, k, logits[r * n_columns + c], (int32_t)c);
        if (values)
            memcpy(values + r * k, list, k * sizeof *list);
    }
    return PHI3_OK;
}
