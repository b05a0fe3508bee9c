/* rope.h - rotary position embedding: the cosines and sines that queries and keys are turned by. */
#ifndef PHI3_INTERNAL_ROPE_H
#define PHI3_INTERNAL_ROPE_H

#include "phi3.h"

/* Which of LongRoPE's two factor lists is in use. Plain RoPE only knows the short one. */
typedef enum phi3_rope_factors { PHI3_FACTORS_SHORT, PHI3_FACTORS_LONG } phi3_rope_factors;

typedef struct phi3_rope {
    size_t n_pairs;              /* rotary_dim / 2 */
    float attention_factor;      /* cosines and sines are multiplied by it */
    size_t long_above;           /* sequences of more tokens use the long factors */
    float *inverse_frequency[2]; /* [n_pairs], by phi3_rope_factors; the second may be NULL */
} phi3_rope;

phi3_status phi3_rope_create(const phi3_config *config, phi3_rope *rope, phi3_error *error);
void phi3_rope_free(phi3_rope *rope);

/* The factors that every position of a sequence of `length` tokens is rotated with. */
phi3_rope_factors phi3_rope_factors_for(const phi3_rope *rope, size_t length);

/* Rows for positions first, first + 1, ...: cosine, sine [n_positions][n_pairs]. */
void phi3_rope_angles(const phi3_rope *rope, phi3_rope_factors factors, size_t first,
                      size_t n_positions, float *cosine, float *sine);

#endif
