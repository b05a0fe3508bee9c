/*
 * test_cuda_model.c - the whole model on a card (or the emulator) says what the reference says:
 * every format, ragged batches, long prompts, forks, threads, steps as they come and as graphs.
 */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>

#include "core/cache.h"
#include "core/model.h"
#define TINY_WIDE
#define TINY_SEED 11
#include "../c/tiny_fixture.h"

enum { N_PROMPTS = 3, N_NEW = 10 };

/* The second crosses the LongRoPE boundary on its way. */
static const size_t prompt_lengths[N_PROMPTS] = {3, 64, 17};

static phi3_model *load_on(const char *device, const char *compute, const char *quantization)
{
    phi3_model_options options = {
        .device = device, .compute_dtype = compute, .quantization = quantization};
    phi3_model *loaded = NULL;
    if (tiny_model_open_with(tiny_config, &options, &loaded, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    return loaded;
}

/* A number that only the emulator knows; 0 on a card. */
static size_t ask_emulator(const char *name)
{
    size_t (*ask)(void) = NULL;
    void *library = dlopen(getenv("PHI3_CUDA_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    *(void **)&ask = dlsym(library, name);
    size_t answer = ask == NULL ? 0 : ask();
    dlclose(library);
    return answer;
}

static bool on_emulator(void)
{
    return ask_emulator("emulator_device_bytes") > 0;
}

/* ---- Greedy tokens ------------------------------------------------------------------------------ */

/* The prompts together, N_NEW steps: tokens [N_NEW][N_PROMPTS]. */
static void generate(const phi3_model *on, int32_t tokens[N_NEW][N_PROMPTS])
{
    phi3_prompt prompts[N_PROMPTS];
    for (size_t p = 0; p < N_PROMPTS; p++)
        prompts[p] = (phi3_prompt){ids + 7 * p, prompt_lengths[p], NULL};
    phi3_generation_config config = phi3_generation_default_config();
    config.max_new_tokens = N_NEW;
    phi3_generation *generation;
    assert_int_equal(
        phi3_generation_create(on, NULL, &config, NULL, prompts, N_PROMPTS, &generation, &error),
        PHI3_OK);
    bool done = false;
    for (size_t i = 0; i < N_NEW; i++)
        if (phi3_generation_step(generation, NULL, tokens[i], &done, &error) != PHI3_OK)
            fail_msg("%s", error.message);
    assert_true(done);
    phi3_generation_free(generation);
}

static void assert_tokens(int32_t got[N_NEW][N_PROMPTS], int32_t want[N_NEW][N_PROMPTS],
                          const char *what)
{
    for (size_t i = 0; i < N_NEW; i++)
        for (size_t p = 0; p < N_PROMPTS; p++)
            if (got[i][p] != want[i][p])
                fail_msg("%s: token %zu of prompt %zu is %d, not %d", what, i, p, got[i][p],
                         want[i][p]);
}

/* Exact products give the reference's tokens, in every format. */
static void test_tokens_are_the_references(void **state)
{
    (void)state;
    const char *const types[] = {NULL, "q4_0", "q4_k_m", "q2_k"};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        int32_t want[N_NEW][N_PROMPTS], got[N_NEW][N_PROMPTS];
        phi3_model *reference = load_on("reference", "float32", types[t]);
        generate(reference, want);
        phi3_model_free(reference);
        phi3_model *cuda = load_on("cuda", "float32", types[t]);
        generate(cuda, got);
        phi3_model_free(cuda);
        assert_tokens(got, want, types[t] == NULL ? "f32" : types[t]);
    }
}

/* Steps that were recorded give what they give one by one, and they are recorded. */
static void test_graphs_change_nothing(void **state)
{
    (void)state;
    phi3_model *cuda = load_on("cuda", "mixed", "q4_0");
    int32_t want[N_NEW][N_PROMPTS], got[N_NEW][N_PROMPTS];
    setenv("PHI3_CUDA_GRAPHS", "0", 1);
    size_t before = ask_emulator("emulator_graph_launches");
    generate(cuda, want);
    assert_int_equal(ask_emulator("emulator_graph_launches"), before);
    unsetenv("PHI3_CUDA_GRAPHS");
    generate(cuda, got);
    assert_tokens(got, want, "recorded");
    if (on_emulator()) /* all steps but the prompt's and two of each shape */
        assert_true(ask_emulator("emulator_graph_launches") > before + N_NEW / 2);
    phi3_model_free(cuda);
}

/* ---- Logits ------------------------------------------------------------------------------------- */

static void feed(phi3_cache *cache, const int32_t *tokens, size_t count, float *logits)
{
    phi3_span span = {cache, tokens, count, 1};
    if (phi3_model_forward(cache->model, &span, 1, NULL, logits, &error) != PHI3_OK)
        fail_msg("%s", error.message);
}

static phi3_cache *cache_on(const phi3_model *on)
{
    phi3_cache *cache;
    assert_int_equal(phi3_cache_create(on, &cache, &error), PHI3_OK);
    return cache;
}

/* The root mean square of the difference, as a part of that of the values. */
static double distance(const float *a, const float *b)
{
    double squares = 0, difference = 0;
    for (size_t i = 0; i < TINY_VOCAB; i++) {
        squares += (double)b[i] * b[i];
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    }
    return sqrt(difference / squares);
}

/* Fast products are off by no more than their rounding: 8 bits of activations, bfloat16 of many rows.
 * 2^-8 of each of a dozen sums, which partly cancel. */
static void test_mixed_logits_are_near(void **state)
{
    (void)state;
    const char *const types[] = {"q8_0", "q4_k_m", "bf16"};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        phi3_model *reference = load_on("reference", "float32", types[t]);
        phi3_model *cuda = load_on("cuda", "mixed", types[t]);
        phi3_cache *there = cache_on(cuda), *here = cache_on(reference);
        const size_t steps[] = {1, 9, 40, 1};
        const int32_t *at = ids;
        for (size_t s = 0; s < sizeof steps / sizeof *steps; at += steps[s++]) {
            float got[TINY_VOCAB], want[TINY_VOCAB];
            feed(there, at, steps[s], got);
            feed(here, at, steps[s], want);
            if (!(distance(got, want) <= 0.05))
                fail_msg("%s: step %zu is off by %g", types[t], s, distance(got, want));
        }
        phi3_cache_free(there), phi3_cache_free(here);
        phi3_model_free(cuda), phi3_model_free(reference);
    }
}

/* More rows than a chunk has. */
static void test_a_long_prompt(void **state)
{
    (void)state;
    float got[TINY_VOCAB], want[TINY_VOCAB];
    phi3_model *cuda = load_on("cuda", "float32", NULL);
    phi3_cache *there = cache_on(cuda), *here = new_cache();
    feed(there, ids, 530, got);
    feed(here, ids, 530, want);
    assert_true(distance(got, want) < 1e-4);
    phi3_cache_free(there), phi3_cache_free(here);
    phi3_model_free(cuda);
}

/* A fork goes its own way, from the middle of a page and from its end. */
static void test_forks(void **state)
{
    (void)state;
    phi3_model *cuda = load_on("cuda", "float32", NULL);
    const size_t lengths[] = {10, 64};
    for (size_t i = 0; i < 2; i++) {
        float ours[TINY_VOCAB], its[TINY_VOCAB], want[TINY_VOCAB];
        phi3_cache *cache = cache_on(cuda), *fork = NULL, *fresh = new_cache();
        feed(cache, ids, lengths[i], ours);
        assert_int_equal(phi3_cache_fork(cache, &fork, &error), PHI3_OK);
        feed(cache, ids + 300, 5, ours);
        feed(fork, ids + 400, 5, its);
        feed(fork, ids + 405, 1, its);
        feed(fresh, ids, lengths[i], want);
        feed(fresh, ids + 300, 5, want);
        assert_true(distance(ours, want) < 1e-4);
        assert_int_equal(phi3_cache_truncate(fresh, lengths[i], &error), PHI3_OK);
        feed(fresh, ids + 400, 6, want);
        assert_true(distance(its, want) < 1e-4);
        phi3_cache_free(cache), phi3_cache_free(fork), phi3_cache_free(fresh);
    }
    phi3_model_free(cuda);
}

/* ---- What stops a step --------------------------------------------------------------------------- */

static bool count_down(void *user_data)
{
    size_t *left = user_data;
    return (*left)-- == 0;
}

/* At each of its points, a step that is recorded and one that is not: the next one is right. */
static void test_interrupts(void **state)
{
    (void)state;
    phi3_model *cuda = load_on("cuda", "float32", NULL);
    for (size_t past = 5; past < 8; past++) {
        size_t n_points = 0;
        for (phi3_status status = PHI3_ERROR_INTERRUPTED; status != PHI3_OK; n_points++) {
            float got[TINY_VOCAB], want[TINY_VOCAB];
            phi3_cache *cache = cache_on(cuda), *fresh = new_cache();
            feed(cache, ids, past, got);
            size_t left = n_points;
            phi3_run_options options = {.interrupt = count_down, .interrupt_data = &left};
            phi3_span span = {cache, ids + past, 1, 1};
            status = phi3_model_forward(cuda, &span, 1, &options, got, &error);
            if (status != PHI3_OK) {
                assert_int_equal(status, PHI3_ERROR_INTERRUPTED);
                feed(cache, ids + past, 1, got);
            }
            feed(fresh, ids, past + 1, want);
            assert_true(distance(got, want) < 1e-4);
            phi3_cache_free(cache), phi3_cache_free(fresh);
        }
        assert_true(n_points > 1);
    }
    phi3_model_free(cuda);
}

/* ---- Threads ------------------------------------------------------------------------------------- */

typedef struct worker {
    const phi3_model *cuda;
    int32_t tokens[N_NEW][N_PROMPTS];
} worker;

static void *work(void *argument)
{
    worker *w = argument;
    generate(w->cuda, w->tokens);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { N_THREADS = 2 };
    worker workers[N_THREADS];
    pthread_t threads[N_THREADS];
    int32_t want[N_NEW][N_PROMPTS];
    generate(model, want);
    phi3_model *cuda = load_on("cuda", "float32", NULL);
    for (int i = 0; i < N_THREADS; i++) {
        workers[i].cuda = cuda;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_tokens(workers[i].tokens, want, "beside other threads");
    }
    phi3_model_free(cuda);
}

/* ---- Afterwards ----------------------------------------------------------------------------------- */

/* cuBLAS handles and their workspaces are kept for the next model; nothing else. */
static void test_nothing_is_left(void **state)
{
    (void)state;
    size_t bytes = ask_emulator("emulator_device_bytes");
    size_t objects = ask_emulator("emulator_objects");
    float logits[TINY_VOCAB];
    phi3_model *cuda = load_on("cuda", "float32", NULL);
    phi3_cache *cache = cache_on(cuda);
    for (size_t i = 0; i < 5; i++)
        feed(cache, ids + 40 * i, i == 0 ? 40 : 1, logits);
    if (on_emulator())
        assert_true(ask_emulator("emulator_device_bytes") > bytes);
    phi3_cache_free(cache);
    phi3_model_free(cuda);
    assert_int_equal(ask_emulator("emulator_device_bytes"), bytes);
    assert_int_equal(ask_emulator("emulator_objects"), objects);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_are_the_references),
        cmocka_unit_test(test_graphs_change_nothing),
        cmocka_unit_test(test_mixed_logits_are_near),
        cmocka_unit_test(test_a_long_prompt),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_interrupts),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, load_model, free_model);
}
