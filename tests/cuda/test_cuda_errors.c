/*
 * test_cuda_errors.c - an emulated card whose memory runs out, at each place where something takes
 * some, and one that fails: a clear error, and nothing is left behind.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../c/tiny_model.h"

static phi3_error error;
static int32_t ids[8];
static void *library;
static size_t kept; /* objects that the library keeps for the next model */

/* A function of the emulator. */
static void *emulator(const char *name)
{
    void *function = dlsym(library, name);
    assert_non_null(function);
    return function;
}

static size_t count(const char *name)
{
    size_t (*ask)(void);
    *(void **)&ask = emulator(name);
    return ask();
}

static void limit_memory(size_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%zu", bytes);
    setenv("EMULATOR_MEMORY", text, 1);
}

static void assert_nothing_is_left(void)
{
    assert_int_equal(count("emulator_device_bytes"), 0);
    assert_int_equal(count("emulator_objects"), kept);
}

static int open_emulator(void **state)
{
    (void)state;
    phi3_model *first = tiny_model_load(tiny_config, "cuda");
    phi3_model_free(first);
    library = dlopen(getenv("PHI3_CUDA_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
    tiny_ids(5, ids, 8);
    if (first == NULL || library == NULL)
        return 1;
    kept = count("emulator_objects");
    return 0;
}

/* How much more a load, or a forward, is given each time it has failed. */
enum { STEP = 6000, MOST = 4 << 20 };

static void test_loading_runs_out_of_memory(void **state)
{
    (void)state;
    size_t n_failures = 0;
    for (size_t limit = 0; limit < MOST; limit += STEP, n_failures++) {
        limit_memory(limit);
        phi3_model *loaded = NULL;
        error.message[0] = '\0';
        phi3_status status = tiny_model_open(tiny_config, "cuda", &loaded, &error);
        phi3_model_free(loaded);
        if (status == PHI3_OK)
            break;
        assert_int_equal(status, PHI3_ERROR_OUT_OF_MEMORY);
        assert_true(error.message[0] != '\0');
        assert_nothing_is_left();
    }
    assert_true(n_failures > 5);
    assert_nothing_is_left();
    unsetenv("EMULATOR_MEMORY");
}

/* A prompt and a few steps; a failure is for want of memory, and a second try with more goes on. */
static void test_steps_run_out_of_memory(void **state)
{
    (void)state;
    phi3_model *cuda = tiny_model_load(tiny_config, "cuda");
    assert_non_null(cuda);
    size_t bytes = count("emulator_device_bytes");
    float logits[TINY_VOCAB], want[TINY_VOCAB];
    size_t n_failures = 0;
    phi3_cache *cache;
    assert_int_equal(phi3_cache_create(cuda, &cache, &error), PHI3_OK);
    for (size_t done = 0, limit = bytes; done < 8 && limit < MOST;) {
        size_t n = done == 0 ? 5 : 1;
        limit_memory(limit);
        phi3_span span = {cache, ids + done, n, 1};
        phi3_status status = phi3_model_forward(cuda, &span, 1, NULL, logits, &error);
        if (status == PHI3_OK) {
            done += n;
            continue;
        }
        assert_int_equal(status, PHI3_ERROR_OUT_OF_MEMORY);
        limit += STEP;
        n_failures++;
    }
    assert_true(n_failures > 5);
    unsetenv("EMULATOR_MEMORY");

    phi3_cache *fresh;
    assert_int_equal(phi3_cache_create(cuda, &fresh, &error), PHI3_OK);
    phi3_span whole = {fresh, ids, 8, 1};
    if (phi3_model_forward(cuda, &whole, 1, NULL, want, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    for (size_t i = 0; i < TINY_VOCAB; i++)
        assert_float_equal(logits[i], want[i], 1e-4);
    phi3_cache_free(fresh), phi3_cache_free(cache);
    phi3_model_free(cuda);
    assert_nothing_is_left();
}

/* The last test: a card that has failed is of no more use to the process. */
static void test_a_failure_is_in_the_devices_words(void **state)
{
    (void)state;
    void (*fail_card)(const char *words);
    *(void **)&fail_card = emulator("emulator_fail");
    phi3_model *cuda = tiny_model_load(tiny_config, "cuda");
    assert_non_null(cuda);
    float logits[TINY_VOCAB];
    phi3_cache *cache;
    assert_int_equal(phi3_cache_create(cuda, &cache, &error), PHI3_OK);
    phi3_span span = {cache, ids, 5, 1};
    assert_int_equal(phi3_model_forward(cuda, &span, 1, NULL, logits, &error), PHI3_OK);
    fail_card("a cosmic ray");
    assert_int_equal(phi3_model_forward(cuda, &span, 1, NULL, logits, &error), PHI3_ERROR_DEVICE);
    assert_non_null(strstr(error.message, "a cosmic ray"));
    size_t length;
    phi3_cache_ids(cache, &length);
    assert_int_equal(length, 5);
    phi3_cache_free(cache);
    phi3_model_free(cuda);
    assert_nothing_is_left();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loading_runs_out_of_memory),
        cmocka_unit_test(test_steps_run_out_of_memory),
        cmocka_unit_test(test_a_failure_is_in_the_devices_words),
    };
    return cmocka_run_group_tests(tests, open_emulator, NULL);
}
