/* The sampler keeps and draws what transformers' processors and torch.multinomial keep and draw. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "core/sampler.h"
#include "tests/data/sampler_goldens.h"

static phi3_error error;

/* The formula of make_sampler_goldens.py. */
static void make_logits(float *logits)
{
    uint32_t state = 99;
    for (size_t i = 0; i < GOLDEN_VOCAB; i++) {
        state = state * 1664525u + 1013904223u;
        logits[i] = (float)(state >> 8) / (float)(1 << 20) - 8;
        if (i % 10 == 0)
            logits[i] = floorf(logits[i]);
    }
}

static phi3_generation_config config_of(const struct golden_case *golden)
{
    phi3_generation_config config = phi3_generation_default_config();
    config.do_sample = true;
    config.repetition_penalty = golden->repetition_penalty;
    config.temperature = golden->temperature;
    config.top_k = golden->top_k;
    config.top_p = golden->top_p;
    config.min_p = golden->min_p;
    config.eos_token_ids = golden_eos;
    config.n_eos_token_ids = sizeof golden_eos / sizeof *golden_eos;
    return config;
}

static void assert_kept(const struct golden_case *golden, const float *scores)
{
    size_t place = 0;
    for (size_t run = 0; run < golden->n_runs; run++) {
        bool kept = run % 2 == 0;
        for (int i = 0; i < golden->runs[run]; i++, place++)
            assert_int_equal(scores[place] > -INFINITY, kept);
    }
    assert_int_equal(place, GOLDEN_VOCAB);
}

static void test_scores_and_draws_equal_transformers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden_cases / sizeof *golden_cases; i++) {
        const struct golden_case *golden = &golden_cases[i];
        phi3_generation_config config = config_of(golden);
        phi3_sampler *sampler;
        phi3_random *random;
        float scores[GOLDEN_VOCAB];
        const phi3_scores all = {scores, NULL, GOLDEN_VOCAB};
        assert_int_equal(phi3_sampler_create(&config, GOLDEN_VOCAB, &sampler, &error), PHI3_OK);
        assert_int_equal(phi3_random_create(golden->seed, &random, &error), PHI3_OK);
        for (int round = 0; round < 2; round++) { /* twice: no state may be left behind */
            make_logits(scores);
            phi3_sampler_process(sampler, golden_ids, sizeof golden_ids / sizeof *golden_ids,
                                 golden->forbid_eos, &all);
        }
        assert_kept(golden, scores);
        assert_true(scores[phi3_sampler_most_likely(&all)] == golden->score);
        phi3_random_lock(random);
        for (size_t j = 0; j < GOLDEN_TOKENS; j++) {
            int32_t token;
            assert_int_equal(phi3_sampler_draw(sampler, &all, random, &token, &error), PHI3_OK);
            assert_int_equal(token, golden->tokens[j]);
        }
        phi3_random_unlock(random);
        phi3_random_free(random);
        phi3_sampler_free(sampler);
    }
}

static void test_greedy_only_takes_penalty_and_eos(void **state)
{
    (void)state;
    phi3_generation_config config = config_of(&golden_cases[9]);
    config.do_sample = false;
    phi3_sampler *sampler;
    float logits[GOLDEN_VOCAB], scores[GOLDEN_VOCAB];
    const phi3_scores all = {scores, NULL, GOLDEN_VOCAB};
    make_logits(logits);
    memcpy(scores, logits, sizeof scores);
    assert_int_equal(phi3_sampler_create(&config, GOLDEN_VOCAB, &sampler, &error), PHI3_OK);
    phi3_sampler_process(sampler, golden_ids, 1, true, &all);
    for (size_t i = 0; i < GOLDEN_VOCAB; i++) {
        float expected = logits[i];
        if (i == 5)
            expected = expected < 0 ? expected * 0.8f : expected / 0.8f;
        if (i == 3 || i == 40)
            expected = -INFINITY;
        assert_true(scores[i] == expected);
    }
    phi3_sampler_free(sampler);
}

static int32_t most_likely(float a, float b, float c, float d)
{
    phi3_scores scores = {(float[]){a, b, c, d}, NULL, 4};
    return phi3_sampler_most_likely(&scores);
}

static void test_the_lowest_of_equals_wins(void **state)
{
    (void)state;
    assert_int_equal(most_likely(1, 3, 3, 2), 1);
    assert_int_equal(most_likely(-INFINITY, -INFINITY, -INFINITY, -INFINITY), 0);
    assert_int_equal(most_likely(1, INFINITY, NAN, NAN), 2); /* as torch.argmax */
    assert_int_equal(most_likely(NAN, 1, 2, 3), 0);
}

static void test_scores_that_are_no_probabilities_are_refused(void **state)
{
    (void)state;
    phi3_generation_config config = phi3_generation_default_config();
    phi3_sampler *sampler;
    phi3_random *random;
    int32_t token = -7;
    const float bad[][4] = {
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {0, INFINITY, 0, 0}, {0, 1, NAN, 0}};
    config.do_sample = true;
    config.top_k = 3;
    config.top_p = 0.5;
    config.min_p = 0.1;
    assert_int_equal(phi3_sampler_create(&config, 4, &sampler, &error), PHI3_OK);
    assert_int_equal(phi3_random_create(0, &random, &error), PHI3_OK);
    for (size_t i = 0; i < 3; i++) {
        float scores[4];
        const phi3_scores all = {scores, NULL, 4};
        memcpy(scores, bad[i], sizeof scores);
        phi3_sampler_process(sampler, golden_ids, 0, false, &all);
        assert_int_equal(phi3_sampler_draw(sampler, &all, random, &token, &error),
                         PHI3_ERROR_INVALID_ARGUMENT);
        assert_int_equal(token, -7);
    }
    phi3_random_free(random);
    phi3_sampler_free(sampler);
}

static void test_a_skipped_draw_uses_up_its_numbers(void **state)
{
    (void)state;
    const struct golden_case *golden = &golden_cases[0];
    phi3_generation_config config = config_of(golden);
    phi3_sampler *sampler;
    phi3_random *random;
    float scores[GOLDEN_VOCAB];
    const phi3_scores all = {scores, NULL, GOLDEN_VOCAB};
    int32_t token;
    make_logits(scores);
    assert_int_equal(phi3_sampler_create(&config, GOLDEN_VOCAB, &sampler, &error), PHI3_OK);
    assert_int_equal(phi3_random_create(golden->seed, &random, &error), PHI3_OK);
    phi3_sampler_skip(sampler, random);
    assert_int_equal(phi3_sampler_draw(sampler, &all, random, &token, &error), PHI3_OK);
    assert_int_equal(token, golden->tokens[1]);
    phi3_random_free(random);
    phi3_sampler_free(sampler);
}

/* ---- Candidates for all logits ------------------------------------------------------------------ */

enum { VOCAB = 700 };

typedef struct situation {
    bool do_sample;
    double temperature;
    int64_t top_k;
    double top_p, min_p;
} situation;

static const situation situations[] = {
    {false, 1, 50, 1, 0},      {true, 1, 50, 1, 0},      {true, 0.7, 50, 0.9, 0},
    {true, 1.3, 1, 1, 0},      {true, 3, 5, 0.5, 0.05},  {true, 1, 255, 0.95, 0},
    {true, 1e-3, 40, 1, 0.1},  {true, 1e37, 40, 0.9, 0}, /* quotients that nearly vanish: ties */
    {true, 1e-44, 40, 1, 0.0},                           /* and that are infinite */
};

/* Of five kinds: all different, few values, few that are finite, one infinite, one NaN. */
static void draw_logits(phi3_random *random, unsigned kind, float *logits)
{
    for (size_t i = 0; i < VOCAB; i++) {
        logits[i] = (float)((double)(phi3_random_next(random) >> 11) * 0x1p-53 * 30 - 20);
        if (kind == 1)
            logits[i] = floorf(logits[i]);
        if (kind == 2 && i % 100 != 7)
            logits[i] = -INFINITY;
    }
    if (kind >= 3)
        logits[phi3_random_next(random) % VOCAB] = kind == 3 ? INFINITY : NAN;
}

static phi3_status choose(phi3_sampler *sampler, bool do_sample, const phi3_scores *scores,
                          phi3_random *random, int32_t *token)
{
    phi3_sampler_process(sampler, NULL, 0, false, scores);
    *token = phi3_sampler_most_likely(scores);
    if (!do_sample)
        return PHI3_OK;
    phi3_random_lock(random);
    phi3_status status = phi3_sampler_draw(sampler, scores, random, token, &error);
    phi3_random_unlock(random);
    return status;
}

/* Returns whether the candidates were enough. */
static bool check_candidates(const situation *s, const float *logits, uint64_t seed)
{
    phi3_generation_config config = phi3_generation_default_config();
    config.do_sample = s->do_sample;
    config.temperature = s->temperature;
    config.top_k = s->top_k;
    config.top_p = s->top_p;
    config.min_p = s->min_p;
    phi3_sampler *sampler;
    phi3_random *random, *same;
    assert_int_equal(phi3_sampler_create(&config, VOCAB, &sampler, &error), PHI3_OK);
    assert_int_equal(phi3_random_create(seed, &random, &error), PHI3_OK);
    assert_int_equal(phi3_random_create(seed, &same, &error), PHI3_OK);
    phi3_candidates candidates;
    phi3_sampler_ask(sampler, false, &candidates);
    size_t n = candidates.count = candidates.n_wanted;
    assert_true(n > 0);
    assert_int_equal(
        phi3_backend_reference.top_k(NULL, logits, 1, VOCAB, n, candidates.values, candidates.ids),
        PHI3_OK);
    bool suffice = phi3_candidates_suffice(&candidates);
    if (suffice) {
        float all[VOCAB], some[PHI3_TOP_K_MAX];
        int32_t ids[PHI3_TOP_K_MAX], expected, token;
        memcpy(all, logits, sizeof all);
        phi3_scores listed = phi3_sampler_list(&candidates, some, ids);
        phi3_status status =
            choose(sampler, s->do_sample, &(phi3_scores){all, NULL, VOCAB}, random, &expected);
        assert_int_equal(choose(sampler, s->do_sample, &listed, same, &token), status);
        assert_int_equal(token, expected);
        assert_true(phi3_random_next(random) == phi3_random_next(same));
    }
    phi3_sampler_free(sampler);
    phi3_random_free(random);
    phi3_random_free(same);
    return suffice;
}

static void test_candidates_choose_as_all_logits_do(void **state)
{
    (void)state;
    size_t n_enough[5] = {0}, n_rounds = 40, n_situations = sizeof situations / sizeof *situations;
    phi3_random *random;
    assert_int_equal(phi3_random_create(1, &random, &error), PHI3_OK);
    for (unsigned kind = 0; kind < 5; kind++) {
        for (uint64_t seed = 0; seed < n_rounds; seed++) {
            float logits[VOCAB];
            draw_logits(random, kind, logits);
            for (size_t i = 0; i < n_situations; i++)
                n_enough[kind] += check_candidates(&situations[i], logits, seed);
        }
    }
    /* They are, but where the temperature is absurd; with ties, seldom for more than one. */
    assert_true(n_enough[0] >= (n_situations - 2) * n_rounds);
    for (size_t kind = 1; kind < 5; kind++)
        assert_in_range(n_enough[kind], n_rounds, n_situations * n_rounds - n_rounds);
    phi3_random_free(random);
}

static void test_settings_that_need_all_logits(void **state)
{
    (void)state;
    const struct {
        bool do_sample, forbid_eos;
        double repetition_penalty;
        int64_t top_k;
        size_t n_wanted;
    } cases[] = {
        {false, false, 1, 50, 1},
        {false, true, 1, 50, 0},
        {false, false, 1.1, 50, 0},
        {true, false, 1, 50, 51},
        {true, true, 1, 50, 0},
        {true, false, 0.9, 50, 0},
        {true, false, 1, 0, 0},
        {true, false, 1, PHI3_TOP_K_MAX - 1, PHI3_TOP_K_MAX},
        {true, false, 1, PHI3_TOP_K_MAX, 0},
        {true, false, 1, VOCAB, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        phi3_generation_config config = phi3_generation_default_config();
        phi3_sampler *sampler;
        phi3_candidates candidates;
        config.do_sample = cases[i].do_sample;
        config.repetition_penalty = cases[i].repetition_penalty;
        config.top_k = cases[i].top_k;
        assert_int_equal(phi3_sampler_create(&config, VOCAB, &sampler, &error), PHI3_OK);
        phi3_sampler_ask(sampler, cases[i].forbid_eos, &candidates);
        assert_int_equal(candidates.n_wanted, cases[i].n_wanted);
        phi3_sampler_free(sampler);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_and_draws_equal_transformers),
        cmocka_unit_test(test_greedy_only_takes_penalty_and_eos),
        cmocka_unit_test(test_the_lowest_of_equals_wins),
        cmocka_unit_test(test_scores_that_are_no_probabilities_are_refused),
        cmocka_unit_test(test_a_skipped_draw_uses_up_its_numbers),
        cmocka_unit_test(test_candidates_choose_as_all_logits_do),
        cmocka_unit_test(test_settings_that_need_all_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
