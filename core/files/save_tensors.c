/*
 * save_tensors.c - lists the tensors of a GGUF file that is to be written.
 *
 * In: the weights of a Hugging Face checkpoint, or an opened GGUF file. Out: names, sources and formats
 * in the order of the file. A checkpoint's tensors are laid out as llama.cpp's converter does: phi3
 * with queries, keys and values in one tensor and gate above up; llama with all of them apart and the
 * halves of each query and key head interleaved. Norms are float32.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "save.h"

/* ---- One tensor ------------------------------------------------------------------------------ */

static phi3_saved_tensor *add(phi3_saved_tensors *out, phi3_error *error)
{
    if (!phi3_reserve(&out->list, &out->capacity, out->count + 1, sizeof *out->list)) {
        phi3_fail_memory(error, "a list of tensors");
        return NULL;
    }
    phi3_saved_tensor *tensor = &out->list[out->count++];
    *tensor = (phi3_saved_tensor){0};
    return tensor;
}

static phi3_status add_vector(phi3_saved_tensors *out, const char *name, phi3_tensor source,
                              phi3_error *error)
{
    phi3_saved_tensor *tensor = add(out, error);
    if (tensor == NULL)
        return PHI3_ERROR_OUT_OF_MEMORY;
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->part[0] = source;
    tensor->n_parts = 1;
    tensor->dtype = PHI3_F32;
    tensor->is_vector = true;
    return PHI3_OK;
}

/* ---- From a checkpoint ----------------------------------------------------------------------- */

typedef struct lister {
    const char *path;
    const phi3_loaded_config *config;
    const phi3_quantization *quantization;
    phi3_saved_tensors *out;
    phi3_error *error;
} lister;

/* Parts of different formats become float32, which holds them all. */
static phi3_dtype stored_dtype(const phi3_tensor *parts, size_t n_parts)
{
    for (size_t i = 1; i < n_parts; i++) {
        if (parts[i].dtype != parts[0].dtype)
            return PHI3_F32;
    }
    return parts[0].dtype;
}

static phi3_status add_matrix(const lister *to, const char *name, const phi3_tensor *parts,
                              size_t n_parts, size_t interleaved_head)
{
    phi3_saved_tensor *tensor = add(to->out, to->error);
    if (tensor == NULL)
        return PHI3_ERROR_OUT_OF_MEMORY;
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    memcpy(tensor->part, parts, n_parts * sizeof *parts);
    tensor->n_parts = n_parts;
    tensor->interleaved_head = interleaved_head;
    tensor->dtype = stored_dtype(parts, n_parts);
    size_t layer;
    phi3_tensor_role role = phi3_tensor_role_of(name, strlen(name), &layer);
    if (to->quantization != NULL)
        tensor->dtype = phi3_quantization_dtype(to->quantization, &to->config->config, role, layer,
                                                parts[0].n_columns);
    return PHI3_OK;
}

static const char *layer_name(size_t layer, const char *name, char out[PHI3_SAVED_NAME_SIZE])
{
    snprintf(out, PHI3_SAVED_NAME_SIZE, "blk.%zu.%s.weight", layer, name);
    return out;
}

/* A matrix whose parts llama.cpp wants apart, under `names`, when the architecture is llama, and in
 * one, as `fused`, when it is phi3. */
static phi3_status add_parts(const lister *to, size_t layer, const phi3_matrix_parts *matrix,
                             const char *const *names, size_t n_names, const char *fused)
{
    char name[PHI3_SAVED_NAME_SIZE];
    if (strcmp(to->config->model_type, "llama") != 0)
        return add_matrix(to, layer_name(layer, fused, name), matrix->part, matrix->count, 0);
    if (matrix->count != n_names)
        return phi3_fail(to->error, PHI3_ERROR_UNSUPPORTED,
                         "%s: a llama model whose %s are in one tensor", to->path,
                         n_names == 3 ? "queries, keys and values" : "gate and up");
    for (size_t i = 0; i < n_names; i++) {
        bool rotates = n_names == 3 && i < 2; /* queries and keys */
        PHI3_TRY(add_matrix(to, layer_name(layer, names[i], name), &matrix->part[i], 1,
                            rotates ? to->config->config.head_dim : 0));
    }
    return PHI3_OK;
}

static phi3_status add_layer(const lister *to, size_t layer, const phi3_layer_tensors *tensors)
{
    static const char *const qkv[] = {"attn_q", "attn_k", "attn_v"};
    static const char *const gate_up[] = {"ffn_gate", "ffn_up"};
    char name[PHI3_SAVED_NAME_SIZE];
    PHI3_TRY(add_vector(to->out, layer_name(layer, "attn_norm", name), tensors->attention_norm,
                        to->error));
    PHI3_TRY(add_parts(to, layer, &tensors->qkv, qkv, 3, "attn_qkv"));
    PHI3_TRY(add_matrix(to, layer_name(layer, "attn_output", name), tensors->output.part, 1, 0));
    PHI3_TRY(
        add_vector(to->out, layer_name(layer, "ffn_norm", name), tensors->mlp_norm, to->error));
    PHI3_TRY(add_parts(to, layer, &tensors->gate_up, gate_up, 2, "ffn_up"));
    return add_matrix(to, layer_name(layer, "ffn_down", name), tensors->down.part, 1, 0);
}

static phi3_status add_rope_factors(const lister *to)
{
    const phi3_config *config = &to->config->config;
    if (config->rope_type != PHI3_ROPE_LONGROPE)
        return PHI3_OK;
    phi3_tensor factors = {PHI3_F32, 1, config->rotary_dim / 2, config->long_factor};
    PHI3_TRY(add_vector(to->out, "rope_factors_long.weight", factors, to->error));
    factors.data = config->short_factor;
    return add_vector(to->out, "rope_factors_short.weight", factors, to->error);
}

phi3_status phi3_save_list_weights(const char *path, const phi3_weights *weights,
                                   const phi3_loaded_config *config,
                                   const phi3_quantization *quantization, phi3_saved_tensors *out,
                                   phi3_error *error)
{
    lister to = {path, config, quantization, out, error};
    PHI3_TRY(add_matrix(&to, "token_embd.weight", weights->embedding.part, 1, 0));
    PHI3_TRY(add_rope_factors(&to));
    for (size_t layer = 0; layer < config->config.num_hidden_layers; layer++)
        PHI3_TRY(add_layer(&to, layer, &weights->layers[layer]));
    PHI3_TRY(add_vector(out, "output_norm.weight", weights->final_norm, error));
    if (weights->lm_head.count == 0)
        return PHI3_OK;
    return add_matrix(&to, "output.weight", weights->lm_head.part, 1, 0);
}

/* ---- From a GGUF file ------------------------------------------------------------------------ */

/* As they stand in the file, so that it is read from front to back. */
static int by_place(const void *a, const void *b)
{
    const phi3_saved_tensor *left = a, *right = b;
    const char *left_data = left->part[0].data, *right_data = right->part[0].data;
    return (left_data > right_data) - (left_data < right_data);
}

phi3_status phi3_save_list_gguf(const phi3_gguf *gguf, const phi3_config *config,
                                const phi3_quantization *quantization, phi3_saved_tensors *out,
                                phi3_error *error)
{
    for (size_t i = 0; i < phi3_gguf_tensor_count(gguf); i++) {
        phi3_gguf_string name;
        phi3_tensor stored = phi3_gguf_tensor_at(gguf, i, &name);
        size_t layer;
        phi3_tensor_role role = phi3_tensor_role_of(name.text, name.size, &layer);
        phi3_saved_tensor *tensor = add(out, error);
        if (tensor == NULL)
            return PHI3_ERROR_OUT_OF_MEMORY;
        if (name.size >= sizeof tensor->name)
            return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                             "%s: a tensor's name has %zu bytes; GGUF allows %d",
                             phi3_gguf_path(gguf), name.size, PHI3_SAVED_NAME_SIZE);
        memcpy(tensor->name, name.text, name.size);
        tensor->part[0] = stored;
        tensor->n_parts = 1;
        tensor->dtype = stored.dtype;
        tensor->is_vector = role == PHI3_ROLE_OTHER && stored.n_rows == 1;
        if (quantization != NULL && role != PHI3_ROLE_OTHER)
            tensor->dtype =
                phi3_quantization_dtype(quantization, config, role, layer, stored.n_columns);
    }
    if (out->count > 0)
        qsort(out->list, out->count, sizeof *out->list, by_place);
    return PHI3_OK;
}
