/* table.c - the kernels of one level as a table. */
#include "kernels.h"
#include "simd.h"

const phi3_cpu_kernels ISA_NAME(phi3_cpu_kernels) = {
    .dequantize_row = ISA_NAME(phi3_dequantize_row),
    .quantize_weights = ISA_NAME(phi3_quantize_weights),
    .quantize_activations = ISA_NAME(phi3_quantize_activations),
    .panel_product =
        {
            [PHI3_Q4_0] = ISA_NAME(phi3_product_q4_0),
            [PHI3_Q4_1] = ISA_NAME(phi3_product_q4_1),
            [PHI3_Q5_0] = ISA_NAME(phi3_product_q5_0),
            [PHI3_Q5_1] = ISA_NAME(phi3_product_q5_1),
            [PHI3_Q8_0] = ISA_NAME(phi3_product_q8_0),
            [PHI3_Q2_K] = ISA_NAME(phi3_product_q2_k),
            [PHI3_Q3_K] = ISA_NAME(phi3_product_q3_k),
            [PHI3_Q4_K] = ISA_NAME(phi3_product_q4_k),
            [PHI3_Q5_K] = ISA_NAME(phi3_product_q5_k),
            [PHI3_Q6_K] = ISA_NAME(phi3_product_q6_k),
            [PHI3_IQ4_NL] = ISA_NAME(phi3_product_iq4_nl),
            [PHI3_IQ4_XS] = ISA_NAME(phi3_product_iq4_xs),
        },
    .spread_sums = ISA_NAME(phi3_spread_sums),
    .float_product = ISA_NAME(phi3_float_product),
    .block_product = ISA_NAME(phi3_block_product),
    .float_lanes = LANES,
    .pack_float_panel = ISA_NAME(phi3_pack_float_panel),
    .spread_row = ISA_NAME(phi3_spread_row),
    .float_panel_product = ISA_NAME(phi3_float_panel_product),
#if defined(__AVX512BF16__)
    .turn_rows = ISA_NAME(phi3_turn_rows),
    .turn_sums = ISA_NAME(phi3_turn_sums),
#endif
#if defined(__AMX_BF16__)
    .tile_row = ISA_NAME(phi3_tile_row),
    .tile_panel = ISA_NAME(phi3_tile_panel),
    .tile_bfloat16 = ISA_NAME(phi3_tile_bfloat16),
    .tile_product = ISA_NAME(phi3_tile_product),
#endif
    .to_bfloat16 = ISA_NAME(phi3_to_bfloat16),
    .add_rms_norm = ISA_NAME(phi3_add_rms_norm),
    .swiglu = ISA_NAME(phi3_swiglu),
    .find_above = ISA_NAME(phi3_find_above),
    .rope_append = ISA_NAME(phi3_rope_append),
    .attend_scratch = ISA_NAME(phi3_attend_scratch),
    .attend = ISA_NAME(phi3_attend),
    .add_sums = ISA_NAME(phi3_add_sums),
    .finish_attention = ISA_NAME(phi3_finish_attention),
    .peak_read = ISA_NAME(phi3_peak_read),
    .peak_float32 = ISA_NAME(phi3_peak_float32),
    .peak_bfloat16 = ISA_NAME(phi3_peak_bfloat16),
    .peak_int8 = ISA_NAME(phi3_peak_int8),
};
