/*
 * gguf.c - opens a GGUF file: maps it, walks metadata and tensor directory once, and checks all of
 * it. In: a path. Out: tables of checked entries, sorted by name, that point into the mapping.
 *
 * The walk never trusts a number of the file: a count is held against the bytes that are left before
 * anything is allocated, and what follows the walk (gguf_value.c) needs no further checks of bounds.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gguf_table.h"
#include "text/utf8.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as the file has them");

enum {
    MAX_ENTRIES = 1 << 20,   /* keys, and tensors: far above any real file */
    MAX_NAME_SIZE = 65535,   /* of the specification */
    MIN_ENTRY_BYTES = 13,    /* length of the key, type, a value of one byte */
    MIN_TENSOR_BYTES = 32,   /* length of the name, n_dims, one dimension, type, offset */
    MIN_STRING_BYTES = 8,    /* its length */
    DEFAULT_ALIGNMENT = 32,  /* of the specification */
    MAX_ALIGNMENT = 1 << 16, /* far above any real file */
    SHOWN_NAME_SIZE = 80     /* how much of a name is quoted in messages */
};

/* The part of the file that has not been walked yet. */
typedef struct reader {
    const char *path;
    const uint8_t *data; /* [size] the whole file */
    size_t size;
    size_t position;
    phi3_error *error;
} reader;

/* ---- Pieces -------------------------------------------------------------------------------- */

/* Names come from the file: as many bytes as a message can bear. */
static int shown(phi3_gguf_string name)
{
    return (int)(name.size < SHOWN_NAME_SIZE ? name.size : SHOWN_NAME_SIZE);
}

static size_t bytes_left(const reader *in)
{
    return in->size - in->position;
}

static phi3_status truncated(const reader *in, const char *what, uint64_t needed)
{
    return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                     "%s: %s at byte %zu needs %llu bytes, but the file has only %zu left: it is "
                     "truncated or damaged",
                     in->path, what, in->position, (unsigned long long)needed, bytes_left(in));
}

/* Lends the next `size` bytes. `what` says what they are meant to be. */
static phi3_status read_bytes(reader *in, uint64_t size, const char *what, const uint8_t **out)
{
    if (size > bytes_left(in))
        return truncated(in, what, size);
    *out = in->data + in->position;
    in->position += (size_t)size;
    return PHI3_OK;
}

static phi3_status read_u32(reader *in, const char *what, uint32_t *out)
{
    const uint8_t *bytes = NULL;
    PHI3_TRY(read_bytes(in, sizeof *out, what, &bytes));
    memcpy(out, bytes, sizeof *out);
    return PHI3_OK;
}

static phi3_status read_u64(reader *in, const char *what, uint64_t *out)
{
    const uint8_t *bytes = NULL;
    PHI3_TRY(read_bytes(in, sizeof *out, what, &bytes));
    memcpy(out, bytes, sizeof *out);
    return PHI3_OK;
}

static phi3_status read_string(reader *in, const char *what, phi3_gguf_string *out)
{
    uint64_t size = 0;
    const uint8_t *bytes = NULL;
    PHI3_TRY(read_u64(in, what, &size));
    PHI3_TRY(read_bytes(in, size, what, &bytes));
    *out = (phi3_gguf_string){.text = (const char *)bytes, .size = (size_t)size};
    return PHI3_OK;
}

static bool is_text(phi3_gguf_string name)
{
    for (size_t i = 0, step; i < name.size; i += step) {
        step = phi3_utf8_character(name.text + i, name.size - i);
        if (step == 0 || name.text[i] == '\0')
            return false;
    }
    return true;
}

/* A key or the name of a tensor. */
static phi3_status read_name(reader *in, const char *what, phi3_gguf_string *out)
{
    size_t start = in->position;
    PHI3_TRY(read_string(in, what, out));
    if (out->size == 0 || out->size > MAX_NAME_SIZE)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: %s at byte %zu has %zu bytes; 1 to %d are allowed", in->path, what,
                         start, out->size, MAX_NAME_SIZE);
    if (!is_text(*out))
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: %s at byte %zu is not valid UTF-8 text", in->path, what, start);
    return PHI3_OK;
}

/* A number of things that take at least `min_bytes` each. */
static phi3_status check_count(const reader *in, const char *what, uint64_t count, size_t min_bytes,
                               uint64_t limit)
{
    if (count > limit)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: %s is %llu, more than %llu", in->path,
                         what, (unsigned long long)count, (unsigned long long)limit);
    if (count > bytes_left(in) / min_bytes)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: %s is %llu, more than the remaining %zu bytes can hold", in->path,
                         what, (unsigned long long)count, bytes_left(in));
    return PHI3_OK;
}

/* ---- Metadata ------------------------------------------------------------------------------ */

static phi3_status check_bools(const reader *in, phi3_gguf_string key, const uint8_t *values,
                               size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (values[i] > 1)
            return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: key '%.*s' has the bool %d",
                             in->path, shown(key), key.text, values[i]);
    }
    return PHI3_OK;
}

static phi3_status bad_value_type(const reader *in, phi3_gguf_string key, const char *of,
                                  uint32_t type)
{
    return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: key '%.*s' has %s of the unknown type %u",
                     in->path, shown(key), key.text, of, (unsigned)type);
}

static phi3_status read_string_array(reader *in, size_t count, phi3_gguf_array *out)
{
    phi3_gguf_string *strings = calloc(count ? count : 1, sizeof *strings);
    if (!strings)
        return phi3_fail_memory(in->error, "the strings of a GGUF file");
    out->strings = strings; /* freed with the entry, also when a string is broken */
    for (size_t i = 0; i < count; i++)
        PHI3_TRY(read_string(in, "a string of an array", &strings[i]));
    return PHI3_OK;
}

static phi3_status read_array(reader *in, phi3_gguf_string key, phi3_gguf_array *out)
{
    uint32_t type = 0;
    uint64_t count = 0;
    PHI3_TRY(read_u32(in, "the element type of an array", &type));
    PHI3_TRY(read_u64(in, "the length of an array", &count));
    if (type == PHI3_GGUF_ARRAY)
        return phi3_fail(in->error, PHI3_ERROR_UNSUPPORTED,
                         "%s: key '%.*s' has arrays inside an array, which phi3 does not read",
                         in->path, shown(key), key.text);
    size_t width = phi3_gguf_type_bytes(type);
    if (width == 0 && type != PHI3_GGUF_STRING)
        return bad_value_type(in, key, "elements", type);

    PHI3_TRY(check_count(in, "the length of an array", count, width ? width : MIN_STRING_BYTES,
                         UINT64_MAX));
    *out = (phi3_gguf_array){.type = (phi3_gguf_type)type, .count = (size_t)count};
    if (type == PHI3_GGUF_STRING)
        return read_string_array(in, out->count, out);
    PHI3_TRY(read_bytes(in, count * width, "an array", &out->data));
    return type == PHI3_GGUF_BOOL ? check_bools(in, key, out->data, out->count) : PHI3_OK;
}

static phi3_status read_entry(reader *in, gguf_entry *entry)
{
    uint32_t type = 0;
    PHI3_TRY(read_name(in, "a metadata key", &entry->key));
    PHI3_TRY(read_u32(in, "the type of a value", &type));
    if (type > PHI3_GGUF_FLOAT64)
        return bad_value_type(in, entry->key, "a value", type);

    entry->type = (phi3_gguf_type)type;
    if (type == PHI3_GGUF_ARRAY)
        return read_array(in, entry->key, &entry->value.array);
    if (type == PHI3_GGUF_STRING)
        return read_string(in, "a string value", &entry->value.text);
    PHI3_TRY(read_bytes(in, phi3_gguf_type_bytes(type), "a value", &entry->value.number));
    return type == PHI3_GGUF_BOOL ? check_bools(in, entry->key, entry->value.number, 1) : PHI3_OK;
}

static int compare_names(const void *a, const void *b)
{
    return phi3_gguf_compare(*(const phi3_gguf_string *)a, *(const phi3_gguf_string *)b);
}

/* Sorts records that begin with their name, and refuses two of the same name. */
static phi3_status sort_by_name(const reader *in, const char *what, void *records, size_t count,
                                size_t record_size)
{
    if (count < 2)
        return PHI3_OK;
    qsort(records, count, record_size, compare_names);
    for (size_t i = 1; i < count; i++) {
        const char *record = (const char *)records + i * record_size;
        if (compare_names(record - record_size, record) != 0)
            continue;
        const phi3_gguf_string *name = (const phi3_gguf_string *)record;
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: %s '%.*s' occurs twice", in->path,
                         what, shown(*name), name->text);
    }
    return PHI3_OK;
}

static phi3_status read_metadata(reader *in, size_t count, phi3_gguf *gguf)
{
    gguf->entries = calloc(count ? count : 1, sizeof *gguf->entries);
    if (!gguf->entries)
        return phi3_fail_memory(in->error, "the metadata of a GGUF file");
    for (size_t i = 0; i < count; i++) {
        gguf->n_entries++; /* first: a half-read entry may own strings */
        PHI3_TRY(read_entry(in, &gguf->entries[i]));
    }
    return sort_by_name(in, "key", gguf->entries, count, sizeof *gguf->entries);
}

/* ---- Tensors ------------------------------------------------------------------------------- */

/* Formats that other programs write and this library does not read, by their number. */
static const char *const unread_formats[] = {
    [4] = "Q4_2",    [5] = "Q4_3",     [9] = "Q8_1",   [15] = "Q8_K",  [16] = "IQ2_XXS",
    [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [21] = "IQ3_S", [22] = "IQ2_S",
    [24] = "I8",     [25] = "I16",     [26] = "I32",   [27] = "I64",   [28] = "F64",
    [29] = "IQ1_M",  [34] = "TQ1_0",   [35] = "TQ2_0", [39] = "MXFP4", [40] = "NVFP4",
    [41] = "Q1_0",
};

static phi3_status unread_format(const reader *in, phi3_gguf_string name, uint32_t type)
{
    size_t n_known = sizeof unread_formats / sizeof *unread_formats;
    const char *format = type < n_known ? unread_formats[type] : NULL;
    return phi3_fail(in->error, format ? PHI3_ERROR_UNSUPPORTED : PHI3_ERROR_BAD_FILE,
                     "%s: tensor '%.*s' has the %s type %u%s%s", in->path, shown(name), name.text,
                     format ? "unsupported" : "unknown", (unsigned)type, format ? ", " : "",
                     format ? format : "");
}

/* The shape: columns first, as the file has it. */
static phi3_status read_shape(reader *in, phi3_gguf_string name, phi3_tensor *tensor)
{
    uint32_t n_dims = 0;
    uint64_t shape[2] = {1, 1};
    PHI3_TRY(read_u32(in, "the number of dimensions of a tensor", &n_dims));
    if (n_dims < 1 || n_dims > 2)
        return phi3_fail(in->error,
                         n_dims == 3 || n_dims == 4 ? PHI3_ERROR_UNSUPPORTED : PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%.*s' has %u dimensions; phi3 reads 1 or 2", in->path,
                         shown(name), name.text, (unsigned)n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        PHI3_TRY(read_u64(in, "a dimension of a tensor", &shape[i]));
    if (shape[0] == 0 || shape[1] == 0)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: tensor '%.*s' has a dimension of 0",
                         in->path, shown(name), name.text);
    tensor->n_columns = (size_t)shape[0];
    tensor->n_rows = (size_t)shape[1];
    return PHI3_OK;
}

/* The bytes of a tensor, once its type and shape are known to make sense. */
static phi3_status measure(const reader *in, gguf_tensor *record, uint32_t type)
{
    const phi3_dtype_info *traits = phi3_dtype_traits(type);
    if (!traits)
        return unread_format(in, record->name, type);
    phi3_tensor *tensor = &record->tensor;
    tensor->dtype = (phi3_dtype)type;
    if (tensor->n_columns % traits->block_size != 0)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%.*s' has %zu columns, not a multiple of %s's block of %zu",
                         in->path, shown(record->name), record->name.text, tensor->n_columns,
                         traits->name, traits->block_size);
    size_t row_bytes;
    if (phi3_multiply_overflows(tensor->n_columns / traits->block_size, traits->block_bytes,
                                &row_bytes) ||
        phi3_multiply_overflows(tensor->n_rows, row_bytes, &record->bytes))
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%.*s' has the impossible shape [%zu][%zu]", in->path,
                         shown(record->name), record->name.text, tensor->n_rows, tensor->n_columns);
    return PHI3_OK;
}

static phi3_status read_tensor(reader *in, gguf_tensor *record)
{
    uint32_t type = 0;
    PHI3_TRY(read_name(in, "a tensor name", &record->name));
    PHI3_TRY(read_shape(in, record->name, &record->tensor));
    PHI3_TRY(read_u32(in, "the type of a tensor", &type));
    PHI3_TRY(read_u64(in, "the offset of a tensor", &record->offset));
    return measure(in, record, type);
}

/* Points every tensor at its bytes; `in` stands behind the directory. */
static phi3_status place_tensors(const reader *in, size_t alignment, phi3_gguf *gguf)
{
    size_t padding = (alignment - in->position % alignment) % alignment;
    size_t start = in->position + (padding < bytes_left(in) ? padding : bytes_left(in));
    size_t data_size = in->size - start;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        gguf_tensor *record = &gguf->tensors[i];
        if (record->offset % alignment != 0)
            return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                             "%s: tensor '%.*s' starts at offset %llu, not a multiple of the "
                             "alignment %zu",
                             in->path, shown(record->name), record->name.text,
                             (unsigned long long)record->offset, alignment);
        if (record->offset > data_size || record->bytes > data_size - record->offset)
            return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                             "%s: tensor '%.*s' takes %zu bytes at offset %llu, but the file has "
                             "only %zu bytes of tensors: it is truncated or damaged",
                             in->path, shown(record->name), record->name.text, record->bytes,
                             (unsigned long long)record->offset, data_size);
        record->tensor.data = in->data + start + record->offset;
    }
    return PHI3_OK;
}

static phi3_status read_tensors(reader *in, size_t count, phi3_gguf *gguf)
{
    gguf->tensors = calloc(count ? count : 1, sizeof *gguf->tensors);
    if (!gguf->tensors)
        return phi3_fail_memory(in->error, "the tensor directory of a GGUF file");
    for (size_t i = 0; i < count; i++)
        PHI3_TRY(read_tensor(in, &gguf->tensors[i]));
    gguf->n_tensors = count;

    size_t alignment = DEFAULT_ALIGNMENT;
    PHI3_TRY(phi3_gguf_size(gguf, "general.alignment", &alignment, in->error));
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > MAX_ALIGNMENT)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: general.alignment is %zu, not a power of two up to %d", in->path,
                         alignment, MAX_ALIGNMENT);
    PHI3_TRY(place_tensors(in, alignment, gguf));
    return sort_by_name(in, "tensor", gguf->tensors, count, sizeof *gguf->tensors);
}

/* ---- The file ------------------------------------------------------------------------------ */

static phi3_status read_version(reader *in)
{
    const uint8_t *magic = NULL;
    uint32_t version = 0;
    PHI3_TRY(read_bytes(in, 4, "the magic number", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: not a GGUF file: it does not start with 'GGUF'", in->path);
    PHI3_TRY(read_u32(in, "the version", &version));
    if (version != 0 && (version & 0xffff) == 0)
        return phi3_fail(in->error, PHI3_ERROR_UNSUPPORTED,
                         "%s: a big-endian GGUF file; phi3 reads little-endian ones", in->path);
    if (version == 1 || version > 3)
        return phi3_fail(in->error, PHI3_ERROR_UNSUPPORTED,
                         "%s: GGUF version %u; phi3 reads 2 and 3", in->path, (unsigned)version);
    if (version == 0)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: GGUF version 0 does not exist",
                         in->path);
    return PHI3_OK;
}

static phi3_status read_file(reader *in, phi3_gguf *gguf)
{
    uint64_t n_tensors = 0, n_entries = 0;
    PHI3_TRY(read_version(in));
    PHI3_TRY(read_u64(in, "the number of tensors", &n_tensors));
    PHI3_TRY(read_u64(in, "the number of metadata keys", &n_entries));
    PHI3_TRY(
        check_count(in, "the number of metadata keys", n_entries, MIN_ENTRY_BYTES, MAX_ENTRIES));
    PHI3_TRY(check_count(in, "the number of tensors", n_tensors, MIN_TENSOR_BYTES, MAX_ENTRIES));
    PHI3_TRY(read_metadata(in, (size_t)n_entries, gguf));
    PHI3_TRY(check_count(in, "the number of tensors", n_tensors, MIN_TENSOR_BYTES, MAX_ENTRIES));
    return read_tensors(in, (size_t)n_tensors, gguf);
}

phi3_status phi3_gguf_open(const char *path, phi3_gguf **gguf, phi3_error *error)
{
    phi3_gguf *opened = calloc(1, sizeof *opened);
    if (!opened)
        return phi3_fail_memory(error, "a GGUF file");
    phi3_status status = phi3_file_open(path, &opened->file, error);
    if (status == PHI3_OK) {
        reader in = {path, opened->file.data, opened->file.size, 0, error};
        status = read_file(&in, opened);
    }
    if (status != PHI3_OK) {
        phi3_gguf_close(opened);
        return status;
    }
    *gguf = opened;
    return PHI3_OK;
}

void phi3_gguf_close(phi3_gguf *gguf)
{
    if (!gguf)
        return;
    for (size_t i = 0; i < gguf->n_entries; i++) {
        if (gguf->entries[i].type == PHI3_GGUF_ARRAY)
            free((void *)gguf->entries[i].value.array.strings);
    }
    free(gguf->entries);
    free(gguf->tensors);
    phi3_file_close(&gguf->file);
    free(gguf);
}
