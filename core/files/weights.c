/*
 * weights.c - opens a model's files and hands out its tensors by the role they play.
 *
 * In: a Hugging Face directory or a GGUF file. Out: a checked config and, for every layer, tensors
 * whose shapes agree with it. Both kinds of file differ only in their names for things (the two
 * tables below) and in the order of the rows of llama's queries and keys.
 */
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "safetensors.h"
#include "weights_check.h"

enum { NAME_SIZE = PHI3_TENSOR_NAME_SIZE };

struct phi3_weight_store {
    phi3_gguf *gguf;               /* one of these two is open */
    phi3_safetensors *safetensors; /* one of these two is open */
};

/* ---- Names --------------------------------------------------------------------------------- */

typedef struct tensor_names {
    const char *embedding, *final_norm, *lm_head;
    const char *layer; /* the names below follow it and the layer's number */
    const char *attention_norm, *mlp_norm;
    const char *qkv[3]; /* separate ... */
    const char *fused_qkv;
    const char *output;
    const char *gate_up[2];
    const char *fused_gate_up; /* ... or in one: gate above up */
    const char *down;
} tensor_names;

static const tensor_names huggingface_names = {
    .embedding = "model.embed_tokens.weight",
    .final_norm = "model.norm.weight",
    .lm_head = "lm_head.weight",
    .layer = "model.layers",
    .attention_norm = "input_layernorm.weight",
    .mlp_norm = "post_attention_layernorm.weight",
    .qkv = {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"},
    .fused_qkv = "self_attn.qkv_proj.weight",
    .output = "self_attn.o_proj.weight",
    .gate_up = {"mlp.gate_proj.weight", "mlp.up_proj.weight"},
    .fused_gate_up = "mlp.gate_up_proj.weight",
    .down = "mlp.down_proj.weight",
};

static const tensor_names gguf_names = {
    .embedding = "token_embd.weight",
    .final_norm = "output_norm.weight",
    .lm_head = "output.weight",
    .layer = "blk",
    .attention_norm = "attn_norm.weight",
    .mlp_norm = "ffn_norm.weight",
    .qkv = {"attn_q.weight", "attn_k.weight", "attn_v.weight"},
    .fused_qkv = "attn_qkv.weight",
    .output = "attn_output.weight",
    .gate_up = {"ffn_gate.weight", "ffn_up.weight"},
    .fused_gate_up = "ffn_up.weight",
    .down = "ffn_down.weight",
};

/* What is being put together, and from what. */
typedef struct builder {
    const char *path; /* as the caller gave it */
    const tensor_names *names;
    struct phi3_weight_store *store;
    phi3_config *config;
    size_t n_elements[PHI3_DTYPE_LIMIT]; /* taken so far, by dtype */
    size_t n_taken;                      /* tensors */
    phi3_error *error;
} builder;

static void layer_name(const builder *to, size_t layer, const char *name, char out[NAME_SIZE])
{
    snprintf(out, NAME_SIZE, "%s.%zu.%s", to->names->layer, layer, name);
}

/* ---- Taking one tensor --------------------------------------------------------------------- */

/* *file is what messages should name: the shard, or the GGUF file. */
static phi3_status find_tensor(const builder *to, const char *name, phi3_tensor *out,
                               const char **file, bool *found)
{
    *file = to->path;
    if (to->store->safetensors)
        return phi3_safetensors_find(to->store->safetensors, name, out, file, found, to->error);
    *found = phi3_gguf_tensor(to->store->gguf, name, out);
    return PHI3_OK;
}

static phi3_status has_tensor(const builder *to, const char *name, bool *found)
{
    const char *file;
    phi3_tensor tensor;
    return find_tensor(to, name, &tensor, &file, found);
}

/* Takes [n_rows][n_columns] by name; *file is for later messages. */
static phi3_status take_tensor(builder *to, const char *name, size_t n_rows, size_t n_columns,
                               phi3_tensor *out, const char **file)
{
    bool found = false;
    PHI3_TRY(find_tensor(to, name, out, file, &found));
    if (!found)
        return phi3_fail(to->error, PHI3_ERROR_BAD_FILE, "%s: tensor '%s' is missing", to->path,
                         name);
    if (out->n_rows != n_rows || out->n_columns != n_columns)
        return phi3_fail(to->error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%s' has the shape [%zu][%zu], but the config asks for "
                         "[%zu][%zu]",
                         *file, name, out->n_rows, out->n_columns, n_rows, n_columns);
    to->n_taken++;
    to->n_elements[out->dtype] += n_rows * n_columns;
    to->config->n_parameters += n_rows * n_columns;
    to->config->weight_bytes += n_rows * phi3_dtype_row_bytes(out->dtype, n_columns);
    return PHI3_OK;
}

static phi3_status take_norm(builder *to, const char *name, phi3_tensor *out)
{
    const char *file;
    PHI3_TRY(take_tensor(to, name, 1, to->config->hidden_size, out, &file));
    return phi3_check_norm(file, name, out, to->error);
}

static phi3_status take_part(builder *to, const char *name, size_t n_rows, size_t n_columns,
                             phi3_matrix_parts *matrix)
{
    size_t i = matrix->count;
    PHI3_TRY(take_tensor(to, name, n_rows, n_columns, &matrix->stored[i], &matrix->file[i]));
    matrix->part[i] = matrix->stored[i];
    snprintf(matrix->name[i], NAME_SIZE, "%s", name);
    matrix->count++;
    return PHI3_OK;
}

/* llama.cpp's converter permutes the rows of llama's queries and keys. */
static phi3_status note_row_order(builder *to, phi3_matrix_parts *qkv)
{
    bool permuted = to->store->gguf && strcmp(to->config->model_type, "llama") == 0;
    if (!permuted)
        return PHI3_OK;
    if (qkv->count != 3)
        return phi3_fail(to->error, PHI3_ERROR_UNSUPPORTED,
                         "%s: a llama file with queries, keys and values in one tensor", to->path);
    qkv->interleaved_head = to->config->head_dim;
    return PHI3_OK;
}

/* ---- Layers -------------------------------------------------------------------------------- */

/* Takes a matrix stored in parts of rows[0..n_parts), or in one tensor of all the rows. */
static phi3_status take_parts(builder *to, size_t layer, const char *const *names,
                              const size_t *rows, size_t n_parts, const char *fused_name,
                              phi3_matrix_parts *matrix)
{
    char name[NAME_SIZE], fused[NAME_SIZE];
    size_t n_columns = to->config->hidden_size, n_rows = 0;
    bool separate = false, in_one = false;
    layer_name(to, layer, names[0], name);
    layer_name(to, layer, fused_name, fused);
    PHI3_TRY(has_tensor(to, name, &separate));
    PHI3_TRY(has_tensor(to, fused, &in_one));
    if (!separate && !in_one)
        return phi3_fail(to->error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%s' is missing (and so is '%s')", to->path, fused, name);
    for (size_t i = 0; i < n_parts; i++) {
        n_rows += rows[i];
        layer_name(to, layer, names[i], name);
        if (separate)
            PHI3_TRY(take_part(to, name, rows[i], n_columns, matrix));
    }
    return separate ? PHI3_OK : take_part(to, fused, n_rows, n_columns, matrix);
}

static phi3_status take_layer(builder *to, size_t layer, phi3_layer_tensors *out)
{
    const phi3_config *config = to->config;
    const tensor_names *names = to->names;
    size_t hidden = config->hidden_size, intermediate = config->intermediate_size;
    size_t query_rows = config->num_attention_heads * config->head_dim;
    size_t key_rows = config->num_key_value_heads * config->head_dim;
    const size_t qkv_rows[] = {query_rows, key_rows, key_rows};
    const size_t gate_up_rows[] = {intermediate, intermediate};
    char name[NAME_SIZE];

    layer_name(to, layer, names->attention_norm, name);
    PHI3_TRY(take_norm(to, name, &out->attention_norm));
    PHI3_TRY(take_parts(to, layer, names->qkv, qkv_rows, 3, names->fused_qkv, &out->qkv));
    PHI3_TRY(note_row_order(to, &out->qkv));
    layer_name(to, layer, names->output, name);
    PHI3_TRY(take_part(to, name, hidden, query_rows, &out->output));
    layer_name(to, layer, names->mlp_norm, name);
    PHI3_TRY(take_norm(to, name, &out->mlp_norm));
    PHI3_TRY(take_parts(to, layer, names->gate_up, gate_up_rows, 2, names->fused_gate_up,
                        &out->gate_up));
    layer_name(to, layer, names->down, name);
    return take_part(to, name, hidden, intermediate, &out->down);
}

/* ---- What is left over --------------------------------------------------------------------- */

static size_t tensor_count(const struct phi3_weight_store *store)
{
    return store->gguf ? phi3_gguf_tensor_count(store->gguf)
                       : phi3_safetensors_count(store->safetensors);
}

static phi3_gguf_string tensor_name(const struct phi3_weight_store *store, size_t index)
{
    phi3_gguf_string name;
    if (store->gguf) {
        phi3_gguf_tensor_at(store->gguf, index, &name);
        return name;
    }
    const char *text = phi3_safetensors_name(store->safetensors, index);
    return (phi3_gguf_string){text, strlen(text)};
}

/* Biases would change what the model says; other extra tensors are buffers, and harmless. */
static phi3_status refuse_biases(const builder *to)
{
    static const char bias[] = ".bias";
    size_t bias_size = sizeof bias - 1;
    for (size_t i = 0; i < tensor_count(to->store); i++) {
        phi3_gguf_string name = tensor_name(to->store, i);
        if (name.size >= bias_size &&
            memcmp(name.text + name.size - bias_size, bias, bias_size) == 0)
            return phi3_fail(to->error, PHI3_ERROR_UNSUPPORTED,
                             "%s: tensor '%.*s' is a bias; phi3 has none", to->path,
                             (int)(name.size < NAME_SIZE ? name.size : NAME_SIZE), name.text);
    }
    return PHI3_OK;
}

/* ---- The whole ----------------------------------------------------------------------------- */

/* The dtype that holds the most elements. */
static const char *main_dtype(const builder *to)
{
    size_t most = 0;
    for (size_t dtype = 1; dtype < PHI3_DTYPE_LIMIT; dtype++) {
        if (to->n_elements[dtype] > to->n_elements[most])
            most = dtype;
    }
    return phi3_dtype_traits((uint32_t)most)->name;
}

static phi3_status take_all(builder *to, phi3_weights *out)
{
    phi3_config *config = to->config;
    size_t hidden = config->hidden_size, vocab = config->vocab_size;
    PHI3_TRY(refuse_biases(to));
    PHI3_TRY(take_part(to, to->names->embedding, vocab, hidden, &out->embedding));
    out->embedding.is_table = true;
    config->embedding_bytes = config->weight_bytes;
    PHI3_TRY(take_norm(to, to->names->final_norm, &out->final_norm));
    if (!config->tie_word_embeddings)
        PHI3_TRY(take_part(to, to->names->lm_head, vocab, hidden, &out->lm_head));
    out->layers = calloc(config->num_hidden_layers, sizeof *out->layers);
    if (!out->layers)
        return phi3_fail_memory(to->error, "the layers of a model");
    out->n_layers = config->num_hidden_layers;
    for (size_t layer = 0; layer < config->num_hidden_layers; layer++)
        PHI3_TRY(take_layer(to, layer, &out->layers[layer]));
    config->dtype = main_dtype(to);
    phi3_log(PHI3_LOG_DEBUG, "%s: %zu of %zu tensors are weights of the model", to->path,
             to->n_taken, tensor_count(to->store));
    return PHI3_OK;
}

static phi3_status open_files(const char *path, phi3_loaded_config *config,
                              struct phi3_weight_store *store, phi3_error *error)
{
    if (phi3_path_is_directory(path)) {
        PHI3_TRY(phi3_config_from_directory(path, config, error));
        return phi3_safetensors_open(path, &store->safetensors, error);
    }
    PHI3_TRY(phi3_gguf_open(path, &store->gguf, error));
    return phi3_config_from_gguf(store->gguf, config, error);
}

phi3_status phi3_weights_open(const char *path, phi3_loaded_config *config, phi3_weights *weights,
                              phi3_error *error)
{
    *config = (phi3_loaded_config){0};
    *weights = (phi3_weights){0};
    weights->store = calloc(1, sizeof *weights->store);
    if (!weights->store)
        return phi3_fail_memory(error, "the weights of a model");
    phi3_status status = open_files(path, config, weights->store, error);
    if (status == PHI3_OK) {
        builder to = {.path = path,
                      .names = weights->store->gguf ? &gguf_names : &huggingface_names,
                      .store = weights->store,
                      .config = &config->config,
                      .error = error};
        status = take_all(&to, weights);
    }
    if (status != PHI3_OK) {
        phi3_weights_close(weights);
        phi3_config_free(config);
    }
    return status;
}

void phi3_weights_close(phi3_weights *weights)
{
    struct phi3_weight_store *store = weights ? weights->store : NULL;
    if (!store)
        return;
    for (size_t i = 0; weights->layers && i < weights->n_layers; i++) {
        free(weights->layers[i].qkv.copy);
        free(weights->layers[i].output.copy);
        free(weights->layers[i].gate_up.copy);
        free(weights->layers[i].down.copy);
    }
    free(weights->layers);
    free(weights->embedding.copy);
    free(weights->lm_head.copy);
    phi3_gguf_close(store->gguf);
    phi3_safetensors_close(store->safetensors);
    free(store);
    *weights = (phi3_weights){0};
}

size_t phi3_weights_file_count(const phi3_weights *weights)
{
    const struct phi3_weight_store *store = weights->store;
    return store->gguf ? 1 : phi3_safetensors_file_count(store->safetensors);
}

const phi3_file *phi3_weights_file(const phi3_weights *weights, size_t index)
{
    const struct phi3_weight_store *store = weights->store;
    return store->gguf ? phi3_gguf_file(store->gguf)
                       : phi3_safetensors_file(store->safetensors, index);
}
