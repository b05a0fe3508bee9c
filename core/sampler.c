/*
 * sampler.c - from a row of logits to a token, in float32 as torch computes it.
 *
 * Each filter below is one logits processor of transformers. They take time linear in the vocabulary:
 * top_k selects with a heap of k, top_p sorts what is left by its bits.
 */
#include "sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "random.h"

/* A token that is still in the game. */
typedef struct candidate {
    uint32_t key;  /* the score's bits, mapped so that they sort as the scores do */
    int32_t place; /* among the scores */
} candidate;

struct phi3_sampler {
    const phi3_generation_config *config;
    size_t vocab_size;
    bool *seen;                     /* [vocab_size] all false between calls */
    float *heap;                    /* [vocab_size] */
    candidate *candidates, *sorted; /* [vocab_size] */
};

phi3_status phi3_sampler_create(const phi3_generation_config *config, size_t vocab_size,
                                phi3_sampler **sampler, phi3_error *error)
{
    phi3_sampler *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a sampler");
    made->config = config;
    made->vocab_size = vocab_size;
    made->seen = calloc(vocab_size, sizeof *made->seen);
    made->heap = malloc(vocab_size * sizeof *made->heap);
    made->candidates = malloc(vocab_size * sizeof *made->candidates);
    made->sorted = malloc(vocab_size * sizeof *made->sorted);
    if (made->seen == NULL || made->heap == NULL || made->candidates == NULL ||
        made->sorted == NULL) {
        phi3_sampler_free(made);
        return phi3_fail_memory(error, "a sampler");
    }
    *sampler = made;
    return PHI3_OK;
}

void phi3_sampler_free(phi3_sampler *sampler)
{
    if (sampler == NULL)
        return;
    free(sampler->seen);
    free(sampler->heap);
    free(sampler->candidates);
    free(sampler->sorted);
    free(sampler);
}

/* ---- For greedy and sampling ------------------------------------------------------------------ */

/* Makes every token of the sequence less likely, once each (CTRL, arXiv 1909.05858). */
static void apply_repetition_penalty(phi3_sampler *sampler, const int32_t *ids, size_t n_ids,
                                     float *scores)
{
    float penalty = (float)sampler->config->repetition_penalty;
    for (size_t i = 0; i < n_ids; i++) {
        float *score = &scores[ids[i]];
        if (!sampler->seen[ids[i]])
            *score = *score < 0 ? *score * penalty : *score / penalty;
        sampler->seen[ids[i]] = true;
    }
    for (size_t i = 0; i < n_ids; i++)
        sampler->seen[ids[i]] = false;
}

static void remove_eos(const phi3_sampler *sampler, float *scores)
{
    for (size_t i = 0; i < sampler->config->n_eos_token_ids; i++) {
        int32_t id = sampler->config->eos_token_ids[i];
        if (id >= 0 && (size_t)id < sampler->vocab_size)
            scores[id] = -INFINITY;
    }
}

/* ---- For sampling ----------------------------------------------------------------------------- */

/* Puts `value` in the place of the heap's root, the smallest of its n values, and restores order. */
static void heap_replace_root(float *heap, size_t n, float value)
{
    size_t place = 0;
    for (size_t child = 1; child < n; child = 2 * place + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (value <= heap[child])
            break;
        heap[place] = heap[child];
        place = child;
    }
    heap[place] = value;
}

/* Keeps the k highest scores and whatever equals the lowest of them. */
static void apply_top_k(phi3_sampler *sampler, float *scores, size_t n)
{
    size_t k = (size_t)sampler->config->top_k;
    if (k >= n)
        return;
    float *heap = sampler->heap; /* the k highest so far, the lowest of them at the root */
    for (size_t i = 0; i < k; i++)
        heap[i] = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (scores[i] > heap[0])
            heap_replace_root(heap, k, scores[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (scores[i] < heap[0])
            scores[i] = -INFINITY;
    }
}

/* Maps a float to an integer of the same order: negative numbers are reversed and put below. */
static uint32_t sort_key(float score)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* Lists what no filter has removed. */
static size_t list_candidates(phi3_sampler *sampler, const float *scores, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (scores[i] > -INFINITY)
            sampler->candidates[count++] = (candidate){sort_key(scores[i]), (int32_t)i};
    }
    return count;
}

/* Sorts the candidates by rising score, equals by place: a radix sort, three times by 11 bits. The
 * result is in sampler->sorted. */
static void sort_candidates(phi3_sampler *sampler, size_t count)
{
    enum { RADIX_BITS = 11, BUCKETS = 1 << RADIX_BITS };
    candidate *from = sampler->candidates, *to = sampler->sorted;
    for (unsigned shift = 0; shift < 32; shift += RADIX_BITS) {
        size_t start[BUCKETS + 1] = {0};
        for (size_t i = 0; i < count; i++)
            start[(from[i].key >> shift) % BUCKETS + 1]++;
        for (size_t bucket = 0; bucket < BUCKETS; bucket++)
            start[bucket + 1] += start[bucket];
        for (size_t i = 0; i < count; i++)
            to[start[(from[i].key >> shift) % BUCKETS]++] = from[i];
        candidate *swap = from;
        from = to;
        to = swap;
    }
    sampler->sorted = from;
    sampler->candidates = to;
}

static float highest(const float *scores, size_t n)
{
    float top = -INFINITY;
    for (size_t i = 0; i < n; i++)
        top = scores[i] > top ? scores[i] : top;
    return top;
}

/* The denominator of softmax(scores), for exponents that are counted from `top`; NaN if one is. */
static float exponential_sum(const float *scores, size_t n, float top)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (scores[i] != -INFINITY)
            sum += expf(scores[i] - top);
    }
    return (float)sum;
}

/* Removes the least likely tokens while their joint probability is at most 1 - top_p; never the most
 * likely one. */
static void apply_top_p(phi3_sampler *sampler, float *scores, size_t n)
{
    float limit = (float)(1.0 - sampler->config->top_p);
    float top = highest(scores, n);
    float sum = exponential_sum(scores, n, top);
    size_t count = list_candidates(sampler, scores, n);
    sort_candidates(sampler, count);
    double cumulative = 0;
    for (size_t i = 0; i + 1 < count; i++) {
        float *score = &scores[sampler->sorted[i].place];
        cumulative += expf(*score - top) / sum;
        if (!((float)cumulative <= limit))
            break;
        *score = -INFINITY;
    }
}

/* Removes tokens less likely than min_p times the most likely one. */
static void apply_min_p(const phi3_sampler *sampler, float *scores, size_t n)
{
    float top = highest(scores, n);
    float sum = exponential_sum(scores, n, top);
    float limit = (float)sampler->config->min_p * (1.0f / sum);
    for (size_t i = 0; i < n; i++) {
        if (expf(scores[i] - top) / sum < limit)
            scores[i] = -INFINITY;
    }
}

void phi3_sampler_process(phi3_sampler *sampler, const int32_t *ids, size_t n_ids, bool forbid_eos,
                          const phi3_scores *scores)
{
    const phi3_generation_config *config = sampler->config;
    float *values = scores->values;
    size_t n = scores->count;
    if (config->repetition_penalty != 1.0)
        apply_repetition_penalty(sampler, ids, n_ids, values);
    if (forbid_eos)
        remove_eos(sampler, values);
    if (!config->do_sample)
        return;
    if (config->temperature != 1.0) {
        for (size_t i = 0; i < n; i++)
            values[i] /= (float)config->temperature;
    }
    if (config->top_k != 0)
        apply_top_k(sampler, values, n);
    if (config->top_p < 1.0)
        apply_top_p(sampler, values, n);
    if (config->min_p > 0)
        apply_min_p(sampler, values, n);
}

/* ---- Candidates ------------------------------------------------------------------------------- */

/* What top_k keeps is enough, when nothing before it looks at single tokens: dividing by the
 * temperature keeps the order. */
void phi3_sampler_ask(const phi3_sampler *sampler, bool forbid_eos, phi3_candidates *candidates)
{
    const phi3_generation_config *config = sampler->config;
    candidates->n_wanted = 0;
    candidates->temperature = (float)config->temperature;
    if (config->repetition_penalty != 1.0 || forbid_eos)
        return;
    if (!config->do_sample)
        candidates->n_wanted = 1;
    else if (config->top_k > 0 && config->top_k < PHI3_TOP_K_MAX &&
             (size_t)config->top_k < sampler->vocab_size)
        candidates->n_wanted = (size_t)config->top_k + 1;
}

phi3_scores phi3_sampler_list(const phi3_candidates *candidates, float *values, int32_t *ids)
{
    for (size_t i = 0; i < candidates->count; i++) {
        size_t place = i;
        for (; place > 0 && ids[place - 1] > candidates->ids[i]; place--) {
            ids[place] = ids[place - 1];
            values[place] = values[place - 1];
        }
        ids[place] = candidates->ids[i];
        values[place] = candidates->values[i];
    }
    return (phi3_scores){values, ids, candidates->count};
}

/* ---- The choice ------------------------------------------------------------------------------- */

static int32_t token_at(const phi3_scores *scores, size_t place)
{
    return scores->ids == NULL ? (int32_t)place : scores->ids[place];
}

int32_t phi3_sampler_most_likely(const phi3_scores *scores)
{
    const float *values = scores->values;
    size_t best = 0;
    for (size_t i = 1; i < scores->count; i++) {
        if (values[i] > values[best] || (isnan(values[i]) && !isnan(values[best])))
            best = i;
    }
    return token_at(scores, best);
}

phi3_status phi3_sampler_draw(const phi3_sampler *sampler, const phi3_scores *scores,
                              phi3_random *random, int32_t *token, phi3_error *error)
{
    const float *values = scores->values;
    float top = highest(values, scores->count);
    float sum = exponential_sum(values, scores->count, top);
    if (!isfinite(top) || !isfinite(sum))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "probability tensor contains either `inf`, `nan` or element < 0");
    /* The race of exponential clocks: token i rings at q / p, the first one wins. Every token of the
     * vocabulary draws its q, chance or not, which keeps the generator in step with torch. */
    float best = -1;
    size_t n_drawn = 0;
    for (size_t i = 0; i < scores->count; i++) {
        if (!(values[i] > -INFINITY))
            continue;
        int32_t id = token_at(scores, i);
        phi3_random_skip(random, (size_t)id - n_drawn);
        uint64_t bits = phi3_random_bits53(random);
        n_drawn = (size_t)id + 1;
        float speed = expf(values[i] - top) / sum / phi3_exponential_from_bits53(bits);
        if (speed > best) {
            best = speed;
            *token = id;
        }
    }
    phi3_random_skip(random, sampler->vocab_size - n_drawn);
    return PHI3_OK;
}

void phi3_sampler_skip(const phi3_sampler *sampler, phi3_random *random)
{
    phi3_random_skip(random, sampler->vocab_size);
}
