/*
 * generation.c - a generation as an object: made of prompts and settings, asked for what has come of it.
 *
 * In: prompts and a phi3_generation_config. Out: rows that are ready for their first step, each with
 * what its prompt's cache already holds of it; later, the rows' state. The steps are in generate.c.
 */
#include "generation.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "rope.h"

/* ---- Create ----------------------------------------------------------------------------------- */

static phi3_status check_prompts(const phi3_generation *g, const phi3_prompt *prompts,
                                 size_t n_prompts, phi3_error *error)
{
    if (n_prompts == 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "there is no prompt");
    for (size_t i = 0; i < n_prompts; i++) {
        if (prompts[i].count == 0)
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "prompt %zu is empty", i);
        for (size_t j = 0; j < prompts[i].count; j++) {
            int32_t id = prompts[i].ids[j];
            if (id < 0 || (size_t)id >= g->vocab_size)
                return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                                 "token id %d of prompt %zu is not in the vocabulary of %zu", id, i,
                                 g->vocab_size);
        }
    }
    if (g->config.n_stop_strings > 0 && g->tokenizer == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "stop strings need the model's tokenizer: pass it as the `tokenizer` "
                         "argument");
    if (g->config.do_sample && g->random == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "do_sample needs a random generator");
    return PHI3_OK;
}

static int32_t choose_pad_token(const phi3_generation_config *config)
{
    if (config->pad_token_id >= 0)
        return config->pad_token_id;
    return config->n_eos_token_ids > 0 ? config->eos_token_ids[0] : 0;
}

static phi3_status allocate_rows(phi3_generation *g, size_t n_rows, phi3_error *error)
{
    size_t row_bytes = g->vocab_size * sizeof(float);
    g->rows = calloc(n_rows, sizeof *g->rows);
    g->spans = calloc(n_rows, sizeof *g->spans);
    g->tokens = calloc(n_rows, sizeof *g->tokens);
    g->computed = calloc(n_rows, row_bytes);
    g->candidates = calloc(n_rows, sizeof *g->candidates);
    size_t n_kept = g->config.output_logits ? n_rows : 1;
    g->logits = calloc(n_kept, row_bytes);
    g->scores = calloc(n_kept, row_bytes);
    if (g->rows == NULL || g->spans == NULL || g->tokens == NULL || g->computed == NULL ||
        g->candidates == NULL || g->logits == NULL || g->scores == NULL)
        return phi3_fail_memory(error, "the rows of a generation");
    g->n_rows = n_rows;
    return PHI3_OK;
}

/* Gives a row its ids and, if it is its prompt's first, a cache. */
static phi3_status start_row(phi3_generation *g, size_t index, const phi3_prompt *prompt,
                             phi3_error *error)
{
    phi3_sequence *row = &g->rows[index];
    row->ids = malloc((prompt->count + g->limits.max_new) * sizeof *row->ids);
    if (row->ids == NULL)
        return phi3_fail_memory(error, "the ids of a row");
    memcpy(row->ids, prompt->ids, prompt->count * sizeof *row->ids);
    row->n_ids = prompt->count;
    if (index % g->config.num_return_sequences != 0)
        return PHI3_OK;
    row->cache = prompt->cache;
    row->owns_cache = prompt->cache == NULL;
    return row->owns_cache ? phi3_cache_create(g->model, &row->cache, error) : PHI3_OK;
}

/* Forgets what a cache does not have in common with its row. The last id of the prompt is always
 * computed: the logits after it are wanted. */
static phi3_status keep_common_prefix(const phi3_sequence *row, phi3_error *error)
{
    size_t length, common = 0;
    const int32_t *ids = phi3_cache_ids(row->cache, &length);
    while (common < length && common + 1 < row->n_ids && ids[common] == row->ids[common])
        common++;
    return phi3_cache_truncate(row->cache, common, error);
}

static phi3_status start(phi3_generation *g, const phi3_generation_config *config,
                         const phi3_prompt *prompts, size_t n_prompts, phi3_error *error)
{
    PHI3_TRY(phi3_generation_config_check(config, error));
    PHI3_TRY(phi3_generation_config_copy(config, &g->config, error));
    PHI3_TRY(check_prompts(g, prompts, n_prompts, error));
    size_t longest = 0;
    for (size_t i = 0; i < n_prompts; i++)
        longest = prompts[i].count > longest ? prompts[i].count : longest;
    size_t n_positions = g->model->config.config.max_position_embeddings;
    PHI3_TRY(phi3_generation_limits_of(config, longest, n_positions, &g->limits, error));
    PHI3_TRY(phi3_sampler_create(&g->config, g->vocab_size, &g->sampler, error));
    g->pad_token_id = choose_pad_token(config);

    size_t n_draws = config->num_return_sequences;
    PHI3_TRY(allocate_rows(g, n_prompts * n_draws, error));
    for (size_t i = 0; i < g->n_rows; i++)
        PHI3_TRY(start_row(g, i, &prompts[i / n_draws], error));
    for (size_t i = 0; i < g->n_rows; i += n_draws) {
        const phi3_sequence *row = &g->rows[i];
        PHI3_TRY(keep_common_prefix(row, error));
        g->timings.prompt_tokens += row->n_ids;
        g->timings.reused_tokens += phi3_sequence_starts_over(row) ? 0 : row->cache->length;
    }
    return PHI3_OK;
}

phi3_status phi3_generation_create(const phi3_model *model, const phi3_tokenizer *tokenizer,
                                   const phi3_generation_config *config, phi3_random *random,
                                   const phi3_prompt *prompts, size_t n_prompts,
                                   phi3_generation **generation, phi3_error *error)
{
    phi3_generation *g = calloc(1, sizeof *g);
    if (g == NULL)
        return phi3_fail_memory(error, "a generation");
    g->model = model;
    g->tokenizer = tokenizer;
    g->random = random;
    g->created = phi3_clock_seconds();
    g->vocab_size = model->config.config.vocab_size;
    atomic_flag_clear(&g->busy);
    phi3_status status = start(g, config, prompts, n_prompts, error);
    if (status != PHI3_OK) {
        phi3_generation_free(g);
        return status;
    }
    *generation = g;
    return PHI3_OK;
}

void phi3_generation_free(phi3_generation *g)
{
    if (g == NULL)
        return;
    for (size_t i = 0; i < g->n_rows; i++) {
        if (g->rows[i].owns_cache)
            phi3_cache_free(g->rows[i].cache);
        free(g->rows[i].ids);
    }
    phi3_sampler_free(g->sampler);
    phi3_generation_config_free(&g->config);
    free(g->rows);
    free(g->spans);
    free(g->tokens);
    free(g->computed);
    free(g->candidates);
    free(g->logits);
    free(g->scores);
    free(g);
}

/* ---- What it has come to ---------------------------------------------------------------------- */

size_t phi3_generation_rows(const phi3_generation *g)
{
    return g->n_rows;
}

phi3_finish_reason phi3_generation_finish(const phi3_generation *g, size_t index)
{
    return index < g->n_rows ? g->rows[index].finish : PHI3_FINISH_NONE;
}

/* Row `index` of what output_logits keeps. */
static const float *kept_row(const phi3_generation *g, const float *rows, size_t index)
{
    bool is_kept = g->config.output_logits && index < g->n_rows && g->n_new > 0;
    return is_kept ? rows + index * g->vocab_size : NULL;
}

const float *phi3_generation_logits(const phi3_generation *g, size_t index)
{
    return kept_row(g, g->logits, index);
}

const float *phi3_generation_scores(const phi3_generation *g, size_t index)
{
    return kept_row(g, g->scores, index);
}

phi3_timings phi3_generation_timings(const phi3_generation *g)
{
    phi3_timings t = g->timings;
    size_t n_first = t.new_tokens < g->n_rows ? t.new_tokens : g->n_rows;
    if (t.prompt_seconds > 0 && t.new_tokens > 0)
        t.prompt_tokens_per_second = (double)(t.prompt_tokens - t.reused_tokens) / t.prompt_seconds;
    if (t.decode_seconds > 0)
        t.decode_tokens_per_second = (double)(t.new_tokens - n_first) / t.decode_seconds;
    return t;
}
