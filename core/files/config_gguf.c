/*
 * config_gguf.c - the configuration of a model from the metadata of its GGUF file.
 *
 * In: an opened GGUF file of the architectures phi3 or llama, as llama.cpp's converter writes them.
 * Out: a checked phi3_loaded_config, or an error that names the file and the key.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "config.h"
#include "config_build.h"

enum { KEY_SIZE = 96 };

static bool text_is(phi3_gguf_string text, const char *wanted)
{
    return text.size == strlen(wanted) && memcmp(text.text, wanted, text.size) == 0;
}

static phi3_status read_architecture(const phi3_gguf *gguf, phi3_loaded_config *out,
                                     phi3_error *error)
{
    phi3_gguf_string architecture = {0}, name = {"", 0};
    PHI3_TRY(phi3_gguf_text(gguf, "general.architecture", &architecture, error));
    PHI3_TRY(phi3_gguf_text(gguf, "general.name", &name, error));
    if (!architecture.text)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: the key 'general.architecture' is missing", phi3_gguf_path(gguf));
    if (!text_is(architecture, "phi3") && !text_is(architecture, "llama"))
        return phi3_fail(
            error, PHI3_ERROR_UNSUPPORTED,
            "%s: the architecture is '%.*s'; phi3 runs 'phi3' and 'llama'", phi3_gguf_path(gguf),
            (int)(architecture.size < KEY_SIZE ? architecture.size : KEY_SIZE), architecture.text);
    memcpy(out->model_type, architecture.text, architecture.size);
    phi3_config_set_name(out, name.text, name.size);
    return PHI3_OK;
}

/* ---- Keys that begin with the architecture ------------------------------------------------- */

/* "phi3." + name */
static const char *full_key(const phi3_loaded_config *out, const char *name, char key[KEY_SIZE])
{
    snprintf(key, KEY_SIZE, "%s.%s", out->model_type, name);
    return key;
}

static phi3_status optional_size(const phi3_gguf *gguf, const phi3_loaded_config *out,
                                 const char *name, size_t *value, phi3_error *error)
{
    char key[KEY_SIZE];
    return phi3_gguf_size(gguf, full_key(out, name, key), value, error);
}

static phi3_status optional_float(const phi3_gguf *gguf, const phi3_loaded_config *out,
                                  const char *name, float *value, phi3_error *error)
{
    char key[KEY_SIZE];
    return phi3_gguf_floating(gguf, full_key(out, name, key), value, error);
}

static phi3_status require(const phi3_gguf *gguf, const phi3_loaded_config *out, const char *name,
                           phi3_error *error)
{
    char key[KEY_SIZE];
    if (phi3_gguf_has(gguf, full_key(out, name, key)))
        return PHI3_OK;
    return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: the key '%s' is missing",
                     phi3_gguf_path(gguf), key);
}

/* ---- Sizes --------------------------------------------------------------------------------- */

/* The embedding has a row for every token, and sometimes a few more. */
static phi3_status read_vocab_size(const phi3_gguf *gguf, phi3_config *config, phi3_error *error)
{
    phi3_tensor embedding = {0};
    phi3_gguf_array tokens = {0};
    PHI3_TRY(phi3_gguf_list(gguf, "tokenizer.ggml.tokens", &tokens, error));
    if (!phi3_gguf_tensor(gguf, "token_embd.weight", &embedding))
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: tensor 'token_embd.weight' is missing",
                         phi3_gguf_path(gguf));
    if (embedding.n_rows < tokens.count)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor 'token_embd.weight' has %zu rows for %zu tokens",
                         phi3_gguf_path(gguf), embedding.n_rows, tokens.count);
    config->vocab_size = embedding.n_rows;
    return PHI3_OK;
}

/* head_dim is hidden_size / heads unless the file says otherwise. */
static phi3_status read_head_dim(const phi3_gguf *gguf, phi3_loaded_config *out, phi3_error *error)
{
    phi3_config *config = &out->config;
    PHI3_TRY(optional_size(gguf, out, "attention.key_length", &config->head_dim, error));
    if (config->head_dim == 0) {
        size_t n_heads = config->num_attention_heads;
        if (n_heads == 0 || config->hidden_size % n_heads != 0)
            return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                             "%s: embedding_length %zu is not a multiple of head_count %zu",
                             phi3_gguf_path(gguf), config->hidden_size, n_heads);
        config->head_dim = config->hidden_size / n_heads;
    }
    size_t value_length = config->head_dim;
    PHI3_TRY(optional_size(gguf, out, "attention.value_length", &value_length, error));
    if (value_length != config->head_dim)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: keys have %zu dimensions and values %zu; phi3 needs equal ones",
                         phi3_gguf_path(gguf), config->head_dim, value_length);
    return PHI3_OK;
}

static phi3_status read_sizes(const phi3_gguf *gguf, phi3_loaded_config *out, phi3_error *error)
{
    phi3_config *config = &out->config;
    const struct {
        const char *key;
        size_t *value;
    } required[] = {
        {"context_length", &config->max_position_embeddings},
        {"embedding_length", &config->hidden_size},
        {"feed_forward_length", &config->intermediate_size},
        {"block_count", &config->num_hidden_layers},
        {"attention.head_count", &config->num_attention_heads},
    };
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        PHI3_TRY(require(gguf, out, required[i].key, error));
        PHI3_TRY(optional_size(gguf, out, required[i].key, required[i].value, error));
    }
    config->num_key_value_heads = config->num_attention_heads;
    PHI3_TRY(
        optional_size(gguf, out, "attention.head_count_kv", &config->num_key_value_heads, error));
    PHI3_TRY(optional_size(gguf, out, "attention.sliding_window", &config->sliding_window, error));
    PHI3_TRY(require(gguf, out, "attention.layer_norm_rms_epsilon", error));
    PHI3_TRY(optional_float(gguf, out, "attention.layer_norm_rms_epsilon", &config->rms_norm_eps,
                            error));
    PHI3_TRY(read_head_dim(gguf, out, error));

    size_t n_experts = 0;
    PHI3_TRY(optional_size(gguf, out, "expert_count", &n_experts, error));
    if (n_experts > 0)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: a mixture of %zu experts; phi3 runs dense models",
                         phi3_gguf_path(gguf), n_experts);
    PHI3_TRY(read_vocab_size(gguf, config, error));
    return phi3_config_check_sizes(phi3_gguf_path(gguf), config, error);
}

/* ---- Rope ---------------------------------------------------------------------------------- */

/* Refuses the rope scalings of other models by their names. */
static phi3_status check_scaling(const phi3_gguf *gguf, const phi3_loaded_config *out,
                                 phi3_error *error)
{
    char key[KEY_SIZE];
    phi3_gguf_string type = {0};
    float factor = 1;
    PHI3_TRY(phi3_gguf_text(gguf, full_key(out, "rope.scaling.type", key), &type, error));
    PHI3_TRY(optional_float(gguf, out, "rope.scale_linear", &factor, error));
    PHI3_TRY(optional_float(gguf, out, "rope.scaling.factor", &factor, error));

    bool none = type.text && text_is(type, "none"),
         longrope = type.text && text_is(type, "longrope");
    if (type.text && !none && !longrope)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: rope scaling '%.*s'; phi3 computes none and 'longrope'",
                         phi3_gguf_path(gguf), (int)(type.size < KEY_SIZE ? type.size : KEY_SIZE),
                         type.text);
    if (!type.text && factor != 1)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: linear rope scaling by %g; phi3 computes none and 'longrope'",
                         phi3_gguf_path(gguf), (double)factor);
    phi3_tensor frequencies;
    if (phi3_gguf_tensor(gguf, "rope_freqs.weight", &frequencies))
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: Llama 3's rope scaling (tensor 'rope_freqs.weight'); phi3 computes "
                         "none and 'longrope'",
                         phi3_gguf_path(gguf));
    return PHI3_OK;
}

/* Copies a vector of factors; how many there should be is known from the rotary dimensions. */
static phi3_status copy_factors(const phi3_gguf *gguf, const char *name, size_t expected,
                                float **out, phi3_error *error)
{
    phi3_tensor factors = {0};
    if (!phi3_gguf_tensor(gguf, name, &factors))
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: tensor '%s' is missing",
                         phi3_gguf_path(gguf), name);
    if (factors.dtype != PHI3_F32 || factors.n_rows != 1 || factors.n_columns != expected)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%s' is [%zu][%zu] of %s; [1][%zu] of float32 expected",
                         phi3_gguf_path(gguf), name, factors.n_rows, factors.n_columns,
                         phi3_dtype_traits(factors.dtype)->name, expected);
    *out = malloc(expected * sizeof **out);
    if (!*out)
        return phi3_fail_memory(error, "rope factors");
    memcpy(*out, factors.data, expected * sizeof **out);
    return PHI3_OK;
}

static phi3_status read_longrope(const phi3_gguf *gguf, phi3_loaded_config *out, phi3_error *error)
{
    phi3_config *config = &out->config;
    size_t n_factors = config->rotary_dim / 2;
    config->rope_type = PHI3_ROPE_LONGROPE;
    PHI3_TRY(copy_factors(gguf, "rope_factors_short.weight", n_factors, &out->short_factor, error));
    PHI3_TRY(copy_factors(gguf, "rope_factors_long.weight", n_factors, &out->long_factor, error));
    double factor =
        (double)config->max_position_embeddings / (double)config->original_max_position_embeddings;
    config->rope_attention_factor =
        phi3_longrope_attention_factor(factor, config->original_max_position_embeddings);
    return optional_float(gguf, out, "rope.scaling.attn_factor", &config->rope_attention_factor,
                          error);
}

static phi3_status read_rope(const phi3_gguf *gguf, phi3_loaded_config *out, phi3_error *error)
{
    phi3_config *config = &out->config;
    PHI3_TRY(check_scaling(gguf, out, error));
    config->rope_theta = 10000;
    PHI3_TRY(optional_float(gguf, out, "rope.freq_base", &config->rope_theta, error));
    config->original_max_position_embeddings = config->max_position_embeddings;
    PHI3_TRY(optional_size(gguf, out, "rope.scaling.original_context_length",
                           &config->original_max_position_embeddings, error));
    config->rope_attention_factor = 1;

    config->rotary_dim = config->head_dim;
    PHI3_TRY(optional_size(gguf, out, "rope.dimension_count", &config->rotary_dim, error));
    config->partial_rotary_factor = (float)config->rotary_dim / (float)config->head_dim;
    /* llama.cpp pairs neighbours after its own reordering of all of a head's rows. */
    if (config->rotary_dim != config->head_dim && strcmp(out->model_type, "llama") == 0)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: %zu rotary dimensions in heads of %zu in a llama file",
                         phi3_gguf_path(gguf), config->rotary_dim, config->head_dim);

    phi3_tensor factors;
    if (phi3_gguf_tensor(gguf, "rope_factors_short.weight", &factors) ||
        phi3_gguf_tensor(gguf, "rope_factors_long.weight", &factors))
        return read_longrope(gguf, out, error);
    return PHI3_OK;
}

/* ---- Where generation ends ----------------------------------------------------------------- */

/* Chat models end a turn with a token that the file's eos_token_id often does not name. */
static bool ends_a_turn(phi3_gguf_string token, bool is_phi3)
{
    if (text_is(token, "<|im_end|>"))
        return true;
    return is_phi3 && (text_is(token, "<|end|>") || text_is(token, "<|endoftext|>"));
}

static phi3_status read_generation(const phi3_gguf *gguf, phi3_loaded_config *out,
                                   phi3_error *error)
{
    const char *path = phi3_gguf_path(gguf);
    out->generation = phi3_generation_default_config();
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t id = -1;
        PHI3_TRY(phi3_gguf_integer(gguf, keys[i], &id, error));
        if (phi3_gguf_has(gguf, keys[i]))
            PHI3_TRY(phi3_config_add_eos(path, id, out, error));
    }

    phi3_gguf_array tokens = {0};
    PHI3_TRY(phi3_gguf_list(gguf, "tokenizer.ggml.tokens", &tokens, error));
    bool is_phi3 = strcmp(out->model_type, "phi3") == 0;
    for (size_t i = 0; tokens.strings && i < tokens.count; i++) {
        if (ends_a_turn(tokens.strings[i], is_phi3))
            PHI3_TRY(phi3_config_add_eos(path, (int64_t)i, out, error));
    }

    int64_t pad = -1;
    PHI3_TRY(phi3_gguf_integer(gguf, "tokenizer.ggml.padding_token_id", &pad, error));
    if (pad >= 0 && pad < (int64_t)out->config.vocab_size)
        out->generation.pad_token_id = (int32_t)pad;
    return PHI3_OK;
}

/* ---- The whole ----------------------------------------------------------------------------- */

static phi3_status read_config(const phi3_gguf *gguf, phi3_loaded_config *out, phi3_error *error)
{
    phi3_tensor head;
    PHI3_TRY(read_architecture(gguf, out, error));
    PHI3_TRY(read_sizes(gguf, out, error));
    PHI3_TRY(read_rope(gguf, out, error));
    out->config.tie_word_embeddings = !phi3_gguf_tensor(gguf, "output.weight", &head);
    PHI3_TRY(read_generation(gguf, out, error));
    return phi3_config_finish(phi3_gguf_path(gguf), out, error);
}

phi3_status phi3_config_from_gguf(const phi3_gguf *gguf, phi3_loaded_config *out, phi3_error *error)
{
    *out = (phi3_loaded_config){0};
    phi3_status status = read_config(gguf, out, error);
    if (status != PHI3_OK)
        phi3_config_free(out);
    return status;
}
