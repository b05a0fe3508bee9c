/*
 * gguf_write.h - writing a GGUF file, version 3: first what is in it, then the tensors' bytes.
 *
 *     put metadata, add tensors -> begin -> write each tensor in turn -> end
 *
 * The file appears under its name at the end, complete (output.h). The calls that put and add cannot
 * fail: a lack of memory shows when the writing begins.
 */
#ifndef PHI3_INTERNAL_GGUF_WRITE_H
#define PHI3_INTERNAL_GGUF_WRITE_H

#include "base/bytes.h"
#include "base/output.h"
#include "gguf.h"

typedef struct phi3_gguf_writer {
    phi3_bytes entries, tensors; /* as they stand in the file */
    uint64_t n_entries, n_tensors;
    uint64_t data_size; /* of the tensors added so far, each padded */
    size_t written;     /* of the tensor that is being written */
    bool out_of_memory;
    phi3_output *output;
} phi3_gguf_writer;

void phi3_gguf_put_u32(phi3_gguf_writer *writer, const char *key, uint32_t value);
void phi3_gguf_put_f32(phi3_gguf_writer *writer, const char *key, float value);
void phi3_gguf_put_bool(phi3_gguf_writer *writer, const char *key, bool value);
void phi3_gguf_put_text(phi3_gguf_writer *writer, const char *key, const char *text, size_t size);

/* A list; its `count` elements follow. */
void phi3_gguf_put_list(phi3_gguf_writer *writer, const char *key, phi3_gguf_type type,
                        size_t count);
void phi3_gguf_put_element(phi3_gguf_writer *writer, const void *number, size_t size);
void phi3_gguf_put_string(phi3_gguf_writer *writer, const char *text, size_t size);

/* All entries of a file but those whose keys begin with one of `without` [n_without]. */
void phi3_gguf_put_all(phi3_gguf_writer *writer, const phi3_gguf *gguf, const char *const *without,
                       size_t n_without);

/* A tensor of one dimension has n_rows 1 and is_vector. */
void phi3_gguf_add_tensor(phi3_gguf_writer *writer, const char *name, phi3_dtype dtype,
                          size_t n_rows, size_t n_columns, bool is_vector);

phi3_status phi3_gguf_begin(phi3_gguf_writer *writer, const char *path, bool overwrite,
                            phi3_error *error);
/* The next bytes of the tensor, and its end. */
phi3_status phi3_gguf_write(phi3_gguf_writer *writer, const void *data, size_t size,
                            phi3_error *error);
phi3_status phi3_gguf_end_tensor(phi3_gguf_writer *writer, phi3_error *error);
phi3_status phi3_gguf_end(phi3_gguf_writer *writer, phi3_error *error);

/* Frees the writer's memory; a file that was not ended is removed. */
void phi3_gguf_writer_free(phi3_gguf_writer *writer);

#endif
