/*
 * rope.c - RoPE and LongRoPE (arXiv 2402.13753), in float32 as transformers computes them.
 *
 *     inverse_frequency[i] = 1 / (factor[i] * theta^(2i / rotary_dim))
 *     angle = position * inverse_frequency[i]
 */
#include "rope.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"

/* factor [n_pairs], or NULL for ones. */
static float *inverse_frequencies(const phi3_config *config, const float *factor)
{
    size_t n_pairs = config->rotary_dim / 2;
    float *inverse = malloc((n_pairs + 1) * sizeof *inverse);
    if (inverse == NULL)
        return NULL;
    for (size_t i = 0; i < n_pairs; i++) {
        float exponent = (float)(2 * i) / (float)config->rotary_dim;
        float period = powf(config->rope_theta, exponent);
        inverse[i] = 1.0f / (factor == NULL ? period : factor[i] * period);
    }
    return inverse;
}

phi3_status phi3_rope_create(const phi3_config *config, phi3_rope *rope, phi3_error *error)
{
    bool longrope = config->rope_type == PHI3_ROPE_LONGROPE;
    *rope = (phi3_rope){
        .n_pairs = config->rotary_dim / 2,
        .attention_factor = longrope ? config->rope_attention_factor : 1.0f,
        .long_above = longrope ? config->original_max_position_embeddings : SIZE_MAX,
    };
    rope->inverse_frequency[PHI3_FACTORS_SHORT] =
        inverse_frequencies(config, longrope ? config->short_factor : NULL);
    if (longrope)
        rope->inverse_frequency[PHI3_FACTORS_LONG] =
            inverse_frequencies(config, config->long_factor);
    if (rope->inverse_frequency[PHI3_FACTORS_SHORT] == NULL ||
        (longrope && rope->inverse_frequency[PHI3_FACTORS_LONG] == NULL)) {
        phi3_rope_free(rope);
        return phi3_fail_memory(error, "rotary frequencies");
    }
    return PHI3_OK;
}

void phi3_rope_free(phi3_rope *rope)
{
    free(rope->inverse_frequency[PHI3_FACTORS_SHORT]);
    free(rope->inverse_frequency[PHI3_FACTORS_LONG]);
    *rope = (phi3_rope){0};
}

phi3_rope_factors phi3_rope_factors_for(const phi3_rope *rope, size_t length)
{
    return length > rope->long_above ? PHI3_FACTORS_LONG : PHI3_FACTORS_SHORT;
}

void phi3_rope_angles(const phi3_rope *rope, phi3_rope_factors factors, size_t first,
                      size_t n_positions, float *cosine, float *sine)
{
    const float *inverse = rope->inverse_frequency[factors];
    for (size_t position = first; position < first + n_positions; position++) {
        for (size_t i = 0; i < rope->n_pairs; i++) {
            float angle = (float)position * inverse[i];
            *cosine++ = cosf(angle) * rope->attention_factor;
            *sine++ = sinf(angle) * rope->attention_factor;
        }
    }
}
