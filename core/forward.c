/*
 * forward.c - phi3_model_forward: many sequences, any number of new ids each, through the model.
 *
 * In: spans, each the next ids of one sequence, with that sequence's KV cache. Out: logits after the
 * ids that were asked for, and longer caches; or, on any failure, caches as they were.
 *
 * A forward runs in chunks. A chunk takes what is left of the spans, in their order, until it has
 * PHI3_CHUNK_ROWS rows: many sequences that decode one token each are one chunk, and so one product
 * per matrix; a long prompt is several. model.c runs them. Reading order: phi3_model_forward, run_spans,
 * run_chunks, plan_chunk.
 */
#include "forward.h"

#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "cache.h"
#include "chunk.h"
#include "model.h"

/* ---- Chunks ----------------------------------------------------------------------------------- */

/* Adds the next `count` tokens of a span to the chunk. `slot` is where the span's logits begin in
 * the caller's array. */
static void add_part(phi3_forward *f, const phi3_span *span, size_t count, size_t slot)
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
static void plan_chunk(phi3_forward *f)
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

static phi3_status fail_chunk(const phi3_forward *f, phi3_status status, phi3_error *error)
{
    if (status == PHI3_ERROR_INTERRUPTED)
        return phi3_fail(error, status, "interrupted");
    const phi3_backend *backend = f->segment->backend;
    bool asks = status == PHI3_ERROR_DEVICE && backend->failure != NULL;
    const char *why = asks ? backend->failure() : NULL;
    return phi3_fail(error, status, "the %s backend failed: %s", backend->name,
                     why != NULL ? why : phi3_status_name(status));
}

static phi3_status run_chunks(phi3_forward *f, phi3_error *error)
{
    for (;;) {
        plan_chunk(f);
        if (f->chunk.n_rows == 0)
            return PHI3_OK;
        PHI3_TRY(phi3_model_reserve_scratch(f, error));
        phi3_status status = phi3_model_run_chunk(f);
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
    size_t length = cache->length + span->count;
    if (length < cache->planned_length)
        length = cache->planned_length;
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
    phi3_forward f = {
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
