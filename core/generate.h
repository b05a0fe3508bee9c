/*
 * generate.h - a step of a generation in two halves, for the engine, which runs one forward for many.
 *
 * A generation that is stepped so has one row and is used by no other thread.
 */
#ifndef PHI3_INTERNAL_GENERATE_H
#define PHI3_INTERNAL_GENERATE_H

#include "candidates.h"
#include "phi3.h"

/* What is to be computed next: all that the cache lacks, with the logits after it, or the candidates
 * among them. It may be done in parts: a first part, without logits, and then another plan. */
phi3_status phi3_generation_plan(phi3_generation *generation, phi3_span *span,
                                 phi3_candidates *candidates, phi3_error *error);

/* Chooses the next token from what a plan that was done to the end has given; of the logits,
 * [vocab_size], nothing is read where there are candidates. */
phi3_status phi3_generation_choose(phi3_generation *generation, const float *logits,
                                   const phi3_candidates *candidates, int32_t *token, bool *done,
                                   phi3_error *error);

#endif
