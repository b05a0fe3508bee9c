/*
 * candidates.h - what of a row of logits leaves the device: all of them, or the highest ones where the
 * next token depends on no others.
 *
 * In: what the sampler wants. Out: what a forward gives (forward.h).
 */
#ifndef PHI3_INTERNAL_CANDIDATES_H
#define PHI3_INTERNAL_CANDIDATES_H

#include "kernels/backend.h"

typedef struct phi3_candidates {
    /* Wanted: */
    size_t
        n_wanted; /* of the highest logits, at most PHI3_TOP_K_MAX; 0: all logits. Of several, the
                        last only tells whether the one before it ties with what is not listed */
    float temperature; /* what they will be divided by, which can make ties */
    /* Given: */
    size_t count;                 /* 0: all logits, wanted or because of a tie */
    int32_t ids[PHI3_TOP_K_MAX];  /* [count] the highest first */
    float values[PHI3_TOP_K_MAX]; /* [count] */
} phi3_candidates;

/* Whether the listed logits tell all there is to know; a NaN among several does not. */
static inline bool phi3_candidates_suffice(const phi3_candidates *c)
{
    size_t n = c->n_wanted;
    return n == 1 || c->values[n - 1] / c->temperature < c->values[n - 2] / c->temperature;
}

#endif
