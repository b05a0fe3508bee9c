/* config_build.h - what the two readers of configurations share. */
#ifndef PHI3_INTERNAL_CONFIG_BUILD_H
#define PHI3_INTERNAL_CONFIG_BUILD_H

#include "config.h"

/* The first check, before a reader computes with the sizes: each is in its range, and the heads fit
 * each other. `path` stands for the file in messages. */
phi3_status phi3_config_check_sizes(const char *path, const phi3_config *config, phi3_error *error);

/*
 * The last step: checks all other numbers and points out->config at the fields of *out. The readers
 * have set all of out->config but its pointers, and [rotary_dim / 2] factors where rope_type is
 * longrope.
 */
phi3_status phi3_config_finish(const char *path, phi3_loaded_config *out, phi3_error *error);

/* Keeps at most what fits, cut at a character's edge; bytes that are not UTF-8 end it. */
void phi3_config_set_name(phi3_loaded_config *out, const char *name, size_t size);

/* Adds an id that ends a sequence, unless it is there already. */
phi3_status phi3_config_add_eos(const char *path, int64_t id, phi3_loaded_config *out,
                                phi3_error *error);

/* What LongRoPE multiplies cos and sin by when the file does not say: sqrt(1 + ln(factor) /
 * ln(original)), and 1 without an extension. */
float phi3_longrope_attention_factor(double factor, size_t original_max_position_embeddings);

#endif
