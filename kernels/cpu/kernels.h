/*
 * kernels.h - the table of single-threaded kernels that cpu/isa provides once per instruction set.
 *
 * The ops of the CPU backend (linear.c, rows.c, attention.c) split the work over threads and call
 * these. All pointers are host memory; float rows may stand at any alignment of 4 bytes.
 */
#ifndef PHI3_CPU_KERNELS_H
#define PHI3_CPU_KERNELS_H

#include "kernels/backend.h"

/* 32 activations of a row as 8-bit integers: x = scale * code. */
typedef struct phi3_int8_block {
    int8_t codes[32];       /* in [-127, 127] */
    int32_t minus_sum;      /* of the codes */
    int32_t minus_high_sum; /* of the last 16 */
    float scale;
    float code_sum; /* -minus_sum */
} phi3_int8_block;

/* sums[r][o] = x[r] . row o of a packed panel (packed.h), the same to the last bit however many
 * other rows there are.     x [n_blocks][n_rows], sums [n_rows][PHI3_PANEL_ROWS] */
typedef void phi3_panel_product(const uint8_t *panel, size_t n_blocks, const phi3_int8_block *x,
                                size_t n_rows, float *sums);

/* Float rows: [n_rows] of some number of columns, `stride` elements apart. */
typedef struct phi3_float_rows {
    const void *data; /* 16-bit elements may stand at any address */
    phi3_dtype dtype; /* block_product: a quantised one; else F32, F16 or BF16 */
    size_t stride;
    size_t n_rows;
} phi3_float_rows;

/* One unit of attention: the query heads that share some kv heads, in consecutive rows of a span. */
typedef struct phi3_attention_unit {
    const phi3_kv_span *span;
    size_t kv_head, n_kv_heads; /* the first of them, how many */
    size_t first;               /* row of the span */
    size_t n_rows;
    bool tiles; /* multiply in tiles: at PHI3_ISA_AVX512_AMX only, whole steps of 32 dimensions */
} phi3_attention_unit;

/*
 * What a unit's query vectors have seen so far: for each, the sum of the weighted values, the sum of
 * the weights, and the highest score, to which weights are relative. They stand by kv head, by row,
 * and then by query head.
 */
typedef struct phi3_attention_sums {
    float *values;  /* [n_queries][PHI3_ATTENTION_WIDTH(head_dim)] */
    float *totals;  /* [n_queries]; 0: has seen nothing */
    float *highest; /* [n_queries] */
} phi3_attention_sums;

/* Keys stand so that a vector of any level holds one dimension of some positions: as the products with
 * queries read them. A power of 2 that divides PHI3_PAGE_POSITIONS. */
enum { PHI3_KEY_LANES = 16 };

/* Columns of a panel of activations in bfloat16, as oneDNN reads them, and rows turned at a time. */
enum { PHI3_ONEDNN_PANEL = 64, PHI3_ONEDNN_TURN = 16 };

/* head_dim in whole vectors of any level. */
#define PHI3_ATTENTION_WIDTH(head_dim) (((head_dim) + 15) / 16 * 16)

/* The first position that a row at `position` sees. */
static inline size_t phi3_first_seen(const phi3_attention *attention, size_t position)
{
    size_t window = attention->sliding_window;
    return window && position >= window ? position - window + 1 : 0;
}

/* Whether sums of so many rows and columns are stored past the caches. A larger y is not in them any
 * more when it is read; its columns, whose lines share a set, would only drive out the weights. 3 %
 * of a prefill on Zen 5. */
static inline bool phi3_goes_past_caches(size_t n_rows, size_t n_columns)
{
    return n_rows * n_columns * sizeof(float) > 4 << 20;
}

typedef struct phi3_cpu_kernels {
    /* As phi3_dequantize_row, to the bit. */
    void (*dequantize_row)(phi3_dtype dtype, const void *row, size_t n_columns, float *out);

    /* phi3_quantize_row of formats.h, the same at every level to the bit. */
    bool (*quantize_weights)(phi3_dtype dtype, const float *row, size_t n_columns, void *out);

    /* Quantises a row of activations: block b to out[b * stride].     x [n_blocks][32] */
    void (*quantize_activations)(const float *x, size_t n_blocks, size_t stride,
                                 phi3_int8_block *out);

    /* The product by the weights' format; NULL for formats that are not packed. */
    phi3_panel_product *panel_product[PHI3_DTYPE_LIMIT];

    /* Sums to where they belong: y[r][o] = sums[r][o]; straight to memory when that may be.
     *     sums, y [n_rows][n_out] with rows sums_stride and y_stride apart */
    void (*spread_sums)(const float *sums, size_t sums_stride, size_t n_rows, size_t n_out,
                        bool past_caches, float *y, size_t y_stride);

    /* y[r][o] = x[r] . w[o], for a few rows of x. x of F32: in float32, w of floats. x of BF16, only
     * from PHI3_ISA_AVX512_BF16 on: w of BF16.
     *     y [x.n_rows][.] with rows y_stride apart */
    void (*float_product)(const phi3_float_rows *w, const phi3_float_rows *x, size_t n_columns,
                          float *y, size_t y_stride);

    /* The same for one row of x, to the bit, with quantised w: whole rows of w.stride columns. */
    void (*block_product)(const phi3_float_rows *w, const float *x, float *y);

    /* And for many rows, with w in panels of 2 float_lanes rows and x spread; a row is n_steps vectors
     * of float_lanes columns, or 2 float_lanes in bfloat16.
     *     panel [n_steps * float_lanes][2 float_lanes], out and rows of x [n_steps * float_lanes] */
    size_t float_lanes;
    void (*pack_float_panel)(const phi3_float_rows *w, bool bfloat16, size_t n_columns,
                             size_t n_steps, float *panel);
    void (*spread_row)(const float *x, bool bfloat16, size_t n_columns, size_t n_steps, float *out);
    void (*float_panel_product)(const float *panel, bool bfloat16, size_t n_steps, const float *x,
                                size_t n_rows, size_t n_out, float *y, size_t y_stride);

    /* From PHI3_ISA_AVX512_BF16 on: up to 16 rows of x, zeros below, to 16 columns of a panel.
     *     x [n_rows][n_columns], a multiple of 32, panel [n_columns / 2][PHI3_ONEDNN_PANEL][2] */
    void (*turn_rows)(const float *x, size_t n_rows, size_t n_columns, uint16_t *panel);
    /* And back, as spread_sums: y[r][o] = sums[o][r].     sums [n_out][n_rows], rounded up to 16 */
    void (*turn_sums)(const float *sums, size_t sums_stride, size_t n_rows, size_t n_out,
                      bool past_caches, float *y, size_t y_stride);

    /* Products of bfloat16 in tiles (isa/tiles.c), at PHI3_ISA_AVX512_AMX only: sums = x w^T, or with
     * `add` sums += x w^T, for n_rows rows of x, rounded up to 16, and the rows of some panels of w.
     *     w [n_panels][n_steps][1024], x [n_rows / 32][.][1024], each 32 rows x_stride apart,
     *     sums [.][n_panels * PHI3_PANEL_ROWS], rows sums_stride apart */
    void (*tile_product)(const uint16_t *w, size_t n_panels, const uint16_t *x, size_t x_stride,
                         size_t n_rows, size_t n_steps, bool add, float *sums, size_t sums_stride);
    /* A row of x (NULL: zeros) to tiles; row number `row` of its 32.     out [n_columns / 32][1024] */
    void (*tile_row)(const float *x, size_t n_columns, size_t row, uint16_t *out);
    /* Blocks first to first + n_blocks of a packed panel to tiles.     out [n_blocks][1024] */
    void (*tile_panel)(phi3_dtype dtype, const uint8_t *panel, size_t first, size_t n_blocks,
                       uint16_t *out);
    /* Up to 32 rows of bfloat16 to tiles, zeros below.     out [n_columns / 32][1024] */
    void (*tile_bfloat16)(const phi3_float_rows *w, size_t n_columns, uint16_t *out);

    /* To bfloat16, rounded to nearest.     x, out [count] */
    void (*to_bfloat16)(const float *x, size_t count, uint16_t *out);

    /* One row of the op of backend.h. */
    void (*add_rms_norm)(float *x, const float *delta, const float *weight, float epsilon,
                         size_t n_columns, float *out);

    /* out = silu(gate) * up.     all [count] */
    void (*swiglu)(const float *gate, const float *up, size_t count, float *out);

    /* The first place from `start` on where x is not at most `bound` (a NaN is not); count: there is
     * none.     x [count] */
    size_t (*find_above)(const float *x, size_t start, size_t count, float bound);

    /* Rotates one batch row of qkv and stores its keys and values, as rope_append of backend.h. Keys
     * of the same PHI3_KEY_LANES positions share cache lines: best by one thread.
     *     heads [n_heads + 2 n_kv_heads][head_dim], cosine, sine [rotary_dim / 2] */
    void (*rope_append)(const phi3_attention *attention, const phi3_kv_span *span, size_t position,
                        const float *cosine, const float *sine, float *heads);

    /* Floats of scratch that attend needs for up to n_queries query vectors. */
    size_t (*attend_scratch)(size_t head_dim, size_t n_queries);

    /* What a unit sees in pages [first_page, end_page) of its span, into `sums`.
     *     qkv [n_rows of the batch][(n_heads + 2 n_kv_heads) * head_dim]; scratch 64-byte aligned */
    void (*attend)(const phi3_attention *attention, const phi3_attention_unit *unit,
                   size_t first_page, size_t end_page, const float *qkv, float *scratch,
                   const phi3_attention_sums *sums);

    /* Adds what has been seen in `later` pages. */
    void (*add_sums)(const phi3_attention_sums *sums, const phi3_attention_sums *later,
                     size_t n_queries, size_t head_dim);

    /* The weighted means.     out [n_rows of the batch][n_heads * head_dim] */
    void (*finish_attention)(const phi3_attention *attention, const phi3_attention_unit *unit,
                             const phi3_attention_sums *sums, float *out);

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
extern const phi3_cpu_kernels phi3_cpu_kernels_avx512_amx;

#endif
