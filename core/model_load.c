/*
 * model_load.c - from files to a model that can run, and back.
 *
 * In: a path. weights.c finds the tensors; here they are handed to the backend as matrices, and norm
 * weights are expanded to float32.
 */
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "model.h"
#include "process.h"

/* ---- Options ---------------------------------------------------------------------------------- */

/* A model that reads so few bytes a token is quick in float32 too, and small models suffer most from
 * rounded activations. */
enum { SMALL_MODEL_BYTES = 256 << 20 };

static bool is(const char *value, const char *name)
{
    return value != NULL && strcmp(value, name) == 0;
}

static bool is_auto(const char *value)
{
    return value == NULL || is(value, "auto");
}

static phi3_status check_options(const phi3_model_options *options, phi3_error *error)
{
    const char *compute = options->compute_dtype, *kv = options->kv_cache_dtype;
    if (!is_auto(compute) && !is(compute, "mixed") && !is(compute, "float32"))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "compute_dtype \"%s\": known are \"auto\", \"mixed\" and \"float32\"",
                         compute);
    if (!is_auto(kv) && !is(kv, "float16") && !is(kv, "float32"))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "kv_cache_dtype \"%s\": known are \"auto\", \"float16\" and \"float32\"",
                         kv);
    if (options->n_threads < 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "n_threads is %d", options->n_threads);
    return PHI3_OK;
}

static phi3_compute choose_compute(const char *dtype, size_t weight_bytes)
{
    bool exact = is_auto(dtype) ? weight_bytes <= SMALL_MODEL_BYTES : is(dtype, "float32");
    return exact ? PHI3_COMPUTE_FLOAT32 : PHI3_COMPUTE_MIXED;
}

/* The exact mode keeps keys and values exactly, too. */
static phi3_dtype choose_kv_dtype(const char *dtype, phi3_compute compute)
{
    bool exact = is_auto(dtype) ? compute == PHI3_COMPUTE_FLOAT32 : is(dtype, "float32");
    return exact ? PHI3_F32 : PHI3_F16;
}

/* ---- Weights ---------------------------------------------------------------------------------- */

/* A load on its way: what to make of the tensors, and how far it has come. */
struct loader {
    phi3_model *model;
    phi3_compute compute;
    const phi3_model_options *options;
    size_t n_done, n_matrices;
};

static phi3_status report_progress(struct loader *loader, phi3_error *error)
{
    const phi3_model_options *options = loader->options;
    float done = (float)loader->n_done / (float)loader->n_matrices;
    if (options->progress != NULL && options->progress(done, options->progress_data))
        return phi3_fail(error, PHI3_ERROR_INTERRUPTED, "the load was interrupted");
    return PHI3_OK;
}

static phi3_status load_matrix(struct loader *loader, const phi3_matrix_parts *parts,
                               phi3_matrix **matrix, phi3_error *error)
{
    const phi3_backend *backend = loader->model->backend;
    PHI3_TRY(
        backend->matrix_create(parts->part, parts->count, loader->compute, NULL, matrix, error));
    loader->n_done++;
    return report_progress(loader, error);
}

/* A vector of float32 in backend memory. */
static phi3_status load_norm(struct loader *loader, const phi3_tensor *tensor, float **norm,
                             phi3_error *error)
{
    const phi3_backend *backend = loader->model->backend;
    size_t bytes = tensor->n_columns * sizeof(float);
    float *expanded = malloc(bytes);
    *norm = backend->allocate(bytes);
    if (expanded == NULL || *norm == NULL) {
        free(expanded);
        return phi3_fail_memory(error, "norm weights");
    }
    phi3_dequantize_row(tensor->dtype, tensor->data, tensor->n_columns, expanded);
    phi3_status status = backend->upload(*norm, expanded, bytes);
    free(expanded);
    if (status != PHI3_OK)
        return phi3_fail(error, status, "norm weights could not be sent to the device");
    return PHI3_OK;
}

static phi3_status load_layer(struct loader *loader, const phi3_layer_tensors *tensors,
                              phi3_layer *layer, phi3_error *error)
{
    PHI3_TRY(load_norm(loader, &tensors->attention_norm, &layer->attention_norm, error));
    PHI3_TRY(load_matrix(loader, &tensors->qkv, &layer->qkv, error));
    PHI3_TRY(load_matrix(loader, &tensors->output, &layer->output, error));
    PHI3_TRY(load_norm(loader, &tensors->mlp_norm, &layer->mlp_norm, error));
    PHI3_TRY(load_matrix(loader, &tensors->gate_up, &layer->gate_up, error));
    return load_matrix(loader, &tensors->down, &layer->down, error);
}

static phi3_status load_weights(struct loader *loader, phi3_error *error)
{
    phi3_model *model = loader->model;
    const phi3_weights *weights = &model->weights;
    size_t n_layers = model->config.config.num_hidden_layers;
    bool tied = weights->lm_head.count == 0;
    loader->n_matrices = 4 * n_layers + (tied ? 1 : 2);

    model->layers = calloc(n_layers, sizeof *model->layers);
    if (model->layers == NULL)
        return phi3_fail_memory(error, "layers");
    PHI3_TRY(report_progress(loader, error));
    PHI3_TRY(load_matrix(loader, &weights->embedding, &model->embedding, error));
    for (size_t i = 0; i < n_layers; i++)
        PHI3_TRY(load_layer(loader, &weights->layers[i], &model->layers[i], error));
    PHI3_TRY(load_norm(loader, &weights->final_norm, &model->final_norm, error));
    if (tied)
        model->lm_head = model->embedding;
    else
        PHI3_TRY(load_matrix(loader, &weights->lm_head, &model->lm_head, error));
    return PHI3_OK;
}

/* ---- Load and free ---------------------------------------------------------------------------- */

static phi3_status load(phi3_model *model, const char *path, const phi3_model_options *options,
                        phi3_error *error)
{
    struct loader loader = {.model = model, .options = options};
    PHI3_TRY(check_options(options, error));
    PHI3_TRY(phi3_backend_find(options->device, &model->backend, error));
    model->n_threads = options->n_threads > 0 ? options->n_threads : phi3_default_threads();

    PHI3_TRY(phi3_workspace_pool_create(&model->workspaces, error));
    PHI3_TRY(phi3_weights_open(path, &model->config, &model->weights, error));
    model->has_files = true;
    const phi3_config *config = &model->config.config;
    loader.compute = model->compute = choose_compute(options->compute_dtype, config->weight_bytes);
    model->kv.dtype = choose_kv_dtype(options->kv_cache_dtype, loader.compute);
    model->kv.n_layers = config->num_hidden_layers;
    model->kv.n_kv_heads = config->num_key_value_heads;
    model->kv.head_dim = config->head_dim;
    PHI3_TRY(phi3_rope_create(config, &model->rope, error));
    PHI3_TRY(phi3_process_begin_work(error));
    return load_weights(&loader, error);
}

phi3_status phi3_model_load(const char *path, const phi3_model_options *options, phi3_model **model,
                            phi3_error *error)
{
    const phi3_model_options defaults = {0};
    phi3_model *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a model");
    phi3_status status = load(made, path, options == NULL ? &defaults : options, error);
    if (status != PHI3_OK) {
        phi3_model_free(made);
        return status;
    }
    *model = made;
    return PHI3_OK;
}

static void free_matrix(const phi3_model *model, phi3_matrix *matrix)
{
    if (matrix != NULL)
        model->backend->matrix_free(matrix);
}

static void free_norm(const phi3_model *model, float *norm)
{
    if (norm != NULL)
        model->backend->release(norm);
}

/* Also frees what a failed load has left half made. */
void phi3_model_free(phi3_model *model)
{
    if (model == NULL)
        return;
    phi3_workspace_pool_free(model, model->workspaces);
    for (size_t i = 0; model->layers != NULL && i < model->config.config.num_hidden_layers; i++) {
        phi3_layer *layer = &model->layers[i];
        free_norm(model, layer->attention_norm);
        free_matrix(model, layer->qkv);
        free_matrix(model, layer->output);
        free_norm(model, layer->mlp_norm);
        free_matrix(model, layer->gate_up);
        free_matrix(model, layer->down);
    }
    free(model->layers);
    free_norm(model, model->final_norm);
    if (model->lm_head != model->embedding)
        free_matrix(model, model->lm_head);
    free_matrix(model, model->embedding);
    phi3_rope_free(&model->rope);
    if (model->has_files) {
        phi3_weights_close(&model->weights);
        phi3_config_free(&model->config);
    }
    free(model);
}

/* ---- What it is ------------------------------------------------------------------------------- */

const phi3_config *phi3_model_config(const phi3_model *model)
{
    return &model->config.config;
}

const char *phi3_model_device(const phi3_model *model)
{
    return model->backend->name;
}

const char *phi3_model_compute_dtype(const phi3_model *model)
{
    return model->compute == PHI3_COMPUTE_FLOAT32 ? "float32" : "mixed";
}

const char *phi3_model_kv_cache_dtype(const phi3_model *model)
{
    return phi3_dtype_traits((uint32_t)model->kv.dtype)->name;
}

phi3_generation_config phi3_model_generation_config(const phi3_model *model)
{
    return model->config.generation;
}
