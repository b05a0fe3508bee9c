/*
 * formats.h - the element formats of stored tensors: F32, F16, BF16 and GGUF's quantised blocks.
 *
 * A quantised tensor is stored row by row; a row is a run of blocks of `block_size` elements that
 * take `block_bytes` bytes. The numbers of the enum are those of GGUF files (ggml_type), so that a
 * file's own number can be used after phi3_dtype_traits has accepted it.
 */
#ifndef PHI3_FORMATS_H
#define PHI3_FORMATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum phi3_dtype {
    PHI3_F32 = 0,
    PHI3_F16 = 1,
    PHI3_Q4_0 = 2,
    PHI3_Q4_1 = 3,
    PHI3_Q5_0 = 6,
    PHI3_Q5_1 = 7,
    PHI3_Q8_0 = 8,
    PHI3_Q2_K = 10,
    PHI3_Q3_K = 11,
    PHI3_Q4_K = 12,
    PHI3_Q5_K = 13,
    PHI3_Q6_K = 14,
    PHI3_IQ4_NL = 20,
    PHI3_IQ4_XS = 23,
    PHI3_I8 = 24, /* codes of the KV cache, whose scales stand apart: not a format of weights */
    PHI3_BF16 = 30,
    PHI3_DTYPE_LIMIT = 31 /* one more than the highest number */
} phi3_dtype;

typedef struct phi3_dtype_info {
    const char *name;   /* "q4_0", "bfloat16", ... */
    size_t block_size;  /* elements in a block; 1 for the float types */
    size_t block_bytes; /* bytes of a block */
} phi3_dtype_info;

/* The traits of a format by its GGUF number; NULL when this library does not know it. */
const phi3_dtype_info *phi3_dtype_traits(uint32_t dtype);

/* Bytes of a row of n_columns elements; n_columns must be a multiple of the block size. */
size_t phi3_dtype_row_bytes(phi3_dtype dtype, size_t n_columns);

/* Expands one row to float32: out [n_columns]. Source: ggml's block definitions; the results equal
 * those of the Python package gguf. */
void phi3_dequantize_row(phi3_dtype dtype, const void *row, size_t n_columns, float *out);

/*
 * Rounds one row to a format: out [phi3_dtype_row_bytes]; n_columns is a multiple of the block size.
 * The float types and blocks of 32 get the bytes that the Python package gguf makes; it has no
 * quantiser for the others, whose codes and scales are fitted by weighted least squares. False: the
 * row holds a NaN, an infinity or a number that is too large for the format.
 */
bool phi3_quantize_row(phi3_dtype dtype, const float *row, size_t n_columns, void *out);

/* Rounds rows of one format to another, on n_threads. Both block sizes divide n_columns. Returns the
 * first row that phi3_quantize_row refuses, or n_rows. */
size_t phi3_convert_rows(phi3_dtype from, const void *rows, size_t n_rows, size_t n_columns,
                         phi3_dtype to, void *out, int n_threads);

/* The first of the rows with a NaN or an infinity among the scales of its blocks, or n_rows. */
size_t phi3_find_bad_scale(phi3_dtype dtype, const void *rows, size_t n_rows, size_t n_columns,
                           int n_threads);

#endif
