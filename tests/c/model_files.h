/*
 * model_files.h - tiny models written in C for the tests of the file readers: GGUF files and Hugging
 * Face directories of any layout, whole and well-formed. Tests spoil them afterwards.
 *
 * Every function ends the test when memory or the disk fails.
 */
#ifndef PHI3_TEST_MODEL_FILES_H
#define PHI3_TEST_MODEL_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files/gguf.h"
#include "kernels/formats.h"

/* ---- Bytes that grow ------------------------------------------------------------------------ */

typedef struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
} buffer;

static inline void put(buffer *to, const void *bytes, size_t size)
{
    if (to->size + size > to->capacity) {
        to->capacity = 2 * (to->size + size);
        to->data = realloc(to->data, to->capacity);
        assert_non_null(to->data);
    }
    if (size > 0)
        memcpy(to->data + to->size, bytes, size);
    to->size += size;
}

static inline void put_u32(buffer *to, uint32_t value)
{
    put(to, &value, sizeof value);
}

static inline void put_u64(buffer *to, uint64_t value)
{
    put(to, &value, sizeof value);
}

/* GGUF's strings: length, bytes. */
static inline void put_string(buffer *to, const char *text)
{
    put_u64(to, strlen(text));
    put(to, text, strlen(text));
}

static inline void release(buffer *old)
{
    free(old->data);
    *old = (buffer){0};
}

/* ---- A directory of its own for each test ---------------------------------------------------- */

static char test_directory[64];

static inline int enter_directory(void **state)
{
    (void)state;
    strcpy(test_directory, "/tmp/phi3-files-XXXXXX");
    return mkdtemp(test_directory) == NULL;
}

static inline int leave_directory(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", test_directory);
    return system(command) != 0;
}

/* The path of a file of the directory; overwritten by the next call but three. */
static inline const char *in_directory(const char *name)
{
    static char paths[4][160];
    static size_t turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_directory, name);
    return path;
}

static inline void write_bytes(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(in_directory(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

/* ---- GGUF ------------------------------------------------------------------------------------- */

/* A GGUF file in its parts, which gguf_join puts together. */
typedef struct gguf_parts {
    buffer metadata;
    uint64_t n_keys;
    buffer directory;
    uint64_t n_tensors;
    buffer data;
    size_t alignment; /* of the data and of every tensor in it; 0: GGUF's default of 32 */
} gguf_parts;

static inline void put_padding(buffer *to, size_t alignment)
{
    alignment = alignment ? alignment : 32;
    while (to->size % alignment != 0)
        put(to, "", 1);
}

static inline void gguf_key(gguf_parts *to, const char *key, phi3_gguf_type type)
{
    to->n_keys++;
    put_string(&to->metadata, key);
    put_u32(&to->metadata, type);
}

static inline void gguf_u32(gguf_parts *to, const char *key, uint32_t value)
{
    gguf_key(to, key, PHI3_GGUF_UINT32);
    put_u32(&to->metadata, value);
}

static inline void gguf_f32(gguf_parts *to, const char *key, float value)
{
    gguf_key(to, key, PHI3_GGUF_FLOAT32);
    put(&to->metadata, &value, sizeof value);
}

static inline void gguf_text(gguf_parts *to, const char *key, const char *value)
{
    gguf_key(to, key, PHI3_GGUF_STRING);
    put_string(&to->metadata, value);
}

static inline void gguf_strings(gguf_parts *to, const char *key, const char *const *values,
                                size_t count)
{
    gguf_key(to, key, PHI3_GGUF_ARRAY);
    put_u32(&to->metadata, PHI3_GGUF_STRING);
    put_u64(&to->metadata, count);
    for (size_t i = 0; i < count; i++)
        put_string(&to->metadata, values[i]);
}

/* Adds a tensor [n_rows][n_columns]; n_rows 0 makes it one of one dimension. */
static inline void gguf_tensor_bytes(gguf_parts *to, const char *name, phi3_dtype dtype,
                                     size_t n_rows, size_t n_columns, const void *bytes)
{
    put_string(&to->directory, name);
    put_u32(&to->directory, n_rows ? 2 : 1);
    put_u64(&to->directory, n_columns);
    if (n_rows)
        put_u64(&to->directory, n_rows);
    put_u32(&to->directory, dtype);
    put_u64(&to->directory, to->data.size);
    put(&to->data, bytes, (n_rows ? n_rows : 1) * phi3_dtype_row_bytes(dtype, n_columns));
    put_padding(&to->data, to->alignment);
    to->n_tensors++;
}

/* Header, metadata, directory, data; the parts are released. */
static inline buffer gguf_join(gguf_parts *from)
{
    buffer file = {0};
    put(&file, "GGUF", 4);
    put_u32(&file, 3);
    put_u64(&file, from->n_tensors);
    put_u64(&file, from->n_keys);
    put(&file, from->metadata.data, from->metadata.size);
    put(&file, from->directory.data, from->directory.size);
    put_padding(&file, from->alignment);
    put(&file, from->data.data, from->data.size);
    release(&from->metadata);
    release(&from->directory);
    release(&from->data);
    return file;
}

/* ---- The tiny model --------------------------------------------------------------------------- */

enum {
    TINY_VOCAB = 40,
    TINY_HIDDEN = 64,
    TINY_INTERMEDIATE = 96,
    TINY_LAYERS = 2,
    TINY_HEADS = 4,
    TINY_KV_HEADS = 2,
    TINY_HEAD_DIM = 16,
    TINY_QKV_ROWS = (TINY_HEADS + 2 * TINY_KV_HEADS) * TINY_HEAD_DIM
};

/* Numbered bytes with finite scales: blocks of Q4_0 and Q8_0 start with a float16 of 1. */
static inline uint8_t *tiny_bytes(phi3_dtype dtype, size_t n_rows, size_t n_columns)
{
    size_t row_bytes = phi3_dtype_row_bytes(dtype, n_columns), size = n_rows * row_bytes;
    size_t block_bytes = phi3_dtype_traits(dtype)->block_bytes;
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i / row_bytes + i);
    for (size_t i = 0; i < size; i += block_bytes) {
        const float one = 1;
        const uint16_t half_one = 0x3c00, bfloat_one = 0x3f80;
        if (dtype == PHI3_F32)
            memcpy(bytes + i, &one, sizeof one);
        else
            memcpy(bytes + i, dtype == PHI3_BF16 ? &bfloat_one : &half_one, sizeof half_one);
    }
    return bytes;
}

static inline void tiny_tensor(gguf_parts *to, const char *name, phi3_dtype dtype, size_t n_rows,
                               size_t n_columns)
{
    uint8_t *bytes = tiny_bytes(dtype, n_rows ? n_rows : 1, n_columns);
    gguf_tensor_bytes(to, name, dtype, n_rows, n_columns, bytes);
    free(bytes);
}

static inline void tiny_gguf_metadata(gguf_parts *to, const char *architecture)
{
    const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {
        {"context_length", 128},
        {"embedding_length", TINY_HIDDEN},
        {"feed_forward_length", TINY_INTERMEDIATE},
        {"block_count", TINY_LAYERS},
        {"attention.head_count", TINY_HEADS},
        {"attention.head_count_kv", TINY_KV_HEADS},
        {"attention.sliding_window", 100},
        {"rope.dimension_count", TINY_HEAD_DIM},
        {"rope.scaling.original_context_length", 32},
    };
    static const char *const tokens[] = {"<unk>", "<s>",           "</s>", "a",
                                         "b",     "<|endoftext|>", "c",    "<|end|>"};
    char key[80];
    gguf_text(to, "general.architecture", architecture);
    gguf_text(to, "general.name", "Tiny");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(key, sizeof key, "%s.%s", architecture, sizes[i].key);
        gguf_u32(to, key, sizes[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", architecture);
    gguf_f32(to, key, 1e-5f);
    snprintf(key, sizeof key, "%s.rope.freq_base", architecture);
    gguf_f32(to, key, 10000);
    gguf_strings(to, "tokenizer.ggml.tokens", tokens, sizeof tokens / sizeof *tokens);
    gguf_u32(to, "tokenizer.ggml.eos_token_id", 2);
    gguf_u32(to, "tokenizer.ggml.padding_token_id", 5);
}

static inline void tiny_gguf_layer(gguf_parts *to, int layer, bool fused)
{
    const struct {
        const char *name;
        phi3_dtype dtype;
        size_t n_rows, n_columns; /* n_rows 0: one dimension */
        bool fused, separate;     /* in which layout the tensor stands */
    } tensors[] = {
        {"attn_norm", PHI3_F32, 0, TINY_HIDDEN, true, true},
        {"attn_qkv", PHI3_Q4_0, TINY_QKV_ROWS, TINY_HIDDEN, true, false},
        {"attn_q", PHI3_Q4_0, TINY_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, false, true},
        {"attn_k", PHI3_Q8_0, TINY_KV_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, false, true},
        {"attn_v", PHI3_Q4_0, TINY_KV_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, false, true},
        {"attn_output", PHI3_Q4_0, TINY_HIDDEN, TINY_HEADS * TINY_HEAD_DIM, true, true},
        {"ffn_norm", PHI3_F32, 0, TINY_HIDDEN, true, true},
        {"ffn_up", PHI3_Q4_0, 2 * TINY_INTERMEDIATE, TINY_HIDDEN, true, false},
        {"ffn_gate", PHI3_Q4_0, TINY_INTERMEDIATE, TINY_HIDDEN, false, true},
        {"ffn_up", PHI3_Q4_0, TINY_INTERMEDIATE, TINY_HIDDEN, false, true},
        {"ffn_down", PHI3_Q4_0, TINY_HIDDEN, TINY_INTERMEDIATE, true, true},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", layer, tensors[i].name);
        if (fused ? tensors[i].fused : tensors[i].separate)
            tiny_tensor(to, name, tensors[i].dtype, tensors[i].n_rows, tensors[i].n_columns);
    }
}

/* A whole model: "phi3" with fused matrices, LongRoPE and a head, or "llama" with separate matrices
 * and a tied head. */
static inline gguf_parts tiny_gguf_parts(const char *architecture)
{
    static const float factors[2][TINY_HEAD_DIM / 2] = {{1, 1, 1, 1, 1, 1, 1, 1},
                                                        {1, 2, 3, 4, 5, 6, 7, 8}};
    bool is_phi3 = strcmp(architecture, "phi3") == 0;
    gguf_parts parts = {0};
    tiny_gguf_metadata(&parts, architecture);
    tiny_tensor(&parts, "token_embd.weight", PHI3_Q8_0, TINY_VOCAB, TINY_HIDDEN);
    tiny_tensor(&parts, "output_norm.weight", PHI3_F32, 0, TINY_HIDDEN);
    if (is_phi3) {
        tiny_tensor(&parts, "output.weight", PHI3_Q8_0, TINY_VOCAB, TINY_HIDDEN);
        gguf_tensor_bytes(&parts, "rope_factors_short.weight", PHI3_F32, 0, TINY_HEAD_DIM / 2,
                          factors[0]);
        gguf_tensor_bytes(&parts, "rope_factors_long.weight", PHI3_F32, 0, TINY_HEAD_DIM / 2,
                          factors[1]);
    }
    for (int layer = 0; layer < TINY_LAYERS; layer++)
        tiny_gguf_layer(&parts, layer, is_phi3);
    return parts;
}

static inline buffer tiny_gguf(const char *architecture)
{
    gguf_parts parts = tiny_gguf_parts(architecture);
    return gguf_join(&parts);
}

/* ---- Hugging Face ------------------------------------------------------------------------------- */

/* A safetensors file in its parts. */
typedef struct safetensors_parts {
    buffer header; /* JSON, without the closing brace */
    buffer data;
} safetensors_parts;

/* n_rows 0 makes it a tensor of one dimension. */
static inline void safetensors_tensor(safetensors_parts *to, const char *name, phi3_dtype dtype,
                                      size_t n_rows, size_t n_columns)
{
    char text[256], shape[64];
    const char *type = dtype == PHI3_F32 ? "F32" : dtype == PHI3_F16 ? "F16" : "BF16";
    size_t rows = n_rows ? n_rows : 1, begin = to->data.size;
    uint8_t *bytes = tiny_bytes(dtype, rows, n_columns);
    put(&to->data, bytes, rows * phi3_dtype_row_bytes(dtype, n_columns));
    free(bytes);
    if (n_rows)
        snprintf(shape, sizeof shape, "%zu,%zu", n_rows, n_columns);
    else
        snprintf(shape, sizeof shape, "%zu", n_columns);
    snprintf(text, sizeof text,
             "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
             to->header.size ? "," : "{\"__metadata__\":{\"format\":\"pt\"},", name, type, shape,
             begin, to->data.size);
    put(&to->header, text, strlen(text));
}

/* The parts are released. */
static inline buffer safetensors_join(safetensors_parts *from)
{
    buffer file = {0};
    put(&from->header, "}", 1);
    put_u64(&file, from->header.size);
    put(&file, from->header.data, from->header.size);
    put(&file, from->data.data, from->data.size);
    release(&from->header);
    release(&from->data);
    return file;
}

static inline void tiny_safetensors_layer(safetensors_parts *to, int layer, bool fused)
{
    const struct {
        const char *name;
        size_t n_rows, n_columns;
        bool fused, separate;
    } tensors[] = {
        {"input_layernorm", 0, TINY_HIDDEN, true, true},
        {"post_attention_layernorm", 0, TINY_HIDDEN, true, true},
        {"self_attn.qkv_proj", TINY_QKV_ROWS, TINY_HIDDEN, true, false},
        {"self_attn.q_proj", TINY_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, false, true},
        {"self_attn.k_proj", TINY_KV_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, false, true},
        {"self_attn.v_proj", TINY_KV_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, false, true},
        {"self_attn.o_proj", TINY_HIDDEN, TINY_HEADS * TINY_HEAD_DIM, true, true},
        {"mlp.gate_up_proj", 2 * TINY_INTERMEDIATE, TINY_HIDDEN, true, false},
        {"mlp.gate_proj", TINY_INTERMEDIATE, TINY_HIDDEN, false, true},
        {"mlp.up_proj", TINY_INTERMEDIATE, TINY_HIDDEN, false, true},
        {"mlp.down_proj", TINY_HIDDEN, TINY_INTERMEDIATE, true, true},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, tensors[i].name);
        if (fused ? tensors[i].fused : tensors[i].separate)
            safetensors_tensor(to, name, PHI3_BF16, tensors[i].n_rows, tensors[i].n_columns);
    }
}

#define TINY_CONFIG                                                                                \
    "{\"architectures\": [\"Phi3ForCausalLM\"], \"model_type\": \"phi3\", \"vocab_size\": 40,\n"   \
    " \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2,\n"                 \
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"hidden_act\": \"silu\",\n"         \
    " \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"max_position_embeddings\": 128,\n"       \
    " \"original_max_position_embeddings\": 32, \"sliding_window\": null,\n"                       \
    " \"tie_word_embeddings\": false, \"eos_token_id\": 5, \"rope_scaling\": {\"type\": \"su\",\n" \
    "  \"short_factor\": [1, 1, 1, 1, 1, 1, 1, 1], \"long_factor\": [1, 2, 3, 4, 5, 6, 7, 8]}}\n"

/* model.safetensors of the model that TINY_CONFIG describes, or with separate matrices. */
static inline buffer tiny_safetensors(bool fused)
{
    safetensors_parts parts = {0};
    safetensors_tensor(&parts, "model.embed_tokens.weight", PHI3_BF16, TINY_VOCAB, TINY_HIDDEN);
    for (int layer = 0; layer < TINY_LAYERS; layer++)
        tiny_safetensors_layer(&parts, layer, fused);
    safetensors_tensor(&parts, "model.norm.weight", PHI3_F32, 0, TINY_HIDDEN);
    safetensors_tensor(&parts, "lm_head.weight", PHI3_F16, TINY_VOCAB, TINY_HIDDEN);
    return safetensors_join(&parts);
}

#endif
