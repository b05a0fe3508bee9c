/*
 * packed.c - packs the weights of a model, or finds them packed in a file.
 *
 * In: all matrices of an opened model. Out: their packed form. Each matrix is checked and packed by
 * all threads before the next one is touched, and its pages of the model's file are then given back:
 * the process never holds more than one matrix twice.
 */
#include "packed.h"

#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "kernels/checksum.h"
#include "packed_file.h"
#include "packed_key.h"

enum {
    LINE = 64,
    MAX_ATTEMPTS = 3,  /* to replace a damaged file, before it is left alone */
    WAIT_STEP_MS = 20, /* while another process packs the same model */
    MAX_WAITS = 3000
};

/* Where packed matrices go: to their places in memory, or through a buffer into a file. */
typedef struct target {
    uint8_t *memory;
    const phi3_packed *whole; /* the memory of all of them; NULL: it is the room for one */
    size_t next_trial;        /* see phi3_packed_choose_pages */
    phi3_packed_file *file;   /* NULL: memory is all of them */
    uint64_t checksum;        /* of what went into the file */
} target;

/* ---- One matrix after the other ---------------------------------------------------------------- */

/* Bytes of the matrices before `end`, as the progress counts them. */
static size_t stored_bytes(const phi3_packing *packing, size_t end)
{
    size_t bytes = 0;
    for (size_t i = 0; i < end; i++) {
        const phi3_matrix_parts *parts = packing->matrices[i].parts;
        for (size_t j = 0; j < parts->count; j++)
            bytes += parts->part[j].n_rows *
                     phi3_dtype_row_bytes(parts->part[j].dtype, parts->part[j].n_columns);
    }
    return bytes;
}

static phi3_status report(const phi3_packing *packing, size_t n_done, phi3_error *error)
{
    double done =
        (double)stored_bytes(packing, n_done) / (double)stored_bytes(packing, packing->n_matrices);
    if (packing->progress && packing->progress((float)done, packing->progress_data))
        return phi3_fail(error, PHI3_ERROR_INTERRUPTED, "the load was interrupted");
    return PHI3_OK;
}

/* The checksum of all matrices follows from those of each. */
static uint64_t add_checksum(uint64_t sum, const void *data, size_t size, int n_threads)
{
    return sum * 31 + phi3_checksum(data, size, n_threads);
}

static phi3_status pack_matrix(const phi3_packing *packing, const phi3_packed_matrix *matrix,
                               target *to, phi3_error *error)
{
    uint8_t *packed = to->file ? to->memory : to->memory + matrix->offset;
    PHI3_TRY(phi3_weights_prepare(matrix->parts, packing->n_threads, error));
    if (!to->file)
        phi3_packed_choose_pages(to->whole, matrix->offset, matrix->size, &to->next_trial);
    bool finite = matrix->backend->matrix_pack(matrix->parts->part, matrix->parts->count,
                                               matrix->compute, packing->n_threads, packed);
    if (!finite)
        PHI3_TRY(phi3_weights_check(matrix->parts, packing->n_threads, error));
    phi3_weights_release(matrix->parts);
    if (to->file) {
        to->checksum = add_checksum(to->checksum, packed, matrix->size, packing->n_threads);
        phi3_packed_file_write(to->file, matrix->offset, packed, matrix->size);
    }
    return PHI3_OK;
}

/* A matrix that is not packed: its backend reads it where it is, or copies it now to its device. */
static phi3_status take_in_place(const phi3_packing *packing, const phi3_packed_matrix *matrix,
                                 phi3_error *error)
{
    phi3_matrix_parts *parts = matrix->parts;
    PHI3_TRY(phi3_weights_check(parts, packing->n_threads, error));
    PHI3_TRY(phi3_weights_prepare(parts, packing->n_threads, error));
    if (!matrix->backend->memory)
        return PHI3_OK;
    PHI3_TRY(matrix->backend->matrix_create(parts->part, parts->count, matrix->compute, NULL,
                                            matrix->matrix, error));
    phi3_weights_release(parts);
    return PHI3_OK;
}

/* Stops early, without an error, when a file cannot be written. */
static phi3_status pack_all(const phi3_packing *packing, target *to, phi3_error *error)
{
    for (size_t i = 0; i < packing->n_matrices; i++) {
        const phi3_packed_matrix *matrix = &packing->matrices[i];
        PHI3_TRY(report(packing, i, error));
        if (i + 1 < packing->n_matrices)
            phi3_weights_expect(packing->matrices[i + 1].parts);
        if (matrix->size > 0)
            PHI3_TRY(pack_matrix(packing, matrix, to, error));
        else
            PHI3_TRY(take_in_place(packing, matrix, error));
        if (to->file && to->file->has_failed)
            return PHI3_OK;
    }
    return report(packing, packing->n_matrices, error);
}

static phi3_status pack_into_memory(const phi3_packing *packing, size_t size, phi3_packed *packed,
                                    phi3_error *error)
{
    target memory = {.whole = packed};
    if (size > 0) {
        PHI3_TRY(phi3_packed_map(size, packed, error));
        memory.memory = (uint8_t *)(uintptr_t)packed->data;
    }
    return pack_all(packing, &memory, error);
}

/* ---- A file ---------------------------------------------------------------------------------- */

static phi3_status pack_into_file(const phi3_packing *packing, phi3_packed_file *file,
                                  phi3_packed *packed, phi3_error *error)
{
    size_t largest = 0;
    for (size_t i = 0; i < packing->n_matrices; i++) {
        size_t size = packing->matrices[i].size;
        largest = size > largest ? size : largest;
    }
    target to = {.memory = aligned_alloc(LINE, largest), .file = file};
    phi3_status status =
        to.memory ? pack_all(packing, &to, error) : phi3_fail_memory(error, "a packed matrix");
    free(to.memory);
    if (status == PHI3_OK)
        phi3_packed_file_finish(file, to.checksum, packed);
    else
        phi3_packed_file_abandon(file);
    return status;
}

/* Checks what a file holds, and prepares the matrices that are not in it. */
static phi3_status check_file(const phi3_packing *packing, const phi3_packed *packed,
                              uint64_t expected, bool *intact, phi3_error *error)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < packing->n_matrices; i++) {
        const phi3_packed_matrix *matrix = &packing->matrices[i];
        PHI3_TRY(report(packing, i, error));
        const phi3_matrix_parts *parts = matrix->parts;
        bool lacks_rows = parts->is_table && parts->part[0].data == NULL;
        if (matrix->size > 0)
            sum =
                add_checksum(sum, packed->data + matrix->offset, matrix->size, packing->n_threads);
        if (matrix->size == 0 || lacks_rows)
            PHI3_TRY(take_in_place(packing, matrix, error));
    }
    *intact = sum == expected;
    return report(packing, packing->n_matrices, error);
}

/* Waits a little for the process that packs the same model. */
static phi3_status wait_for_other(const phi3_packing *packing, phi3_error *error)
{
    const struct timespec step = {.tv_nsec = WAIT_STEP_MS * 1000000L};
    nanosleep(&step, NULL);
    return report(packing, 0, error);
}

/* Leaves *packed empty when no file can be had. */
static phi3_status use_file(const phi3_packing *packing, phi3_packed_file *file,
                            phi3_packed *packed, phi3_error *error)
{
    int n_waits = 0, n_attempts = 0;
    while (n_waits < MAX_WAITS && n_attempts < MAX_ATTEMPTS) {
        uint64_t checksum = 0;
        bool intact = false;
        switch (phi3_packed_file_open(file, packed, &checksum)) {
        case PHI3_PACKED_FOUND:
            PHI3_TRY(check_file(packing, packed, checksum, &intact, error));
            if (intact)
                return PHI3_OK;
            phi3_packed_free(packed);
            n_attempts = phi3_packed_file_discard(file) ? n_attempts + 1 : MAX_ATTEMPTS;
            break;
        case PHI3_PACKED_OURS:
            return pack_into_file(packing, file, packed, error);
        case PHI3_PACKED_ELSEWHERE:
            PHI3_TRY(wait_for_other(packing, error));
            n_waits++;
            break;
        case PHI3_PACKED_UNAVAILABLE:
            return PHI3_OK;
        }
    }
    phi3_log(PHI3_LOG_WARNING, "%s: cannot be used; the weights are packed into memory",
             file->path);
    return PHI3_OK;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static size_t place_matrices(phi3_packing *packing)
{
    size_t size = 0;
    for (size_t i = 0; i < packing->n_matrices; i++) {
        phi3_packed_matrix *matrix = &packing->matrices[i];
        matrix->offset = size;
        matrix->size = matrix->backend->matrix_packed_size(matrix->parts->part,
                                                           matrix->parts->count, matrix->compute);
        size += matrix->size;
    }
    return size;
}

phi3_status phi3_pack(phi3_packing *packing, phi3_packed *packed, phi3_error *error)
{
    *packed = (phi3_packed){0};
    size_t size = place_matrices(packing);
    phi3_packed_file file;
    if (size > 0 && packing->directory && *packing->directory &&
        phi3_packed_file_describe(packing, &file)) {
        phi3_status status = use_file(packing, &file, packed, error);
        phi3_packed_file_close(&file);
        if (status != PHI3_OK || packed->data)
            return status;
    }
    return pack_into_memory(packing, size, packed, error);
}
