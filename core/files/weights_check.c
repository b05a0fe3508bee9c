/*
 * weights_check.c - looks for NaN and infinity where one of them spoils everything: in the weights of
 * norms and in the scales of quantised blocks.
 *
 * In: a tensor inside a mapped file. Out: PHI3_OK, or an error that names file, tensor and place.
 */
#include "weights_check.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"

phi3_status phi3_check_norm(const char *path, const char *name, const phi3_tensor *norm,
                            phi3_error *error)
{
    if (phi3_dtype_traits(norm->dtype)->block_size != 1)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: tensor '%s' is a norm stored as %s; floats are needed", path, name,
                         phi3_dtype_traits(norm->dtype)->name);
    float *values = malloc(norm->n_columns * sizeof *values);
    if (!values)
        return phi3_fail_memory(error, "a norm's weights");
    phi3_dequantize_row(norm->dtype, norm->data, norm->n_columns, values);
    size_t i = 0;
    while (i < norm->n_columns && isfinite(values[i]))
        i++;
    free(values);
    if (i < norm->n_columns)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%s' holds NaN or infinity at element %zu", path, name, i);
    return PHI3_OK;
}

phi3_status phi3_check_scales(const char *path, const char *name, const phi3_tensor *tensor,
                              int n_threads, phi3_error *error)
{
    size_t row = phi3_find_bad_scale(tensor->dtype, tensor->data, tensor->n_rows, tensor->n_columns,
                                     n_threads);
    if (row == tensor->n_rows)
        return PHI3_OK;
    return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                     "%s: tensor '%s' has a block in row %zu whose scale is NaN or infinite", path,
                     name, row);
}

phi3_status phi3_fail_row(const char *path, const char *name, const phi3_tensor *tensor, size_t row,
                          phi3_dtype dtype, phi3_error *error)
{
    size_t row_bytes = phi3_dtype_row_bytes(tensor->dtype, tensor->n_columns), i = 0;
    float *values = malloc(tensor->n_columns * sizeof *values);
    if (!values)
        return phi3_fail_memory(error, "a row of weights");
    phi3_dequantize_row(tensor->dtype, (const uint8_t *)tensor->data + row * row_bytes,
                        tensor->n_columns, values);
    while (i < tensor->n_columns && isfinite(values[i]))
        i++;
    free(values);
    if (i < tensor->n_columns)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%s' holds NaN or infinity in row %zu, column %zu", path, name,
                         row, i);
    return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                     "%s: tensor '%s' has a number in row %zu that is too large for %s", path, name,
                     row, phi3_dtype_traits(dtype)->name);
}
