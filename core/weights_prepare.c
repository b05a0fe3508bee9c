/*
 * weights_prepare.c - what happens to a stored matrix before all of it is read, and after.
 *
 * In: the parts of a matrix inside mapped files. Out: the parts, checked, with their rows in order;
 * or an error that names file, tensor and fault.
 */
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "weights.h"
#include "weights_check.h"

static size_t part_bytes(const phi3_tensor *part)
{
    return part->n_rows * phi3_dtype_row_bytes(part->dtype, part->n_columns);
}

/* llama.cpp's converter interleaves the halves of every head: row 2i of a head is Hugging Face's row
 * i, and row 2i + 1 its row i + head_dim/2. As raw rows of any dtype. */
static void put_rows_in_order(const phi3_tensor *part, size_t head_dim, uint8_t *out)
{
    const uint8_t *stored = part->data;
    size_t row_bytes = phi3_dtype_row_bytes(part->dtype, part->n_columns), half = head_dim / 2;
    for (size_t row = 0; row < part->n_rows; row++) {
        size_t in_head = row % head_dim;
        size_t from = row - in_head + (in_head % half) * 2 + in_head / half;
        memcpy(out + row * row_bytes, stored + from * row_bytes, row_bytes);
    }
}

static phi3_status put_in_order(phi3_matrix_parts *parts, phi3_error *error)
{
    size_t first_bytes = part_bytes(&parts->part[0]);
    uint8_t *copy = malloc(first_bytes + part_bytes(&parts->part[1]));
    if (!copy)
        return phi3_fail_memory(error, "query and key weights");
    parts->in_order = copy;
    for (size_t i = 0; i < 2; i++) {
        phi3_tensor *part = &parts->part[i];
        uint8_t *to = copy + (i == 0 ? 0 : first_bytes);
        put_rows_in_order(part, parts->interleaved_head, to);
        parts->interleaved[i] = part->data;
        part->data = to;
    }
    return PHI3_OK;
}

phi3_status phi3_weights_prepare(phi3_matrix_parts *parts, int n_threads, phi3_error *error)
{
    if (parts->in_order)
        return PHI3_OK;
    for (size_t i = 0; i < parts->count; i++)
        PHI3_TRY(
            phi3_check_scales(parts->file[i], parts->name[i], &parts->part[i], n_threads, error));
    return parts->interleaved_head ? put_in_order(parts, error) : PHI3_OK;
}

void phi3_weights_release(phi3_matrix_parts *parts)
{
    if (parts->in_order) {
        free(parts->in_order);
        parts->in_order = NULL;
        parts->part[0].data = parts->interleaved[0];
        parts->part[1].data = parts->interleaved[1];
    }
    for (size_t i = 0; i < parts->count; i++)
        phi3_file_release(parts->part[i].data, part_bytes(&parts->part[i]));
}

void phi3_weights_expect(const phi3_matrix_parts *parts)
{
    for (size_t i = 0; i < parts->count; i++)
        phi3_file_expect(parts->part[i].data, part_bytes(&parts->part[i]));
}
