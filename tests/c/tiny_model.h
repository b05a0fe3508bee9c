/*
 * tiny_model.h - a Phi-3 checkpoint of a few kilobytes with random weights, for tests of the loop.
 *
 * Two layers, grouped queries, LongRoPE that changes its factors after TINY_ORIGINAL tokens. What it
 * says means nothing, but every part of the real model is in it. TINY_WIDE, defined before, makes it
 * wide enough for formats in blocks of 256 columns, with heads of a usual size.
 */
#ifndef PHI3_TEST_TINY_MODEL_H
#define PHI3_TEST_TINY_MODEL_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "phi3.h"

#ifdef TINY_WIDE
#define TINY_SIZES "\"hidden_size\": 256, \"intermediate_size\": 512,"
#define TINY_FOUR(factor) factor ".0, " factor ".1, " factor ".2, " factor ".3"
#define TINY_EIGHT(factor) TINY_FOUR(factor) ", " TINY_FOUR(factor)
#define TINY_SHORT TINY_EIGHT("1") ", " TINY_EIGHT("1") ", " TINY_EIGHT("1") ", " TINY_EIGHT("1")
#define TINY_LONG TINY_EIGHT("1") ", " TINY_EIGHT("3") ", " TINY_EIGHT("6") ", " TINY_EIGHT("9")
enum { TINY_HIDDEN = 256, TINY_INTERMEDIATE = 512 };
static const float tiny_weight = 0.15f; /* the largest */
#else
#define TINY_SIZES "\"hidden_size\": 32, \"intermediate_size\": 48,"
#define TINY_SHORT "1.0, 1.1, 1.2, 1.3"
#define TINY_LONG "1.5, 2.5, 5.0, 9.0"
enum { TINY_HIDDEN = 32, TINY_INTERMEDIATE = 48 };
static const float tiny_weight = 0.5f;
#endif

enum {
    TINY_VOCAB = 96,
    TINY_LAYERS = 2,
    TINY_QKV = (4 + 2 * 2) * (TINY_HIDDEN / 4), /* 4 heads, 2 kv heads */
    TINY_ORIGINAL = 70,
    TINY_POSITIONS = 700
};

#define TINY_CONFIG(positions)                                                                 \
    "{\"model_type\": \"phi3\", \"architectures\": [\"Phi3ForCausalLM\"], \"vocab_size\": 96," \
    " " TINY_SIZES " \"num_hidden_layers\": 2,"                                                \
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"hidden_act\": \"silu\","       \
    " \"max_position_embeddings\": " positions ", \"original_max_position_embeddings\": 70,"   \
    " \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"tie_word_embeddings\": false,"       \
    " \"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [" TINY_SHORT "],"          \
    " \"long_factor\": [" TINY_LONG "]}, \"bos_token_id\": 1, \"eos_token_id\": 2}"

static const char tiny_config[] = TINY_CONFIG("700");
/* Has room for more than a test can generate. */
static const char tiny_endless_config[] = TINY_CONFIG("1000000");

/* The same sizes as a llama, whose matrices stand apart. */
static const char tiny_llama_config[] =
    "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 96,"
    " " TINY_SIZES " \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"hidden_act\": \"silu\","
    " \"max_position_embeddings\": 700, \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0,"
    " \"tie_word_embeddings\": false, \"bos_token_id\": 1, \"eos_token_id\": 2}";

typedef struct tiny_tensor {
    char name[64];
    size_t n_rows, n_columns; /* n_rows 0: a vector of norm weights */
} tiny_tensor;

static inline size_t tiny_tensors(tiny_tensor *tensors, bool fused)
{
    enum { FUSED = 1, APART = 2 }; /* the layouts that a tensor is part of */
    const struct {
        const char *name;
        size_t n_rows, n_columns;
        int layouts;
    } layer[] = {
        {"input_layernorm", 0, TINY_HIDDEN, FUSED | APART},
        {"self_attn.qkv_proj", TINY_QKV, TINY_HIDDEN, FUSED},
        {"self_attn.q_proj", TINY_QKV / 2, TINY_HIDDEN, APART},
        {"self_attn.k_proj", TINY_QKV / 4, TINY_HIDDEN, APART},
        {"self_attn.v_proj", TINY_QKV / 4, TINY_HIDDEN, APART},
        {"self_attn.o_proj", TINY_HIDDEN, TINY_HIDDEN, FUSED | APART},
        {"post_attention_layernorm", 0, TINY_HIDDEN, FUSED | APART},
        {"mlp.gate_up_proj", 2 * TINY_INTERMEDIATE, TINY_HIDDEN, FUSED},
        {"mlp.gate_proj", TINY_INTERMEDIATE, TINY_HIDDEN, APART},
        {"mlp.up_proj", TINY_INTERMEDIATE, TINY_HIDDEN, APART},
        {"mlp.down_proj", TINY_HIDDEN, TINY_INTERMEDIATE, FUSED | APART},
    };
    size_t count = 0;
    tensors[count++] = (tiny_tensor){"model.embed_tokens.weight", TINY_VOCAB, TINY_HIDDEN};
    tensors[count++] = (tiny_tensor){"lm_head.weight", TINY_VOCAB, TINY_HIDDEN};
    tensors[count++] = (tiny_tensor){"model.norm.weight", 0, TINY_HIDDEN};
    for (int i = 0; i < TINY_LAYERS; i++) {
        for (size_t j = 0; j < sizeof layer / sizeof *layer; j++) {
            if ((layer[j].layouts & (fused ? FUSED : APART)) == 0)
                continue;
            tiny_tensor *tensor = &tensors[count++];
            tensor->n_rows = layer[j].n_rows;
            tensor->n_columns = layer[j].n_columns;
            snprintf(tensor->name, sizeof tensor->name, "model.layers.%d.%s.weight", i,
                     layer[j].name);
        }
    }
    return count;
}

static inline void tiny_write_weights(const char *path, bool fused)
{
    tiny_tensor tensors[32];
    size_t count = tiny_tensors(tensors, fused), offset = 0;
    char header[8192] = "{";
    for (size_t i = 0; i < count; i++) {
        const tiny_tensor *t = &tensors[i];
        size_t rows = t->n_rows == 0 ? 1 : t->n_rows, size = rows * t->n_columns * sizeof(float);
        char shape[32], entry[256];
        snprintf(shape, sizeof shape, t->n_rows == 0 ? "[%zu]" : "[%zu,%zu]",
                 t->n_rows == 0 ? t->n_columns : t->n_rows, t->n_columns);
        snprintf(entry, sizeof entry,
                 "%s\"%.63s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                 i == 0 ? "" : ",", t->name, shape, offset, offset + size);
        strcat(header, entry);
        offset += size;
    }
    strcat(header, "}");

    FILE *file = fopen(path, "wb");
    uint64_t header_size = strlen(header);
    fwrite(&header_size, sizeof header_size, 1, file);
    fwrite(header, 1, header_size, file);
    uint32_t random = 12345;
    for (size_t i = 0; i < count; i++) {
        bool norm = tensors[i].n_rows == 0;
        size_t elements = (norm ? 1 : tensors[i].n_rows) * tensors[i].n_columns;
        for (size_t j = 0; j < elements; j++) {
            random = random * 1664525u + 1013904223u;
            float value = (float)(random >> 8) / (1 << 23) - 1; /* [-1, 1) */
            value = norm ? 1 + 0.2f * value : tiny_weight * value;
            fwrite(&value, sizeof value, 1, file);
        }
    }
    fclose(file);
}

/* Writes the checkpoint of one of the configs above into a directory that is there. */
static inline void tiny_model_write(const char *directory, const char *config)
{
    char path[96];
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = fopen(path, "w");
    fputs(config, file);
    fclose(file);
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    tiny_write_weights(path, config != tiny_llama_config);
}

/* Removes the files and the directory. */
static inline void tiny_model_remove(const char *directory)
{
    char path[96];
    snprintf(path, sizeof path, "%s/config.json", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    unlink(path);
    rmdir(directory);
}

/* Writes a checkpoint into a new directory, loads it, and removes the files. */
static inline phi3_status tiny_model_open_with(const char *config,
                                               const phi3_model_options *options,
                                               phi3_model **model, phi3_error *error)
{
    char directory[] = "/tmp/phi3-tiny-XXXXXX";
    if (mkdtemp(directory) == NULL)
        return PHI3_ERROR_IO;
    tiny_model_write(directory, config);
    phi3_status status = phi3_model_load(directory, options, model, error);
    tiny_model_remove(directory);
    return status;
}

/* On a device, in the exact mode. */
static inline phi3_status tiny_model_open(const char *config, const char *device,
                                          phi3_model **model, phi3_error *error)
{
    phi3_model_options options = {.device = device, .compute_dtype = "float32"};
    return tiny_model_open_with(config, &options, model, error);
}

/* The same; NULL and a line on stderr when it fails. */
static inline phi3_model *tiny_model_load(const char *config, const char *device)
{
    phi3_error error = {0};
    phi3_model *model = NULL;
    if (tiny_model_open(config, device, &model, &error) != PHI3_OK)
        fprintf(stderr, "%s\n", error.message);
    return model;
}

/* Ids that look like a text's: [count], the same for the same seed. */
static inline void tiny_ids(uint32_t seed, int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)(3 + (seed >> 16) % (TINY_VOCAB - 3));
    }
}

#endif
