/* The random numbers are torch's, and a seed starts them over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/random.h"
#include "tests/data/sampler_goldens.h"

static phi3_error error;

static float next_exponential(phi3_random *random)
{
    phi3_random_lock(random);
    float value = phi3_exponential_from_bits53(phi3_random_bits53(random));
    phi3_random_unlock(random);
    return value;
}

static void assert_draws_golden(phi3_random *random, size_t index)
{
    float draws[1000];
    for (size_t i = 0; i < 1000; i++)
        draws[i] = next_exponential(random);
    assert_memory_equal(draws, golden_exponentials[index].first, 5 * sizeof(float));
    assert_memory_equal(draws + 995, golden_exponentials[index].last, 5 * sizeof(float));
}

static void test_draws_equal_torch(void **state)
{
    (void)state;
    size_t count = sizeof golden_exponentials / sizeof *golden_exponentials;
    for (size_t i = 0; i < count; i++) {
        phi3_random *random;
        assert_int_equal(phi3_random_create(golden_exponentials[i].seed, &random, &error), PHI3_OK);
        assert_draws_golden(random, i);
        phi3_random_free(random);
    }
}

static void test_seed_starts_over(void **state)
{
    (void)state;
    phi3_random *random;
    assert_int_equal(phi3_random_create(7, &random, &error), PHI3_OK);
    next_exponential(random);
    phi3_random_seed(random, golden_exponentials[2].seed);
    assert_draws_golden(random, 2);
    phi3_random_free(random);
    phi3_random_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_equal_torch),
        cmocka_unit_test(test_seed_starts_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
