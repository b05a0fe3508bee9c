/* matrix_parts.c - checks and look-ups on the parts of a weight matrix. */
#include "matrix_parts.h"

#include "core/base/error.h"

phi3_status phi3_parts_check(const phi3_tensor *parts, size_t n_parts, size_t *n_rows,
                             phi3_error *error)
{
    size_t rows = 0;
    for (size_t i = 0; i < n_parts; i++) {
        const phi3_dtype_info *traits = phi3_dtype_traits(parts[i].dtype);
        if (!traits)
            return phi3_fail(error, PHI3_ERROR_UNSUPPORTED, "a matrix of the unknown format %d",
                             (int)parts[i].dtype);
        if (parts[i].n_columns != parts[0].n_columns || parts[i].n_columns % traits->block_size)
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                             "a %s matrix of %zu columns, in blocks of %zu, below one of %zu",
                             traits->name, parts[i].n_columns, traits->block_size,
                             parts[0].n_columns);
        if (phi3_add_overflows(rows, parts[i].n_rows, &rows))
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "a matrix with too many rows");
    }
    if (!rows || !parts[0].n_columns)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "an empty matrix");
    *n_rows = rows;
    return PHI3_OK;
}

const void *phi3_parts_row(const phi3_tensor *parts, size_t row, phi3_dtype *dtype)
{
    while (row >= parts->n_rows) {
        row -= parts->n_rows;
        parts++;
    }
    *dtype = parts->dtype;
    return (const char *)parts->data + row * phi3_dtype_row_bytes(parts->dtype, parts->n_columns);
}
