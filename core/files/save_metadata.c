/*
 * save_metadata.c - the hyper-parameters of a checkpoint as the metadata of a GGUF file.
 *
 * In: a checked configuration. Out: the keys that llama.cpp's converter writes for the architectures
 * phi3 and llama.
 */
#include <stdio.h>
#include <string.h>

#include "save.h"

enum { KEY_SIZE = 96, QUANTIZATION_VERSION = 2 /* of ggml's block formats */ };

/* "phi3." + name */
static const char *full_key(const phi3_loaded_config *config, const char *name, char key[KEY_SIZE])
{
    snprintf(key, KEY_SIZE, "%s.%s", config->model_type, name);
    return key;
}

static void put_text(phi3_gguf_writer *writer, const char *key, const char *text)
{
    phi3_gguf_put_text(writer, key, text, strlen(text));
}

static void put_name(phi3_gguf_writer *writer, const char *path, const phi3_loaded_config *config)
{
    const char *name = config->name;
    if (*name != '\0') {
        put_text(writer, "general.name", name);
        return;
    }
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    phi3_gguf_put_text(writer, "general.name", path + start, end - start);
}

static void put_rope(phi3_gguf_writer *writer, const phi3_loaded_config *loaded)
{
    const phi3_config *config = &loaded->config;
    char key[KEY_SIZE];
    phi3_gguf_put_u32(writer, full_key(loaded, "rope.dimension_count", key),
                      (uint32_t)config->rotary_dim);
    phi3_gguf_put_f32(writer, full_key(loaded, "rope.freq_base", key), config->rope_theta);
    phi3_gguf_put_u32(writer, full_key(loaded, "rope.scaling.original_context_length", key),
                      (uint32_t)config->original_max_position_embeddings);
    if (config->rope_type == PHI3_ROPE_LONGROPE)
        phi3_gguf_put_f32(writer, full_key(loaded, "rope.scaling.attn_factor", key),
                          config->rope_attention_factor);
}

void phi3_save_put_config(phi3_gguf_writer *writer, const char *path,
                          const phi3_loaded_config *loaded, uint32_t file_type)
{
    const phi3_config *config = &loaded->config;
    const struct {
        const char *name;
        size_t value;
    } sizes[] = {
        {"vocab_size", config->vocab_size},
        {"context_length", config->max_position_embeddings},
        {"embedding_length", config->hidden_size},
        {"feed_forward_length", config->intermediate_size},
        {"block_count", config->num_hidden_layers},
        {"attention.head_count", config->num_attention_heads},
        {"attention.head_count_kv", config->num_key_value_heads},
        {"attention.key_length", config->head_dim},
        {"attention.value_length", config->head_dim},
        {"attention.sliding_window", config->sliding_window},
    };
    char key[KEY_SIZE];
    put_text(writer, "general.architecture", loaded->model_type);
    put_text(writer, "general.type", "model");
    put_name(writer, path, loaded);
    phi3_gguf_put_u32(writer, "general.file_type", file_type);
    phi3_gguf_put_u32(writer, "general.quantization_version", QUANTIZATION_VERSION);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        phi3_gguf_put_u32(writer, full_key(loaded, sizes[i].name, key), (uint32_t)sizes[i].value);
    phi3_gguf_put_f32(writer, full_key(loaded, "attention.layer_norm_rms_epsilon", key),
                      config->rms_norm_eps);
    put_rope(writer, loaded);
}

/* ---- Where generation ends -------------------------------------------------------------------- */

/* GGUF knows three ends: of the text, of a turn, of a message. The tokenizer's own end comes first;
 * the others that generation_config.json names follow. */
void phi3_save_put_ends(phi3_gguf_writer *writer, const phi3_loaded_config *config,
                        const phi3_tokenizer *tokenizer)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    const phi3_generation_config *generation = &config->generation;
    int32_t eos = tokenizer == NULL ? -1 : phi3_tokenizer_special_id(tokenizer, PHI3_TOKEN_EOS);
    int32_t pad = tokenizer == NULL ? -1 : phi3_tokenizer_special_id(tokenizer, PHI3_TOKEN_PAD);
    size_t used = 0;
    if (eos >= 0)
        phi3_gguf_put_u32(writer, keys[used++], (uint32_t)eos);
    for (size_t i = 0; i < generation->n_eos_token_ids && used < 3; i++) {
        if (generation->eos_token_ids[i] != eos)
            phi3_gguf_put_u32(writer, keys[used++], (uint32_t)generation->eos_token_ids[i]);
    }
    if (pad < 0)
        pad = generation->pad_token_id;
    if (pad >= 0)
        phi3_gguf_put_u32(writer, "tokenizer.ggml.padding_token_id", (uint32_t)pad);
}
