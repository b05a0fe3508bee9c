/*
 * test_top_k.c - top_k of every backend and instruction set, against a sort of the whole row by the
 * C library.
 */
#include "support.h"

/* ---- The truth --------------------------------------------------------------------------------- */

static const float *sorted_row;

/* NaN first, then by falling value, equals by column. */
static int by_rank(const void *a, const void *b)
{
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    float x = sorted_row[i], y = sorted_row[j];
    if (isnan(x) != isnan(y))
        return isnan(x) ? -1 : 1;
    if (x > y || x < y)
        return x > y ? -1 : 1;
    return i < j ? -1 : 1;
}

static int32_t *sort_row(const float *row, size_t n_columns)
{
    int32_t *order = test_malloc((n_columns + 1) * sizeof *order);
    for (size_t i = 0; i < n_columns; i++)
        order[i] = (int32_t)i;
    sorted_row = row;
    qsort(order, n_columns, sizeof *order, by_rank);
    return order;
}

static void check_row(const phi3_backend *backend, const float *row, size_t n_columns, size_t k,
                      const float *values, const int32_t *ids)
{
    int32_t *order = sort_row(row, n_columns);
    for (size_t i = 0; i < k; i++) {
        int32_t want = i < n_columns ? order[i] : -1;
        float value = i < n_columns ? row[want] : -INFINITY;
        if (ids[i] != want)
            fail_msg("%s: place %zu of %zu in %zu is %d, not %d", backend->name, i, k, n_columns,
                     ids[i], want);
        if (values)
            assert_true(isnan(value) ? isnan(values[i]) : values[i] == value);
    }
    test_free(order);
}

/* ---- Checks ------------------------------------------------------------------------------------ */

/* One call, with values and without. */
static void check(const phi3_backend *backend, const float *logits, size_t n_rows, size_t n_columns,
                  size_t k)
{
    size_t count = n_rows * k;
    float *values = random_floats(count);
    int32_t *ids = test_malloc(count * sizeof *ids);
    float *x = to_device(backend, logits, n_rows * n_columns * sizeof *logits);
    float *values_there = to_device(backend, values, count * sizeof *values);
    int32_t *ids_there = to_device(backend, ids, count * sizeof *ids);
    phi3_exec exec = make_exec(backend, 2, backend->top_k_scratch(n_rows, n_columns, k));
    for (int with_values = 0; with_values < 2; with_values++) {
        memset(ids, 0x55, count * sizeof *ids);
        assert_int_equal(backend->upload(ids_there, ids, count * sizeof *ids), PHI3_OK);
        assert_int_equal(backend->top_k(&exec, x, n_rows, n_columns, k,
                                        with_values ? values_there : NULL, ids_there),
                         PHI3_OK);
        assert_int_equal(backend->download(ids, ids_there, count * sizeof *ids), PHI3_OK);
        assert_int_equal(backend->download(values, values_there, count * sizeof *values), PHI3_OK);
        for (size_t r = 0; r < n_rows; r++)
            check_row(backend, logits + r * n_columns, n_columns, k,
                      with_values ? values + r * k : NULL, ids + r * k);
    }
    free_exec(backend, &exec);
    backend->release(x), backend->release(values_there), backend->release(ids_there);
    test_free(values), test_free(ids);
}

static void check_everywhere(const float *logits, size_t n_rows, size_t n_columns, size_t k)
{
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++)
        check(backends[b], logits, n_rows, n_columns, k);
}

/* ---- Cases ------------------------------------------------------------------------------------- */

/* Around vectors, tiles and k, which may be more than there is. */
static void odd_sizes(void **state)
{
    (void)state;
    random_state = 1;
    const size_t sizes[] = {1, 2, 15, 17, 63, 64, 65, 255, 513, 1000, 2047, 2048, 2049, 4097};
    const size_t ks[] = {1, 2, 7, 51, PHI3_TOP_K_MAX};
    for (size_t s = 0; s < COUNT(sizes); s++) {
        float *logits = random_floats(2 * sizes[s]);
        for (size_t i = 0; i < COUNT(ks); i++)
            check_everywhere(logits, 2, sizes[s], ks[i]);
        test_free(logits);
    }
}

/* The vocabularies of Phi-3.5 and Qwen; Phi-4's 100352 and 200064 are no harder. */
static void whole_vocabularies(void **state)
{
    (void)state;
    random_state = 2;
    float *logits = random_floats(151936);
    check_everywhere(logits, 1, 151936, 1);
    check_everywhere(logits, 1, 151936, 51);
    check_everywhere(logits, 4, 32064, 1);
    check_everywhere(logits, 2, 32064, 129);
    test_free(logits);
}

/* A handful of values, so that everything is tied many times over; also in rising order, in which
 * every logit is the highest so far. */
static void ties_and_order(void **state)
{
    (void)state;
    random_state = 3;
    enum { COLUMNS = 5000 };
    float *logits = random_floats(3 * COLUMNS);
    for (size_t i = 0; i < COLUMNS; i++) {
        logits[i] = (float)(random_bits() % 5);
        logits[COLUMNS + i] = (float)i;
        logits[2 * COLUMNS + i] = i % 2 ? 0.f : -0.f; /* all equal */
    }
    check_everywhere(logits, 3, COLUMNS, 1);
    check_everywhere(logits, 3, COLUMNS, 51);
    check_everywhere(logits, 3, COLUMNS, PHI3_TOP_K_MAX);
    test_free(logits);
}

static void fill(float *row, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        row[i] = value;
}

/* NaN of both signs, infinities, the ends of the range, and rows of nothing else. */
static void extremes(void **state)
{
    (void)state;
    random_state = 4;
    enum { COLUMNS = 2500 };
    float *logits = random_floats(4 * COLUMNS);
    const float special[] = {NAN, -NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, -1e-45f};
    for (size_t i = 0; i < 100; i++)
        logits[random_bits() % COLUMNS] = special[i % COUNT(special)];
    fill(logits + COLUMNS, COLUMNS, -INFINITY);
    fill(logits + 2 * COLUMNS, COLUMNS, NAN);
    logits[3 * COLUMNS + 2400] = -NAN;
    check_everywhere(logits, 4, COLUMNS, 1);
    check_everywhere(logits, 4, COLUMNS, 40);
    check_everywhere(logits, 4, COLUMNS, PHI3_TOP_K_MAX);
    test_free(logits);
}

static void no_rows(void **state)
{
    (void)state;
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++) {
        phi3_exec exec = make_exec(backends[b], 1, 0);
        int32_t id = 7;
        assert_int_equal(backends[b]->top_k(&exec, NULL, 0, 100, 1, NULL, &id), PHI3_OK);
        assert_int_equal(id, 7);
        free_exec(backends[b], &exec);
    }
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_sizes),      cmocka_unit_test(whole_vocabularies),
        cmocka_unit_test(ties_and_order), cmocka_unit_test(extremes),
        cmocka_unit_test(no_rows),
    };
    return cmocka_run_group_tests_name("top_k", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return run_on_every_isa(argv, all_tests);
}
