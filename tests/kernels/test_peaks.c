/* test_peaks.c - the measured peaks agree with each other, and measuring stops when asked to. */
#include <math.h>

#include "support.h"

/* Nothing is faster than the units, and these are the faster the narrower the numbers are. */
static bool agree(const phi3_peaks *p)
{
#ifdef PHI3_ONEDNN
    assert_true(p->product_f32 > 0 && p->product_int8 > 0);
    assert_true(p->units_bf16 == 0 || p->product_bf16 > 0);
    if (p->product_f32 > 1.5 * p->units_f32 || p->product_int8 > 1.5 * p->units_int8 ||
        (p->units_bf16 > 0 && p->product_bf16 > 1.5 * p->units_bf16))
        return false;
#endif
    return p->units_int8 > p->units_f32;
}

static void one_core(void **state)
{
    (void)state;
    /* Other work on the core may spoil one of the numbers, but not every time. */
    enum { TRIES = 5 };
    phi3_peaks peaks;
    phi3_error error;
    phi3_run_options options = {.n_threads = 1};
    for (int i = 0; i < TRIES; i++) {
        assert_int_equal(phi3_measure_peaks(&options, &peaks, &error), PHI3_OK);
        assert_int_equal(peaks.n_threads, 1);
        assert_true(peaks.read > 0.1 && peaks.read < 2000);
        assert_true(peaks.units_f32 > 0.1 && peaks.units_f32 < 2000);
        if (phi3_isa_current() == PHI3_ISA_PORTABLE)
            return; /* there oneDNN may use more than our kernels */
        assert_int_equal(peaks.units_bf16 > 0, phi3_isa_current() >= PHI3_ISA_AVX512_BF16);
#ifdef __SANITIZE_ADDRESS__ /* its checks slow our loops down, and oneDNN's not */
        return;
#endif
        if (agree(&peaks))
            return;
    }
    fail_msg("units: float32 %g, bfloat16 %g, int8 %g; products: %g, %g, %g", peaks.units_f32,
             peaks.units_bf16, peaks.units_int8, peaks.product_f32, peaks.product_bf16,
             peaks.product_int8);
}

static bool stop_at_the_fourth(void *user_data)
{
    int *n_calls = user_data;
    return ++*n_calls == 4;
}

static void measuring_can_be_interrupted(void **state)
{
    (void)state;
    phi3_peaks peaks;
    phi3_error error;
    int n_calls = 0;
    phi3_run_options options = {.interrupt = stop_at_the_fourth, .interrupt_data = &n_calls};
    assert_int_equal(phi3_measure_peaks(&options, &peaks, &error), PHI3_ERROR_INTERRUPTED);
    assert_int_equal(n_calls, 4);
}

/* A device tells what it reads and multiplies; an unknown one is refused. */
static void devices(void **state)
{
    (void)state;
    phi3_peaks peaks;
    phi3_error error;
    assert_int_equal(phi3_measure_device_peaks("abacus", NULL, &peaks, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);
    const char *device = getenv("PHI3_TEST_BACKEND");
    if (device == NULL)
        return;
    assert_int_equal(phi3_measure_device_peaks(device, NULL, &peaks, &error), PHI3_OK);
    assert_true(peaks.read > 0 && peaks.product_bf16 > 0 && peaks.product_f32 > 0);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(one_core),
        cmocka_unit_test(measuring_can_be_interrupted),
        cmocka_unit_test(devices),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return run_on_every_isa(argv, tests);
}
