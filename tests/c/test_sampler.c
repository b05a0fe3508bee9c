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
        assert_int_equal(phi3_sampler_create(&config, GOLDEN_VOCAB, &sampler, &error), PHI3_OK);
        assert_int_equal(phi3_random_create(golden->seed, &random, &error), PHI3_OK);
        for (int round = 0; round < 2; round++) { /* twice: no state may be left behind */
            make_logits(scores);
            phi3_sampler_process(sampler, golden_ids, sizeof golden_ids / sizeof *golden_ids,
                                 golden->forbid_eos, scores);
        }
        assert_kept(golden, scores);
        assert_true(scores[phi3_sampler_most_likely(sampler, scores)] == golden->score);
        phi3_random_lock(random);
        for (size_t j = 0; j < GOLDEN_TOKENS; j++) {
            int32_t token;
            assert_int_equal(phi3_sampler_draw(sampler, scores, random, &token, &error), PHI3_OK);
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
    make_logits(logits);
    memcpy(scores, logits, sizeof scores);
    assert_int_equal(phi3_sampler_create(&config, GOLDEN_VOCAB, &sampler, &error), PHI3_OK);
    phi3_sampler_process(sampler, golden_ids, 1, true, scores);
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

static void test_the_lowest_of_equals_wins(void **state)
{
    (void)state;
    phi3_generation_config config = phi3_generation_default_config();
    phi3_sampler *sampler;
    assert_int_equal(phi3_sampler_create(&config, 4, &sampler, &error), PHI3_OK);
    assert_int_equal(phi3_sampler_most_likely(sampler, (float[]){1, 3, 3, 2}), 1);
    float none[] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    assert_int_equal(phi3_sampler_most_likely(sampler, none), 0);
    phi3_sampler_free(sampler);
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
        memcpy(scores, bad[i], sizeof scores);
        phi3_sampler_process(sampler, golden_ids, 0, false, scores);
        assert_int_equal(phi3_sampler_draw(sampler, scores, random, &token, &error),
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
    int32_t token;
    make_logits(scores);
    assert_int_equal(phi3_sampler_create(&config, GOLDEN_VOCAB, &sampler, &error), PHI3_OK);
    assert_int_equal(phi3_random_create(golden->seed, &random, &error), PHI3_OK);
    phi3_sampler_skip(sampler, random);
    assert_int_equal(phi3_sampler_draw(sampler, scores, random, &token, &error), PHI3_OK);
    assert_int_equal(token, golden->tokens[1]);
    phi3_random_free(random);
    phi3_sampler_free(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_and_draws_equal_transformers),
        cmocka_unit_test(test_greedy_only_takes_penalty_and_eos),
        cmocka_unit_test(test_the_lowest_of_equals_wins),
        cmocka_unit_test(test_scores_that_are_no_probabilities_are_refused),
        cmocka_unit_test(test_a_skipped_draw_uses_up_its_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
