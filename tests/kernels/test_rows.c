/*
 * test_rows.c - add_rms_norm, swiglu and gather_rows of every backend and instruction set, against
 * formulas in double.
 */
#include "support.h"

static const size_t sizes[] = {1, 7, 16, 17, 31, 96, 576, 3072};

/* The sum of squares and the square root cost a few units in the last place, 2^-24 each. */
static void check_norm(const phi3_backend *backend, size_t n_rows, size_t n_columns, bool delta,
                       float size)
{
    const float epsilon = 1e-5f;
    float *x = random_floats(n_rows * n_columns), *d = random_floats(n_rows * n_columns);
    float *weight = random_floats(n_columns), *sum = random_floats(n_rows * n_columns);
    float *out = random_floats(n_rows * n_columns);
    for (size_t i = 0; i < n_rows * n_columns; i++) {
        x[i] *= size;
        sum[i] = delta ? x[i] + d[i] : x[i];
    }
    size_t bytes = n_rows * n_columns * sizeof *x;
    float *x_there = to_device(backend, x, bytes), *d_there = to_device(backend, d, bytes);
    float *weight_there = to_device(backend, weight, n_columns * sizeof *weight);
    float *out_there = to_device(backend, NULL, bytes);
    phi3_exec exec = make_exec(backend, 2, 0);
    assert_int_equal(backend->add_rms_norm(&exec, x_there, delta ? d_there : NULL, weight_there,
                                           epsilon, n_rows, n_columns, out_there),
                     PHI3_OK);
    from_device(backend, x_there, x, bytes);
    from_device(backend, out_there, out, bytes);
    backend->release(d_there), backend->release(weight_there);
    for (size_t r = 0; r < n_rows; r++) {
        double squares = 0;
        for (size_t i = 0; i < n_columns; i++)
            squares += pow(sum[r * n_columns + i], 2);
        double scale = 1 / sqrt(squares / (double)n_columns + epsilon);
        for (size_t i = r * n_columns; i < (r + 1) * n_columns; i++) {
            double want = weight[i % n_columns] * (sum[i] * scale);
            assert_true(x[i] == sum[i]);
            assert_true(fabs(out[i] - want) <= 1e-6 * fabs(want));
        }
    }
    free_exec(backend, &exec);
    test_free(x), test_free(d), test_free(weight), test_free(sum), test_free(out);
}

static void add_rms_norm(void **state)
{
    (void)state;
    random_state = 1;
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++) {
        for (size_t s = 0; s < COUNT(sizes); s++) {
            check_norm(backends[b], 1, sizes[s], true, 1);
            check_norm(backends[b], 3, sizes[s], false, 1);
            check_norm(backends[b], 17, sizes[s], true, 1e-4f); /* epsilon counts */
            check_norm(backends[b], 2, sizes[s], true, 1e4f);
        }
    }
}

static void run_swiglu(const phi3_backend *backend, const float *gate_up, size_t n_rows,
                       size_t n_columns, float *out)
{
    size_t bytes = n_rows * n_columns * sizeof *out;
    float *in_there = to_device(backend, gate_up, 2 * bytes);
    float *out_there = to_device(backend, NULL, bytes);
    phi3_exec exec = make_exec(backend, 2, 0);
    assert_int_equal(backend->swiglu(&exec, in_there, n_rows, n_columns, out_there), PHI3_OK);
    from_device(backend, out_there, out, bytes);
    backend->release(in_there);
    free_exec(backend, &exec);
}

/* Within 4 units in the last place of the largest factor, down to where e^-gate leaves float32:
 * there the result is smaller than any activation that matters. */
static void swiglu(void **state)
{
    (void)state;
    random_state = 2;
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t n_columns = sizes[s], n_rows = 5;
        float *gate_up = random_floats(2 * n_rows * n_columns);
        float *out = random_floats(n_rows * n_columns);
        for (size_t i = 0; i < 2 * n_rows * n_columns; i++)
            if (i / n_columns % 2 == 0)
                gate_up[i] *= (float)pow(10, 4 * random_unit() - 2); /* up to some hundreds */
        for (size_t b = 0; b < n_backends; b++) {
            run_swiglu(backends[b], gate_up, n_rows, n_columns, out);
            for (size_t i = 0; i < n_rows * n_columns; i++) {
                double gate = gate_up[i / n_columns * 2 * n_columns + i % n_columns];
                double up = gate_up[(i / n_columns * 2 + 1) * n_columns + i % n_columns];
                double want = gate / (1 + exp(-gate)) * up;
                if (!(fabs(out[i] - want) <= 4 * 0x1p-24 * fabs(want) + 1e-34))
                    fail_msg("%s: silu(%.9g) * %.9g is %.9g, not %.9g", backends[b]->name, gate, up,
                             out[i], want);
            }
        }
        test_free(gate_up);
        test_free(out);
    }
}

/* The ends of the range, and what is no number. */
static void swiglu_extremes(void **state)
{
    (void)state;
    const float gate_up[] = {0,   -0.f, 1e30f, -1e30f, INFINITY, NAN, -88, 88,
                             2.f, 2.f,  2.f,   2.f,    2.f,      2.f, 2.f, 2.f};
    float out[8];
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++) {
        run_swiglu(backends[b], gate_up, 1, 8, out);
        assert_true(out[0] == 0 && out[1] == 0);
        assert_true(out[2] == 2e30f);
        assert_true(fabsf(out[3]) < 1e-6f);
        assert_true(isinf(out[4]) && out[4] > 0);
        assert_true(isnan(out[5]));
        assert_true(fabsf(out[6]) < 1e-34f);
        assert_true(fabsf(out[7] - 176) < 1e-4f);
    }
}

static void gather_rows(void **state)
{
    (void)state;
    random_state = 3;
    const size_t rows[] = {4, 0, 4, 2};
    float *x = random_floats(5 * 19);
    float out[4 * 19];
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++) {
        const phi3_backend *backend = backends[b];
        float *x_there = to_device(backend, x, 5 * 19 * sizeof *x);
        float *out_there = to_device(backend, NULL, sizeof out);
        size_t *rows_there = to_device(backend, rows, sizeof rows);
        phi3_exec exec = make_exec(backend, 2, 0);
        assert_int_equal(backend->gather_rows(&exec, x_there, rows_there, 4, 19, out_there),
                         PHI3_OK);
        from_device(backend, out_there, out, sizeof out);
        backend->release(x_there), backend->release(rows_there);
        for (size_t i = 0; i < 4; i++)
            assert_memory_equal(out + 19 * i, x + 19 * rows[i], 19 * sizeof *x);
        free_exec(backend, &exec);
    }
    test_free(x);
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_rms_norm),
        cmocka_unit_test(swiglu),
        cmocka_unit_test(swiglu_extremes),
        cmocka_unit_test(gather_rows),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return run_on_every_isa(argv, all_tests);
}
