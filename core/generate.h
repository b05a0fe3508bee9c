/*
 * generate.h - a step of a generation in two halves, for the engine, which runs one forward for many.
 *
 * A generation that is stepped so has one row and is used by no other thread.
 */
#ifndef PHI3_INTERNAL_GENERATE_H
#define PHI3_INTERNAL_GENERATE_H

#include "phi3.h"

/* What is to be computed next: all that the cache lacks, with the logits after it. It may be done in
 * parts: a first part, without logits, and then another plan. */
phi3_status phi3_generation_plan(phi3_generation *generation, phi3_span *span, phi3_error *error);

/* Chooses the next token from the logits of a plan that was done to the end: [vocab_size]. */
phi3_status phi3_generation_choose(phi3_generation *generation, const float *logits, int32_t *token,
                                   bool *done, phi3_error *error);

#endif
