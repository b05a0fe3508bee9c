/*
 * test_quantizers.c - rounding rows to every format, at every instruction set: the bytes are gguf's
 * where it has a quantiser, the errors no larger than ggml's elsewhere.
 */
#include "kernels/cpu/kernels.h"
#include "support.h"

#include "quantize_golden.h"

/* The numbers that make_quantize_golden.py draws: [GOLDEN_COLUMNS], freed with test_free. */
static float *draw(golden_pattern pattern)
{
    float *x = test_malloc(GOLDEN_COLUMNS * sizeof *x);
    random_state = (uint64_t)pattern;
    for (int i = 0; i < GOLDEN_COLUMNS; i++) {
        uint64_t bits = random_bits();
        int64_t sum = -131070;
        for (int part = 0; part < 4; part++)
            sum += bits >> (16 * part) & 0xffff;
        x[i] = (float)sum;
        if (pattern == OUTLIERS && i % 37 == 5)
            x[i] *= 16;
        if (pattern == POSITIVE)
            x[i] = fabsf(x[i]) + 1000;
        if (pattern == ZEROS)
            x[i] = 0;
        if (pattern == CONSTANT)
            x[i] = -3.25f * 0x1p16f;
        x[i] *= pattern == LARGE ? 0x1p-4f : pattern == SUBNORMAL ? 0x1p-136f : 0x1p-20f;
    }
    return x;
}

static uint64_t hash_of(const uint8_t *bytes, size_t count)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

static double deviation(const float *x, const float *y, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    return sqrt(sum / (double)count);
}

/* A row in a format, at an odd address. */
static uint8_t *quantized(phi3_dtype dtype, const float *x, size_t n_columns, size_t *bytes)
{
    *bytes = phi3_dtype_row_bytes(dtype, n_columns);
    uint8_t *row = test_malloc(*bytes + 1);
    memset(row, 0xa5, *bytes + 1);
    assert_true(phi3_quantize_row(dtype, x, n_columns, row + 1));
    return row;
}

static void bytes_are_those_of_gguf(void **state)
{
    (void)state;
    for (size_t g = 0; g < COUNT(golden_bytes); g++) {
        size_t bytes;
        float *x = draw(golden_bytes[g].pattern);
        uint8_t *row = quantized(golden_bytes[g].dtype, x, GOLDEN_COLUMNS, &bytes);
        if (hash_of(row + 1, bytes) != golden_bytes[g].hash)
            fail_msg("%s of pattern %d differs", phi3_dtype_traits(golden_bytes[g].dtype)->name,
                     (int)golden_bytes[g].pattern);
        test_free(row);
        test_free(x);
    }
}

static void errors_are_not_larger_than_those_of_ggml(void **state)
{
    (void)state;
    float *back = test_malloc(GOLDEN_COLUMNS * sizeof *back);
    for (size_t g = 0; g < COUNT(golden_errors); g++) {
        size_t bytes;
        phi3_dtype dtype = golden_errors[g].dtype;
        float *x = draw(golden_errors[g].pattern);
        uint8_t *row = quantized(dtype, x, GOLDEN_COLUMNS, &bytes);
        phi3_dequantize_row(dtype, row + 1, GOLDEN_COLUMNS, back);
        double error = deviation(x, back, GOLDEN_COLUMNS);
        if (!(error <= 1.02 * golden_errors[g].error))
            fail_msg("%s of pattern %d: error %g, ggml's is %g", phi3_dtype_traits(dtype)->name,
                     (int)golden_errors[g].pattern, error, golden_errors[g].error);
        test_free(row);
        test_free(x);
    }
    test_free(back);
}

/* A file does not depend on the machine that wrote it. */
static void every_instruction_set_makes_the_same_bytes(void **state)
{
    (void)state;
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        for (golden_pattern pattern = NORMAL; pattern < N_PATTERNS; pattern++) {
            size_t bytes;
            float *x = draw(pattern);
            uint8_t *row = quantized(all_dtypes[d], x, GOLDEN_COLUMNS, &bytes);
            uint8_t *portable = test_malloc(bytes);
            assert_true(phi3_cpu_kernels_portable.quantize_weights(all_dtypes[d], x, GOLDEN_COLUMNS,
                                                                   portable));
            assert_memory_equal(row + 1, portable, bytes);
            test_free(portable);
            test_free(row);
            test_free(x);
        }
    }
}

/* What a format can hold comes back as it was: zeros, and the numbers of its own blocks. */
static void what_was_rounded_stays(void **state)
{
    (void)state;
    enum { N = 512 };
    random_state = 7;
    float zeros[N] = {0}, back[N], again[N];
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        size_t bytes;
        uint8_t *row = quantized(all_dtypes[d], zeros, N, &bytes);
        phi3_dequantize_row(all_dtypes[d], row + 1, N, back);
        for (int i = 0; i < N; i++)
            assert_true(back[i] == 0);
        test_free(row);

        float *x = random_floats(N);
        row = quantized(all_dtypes[d], x, N, &bytes);
        phi3_dequantize_row(all_dtypes[d], row + 1, N, back);
        double first = deviation(x, back, N);
        test_free(row);
        row = quantized(all_dtypes[d], back, N, &bytes);
        phi3_dequantize_row(all_dtypes[d], row + 1, N, again);
        assert_true(deviation(back, again, N) <= 0.6 * first);
        test_free(row);
        test_free(x);
    }
}

/* NaN, infinities, and numbers beyond the reach of a float16 scale, wherever they stand. */
static void what_cannot_be_held_is_refused(void **state)
{
    (void)state;
    enum { N = 512 };
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    uint8_t out[4 * N];
    random_state = 8;
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        float *x = random_floats(N);
        for (size_t b = 0; b < COUNT(bad); b++) {
            for (size_t at = 0; at < N; at += 73) {
                float good = x[at];
                x[at] = bad[b];
                assert_false(phi3_quantize_row(all_dtypes[d], x, N, out));
                x[at] = good;
            }
        }
        x[300] = 3.4028235e38f; /* the largest float32 */
        assert_int_equal(phi3_quantize_row(all_dtypes[d], x, N, out), all_dtypes[d] == PHI3_F32);
        x[301] = -3.4028235e38f;
        assert_int_equal(phi3_quantize_row(all_dtypes[d], x, N, out), all_dtypes[d] == PHI3_F32);
        test_free(x);
    }
}

/* Numbers so small that a scale is 0, or its inverse infinite, become 0 and not something else. */
static void vanishing_numbers(void **state)
{
    (void)state;
    enum { N = 256 };
    float x[N], back[N];
    for (int exponent = -149; exponent < -30; exponent += 7) {
        for (int i = 0; i < N; i++)
            x[i] = ldexpf(i % 3 == 0 ? -1 : 1, exponent);
        for (size_t d = 3; d < COUNT(all_dtypes); d++) { /* not the float types */
            size_t bytes;
            uint8_t *row = quantized(all_dtypes[d], x, N, &bytes);
            phi3_dequantize_row(all_dtypes[d], row + 1, N, back);
            for (int i = 0; i < N; i++)
                assert_true(fabsf(back[i]) <= 0x1p-24f);
            test_free(row);
        }
    }
}

/* ---- Rows of one format to another ------------------------------------------------------------ */

static void rows_are_converted_by_any_number_of_threads(void **state)
{
    (void)state;
    enum { ROWS = 37, COLUMNS = 768 };
    random_state = 9;
    phi3_tensor from = random_tensor(PHI3_BF16, ROWS, COLUMNS, 1);
    float *row = test_malloc(COLUMNS * sizeof *row);
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        size_t row_bytes = phi3_dtype_row_bytes(all_dtypes[d], COLUMNS);
        uint8_t *want = test_malloc(ROWS * row_bytes), *got = test_malloc(ROWS * row_bytes);
        for (size_t r = 0; r < ROWS; r++) {
            phi3_dequantize_row(PHI3_BF16, (const uint8_t *)from.data + r * 2 * COLUMNS, COLUMNS,
                                row);
            assert_true(phi3_quantize_row(all_dtypes[d], row, COLUMNS, want + r * row_bytes));
        }
        for (int n_threads = 1; n_threads <= 5; n_threads += 2) {
            memset(got, 0, ROWS * row_bytes);
            assert_int_equal(phi3_convert_rows(PHI3_BF16, from.data, ROWS, COLUMNS, all_dtypes[d],
                                               got, n_threads),
                             ROWS);
            assert_memory_equal(got, want, ROWS * row_bytes);
        }
        test_free(want);
        test_free(got);
    }
    test_free(row);
    test_free((uint8_t *)from.data - 1);
}

static void the_first_bad_row_is_told(void **state)
{
    (void)state;
    enum { ROWS = 400, COLUMNS = 256 };
    random_state = 10;
    float *rows = random_floats(ROWS * COLUMNS);
    uint8_t *out = test_malloc(ROWS * COLUMNS);
    rows[333 * COLUMNS + 7] = NAN;
    rows[271 * COLUMNS + 9] = INFINITY;
    for (int n_threads = 1; n_threads <= 4; n_threads++)
        assert_int_equal(
            phi3_convert_rows(PHI3_F32, rows, ROWS, COLUMNS, PHI3_Q4_K, out, n_threads), 271);
    test_free(rows);
    test_free(out);
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_gguf),
        cmocka_unit_test(errors_are_not_larger_than_those_of_ggml),
        cmocka_unit_test(every_instruction_set_makes_the_same_bytes),
        cmocka_unit_test(what_was_rounded_stays),
        cmocka_unit_test(what_cannot_be_held_is_refused),
        cmocka_unit_test(vanishing_numbers),
        cmocka_unit_test(rows_are_converted_by_any_number_of_threads),
        cmocka_unit_test(the_first_bad_row_is_told),
    };
    return cmocka_run_group_tests_name("quantizers", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return run_on_every_isa(argv, all_tests);
}
