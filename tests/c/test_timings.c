/* What a generation says about its time: tokens are counted exactly, seconds only grow. */

#include "core/random.h"
#define TINY_SEED 3
#include "tiny_fixture.h"

static phi3_generation *start(phi3_generation_config config, phi3_random *random,
                              phi3_prompt prompt)
{
    phi3_generation *generation;
    assert_int_equal(
        phi3_generation_create(model, NULL, &config, random, &prompt, 1, &generation, &error),
        PHI3_OK);
    return generation;
}

static phi3_generation_config greedy(int64_t max_new)
{
    phi3_generation_config config = phi3_generation_default_config();
    config.max_new_tokens = max_new;
    return config;
}

/* Runs to the end and returns the timings. */
static phi3_timings finish(phi3_generation *generation)
{
    int32_t tokens[8];
    for (bool done = false; !done;)
        assert_int_equal(phi3_generation_step(generation, NULL, tokens, &done, &error), PHI3_OK);
    phi3_timings timings = phi3_generation_timings(generation);
    phi3_generation_free(generation);
    return timings;
}

static void assert_counts(phi3_timings t, size_t prompt, size_t reused, size_t computed, size_t new)
{
    assert_int_equal(t.prompt_tokens, prompt);
    assert_int_equal(t.reused_tokens, reused);
    assert_int_equal(t.computed_tokens, computed);
    assert_int_equal(t.new_tokens, new);
}

static void test_before_and_after_the_first_token(void **state)
{
    (void)state;
    phi3_prompt prompt = {.ids = ids, .count = 30};
    phi3_generation *generation = start(greedy(5), NULL, prompt);
    phi3_timings t = phi3_generation_timings(generation);
    assert_counts(t, 30, 0, 0, 0);
    assert_true(t.prompt_seconds == 0 && t.decode_seconds == 0 && t.first_token_seconds == 0);
    assert_true(t.prompt_tokens_per_second == 0 && t.decode_tokens_per_second == 0);

    int32_t token;
    bool done;
    assert_int_equal(phi3_generation_step(generation, NULL, &token, &done, &error), PHI3_OK);
    t = phi3_generation_timings(generation);
    assert_counts(t, 30, 0, 30, 1);
    assert_true(t.prompt_seconds > 0 && t.decode_seconds == 0);
    assert_true(t.first_token_seconds >= t.prompt_seconds);
    assert_true(t.prompt_tokens_per_second == 30 / t.prompt_seconds);
    assert_true(t.decode_tokens_per_second == 0);

    double first = t.first_token_seconds, prompt_seconds = t.prompt_seconds;
    t = finish(generation);
    assert_counts(t, 30, 0, 34, 5); /* the last token is not computed */
    assert_true(t.first_token_seconds == first && t.prompt_seconds == prompt_seconds);
    assert_true(t.decode_seconds > 0 && t.decode_tokens_per_second == 4 / t.decode_seconds);
}

static void test_what_a_cache_has_is_not_computed(void **state)
{
    (void)state;
    phi3_cache *cache;
    assert_int_equal(phi3_cache_create(model, &cache, &error), PHI3_OK);
    phi3_prompt prompt = {.ids = ids, .count = 20, .cache = cache};
    finish(start(greedy(1), NULL, prompt));
    prompt.count = 31;
    phi3_timings t = finish(start(greedy(3), NULL, prompt));
    assert_counts(t, 31, 20, 11 + 2, 3);
    assert_true(t.prompt_tokens_per_second == 11 / t.prompt_seconds);

    prompt.count = TINY_ORIGINAL + 5; /* with other LongRoPE factors, nothing is of use */
    t = finish(start(greedy(1), NULL, prompt));
    assert_counts(t, TINY_ORIGINAL + 5, 0, TINY_ORIGINAL + 5, 1);
    phi3_cache_free(cache);
}

static void test_longrope_starts_over_on_the_way(void **state)
{
    (void)state;
    phi3_prompt prompt = {.ids = ids, .count = TINY_ORIGINAL - 1};
    phi3_timings t = finish(start(greedy(4), NULL, prompt));
    size_t n = TINY_ORIGINAL;
    assert_counts(t, n - 1, 0, (n - 1) + 1 + (n + 1) + 1, 4);
}

static void test_draws_share_their_prompt(void **state)
{
    (void)state;
    phi3_generation_config config = greedy(6);
    config.do_sample = true;
    config.num_return_sequences = 3;
    phi3_random *random;
    assert_int_equal(phi3_random_create(5, &random, &error), PHI3_OK);
    phi3_timings t = finish(start(config, random, (phi3_prompt){.ids = ids, .count = 12}));
    assert_counts(t, 12, 0, 12 + 3 * 5, 3 * 6);
    assert_true(t.decode_tokens_per_second == 3 * 5 / t.decode_seconds);
    phi3_random_free(random);
}

static bool stop_at_once(void *user_data)
{
    (void)user_data;
    return true;
}

static void test_an_interrupted_step_counts_its_time_only(void **state)
{
    (void)state;
    phi3_generation *generation = start(greedy(2), NULL, (phi3_prompt){.ids = ids, .count = 12});
    phi3_run_options options = {.interrupt = stop_at_once};
    int32_t token;
    bool done;
    assert_int_equal(phi3_generation_step(generation, &options, &token, &done, &error),
                     PHI3_ERROR_INTERRUPTED);
    phi3_timings t = phi3_generation_timings(generation);
    assert_counts(t, 12, 0, 0, 0);
    assert_true(t.prompt_seconds > 0 && t.first_token_seconds == 0);
    assert_counts(finish(generation), 12, 0, 12 + 1, 2);
}

static void test_what_a_token_reads(void **state)
{
    (void)state;
    const phi3_config *config = phi3_model_config(model);
    assert_int_equal(config->embedding_bytes, TINY_VOCAB * TINY_HIDDEN * sizeof(float));
    /* keys and values, 2 layers, 2 heads of 8 float32 */
    assert_int_equal(phi3_model_kv_token_bytes(model), 2 * 2 * 2 * 8 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_and_after_the_first_token),
        cmocka_unit_test(test_what_a_cache_has_is_not_computed),
        cmocka_unit_test(test_longrope_starts_over_on_the_way),
        cmocka_unit_test(test_draws_share_their_prompt),
        cmocka_unit_test(test_an_interrupted_step_counts_its_time_only),
        cmocka_unit_test(test_what_a_token_reads),
    };
    return cmocka_run_group_tests(tests, load_model, free_model);
}
