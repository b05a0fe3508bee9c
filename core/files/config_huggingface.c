/*
 * config_huggingface.c - the configuration of a model from the JSON files of its directory.
 *
 * In: config.json in any spelling that Phi-3 checkpoints have had, and generation_config.json.
 * Out: a checked phi3_loaded_config, or an error that names the file and the key.
 *
 * Precedence and defaults are those of transformers' Phi3Config and LlamaConfig.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "config.h"
#include "config_build.h"

enum { MAX_CONFIG_BYTES = 16 << 20 };

/* A JSON object and the file it came from. */
typedef struct source {
    const char *path;
    const cJSON *object;
} source;

/* ---- Values -------------------------------------------------------------------------------- */

/* NULL when absent, null or not an object. */
static const cJSON *find_object(source from, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(from.object, key);
    return cJSON_IsObject(item) ? item : NULL;
}

/* A number in full precision: int(head_dim * 0.7) depends on it. */
static phi3_status read_double(source from, const char *key, double *out, phi3_error *error)
{
    float checked;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(from.object, key);
    PHI3_TRY(phi3_json_float(from.path, from.object, key, &checked, error));
    if (cJSON_IsNumber(item))
        *out = item->valuedouble;
    return PHI3_OK;
}

static phi3_status read_count(source from, const char *key, int64_t *out, phi3_error *error)
{
    size_t value = SIZE_MAX;
    PHI3_TRY(phi3_json_size(from.path, from.object, key, &value, error));
    if (value != SIZE_MAX)
        *out = (int64_t)value;
    return PHI3_OK;
}

/* ---- What kind of model -------------------------------------------------------------------- */

static phi3_status check_architecture(source from, phi3_error *error)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(from.object, "architectures");
    const cJSON *first = cJSON_IsArray(list) ? list->child : NULL;
    if (!cJSON_IsString(first))
        return PHI3_OK;
    for (const cJSON *item = first; item; item = item->next) {
        if (cJSON_IsString(item) && (strcmp(item->valuestring, "Phi3ForCausalLM") == 0 ||
                                     strcmp(item->valuestring, "LlamaForCausalLM") == 0))
            return PHI3_OK;
    }
    return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                     "%s: the architecture is '%s'; phi3 runs 'Phi3ForCausalLM' and "
                     "'LlamaForCausalLM'",
                     from.path, first->valuestring);
}

/* Refuses what would change the computation and is not computed here. */
static phi3_status check_features(source from, phi3_error *error)
{
    const char *activation = "silu";
    bool attention_bias = false, mlp_bias = false;
    PHI3_TRY(phi3_json_string(from.path, from.object, "hidden_act", &activation, error));
    PHI3_TRY(phi3_json_bool(from.path, from.object, "attention_bias", &attention_bias, error));
    PHI3_TRY(phi3_json_bool(from.path, from.object, "mlp_bias", &mlp_bias, error));
    if (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: the activation is '%s'; phi3 computes 'silu'", from.path, activation);
    if (attention_bias || mlp_bias)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED, "%s: %s is set; phi3 has no biases",
                         from.path, attention_bias ? "attention_bias" : "mlp_bias");
    const cJSON *quantization = find_object(from, "quantization_config");
    if (quantization) {
        const char *method = "unnamed";
        PHI3_TRY(phi3_json_string(from.path, quantization, "quant_method", &method, error));
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: weights quantised by the method '%s'; phi3 reads float safetensors "
                         "and quantised GGUF files",
                         from.path, method);
    }
    return PHI3_OK;
}

static phi3_status read_kind(source from, phi3_loaded_config *out, phi3_error *error)
{
    const char *type = NULL, *name = "";
    PHI3_TRY(phi3_json_string(from.path, from.object, "model_type", &type, error));
    PHI3_TRY(phi3_json_string(from.path, from.object, "_name_or_path", &name, error));
    if (!type)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: \"model_type\" is missing", from.path);
    if (strcmp(type, "phi3") != 0 && strcmp(type, "llama") != 0)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: the model_type is '%s'; phi3 runs 'phi3' and 'llama'", from.path,
                         type);
    strcpy(out->model_type, type);
    phi3_config_set_name(out, name, strlen(name));
    PHI3_TRY(check_architecture(from, error));
    return check_features(from, error);
}

/* ---- Sizes --------------------------------------------------------------------------------- */

static phi3_status read_required_sizes(source from, phi3_config *config, phi3_error *error)
{
    const struct {
        const char *key;
        size_t *value;
    } required[] = {
        {"vocab_size", &config->vocab_size},
        {"hidden_size", &config->hidden_size},
        {"intermediate_size", &config->intermediate_size},
        {"num_hidden_layers", &config->num_hidden_layers},
        {"num_attention_heads", &config->num_attention_heads},
    };
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        *required[i].value = 0;
        PHI3_TRY(phi3_json_size(from.path, from.object, required[i].key, required[i].value, error));
        if (*required[i].value == 0)
            return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: \"%s\" is missing or 0", from.path,
                             required[i].key);
    }
    return PHI3_OK;
}

static phi3_status read_sizes(source from, bool is_phi3, phi3_config *config, phi3_error *error)
{
    PHI3_TRY(read_required_sizes(from, config, error));
    config->num_key_value_heads = config->num_attention_heads;
    config->max_position_embeddings = is_phi3 ? 4096 : 2048;
    config->rms_norm_eps = is_phi3 ? 1e-5f : 1e-6f;
    const struct {
        const char *key;
        size_t *value;
    } optional[] = {
        {"num_key_value_heads", &config->num_key_value_heads},
        {"head_dim", &config->head_dim},
        {"max_position_embeddings", &config->max_position_embeddings},
        {"sliding_window", &config->sliding_window},
    };
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
        PHI3_TRY(phi3_json_size(from.path, from.object, optional[i].key, optional[i].value, error));
    PHI3_TRY(phi3_json_float(from.path, from.object, "rms_norm_eps", &config->rms_norm_eps, error));
    PHI3_TRY(phi3_json_bool(from.path, from.object, "tie_word_embeddings",
                            &config->tie_word_embeddings, error));
    if (!is_phi3)
        config->sliding_window = 0; /* transformers' Llama has none, whatever the file says */
    if (config->head_dim == 0) {
        if (config->hidden_size % config->num_attention_heads != 0)
            return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                             "%s: hidden_size %zu is not a multiple of num_attention_heads %zu",
                             from.path, config->hidden_size, config->num_attention_heads);
        config->head_dim = config->hidden_size / config->num_attention_heads;
    }
    return phi3_config_check_sizes(from.path, config, error);
}

/* ---- Rope ---------------------------------------------------------------------------------- */

static phi3_status read_factors(source from, const char *key, size_t expected, float **out,
                                phi3_error *error)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(from.object, key);
    size_t count = cJSON_IsArray(list) ? (size_t)cJSON_GetArraySize(list) : 0;
    if (count != expected)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: \"%s\" should be a list of %zu numbers, but has %zu", from.path, key,
                         expected, count);
    *out = calloc(expected ? expected : 1, sizeof **out);
    if (!*out)
        return phi3_fail_memory(error, "rope factors");
    float *factor = *out;
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!cJSON_IsNumber(item))
            return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                             "%s: \"%s\" has an element that is not a number", from.path, key);
        *factor++ = (float)item->valuedouble;
    }
    return PHI3_OK;
}

/* `rope` is the object rope_scaling or rope_parameters. */
static phi3_status read_longrope(source rope, phi3_loaded_config *out, phi3_error *error)
{
    phi3_config *config = &out->config;
    size_t n_factors = config->rotary_dim / 2;
    config->rope_type = PHI3_ROPE_LONGROPE;
    PHI3_TRY(read_factors(rope, "short_factor", n_factors, &out->short_factor, error));
    PHI3_TRY(read_factors(rope, "long_factor", n_factors, &out->long_factor, error));

    double factor =
        (double)config->max_position_embeddings / (double)config->original_max_position_embeddings;
    PHI3_TRY(read_double(rope, "factor", &factor, error));
    config->rope_attention_factor =
        phi3_longrope_attention_factor(factor, config->original_max_position_embeddings);
    return phi3_json_float(rope.path, rope.object, "attention_factor",
                           &config->rope_attention_factor, error);
}

static phi3_status read_rope_type(source rope, bool is_phi3, phi3_loaded_config *out,
                                  phi3_error *error)
{
    const char *type = "default";
    PHI3_TRY(phi3_json_string(rope.path, rope.object, "type", &type, error));
    PHI3_TRY(phi3_json_string(rope.path, rope.object, "rope_type", &type, error));
    if (strcmp(type, "default") == 0)
        return PHI3_OK;
    bool old_name = strcmp(type, "su") == 0 || strcmp(type, "yarn") == 0;
    if (strcmp(type, "longrope") == 0 || (is_phi3 && old_name))
        return read_longrope(rope, out, error);
    return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                     "%s: rope scaling '%s'; phi3 computes 'default' and 'longrope'", rope.path,
                     type);
}

static phi3_status read_rope(source from, bool is_phi3, phi3_loaded_config *out, phi3_error *error)
{
    phi3_config *config = &out->config;
    source rope = {from.path, find_object(from, "rope_scaling")};
    if (!rope.object)
        rope.object = find_object(from, "rope_parameters");

    /* What stands in both places: the inner one counts, but for the original length. */
    double partial_rotary_factor = 1, theta = 10000;
    PHI3_TRY(read_double(from, "partial_rotary_factor", &partial_rotary_factor, error));
    PHI3_TRY(read_double(from, "rope_theta", &theta, error));
    size_t *original = &config->original_max_position_embeddings;
    *original = is_phi3 && rope.object ? 4096 : config->max_position_embeddings;
    if (rope.object) {
        PHI3_TRY(read_double(rope, "partial_rotary_factor", &partial_rotary_factor, error));
        PHI3_TRY(read_double(rope, "rope_theta", &theta, error));
        PHI3_TRY(phi3_json_size(rope.path, rope.object, "original_max_position_embeddings",
                                original, error));
    }
    PHI3_TRY(phi3_json_size(from.path, from.object, "original_max_position_embeddings", original,
                            error));

    if (!(partial_rotary_factor > 0 && partial_rotary_factor <= 1))
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: \"partial_rotary_factor\" is %g, not in (0, 1]", from.path,
                         partial_rotary_factor);
    config->partial_rotary_factor = (float)partial_rotary_factor;
    config->rotary_dim = (size_t)((double)config->head_dim * partial_rotary_factor);
    config->rope_theta = (float)theta;
    config->rope_attention_factor = 1;
    return rope.object ? read_rope_type(rope, is_phi3, out, error) : PHI3_OK;
}

/* ---- Generation ---------------------------------------------------------------------------- */

/* eos_token_id is an id or a list of ids. */
static phi3_status read_eos(source from, phi3_loaded_config *out, phi3_error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(from.object, "eos_token_id");
    if (!item || cJSON_IsNull(item))
        return PHI3_OK;
    bool is_list = cJSON_IsArray(item);
    for (const cJSON *id = is_list ? item->child : item; id; id = is_list ? id->next : NULL) {
        /* The bounds keep the conversion defined. */
        bool is_id = cJSON_IsNumber(id) && id->valuedouble >= 0 && id->valuedouble <= INT32_MAX &&
                     id->valuedouble == (double)(int64_t)id->valuedouble;
        if (!is_id)
            return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                             "%s: \"eos_token_id\" is neither a token id nor a list of them",
                             from.path);
        PHI3_TRY(phi3_config_add_eos(from.path, (int64_t)id->valuedouble, out, error));
    }
    return PHI3_OK;
}

/* -1 stands for "none" in many files. */
static phi3_status read_pad(source from, int32_t *out, phi3_error *error)
{
    double pad = *out;
    PHI3_TRY(read_double(from, "pad_token_id", &pad, error));
    if (!(pad >= -1 && pad <= INT32_MAX) || pad != (double)(int32_t)pad)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: \"pad_token_id\" %g is not a token id",
                         from.path, pad);
    *out = (int32_t)pad;
    return PHI3_OK;
}

static phi3_status read_generation(source from, phi3_loaded_config *out, phi3_error *error)
{
    phi3_generation_config *generation = &out->generation;
    PHI3_TRY(read_count(from, "max_new_tokens", &generation->max_new_tokens, error));
    PHI3_TRY(read_count(from, "max_length", &generation->max_length, error));
    PHI3_TRY(read_count(from, "min_new_tokens", &generation->min_new_tokens, error));
    PHI3_TRY(read_count(from, "min_length", &generation->min_length, error));
    PHI3_TRY(read_count(from, "top_k", &generation->top_k, error));
    PHI3_TRY(phi3_json_bool(from.path, from.object, "do_sample", &generation->do_sample, error));
    PHI3_TRY(read_double(from, "repetition_penalty", &generation->repetition_penalty, error));
    PHI3_TRY(read_double(from, "temperature", &generation->temperature, error));
    PHI3_TRY(read_double(from, "top_p", &generation->top_p, error));
    PHI3_TRY(read_double(from, "min_p", &generation->min_p, error));
    PHI3_TRY(read_eos(from, out, error));
    return read_pad(from, &generation->pad_token_id, error);
}

/* ---- The whole ----------------------------------------------------------------------------- */

static phi3_status read_config(source from, phi3_loaded_config *out, phi3_error *error)
{
    if (!cJSON_IsObject(from.object))
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: not a JSON object", from.path);
    PHI3_TRY(read_kind(from, out, error));
    bool is_phi3 = strcmp(out->model_type, "phi3") == 0;
    PHI3_TRY(read_sizes(from, is_phi3, &out->config, error));
    PHI3_TRY(read_rope(from, is_phi3, out, error));
    return phi3_config_finish(from.path, out, error);
}

/* Without generation_config.json, config.json may hold its values. */
static phi3_status read_generation_file(const char *path, source config, phi3_loaded_config *out,
                                        phi3_error *error)
{
    out->generation = phi3_generation_default_config();
    out->generation.eos_token_ids = out->eos_token_ids;
    if (!phi3_path_is_file(path))
        return read_generation(config, out, error);

    cJSON *root = NULL;
    PHI3_TRY(phi3_json_load(path, MAX_CONFIG_BYTES, &root, error));
    phi3_status status = cJSON_IsObject(root)
                             ? read_generation((source){path, root}, out, error)
                             : phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: not a JSON object", path);
    cJSON_Delete(root);
    if (status == PHI3_OK && out->generation.n_eos_token_ids == 0)
        status = read_eos(config, out, error);
    return status;
}

static phi3_status read_files(const char *config_path, const char *generation_path,
                              phi3_loaded_config *out, phi3_error *error)
{
    cJSON *root = NULL;
    PHI3_TRY(phi3_json_load(config_path, MAX_CONFIG_BYTES, &root, error));
    source config = {config_path, root};
    phi3_status status = read_config(config, out, error);
    if (status == PHI3_OK)
        status = read_generation_file(generation_path, config, out, error);
    cJSON_Delete(root);
    return status;
}

phi3_status phi3_config_from_directory(const char *directory, phi3_loaded_config *out,
                                       phi3_error *error)
{
    *out = (phi3_loaded_config){0};
    char *config_path = phi3_path_join(directory, "config.json");
    char *generation_path = phi3_path_join(directory, "generation_config.json");
    phi3_status status = config_path && generation_path
                             ? read_files(config_path, generation_path, out, error)
                             : phi3_fail_memory(error, "a path");
    free(config_path);
    free(generation_path);
    if (status != PHI3_OK)
        phi3_config_free(out);
    return status;
}
