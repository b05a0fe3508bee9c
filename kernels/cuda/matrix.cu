/*
 * matrix.cu - weights on their way into device memory.
 *
 * In: stored rows in host memory. Out: planes (planes.h). Rows are taken apart on the host, a few
 * megabytes at a time, while the last ones are copied.
 */
#include "matrix.h"

#include <stdlib.h>
#include <string.h>

#include "upload.h"

extern "C" {
#include "kernels/matrix_parts.h"
}

/* ---- The fields of each format ---------------------------------------------------------------------- */

typedef struct format_fields {
    phi3_dtype dtype;
    phi3_field fields[PHI3_MAX_PLANES]; /* in the order that pieces.h names; size 0: no more */
} format_fields;

static const format_fields formats[] = {
    {PHI3_F32, {{0, 4}}},
    {PHI3_F16, {{0, 2}}},
    {PHI3_BF16, {{0, 2}}},
    {PHI3_Q4_0, {{2, 16}, {0, 2}}},
    {PHI3_Q4_1, {{4, 16}, {0, 2}, {2, 2}}},
    {PHI3_Q5_0, {{6, 16}, {0, 2}, {2, 4}}},
    {PHI3_Q5_1, {{8, 16}, {0, 2}, {2, 2}, {4, 4}}},
    {PHI3_Q8_0, {{2, 32}, {0, 2}}},
    {PHI3_IQ4_NL, {{2, 16}, {0, 2}}},
    {PHI3_Q2_K, {{16, 64}, {0, 16}, {80, 4}}},
    {PHI3_Q3_K, {{32, 64}, {0, 32}, {96, 12}, {108, 2}}},
    {PHI3_Q4_K, {{16, 128}, {0, 16}}},
    {PHI3_Q5_K, {{48, 128}, {0, 16}, {16, 32}}},
    {PHI3_Q6_K, {{0, 128}, {128, 64}, {192, 16}, {208, 2}}},
    {PHI3_IQ4_XS, {{8, 128}, {4, 4}, {2, 2}, {0, 2}}},
};

static const phi3_field *fields_of(phi3_dtype dtype)
{
    for (const format_fields &format : formats)
        if (format.dtype == dtype)
            return format.fields;
    return NULL;
}

/* ---- Upload ------------------------------------------------------------------------------------------ */

enum { PLANE_ALIGNMENT = 256 };

static size_t plane_bytes(const phi3_tensor *part, const phi3_field *field)
{
    size_t n_blocks = part->n_columns / phi3_dtype_traits(part->dtype)->block_size;
    return part->n_rows * n_blocks * field->size;
}

static size_t aligned(size_t size)
{
    return (size + PLANE_ALIGNMENT - 1) / PLANE_ALIGNMENT * PLANE_ALIGNMENT;
}

/* Copies one field of `count` blocks that follow each other. */
static void gather_field(const uint8_t *blocks, size_t block_bytes, phi3_field field, size_t count,
                         uint8_t *out)
{
    if (field.size == block_bytes) {
        memcpy(out, blocks, count * block_bytes);
        return;
    }
    for (size_t b = 0; b < count; b++)
        memcpy(out + b * field.size, blocks + b * block_bytes + field.offset, field.size);
}

static phi3_status upload_plane(const phi3_tensor *part, phi3_field field, phi3_upload *upload,
                                uint8_t *plane)
{
    const phi3_dtype_info *traits = phi3_dtype_traits(part->dtype);
    size_t n_blocks = part->n_rows * (part->n_columns / traits->block_size);
    size_t at_once = PHI3_STAGING_BYTES / field.size;
    const uint8_t *from = (const uint8_t *)part->data;
    for (size_t first = 0; first < n_blocks; first += at_once) {
        size_t count = n_blocks - first < at_once ? n_blocks - first : at_once;
        uint8_t *staging = phi3_upload_buffer(upload);
        if (staging == NULL)
            return PHI3_ERROR_DEVICE;
        gather_field(from + first * traits->block_bytes, traits->block_bytes, field, count,
                     staging);
        PHI3_TRY(phi3_upload_send(upload, plane + first * field.size, count * field.size));
    }
    return PHI3_OK;
}

static phi3_status fail_device_memory(size_t wanted, phi3_error *error)
{
    size_t available = 0, total = 0;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&available, &total);
    return phi3_fail(error, PHI3_ERROR_OUT_OF_MEMORY,
                     "the device's memory is too small: %zu MiB more are needed, %zu of %zu MiB "
                     "are free",
                     wanted >> 20, available >> 20, total >> 20);
}

static size_t part_bytes(const phi3_tensor *part)
{
    const phi3_field *fields = fields_of(part->dtype);
    size_t size = 0;
    for (int f = 0; f < PHI3_MAX_PLANES && fields[f].size > 0; f++)
        size += aligned(plane_bytes(part, &fields[f]));
    return size;
}

size_t phi3_cuda_matrix_bytes(const phi3_tensor *parts, size_t n_parts, phi3_compute compute)
{
    (void)compute;
    size_t size = 0;
    for (size_t p = 0; p < n_parts; p++)
        size += part_bytes(&parts[p]);
    return size;
}

static phi3_status upload_part(const phi3_tensor *part, phi3_upload *upload, phi3_device_part *to,
                               phi3_error *error)
{
    const phi3_field *fields = fields_of(part->dtype);
    size_t size = part_bytes(part);
    if (cudaMalloc(&to->memory, size) != cudaSuccess) {
        to->memory = NULL;
        return fail_device_memory(size, error);
    }
    to->dtype = part->dtype;
    to->n_rows = part->n_rows;
    to->planes.n_blocks = (int)(part->n_columns / phi3_dtype_traits(part->dtype)->block_size);
    uint8_t *plane = (uint8_t *)to->memory;
    for (int f = 0; f < PHI3_MAX_PLANES && fields[f].size > 0; f++) {
        if (upload_plane(part, fields[f], upload, plane) != PHI3_OK)
            return phi3_fail(error, PHI3_ERROR_DEVICE, "weights could not be sent to the device");
        to->planes.plane[f] = plane;
        plane += aligned(plane_bytes(part, &fields[f]));
    }
    return PHI3_OK;
}

static phi3_status upload_parts(const phi3_tensor *parts, size_t n_parts, phi3_matrix *to,
                                phi3_error *error)
{
    phi3_upload upload;
    phi3_status status = phi3_upload_begin(&upload);
    if (status != PHI3_OK)
        return phi3_fail(error, status, "there is no pinned memory to send weights from");
    for (size_t p = 0; p < n_parts && status == PHI3_OK; p++) {
        to->n_parts = p + 1;
        status = upload_part(&parts[p], &upload, &to->parts[p], error);
    }
    phi3_status finished = phi3_upload_end(&upload);
    if (status == PHI3_OK && finished != PHI3_OK)
        return phi3_fail(error, finished, "weights could not be sent to the device");
    return status;
}

phi3_status phi3_cuda_matrix_create(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                                    const void *packed, phi3_matrix **matrix, phi3_error *error)
{
    (void)packed;
    size_t n_rows = 0;
    PHI3_TRY(phi3_parts_check(parts, n_parts, &n_rows, error));
    phi3_matrix *made = (phi3_matrix *)calloc(1, sizeof *made + n_parts * sizeof(phi3_device_part));
    if (made == NULL)
        return phi3_fail_memory(error, "a weight matrix");
    phi3_status status = upload_parts(parts, n_parts, made, error);
    if (status != PHI3_OK) {
        phi3_cuda_matrix_free(made);
        return status;
    }
    made->n_rows = n_rows;
    made->n_columns = parts[0].n_columns;
    made->compute = compute;
    *matrix = made;
    return PHI3_OK;
}

void phi3_cuda_matrix_free(phi3_matrix *matrix)
{
    if (matrix == NULL)
        return;
    for (size_t p = 0; p < matrix->n_parts; p++)
        cudaFree(matrix->parts[p].memory);
    free(matrix);
}
