/* generation_config.h - the generation arguments, checked as transformers checks them. */
#ifndef PHI3_INTERNAL_GENERATION_CONFIG_H
#define PHI3_INTERNAL_GENERATION_CONFIG_H

#include "phi3.h"

/* Refuses what transformers refuses. */
phi3_status phi3_generation_config_check(const phi3_generation_config *config, phi3_error *error);

/* How many tokens a generation makes, counted from the longest prompt of its batch. */
typedef struct phi3_generation_limits {
    size_t max_new; /* at least 1 */
    size_t min_new; /* EOS is forbidden before; 0: never */
} phi3_generation_limits;

/* Works the four lengths of the config out. `n_positions`: what the model can hold at most. */
phi3_status phi3_generation_limits_of(const phi3_generation_config *config, size_t longest_prompt,
                                      size_t n_positions, phi3_generation_limits *limits,
                                      phi3_error *error);

/* An own copy of a config and of what it points to. */
phi3_status phi3_generation_config_copy(const phi3_generation_config *config,
                                        phi3_generation_config *copy, phi3_error *error);
void phi3_generation_config_free(phi3_generation_config *copy);

#endif
