/*
 * model_load.c - from files to a model that can run, and back.
 *
 * In: a path. weights.c finds the tensors and packed.c packs them; here they are handed to the backend
 * as matrices, and norm weights are expanded to float32.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "model.h"

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

typedef struct kv_dtype {
    const char *name;
    phi3_dtype dtype;
} kv_dtype;

static const kv_dtype kv_dtypes[] = {
    {"float32", PHI3_F32}, {"float16", PHI3_F16}, {"bfloat16", PHI3_BF16}, {"int8", PHI3_I8}};
enum { N_KV_DTYPES = sizeof kv_dtypes / sizeof kv_dtypes[0] };

/* NULL: there is no such name. */
static const kv_dtype *find_kv_dtype(const char *name)
{
    for (int i = 0; i < N_KV_DTYPES; i++)
        if (is(name, kv_dtypes[i].name))
            return &kv_dtypes[i];
    return NULL;
}

static phi3_status check_options(const phi3_model_options *options, phi3_error *error)
{
    const char *compute = options->compute_dtype, *kv = options->kv_cache_dtype;
    if (!is_auto(compute) && !is(compute, "mixed") && !is(compute, "float32"))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "compute_dtype \"%s\": known are \"auto\", \"mixed\" and \"float32\"",
                         compute);
    if (!is_auto(kv) && find_kv_dtype(kv) == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "kv_cache_dtype \"%s\": known are \"auto\", \"float32\", \"float16\", "
                         "\"bfloat16\" and \"int8\"",
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
    if (is_auto(dtype))
        return compute == PHI3_COMPUTE_FLOAT32 ? PHI3_F32 : PHI3_F16;
    return find_kv_dtype(dtype)->dtype;
}

/* ---- Weights ---------------------------------------------------------------------------------- */

/* A vector of float32 in a backend's memory. */
static phi3_status load_norm(const phi3_backend *backend, const phi3_tensor *tensor, float **norm,
                             phi3_error *error)
{
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

static phi3_status load_norms(phi3_model *model, phi3_error *error)
{
    const phi3_weights *weights = &model->weights;
    for (size_t s = 0; s < model->n_segments; s++) {
        const phi3_segment *segment = &model->segments[s];
        for (size_t i = segment->first_layer; i < segment->first_layer + segment->n_layers; i++) {
            const phi3_layer_tensors *from = &weights->layers[i];
            phi3_layer *to = &model->layers[i];
            PHI3_TRY(
                load_norm(segment->backend, &from->attention_norm, &to->attention_norm, error));
            PHI3_TRY(load_norm(segment->backend, &from->mlp_norm, &to->mlp_norm, error));
        }
    }
    return load_norm(phi3_last_segment(model)->backend, &weights->final_norm, &model->final_norm,
                     error);
}

/* Whether the head reads the embedding's own matrix. */
static bool shares_embedding(const phi3_model *model)
{
    return model->weights.lm_head.count == 0 &&
           phi3_last_segment(model)->backend == model->segments[0].backend;
}

static size_t list_segment(phi3_model *model, const phi3_segment *segment, phi3_packed_matrix *list)
{
    const phi3_backend *backend = segment->backend;
    phi3_compute compute = model->compute;
    size_t n = 0;
    for (size_t i = segment->first_layer; i < segment->first_layer + segment->n_layers; i++) {
        phi3_layer_tensors *from = &model->weights.layers[i];
        phi3_layer *to = &model->layers[i];
        list[n++] = (phi3_packed_matrix){&from->qkv, backend, &to->qkv, compute, 0, 0};
        list[n++] = (phi3_packed_matrix){&from->output, backend, &to->output, compute, 0, 0};
        list[n++] = (phi3_packed_matrix){&from->gate_up, backend, &to->gate_up, compute, 0, 0};
        list[n++] = (phi3_packed_matrix){&from->down, backend, &to->down, compute, 0, 0};
    }
    return n;
}

/* All matrices in the order of most files: list [2 + 4 n_layers]. Returns how many there are. An
 * embedding that is not the head, too, only gives rows, as they are stored: float32 needs no packing. */
static size_t list_matrices(phi3_model *model, phi3_packed_matrix *list)
{
    phi3_weights *weights = &model->weights;
    bool shares = shares_embedding(model);
    phi3_matrix_parts *head = weights->lm_head.count > 0 ? &weights->lm_head : &weights->embedding;
    size_t n = 0;
    list[n++] = (phi3_packed_matrix){&weights->embedding,
                                     model->segments[0].backend,
                                     &model->embedding,
                                     shares ? model->compute : PHI3_COMPUTE_FLOAT32,
                                     0,
                                     0};
    for (size_t i = 0; i < model->n_segments; i++)
        n += list_segment(model, &model->segments[i], list + n);
    if (!shares)
        list[n++] = (phi3_packed_matrix){
            head, phi3_last_segment(model)->backend, &model->lm_head, model->compute, 0, 0};
    return n;
}

/* Packs the matrices that are listed, and makes them. */
static phi3_status load_matrices(phi3_model *model, phi3_packing *packing, phi3_error *error)
{
    PHI3_TRY(phi3_pack(packing, &model->packed, error));
    for (size_t i = 0; i < packing->n_matrices; i++) {
        const phi3_packed_matrix *listed = &packing->matrices[i];
        const uint8_t *packed = listed->size > 0 ? model->packed.data + listed->offset : NULL;
        if (*listed->matrix == NULL)
            PHI3_TRY(listed->backend->matrix_create(listed->parts->part, listed->parts->count,
                                                    listed->compute, packed, listed->matrix,
                                                    error));
    }
    if (model->lm_head == NULL)
        model->lm_head = model->embedding;
    return PHI3_OK;
}

static phi3_status load_weights(phi3_model *model, const char *path,
                                const phi3_model_options *options, phi3_error *error)
{
    size_t n_layers = model->weights.n_layers;
    model->layers = calloc(n_layers, sizeof *model->layers);
    phi3_packed_matrix *matrices = calloc(2 + 4 * n_layers, sizeof *matrices);
    if (model->layers == NULL || matrices == NULL) {
        free(matrices);
        return phi3_fail_memory(error, "layers");
    }
    const char *directory = options->packed_dir;
    phi3_packing packing = {
        .weights = &model->weights,
        .matrices = matrices,
        .n_matrices = list_matrices(model, matrices),
        .path = path,
        .directory = directory == NULL ? getenv("PHI3_CACHE_DIR") : directory,
        .n_threads = model->n_threads,
        .progress = options->progress,
        .progress_data = options->progress_data,
    };
    phi3_status status = load_matrices(model, &packing, error);
    free(matrices);
    return status == PHI3_OK ? load_norms(model, error) : status;
}

/* ---- Load and free ---------------------------------------------------------------------------- */

static phi3_status load(phi3_model *model, const char *path, const phi3_model_options *options,
                        phi3_error *error)
{
    PHI3_TRY(check_options(options, error));
    if (options->quantization != NULL)
        PHI3_TRY(phi3_quantization_find(options->quantization, &model->quantization, error));
    phi3_device_choice choice;
    PHI3_TRY(phi3_device_choice_read(options->device, options->max_memory, &choice, error));
    model->n_threads = options->n_threads > 0 ? options->n_threads : phi3_default_threads();

    PHI3_TRY(phi3_workspace_pool_create(&model->workspaces, error));
    PHI3_TRY(phi3_page_pool_create(&model->pages, error));
    PHI3_TRY(phi3_weights_open(path, &model->config, &model->weights, error));
    model->has_files = true;
    model->path = realpath(path, NULL);
    if (model->path == NULL)
        return phi3_fail_memory(error, "the path of a model");
    if (model->quantization != NULL)
        phi3_weights_quantize(&model->weights, model->quantization, &model->config.config);
    const phi3_config *config = &model->config.config;
    model->compute = choose_compute(options->compute_dtype, config->weight_bytes);
    model->kv.dtype = choose_kv_dtype(options->kv_cache_dtype, model->compute);
    model->kv.n_layers = config->num_hidden_layers;
    model->kv.n_kv_heads = config->num_key_value_heads;
    model->kv.head_dim = config->head_dim;
    PHI3_TRY(phi3_rope_create(config, &model->rope, error));
    PHI3_TRY(phi3_process_begin_work(error));
    PHI3_TRY(phi3_model_place(model, &choice, error));
    return load_weights(model, path, options, error);
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

static void free_matrix(const phi3_backend *backend, phi3_matrix *matrix)
{
    if (matrix != NULL)
        backend->matrix_free(matrix);
}

static void free_norm(const phi3_backend *backend, float *norm)
{
    if (norm != NULL)
        backend->release(norm);
}

static void free_layer(const phi3_backend *backend, phi3_layer *layer)
{
    free_norm(backend, layer->attention_norm);
    free_matrix(backend, layer->qkv);
    free_matrix(backend, layer->output);
    free_norm(backend, layer->mlp_norm);
    free_matrix(backend, layer->gate_up);
    free_matrix(backend, layer->down);
}

/* What has been put on the backends. */
static void free_weights(phi3_model *model)
{
    const phi3_backend *first = model->segments[0].backend;
    const phi3_backend *last = phi3_last_segment(model)->backend;
    for (size_t s = 0; model->layers != NULL && s < model->n_segments; s++) {
        const phi3_segment *segment = &model->segments[s];
        for (size_t i = 0; i < segment->n_layers; i++)
            free_layer(segment->backend, &model->layers[segment->first_layer + i]);
    }
    free_norm(last, model->final_norm);
    if (model->lm_head != model->embedding)
        free_matrix(last, model->lm_head);
    free_matrix(first, model->embedding);
}

/* Also frees what a failed load has left half made. */
void phi3_model_free(phi3_model *model)
{
    if (model == NULL)
        return;
    phi3_workspace_pool_free(model, model->workspaces);
    phi3_page_pool_free(model, model->pages);
    if (model->n_segments > 0)
        free_weights(model);
    free(model->layers);
    free(model->segments);
    phi3_packed_free(&model->packed);
    phi3_rope_free(&model->rope);
    if (model->has_files) {
        phi3_weights_close(&model->weights);
        phi3_config_free(&model->config);
    }
    free(model->path);
    free(model);
}

/* ---- What it is ------------------------------------------------------------------------------- */

const phi3_config *phi3_model_config(const phi3_model *model)
{
    return &model->config.config;
}

const char *phi3_model_device(const phi3_model *model)
{
    return phi3_last_segment(model)->backend->name;
}

const char *phi3_model_compute_dtype(const phi3_model *model)
{
    return model->compute == PHI3_COMPUTE_FLOAT32 ? "float32" : "mixed";
}

const char *phi3_model_kv_cache_dtype(const phi3_model *model)
{
    int i = 0;
    while (kv_dtypes[i].dtype != model->kv.dtype)
        i++;
    return kv_dtypes[i].name;
}

phi3_generation_config phi3_model_generation_config(const phi3_model *model)
{
    return model->config.generation;
}
