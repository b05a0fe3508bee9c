/*
 * quantization.c - which format each tensor of a quantised model gets: llama.cpp's mixtures.
 *
 * In: the name of a quantisation, the role of a tensor. Out: its format.
 */
#include "quantization.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* The numbers are GGUF's, from llama.cpp's llama_ftype. */
enum {
    FILE_F32 = 0,
    FILE_F16 = 1,
    FILE_Q4_0 = 2,
    FILE_Q4_1 = 3,
    FILE_Q8_0 = 7,
    FILE_Q5_0 = 8,
    FILE_Q5_1 = 9,
    FILE_Q2_K = 10,
    FILE_Q3_K_S = 11,
    FILE_Q3_K_M = 12,
    FILE_Q3_K_L = 13,
    FILE_Q4_K_S = 14,
    FILE_Q4_K_M = 15,
    FILE_Q5_K_S = 16,
    FILE_Q5_K_M = 17,
    FILE_Q6_K = 18,
    FILE_IQ4_NL = 25,
    FILE_IQ4_XS = 30,
    FILE_BF16 = 32
};

static const phi3_quantization quantizations[] = {
    {"q4_0", PHI3_Q4_0, FILE_Q4_0},       {"q4_1", PHI3_Q4_1, FILE_Q4_1},
    {"q5_0", PHI3_Q5_0, FILE_Q5_0},       {"q5_1", PHI3_Q5_1, FILE_Q5_1},
    {"q8_0", PHI3_Q8_0, FILE_Q8_0},       {"q2_k", PHI3_Q2_K, FILE_Q2_K},
    {"q3_k_s", PHI3_Q3_K, FILE_Q3_K_S},   {"q3_k_m", PHI3_Q3_K, FILE_Q3_K_M},
    {"q3_k_l", PHI3_Q3_K, FILE_Q3_K_L},   {"q4_k_s", PHI3_Q4_K, FILE_Q4_K_S},
    {"q4_k_m", PHI3_Q4_K, FILE_Q4_K_M},   {"q5_k_s", PHI3_Q5_K, FILE_Q5_K_S},
    {"q5_k_m", PHI3_Q5_K, FILE_Q5_K_M},   {"q6_k", PHI3_Q6_K, FILE_Q6_K},
    {"iq4_nl", PHI3_IQ4_NL, FILE_IQ4_NL}, {"iq4_xs", PHI3_IQ4_XS, FILE_IQ4_XS},
    {"f16", PHI3_F16, FILE_F16},          {"bf16", PHI3_BF16, FILE_BF16},
    {"f32", PHI3_F32, FILE_F32},
};
enum { N_QUANTIZATIONS = sizeof quantizations / sizeof *quantizations };

phi3_status phi3_quantization_find(const char *name, const phi3_quantization **out,
                                   phi3_error *error)
{
    char known[256] = "";
    for (size_t i = 0; i < N_QUANTIZATIONS; i++) {
        if (strcasecmp(name, quantizations[i].name) == 0) {
            *out = &quantizations[i];
            return PHI3_OK;
        }
        strncat(known, i > 0 ? ", " : "", sizeof known - strlen(known) - 1);
        strncat(known, quantizations[i].name, sizeof known - strlen(known) - 1);
    }
    return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "quantization \"%.40s\": known are %s",
                     name, known);
}

uint32_t phi3_quantization_file_type(phi3_dtype dtype)
{
    for (size_t i = 0; i < N_QUANTIZATIONS; i++) {
        if (quantizations[i].dtype == dtype)
            return quantizations[i].file_type;
    }
    return FILE_F32;
}

/* ---- Roles ---------------------------------------------------------------------------------- */

phi3_tensor_role phi3_tensor_role_of(const char *name, size_t size, size_t *layer)
{
    static const struct {
        const char *name;
        phi3_tensor_role role;
    } in_layer[] = {
        {"attn_q.weight", PHI3_ROLE_QUERY},  {"attn_k.weight", PHI3_ROLE_KEY},
        {"attn_v.weight", PHI3_ROLE_VALUE},  {"attn_qkv.weight", PHI3_ROLE_QKV},
        {"ffn_gate.weight", PHI3_ROLE_GATE}, {"ffn_up.weight", PHI3_ROLE_UP},
        {"ffn_down.weight", PHI3_ROLE_DOWN}, {"attn_output.weight", PHI3_ROLE_ATTENTION_OUTPUT},
    };
    char text[64] = "";
    int length = 0;
    *layer = 0;
    if (size >= sizeof text)
        return PHI3_ROLE_OTHER;
    memcpy(text, name, size);
    if (strcmp(text, "token_embd.weight") == 0)
        return PHI3_ROLE_EMBEDDING;
    if (strcmp(text, "output.weight") == 0)
        return PHI3_ROLE_LM_HEAD;
    if (sscanf(text, "blk.%zu.%n", layer, &length) != 1 || length == 0)
        return PHI3_ROLE_OTHER;
    for (size_t i = 0; i < sizeof in_layer / sizeof *in_layer; i++) {
        if (strcmp(text + length, in_layer[i].name) == 0)
            return in_layer[i].role;
    }
    return PHI3_ROLE_OTHER;
}

/* ---- Mixtures ------------------------------------------------------------------------------- */

/* The first and the last eighth of the layers, and every third between: where errors weigh most. */
static bool needs_more_bits(size_t layer, size_t n_layers)
{
    return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2;
}

/* Of values, or of queries, keys and values in one. */
static phi3_dtype dtype_of_value(const phi3_quantization *q, size_t layer, size_t n_layers,
                                 bool many_queries)
{
    switch (q->file_type) {
    case FILE_Q2_K:
        return many_queries ? PHI3_Q4_K : PHI3_Q3_K;
    case FILE_Q3_K_M:
        return layer < 2 ? PHI3_Q5_K : PHI3_Q4_K;
    case FILE_Q3_K_L:
        return PHI3_Q5_K;
    case FILE_Q4_K_S:
        return layer < 4 ? PHI3_Q5_K : q->dtype;
    case FILE_Q4_K_M:
    case FILE_Q5_K_M:
        return needs_more_bits(layer, n_layers) ? PHI3_Q6_K : q->dtype;
    case FILE_IQ4_NL:
    case FILE_IQ4_XS:
        return many_queries ? PHI3_Q5_K : q->dtype;
    default:
        return q->dtype;
    }
}

static phi3_dtype dtype_of_attention_output(const phi3_quantization *q)
{
    switch (q->file_type) {
    case FILE_Q2_K:
        return PHI3_Q3_K;
    case FILE_Q3_K_M:
        return PHI3_Q4_K;
    case FILE_Q3_K_L:
        return PHI3_Q5_K;
    default:
        return q->dtype;
    }
}

static phi3_dtype dtype_of_down(const phi3_quantization *q, size_t layer, size_t n_layers)
{
    switch (q->file_type) {
    case FILE_Q2_K:
        return PHI3_Q3_K;
    case FILE_Q3_K_M:
        return layer < n_layers / 16 ? PHI3_Q5_K : PHI3_Q4_K;
    case FILE_Q3_K_L:
        return PHI3_Q5_K;
    case FILE_Q4_K_M:
    case FILE_Q5_K_M:
        return needs_more_bits(layer, n_layers) ? PHI3_Q6_K : q->dtype;
    case FILE_Q4_K_S:
    case FILE_IQ4_NL:
    case FILE_IQ4_XS:
        return layer < n_layers / 8 ? PHI3_Q5_K : q->dtype;
    default:
        return q->dtype;
    }
}

/* The matrix that makes the logits: the head, or the embedding that stands for it. */
static phi3_dtype dtype_of_head(const phi3_quantization *q)
{
    return q->dtype == PHI3_Q8_0 ? PHI3_Q8_0 : PHI3_Q6_K;
}

static phi3_dtype dtype_by_role(const phi3_quantization *q, const phi3_config *config,
                                phi3_tensor_role role, size_t layer)
{
    size_t n_layers = config->num_hidden_layers;
    bool many_queries = config->num_attention_heads / config->num_key_value_heads >= 4;
    switch (role) {
    case PHI3_ROLE_EMBEDDING:
        return config->tie_word_embeddings ? dtype_of_head(q) : q->dtype;
    case PHI3_ROLE_LM_HEAD:
        return dtype_of_head(q);
    case PHI3_ROLE_VALUE:
    case PHI3_ROLE_QKV:
        return dtype_of_value(q, layer, n_layers, many_queries);
    case PHI3_ROLE_ATTENTION_OUTPUT:
        return dtype_of_attention_output(q);
    case PHI3_ROLE_DOWN:
        return dtype_of_down(q, layer, n_layers);
    case PHI3_ROLE_QUERY:
    case PHI3_ROLE_KEY:
    case PHI3_ROLE_GATE:
    case PHI3_ROLE_UP:
    case PHI3_ROLE_OTHER:
        break;
    }
    return q->dtype;
}

/* A format of about as many bits whose blocks are shorter. */
static phi3_dtype with_shorter_blocks(phi3_dtype dtype)
{
    switch (dtype) {
    case PHI3_Q2_K:
    case PHI3_Q3_K:
        return PHI3_Q4_0;
    case PHI3_IQ4_XS:
        return PHI3_IQ4_NL;
    case PHI3_Q4_K:
        return PHI3_Q5_0;
    case PHI3_Q5_K:
        return PHI3_Q5_1;
    case PHI3_Q6_K:
        return PHI3_Q8_0;
    default:
        return PHI3_F16;
    }
}

phi3_dtype phi3_quantization_dtype(const phi3_quantization *quantization, const phi3_config *config,
                                   phi3_tensor_role role, size_t layer, size_t n_columns)
{
    bool is_float = phi3_dtype_traits(quantization->dtype)->block_size == 1;
    phi3_dtype dtype =
        is_float ? quantization->dtype : dtype_by_role(quantization, config, role, layer);
    while (n_columns % phi3_dtype_traits(dtype)->block_size != 0)
        dtype = with_shorter_blocks(dtype);
    return dtype;
}
