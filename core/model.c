/*
 * model.c - the transformer: ids -> logits.
 *
 * In: spans, each the next ids of one sequence, with that sequence's KV cache. Out: logits after the
 * ids that were asked for, and longer caches. All arithmetic is behind the backend's table.
 *
 * A forward runs in chunks. A chunk takes what is left of the spans, in their order, until it has
 * PHI3_CHUNK_ROWS rows: many sequences that decode one token each are one chunk, and so one product
 * per matrix; a long prompt is several. It goes through the model's segments, which are usually one: a
 * backend, and the layers that are on it. Reading order: run_layer, run_segment, run_chunk,
 * phi3_model_forward.
 */
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "cache.h"
#include "model.h"

/* One call of phi3_model_forward, and the chunk that it works on. */
typedef struct forward {
    const phi3_model *model;
    const phi3_span *spans;
    size_t n_spans;
    const phi3_run_options *options;
    phi3_candidates *candidates; /* [sum of n_logits], or NULL: all logits are wanted */
    float *logits;               /* the caller's [sum of n_logits][vocab] */
    phi3_workspace *workspace;

    phi3_batch chunk; /* its rows, and those whose logits are wanted; in host memory */

    /* The segment that works on the chunk. */
    const phi3_segment *segment;
    phi3_activations *activations;
    phi3_attention attention;
    phi3_batch batch; /* the chunk in the backend's memory */
} forward;

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- One layer -------------------------------------------------------------------------------- */

static phi3_status check_interrupt(const forward *f)
{
    const phi3_run_options *options = f->options;
    if (options->interrupt != NULL && options->interrupt(options->interrupt_data))
        return PHI3_ERROR_INTERRUPTED;
    return PHI3_OK;
}

/*
 * One transformer layer over the rows of a chunk:
 *     hidden += output(attention(rope(qkv(norm(hidden)))))
 *     hidden += down(swiglu(gate_up(norm(hidden))))
 * The second sum is left in `delta` for the next norm, which adds it on its way.
 */
static phi3_status run_layer(forward *f, size_t index)
{
    const phi3_backend *backend = f->segment->backend;
    const phi3_config *config = &f->model->config.config;
    const phi3_layer *layer = &f->model->layers[index];
    phi3_activations *w = f->activations;
    const phi3_exec *exec = &w->exec;
    size_t n_rows = f->batch.n_rows, hidden_size = config->hidden_size;
    float *delta = index == 0 ? NULL : w->delta;
    f->attention.layer = index - f->segment->first_layer;

    PHI3_TRY(backend->add_rms_norm(exec, w->hidden, delta, layer->attention_norm,
                                   config->rms_norm_eps, n_rows, hidden_size, w->normed));
    PHI3_TRY(backend->linear(exec, layer->qkv, w->normed, n_rows, w->qkv));
    PHI3_TRY(backend->rope_append(exec, &f->attention, f->batch.cosine, f->batch.sine, w->qkv));
    PHI3_TRY(check_interrupt(f));
    PHI3_TRY(backend->attention(exec, &f->attention, w->qkv, w->attended));
    PHI3_TRY(check_interrupt(f));
    PHI3_TRY(backend->linear(exec, layer->output, w->attended, n_rows, w->delta));

    PHI3_TRY(backend->add_rms_norm(exec, w->hidden, w->delta, layer->mlp_norm, config->rms_norm_eps,
                                   n_rows, hidden_size, w->normed));
    PHI3_TRY(check_interrupt(f));
    PHI3_TRY(backend->linear(exec, layer->gate_up, w->normed, n_rows, w->gate_up));
    PHI3_TRY(check_interrupt(f));
    PHI3_TRY(backend->swiglu(exec, w->gate_up, n_rows, config->intermediate_size, w->activated));
    PHI3_TRY(backend->linear(exec, layer->down, w->activated, n_rows, w->delta));
    return check_interrupt(f);
}

/* ---- The head --------------------------------------------------------------------------------- */

/* How many rows go through the head together, from logit row `first` on. */
static size_t head_rows(const forward *f, size_t first)
{
    size_t left = f->batch.n_logits - first;
    return left < PHI3_LOGIT_ROWS ? left : PHI3_LOGIT_ROWS;
}

/* How many of the highest logits some row of the group from logit row `first` on wants. The rows of a
 * chunk follow each other in the caller's array. */
static size_t most_candidates(const forward *f, size_t first)
{
    size_t most = 0;
    for (size_t i = 0; f->candidates != NULL && i < head_rows(f, first); i++)
        most = larger(most, f->candidates[f->workspace->logit_slots[first] + i].n_wanted);
    return most;
}

/* Finds as many in each row of the group. */
static phi3_status find_candidates(const forward *f, size_t first)
{
    phi3_activations *w = f->activations;
    size_t k = most_candidates(f, first);
    if (k == 0)
        return PHI3_OK;
    return f->segment->backend->top_k(&w->exec, w->logits, head_rows(f, first),
                                      f->model->config.config.vocab_size, k,
                                      k > 1 ? w->top_values : NULL, w->top_ids);
}

/* Norm, product and choice of candidates over the next rows whose logits are wanted; none are wanted:
 * nothing. */
static phi3_status run_head(forward *f, size_t first)
{
    const phi3_model *model = f->model;
    const phi3_backend *backend = f->segment->backend;
    size_t hidden_size = model->config.config.hidden_size, n_rows = head_rows(f, first);
    phi3_activations *w = f->activations;
    const phi3_exec *exec = &w->exec;
    const size_t *rows = f->batch.logit_rows + first;
    if (n_rows == 0)
        return PHI3_OK;
    PHI3_TRY(backend->gather_rows(exec, w->hidden, rows, n_rows, hidden_size, w->logit_hidden));
    PHI3_TRY(backend->gather_rows(exec, w->delta, rows, n_rows, hidden_size, w->logit_delta));
    PHI3_TRY(backend->add_rms_norm(exec, w->logit_hidden, w->logit_delta, model->final_norm,
                                   model->config.config.rms_norm_eps, n_rows, hidden_size,
                                   w->normed));
    PHI3_TRY(backend->linear(exec, model->lm_head, w->normed, n_rows, w->logits));
    return find_candidates(f, first);
}

/* Takes the candidates of run_head out to the rows that want some. */
static phi3_status hand_out_candidates(const forward *f, size_t first)
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
static phi3_status hand_out(const forward *f, size_t first)
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

/* Turns to a segment: its part of the caches, and the chunk as it is in host memory. The logits that
 * are wanted are those of the last one. */
static void enter_segment(forward *f, size_t index)
{
    const phi3_model *model = f->model;
    phi3_workspace *w = f->workspace;
    f->segment = &model->segments[index];
    f->activations = &w->segments[index];
    f->activations->exec.n_threads =
        f->options->n_threads > 0 ? f->options->n_threads : model->n_threads;
    f->attention.kv = f->segment->kv;
    for (size_t i = 0; i < f->attention.n_spans; i++)
        w->parts[i].pages = w->caches[i]->tables[index];
    f->batch = f->chunk;
    if (f->segment != phi3_last_segment(model))
        f->batch.n_logits = 0;
}

/* Takes the hidden state from one segment to the next. Only layers leave something to be added. */
static phi3_status cross_border(const forward *f)
{
    const phi3_segment *from = f->segment - 1, *to = f->segment;
    const phi3_activations *there = f->activations - 1, *here = f->activations;
    float *border = f->workspace->border;
    size_t bytes = f->batch.n_rows * f->model->config.config.hidden_size * sizeof(float);
    PHI3_TRY(from->backend->download(border, there->hidden, bytes));
    PHI3_TRY(to->backend->upload(here->hidden, border, bytes));
    if (to->first_layer == 0)
        return PHI3_OK;
    PHI3_TRY(from->backend->download(border, there->delta, bytes));
    return to->backend->upload(here->delta, border, bytes);
}

/* Embedding, layers, and the head over the first rows, as far as they are the segment's: what a
 * device may record. */
static phi3_status run_ops(forward *f)
{
    const phi3_model *model = f->model;
    const phi3_segment *segment = f->segment;
    phi3_activations *w = f->activations;
    PHI3_TRY(check_interrupt(f));
    if (segment == model->segments)
        PHI3_TRY(segment->backend->embed(&w->exec, model->embedding, f->batch.ids, f->batch.n_rows,
                                         w->hidden));
    for (size_t i = 0; i < segment->n_layers; i++)
        PHI3_TRY(run_layer(f, segment->first_layer + i));
    return run_head(f, 0);
}

/* The same, by the device itself when it has recorded it. */
static phi3_status issue_ops(forward *f)
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

/* Returns a bare status, as run_chunk: the caller words the failure. */
static phi3_status run_segment(forward *f, size_t index)
{
    enter_segment(f, index);
    if (index > 0)
        PHI3_TRY(cross_border(f));
    return issue_ops(f);
}

/* All segments, and what the last one has computed. */
static phi3_status run_chunk(forward *f)
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

/* ---- Chunks ----------------------------------------------------------------------------------- */

/* Adds the next `count` tokens of a span to the chunk. `slot` is where the span's logits begin in
 * the caller's array. */
static void add_part(forward *f, const phi3_span *span, size_t count, size_t slot)
{
    phi3_workspace *w = f->workspace;
    const phi3_rope *rope = &f->model->rope;
    const phi3_cache *cache = span->cache;
    size_t n_past = cache->n_computed, first_row = f->chunk.n_rows;

    w->caches[f->attention.n_spans] = span->cache;
    w->parts[f->attention.n_spans++] = (phi3_kv_span){
        .n_past = n_past,
        .first_row = first_row,
        .n_rows = count,
    };
    f->chunk.n_rows += count;
    memcpy(w->ids + first_row, cache->ids + n_past, count * sizeof *w->ids);
    phi3_rope_angles(rope, cache->factors, n_past, count, w->cosine + first_row * rope->n_pairs,
                     w->sine + first_row * rope->n_pairs);

    size_t first_wanted = cache->length + span->count - span->n_logits;
    for (size_t i = 0; i < count; i++) {
        if (n_past + i >= first_wanted) {
            w->logit_rows[f->chunk.n_logits] = first_row + i;
            w->logit_slots[f->chunk.n_logits++] = slot + n_past + i - first_wanted;
        }
    }
}

/* Fills the chunk with what the spans have left; no rows: everything is done. */
static void plan_chunk(forward *f)
{
    const phi3_workspace *w = f->workspace;
    size_t slot = 0;
    f->attention.n_spans = 0;
    f->chunk = (phi3_batch){.attention = &f->attention,
                            .ids = w->ids,
                            .cosine = w->cosine,
                            .sine = w->sine,
                            .logit_rows = w->logit_rows};
    for (size_t i = 0; i < f->n_spans && f->chunk.n_rows < PHI3_CHUNK_ROWS; i++) {
        const phi3_span *span = &f->spans[i];
        size_t left = span->cache->length + span->count - span->cache->n_computed;
        size_t room = PHI3_CHUNK_ROWS - f->chunk.n_rows;
        if (left > 0)
            add_part(f, span, left < room ? left : room, slot);
        slot += span->n_logits;
    }
}

/* What the ops of the segment may need beside their arguments. */
static size_t scratch_for_segment(const forward *f)
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

static phi3_status reserve_scratch(forward *f, phi3_error *error)
{
    for (size_t i = 0; i < f->model->n_segments; i++) {
        enter_segment(f, i);
        PHI3_TRY(
            phi3_workspace_need_scratch(f->model, f->workspace, i, scratch_for_segment(f), error));
    }
    return PHI3_OK;
}

static phi3_status fail_chunk(const forward *f, phi3_status status, phi3_error *error)
{
    if (status == PHI3_ERROR_INTERRUPTED)
        return phi3_fail(error, status, "interrupted");
    const phi3_backend *backend = f->segment->backend;
    bool asks = status == PHI3_ERROR_DEVICE && backend->failure != NULL;
    const char *why = asks ? backend->failure() : NULL;
    return phi3_fail(error, status, "the %s backend failed: %s", backend->name,
                     why != NULL ? why : phi3_status_name(status));
}

static phi3_status run_chunks(forward *f, phi3_error *error)
{
    for (;;) {
        plan_chunk(f);
        if (f->chunk.n_rows == 0)
            return PHI3_OK;
        PHI3_TRY(reserve_scratch(f, error));
        phi3_status status = run_chunk(f);
        if (status != PHI3_OK)
            return fail_chunk(f, status, error);
        for (size_t i = 0; i < f->attention.n_spans; i++)
            f->workspace->caches[i]->n_computed += f->workspace->parts[i].n_rows;
    }
}

/* ---- Spans and their caches ------------------------------------------------------------------- */

static phi3_status check_span(const phi3_model *model, const phi3_span *span, phi3_error *error)
{
    const phi3_config *config = &model->config.config;
    if (span->cache == NULL || span->cache->model != model)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "a span without a cache of this model");
    if (span->count == 0 || span->n_logits > span->count)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "a span of %zu ids that wants %zu logits", span->count, span->n_logits);
    for (size_t i = 0; i < span->count; i++) {
        if (span->ids[i] < 0 || (size_t)span->ids[i] >= config->vocab_size)
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                             "token id %d is not in the vocabulary of %zu", span->ids[i],
                             config->vocab_size);
    }
    return PHI3_OK;
}

static phi3_status check_spans(const phi3_model *model, const phi3_span *spans, size_t n_spans,
                               const float *logits, phi3_error *error)
{
    for (size_t i = 0; i < n_spans; i++) {
        PHI3_TRY(check_span(model, &spans[i], error));
        if (spans[i].n_logits > 0 && logits == NULL)
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                             "logits wanted, but no room given");
    }
    return PHI3_OK;
}

static void release_caches(const phi3_span *spans, size_t n_spans)
{
    for (size_t i = 0; i < n_spans; i++)
        phi3_cache_release(spans[i].cache);
}

static phi3_status acquire_caches(const phi3_span *spans, size_t n_spans, phi3_error *error)
{
    for (size_t i = 0; i < n_spans; i++) {
        phi3_status status = phi3_cache_acquire(spans[i].cache, error);
        if (status == PHI3_OK)
            continue;
        for (size_t j = 0; j < i; j++) {
            if (spans[j].cache == spans[i].cache)
                status = phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                                   "spans %zu and %zu have the same cache", j, i);
        }
        release_caches(spans, i);
        return status;
    }
    return PHI3_OK;
}

/*
 * Makes a cache ready for a span: appends the ids (beyond its length, which only success changes)
 * and takes the pages. A sequence that crosses the LongRoPE boundary starts over: keys of every
 * layer but the first depend on the rotation below them, so they cannot be turned afterwards.
 */
static phi3_status prepare_cache(const phi3_model *model, const phi3_span *span, phi3_error *error)
{
    phi3_cache *cache = span->cache;
    size_t limit = model->config.config.max_position_embeddings;
    if (span->count > limit - cache->length)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "a sequence of %zu tokens is longer than the %zu that this model takes "
                         "(max_position_embeddings)",
                         cache->length + span->count, limit);
    size_t length = larger(cache->length + span->count, cache->planned_length);
    phi3_rope_factors factors = phi3_rope_factors_for(&model->rope, length);
    if (factors != cache->factors) {
        cache->factors = factors;
        cache->n_computed = 0;
    }
    PHI3_TRY(phi3_cache_reserve(cache, span->count, error));
    memcpy(cache->ids + cache->length, span->ids, span->count * sizeof *cache->ids);
    return PHI3_OK;
}

static phi3_status run_spans(const phi3_model *model, const phi3_span *spans, size_t n_spans,
                             const phi3_run_options *options, phi3_candidates *candidates,
                             float *logits, phi3_error *error)
{
    for (size_t i = 0; i < n_spans; i++)
        PHI3_TRY(prepare_cache(model, &spans[i], error));

    const phi3_config *config = &model->config.config;
    forward f = {
        .model = model,
        .spans = spans,
        .n_spans = n_spans,
        .options = options,
        .candidates = candidates,
        .logits = logits,
        .attention = {.n_heads = config->num_attention_heads,
                      .rotary_dim = config->rotary_dim,
                      .sliding_window = config->sliding_window,
                      .compute = model->compute},
    };
    PHI3_TRY(phi3_workspace_acquire(model, &f.workspace, error));
    f.attention.spans = f.workspace->parts;
    phi3_status status = run_chunks(&f, error);
    phi3_workspace_release(model, f.workspace);
    return status;
}

phi3_status phi3_model_forward_candidates(const phi3_model *model, const phi3_span *spans,
                                          size_t n_spans, const phi3_run_options *options,
                                          phi3_candidates *candidates, float *logits,
                                          phi3_error *error)
{
    const phi3_run_options defaults = {0};
    PHI3_TRY(phi3_process_begin_work(error));
    PHI3_TRY(check_spans(model, spans, n_spans, logits, error));
    PHI3_TRY(acquire_caches(spans, n_spans, error));
    phi3_status status = run_spans(model, spans, n_spans, options == NULL ? &defaults : options,
                                   candidates, logits, error);
    for (size_t i = 0; i < n_spans; i++) {
        phi3_cache *cache = spans[i].cache;
        if (status == PHI3_OK)
            cache->length += spans[i].count;
        else
            phi3_cache_cut(cache, cache->length);
    }
    release_caches(spans, n_spans);
    return status;
}

phi3_status phi3_model_forward(const phi3_model *model, const phi3_span *spans, size_t n_spans,
                               const phi3_run_options *options, float *logits, phi3_error *error)
{
    return phi3_model_forward_candidates(model, spans, n_spans, options, NULL, logits, error);
}
