/*
 * linear.c - weight matrices of the reference backend: embed and linear.
 *
 * In: the stored rows as they lie in the file. Each is expanded to float32 in the scratch when it
 * is needed, and products are summed in double.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "kernels/matrix_parts.h"
#include "reference.h"

struct phi3_matrix {
    size_t n_rows;
    size_t n_columns;
    phi3_tensor parts[]; /* one below the other */
};

phi3_status phi3_reference_matrix_create(const phi3_tensor *parts, size_t n_parts,
                                         phi3_compute compute, const void *packed,
                                         phi3_matrix **matrix, phi3_error *error)
{
    (void)compute; /* always the most exact way */
    (void)packed;  /* reads the parts in place */
    size_t n_rows = 0;
    PHI3_TRY(phi3_parts_check(parts, n_parts, &n_rows, error));
    phi3_matrix *created = malloc(sizeof *created + n_parts * sizeof *parts);
    if (!created)
        return phi3_fail_memory(error, "a weight matrix");
    created->n_rows = n_rows;
    created->n_columns = parts[0].n_columns;
    memcpy(created->parts, parts, n_parts * sizeof *parts);
    *matrix = created;
    return PHI3_OK;
}

size_t phi3_reference_matrix_packed_size(const phi3_tensor *parts, size_t n_parts,
                                         phi3_compute compute)
{
    (void)parts, (void)n_parts, (void)compute;
    return 0;
}

bool phi3_reference_matrix_pack(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                                int n_threads, void *packed)
{
    (void)parts, (void)n_parts, (void)compute, (void)n_threads, (void)packed;
    return true;
}

void phi3_reference_matrix_free(phi3_matrix *matrix)
{
    free(matrix);
}

size_t phi3_reference_matrix_scratch(const phi3_matrix *matrix, size_t n_rows, int n_threads)
{
    (void)n_rows, (void)n_threads;
    return matrix->n_columns * sizeof(float);
}

static void expand_row(const phi3_matrix *matrix, size_t row, float *out)
{
    phi3_dtype dtype;
    const void *stored = phi3_parts_row(matrix->parts, row, &dtype);
    phi3_dequantize_row(dtype, stored, matrix->n_columns, out);
}

phi3_status phi3_reference_embed(const phi3_exec *exec, const phi3_matrix *table,
                                 const int32_t *ids, size_t n_rows, float *out)
{
    (void)exec;
    for (size_t r = 0; r < n_rows; r++)
        expand_row(table, (size_t)ids[r], out + r * table->n_columns);
    return PHI3_OK;
}

phi3_status phi3_reference_linear(const phi3_exec *exec, const phi3_matrix *weight, const float *x,
                                  size_t n_rows, float *y)
{
    size_t n_columns = weight->n_columns;
    float *row = exec->scratch; /* [n_columns] */
    for (size_t o = 0; o < weight->n_rows; o++) {
        expand_row(weight, o, row);
        for (size_t r = 0; r < n_rows; r++) {
            double sum = 0;
            for (size_t i = 0; i < n_columns; i++)
                sum += (double)row[i] * x[r * n_columns + i];
            y[r * weight->n_rows + o] = (float)sum;
        }
    }
    return PHI3_OK;
}
