/*
 * packed_key.c - what a file of packed weights is called, and what it was made from.
 *
 * In: the matrices of an opened model. Out: a path that depends on where the model is and on how its
 * products are computed; and a text that changes with the library, the layout, the size and age of
 * the model's files, and the name, format, shape and first bytes of every tensor.
 */
#include "packed_key.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* FNV-1a. */
static uint64_t hash_bytes(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

/* ---- The name -------------------------------------------------------------------------------- */

/* As much of the model's own name as people need to recognise it. */
static void copy_stem(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = 0;
    for (; name[length] && length + 1 < size; length++) {
        char c = name[length];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        out[length] = plain || c == '-' || c == '_' || c == '.' ? c : '_';
    }
    out[length] = '\0';
}

/* The compute dtype of products: the embedding alone may have another. */
static const char *compute_name(const phi3_packing *packing)
{
    for (size_t i = 0; i < packing->n_matrices; i++) {
        if (packing->matrices[i].compute == PHI3_COMPUTE_MIXED)
            return "mixed";
    }
    return "float32";
}

/* The weights of one segment of a model do not take the place of all of them. */
static bool is_split(const phi3_packing *packing)
{
    for (size_t i = 0; i < packing->n_matrices; i++)
        if (packing->matrices[i].backend != packing->matrices[0].backend)
            return true;
    return false;
}

static bool name_file(const phi3_packing *packing, const char *path, phi3_packed_file *file)
{
    char stem[48];
    copy_stem(path, stem, sizeof stem);
    if (asprintf(&file->path, "%s/%s-%016" PRIx64 "-%s%s.packed", packing->directory, stem,
                 hash_bytes(path, strlen(path)), compute_name(packing),
                 is_split(packing) ? "-part" : "") < 0) {
        file->path = NULL;
        return false;
    }
    if (asprintf(&file->partial, "%s.partial", file->path) < 0)
        file->partial = NULL;
    return file->partial != NULL;
}

/* ---- The key --------------------------------------------------------------------------------- */

static void write_matrix(const phi3_packed_matrix *matrix, FILE *text)
{
    enum { SAMPLE_BYTES = 256 };
    for (size_t i = 0; i < matrix->parts->count; i++) {
        const phi3_tensor *stored = &matrix->parts->stored[i];
        size_t bytes = stored->n_rows * phi3_dtype_row_bytes(stored->dtype, stored->n_columns);
        fprintf(text, "tensor %s %s as %s %zu %zu, begins %016" PRIx64 "\n", matrix->parts->name[i],
                phi3_dtype_traits(stored->dtype)->name,
                phi3_dtype_traits(matrix->parts->part[i].dtype)->name, stored->n_rows,
                stored->n_columns,
                hash_bytes(stored->data, bytes < SAMPLE_BYTES ? bytes : SAMPLE_BYTES));
    }
    fprintf(text, "packed at %zu, %zu bytes, %s backend, layout %s\n", matrix->offset, matrix->size,
            matrix->backend->name, matrix->backend->packed_layout);
}

static bool write_key(const phi3_packing *packing, const char *path, phi3_packed_file *file)
{
    size_t size;
    FILE *text = open_memstream(&file->key, &size);
    if (!text)
        return false;
    fprintf(text, "phi3 %s\nmodel %s\n", phi3_version(), path);
    for (size_t i = 0; i < phi3_weights_file_count(packing->weights); i++) {
        const phi3_file *stored = phi3_weights_file(packing->weights, i);
        fprintf(text, "file %s %zu bytes, modified %" PRId64 "\n", stored->path, stored->size,
                stored->modified);
    }
    for (size_t i = 0; i < packing->n_matrices; i++)
        write_matrix(&packing->matrices[i], text);
    bool written = !ferror(text);
    return fclose(text) == 0 && written;
}

/* ---- The whole ------------------------------------------------------------------------------- */

bool phi3_packed_file_describe(const phi3_packing *packing, phi3_packed_file *file)
{
    *file = (phi3_packed_file){.descriptor = -1};
    for (size_t i = 0; i < packing->n_matrices; i++)
        file->data_size += packing->matrices[i].size;
    char *path = realpath(packing->path, NULL);
    bool described = path && name_file(packing, path, file) && write_key(packing, path, file);
    free(path);
    if (!described) {
        char reason[128];
        phi3_log(PHI3_LOG_WARNING, "packed weights cannot be kept in %s: %s", packing->directory,
                 strerror_r(errno, reason, sizeof reason));
        phi3_packed_file_close(file);
    }
    return described;
}
