/*
 * model.c - the transformer: ids -> logits.
 *
 * In: a chunk of rows, each an id of some sequence, with the sequences' KV caches. Out: keys and values
 * in the caches, and logits after the ids that were asked for. All arithmetic is behind the backend's
 * table.
 *
 * The chunk goes through the model's segments, which are usually one: a backend, and the layers that
 * are on it. Reading order: run_layer, run_last_layer, run_ops, run_segment, phi3_model_run_chunk.
 */
#include "model.h"

#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "cache.h"

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- One layer -------------------------------------------------------------------------------- */

static phi3_status check_interrupt(const phi3_forward *f)
{
    const phi3_run_options *options = f->options;
    if (options->interrupt != NULL && options->interrupt(options->interrupt_data))
        return PHI3_ERROR_INTERRUPTED;
    return PHI3_OK;
}

/* qkv(norm(hidden + delta)), whose keys and values go to the caches. */
static phi3_status project(phi3_forward *f, size_t index)
{
    const phi3_backend *backend = f->segment->backend;
    const phi3_config *config = &f->model->config.config;
    const phi3_layer *layer = &f->model->layers[index];
    phi3_activations *w = f->activations;
    size_t n_rows = f->batch.n_rows;
    f->attention.layer = index - f->segment->first_layer;
    PHI3_TRY(backend->add_rms_norm(&w->exec, w->hidden, index == 0 ? NULL : w->delta,
                                   layer->attention_norm, config->rms_norm_eps, n_rows,
                                   config->hidden_size, w->normed));
    PHI3_TRY(backend->linear(&w->exec, layer->qkv, w->normed, n_rows, w->qkv));
    PHI3_TRY(backend->rope_append(&w->exec, &f->attention, f->batch.cosine, f->batch.sine, w->qkv));
    return check_interrupt(f);
}

/* What comes after attention, over n_rows rows. The last product is left in `delta` for the next
 * norm, which adds it to `hidden` on its way. */
static phi3_status finish_layer(const phi3_forward *f, const phi3_layer *layer, size_t n_rows,
                                const float *attended, float *hidden, float *delta)
{
    const phi3_backend *backend = f->segment->backend;
    const phi3_config *config = &f->model->config.config;
    const phi3_activations *w = f->activations;
    const phi3_exec *exec = &w->exec;
    PHI3_TRY(backend->linear(exec, layer->output, attended, n_rows, delta));
    PHI3_TRY(backend->add_rms_norm(exec, hidden, delta, layer->mlp_norm, config->rms_norm_eps,
                                   n_rows, config->hidden_size, w->normed));
    PHI3_TRY(check_interrupt(f));
    PHI3_TRY(backend->linear(exec, layer->gate_up, w->normed, n_rows, w->gate_up));
    PHI3_TRY(check_interrupt(f));
    PHI3_TRY(backend->swiglu(exec, w->gate_up, n_rows, config->intermediate_size, w->activated));
    PHI3_TRY(backend->linear(exec, layer->down, w->activated, n_rows, delta));
    return check_interrupt(f);
}

static bool has_last_layer(const phi3_forward *f)
{
    return f->segment->first_layer + f->segment->n_layers ==
           f->model->config.config.num_hidden_layers;
}

/*
 * One transformer layer over the rows of a chunk:
 *     hidden += output(attention(rope(qkv(norm(hidden)))))
 *     hidden += down(swiglu(gate_up(norm(hidden))))
 */
static phi3_status run_layer(phi3_forward *f, size_t index)
{
    const phi3_activations *w = f->activations;
    PHI3_TRY(project(f, index));
    PHI3_TRY(f->segment->backend->attention(&w->exec, &f->attention, w->qkv, w->attended));
    PHI3_TRY(check_interrupt(f));
    return finish_layer(f, &f->model->layers[index], f->batch.n_rows, w->attended, w->hidden,
                        w->delta);
}

/* The last one: only rows whose logits are wanted go on beyond its keys and values. They are gathered
 * in what the others have no more use for, so that `hidden` and `delta` have changed places. */
static phi3_status run_last_layer(phi3_forward *f, size_t index)
{
    const phi3_backend *backend = f->segment->backend;
    const phi3_config *config = &f->model->config.config;
    const phi3_activations *w = f->activations;
    const size_t *rows = f->batch.logit_rows, n_rows = f->batch.n_logits;
    PHI3_TRY(project(f, index));
    if (n_rows == 0)
        return PHI3_OK;
    PHI3_TRY(backend->attention(&w->exec, &f->attention, w->qkv, w->attended));
    PHI3_TRY(check_interrupt(f));
    PHI3_TRY(backend->gather_rows(&w->exec, w->attended, rows, n_rows,
                                  config->num_attention_heads * config->head_dim, w->qkv));
    PHI3_TRY(
        backend->gather_rows(&w->exec, w->hidden, rows, n_rows, config->hidden_size, w->delta));
    return finish_layer(f, &f->model->layers[index], n_rows, w->qkv, w->delta, w->hidden);
}

/* ---- The head --------------------------------------------------------------------------------- */

/* How many rows go through the head together, from logit row `first` on. */
static size_t head_rows(const phi3_forward *f, size_t first)
{
    size_t left = f->batch.n_logits - first;
    return left < PHI3_LOGIT_ROWS ? left : PHI3_LOGIT_ROWS;
}

/* How many of the highest logits some row of the group from logit row `first` on wants. The rows of a
 * chunk follow each other in the caller's array. */
static size_t most_candidates(const phi3_forward *f, size_t first)
{
    size_t most = 0;
    for (size_t i = 0; f->candidates != NULL && i < head_rows(f, first); i++)
        most = larger(most, f->candidates[f->workspace->logit_slots[first] + i].n_wanted);
    return most;
}

/* Finds as many in each row of the group. */
static phi3_status find_candidates(const phi3_forward *f, size_t first)
{
    phi3_activations *w = f->activations;
    size_t k = most_candidates(f, first);
    if (k == 0)
        return PHI3_OK;
    return f->segment->backend->top_k(&w->exec, w->logits, head_rows(f, first),
                                      f->model->config.config.vocab_size, k,
                                      k > 1 ? w->top_values : NULL, w->top_ids);
}

/* Norm, product and choice of candidates over the next rows that run_last_layer has gathered; there are
 * none: nothing. */
static phi3_status run_head(phi3_forward *f, size_t first)
{
    const phi3_model *model = f->model;
    const phi3_backend *backend = f->segment->backend;
    size_t hidden_size = model->config.config.hidden_size, n_rows = head_rows(f, first);
    phi3_activations *w = f->activations;
    const phi3_exec *exec = &w->exec;
    float *hidden = w->delta + first * hidden_size, *delta = w->hidden + first * hidden_size;
    if (n_rows == 0)
        return PHI3_OK;
    PHI3_TRY(backend->add_rms_norm(exec, hidden, delta, model->final_norm,
                                   model->config.config.rms_norm_eps, n_rows, hidden_size,
                                   w->normed));
    PHI3_TRY(backend->linear(exec, model->lm_head, w->normed, n_rows, w->logits));
    return find_candidates(f, first);
}

/* Takes the candidates of run_head out to the rows that want some. */
static phi3_status hand_out_candidates(const phi3_forward *f, size_t first)
{
    const phi3_workspace *w = f->workspace;
    const phi3_activations *a = f->activations;
    const phi3_backend *backend = f->segment->backend;
    size_t k = most_candidates(f, first), n_rows = head_rows(f, first);
    if (k == 0)
        return PHI3_OK;
    PHI3_TRY(backend->download(w->host_top_ids, a->top_ids, n_rows * k * sizeof(int32_t)));
    if (k > 1)
        PHI3_TRY(backend->download(w->host_top_values, a->top_values, n_rows * k * sizeof(float)));
    for (size_t i = 0; i < n_rows; i++) {
        phi3_candidates *c = &f->candidates[w->logit_slots[first] + i];
        memcpy(c->ids, w->host_top_ids + i * k, c->n_wanted * sizeof *c->ids);
        if (k > 1)
            memcpy(c->values, w->host_top_values + i * k, c->n_wanted * sizeof *c->values);
        c->count = c->n_wanted > 0 && phi3_candidates_suffice(c) ? c->n_wanted : 0;
    }
    return PHI3_OK;
}

/* Takes out what the rows of run_head want: candidates, or all logits where these do not suffice. */
static phi3_status hand_out(const phi3_forward *f, size_t first)
{
    const float *logits = f->activations->logits;
    size_t vocab_size = f->model->config.config.vocab_size;
    size_t slot = f->workspace->logit_slots[first];
    PHI3_TRY(hand_out_candidates(f, first));
    for (size_t i = 0; i < head_rows(f, first); i++, slot++) {
        if (f->candidates == NULL || f->candidates[slot].count == 0)
            PHI3_TRY(f->segment->backend->download(f->logits + slot * vocab_size,
                                                   logits + i * vocab_size,
                                                   vocab_size * sizeof(float)));
    }
    return check_interrupt(f);
}

/* ---- A segment -------------------------------------------------------------------------------- */

/* Turns to a segment: its part of the caches, and the chunk as it is in host memory. It is from the
 * last layer on that it matters which logits are wanted. */
static void enter_segment(phi3_forward *f, size_t index)
{
    const phi3_model *model = f->model;
    phi3_workspace *w = f->workspace;
    f->segment = &model->segments[index];
    f->activations = &w->segments[index];
    f->activations->exec.n_threads =
        f->options->n_threads > 0 ? f->options->n_threads : model->n_threads;
    f->activations->exec.batch_invariant = f->options->batch_invariant;
    f->attention.kv = f->segment->kv;
    for (size_t i = 0; i < f->attention.n_spans; i++)
        w->parts[i].pages = w->caches[i]->tables[index];
    f->batch = f->chunk;
    if (!has_last_layer(f))
        f->batch.n_logits = 0;
}

/* Takes the hidden state from one segment to the next. Only layers leave something to be added, and
 * behind the last of them there are fewer rows. */
static phi3_status cross_border(const phi3_forward *f)
{
    const phi3_segment *from = f->segment - 1, *to = f->segment;
    const phi3_activations *there = f->activations - 1, *here = f->activations;
    float *border = f->workspace->border;
    const phi3_config *config = &f->model->config.config;
    bool is_behind = to->first_layer == config->num_hidden_layers;
    size_t n_rows = is_behind ? f->batch.n_logits : f->batch.n_rows;
    size_t bytes = n_rows * config->hidden_size * sizeof(float);
    PHI3_TRY(from->backend->download(border, there->hidden, bytes));
    PHI3_TRY(to->backend->upload(here->hidden, border, bytes));
    if (to->first_layer == 0)
        return PHI3_OK;
    PHI3_TRY(from->backend->download(border, there->delta, bytes));
    return to->backend->upload(here->delta, border, bytes);
}

/* Embedding, layers, and the head over the first rows, as far as they are the segment's: what a
 * device may record. */
static phi3_status run_ops(phi3_forward *f)
{
    const phi3_model *model = f->model;
    const phi3_segment *segment = f->segment;
    phi3_activations *w = f->activations;
    PHI3_TRY(check_interrupt(f));
    if (segment == model->segments)
        PHI3_TRY(segment->backend->embed(&w->exec, model->embedding, f->batch.ids, f->batch.n_rows,
                                         w->hidden));
    size_t end = segment->first_layer + segment->n_layers;
    for (size_t i = segment->first_layer; i < end; i++)
        PHI3_TRY(i + 1 < model->config.config.num_hidden_layers ? run_layer(f, i)
                                                                : run_last_layer(f, i));
    return segment == phi3_last_segment(model) ? run_head(f, 0) : PHI3_OK;
}

/* The same, by the device itself when it has recorded it. */
static phi3_status issue_ops(phi3_forward *f)
{
    const phi3_backend *backend = f->segment->backend;
    phi3_exec *exec = &f->activations->exec;
    bool replayed = false;
    if (backend->begin == NULL)
        return run_ops(f);
    f->batch.program = 1 + most_candidates(f, 0);
    PHI3_TRY(backend->begin(exec, &f->batch, &replayed));
    return backend->end(exec, replayed ? check_interrupt(f) : run_ops(f));
}

static phi3_status run_segment(phi3_forward *f, size_t index)
{
    enter_segment(f, index);
    if (index > 0)
        PHI3_TRY(cross_border(f));
    return issue_ops(f);
}

/* ---- All segments ----------------------------------------------------------------------------- */

phi3_status phi3_model_run_chunk(phi3_forward *f)
{
    for (size_t i = 0; i < f->model->n_segments; i++)
        PHI3_TRY(run_segment(f, i));
    for (size_t first = 0; first < f->batch.n_logits; first += PHI3_LOGIT_ROWS) {
        if (first > 0)
            PHI3_TRY(run_head(f, first));
        PHI3_TRY(hand_out(f, first));
    }
    return PHI3_OK;
}

/* ---- Scratch memory --------------------------------------------------------------------------- */

/* What the ops of the segment may need beside their arguments. */
static size_t scratch_for_segment(const phi3_forward *f)
{
    const phi3_model *model = f->model;
    const phi3_segment *segment = f->segment;
    const phi3_backend *backend = segment->backend;
    int n_threads = f->activations->exec.n_threads;
    size_t n_rows = f->batch.n_rows;
    size_t most = backend->attention_scratch(&f->attention, n_rows, n_threads);
    if (segment == model->segments)
        most = larger(most, backend->matrix_scratch(model->embedding, n_rows, n_threads));
    if (segment == phi3_last_segment(model)) {
        most = larger(most, backend->matrix_scratch(model->lm_head, n_rows, n_threads));
        most = larger(most, backend->top_k_scratch(PHI3_LOGIT_ROWS, model->config.config.vocab_size,
                                                   PHI3_TOP_K_MAX));
    }
    for (size_t i = 0; i < segment->n_layers; i++) {
        const phi3_layer *layer = &model->layers[segment->first_layer + i];
        most = larger(most, backend->matrix_scratch(layer->qkv, n_rows, n_threads));
        most = larger(most, backend->matrix_scratch(layer->output, n_rows, n_threads));
        most = larger(most, backend->matrix_scratch(layer->gate_up, n_rows, n_threads));
        most = larger(most, backend->matrix_scratch(layer->down, n_rows, n_threads));
    }
    return most;
}

phi3_status phi3_model_reserve_scratch(phi3_forward *f, phi3_error *error)
{
    for (size_t i = 0; i < f->model->n_segments; i++) {
        enter_segment(f, i);
        PHI3_TRY(
            phi3_workspace_need_scratch(f->model, f->workspace, i, scratch_for_segment(f), error));
    }
    return PHI3_OK;
}
