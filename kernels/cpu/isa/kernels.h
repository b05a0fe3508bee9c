/* kernels.h - the kernels of one level, by the file that defines them; table.c gathers them. */
#ifndef PHI3_ISA_KERNELS_H
#define PHI3_ISA_KERNELS_H

#include "kernels/cpu/kernels.h"
#include "name.h"

/* dequantize.c */
void ISA_NAME(phi3_dequantize_row)(phi3_dtype dtype, const void *row, size_t n_columns, float *out);

/* quantize.c */
bool ISA_NAME(phi3_quantize_weights)(phi3_dtype dtype, const float *row, size_t n_columns,
                                     void *out);

/* int8.c */
void ISA_NAME(phi3_quantize_activations)(const float *x, size_t n_blocks, size_t stride,
                                         phi3_int8_block *out);
void ISA_NAME(phi3_spread_sums)(const float *sums, size_t sums_stride, size_t n_rows, size_t n_out,
                                bool past_caches, float *y, size_t y_stride);
phi3_panel_product ISA_NAME(phi3_product_q4_0), ISA_NAME(phi3_product_q4_1),
    ISA_NAME(phi3_product_q5_0), ISA_NAME(phi3_product_q5_1), ISA_NAME(phi3_product_q8_0),
    ISA_NAME(phi3_product_q2_k), ISA_NAME(phi3_product_q3_k), ISA_NAME(phi3_product_q4_k),
    ISA_NAME(phi3_product_q5_k), ISA_NAME(phi3_product_q6_k), ISA_NAME(phi3_product_iq4_nl),
    ISA_NAME(phi3_product_iq4_xs);

/* float.c */
void ISA_NAME(phi3_float_product)(const phi3_float_rows *w, const phi3_float_rows *x,
                                  size_t n_columns, float *y, size_t y_stride);
void ISA_NAME(phi3_to_bfloat16)(const float *x, size_t count, uint16_t *out);

/* block_product.c */
void ISA_NAME(phi3_block_product)(const phi3_float_rows *w, const float *x, float *y);

/* float_panel.c */
void ISA_NAME(phi3_pack_float_panel)(const phi3_float_rows *w, bool bfloat16, size_t n_columns,
                                     size_t n_steps, float *panel);
void ISA_NAME(phi3_spread_row)(const float *x, bool bfloat16, size_t n_columns, size_t n_steps,
                               float *out);
void ISA_NAME(phi3_float_panel_product)(const float *panel, bool bfloat16, size_t n_steps,
                                        const float *x, size_t n_rows, size_t n_out, float *y,
                                        size_t y_stride);

#if defined(__AVX512BF16__)
/* turned.c */
void ISA_NAME(phi3_turn_rows)(const float *x, size_t n_rows, size_t n_columns, uint16_t *panel);
void ISA_NAME(phi3_turn_sums)(const float *sums, size_t sums_stride, size_t n_rows, size_t n_out,
                              bool past_caches, float *y, size_t y_stride);
#endif

#if defined(__AMX_BF16__)
/* tiles.c */
void ISA_NAME(phi3_tile_row)(const float *x, size_t n_columns, size_t row, uint16_t *out);
void ISA_NAME(phi3_tile_panel)(phi3_dtype dtype, const uint8_t *panel, size_t first,
                               size_t n_blocks, uint16_t *out);
void ISA_NAME(phi3_tile_bfloat16)(const phi3_float_rows *w, size_t n_columns, uint16_t *out);
void ISA_NAME(phi3_tile_product)(const uint16_t *w, size_t n_panels, const uint16_t *x,
                                 size_t x_stride, size_t n_rows, size_t n_steps, bool add,
                                 float *sums, size_t sums_stride);
#endif

/* rows.c */
void ISA_NAME(phi3_add_rms_norm)(float *x, const float *delta, const float *weight, float epsilon,
                                 size_t n_columns, float *out);
void ISA_NAME(phi3_swiglu)(const float *gate, const float *up, size_t count, float *out);

/* find_above.c */
size_t ISA_NAME(phi3_find_above)(const float *x, size_t start, size_t count, float bound);

/* rope_append.c */
void ISA_NAME(phi3_rope_append)(const phi3_attention *attention, const phi3_kv_span *span,
                                size_t position, const float *cosine, const float *sine,
                                float *heads);

/* attention.c */
size_t ISA_NAME(phi3_attend_scratch)(size_t head_dim, size_t n_queries);
void ISA_NAME(phi3_attend)(const phi3_attention *attention, const phi3_attention_unit *unit,
                           size_t first_page, size_t end_page, const float *qkv, float *scratch,
                           const phi3_attention_sums *sums);
void ISA_NAME(phi3_add_sums)(const phi3_attention_sums *sums, const phi3_attention_sums *later,
                             size_t n_queries, size_t head_dim);
void ISA_NAME(phi3_finish_attention)(const phi3_attention *attention,
                                     const phi3_attention_unit *unit,
                                     const phi3_attention_sums *sums, float *out);

/* peaks.c */
uint32_t ISA_NAME(phi3_peak_read)(const void *data, size_t size);
double ISA_NAME(phi3_peak_float32)(size_t rounds);
double ISA_NAME(phi3_peak_bfloat16)(size_t rounds);
double ISA_NAME(phi3_peak_int8)(size_t rounds);

#endif
