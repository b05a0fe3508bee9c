/*
 * test_formats.c - 16-bit floats, the traits of the formats, and dequantisation: equal to the
 * Python package gguf to the bit, at every instruction set.
 */
#include "kernels/cpu/kernels.h"
#include "support.h"

#include "dequantize_golden.h"

/* ---- 16-bit floats --------------------------------------------------------------------------- */

/* IEEE 754's definition of binary16. */
static double float16_value(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double sign = half & 0x8000 ? -1 : 1;
    if (exponent == 0)
        return sign * ldexp(mantissa, -24);
    if (exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    return sign * ldexp(1024 + mantissa, exponent - 25);
}

static void every_float16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        double want = float16_value((uint16_t)h);
        float got = phi3_f16_to_f32((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(phi3_f16_to_f32(phi3_f16_from_f32(got))));
            continue;
        }
        assert_true(got == want && !signbit(got) == !signbit(want));
        assert_int_equal(phi3_f16_from_f32(got), h);
    }
}

/* Between two neighbours, the nearer one; the even one from the middle. */
static void float16_rounding(void **state)
{
    (void)state;
    for (uint16_t h = 0; h < 0x7bff; h++) {
        float low = phi3_f16_to_f32(h), high = phi3_f16_to_f32((uint16_t)(h + 1));
        float middle = (low + high) / 2;
        assert_int_equal(phi3_f16_from_f32(middle), h % 2 ? h + 1 : h);
        assert_int_equal(phi3_f16_from_f32(nextafterf(middle, 0)), h);
        assert_int_equal(phi3_f16_from_f32(nextafterf(middle, 1e9f)), h + 1);
        assert_int_equal(phi3_f16_from_f32(-middle), 0x8000 | (h % 2 ? h + 1 : h));
    }
    assert_int_equal(phi3_f16_from_f32(65519.99f), 0x7bff);
    assert_int_equal(phi3_f16_from_f32(65520), 0x7c00);
    assert_int_equal(phi3_f16_from_f32(-INFINITY), 0xfc00);
    assert_int_equal(phi3_f16_from_f32(0x1p-26f), 0);
}

static void bfloat16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float value = phi3_bf16_to_f32((uint16_t)h);
        assert_int_equal(phi3_float_bits(value), h << 16);
        if (!isnan(value))
            assert_int_equal(phi3_bf16_from_f32(value), h);
    }
    assert_int_equal(phi3_bf16_from_f32(1 + 0x1p-8f), 0x3f80); /* a tie goes to the even one */
    assert_int_equal(phi3_bf16_from_f32(1 + 0x3p-8f), 0x3f82);
    assert_int_equal(phi3_bf16_from_f32(1 + 0x1.01p-8f), 0x3f81);
    assert_true(isnan(phi3_bf16_to_f32(phi3_bf16_from_f32(phi3_float_from_bits(0x7f800001)))));
}

/* The kernels' conversion, which is written with vectors. */
static void bfloat16_of_rows(void **state)
{
    (void)state;
    random_state = 1;
    enum { N = 1003 };
    float *x = random_floats(N);
    uint16_t out[N];
    x[3] = NAN, x[4] = INFINITY, x[5] = -0.f, x[6] = 1 + 0x1p-8f, x[7] = 1 + 0x3p-8f;
    x[8] = phi3_float_from_bits(0x7f800001), x[9] = 3.4e38f;
    phi3_cpu_kernels_current()->to_bfloat16(x, N, out);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(out[i], phi3_bf16_from_f32(x[i]));
    test_free(x);
}

/* ---- Formats --------------------------------------------------------------------------------- */

/* Sizes from ggml's documentation of its types. */
static void traits(void **state)
{
    (void)state;
    const struct {
        uint32_t dtype;
        const char *name;
        size_t size, bytes;
    } known[] = {{0, "float32", 1, 4},   {1, "float16", 1, 2},     {2, "q4_0", 32, 18},
                 {3, "q4_1", 32, 20},    {6, "q5_0", 32, 22},      {7, "q5_1", 32, 24},
                 {8, "q8_0", 32, 34},    {10, "q2_k", 256, 84},    {11, "q3_k", 256, 110},
                 {12, "q4_k", 256, 144}, {13, "q5_k", 256, 176},   {14, "q6_k", 256, 210},
                 {20, "iq4_nl", 32, 18}, {23, "iq4_xs", 256, 136}, {30, "bfloat16", 1, 2}};
    size_t next = 0;
    for (uint32_t dtype = 0; dtype < 100; dtype++) {
        const phi3_dtype_info *info = phi3_dtype_traits(dtype);
        if (next == COUNT(known) || dtype != known[next].dtype) {
            assert_null(info);
            continue;
        }
        assert_string_equal(info->name, known[next].name);
        assert_int_equal(info->block_size, known[next].size);
        assert_int_equal(info->block_bytes, known[next].bytes);
        assert_int_equal(phi3_dtype_row_bytes((phi3_dtype)dtype, 512),
                         512 / known[next].size * known[next].bytes);
        next++;
    }
    assert_int_equal(next, COUNT(known));
    assert_null(phi3_dtype_traits(UINT32_MAX));
}

static uint64_t hash_of(const float *values, size_t count)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = isnan(values[i]) ? 0x7fc00000 : phi3_float_bits(values[i]);
        for (int b = 0; b < 32; b += 8)
            hash = (hash ^ (bits >> b & 255)) * 0x100000001b3;
    }
    return hash;
}

/* Random bytes, odd scales included, at an odd address. */
static void dequantisation_is_that_of_gguf(void **state)
{
    (void)state;
    assert_int_equal(COUNT(golden), COUNT(all_dtypes));
    float *out = test_malloc(GOLDEN_COLUMNS * sizeof *out);
    for (size_t g = 0; g < COUNT(golden); g++) {
        phi3_dtype dtype = golden[g].dtype;
        size_t bytes = phi3_dtype_row_bytes(dtype, GOLDEN_COLUMNS);
        uint8_t *memory = test_malloc(bytes + 1), *row = memory + 1;
        random_state = (uint64_t)dtype;
        for (size_t i = 0; i < bytes; i++)
            row[i] = (uint8_t)random_bits();
        memset(out, 0, GOLDEN_COLUMNS * sizeof *out);
        phi3_dequantize_row(dtype, row, GOLDEN_COLUMNS, out);
        assert_true(hash_of(out, GOLDEN_COLUMNS) == golden[g].hash);
        memset(out, 0, GOLDEN_COLUMNS * sizeof *out);
        phi3_cpu_kernels_current()->dequantize_row(dtype, row, GOLDEN_COLUMNS, out);
        if (hash_of(out, GOLDEN_COLUMNS) != golden[g].hash)
            fail_msg("%s: the cpu kernel differs", phi3_dtype_traits(dtype)->name);
        test_free(memory);
    }
    test_free(out);
}

/* Rows that do not fill a vector or a group. */
static void short_rows(void **state)
{
    (void)state;
    random_state = 2;
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        size_t block = phi3_dtype_traits(all_dtypes[d])->block_size;
        for (size_t n = 1; n <= 19; n++) {
            phi3_tensor w = random_tensor(all_dtypes[d], 1, n * block, 1);
            float *want = test_malloc(n * block * sizeof *want);
            float *got = test_malloc(n * block * sizeof *got);
            phi3_dequantize_row(w.dtype, w.data, n * block, want);
            phi3_cpu_kernels_current()->dequantize_row(w.dtype, w.data, n * block, got);
            assert_memory_equal(got, want, n * block * sizeof *got);
            test_free(want);
            test_free(got);
            test_free((uint8_t *)w.data - 1);
        }
    }
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_float16), cmocka_unit_test(float16_rounding),
        cmocka_unit_test(bfloat16),      cmocka_unit_test(bfloat16_of_rows),
        cmocka_unit_test(traits),        cmocka_unit_test(dequantisation_is_that_of_gguf),
        cmocka_unit_test(short_rows),
    };
    return cmocka_run_group_tests_name("formats", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return run_on_every_isa(argv, all_tests);
}
