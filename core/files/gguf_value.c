/*
 * gguf_value.c - looks things up in an opened GGUF file. In: a key or tensor name. Out: its value in
 * the type that the caller wants, or an error that names the file, the key and what it holds.
 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "gguf_table.h"

static const struct {
    const char *name;
    size_t bytes;
} value_types[] = {
    [PHI3_GGUF_UINT8] = {"uint8", 1},     [PHI3_GGUF_INT8] = {"int8", 1},
    [PHI3_GGUF_UINT16] = {"uint16", 2},   [PHI3_GGUF_INT16] = {"int16", 2},
    [PHI3_GGUF_UINT32] = {"uint32", 4},   [PHI3_GGUF_INT32] = {"int32", 4},
    [PHI3_GGUF_FLOAT32] = {"float32", 4}, [PHI3_GGUF_BOOL] = {"bool", 1},
    [PHI3_GGUF_STRING] = {"string", 0},   [PHI3_GGUF_ARRAY] = {"array", 0},
    [PHI3_GGUF_UINT64] = {"uint64", 8},   [PHI3_GGUF_INT64] = {"int64", 8},
    [PHI3_GGUF_FLOAT64] = {"float64", 8},
};

size_t phi3_gguf_type_bytes(uint32_t type)
{
    return type < sizeof value_types / sizeof *value_types ? value_types[type].bytes : 0;
}

int phi3_gguf_compare(phi3_gguf_string a, phi3_gguf_string b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = memcmp(a.text, b.text, shorter);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

const char *phi3_gguf_path(const phi3_gguf *gguf)
{
    return gguf->file.path;
}

const phi3_file *phi3_gguf_file(const phi3_gguf *gguf)
{
    return &gguf->file;
}

/* ---- Search -------------------------------------------------------------------------------- */

/* The record of this name among sorted records that begin with their name, or NULL. */
static const void *find(const void *records, size_t count, size_t record_size, const char *name)
{
    phi3_gguf_string wanted = {name, strlen(name)};
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const void *record = (const char *)records + middle * record_size;
        int order = phi3_gguf_compare(wanted, *(const phi3_gguf_string *)record);
        if (order == 0)
            return record;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static const gguf_entry *find_entry(const phi3_gguf *gguf, const char *key)
{
    return find(gguf->entries, gguf->n_entries, sizeof *gguf->entries, key);
}

bool phi3_gguf_has(const phi3_gguf *gguf, const char *key)
{
    return find_entry(gguf, key) != NULL;
}

/* ---- Numbers ------------------------------------------------------------------------------- */

/* A number as it was stored, widened: one of the three is set. */
typedef struct number {
    enum { NOT_A_NUMBER, SIGNED, UNSIGNED, FLOATING } kind;
    int64_t as_signed;
    uint64_t as_unsigned;
    double as_floating;
} number;

#define WIDEN(c_type, number_kind, field)                        \
    do {                                                         \
        c_type stored;                                           \
        memcpy(&stored, bytes, sizeof stored);                   \
        return (number){.kind = (number_kind), .field = stored}; \
    } while (0)

static number read_number(phi3_gguf_type type, const uint8_t *bytes)
{
    switch (type) {
    case PHI3_GGUF_UINT8:
        WIDEN(uint8_t, UNSIGNED, as_unsigned);
    case PHI3_GGUF_INT8:
        WIDEN(int8_t, SIGNED, as_signed);
    case PHI3_GGUF_UINT16:
        WIDEN(uint16_t, UNSIGNED, as_unsigned);
    case PHI3_GGUF_INT16:
        WIDEN(int16_t, SIGNED, as_signed);
    case PHI3_GGUF_UINT32:
        WIDEN(uint32_t, UNSIGNED, as_unsigned);
    case PHI3_GGUF_INT32:
        WIDEN(int32_t, SIGNED, as_signed);
    case PHI3_GGUF_UINT64:
        WIDEN(uint64_t, UNSIGNED, as_unsigned);
    case PHI3_GGUF_INT64:
        WIDEN(int64_t, SIGNED, as_signed);
    case PHI3_GGUF_FLOAT32:
        WIDEN(float, FLOATING, as_floating);
    case PHI3_GGUF_FLOAT64:
        WIDEN(double, FLOATING, as_floating);
    case PHI3_GGUF_BOOL:
    case PHI3_GGUF_STRING:
    case PHI3_GGUF_ARRAY:
        break;
    }
    return (number){.kind = NOT_A_NUMBER};
}

#undef WIDEN

static number entry_number(const gguf_entry *entry)
{
    return read_number(entry->type, entry->value.number);
}

static phi3_status wrong_value(const phi3_gguf *gguf, const gguf_entry *entry, const char *wanted,
                               phi3_error *error)
{
    return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: key '%.*s' should be %s, but is %s %s",
                     gguf->file.path, (int)entry->key.size, entry->key.text, wanted,
                     entry->type == PHI3_GGUF_ARRAY || entry->type == PHI3_GGUF_INT8 ? "an" : "a",
                     value_types[entry->type].name);
}

phi3_status phi3_gguf_size(const phi3_gguf *gguf, const char *key, size_t *out, phi3_error *error)
{
    const gguf_entry *entry = find_entry(gguf, key);
    if (!entry)
        return PHI3_OK;
    number value = entry_number(entry);
    if (value.kind == UNSIGNED && value.as_unsigned <= SIZE_MAX)
        *out = (size_t)value.as_unsigned;
    else if (value.kind == SIGNED && value.as_signed >= 0)
        *out = (size_t)value.as_signed;
    else
        return wrong_value(gguf, entry, "a non-negative integer", error);
    return PHI3_OK;
}

phi3_status phi3_gguf_integer(const phi3_gguf *gguf, const char *key, int64_t *out,
                              phi3_error *error)
{
    const gguf_entry *entry = find_entry(gguf, key);
    if (!entry)
        return PHI3_OK;
    number value = entry_number(entry);
    if (value.kind == UNSIGNED && value.as_unsigned <= INT64_MAX)
        *out = (int64_t)value.as_unsigned;
    else if (value.kind == SIGNED)
        *out = value.as_signed;
    else
        return wrong_value(gguf, entry, "an integer of 64 bits", error);
    return PHI3_OK;
}

/* Any number as a float; NaN for what is none. */
static float to_float(number value)
{
    switch (value.kind) {
    case SIGNED:
        return (float)value.as_signed;
    case UNSIGNED:
        return (float)value.as_unsigned;
    case FLOATING:
        return (float)value.as_floating;
    case NOT_A_NUMBER:
        break;
    }
    return NAN;
}

phi3_status phi3_gguf_floating(const phi3_gguf *gguf, const char *key, float *out,
                               phi3_error *error)
{
    const gguf_entry *entry = find_entry(gguf, key);
    if (!entry)
        return PHI3_OK;
    float value = to_float(entry_number(entry));
    if (!isfinite(value))
        return wrong_value(gguf, entry, "a finite number", error);
    *out = value;
    return PHI3_OK;
}

/* ---- Other values -------------------------------------------------------------------------- */

phi3_status phi3_gguf_bool(const phi3_gguf *gguf, const char *key, bool *out, phi3_error *error)
{
    const gguf_entry *entry = find_entry(gguf, key);
    if (!entry)
        return PHI3_OK;
    if (entry->type != PHI3_GGUF_BOOL)
        return wrong_value(gguf, entry, "a bool", error);
    *out = *entry->value.number != 0;
    return PHI3_OK;
}

phi3_status phi3_gguf_text(const phi3_gguf *gguf, const char *key, phi3_gguf_string *out,
                           phi3_error *error)
{
    const gguf_entry *entry = find_entry(gguf, key);
    if (!entry)
        return PHI3_OK;
    if (entry->type != PHI3_GGUF_STRING)
        return wrong_value(gguf, entry, "a string", error);
    *out = entry->value.text;
    return PHI3_OK;
}

phi3_status phi3_gguf_list(const phi3_gguf *gguf, const char *key, phi3_gguf_array *out,
                           phi3_error *error)
{
    const gguf_entry *entry = find_entry(gguf, key);
    if (!entry)
        return PHI3_OK;
    if (entry->type != PHI3_GGUF_ARRAY)
        return wrong_value(gguf, entry, "an array", error);
    *out = entry->value.array;
    return PHI3_OK;
}

float phi3_gguf_array_float(const phi3_gguf_array *array, size_t i)
{
    if (!array->data || i >= array->count)
        return NAN;
    return to_float(read_number(array->type, array->data + i * phi3_gguf_type_bytes(array->type)));
}

int64_t phi3_gguf_array_integer(const phi3_gguf_array *array, size_t i)
{
    if (!array->data || i >= array->count)
        return -1;
    number value = read_number(array->type, array->data + i * phi3_gguf_type_bytes(array->type));
    if (value.kind == UNSIGNED && value.as_unsigned <= INT64_MAX)
        return (int64_t)value.as_unsigned;
    return value.kind == SIGNED ? value.as_signed : -1;
}

/* ---- Tensors ------------------------------------------------------------------------------- */

size_t phi3_gguf_tensor_count(const phi3_gguf *gguf)
{
    return gguf->n_tensors;
}

phi3_tensor phi3_gguf_tensor_at(const phi3_gguf *gguf, size_t index, phi3_gguf_string *name)
{
    if (name)
        *name = gguf->tensors[index].name;
    return gguf->tensors[index].tensor;
}

bool phi3_gguf_tensor(const phi3_gguf *gguf, const char *name, phi3_tensor *out)
{
    const gguf_tensor *found = find(gguf->tensors, gguf->n_tensors, sizeof *gguf->tensors, name);
    if (found)
        *out = found->tensor;
    return found != NULL;
}
