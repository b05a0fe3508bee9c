/* gguf_table.h - what an opened GGUF file holds: shared by gguf.c, which fills it, and gguf_value.c. */
#ifndef PHI3_INTERNAL_GGUF_TABLE_H
#define PHI3_INTERNAL_GGUF_TABLE_H

#include "gguf.h"

/* A key and its value. */
typedef struct gguf_entry {
    phi3_gguf_string key; /* first, for sorting */
    phi3_gguf_type type;
    union {
        const uint8_t *number; /* unaligned, as wide as the type */
        phi3_gguf_string text;
        phi3_gguf_array array; /* owns its strings */
    } value;
} gguf_entry;

typedef struct gguf_tensor {
    phi3_gguf_string name; /* first, for sorting */
    phi3_tensor tensor;
    uint64_t offset; /* in the data section */
    size_t bytes;
} gguf_tensor;

struct phi3_gguf {
    phi3_file file;
    gguf_entry *entries; /* [n_entries], sorted by key */
    size_t n_entries;
    gguf_tensor *tensors; /* [n_tensors], sorted by name */
    size_t n_tensors;
};

/* Bytes of a number or bool; 0 for strings, arrays and unknown types. */
size_t phi3_gguf_type_bytes(uint32_t type);

/* Orders strings by their bytes, the shorter first. */
int phi3_gguf_compare(phi3_gguf_string a, phi3_gguf_string b);

#endif
