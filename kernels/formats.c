/* formats.c - the traits of the element formats, by their GGUF number. */
#include "formats.h"

#include "blocks.h"

#define QUANTISED(name, block)          \
    {                                   \
        name, PHI3_BLOCK, sizeof(block) \
    }
#define QUANTISED_K(name, block)              \
    {                                         \
        name, PHI3_SUPER_BLOCK, sizeof(block) \
    }

static const phi3_dtype_info traits[PHI3_DTYPE_LIMIT] = {
    [PHI3_F32] = {"float32", 1, 4},
    [PHI3_F16] = {"float16", 1, 2},
    [PHI3_BF16] = {"bfloat16", 1, 2},
    [PHI3_Q4_0] = QUANTISED("q4_0", phi3_block_q4_0),
    [PHI3_Q4_1] = QUANTISED("q4_1", phi3_block_q4_1),
    [PHI3_Q5_0] = QUANTISED("q5_0", phi3_block_q5_0),
    [PHI3_Q5_1] = QUANTISED("q5_1", phi3_block_q5_1),
    [PHI3_Q8_0] = QUANTISED("q8_0", phi3_block_q8_0),
    [PHI3_Q2_K] = QUANTISED_K("q2_k", phi3_block_q2_k),
    [PHI3_Q3_K] = QUANTISED_K("q3_k", phi3_block_q3_k),
    [PHI3_Q4_K] = QUANTISED_K("q4_k", phi3_block_q4_k),
    [PHI3_Q5_K] = QUANTISED_K("q5_k", phi3_block_q5_k),
    [PHI3_Q6_K] = QUANTISED_K("q6_k", phi3_block_q6_k),
    [PHI3_IQ4_NL] = QUANTISED("iq4_nl", phi3_block_iq4_nl),
    [PHI3_IQ4_XS] = QUANTISED_K("iq4_xs", phi3_block_iq4_xs),
};

const int8_t phi3_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};

const phi3_dtype_info *phi3_dtype_traits(uint32_t dtype)
{
    return dtype < PHI3_DTYPE_LIMIT && traits[dtype].name ? &traits[dtype] : NULL;
}

size_t phi3_dtype_row_bytes(phi3_dtype dtype, size_t n_columns)
{
    return n_columns / traits[dtype].block_size * traits[dtype].block_bytes;
}
