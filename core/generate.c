/*
 * generate.c - the loop: prefill -> choose a token -> decode, for a batch of rows.
 *
 * In: prompts and a phi3_generation_config. Out: one token per row and step, until every row has
 * finished.
 *
 * A row is a sequence that grows. Its cache holds the beginning that the model has computed; a step
 * feeds the rest, which is the prompt the first time and one token afterwards. So prefill, decode
 * and the reuse of an earlier conversation's cache are the same few lines: see compute_logits.
 *
 * A step is: compute_logits, choose_tokens, append_tokens. Only the first can be interrupted, and it
 * can be repeated: what it has computed stays.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "cache.h"
#include "generate.h"
#include "generation_config.h"
#include "model.h"
#include "random.h"
#include "sampler.h"
#include "text/stop_strings.h"

/* The newest logits of a row: all of them, or only the candidates for the next token. */
typedef struct newest {
    const float *logits; /* [vocab], where the candidates do not suffice */
    const phi3_candidates *candidates;
} newest;

typedef struct sequence {
    phi3_cache *cache; /* NULL until the first step forks it from the prompt's first row */
    bool owns_cache;
    int32_t *ids; /* [n_ids] prompt and new tokens; room for max_new of them */
    size_t n_ids;
    newest newest;
    phi3_finish_reason finish;
} sequence;

struct phi3_generation {
    const phi3_model *model;
    const phi3_tokenizer *tokenizer;
    phi3_random *random;
    phi3_generation_config config; /* our copy */
    phi3_generation_limits limits;
    phi3_sampler *sampler;
    int32_t pad_token_id;

    sequence *rows; /* [n_rows] */
    size_t n_rows;
    size_t n_new;     /* tokens that every unfinished row has got */
    bool has_logits;  /* the rows' newest are those for the next token */
    phi3_span *spans; /* [n_rows] */
    int32_t *tokens;  /* [n_rows] what the step has chosen */
    float *computed;  /* [n_rows][vocab] logits as a forward gives them: of its spans, packed */
    phi3_candidates *candidates; /* [n_rows] or these */
    float *logits;               /* [n_rows][vocab] what a row has seen last; with output_logits */
    float *scores; /* the same, processed; without output_logits, of one row at a time */
    size_t vocab_size;
    phi3_timings timings; /* but for the rates, which phi3_generation_timings derives */
    double created;       /* on phi3_clock_seconds' clock */
    atomic_flag busy;
};

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
    sequence *row = &g->rows[index];
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

/* Whether the keys in a row's cache were turned for another length (LongRoPE) and are of no use. */
static bool starts_over(const sequence *row)
{
    const phi3_rope *rope = &row->cache->model->rope;
    return phi3_rope_factors_for(rope, row->n_ids) != row->cache->factors;
}

/* Forgets what a cache does not have in common with its row. The last id of the prompt is always
 * computed: the logits after it are wanted. */
static phi3_status keep_common_prefix(const sequence *row, phi3_error *error)
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
        const sequence *row = &g->rows[i];
        PHI3_TRY(keep_common_prefix(row, error));
        g->timings.prompt_tokens += row->n_ids;
        g->timings.reused_tokens += starts_over(row) ? 0 : row->cache->length;
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

static bool is_computed_now(const sequence *row)
{
    return row->finish == PHI3_FINISH_NONE && row->cache != NULL;
}

/* What the row's cache does not hold yet. *n_run grows by the tokens that the model will run over:
 * all of the row when it starts over. */
static phi3_status span_of(const sequence *row, phi3_span *span, size_t *n_run, phi3_error *error)
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
    *n_run += starts_over(row) ? row->n_ids : span->count;
    return PHI3_OK;
}

/* After the prefill: the other rows of a prompt start from copies of its first row's cache. */
static phi3_status fork_draws(phi3_generation *g, phi3_error *error)
{
    size_t n_draws = g->config.num_return_sequences;
    for (size_t i = 0; i < g->n_rows; i++) {
        size_t first = i - i % n_draws;
        sequence *row = &g->rows[i];
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
            sequence *row = &g->rows[i];
            if (!is_computed_now(row))
                continue;
            ask(g, &g->candidates[n_spans]);
            row->newest = (newest){g->computed + n_spans * g->vocab_size, &g->candidates[n_spans]};
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
    const sequence *row = &g->rows[index];
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
static phi3_finish_reason finish_of(const phi3_generation *g, const sequence *row)
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
        sequence *row = &g->rows[i];
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

/* ---- Steps of which the engine does the forward --------------------------------------------------- */

phi3_status phi3_generation_plan(phi3_generation *g, phi3_span *span, phi3_candidates *candidates,
                                 phi3_error *error)
{
    const sequence *row = &g->rows[0];
    size_t n_run = 0;
    ask(g, candidates);
    if (starts_over(row))
        PHI3_TRY(phi3_cache_truncate(row->cache, 0, error));
    row->cache->planned_length = row->n_ids;
    return span_of(row, span, &n_run, error);
}

phi3_status phi3_generation_choose(phi3_generation *g, const float *logits,
                                   const phi3_candidates *candidates, int32_t *token, bool *done,
                                   phi3_error *error)
{
    g->rows[0].newest = (newest){logits, candidates};
    PHI3_TRY(choose_tokens(g, error));
    *done = append_tokens(g);
    *token = g->tokens[0];
    return PHI3_OK;
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
