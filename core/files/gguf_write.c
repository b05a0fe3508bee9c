/*
 * gguf_write.c - a GGUF file from its parts. In: metadata, a directory of tensors and their bytes.
 * Out: a file that any reader of the format takes.
 */
#include "gguf_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gguf_table.h"

enum { VERSION = 3, ALIGNMENT = 32 };

/* ---- Pieces --------------------------------------------------------------------------------- */

static void append(phi3_gguf_writer *writer, phi3_bytes *to, const void *data, size_t size)
{
    if (size > 0 && !phi3_bytes_append(to, data, size))
        writer->out_of_memory = true;
}

static void append_u32(phi3_gguf_writer *writer, phi3_bytes *to, uint32_t value)
{
    append(writer, to, &value, sizeof value);
}

static void append_u64(phi3_gguf_writer *writer, phi3_bytes *to, uint64_t value)
{
    append(writer, to, &value, sizeof value);
}

static void append_text(phi3_gguf_writer *writer, phi3_bytes *to, const char *text, size_t size)
{
    append_u64(writer, to, size);
    append(writer, to, text, size);
}

static uint64_t padding_of(uint64_t size)
{
    return (ALIGNMENT - size % ALIGNMENT) % ALIGNMENT;
}

/* ---- Metadata ------------------------------------------------------------------------------- */

static void put_key(phi3_gguf_writer *writer, phi3_gguf_string key, phi3_gguf_type type)
{
    append_text(writer, &writer->entries, key.text, key.size);
    append_u32(writer, &writer->entries, type);
    writer->n_entries++;
}

static void put(phi3_gguf_writer *writer, const char *key, phi3_gguf_type type, const void *value,
                size_t size)
{
    put_key(writer, (phi3_gguf_string){key, strlen(key)}, type);
    append(writer, &writer->entries, value, size);
}

void phi3_gguf_put_u32(phi3_gguf_writer *writer, const char *key, uint32_t value)
{
    put(writer, key, PHI3_GGUF_UINT32, &value, sizeof value);
}

void phi3_gguf_put_f32(phi3_gguf_writer *writer, const char *key, float value)
{
    put(writer, key, PHI3_GGUF_FLOAT32, &value, sizeof value);
}

void phi3_gguf_put_bool(phi3_gguf_writer *writer, const char *key, bool value)
{
    uint8_t byte = value;
    put(writer, key, PHI3_GGUF_BOOL, &byte, sizeof byte);
}

void phi3_gguf_put_text(phi3_gguf_writer *writer, const char *key, const char *text, size_t size)
{
    put(writer, key, PHI3_GGUF_STRING, NULL, 0);
    append_text(writer, &writer->entries, text, size);
}

void phi3_gguf_put_list(phi3_gguf_writer *writer, const char *key, phi3_gguf_type type,
                        size_t count)
{
    put(writer, key, PHI3_GGUF_ARRAY, NULL, 0);
    append_u32(writer, &writer->entries, type);
    append_u64(writer, &writer->entries, count);
}

void phi3_gguf_put_element(phi3_gguf_writer *writer, const void *number, size_t size)
{
    append(writer, &writer->entries, number, size);
}

void phi3_gguf_put_string(phi3_gguf_writer *writer, const char *text, size_t size)
{
    append_text(writer, &writer->entries, text, size);
}

static void put_entry(phi3_gguf_writer *writer, const gguf_entry *entry)
{
    phi3_bytes *to = &writer->entries;
    put_key(writer, entry->key, entry->type);
    if (entry->type == PHI3_GGUF_STRING) {
        append_text(writer, to, entry->value.text.text, entry->value.text.size);
        return;
    }
    if (entry->type != PHI3_GGUF_ARRAY) {
        append(writer, to, entry->value.number, phi3_gguf_type_bytes(entry->type));
        return;
    }
    const phi3_gguf_array *list = &entry->value.array;
    append_u32(writer, to, list->type);
    append_u64(writer, to, list->count);
    if (list->type != PHI3_GGUF_STRING)
        append(writer, to, list->data, list->count * phi3_gguf_type_bytes(list->type));
    for (size_t i = 0; list->type == PHI3_GGUF_STRING && i < list->count; i++)
        append_text(writer, to, list->strings[i].text, list->strings[i].size);
}

void phi3_gguf_put_all(phi3_gguf_writer *writer, const phi3_gguf *gguf, const char *const *without,
                       size_t n_without)
{
    for (size_t i = 0; i < gguf->n_entries; i++) {
        const gguf_entry *entry = &gguf->entries[i];
        bool wanted = true;
        for (size_t k = 0; k < n_without; k++) {
            size_t size = strlen(without[k]);
            wanted &= entry->key.size < size || memcmp(entry->key.text, without[k], size) != 0;
        }
        if (wanted)
            put_entry(writer, entry);
    }
}

/* ---- Tensors -------------------------------------------------------------------------------- */

void phi3_gguf_add_tensor(phi3_gguf_writer *writer, const char *name, phi3_dtype dtype,
                          size_t n_rows, size_t n_columns, bool is_vector)
{
    phi3_bytes *to = &writer->tensors;
    append_text(writer, to, name, strlen(name));
    append_u32(writer, to, is_vector ? 1 : 2);
    append_u64(writer, to, n_columns);
    if (!is_vector)
        append_u64(writer, to, n_rows);
    append_u32(writer, to, dtype);
    append_u64(writer, to, writer->data_size);
    uint64_t size = n_rows * (uint64_t)phi3_dtype_row_bytes(dtype, n_columns);
    writer->data_size += size + padding_of(size);
    writer->n_tensors++;
}

static phi3_status write_padding(phi3_gguf_writer *writer, uint64_t size, phi3_error *error)
{
    static const char zeros[ALIGNMENT];
    return phi3_output_write(writer->output, zeros, (size_t)padding_of(size), error);
}

phi3_status phi3_gguf_begin(phi3_gguf_writer *writer, const char *path, bool overwrite,
                            phi3_error *error)
{
    phi3_bytes header = {0};
    append(writer, &header, "GGUF", 4);
    append_u32(writer, &header, VERSION);
    append_u64(writer, &header, writer->n_tensors);
    append_u64(writer, &header, writer->n_entries);
    append(writer, &header, writer->entries.bytes, writer->entries.size);
    append(writer, &header, writer->tensors.bytes, writer->tensors.size);
    uint64_t size = header.size + padding_of(header.size) + writer->data_size;
    phi3_status status = writer->out_of_memory
                             ? phi3_fail_memory(error, "the metadata of a file")
                             : phi3_output_open(path, size, overwrite, &writer->output, error);
    if (status == PHI3_OK)
        status = phi3_output_write(writer->output, header.bytes, header.size, error);
    if (status == PHI3_OK)
        status = write_padding(writer, header.size, error);
    free(header.bytes);
    return status;
}

phi3_status phi3_gguf_write(phi3_gguf_writer *writer, const void *data, size_t size,
                            phi3_error *error)
{
    writer->written += size;
    return phi3_output_write(writer->output, data, size, error);
}

phi3_status phi3_gguf_end_tensor(phi3_gguf_writer *writer, phi3_error *error)
{
    size_t written = writer->written;
    writer->written = 0;
    return write_padding(writer, written, error);
}

phi3_status phi3_gguf_end(phi3_gguf_writer *writer, phi3_error *error)
{
    phi3_output *output = writer->output;
    writer->output = NULL;
    return phi3_output_commit(output, error);
}

void phi3_gguf_writer_free(phi3_gguf_writer *writer)
{
    phi3_output_discard(writer->output);
    free(writer->entries.bytes);
    free(writer->tensors.bytes);
    *writer = (phi3_gguf_writer){0};
}
