/*
 * kernels.h - the table of single-threaded kernels that cpu/isa provides once per instruction set.
 *
 * The ops of the CPU backend (linear.c, rows.c, attention.c) split the work over threads and call
 * these. All pointers are host memory; float rows may stand at any alignment of 4 bytes.
 */
#ifndef PHI3_CPU_KERNELS_H
#define PHI3_CPU_KERNELS_H

#include "kernels/backend.h"

/* Columns of quantised activations are padded with zeros to whole groups of this many. */
enum { PHI3_INT8_GROUP = 256, PHI3_INT8_BLOCK = 32 };

/* Bytes of scratch that an integer product needs for each group of columns. */
enum { PHI3_INT8_SCRATCH_PER_GROUP = 4352 };

/* Activations as 8-bit integers, a scale for each block of 32: x = scale * code. */
typedef struct phi3_int8_rows {
    size_t n_rows;
    size_t n_padded; /* columns, a multiple of PHI3_INT8_GROUP */
    int8_t *codes;   /* [n_rows][n_padded], in [-127, 127] */
    float *scales;   /* [n_rows][n_padded / 32] */
    float *sums;     /* [n_rows][n_padded / 32] scale * the sum of the block's codes */
} phi3_int8_rows;

/* A run of stored weight rows. */
typedef struct phi3_weight_rows {
    const uint8_t *data; /* [n_rows][row_bytes] */
    size_t row_bytes;
    size_t n_rows;
    size_t n_columns;
} phi3_weight_rows;

/* y[r][o] = x[r] . weights[o], the same to the last bit however many other rows there are.
 *     y [x.n_rows][.], rows y_stride apart; scratch [x.n_padded / 256][PHI3_INT8_SCRATCH_PER_GROUP]
 *     bytes, 64-byte aligned */
typedef void phi3_int8_product(const phi3_weight_rows *weights, const phi3_int8_rows *x,
                               void *scratch, float *y, size_t y_stride);

/* Float rows: [n_rows] of some number of columns, `stride` elements apart. */
typedef struct phi3_float_rows {
    const void *data; /* 16-bit elements may stand at any address */
    phi3_dtype dtype; /* F32, F16 or BF16 */
    size_t stride;
    size_t n_rows;
} phi3_float_rows;

/* One unit of attention: the query heads that share a kv head, in consecutive rows of one span. */
typedef struct phi3_attention_unit {
    const phi3_kv_span *span;
    size_t kv_head;
    size_t first; /* row of the span */
    size_t n_rows;
} phi3_attention_unit;

typedef struct phi3_cpu_kernels {
    /* As phi3_dequantize_row, to the bit. */
    void (*dequantize_row)(phi3_dtype dtype, const void *row, size_t n_columns, float *out);

    /* phi3_quantize_row of formats.h, the same at every level to the bit. */
    bool (*quantize_weights)(phi3_dtype dtype, const float *row, size_t n_columns, void *out);

    /* Quantises row `row` of the activations.     x [n_columns] */
    void (*quantize_row)(const float *x, size_t n_columns, size_t row, const phi3_int8_rows *out);

    /* The product by the weights' format; NULL where float32 must do. */
    phi3_int8_product *int8_product[PHI3_DTYPE_LIMIT];

    /* y[r][o] = x[r] . w[o], added to what is there when `add`.
     *     w of any dtype, x of F32, y [x.n_rows][.] with rows y_stride apart */
    void (*float_product)(const phi3_float_rows *w, const phi3_float_rows *x, size_t n_columns,
                          bool add, float *y, size_t y_stride);

    /* To bfloat16, rounded to nearest.     x, out [count] */
    void (*to_bfloat16)(const float *x, size_t count, uint16_t *out);

    /* One row of the op of backend.h. */
    void (*add_rms_norm)(float *x, const float *delta, const float *weight, float epsilon,
                         size_t n_columns, float *out);

    /* out = silu(gate) * up.     all [count] */
    void (*swiglu)(const float *gate, const float *up, size_t count, float *out);

    /* Rotates one batch row of qkv and stores its keys and values, as rope_append of backend.h.
     *     heads [n_heads + 2 n_kv_heads][head_dim], cosine, sine [rotary_dim / 2] */
    void (*rope_append)(const phi3_attention *attention, const phi3_kv_span *span, size_t position,
                        const float *cosine, const float *sine, float *heads);

    /* Floats of scratch that a unit of up to n_queries query vectors needs. */
    size_t (*attention_scratch)(size_t head_dim, size_t n_queries);
    void (*attention)(const phi3_attention *attention, const phi3_attention_unit *unit,
                      const float *qkv, float *scratch, float *out);

    /* What one core can do at best. peak_read reads `size` bytes, a multiple of 4096, at a multiple
     * of 64. The others multiply and add in registers and return how many operations that was. */
    uint32_t (*peak_read)(const void *data, size_t size);
    double (*peak_float32)(size_t rounds);
    double (*peak_bfloat16)(size_t rounds);
    double (*peak_int8)(size_t rounds);
} phi3_cpu_kernels;

/* The table of the level in use. */
const phi3_cpu_kernels *phi3_cpu_kernels_current(void);

extern const phi3_cpu_kernels phi3_cpu_kernels_portable;
extern const phi3_cpu_kernels phi3_cpu_kernels_avx2;
extern const phi3_cpu_kernels phi3_cpu_kernels_avx512;
extern const phi3_cpu_kernels phi3_cpu_kernels_avx512_vnni;
extern const phi3_cpu_kernels phi3_cpu_kernels_avx512_bf16;

#endif
