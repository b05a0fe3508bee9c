/*
 * sanitized_ops.c - each kind of kernel once, for the sanitizers: built with ASan, which sees indices
 * out of bounds, and with TSan, to which every thread of a kernel is a thread; it knows 8128 of them
 * in a launch, so these are small.
 *
 * Results are the other suites' business; here they only must be numbers.
 */
#include "../kernels/support.h"

static const phi3_backend *backend;
static bool is_short; /* attention over few positions only: TSan takes its time */

static int find_backend(void **state)
{
    (void)state;
    phi3_error error = {.message = ""};
    if (phi3_backend_find("cuda", &backend, &error) != PHI3_OK)
        fprintf(stderr, "%s\n", error.message);
    return backend == NULL;
}

/* Takes a result of floats from the device and looks at each. */
static void take(float *there, size_t count)
{
    float *out = test_malloc(count * sizeof *out);
    from_device(backend, there, out, count * sizeof *out);
    for (size_t i = 0; i < count; i++)
        assert_true(isfinite(out[i]));
    test_free(out);
}

/* `count` random floats on the device. */
static float *some(size_t count)
{
    float *values = random_floats(count),
          *there = to_device(backend, values, count * sizeof *values);
    test_free(values);
    return there;
}

static void rows(void **state)
{
    (void)state;
    enum { ROWS = 3, COLUMNS = 300 };
    const size_t chosen[] = {2, 0};
    float *x = some(2 * ROWS * COLUMNS), *delta = some(ROWS * COLUMNS), *weight = some(COLUMNS);
    float *normed = some(ROWS * COLUMNS), *active = some(ROWS * COLUMNS), *few = some(2 * COLUMNS);
    size_t *list = to_device(backend, chosen, sizeof chosen);
    phi3_exec exec = make_exec(backend, 1, 0);
    assert_int_equal(backend->swiglu(&exec, x, ROWS, COLUMNS, active), PHI3_OK);
    assert_int_equal(backend->gather_rows(&exec, active, list, 2, COLUMNS, few), PHI3_OK);
    assert_int_equal(backend->add_rms_norm(&exec, x, delta, weight, 1e-5f, ROWS, COLUMNS, normed),
                     PHI3_OK);
    take(normed, ROWS * COLUMNS), take(active, ROWS * COLUMNS), take(few, 2 * COLUMNS);
    backend->release(x), backend->release(delta), backend->release(weight);
    backend->release(list);
    free_exec(backend, &exec);
}

/* Products of one row, of a few and of many; rows of the table. */
static void products(void **state)
{
    (void)state;
    const phi3_dtype dtypes[] = {PHI3_Q4_K, PHI3_Q4_0, PHI3_BF16};
    const size_t counts[] = {1, 5, 17};
    enum { OUT = 21, COLUMNS = 256 };
    const int32_t chosen[] = {20, 0, 7};
    int32_t *ids = to_device(backend, chosen, sizeof chosen);
    for (size_t i = 0; i < 9; i++) {
        size_t n_rows = counts[i % 3];
        phi3_tensor w = random_tensor(dtypes[i / 3], OUT, COLUMNS, 0);
        phi3_matrix *matrix = NULL;
        assert_int_equal(backend->matrix_create(&w, 1, PHI3_COMPUTE_MIXED, NULL, &matrix, NULL),
                         PHI3_OK);
        phi3_exec exec = make_exec(backend, 1, backend->matrix_scratch(matrix, n_rows, 1));
        float *x = some(n_rows * COLUMNS), *y = some(n_rows * OUT), *expanded = some(3 * COLUMNS);
        assert_int_equal(backend->linear(&exec, matrix, x, n_rows, y), PHI3_OK);
        assert_int_equal(backend->embed(&exec, matrix, ids, 3, expanded), PHI3_OK);
        take(y, n_rows * OUT), take(expanded, 3 * COLUMNS);
        backend->release(x);
        free_exec(backend, &exec);
        backend->matrix_free(matrix);
        test_free((void *)w.data);
    }
    backend->release(ids);
}

/* One row after `past` positions, and a prompt of 20, which is taken in tiles, after 70. */
static void attend(phi3_dtype dtype, size_t dim, size_t n_kv_heads, size_t past)
{
    enum { HEADS = 2, ROWS = 21, PAGES = 12 };
    phi3_attention a = {.kv = {dtype, 1, n_kv_heads, dim},
                        .n_heads = HEADS,
                        .rotary_dim = dim,
                        .compute = PHI3_COMPUTE_MIXED,
                        .n_spans = 2};
    size_t page_bytes = phi3_kv_page_bytes(&a.kv);
    void *zeros = calloc(1, page_bytes), *pages[PAGES];
    assert_non_null(zeros);
    for (size_t p = 0; p < PAGES; p++)
        pages[p] = to_device(backend, zeros, page_bytes);
    const phi3_kv_span spans[] = {{pages, past, 0, 1}, {pages + 10, 70, 1, ROWS - 1}};
    a.spans = spans;
    size_t row = (HEADS + 2 * n_kv_heads) * dim;
    float *angles = random_floats(ROWS * dim / 2), *qkv = some(ROWS * row);
    float *out = some(ROWS * HEADS * dim);
    phi3_exec exec = make_exec(backend, 1, backend->attention_scratch(&a, ROWS, 1));
    phi3_batch batch = begin_batch(backend, &exec, &a, ROWS, angles, angles);
    assert_int_equal(backend->rope_append(&exec, &a, batch.cosine, batch.sine, qkv), PHI3_OK);
    assert_int_equal(backend->attention(&exec, &a, qkv, out), PHI3_OK);
    assert_int_equal(backend->end(&exec, PHI3_OK), PHI3_OK);
    take(qkv, ROWS * row), take(out, ROWS * HEADS * dim);
    free_exec(backend, &exec);
    for (size_t p = 0; p < PAGES; p++)
        backend->release(pages[p]);
    test_free(angles);
    free(zeros);
}

static void attention(void **state)
{
    (void)state;
    attend(PHI3_F16, 64, 1, 9);
    if (is_short)
        return;
    attend(PHI3_BF16, 96, 2, 600); /* stretches, which are merged */
    attend(PHI3_I8, 64, 1, 200);
    attend(PHI3_F32, 32, 2, 100);
}

static void candidates(void **state)
{
    (void)state;
    enum { ROWS = 2, COLUMNS = 3000, K = 5 };
    float *logits = some(ROWS * COLUMNS), *values = some(ROWS * K);
    int32_t *ids = backend->allocate(ROWS * K * sizeof *ids);
    phi3_exec exec = make_exec(backend, 1, backend->top_k_scratch(ROWS, COLUMNS, K));
    assert_int_equal(backend->top_k(&exec, logits, ROWS, COLUMNS, K, values, ids), PHI3_OK);
    take(values, ROWS * K);
    backend->release(logits), backend->release(ids);
    free_exec(backend, &exec);
}

int main(int argc, char **argv)
{
    random_state = 1;
    is_short = argc > 1 && strcmp(argv[1], "short") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(products),
        cmocka_unit_test(attention),
        cmocka_unit_test(candidates),
    };
    return cmocka_run_group_tests(tests, find_backend, NULL);
}
