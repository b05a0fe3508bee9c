/*
 * packing.h - packing a tiny model with a backend whose layout is easy to check: the bytes of a
 * matrix's parts one after the other, turned over (xor 0xa5), with zeros up to a multiple of 64.
 */
#ifndef PHI3_TEST_PACKING_H
#define PHI3_TEST_PACKING_H

#include "model_files.h"

#include <dirent.h>

#include "core/files/packed.h"

enum { N_MATRICES = 2 + 4 * TINY_LAYERS };

/* ---- The backend ----------------------------------------------------------------------------- */

static size_t n_packed;             /* calls of pack */
static void (*while_packing)(void); /* called at the start of each, when not NULL */

static size_t parts_bytes(const phi3_tensor *parts, size_t n_parts)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n_parts; i++)
        bytes += parts[i].n_rows * phi3_dtype_row_bytes(parts[i].dtype, parts[i].n_columns);
    return bytes;
}

static size_t packed_size(const phi3_tensor *parts, size_t n_parts, phi3_compute compute)
{
    bool in_place = compute == PHI3_COMPUTE_FLOAT32;
    return in_place ? 0 : (parts_bytes(parts, n_parts) + 63) / 64 * 64;
}

static bool pack(const phi3_tensor *parts, size_t n_parts, phi3_compute compute, int n_threads,
                 void *packed)
{
    (void)n_threads;
    if (while_packing)
        while_packing();
    n_packed++;
    uint8_t *to = packed, *end = to + packed_size(parts, n_parts, compute);
    for (size_t i = 0; i < n_parts; i++) {
        const uint8_t *from = parts[i].data;
        for (size_t left = parts_bytes(&parts[i], 1); left > 0; left--)
            *to++ = *from++ ^ 0xa5;
    }
    memset(to, 0, (size_t)(end - to));
    bool finite = true;
    for (size_t i = 0; i < n_parts; i++)
        finite &= phi3_find_bad_scale(parts[i].dtype, parts[i].data, parts[i].n_rows,
                                      parts[i].n_columns, 1) == parts[i].n_rows;
    return finite;
}

static const phi3_backend turning = {.name = "turning",
                                     .packed_layout = "turned 1",
                                     .matrix_packed_size = packed_size,
                                     .matrix_pack = pack};

/* ---- One load -------------------------------------------------------------------------------- */

typedef struct load {
    phi3_backend backend;
    phi3_loaded_config config;
    phi3_weights weights;
    phi3_packed_matrix matrices[N_MATRICES];
    phi3_packing packing;
    phi3_packed packed;
    phi3_error error;
} load;

/* Opens test_directory/model.gguf and lists its matrices: the embedding in place, as an untied one
 * is, the others to be packed. */
static inline void load_open(load *l, const char *directory)
{
    *l = (load){.backend = turning};
    if (phi3_weights_open(in_directory("model.gguf"), &l->config, &l->weights, &l->error))
        fail_msg("%s", l->error.message);
    size_t n = 0;
    l->matrices[n++] =
        (phi3_packed_matrix){.parts = &l->weights.embedding, .compute = PHI3_COMPUTE_FLOAT32};
    l->matrices[n++] = (phi3_packed_matrix){.parts = &l->weights.lm_head};
    for (size_t i = 0; i < l->weights.n_layers; i++) {
        phi3_layer_tensors *layer = &l->weights.layers[i];
        l->matrices[n++] = (phi3_packed_matrix){.parts = &layer->qkv};
        l->matrices[n++] = (phi3_packed_matrix){.parts = &layer->output};
        l->matrices[n++] = (phi3_packed_matrix){.parts = &layer->gate_up};
        l->matrices[n++] = (phi3_packed_matrix){.parts = &layer->down};
    }
    for (size_t i = 0; i < n; i++)
        l->matrices[i].backend = &l->backend;
    l->packing = (phi3_packing){.weights = &l->weights,
                                .matrices = l->matrices,
                                .n_matrices = n,
                                .path = l->weights.embedding.file[0],
                                .directory = directory,
                                .n_threads = 1};
}

static inline phi3_status load_pack(load *l)
{
    n_packed = 0;
    return phi3_pack(&l->packing, &l->packed, &l->error);
}

static inline void load_close(load *l)
{
    phi3_packed_free(&l->packed);
    phi3_weights_close(&l->weights);
    phi3_config_free(&l->config);
}

/* Holds what the backend makes of every matrix. */
static inline bool is_right(load *l)
{
    for (size_t i = 0; i < l->packing.n_matrices; i++) {
        phi3_packed_matrix *matrix = &l->matrices[i];
        if (matrix->size == 0)
            continue;
        uint8_t *expected = malloc(matrix->size);
        assert_non_null(expected);
        assert_int_equal(phi3_weights_prepare(matrix->parts, 1, NULL), PHI3_OK);
        pack(matrix->parts->part, matrix->parts->count, matrix->compute, 1, expected);
        bool same = memcmp(l->packed.data + matrix->offset, expected, matrix->size) == 0;
        free(expected);
        if (!same)
            return false;
    }
    return true;
}

static inline void assert_packs(load *l, size_t n_expected)
{
    if (load_pack(l) != PHI3_OK)
        fail_msg("%s", l->error.message);
    assert_int_equal(n_packed, n_expected);
    assert_int_equal((uintptr_t)l->packed.data % 64, 0);
    assert_true(is_right(l));
}

/* Loads, packs and closes. */
static inline void assert_load_packs(const char *directory, size_t n_expected)
{
    load l;
    load_open(&l, directory);
    assert_packs(&l, n_expected);
    load_close(&l);
}

enum { ALL = N_MATRICES - 1, NONE = 0 }; /* the embedding stays where it is */

static inline void write_model(const char *architecture)
{
    buffer file = tiny_gguf(architecture);
    write_bytes("model.gguf", file.data, file.size);
    release(&file);
}

/* ---- What lies in a directory ----------------------------------------------------------------- */

/* Files in a directory; *name is the last one's. -1: there is no such directory. */
static inline int count_files(const char *directory, char name[256])
{
    DIR *opened = opendir(directory);
    if (!opened)
        return -1;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(opened));) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        snprintf(name, 256, "%s", entry->d_name);
    }
    closedir(opened);
    return count;
}

/* The path of the one file of a directory, which is a finished one; overwritten by the next call. */
static inline const char *only_file(const char *directory)
{
    static char path[512];
    char name[256];
    assert_int_equal(count_files(directory, name), 1);
    assert_null(strstr(name, "partial"));
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

#endif
