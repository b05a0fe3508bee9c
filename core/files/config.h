/*
 * config.h - the hyper-parameters of a model and its generation defaults, from config.json or GGUF.
 *
 * All spellings end up in one phi3_config: "longrope", "su" and "yarn" (Phi-3's historical names for
 * the same thing), rope_scaling and rope_parameters, absent head_dim, and so on. Every number is
 * checked for range and for agreement with the others before anybody computes with it.
 */
#ifndef PHI3_INTERNAL_CONFIG_H
#define PHI3_INTERNAL_CONFIG_H

#include "gguf.h"
#include "phi3.h"

enum { PHI3_MAX_EOS_IDS = 16 };

/* Filled in place and never moved: config and generation point into it. */
typedef struct phi3_loaded_config {
    phi3_config config;
    char model_type[16];
    char name[128];
    float *short_factor; /* [rotary_dim / 2] or NULL, owned */
    float *long_factor;  /* [rotary_dim / 2] or NULL, owned */
    int32_t eos_token_ids[PHI3_MAX_EOS_IDS];
    phi3_generation_config generation;
} phi3_loaded_config;

/* Reads DIRECTORY/config.json and, if it is there, generation_config.json. */
phi3_status phi3_config_from_directory(const char *directory, phi3_loaded_config *out,
                                       phi3_error *error);

phi3_status phi3_config_from_gguf(const phi3_gguf *gguf, phi3_loaded_config *out,
                                  phi3_error *error);

void phi3_config_free(phi3_loaded_config *config);

#endif
