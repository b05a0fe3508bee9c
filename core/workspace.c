/* workspace.c - makes, lends and takes back the working memory of a forward. */
#include "workspace.h"

#include <stdlib.h>

#include "base/error.h"
#include "devices/device_memory.h"
#include "model.h"

enum { MAX_IDLE = 4, ALIGNMENT = 64 };

/* ---- One block, cut into tensors -------------------------------------------------------------- */

/* Takes the next `size` bytes of a block; of no block yet, only counts them. */
static void *take(char *block, size_t *used, size_t size)
{
    size_t start = *used;
    *used += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return block == NULL ? NULL : block + start;
}

/* Places the activations in a block of backend memory and returns the bytes they take. */
static size_t place_activations(const phi3_model *model, phi3_activations *w, char *block)
{
    const phi3_config *config = &model->config.config;
    size_t used = 0;
    size_t row = PHI3_CHUNK_ROWS * sizeof(float), logit_row = PHI3_LOGIT_ROWS * sizeof(float);
    size_t n_heads = config->num_attention_heads, n_kv_heads = config->num_key_value_heads;
    w->hidden = take(block, &used, row * config->hidden_size);
    w->normed = take(block, &used, row * config->hidden_size);
    w->qkv = take(block, &used, row * (n_heads + 2 * n_kv_heads) * config->head_dim);
    w->attended = take(block, &used, row * n_heads * config->head_dim);
    w->delta = take(block, &used, row * config->hidden_size);
    w->gate_up = take(block, &used, row * 2 * config->intermediate_size);
    w->activated = take(block, &used, row * config->intermediate_size);
    w->logits = take(block, &used, logit_row * config->vocab_size);
    w->top_values = take(block, &used, logit_row * PHI3_TOP_K_MAX);
    w->top_ids = take(block, &used, logit_row * PHI3_TOP_K_MAX);
    return used;
}

/* The same for the plan of a chunk, in host memory. */
static size_t place_plan(const phi3_model *model, phi3_workspace *w, char *block)
{
    size_t used = 0, rows = PHI3_CHUNK_ROWS;
    w->ids = take(block, &used, rows * sizeof *w->ids);
    w->cosine = take(block, &used, rows * model->rope.n_pairs * sizeof(float));
    w->sine = take(block, &used, rows * model->rope.n_pairs * sizeof(float));
    w->parts = take(block, &used, rows * sizeof *w->parts);
    w->caches = take(block, &used, rows * sizeof(*w->caches));
    w->logit_rows = take(block, &used, rows * sizeof *w->logit_rows);
    w->logit_slots = take(block, &used, rows * sizeof *w->logit_slots);
    if (model->n_segments > 1)
        w->border = take(block, &used, rows * model->config.config.hidden_size * sizeof(float));
    size_t n_candidates = PHI3_LOGIT_ROWS * PHI3_TOP_K_MAX;
    w->host_top_values = take(block, &used, n_candidates * sizeof *w->host_top_values);
    w->host_top_ids = take(block, &used, n_candidates * sizeof *w->host_top_ids);
    return used;
}

size_t phi3_workspace_bytes(const phi3_model *model)
{
    phi3_activations measured;
    return place_activations(model, &measured, NULL);
}

/* ---- Making and freeing ----------------------------------------------------------------------- */

static void activations_free(const phi3_backend *backend, phi3_activations *activations)
{
    if (backend->exec_free != NULL)
        backend->exec_free(&activations->exec);
    if (activations->exec.scratch != NULL)
        backend->release(activations->exec.scratch);
    if (activations->block != NULL)
        backend->release(activations->block);
}

static void workspace_free(const phi3_model *model, phi3_workspace *workspace)
{
    for (size_t i = 0; workspace->segments != NULL && i < model->n_segments; i++)
        activations_free(model->segments[i].backend, &workspace->segments[i]);
    free(workspace->segments);
    free(workspace->host_block);
    free(workspace);
}

static phi3_status make_activations(const phi3_model *model, phi3_workspace *workspace,
                                    phi3_error *error)
{
    for (size_t i = 0; i < model->n_segments; i++) {
        const phi3_backend *backend = model->segments[i].backend;
        phi3_activations *activations = &workspace->segments[i];
        activations->block = backend->allocate(phi3_workspace_bytes(model));
        if (activations->block == NULL)
            return phi3_fail_backend_memory(backend, "activations", error);
        place_activations(model, activations, activations->block);
    }
    return PHI3_OK;
}

static phi3_status workspace_create(const phi3_model *model, phi3_workspace **workspace,
                                    phi3_error *error)
{
    phi3_workspace *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a workspace");
    made->segments = calloc(model->n_segments, sizeof *made->segments);
    made->host_block = aligned_alloc(ALIGNMENT, place_plan(model, made, NULL));
    phi3_status status = PHI3_OK;
    if (made->segments == NULL || made->host_block == NULL)
        status = phi3_fail_memory(error, "a workspace");
    else
        status = make_activations(model, made, error);
    if (status != PHI3_OK) {
        workspace_free(model, made);
        return status;
    }
    place_plan(model, made, made->host_block);
    *workspace = made;
    return PHI3_OK;
}

phi3_status phi3_workspace_need_scratch(const phi3_model *model, phi3_workspace *workspace,
                                        size_t segment, size_t size, phi3_error *error)
{
    const phi3_backend *backend = model->segments[segment].backend;
    phi3_exec *exec = &workspace->segments[segment].exec;
    if (size <= exec->scratch_size)
        return PHI3_OK;
    /* A need that grows with the context grows a little every token: leave room. */
    size += size / 4;
    void *scratch = backend->allocate(size);
    if (scratch == NULL)
        return phi3_fail_backend_memory(backend, "scratch memory", error);
    if (exec->scratch != NULL)
        backend->release(exec->scratch);
    exec->scratch = scratch;
    exec->scratch_size = size;
    return PHI3_OK;
}

/* ---- The pool --------------------------------------------------------------------------------- */

phi3_status phi3_workspace_pool_create(phi3_pool **pool, phi3_error *error)
{
    return phi3_pool_create(MAX_IDLE, pool, error);
}

/* Of idle workspaces; NULL: there are none. */
static phi3_workspace *take_idle(phi3_pool *pool)
{
    return (phi3_workspace *)phi3_pool_take(pool);
}

void phi3_workspace_pool_free(const phi3_model *model, phi3_pool *pool)
{
    for (phi3_workspace *workspace; (workspace = take_idle(pool)) != NULL;)
        workspace_free(model, workspace);
    phi3_pool_free(pool);
}

phi3_status phi3_workspace_acquire(const phi3_model *model, phi3_workspace **workspace,
                                   phi3_error *error)
{
    *workspace = take_idle(model->workspaces);
    return *workspace != NULL ? PHI3_OK : workspace_create(model, workspace, error);
}

void phi3_workspace_release(const phi3_model *model, phi3_workspace *workspace)
{
    if (!phi3_pool_put(model->workspaces, &workspace->idle))
        workspace_free(model, workspace);
}
