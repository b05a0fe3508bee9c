/*
 * sampler.h - logits -> token: the logits processors of transformers in their order, then the most
 * likely token or a draw.
 *
 * Where the settings allow it the sampler takes the k highest logits for all: the token and the random
 * numbers used up are the same, to the bit.
 */
#ifndef PHI3_INTERNAL_SAMPLER_H
#define PHI3_INTERNAL_SAMPLER_H

#include "candidates.h"
#include "phi3.h"

typedef struct phi3_sampler phi3_sampler;

/* `config` has been checked, and stays valid while the sampler lives. */
phi3_status phi3_sampler_create(const phi3_generation_config *config, size_t vocab_size,
                                phi3_sampler **sampler, phi3_error *error);
void phi3_sampler_free(phi3_sampler *sampler);

/* Sets what the next token depends on: the highest logits, or all. */
void phi3_sampler_ask(const phi3_sampler *sampler, bool forbid_eos, phi3_candidates *candidates);

/* Tokens with their logits, which become scores: all of the vocabulary, or some of it. */
typedef struct phi3_scores {
    float *values;      /* [count] */
    const int32_t *ids; /* [count] rising; NULL: token i stands at place i */
    size_t count;
} phi3_scores;

/* The candidates by rising id.     values, ids [PHI3_TOP_K_MAX], to hold them */
phi3_scores phi3_sampler_list(const phi3_candidates *candidates, float *values, int32_t *ids);

/* Turns logits into scores, in place. `ids` is the sequence so far; with forbid_eos the EOS tokens get
 * no chance. What a filter removes becomes -infinity. Of candidates, only those that were asked for
 * in the same situation. */
void phi3_sampler_process(phi3_sampler *sampler, const int32_t *ids, size_t n_ids, bool forbid_eos,
                          const phi3_scores *scores);

/* The token with the highest score; the lowest id of equals. NaN is the highest, as in torch. */
int32_t phi3_sampler_most_likely(const phi3_scores *scores);

/* Draws from softmax(scores) as torch.multinomial does. The generator must be locked. Scores without
 * a finite maximum are PHI3_ERROR_INVALID_ARGUMENT, as in torch. */
phi3_status phi3_sampler_draw(const phi3_sampler *sampler, const phi3_scores *scores,
                              phi3_random *random, int32_t *token, phi3_error *error);

/* Uses up the numbers of one draw: a finished row of a batch takes its turn in transformers, too. */
void phi3_sampler_skip(const phi3_sampler *sampler, phi3_random *random);

#endif
