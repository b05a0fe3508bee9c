/*
 * test_cuda_devices.c - models on several devices, and on some that are too small. The emulator has two
 * cards of 64 MiB here; or, with the argument "small", of 10.5 MiB, less than the tiny model takes.
 *
 * A split model says what the reference says, wherever it is cut; "auto" and limits put as much on the
 * cards as fits; what does not fit is an error with the numbers in it, and nothing is left behind.
 */
#include <dlfcn.h>
#include <math.h>

#define TINY_WIDE
#define TINY_SEED 13
#include "../c/tiny_fixture.h"
#include "core/cache.h"
#include "core/model.h"

static phi3_status try_load(const char *device, const char *max_memory, const char *quantization,
                            phi3_model **loaded)
{
    phi3_model_options options = {.device = device,
                                  .max_memory = max_memory,
                                  .compute_dtype = "float32",
                                  .quantization = quantization};
    return tiny_model_open_with(tiny_config, &options, loaded, &error);
}

static phi3_model *load_on(const char *device, const char *max_memory, const char *quantization)
{
    phi3_model *loaded = NULL;
    if (try_load(device, max_memory, quantization, &loaded) != PHI3_OK)
        fail_msg("%s", error.message);
    return loaded;
}

static void assert_refused(const char *device, const char *max_memory, phi3_status status,
                           const char *part_of_message)
{
    phi3_model *loaded = NULL;
    assert_int_equal(try_load(device, max_memory, NULL, &loaded), status);
    assert_null(loaded);
    if (strstr(error.message, part_of_message) == NULL)
        fail_msg("%s", error.message);
}

static size_t n_kept; /* bytes of the cards, by cuBLAS */

static size_t device_bytes(void)
{
    size_t (*ask)(void) = NULL;
    void *library = dlopen(getenv("PHI3_CUDA_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    *(void **)&ask = dlsym(library, "emulator_device_bytes");
    assert_non_null(ask);
    size_t bytes = ask();
    dlclose(library);
    return bytes;
}

/* Where the embedding, the two layers, the norm and the head are: "cpu cpu cuda:0 cuda:0 cuda:0"; or
 * one device for all. */
static void assert_places(const phi3_model *loaded, const char *expected)
{
    phi3_module_place places[TINY_LAYERS + 3];
    char found[256] = "";
    size_t count = phi3_model_device_map(loaded, places, TINY_LAYERS + 3);
    assert_true(count == 1 || count == TINY_LAYERS + 3);
    for (size_t i = 0; i < count; i++) {
        strcat(found, i > 0 ? " " : "");
        strcat(found, places[i].device);
    }
    assert_string_equal(found, expected);
    assert_string_equal(phi3_model_device(loaded), places[count - 1].device);
}

/* ---- The same answers ----------------------------------------------------------------------------- */

static void forward(const phi3_model *on, const phi3_span *spans, size_t n_spans, float *logits)
{
    if (phi3_model_forward(on, spans, n_spans, NULL, logits, &error) != PHI3_OK)
        fail_msg("%s", error.message);
}

static void feed(phi3_cache *cache, const int32_t *tokens, size_t count, float *logits)
{
    phi3_span span = {cache, tokens, count, logits != NULL};
    forward(cache->model, &span, 1, logits);
}

/* Logits after a prompt, a token, a fork's own tokens, and a cut, [4][vocab]. */
static void ask(const phi3_model *on, float logits[4][TINY_VOCAB])
{
    phi3_cache *cache, *fork;
    assert_int_equal(phi3_cache_create(on, &cache, &error), PHI3_OK);
    feed(cache, ids, 90, logits[0]);
    feed(cache, ids + 90, 1, logits[1]);
    assert_int_equal(phi3_cache_fork(cache, &fork, &error), PHI3_OK);
    const phi3_span both[] = {{fork, ids + 100, 5, 1}, {cache, ids + 91, 1, 0}};
    forward(on, both, 2, logits[2]);
    assert_int_equal(phi3_cache_truncate(cache, 30, &error), PHI3_OK);
    feed(cache, ids + 30, 3, logits[3]);
    phi3_cache_free(fork);
    phi3_cache_free(cache);
}

static void assert_near(float got[4][TINY_VOCAB], float want[4][TINY_VOCAB], const char *what)
{
    for (int i = 0; i < 4; i++) {
        double squares = 0, difference = 0;
        for (size_t j = 0; j < TINY_VOCAB; j++) {
            squares += (double)want[i][j] * want[i][j];
            difference += ((double)got[i][j] - want[i][j]) * ((double)got[i][j] - want[i][j]);
        }
        if (!(sqrt(difference / squares) < 1e-4))
            fail_msg("%s: logits %d are off by %g", what, i, sqrt(difference / squares));
    }
}

static const char *const maps[] = {
    "model=cpu,model.layers.1=cuda,lm_head=cuda",
    "model=cuda,lm_head=cpu",
    "model.embed_tokens=cpu,model.layers=1,lm_head=cpu",
    "model.embed_tokens=cuda:1,model.layers.0=0,model.layers.1=1,lm_head=0",
    "model=reference,model.layers.0=cuda:1,model.layers.1=cpu,lm_head=cuda:0",
};

static void test_every_split_says_the_same(void **state)
{
    (void)state;
    const char *const types[] = {NULL, "q4_0", "q4_k_m"};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        float want[4][TINY_VOCAB], got[4][TINY_VOCAB];
        phi3_model *reference = load_on("reference", NULL, types[t]);
        ask(reference, want);
        phi3_model_free(reference);
        for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
            phi3_model *split = load_on(maps[i], NULL, types[t]);
            ask(split, got);
            assert_near(got, want, maps[i]);
            phi3_model_free(split);
            assert_int_equal(device_bytes(), n_kept);
        }
    }
}

/* Greedy tokens of several sequences together, in steps that a device records. */
static void test_greedy_tokens(void **state)
{
    (void)state;
    enum { N_ROWS = 3, N_STEPS = 8 };
    int32_t tokens[2][N_STEPS][N_ROWS];
    for (int m = 0; m < 2; m++) {
        phi3_model *on = load_on(m == 0 ? "reference" : maps[0], NULL, "q8_0");
        const phi3_prompt prompts[N_ROWS] = {{ids, 5, NULL}, {ids + 9, 66, NULL}, {ids, 1, NULL}};
        phi3_generation_config config = phi3_generation_default_config();
        config.max_new_tokens = N_STEPS;
        phi3_generation *generation;
        assert_int_equal(
            phi3_generation_create(on, NULL, &config, NULL, prompts, N_ROWS, &generation, &error),
            PHI3_OK);
        bool done;
        for (int i = 0; i < N_STEPS; i++)
            assert_int_equal(phi3_generation_step(generation, NULL, tokens[m][i], &done, &error),
                             PHI3_OK);
        phi3_generation_free(generation);
        phi3_model_free(on);
    }
    assert_memory_equal(tokens[1], tokens[0], sizeof tokens[0]);
}

/* ---- Memory --------------------------------------------------------------------------------------- */

static void test_as_much_as_fits(void **state)
{
    (void)state;
    const struct {
        const char *device, *max_memory, *places;
    } cases[] = {
        {"auto", NULL, "cuda:0"},
        /* One layer and the head on the first card, the other layer on the second. */
        {"auto", "0=10MiB,1=10MiB", "cpu cuda:1 cuda:0 cuda:0 cuda:0"},
        {"auto", "0=10MiB", "cpu cpu cuda:0 cuda:0 cuda:0"},
        {"auto", "1=10MiB,cpu=1GiB", "cpu cpu cuda:1 cuda:1 cuda:1"},
        {"auto", "1=7MiB", "cpu cpu cpu cuda:1 cuda:1"},
        {"auto", "cpu=1GiB", "cpu"},
        {"auto", "0=1KiB,1=1MiB,cpu=1GiB", "cpu"},
        {"auto", "7=6GiB,0=7MiB", "cpu cpu cpu cuda:0 cuda:0"}, /* there is no such card */
        {"cuda", "10MiB", "cpu cpu cuda:0 cuda:0 cuda:0"},
        {"cuda:1", "1=1GiB", "cuda:1"},
        {"1", "0", "cpu"},
    };
    float want[4][TINY_VOCAB], got[4][TINY_VOCAB];
    ask(model, want);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        phi3_model *split = load_on(cases[i].device, cases[i].max_memory, NULL);
        assert_places(split, cases[i].places);
        ask(split, got);
        assert_near(got, want, cases[i].places);
        phi3_model_free(split);
        assert_int_equal(device_bytes(), n_kept);
    }
}

static void test_too_little_memory(void **state)
{
    (void)state;
    phi3_model *split = load_on("auto", NULL, NULL);
    assert_places(split, "cpu cuda:1 cuda:0 cuda:0 cuda:0");
    phi3_model_free(split);
    split = load_on("cuda", "0=1GiB", NULL);
    assert_places(split, "cpu cpu cuda:0 cuda:0 cuda:0");
    phi3_model_free(split);
    assert_refused("cuda", NULL, PHI3_ERROR_OUT_OF_MEMORY, "on cuda:0, where 10.5 MiB of 10.5 MiB");
    assert_refused("cuda:1", "cpu=1KiB", PHI3_ERROR_OUT_OF_MEMORY, "on cuda:1, where 10.5 MiB");
    assert_refused("model=1,lm_head=1", NULL, PHI3_ERROR_OUT_OF_MEMORY, "on cuda:1");
    assert_refused("cuda", "0=7MiB,cpu=1KiB", PHI3_ERROR_OUT_OF_MEMORY,
                   "on cpu, where max_memory allows 1.0 KiB");
    assert_refused("model=cpu,lm_head=0", "0=1KiB", PHI3_ERROR_OUT_OF_MEMORY,
                   "on cuda:0, where max_memory allows 1.0 KiB");
    assert_int_equal(device_bytes(), n_kept);
}

/* A cache that grows until the card is full: what it held before is still there. */
static void test_a_card_that_fills_up(void **state)
{
    (void)state;
    enum { MAX_CACHES = 200 };
    phi3_model *split = load_on(maps[0], NULL, NULL);
    float want[TINY_VOCAB], got[TINY_VOCAB];
    phi3_cache *caches[MAX_CACHES] = {NULL}, *first = NULL;
    size_t n_caches = 0, length;
    phi3_status status = PHI3_OK;
    while (status == PHI3_OK && n_caches < MAX_CACHES) {
        phi3_cache **cache = &caches[n_caches++];
        assert_int_equal(phi3_cache_create(split, cache, &error), PHI3_OK);
        phi3_span span = {*cache, ids, 1, 0};
        status = phi3_model_forward(split, &span, 1, NULL, NULL, &error);
    }
    assert_int_equal(status, PHI3_ERROR_OUT_OF_MEMORY);
    assert_non_null(strstr(error.message, "cuda:0 is out of memory"));
    assert_true(n_caches > 1);
    phi3_cache_ids(caches[n_caches - 1], &length);
    assert_int_equal(length, 0);
    phi3_cache_free(caches[--n_caches]);

    first = caches[0];
    phi3_span next = {first, ids + 1, 1, 1};
    forward(split, &next, 1, got);
    phi3_cache *fresh = new_cache();
    phi3_span whole = {fresh, ids, 2, 1};
    forward(model, &whole, 1, want);
    for (size_t i = 0; i < TINY_VOCAB; i++)
        assert_true(fabsf(got[i] - want[i]) < 1e-3f * (1 + fabsf(want[i])));
    phi3_cache_free(fresh);
    while (n_caches > 0)
        phi3_cache_free(caches[--n_caches]);
    phi3_model_free(split);
    assert_int_equal(device_bytes(), n_kept);
}

/* ---- Words ---------------------------------------------------------------------------------------- */

static void test_words(void **state)
{
    (void)state;
    phi3_backend_info infos[8];
    assert_int_equal(phi3_backends(infos, 8), 4);
    assert_string_equal(infos[0].name, "cuda:0");
    assert_string_equal(infos[1].name, "cuda:1");
    assert_true(infos[0].available && infos[1].available);
    assert_refused("cuda:2", NULL, PHI3_ERROR_DEVICE,
                   "device \"cuda:2\": there are 2 CUDA devices");
    assert_refused("2", NULL, PHI3_ERROR_DEVICE, "there are 2 CUDA devices");
    assert_refused("cuda:1", "0=6GiB", PHI3_ERROR_INVALID_ARGUMENT,
                   "max_memory names cuda:0, but the model goes to cuda:1");
    assert_refused("cuda", "0=1GiB,cuda=2GiB", PHI3_ERROR_INVALID_ARGUMENT, "cuda:0 twice");
    assert_refused("cuda", "9=1GiB", PHI3_ERROR_DEVICE, "max_memory: device \"9\"");
    setenv("PHI3_DEVICE", "cuda:1", 1);
    phi3_model *chosen = load_on("auto", NULL, "q4_0");
    assert_places(chosen, "cuda:1");
    phi3_model_free(chosen);
    unsetenv("PHI3_DEVICE");
    phi3_model *all = load_on("1", NULL, "q4_0");
    assert_places(all, "cuda:1");
    phi3_model_free(all);
}

/* cuBLAS keeps its memory from its first product on: it is there before anything is counted. */
static int set_up(void **state)
{
    const char *const cards[] = {"cuda:0", "cuda:1"};
    if (load_model(state) != 0)
        return 1;
    for (int i = 0; i < 2; i++) {
        float logits[4][TINY_VOCAB];
        phi3_model *on = NULL;
        if (try_load(cards[i], NULL, "q4_0", &on) != PHI3_OK) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        ask(on, logits);
        phi3_model_free(on);
    }
    n_kept = device_bytes();
    return 0;
}

int main(int n_arguments, char **arguments)
{
    bool small = n_arguments > 1 && strcmp(arguments[1], "small") == 0;
    setenv("EMULATOR_DEVICES", "2", 1);
    setenv("EMULATOR_MEMORY", small ? "11010048" : "67108864", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_says_the_same),
        cmocka_unit_test(test_greedy_tokens),
        cmocka_unit_test(test_as_much_as_fits),
        cmocka_unit_test(test_words),
    };
    const struct CMUnitTest small_tests[] = {
        cmocka_unit_test(test_too_little_memory),
        cmocka_unit_test(test_a_card_that_fills_up),
    };
    if (small)
        return cmocka_run_group_tests(small_tests, load_model, free_model);
    return cmocka_run_group_tests(tests, set_up, free_model);
}
