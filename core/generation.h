/* generation.h - the inside of a generation: what generation.c makes and generate.c steps. */
#ifndef PHI3_INTERNAL_GENERATION_H
#define PHI3_INTERNAL_GENERATION_H

#include <stdatomic.h>

#include "cache.h"
#include "candidates.h"
#include "generation_config.h"
#include "model.h"
#include "phi3.h"
#include "sampler.h"

/* The newest logits of a row: all of them, or only the candidates for the next token. */
typedef struct phi3_newest {
    const float *logits; /* [vocab], where the candidates do not suffice */
    const phi3_candidates *candidates;
} phi3_newest;

/* A row: a prompt, and what follows it. */
typedef struct phi3_sequence {
    phi3_cache *cache; /* NULL until the first step forks it from the prompt's first row */
    bool owns_cache;
    int32_t *ids; /* [n_ids] prompt and new tokens; room for max_new of them */
    size_t n_ids;
    phi3_newest newest;
    phi3_finish_reason finish;
} phi3_sequence;

struct phi3_generation {
    const phi3_model *model;
    const phi3_tokenizer *tokenizer;
    phi3_random *random;
    phi3_generation_config config; /* our copy */
    phi3_generation_limits limits;
    phi3_sampler *sampler;
    int32_t pad_token_id;

    phi3_sequence *rows; /* [n_rows] */
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

/* Whether the keys in a row's cache were turned for another length (LongRoPE) and are of no use. */
static inline bool phi3_sequence_starts_over(const phi3_sequence *row)
{
    const phi3_rope *rope = &row->cache->model->rope;
    return phi3_rope_factors_for(rope, row->n_ids) != row->cache->factors;
}

#endif
