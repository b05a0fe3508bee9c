/*
 * sampler.h - logits -> token: the logits processors of transformers in their order, then the most
 * likely token or a draw.
 */
#ifndef PHI3_INTERNAL_SAMPLER_H
#define PHI3_INTERNAL_SAMPLER_H

#include "phi3.h"

typedef struct phi3_sampler phi3_sampler;

/* `config` has been checked, and stays valid while the sampler lives. */
phi3_status phi3_sampler_create(const phi3_generation_config *config, size_t vocab_size,
                                phi3_sampler **sampler, phi3_error *error);
void phi3_sampler_free(phi3_sampler *sampler);

/* Turns logits into scores, in place: [vocab_size]. `ids` is the sequence so far; with forbid_eos
 * the EOS tokens get no chance. What a filter removes becomes -infinity. */
void phi3_sampler_process(phi3_sampler *sampler, const int32_t *ids, size_t n_ids, bool forbid_eos,
                          float *scores);

/* The token with the highest score; the lowest id of equals. */
int32_t phi3_sampler_most_likely(const phi3_sampler *sampler, const float *scores);

/* Draws from softmax(scores) as torch.multinomial does. The generator must be locked. Scores without
 * a finite maximum are PHI3_ERROR_INVALID_ARGUMENT, as in torch. */
phi3_status phi3_sampler_draw(const phi3_sampler *sampler, const float *scores, phi3_random *random,
                              int32_t *token, phi3_error *error);

/* Uses up the numbers of one draw: a finished row of a batch takes its turn in transformers, too. */
void phi3_sampler_skip(const phi3_sampler *sampler, phi3_random *random);

#endif
