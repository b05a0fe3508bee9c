/*
 * gguf.h - reading a GGUF file (versions 2 and 3, little-endian): metadata and tensor directory.
 *
 * Specification: docs/gguf.md of ggml. Everything is validated when the file is opened: counts,
 * string lengths, value types, tensor types, shapes, offsets and alignment; afterwards every pointer
 * that a lookup gives lies inside the mapping.
 */
#ifndef PHI3_INTERNAL_GGUF_H
#define PHI3_INTERNAL_GGUF_H

#include "base/file.h"
#include "kernels/backend.h"
#include "phi3.h"

typedef enum phi3_gguf_type {
    PHI3_GGUF_UINT8 = 0,
    PHI3_GGUF_INT8 = 1,
    PHI3_GGUF_UINT16 = 2,
    PHI3_GGUF_INT16 = 3,
    PHI3_GGUF_UINT32 = 4,
    PHI3_GGUF_INT32 = 5,
    PHI3_GGUF_FLOAT32 = 6,
    PHI3_GGUF_BOOL = 7,
    PHI3_GGUF_STRING = 8,
    PHI3_GGUF_ARRAY = 9,
    PHI3_GGUF_UINT64 = 10,
    PHI3_GGUF_INT64 = 11,
    PHI3_GGUF_FLOAT64 = 12
} phi3_gguf_type;

/* Text inside the file: valid UTF-8 for keys and tensor names, any bytes for values. Not terminated. */
typedef struct phi3_gguf_string {
    const char *text;
    size_t size;
} phi3_gguf_string;

typedef struct phi3_gguf_array {
    phi3_gguf_type type; /* of the elements: a number or STRING */
    size_t count;
    const uint8_t *data;             /* numbers: packed, unaligned; NULL for strings */
    const phi3_gguf_string *strings; /* [count], NULL for numbers */
} phi3_gguf_array;

typedef struct phi3_gguf phi3_gguf;

phi3_status phi3_gguf_open(const char *path, phi3_gguf **gguf, phi3_error *error);
void phi3_gguf_close(phi3_gguf *gguf);
const char *phi3_gguf_path(const phi3_gguf *gguf);
const phi3_file *phi3_gguf_file(const phi3_gguf *gguf);

/*
 * Metadata by key. An absent key leaves *out as it was and returns PHI3_OK; a value of another kind
 * is PHI3_ERROR_BAD_FILE. `size` accepts any non-negative integer type, `integer` any integer that
 * fits, `floating` any finite number.
 */
bool phi3_gguf_has(const phi3_gguf *gguf, const char *key);
phi3_status phi3_gguf_size(const phi3_gguf *gguf, const char *key, size_t *out, phi3_error *error);
phi3_status phi3_gguf_integer(const phi3_gguf *gguf, const char *key, int64_t *out,
                              phi3_error *error);
phi3_status phi3_gguf_floating(const phi3_gguf *gguf, const char *key, float *out,
                               phi3_error *error);
phi3_status phi3_gguf_bool(const phi3_gguf *gguf, const char *key, bool *out, phi3_error *error);
phi3_status phi3_gguf_text(const phi3_gguf *gguf, const char *key, phi3_gguf_string *out,
                           phi3_error *error);
phi3_status phi3_gguf_list(const phi3_gguf *gguf, const char *key, phi3_gguf_array *out,
                           phi3_error *error);

/* Element i of a numeric array as float or integer; NaN or -1 where there is none of that kind. */
float phi3_gguf_array_float(const phi3_gguf_array *array, size_t i);
int64_t phi3_gguf_array_integer(const phi3_gguf_array *array, size_t i);

/* Tensors. A tensor of one dimension has n_rows 1; of three and more is refused at open. */
size_t phi3_gguf_tensor_count(const phi3_gguf *gguf);
phi3_tensor phi3_gguf_tensor_at(const phi3_gguf *gguf, size_t index, phi3_gguf_string *name);
bool phi3_gguf_tensor(const phi3_gguf *gguf, const char *name, phi3_tensor *out);

#endif
