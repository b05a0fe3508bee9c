/*
 * weights_prepare.c - what happens to a stored matrix before all of it is read, and after.
 *
 * In: the parts of a matrix inside mapped files. Out: the parts with their rows in order, and quantised
 * where that is asked for; or an error that names file, tensor and fault.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "weights.h"
#include "weights_check.h"

static size_t part_bytes(const phi3_tensor *part)
{
    return part->n_rows * phi3_dtype_row_bytes(part->dtype, part->n_columns);
}

/* llama.cpp's converter interleaves the halves of every head: row 2i of a head is Hugging Face's row
 * i, and row 2i + 1 its row i + head_dim/2. As raw rows of any dtype. */
static size_t stored_row(size_t row, size_t head_dim)
{
    size_t in_head = row % head_dim, half = head_dim / 2;
    return row - in_head + (in_head % half) * 2 + in_head / half;
}

static void put_rows_in_order(const phi3_tensor *stored, size_t head_dim, uint8_t *out)
{
    size_t row_bytes = phi3_dtype_row_bytes(stored->dtype, stored->n_columns);
    for (size_t row = 0; row < stored->n_rows; row++)
        memcpy(out + row * row_bytes,
               (const uint8_t *)stored->data + stored_row(row, head_dim) * row_bytes, row_bytes);
}

static bool is_interleaved(const phi3_matrix_parts *parts, size_t i)
{
    return parts->interleaved_head > 0 && i < 2;
}

static bool is_quantized(const phi3_matrix_parts *parts, size_t i)
{
    return parts->part[i].dtype != parts->stored[i].dtype;
}

/* Rounds a part whose rows are in order at `rows`. */
static phi3_status quantize(const phi3_matrix_parts *parts, size_t i, const void *rows,
                            int n_threads, void *out, phi3_error *error)
{
    const phi3_tensor *stored = &parts->stored[i], *part = &parts->part[i];
    size_t row = phi3_convert_rows(stored->dtype, rows, stored->n_rows, stored->n_columns,
                                   part->dtype, out, n_threads);
    if (row == stored->n_rows)
        return PHI3_OK;
    if (is_interleaved(parts, i))
        row = stored_row(row, parts->interleaved_head);
    return phi3_fail_row(parts->file[i], parts->name[i], stored, row, part->dtype, error);
}

/* Makes part i at `out`. */
static phi3_status make_part(phi3_matrix_parts *parts, size_t i, int n_threads, uint8_t *out,
                             phi3_error *error)
{
    const phi3_tensor *stored = &parts->stored[i];
    if (!is_interleaved(parts, i))
        return quantize(parts, i, stored->data, n_threads, out, error);
    if (!is_quantized(parts, i)) {
        put_rows_in_order(stored, parts->interleaved_head, out);
        return PHI3_OK;
    }
    uint8_t *in_order = malloc(part_bytes(stored));
    if (!in_order)
        return phi3_fail_memory(error, "query and key weights");
    put_rows_in_order(stored, parts->interleaved_head, in_order);
    phi3_status status = quantize(parts, i, in_order, n_threads, out, error);
    free(in_order);
    return status;
}

phi3_status phi3_weights_check(const phi3_matrix_parts *parts, int n_threads, phi3_error *error)
{
    for (size_t i = 0; i < parts->count; i++)
        PHI3_TRY(
            phi3_check_scales(parts->file[i], parts->name[i], &parts->stored[i], n_threads, error));
    return PHI3_OK;
}

phi3_status phi3_weights_prepare(phi3_matrix_parts *parts, int n_threads, phi3_error *error)
{
    size_t copy_bytes = 0;
    if (parts->copy)
        return PHI3_OK;
    for (size_t i = 0; i < parts->count; i++) {
        if (is_interleaved(parts, i) || is_quantized(parts, i))
            copy_bytes += part_bytes(&parts->part[i]);
    }
    if (copy_bytes == 0)
        return PHI3_OK;
    uint8_t *next = parts->copy = malloc(copy_bytes);
    if (!next)
        return phi3_fail_memory(error, "the weights of a matrix");
    for (size_t i = 0; i < parts->count; i++) {
        if (!is_interleaved(parts, i) && !is_quantized(parts, i))
            continue;
        PHI3_TRY(make_part(parts, i, n_threads, next, error));
        parts->part[i].data = next;
        next += part_bytes(&parts->part[i]);
    }
    return PHI3_OK;
}

void phi3_weights_release(phi3_matrix_parts *parts)
{
    bool keeps_copy = parts->is_table && parts->copy;
    if (!keeps_copy) {
        free(parts->copy);
        parts->copy = NULL;
    }
    for (size_t i = 0; i < parts->count; i++) {
        if (!keeps_copy)
            parts->part[i].data = is_quantized(parts, i) ? NULL : parts->stored[i].data;
        phi3_file_release(parts->stored[i].data, part_bytes(&parts->stored[i]));
    }
}

void phi3_weights_expect(const phi3_matrix_parts *parts)
{
    for (size_t i = 0; i < parts->count; i++)
        phi3_file_expect(parts->stored[i].data, part_bytes(&parts->stored[i]));
}
