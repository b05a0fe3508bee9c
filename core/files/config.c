/*
 * config.c - the checks that every configuration passes, whichever file it came from.
 *
 * In: a phi3_loaded_config as a reader filled it. Out: the same, ready for use, or an error that names
 * the file and the number that cannot be.
 */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "config_build.h"
#include "text/utf8.h"

/* Far above any real model of the family; products of any three of them fit size_t. */
enum {
    MAX_VOCAB = 1 << 24,
    MAX_HIDDEN = 1 << 16,
    MAX_INTERMEDIATE = 1 << 20,
    MAX_LAYERS = 1024,
    MAX_HEADS = 4096,
    MAX_HEAD_DIM = 4096,
    MAX_POSITIONS = 1 << 28,
};

/* ---- Ranges -------------------------------------------------------------------------------- */

static phi3_status check_size(const char *path, const char *name, size_t value, size_t limit,
                              phi3_error *error)
{
    if (value > 0 && value <= limit)
        return PHI3_OK;
    return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: %s is %zu; 1 to %zu make sense", path, name,
                     value, limit);
}

phi3_status phi3_config_check_sizes(const char *path, const phi3_config *config, phi3_error *error)
{
    const struct {
        const char *name;
        size_t value, limit;
    } sizes[] = {
        {"vocab_size", config->vocab_size, MAX_VOCAB},
        {"hidden_size", config->hidden_size, MAX_HIDDEN},
        {"intermediate_size", config->intermediate_size, MAX_INTERMEDIATE},
        {"num_hidden_layers", config->num_hidden_layers, MAX_LAYERS},
        {"num_attention_heads", config->num_attention_heads, MAX_HEADS},
        {"num_key_value_heads", config->num_key_value_heads, MAX_HEADS},
        {"head_dim", config->head_dim, MAX_HEAD_DIM},
        {"max_position_embeddings", config->max_position_embeddings, MAX_POSITIONS},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        PHI3_TRY(check_size(path, sizes[i].name, sizes[i].value, sizes[i].limit, error));
    if (config->num_attention_heads % config->num_key_value_heads != 0)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: %zu attention heads cannot share %zu key-value heads evenly", path,
                         config->num_attention_heads, config->num_key_value_heads);
    return PHI3_OK;
}

static phi3_status check_positive(const char *path, const char *name, float value,
                                  phi3_error *error)
{
    if (isfinite(value) && value > 0)
        return PHI3_OK;
    return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: %s is %g, not a positive number", path, name,
                     (double)value);
}

static phi3_status check_factors(const char *path, const char *name, const float *factors,
                                 size_t count, phi3_error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(factors[i]) || factors[i] <= 0)
            return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: %s %zu is %g, not a positive number",
                             path, name, i, (double)factors[i]);
    }
    return PHI3_OK;
}

/* ---- Rope ---------------------------------------------------------------------------------- */

float phi3_longrope_attention_factor(double factor, size_t original_max_position_embeddings)
{
    if (factor <= 1)
        return 1;
    return (float)sqrt(1 + log(factor) / log((double)original_max_position_embeddings));
}

static phi3_status check_rope(const char *path, const phi3_loaded_config *loaded, phi3_error *error)
{
    const phi3_config *config = &loaded->config;
    PHI3_TRY(check_positive(path, "rope_theta", config->rope_theta, error));
    PHI3_TRY(check_size(path, "original_max_position_embeddings",
                        config->original_max_position_embeddings, MAX_POSITIONS, error));
    if (config->rotary_dim == 0 || config->rotary_dim % 2 != 0 ||
        config->rotary_dim > config->head_dim)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: %zu rotary dimensions in heads of %zu; an even number is needed",
                         path, config->rotary_dim, config->head_dim);
    if (config->rope_type != PHI3_ROPE_LONGROPE)
        return PHI3_OK;

    size_t n_factors = config->rotary_dim / 2;
    PHI3_TRY(check_factors(path, "short rope factor", loaded->short_factor, n_factors, error));
    PHI3_TRY(check_factors(path, "long rope factor", loaded->long_factor, n_factors, error));
    return check_positive(path, "the rope attention factor", config->rope_attention_factor, error);
}

/* ---- Shared with the readers --------------------------------------------------------------- */

phi3_status phi3_config_finish(const char *path, phi3_loaded_config *out, phi3_error *error)
{
    phi3_config *config = &out->config;
    PHI3_TRY(check_positive(path, "rms_norm_eps", config->rms_norm_eps, error));
    PHI3_TRY(check_rope(path, out, error));
    /* A window as long as the context hides nothing. */
    if (config->sliding_window >= config->max_position_embeddings)
        config->sliding_window = 0;

    config->model_type = out->model_type;
    config->name = out->name;
    config->short_factor = out->short_factor;
    config->long_factor = out->long_factor;
    out->generation.eos_token_ids = out->eos_token_ids;
    return PHI3_OK;
}

void phi3_config_set_name(phi3_loaded_config *out, const char *name, size_t size)
{
    size_t kept = 0;
    while (kept < size && name[kept] != '\0') {
        size_t step = phi3_utf8_character(name + kept, size - kept);
        if (step == 0 || kept + step >= sizeof out->name)
            break;
        kept += step;
    }
    memcpy(out->name, name, kept);
    out->name[kept] = '\0';
}

phi3_status phi3_config_add_eos(const char *path, int64_t id, phi3_loaded_config *out,
                                phi3_error *error)
{
    size_t *count = &out->generation.n_eos_token_ids;
    if (id < 0 || id > INT32_MAX)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: eos_token_id %lld is not a token id",
                         path, (long long)id);
    for (size_t i = 0; i < *count; i++) {
        if (out->eos_token_ids[i] == id)
            return PHI3_OK;
    }
    if (*count == PHI3_MAX_EOS_IDS)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED, "%s: more than %d ids in eos_token_id",
                         path, PHI3_MAX_EOS_IDS);
    out->eos_token_ids[(*count)++] = (int32_t)id;
    return PHI3_OK;
}

void phi3_config_free(phi3_loaded_config *config)
{
    if (!config)
        return;
    free(config->short_factor);
    free(config->long_factor);
    *config = (phi3_loaded_config){0};
}
