/* The loop: what it chooses, when it stops, what it refuses, and that nothing disturbs it. */
#include <pthread.h>

#include "core/random.h"
#include "core/sampler.h"
#define TINY_SEED 3
#include "tiny_fixture.h"

/* Greedy, `max_new` tokens, no EOS. */
static phi3_generation_config greedy(int64_t max_new)
{
    phi3_generation_config config = phi3_generation_default_config();
    config.max_new_tokens = max_new;
    return config;
}

static phi3_generation *new_generation(const phi3_generation_config *config, phi3_random *random,
                                       const phi3_prompt *prompts, size_t n_prompts)
{
    phi3_generation *generation;
    assert_int_equal(phi3_generation_create(model, NULL, config, random, prompts, n_prompts,
                                            &generation, &error),
                     PHI3_OK);
    return generation;
}

/* Runs to the end and returns the number of steps; tokens [n_steps][rows]. */
static size_t run(phi3_generation *generation, int32_t *tokens)
{
    size_t n_steps = 0, n_rows = phi3_generation_rows(generation);
    for (bool done = false; !done; n_steps++)
        assert_int_equal(
            phi3_generation_step(generation, NULL, tokens + n_steps * n_rows, &done, &error),
            PHI3_OK);
    return n_steps;
}

/* Greedy decoding without cache or loop: the whole sequence again for every token. */
static void expected_greedy(const int32_t *prompt, size_t count, size_t n_new, int32_t *tokens)
{
    int32_t sequence[TINY_POSITIONS];
    float logits[TINY_VOCAB];
    memcpy(sequence, prompt, count * sizeof *prompt);
    for (size_t i = 0; i < n_new; i++) {
        phi3_cache *cache;
        assert_int_equal(phi3_cache_create(model, &cache, &error), PHI3_OK);
        phi3_span span = {cache, sequence, count + i, 1};
        assert_int_equal(phi3_model_forward(model, &span, 1, NULL, logits, &error), PHI3_OK);
        int32_t best = 0;
        for (int32_t id = 1; id < TINY_VOCAB; id++)
            best = logits[id] > logits[best] ? id : best;
        sequence[count + i] = tokens[i] = best;
        phi3_cache_free(cache);
    }
}

/* ---- What it chooses -------------------------------------------------------------------------- */

static void test_greedy_equals_cacheless(void **state)
{
    (void)state;
    int32_t tokens[20], expected[20];
    phi3_generation_config config = greedy(20);
    config.output_logits = true;
    phi3_prompt prompt = {.ids = ids,
                          .count = TINY_ORIGINAL - 8}; /* crosses the LongRoPE boundary */
    phi3_generation *generation = new_generation(&config, NULL, &prompt, 1);
    assert_null(phi3_generation_logits(generation, 0));
    assert_int_equal(run(generation, tokens), 20);
    expected_greedy(ids, prompt.count, 20, expected);
    assert_memory_equal(tokens, expected, sizeof tokens);
    assert_int_equal(phi3_generation_finish(generation, 0), PHI3_FINISH_LENGTH);
    const float *logits = phi3_generation_logits(generation, 0);
    const float *scores = phi3_generation_scores(generation, 0);
    assert_memory_equal(logits, scores, TINY_VOCAB * sizeof *logits);
    for (size_t i = 0; i < TINY_VOCAB; i++)
        assert_true(logits[i] <= logits[tokens[19]]);
    bool done;
    assert_int_equal(phi3_generation_step(generation, NULL, tokens, &done, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);
    phi3_generation_free(generation);
}

static void test_rows_of_a_batch_equal_single_ones(void **state)
{
    (void)state;
    const size_t counts[] = {3, 40, 66};
    int32_t tokens[12][3], alone[12];
    phi3_prompt prompts[3];
    for (size_t i = 0; i < 3; i++)
        prompts[i] = (phi3_prompt){.ids = ids + i, .count = counts[i]};
    phi3_generation_config config = greedy(-1);
    config.max_length = 66 + 12; /* of the longest: every row gets as many new tokens */
    phi3_generation *generation = new_generation(&config, NULL, prompts, 3);
    assert_int_equal(phi3_generation_rows(generation), 3);
    assert_int_equal(run(generation, *tokens), 12);
    for (size_t i = 0; i < 3; i++) {
        expected_greedy(ids + i, counts[i], 12, alone);
        for (size_t j = 0; j < 12; j++)
            assert_int_equal(tokens[j][i], alone[j]);
    }
    phi3_generation_free(generation);
}

static void test_a_run_is_all_the_steps_that_are_left(void **state)
{
    (void)state;
    enum { N_NEW = 12, N_ROWS = 2 };
    int32_t expected[N_NEW * N_ROWS], first[N_ROWS], *tokens;
    size_t n_steps;
    bool done;
    phi3_generation_config config = greedy(N_NEW);
    const phi3_prompt prompts[N_ROWS] = {{.ids = ids, .count = 9}, {.ids = ids + 9, .count = 4}};
    phi3_generation *generation = new_generation(&config, NULL, prompts, N_ROWS);
    assert_int_equal(run(generation, expected), N_NEW);
    phi3_generation_free(generation);

    generation = new_generation(&config, NULL, prompts, N_ROWS);
    assert_int_equal(phi3_generation_step(generation, NULL, first, &done, &error), PHI3_OK);
    assert_memory_equal(first, expected, sizeof first);
    assert_int_equal(phi3_generation_run(generation, NULL, &tokens, &n_steps, &error), PHI3_OK);
    assert_int_equal(n_steps, N_NEW - 1);
    assert_memory_equal(tokens, expected + N_ROWS, (N_NEW - 1) * sizeof first);
    phi3_free(tokens);
    assert_int_equal(phi3_generation_run(generation, NULL, &tokens, &n_steps, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);
    assert_string_equal(error.message, "every row has already finished");
    phi3_generation_free(generation);
}

static void test_draws_go_row_by_row(void **state)
{
    (void)state;
    phi3_generation_config config = greedy(6);
    config.do_sample = true;
    config.temperature = 1.5;
    config.num_return_sequences = 2;
    config.output_logits = true;
    phi3_prompt prompts[2] = {{.ids = ids, .count = 5}, {.ids = ids + 9, .count = 7}};
    phi3_random *random, *same;
    assert_int_equal(phi3_random_create(11, &random, &error), PHI3_OK);
    assert_int_equal(phi3_random_create(11, &same, &error), PHI3_OK);
    phi3_sampler *sampler;
    assert_int_equal(phi3_sampler_create(&config, TINY_VOCAB, &sampler, &error), PHI3_OK);
    phi3_generation *generation = new_generation(&config, random, prompts, 2);
    int32_t tokens[4];
    bool done = false, differ = false;
    for (size_t step = 0; !done; step++) {
        assert_int_equal(phi3_generation_step(generation, NULL, tokens, &done, &error), PHI3_OK);
        phi3_random_lock(same);
        for (size_t row = 0; row < 4; row++) {
            int32_t token;
            float values[TINY_VOCAB];
            phi3_scores scores = {values, NULL, TINY_VOCAB};
            memcpy(values, phi3_generation_scores(generation, row), sizeof values);
            assert_int_equal(phi3_sampler_draw(sampler, &scores, same, &token, &error), PHI3_OK);
            assert_int_equal(tokens[row], token);
        }
        phi3_random_unlock(same);
        differ = differ || tokens[0] != tokens[1];
    }
    assert_true(differ);
    phi3_generation_free(generation);
    phi3_sampler_free(sampler);
    phi3_random_free(random);
    phi3_random_free(same);
}

/* The draws of a prompt share a prefill, then go their own ways: each row's logits must be those of
 * its own sequence. */
static void test_forked_rows_keep_apart(void **state)
{
    (void)state;
    enum { NEW = 5, ROWS = 3 };
    phi3_generation_config config = greedy(NEW);
    config.do_sample = true;
    config.temperature = 3.0;
    config.num_return_sequences = ROWS;
    config.output_logits = true;
    phi3_prompt prompt = {.ids = ids, .count = 62}; /* the new tokens begin a second page */
    phi3_random *random;
    assert_int_equal(phi3_random_create(5, &random, &error), PHI3_OK);
    phi3_generation *generation = new_generation(&config, random, &prompt, 1);
    int32_t tokens[NEW][ROWS], sequence[62 + NEW];
    run(generation, *tokens);
    memcpy(sequence, ids, sizeof ids[0] * 62);
    for (size_t row = 0; row < ROWS; row++) {
        float logits[TINY_VOCAB];
        phi3_cache *cache;
        for (size_t i = 0; i < NEW; i++)
            sequence[62 + i] = tokens[i][row];
        assert_int_equal(phi3_cache_create(model, &cache, &error), PHI3_OK);
        phi3_span span = {cache, sequence, 62 + NEW - 1, 1};
        assert_int_equal(phi3_model_forward(model, &span, 1, NULL, logits, &error), PHI3_OK);
        assert_memory_equal(logits, phi3_generation_logits(generation, row), sizeof logits);
        phi3_cache_free(cache);
    }
    phi3_generation_free(generation);
    phi3_random_free(random);
}

/* All tokens of a generation with `seed`; with output_logits it sees all logits in every step. */
static void sample(phi3_generation_config config, bool output_logits, uint64_t seed,
                   int32_t *tokens)
{
    phi3_random *random;
    phi3_prompt prompts[2] = {{.ids = ids, .count = 5}, {.ids = ids + 9, .count = 70}};
    config.output_logits = output_logits;
    assert_int_equal(phi3_random_create(seed, &random, &error), PHI3_OK);
    phi3_generation *generation = new_generation(&config, random, prompts, 2);
    run(generation, tokens);
    assert_int_equal(phi3_generation_logits(generation, 0) != NULL, output_logits);
    assert_int_equal(phi3_generation_scores(generation, 1) != NULL, output_logits);
    phi3_generation_free(generation);
    phi3_random_free(random);
}

static void test_fewer_logits_give_the_same_tokens(void **state)
{
    (void)state;
    enum { NEW = 12, ROWS = 4 };
    for (uint64_t seed = 0; seed < 12; seed++) {
        int32_t all[NEW * ROWS], few[NEW * ROWS];
        phi3_generation_config config = greedy(NEW);
        config.do_sample = true;
        config.num_return_sequences = 2;
        config.top_k = seed % 4 == 0 ? 1 : 3 * (int64_t)seed;
        config.temperature = seed % 3 == 0 ? 1.0 : 0.3 * (double)seed;
        config.top_p = seed % 2 == 0 ? 1.0 : 0.8;
        config.min_new_tokens = seed % 5 == 0 ? 3 : -1; /* then fewer from the fourth step on */
        config.eos_token_ids = &ids[3];
        config.n_eos_token_ids = 1;
        memset(all, 0, sizeof all), memset(few, 0, sizeof few);
        sample(config, true, seed, all);
        sample(config, false, seed, few);
        assert_memory_equal(all, few, sizeof all);
    }
}

/* ---- When it stops ---------------------------------------------------------------------------- */

static void test_eos_ends_a_row_and_pads_it(void **state)
{
    (void)state;
    int32_t plain[2][10], tokens[10][2];
    const size_t counts[] = {6, 9};
    phi3_prompt prompts[2];
    for (size_t i = 0; i < 2; i++) {
        prompts[i] = (phi3_prompt){.ids = ids + 20 * i, .count = counts[i]};
        expected_greedy(prompts[i].ids, counts[i], 10, plain[i]);
    }
    /* The EOS is what row 0 says third, if row 1 does not say it. */
    phi3_generation_config config = greedy(10);
    const int32_t eos[] = {TINY_VOCAB + 5, plain[0][2]};
    config.eos_token_ids = eos;
    config.n_eos_token_ids = 2;
    config.pad_token_id = 1;
    phi3_generation *generation = new_generation(&config, NULL, prompts, 2);
    size_t n_steps = run(generation, *tokens), ends[2] = {0, 0};
    for (size_t row = 0; row < 2; row++) {
        while (ends[row] < n_steps && plain[row][ends[row]] != eos[1])
            ends[row]++;
        for (size_t i = 0; i < n_steps; i++)
            assert_int_equal(tokens[i][row], i <= ends[row] ? plain[row][i] : 1);
        assert_int_equal(phi3_generation_finish(generation, row),
                         ends[row] < n_steps ? PHI3_FINISH_EOS : PHI3_FINISH_LENGTH);
    }
    assert_true(ends[0] <= 2 && ends[1] != ends[0]);
    phi3_generation_free(generation);
}

static void test_min_new_tokens_forbids_eos(void **state)
{
    (void)state;
    int32_t plain[10], tokens[10];
    phi3_prompt prompt = {.ids = ids, .count = 6};
    expected_greedy(ids, 6, 10, plain);
    phi3_generation_config config = greedy(10);
    config.eos_token_ids = &plain[0];
    config.n_eos_token_ids = 1;
    phi3_generation *generation = new_generation(&config, NULL, &prompt, 1);
    assert_int_equal(run(generation, tokens), 1);
    phi3_generation_free(generation);

    config.min_new_tokens = 4;
    generation = new_generation(&config, NULL, &prompt, 1);
    assert_true(run(generation, tokens) >= 5);
    for (size_t i = 0; i < 4; i++)
        assert_int_not_equal(tokens[i], plain[0]);
    phi3_generation_free(generation);

    config.min_new_tokens = -1;
    config.min_length = 6 + 4;
    int32_t again[10];
    generation = new_generation(&config, NULL, &prompt, 1);
    size_t n_steps = run(generation, again);
    assert_memory_equal(tokens, again, n_steps * sizeof *again);
    phi3_generation_free(generation);
}

static void test_lengths(void **state)
{
    (void)state;
    int32_t tokens[64];
    phi3_prompt prompt = {.ids = ids, .count = 10};
    const struct {
        int64_t max_new_tokens, max_length;
        size_t count, n_steps;
    } cases[] = {{4, -1, 10, 4},
                 {4, 12, 10, 4},
                 {-1, 12, 10, 2},
                 {-1, -1, 10, 20},
                 {-1, -1, TINY_POSITIONS - 3, 3},
                 {50, -1, TINY_POSITIONS - 3, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        phi3_generation_config config = greedy(cases[i].max_new_tokens);
        config.max_length = cases[i].max_length;
        prompt.count = cases[i].count;
        phi3_generation *generation = new_generation(&config, NULL, &prompt, 1);
        assert_int_equal(run(generation, tokens), cases[i].n_steps);
        phi3_generation_free(generation);
    }
}

/* ---- Caches of the caller --------------------------------------------------------------------- */

static void test_a_cache_is_reused_as_far_as_it_agrees(void **state)
{
    (void)state;
    int32_t sequence[60], tokens[5], expected[5];
    size_t length;
    phi3_cache *cache;
    phi3_generation_config config = greedy(5);
    assert_int_equal(phi3_cache_create(model, &cache, &error), PHI3_OK);
    phi3_prompt prompt = {.ids = ids, .count = 30, .cache = cache};
    phi3_generation *generation = new_generation(&config, NULL, &prompt, 1);
    run(generation, tokens);
    phi3_generation_free(generation);
    phi3_cache_ids(cache, &length);
    assert_int_equal(length, 34); /* the newest token has not been computed */

    memcpy(sequence, ids, 30 * sizeof *ids);
    memcpy(sequence + 30, tokens, 5 * sizeof *ids);
    memcpy(sequence + 35, ids + 100, 10 * sizeof *ids);
    const struct {
        size_t count, differs_at, kept;
    } turns[] = {{45, 45, 34}, {45, 45, 44}, {20, 20, 19}, {45, 12, 12}};
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        if (turns[i].differs_at < turns[i].count)
            sequence[turns[i].differs_at] = (sequence[turns[i].differs_at] + 1) % TINY_VOCAB;
        prompt = (phi3_prompt){.ids = sequence, .count = turns[i].count, .cache = cache};
        generation = new_generation(&config, NULL, &prompt, 1);
        phi3_cache_ids(cache, &length);
        assert_int_equal(length, turns[i].kept);
        run(generation, tokens);
        phi3_generation_free(generation);
        expected_greedy(sequence, turns[i].count, 5, expected);
        assert_memory_equal(tokens, expected, sizeof tokens);
    }
    phi3_cache_free(cache);
}

/* ---- What disturbs it ------------------------------------------------------------------------- */

static bool count_down(void *user_data)
{
    size_t *left = user_data;
    return (*left)-- == 0;
}

static void test_an_interrupted_step_can_be_repeated(void **state)
{
    (void)state;
    int32_t tokens[8], expected[8];
    phi3_generation_config config = greedy(8);
    phi3_prompt prompt = {.ids = ids, .count = TINY_ORIGINAL - 4};
    phi3_generation *generation = new_generation(&config, NULL, &prompt, 1);
    expected_greedy(ids, prompt.count, 8, expected);
    bool done = false;
    for (size_t i = 0; i < 8; i++) {
        phi3_status status = PHI3_ERROR_INTERRUPTED;
        for (size_t patience = i; status != PHI3_OK; patience += 3) {
            size_t left = patience;
            phi3_run_options options = {.interrupt = count_down, .interrupt_data = &left};
            status = phi3_generation_step(generation, &options, &tokens[i], &done, &error);
            assert_true(status == PHI3_OK || status == PHI3_ERROR_INTERRUPTED);
        }
    }
    assert_true(done);
    assert_memory_equal(tokens, expected, sizeof tokens);
    phi3_generation_free(generation);
}

static bool step_inside_a_step(void *user_data)
{
    int32_t token;
    bool done;
    phi3_generation *generation = user_data;
    assert_int_equal(phi3_generation_step(generation, NULL, &token, &done, &error),
                     PHI3_ERROR_BUSY);
    return false;
}

static void test_a_generation_in_use_is_busy(void **state)
{
    (void)state;
    int32_t token;
    bool done;
    phi3_generation_config config = greedy(3);
    phi3_prompt prompt = {.ids = ids, .count = 3};
    phi3_generation *generation = new_generation(&config, NULL, &prompt, 1);
    phi3_run_options options = {.interrupt = step_inside_a_step, .interrupt_data = generation};
    assert_int_equal(phi3_generation_step(generation, &options, &token, &done, &error), PHI3_OK);
    phi3_generation_free(generation);
}

typedef struct worker {
    pthread_t thread;
    const int32_t *prompt;
    size_t count;
    int32_t tokens[30];
    phi3_status status;
} worker;

static void *generate_in_thread(void *argument)
{
    worker *self = argument;
    phi3_generation_config config = greedy(30);
    phi3_prompt prompt = {.ids = self->prompt, .count = self->count};
    phi3_generation *generation = NULL;
    phi3_error own;
    self->status =
        phi3_generation_create(model, NULL, &config, NULL, &prompt, 1, &generation, &own);
    bool done = false;
    for (size_t i = 0; self->status == PHI3_OK && !done; i++)
        self->status = phi3_generation_step(generation, NULL, &self->tokens[i], &done, &own);
    phi3_generation_free(generation);
    return NULL;
}

static void test_threads_share_a_model(void **state)
{
    (void)state;
    worker workers[4];
    for (size_t i = 0; i < 4; i++) {
        workers[i] = (worker){.prompt = ids + i, .count = 30 + 10 * i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, generate_in_thread, &workers[i]),
                         0);
    }
    for (size_t i = 0; i < 4; i++) {
        int32_t expected[30];
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].status, PHI3_OK);
        expected_greedy(workers[i].prompt, workers[i].count, 30, expected);
        assert_memory_equal(workers[i].tokens, expected, sizeof expected);
    }
}

/* ---- What it refuses -------------------------------------------------------------------------- */

static void refuse(phi3_generation_config config, phi3_prompt prompt, const char *message)
{
    phi3_generation *generation = NULL;
    assert_int_equal(
        phi3_generation_create(model, NULL, &config, NULL, &prompt, 1, &generation, &error),
        PHI3_ERROR_INVALID_ARGUMENT);
    assert_null(generation);
    if (strncmp(error.message, message, strlen(message)) != 0)
        fail_msg("\"%s\" is not \"%s\"", error.message, message);
}

/* Sampling, with one argument changed. */
#define WITH(field, value) (config = sampled, config.field = (value), config)

static void test_arguments_are_checked_as_transformers_does(void **state)
{
    (void)state;
    phi3_prompt prompt = {.ids = ids, .count = 10};
    phi3_generation_config config, sampled = greedy(5);
    sampled.do_sample = true;
    refuse(WITH(temperature, 0), prompt,
           "`temperature` has to be a strictly positive float, but is 0.0. For greedy search set "
           "`do_sample=False`.");
    refuse(WITH(temperature, -0.25), prompt,
           "`temperature` has to be a strictly positive float, but is -0.25.");
    refuse(WITH(top_k, -1), prompt, "`top_k` has to be a strictly positive integer, but is -1");
    refuse(WITH(top_p, -0.1), prompt, "`top_p` has to be a float in [0, 1], but is -0.1");
    refuse(WITH(min_p, 1.5), prompt, "`min_p` has to be a float in [0, 1], but is 1.5");
    refuse(WITH(repetition_penalty, 0), prompt,
           "`repetition_penalty` has to be a strictly positive float, but is 0.0");
    refuse(WITH(max_new_tokens, 0), prompt, "`max_new_tokens` must be greater than 0, but is 0");
    refuse(WITH(num_return_sequences, 0), prompt, "`num_return_sequences`");
    refuse(WITH(top_p, 1.5), prompt, "do_sample needs a random generator");

    config = greedy(5);
    config.num_return_sequences = 2;
    refuse(config, prompt, "Greedy search gives one result: set do_sample=True");
    config = greedy(-1);
    config.max_length = 10;
    refuse(config, prompt,
           "Input length of input_ids is 10, but `max_length` is set to 10: increase");
    config = greedy(5);
    config.stop_strings = (const char *[]){"x"};
    config.n_stop_strings = 1;
    refuse(config, prompt, "stop strings need the model's tokenizer");
    config.stop_strings = (const char *[]){""};
    refuse(config, prompt, "a stop string is empty");

    int32_t outside[] = {5, TINY_VOCAB};
    refuse(greedy(5), (phi3_prompt){.ids = outside, .count = 2},
           "token id 96 of prompt 0 is not in the vocabulary of 96");
    refuse(greedy(5), (phi3_prompt){.ids = ids, .count = 0}, "prompt 0 is empty");
    refuse(greedy(5), (phi3_prompt){.ids = ids, .count = TINY_POSITIONS},
           "Input length of input_ids is 700");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_equals_cacheless),
        cmocka_unit_test(test_rows_of_a_batch_equal_single_ones),
        cmocka_unit_test(test_a_run_is_all_the_steps_that_are_left),
        cmocka_unit_test(test_draws_go_row_by_row),
        cmocka_unit_test(test_forked_rows_keep_apart),
        cmocka_unit_test(test_fewer_logits_give_the_same_tokens),
        cmocka_unit_test(test_eos_ends_a_row_and_pads_it),
        cmocka_unit_test(test_min_new_tokens_forbids_eos),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_a_cache_is_reused_as_far_as_it_agrees),
        cmocka_unit_test(test_an_interrupted_step_can_be_repeated),
        cmocka_unit_test(test_a_generation_in_use_is_busy),
        cmocka_unit_test(test_threads_share_a_model),
        cmocka_unit_test(test_arguments_are_checked_as_transformers_does),
    };
    return cmocka_run_group_tests(tests, load_model, free_model);
}
