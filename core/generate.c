/*
 * generate.c - the loop: prefill -> choose a token -> decode, for a batch of rows.
 *
 * In: a generation, which generation.c has made of prompts and settings. Out: one token per row and
 * step, until every row has finished.
 *
 * A row is a sequence that grows. Its cache holds the beginning that the model has computed; a step
 * feeds the rest, which is the prompt the first time and one token afterwards. So prefill, decode
 * and the reuse of an earlier conversation's cache are the same few lines: see compute_logits.
 *
 * A step is: compute_logits, choose_tokens, append_tokens. Only the first can be interrupted, and it
 * can be repeated: what it has computed stays.
 */
#include "generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "forward.h"
#include "generation.h"
#include "random.h"
#include "text/stop_strings.h"

/* ---- Compute logits --------------------------------------------------------------------------- */

static bool forbids_eos(const phi3_generation *g)
{
    return g->n_new < g->limits.min_new;
}

/* What the next step needs to see of a row's logits. */
static void ask(const phi3_generation *g, phi3_candidates *candidates)
{
    phi3_sampler_ask(g->sampler, forbids_eos(g), candidates);
    if (g->config.output_logits)
        candidates->n_wanted = 0;
}

static bool is_computed_now(const phi3_sequence *row)
{
    return row->finish == PHI3_FINISH_NONE && row->cache != NULL;
}

/* What the row's cache does not hold yet. *n_run grows by the tokens that the model will run over:
 * all of the row when it starts over. */
static phi3_status span_of(const phi3_sequence *row, phi3_span *span, size_t *n_run,
                           phi3_error *error)
{
    size_t length;
    phi3_cache_ids(row->cache, &length);
    if (length >= row->n_ids)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "the cache of a generation was changed between its steps");
    *span = (phi3_span){
        .cache = row->cache,
        .ids = row->ids + length,
        .count = row->n_ids - length,
        .n_logits = 1,
    };
    *n_run += phi3_sequence_starts_over(row) ? row->n_ids : span->count;
    return PHI3_OK;
}

/* After the prefill: the other rows of a prompt start from copies of its first row's cache. */
static phi3_status fork_draws(phi3_generation *g, phi3_error *error)
{
    size_t n_draws = g->config.num_return_sequences;
    for (size_t i = 0; i < g->n_rows; i++) {
        size_t first = i - i % n_draws;
        phi3_sequence *row = &g->rows[i];
        if (row->cache != NULL)
            continue;
        PHI3_TRY(phi3_cache_fork(g->rows[first].cache, &row->cache, error));
        row->owns_cache = true;
        row->newest = g->rows[first].newest;
    }
    return PHI3_OK;
}

/* Runs the model over what is new in every unfinished row. */
static phi3_status compute_logits(phi3_generation *g, const phi3_run_options *options,
                                  phi3_error *error)
{
    if (!g->has_logits) {
        size_t n_spans = 0, n_run = 0;
        for (size_t i = 0; i < g->n_rows; i++) {
            phi3_sequence *row = &g->rows[i];
            if (!is_computed_now(row))
                continue;
            ask(g, &g->candidates[n_spans]);
            row->newest =
                (phi3_newest){g->computed + n_spans * g->vocab_size, &g->candidates[n_spans]};
            PHI3_TRY(span_of(row, &g->spans[n_spans++], &n_run, error));
        }
        PHI3_TRY(phi3_model_forward_candidates(g->model, g->spans, n_spans, options, g->candidates,
                                               g->computed, error));
        g->timings.computed_tokens += n_run;
        g->has_logits = true;
    }
    return fork_draws(g, error);
}

/* ---- Choose and append tokens ----------------------------------------------------------------- */

/* All logits of a row, to be made scores of; with output_logits, where they stay. */
static phi3_scores copy_logits(phi3_generation *g, size_t index)
{
    const float *logits = g->rows[index].newest.logits;
    size_t row_bytes = g->vocab_size * sizeof(float);
    size_t place = g->config.output_logits ? index * g->vocab_size : 0;
    if (g->config.output_logits)
        memcpy(g->logits + place, logits, row_bytes);
    memcpy(g->scores + place, logits, row_bytes);
    return (phi3_scores){g->scores + place, NULL, g->vocab_size};
}

static phi3_status choose_token(phi3_generation *g, size_t index, int32_t *token, phi3_error *error)
{
    const phi3_sequence *row = &g->rows[index];
    if (row->finish != PHI3_FINISH_NONE) {
        *token = g->pad_token_id;
        if (g->config.do_sample)
            phi3_sampler_skip(g->sampler, g->random);
        return PHI3_OK;
    }
    float values[PHI3_TOP_K_MAX];
    int32_t ids[PHI3_TOP_K_MAX];
    phi3_scores scores = row->newest.candidates->count > 0
                             ? phi3_sampler_list(row->newest.candidates, values, ids)
                             : copy_logits(g, index);
    phi3_sampler_process(g->sampler, row->ids, row->n_ids, forbids_eos(g), &scores);
    if (g->config.do_sample)
        return phi3_sampler_draw(g->sampler, &scores, g->random, token, error);
    *token = phi3_sampler_most_likely(&scores);
    return PHI3_OK;
}

static phi3_status choose_tokens(phi3_generation *g, phi3_error *error)
{
    phi3_status status = PHI3_OK;
    if (g->config.do_sample)
        phi3_random_lock(g->random);
    for (size_t i = 0; i < g->n_rows && status == PHI3_OK; i++)
        status = choose_token(g, i, &g->tokens[i], error);
    if (g->config.do_sample)
        phi3_random_unlock(g->random);
    return status;
}

static bool is_eos(const phi3_generation_config *config, int32_t token)
{
    for (size_t i = 0; i < config->n_eos_token_ids; i++) {
        if (config->eos_token_ids[i] == token)
            return true;
    }
    return false;
}

/* Whether the row ends with its newest token, and why. */
static phi3_finish_reason finish_of(const phi3_generation *g, const phi3_sequence *row)
{
    const phi3_generation_config *config = &g->config;
    if (is_eos(config, row->ids[row->n_ids - 1]))
        return PHI3_FINISH_EOS;
    if (phi3_stop_strings_match(g->tokenizer, config->stop_strings, config->n_stop_strings,
                                row->ids, row->n_ids))
        return PHI3_FINISH_STOP;
    return g->n_new == g->limits.max_new ? PHI3_FINISH_LENGTH : PHI3_FINISH_NONE;
}

/* Returns whether every row has finished. */
static bool append_tokens(phi3_generation *g)
{
    bool done = true;
    g->n_new++;
    g->has_logits = false;
    for (size_t i = 0; i < g->n_rows; i++) {
        phi3_sequence *row = &g->rows[i];
        if (row->finish != PHI3_FINISH_NONE)
            continue;
        row->ids[row->n_ids++] = g->tokens[i];
        g->timings.new_tokens++;
        row->finish = finish_of(g, row);
        done = done && row->finish != PHI3_FINISH_NONE;
    }
    return done;
}

/* ---- Step ------------------------------------------------------------------------------------- */

static bool is_done(const phi3_generation *g)
{
    for (size_t i = 0; i < g->n_rows; i++) {
        if (g->rows[i].finish == PHI3_FINISH_NONE)
            return false;
    }
    return true;
}

static phi3_status step(phi3_generation *g, const phi3_run_options *options, int32_t *tokens,
                        bool *done, phi3_error *error)
{
    if (is_done(g))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "every row has already finished");
    PHI3_TRY(compute_logits(g, options, error));
    PHI3_TRY(choose_tokens(g, error));
    *done = append_tokens(g);
    memcpy(tokens, g->tokens, g->n_rows * sizeof *tokens);
    return PHI3_OK;
}

/* Adds the time since `start`, when a step began that was or was not the prompts'. */
static void record_time(phi3_generation *g, bool is_prompt, double start)
{
    phi3_timings *t = &g->timings;
    double now = phi3_clock_seconds();
    *(is_prompt ? &t->prompt_seconds : &t->decode_seconds) += now - start;
    if (is_prompt && g->n_new > 0)
        t->first_token_seconds = now - g->created;
}

phi3_status phi3_generation_step(phi3_generation *g, const phi3_run_options *options,
                                 int32_t *tokens, bool *done, phi3_error *error)
{
    if (atomic_flag_test_and_set_explicit(&g->busy, memory_order_acquire))
        return phi3_fail(error, PHI3_ERROR_BUSY, "the generation is in use by another thread");
    double start = phi3_clock_seconds();
    bool is_prompt = g->n_new == 0;
    phi3_status status = step(g, options, tokens, done, error);
    record_time(g, is_prompt, start);
    atomic_flag_clear_explicit(&g->busy, memory_order_release);
    return status;
}

phi3_status phi3_generation_run(phi3_generation *g, const phi3_run_options *options,
                                int32_t **tokens, size_t *n_steps, phi3_error *error)
{
    size_t room = g->limits.max_new - g->n_new, count = 0;
    int32_t *made = malloc((room + 1) * g->n_rows * sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "new tokens");
    for (bool done = false; !done; count++) {
        phi3_status status =
            phi3_generation_step(g, options, made + count * g->n_rows, &done, error);
        if (status != PHI3_OK) {
            free(made);
            return status;
        }
    }
    *tokens = made;
    *n_steps = count;
    return PHI3_OK;
}

/* ---- Steps of which the engine does the forward ----------------------------------------------- */

phi3_status phi3_generation_plan(phi3_generation *g, phi3_span *span, phi3_candidates *candidates,
                                 phi3_error *error)
{
    const phi3_sequence *row = &g->rows[0];
    size_t n_run = 0;
    ask(g, candidates);
    if (phi3_sequence_starts_over(row))
        PHI3_TRY(phi3_cache_truncate(row->cache, 0, error));
    row->cache->planned_length = row->n_ids;
    return span_of(row, span, &n_run, error);
}

phi3_status phi3_generation_choose(phi3_generation *g, const float *logits,
                                   const phi3_candidates *candidates, int32_t *token, bool *done,
                                   phi3_error *error)
{
    g->rows[0].newest = (phi3_newest){logits, candidates};
    PHI3_TRY(choose_tokens(g, error));
    *done = append_tokens(g);
    *token = g->tokens[0];
    return PHI3_OK;
}
