/*
 * test_linear.c - linear and embed of every backend, format and instruction set, against sums in
 * double over the expanded weights.
 */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_tiles.h"
#include "support.h"

/* ---- What the result may differ by ----------------------------------------------------------- */

typedef struct expectation {
    double value;
    double magnitude; /* sum of |w x| */
    double rounding;  /* sum over blocks of 32: the most that |x| is off in 8 bits, times sum |w| */
} expectation;

static expectation expect(const float *w, const float *x, size_t n_columns)
{
    expectation e = {0, 0, 0};
    for (size_t b = 0; b < n_columns; b += 32) {
        double largest = 0, weights = 0;
        for (size_t i = b; i < n_columns && i < b + 32; i++) {
            e.value += (double)w[i] * x[i];
            e.magnitude += fabs((double)w[i] * x[i]);
            largest = fabs((double)x[i]) > largest ? fabs((double)x[i]) : largest;
            weights += fabs((double)w[i]);
        }
        e.rounding += largest / 254 * weights;
    }
    return e;
}

/*
 * float32: a sum of n products is within n * 2^-24 of sum |w x|; ours are sums of partial sums and
 * stay far below 2e-6 of it at these sizes.
 * auto: the larger of two bounds. bfloat16 rounds w and x by 2^-8 each: 2^-7 of sum |w x|. 8-bit
 * activations are off by half a step, largest / 254, for each element of a block.
 */
static double tolerance(const expectation *e, phi3_dtype dtype, phi3_compute compute)
{
    double exact = 2e-6 * e->magnitude + 1e-30;
    if (compute == PHI3_COMPUTE_FLOAT32 || dtype == PHI3_F32)
        return exact;
    return exact + fmax(0x1.02p-7 * e->magnitude, e->rounding);
}

/* ---- One product ----------------------------------------------------------------------------- */

typedef struct product_case {
    const phi3_backend *backend;
    const phi3_tensor *parts;
    size_t n_parts;
    phi3_compute compute;
    int n_threads;
    size_t n_rows;
} product_case;

/* Compares y with the truth; the squares of errors and values go to *error and *power. */
static void compare(const product_case *c, const float *x, const float *y, double *error,
                    double *power)
{
    size_t n_columns = c->parts[0].n_columns, n_out = 0, column = 0;
    for (size_t p = 0; p < c->n_parts; p++)
        n_out += c->parts[p].n_rows;
    float *w = test_malloc(n_columns * sizeof *w);
    for (size_t p = 0; p < c->n_parts; p++) {
        const phi3_tensor *part = &c->parts[p];
        size_t row_bytes = phi3_dtype_row_bytes(part->dtype, n_columns);
        for (size_t o = 0; o < part->n_rows; o++, column++) {
            phi3_dequantize_row(part->dtype, (const char *)part->data + o * row_bytes, n_columns,
                                w);
            for (size_t r = 0; r < c->n_rows; r++) {
                expectation e = expect(w, x + r * n_columns, n_columns);
                double off = fabs(y[r * n_out + column] - e.value);
                if (!(off <= tolerance(&e, part->dtype, c->compute)))
                    fail_msg("%s %s: row %zu of %zu, output %zu of %zu, %zu columns: %g, not %g",
                             c->backend->name, phi3_dtype_traits(part->dtype)->name, r, c->n_rows,
                             column, n_out, n_columns, y[r * n_out + column], e.value);
                *error += off * off;
                *power += e.value * e.value;
            }
        }
    }
    test_free(w);
}

static void check_product(const product_case *c, double *error, double *power)
{
    const phi3_backend *backend = c->backend;
    size_t n_columns = c->parts[0].n_columns, n_out = 0;
    for (size_t p = 0; p < c->n_parts; p++)
        n_out += c->parts[p].n_rows;
    phi3_matrix *matrix = NULL;
    assert_int_equal(backend->matrix_create(c->parts, c->n_parts, c->compute, NULL, &matrix, NULL),
                     PHI3_OK);
    phi3_exec exec =
        make_exec(backend, c->n_threads, backend->matrix_scratch(matrix, c->n_rows, c->n_threads));
    float *x = random_floats(c->n_rows * n_columns);
    float *y = test_malloc(c->n_rows * n_out * sizeof *y);
    float *x_there = to_device(backend, x, c->n_rows * n_columns * sizeof *x);
    float *y_there = to_device(backend, NULL, c->n_rows * n_out * sizeof *y);
    assert_int_equal(backend->linear(&exec, matrix, x_there, c->n_rows, y_there), PHI3_OK);
    from_device(backend, y_there, y, c->n_rows * n_out * sizeof *y);
    backend->release(x_there);
    compare(c, x, y, error, power);
    test_free(y);
    test_free(x);
    free_exec(backend, &exec);
    backend->matrix_free(matrix);
}

/* Over the backends that can run, a format at one size, and both ways to compute. */
static void check_shape(phi3_dtype dtype, size_t n_rows, size_t n_out, size_t n_columns,
                        size_t misalignment)
{
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    phi3_tensor w = random_tensor(dtype, n_out, n_columns, misalignment);
    for (size_t b = 0; b < n_backends; b++) {
        for (int exact = 0; exact < 2; exact++) {
            product_case c = {backends[b],
                              &w,
                              1,
                              exact ? PHI3_COMPUTE_FLOAT32 : PHI3_COMPUTE_MIXED,
                              1 + (int)(random_bits() % 2),
                              n_rows};
            double error = 0, power = 0;
            check_product(&c, &error, &power);
            /* The bounds above are for the worst case; on the whole errors cancel. */
            if (n_out >= 33 && !(error <= (exact ? 1e-12 : 1e-3) * power))
                fail_msg("%s %s: %zu rows, %zu outputs, %zu columns: error %g of the norm",
                         backends[b]->name, phi3_dtype_traits(dtype)->name, n_rows, n_out,
                         n_columns, sqrt(error / power));
        }
    }
    test_free((uint8_t *)w.data - misalignment);
}

static void every_format_and_size(void **state)
{
    (void)state;
    random_state = 1;
    const size_t rows[] = {1, 3, 17, 100}, outs[] = {1, 7, 33};
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        size_t block = phi3_dtype_traits(all_dtypes[d])->block_size;
        /* For blocks of 32, numbers of blocks that fill no group and no pair. */
        const size_t columns[] = {block, block == 1 ? 37 : 3 * block, block == 256 ? 512 : 544};
        for (size_t r = 0; r < COUNT(rows) - is_under_qemu(); r++)
            for (size_t o = 0; o < COUNT(outs); o++)
                for (size_t i = 0; i < COUNT(columns); i++)
                    check_shape(all_dtypes[d], rows[r], outs[o], columns[i], 0);
    }
}

/* Rows longer than a tile, more outputs than a panel, and data at odd addresses. */
static void large_and_misaligned(void **state)
{
    (void)state;
    random_state = 2;
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        check_shape(all_dtypes[d], 1, is_under_qemu() ? 40 : 200, 1280, 1);
        if (is_under_qemu())
            continue;
        check_shape(all_dtypes[d], 9, 150, 1280, 1);
        check_shape(all_dtypes[d], 20, 150, 1280, 3);
    }
    /* As many as go through oneDNN: one block and two, and outputs that fill no tile. */
    check_shape(PHI3_BF16, 100, 150, 1280, 3);
    check_shape(PHI3_BF16, 523, 70, 128, 1);
}

/* The widths of the family's models, with few outputs: several turns of a warp, whole and in part. */
static void widths_of_the_family(void **state)
{
    (void)state;
    random_state = 10;
    const phi3_dtype dtypes[] = {PHI3_BF16, PHI3_F16,  PHI3_Q4_0, PHI3_Q8_0,
                                 PHI3_Q4_K, PHI3_Q5_K, PHI3_Q6_K};
    const size_t columns[] = {3072, 5120, 8192}, rows[] = {1, 2, 8, 16, 24};
    for (size_t d = 0; d < COUNT(dtypes); d++)
        for (size_t r = 0; r < COUNT(rows); r++)
            check_shape(dtypes[d], rows[r], 5, columns[(d + r) % COUNT(columns)], 0);
}

/* Parts of different formats below each other write their own columns of y. */
static void mixed_parts(void **state)
{
    (void)state;
    random_state = 3;
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    const size_t rows[] = {1, 5, 12, 40};
    phi3_tensor parts[] = {random_tensor(PHI3_Q4_K, 21, 512, 0), random_tensor(PHI3_F32, 1, 512, 0),
                           random_tensor(PHI3_Q6_K, 130, 512, 0),
                           random_tensor(PHI3_BF16, 9, 512, 0)};
    for (size_t b = 0; b < n_backends; b++) {
        for (size_t r = 0; r < COUNT(rows); r++) {
            product_case c = {backends[b], parts, 4, PHI3_COMPUTE_MIXED, 2, rows[r]};
            double error = 0, power = 0;
            check_product(&c, &error, &power);
        }
    }
    for (size_t p = 0; p < COUNT(parts); p++)
        test_free((void *)parts[p].data);
}

/* ---- Properties ------------------------------------------------------------------------------ */

static void run_linear(const phi3_backend *backend, const phi3_matrix *matrix, int n_threads,
                       const float *x, size_t n_rows, float *y)
{
    phi3_exec exec =
        make_exec(backend, n_threads, backend->matrix_scratch(matrix, n_rows, n_threads));
    assert_int_equal(backend->linear(&exec, matrix, x, n_rows, y), PHI3_OK);
    free_exec(backend, &exec);
}

/* The same on the CPU without the ways that only many rows go. */
static void run_invariant(const phi3_matrix *matrix, const float *x, size_t n_rows, float *y)
{
    const phi3_backend *cpu = &phi3_backend_cpu;
    phi3_exec exec = make_exec(cpu, 2, cpu->matrix_scratch(matrix, n_rows, 2));
    exec.batch_invariant = true;
    assert_int_equal(cpu->linear(&exec, matrix, x, n_rows, y), PHI3_OK);
    free_exec(cpu, &exec);
}

/* The number of threads changes nothing, to the bit. */
static void threads_do_not_matter(void **state)
{
    (void)state;
    random_state = 4;
    const phi3_dtype dtypes[] = {PHI3_Q4_1, PHI3_Q5_K, PHI3_BF16, PHI3_F32};
    const size_t rows[] = {1, 6, 30, 523};
    enum { N_OUT = 300, N_COLUMNS = 768 };
    for (size_t d = 0; d < COUNT(dtypes); d++) {
        phi3_tensor w = random_tensor(dtypes[d], N_OUT, N_COLUMNS, 0);
        phi3_matrix *matrix = NULL;
        assert_int_equal(
            phi3_backend_cpu.matrix_create(&w, 1, PHI3_COMPUTE_MIXED, NULL, &matrix, NULL),
            PHI3_OK);
        for (size_t r = 0; r < COUNT(rows); r++) {
            size_t bytes = rows[r] * N_OUT * sizeof(float);
            float *x = random_floats(rows[r] * N_COLUMNS);
            float *one = test_malloc(bytes), *many = test_malloc(bytes);
            run_linear(&phi3_backend_cpu, matrix, 1, x, rows[r], one);
            run_linear(&phi3_backend_cpu, matrix, 3, x, rows[r], many);
            assert_memory_equal(one, many, bytes);
            test_free(x);
            test_free(one);
            test_free(many);
        }
        phi3_backend_cpu.matrix_free(matrix);
        test_free((void *)w.data);
    }
}

/* Whether many rows go through AMX's tiles here, where few do not. */
static bool many_go_through_tiles(phi3_dtype dtype, size_t n_columns, phi3_compute compute)
{
    bool is_rounded = phi3_dtype_traits(dtype)->block_size > 1 || dtype == PHI3_BF16;
    return phi3_isa_current() >= PHI3_ISA_AVX512_AMX && compute == PHI3_COMPUTE_MIXED &&
           is_rounded && n_columns % 32 == 0;
}

static void check_rows_do_not_matter(phi3_dtype dtype, size_t n_columns, phi3_compute compute)
{
    const size_t rows[] = {2, 3, 4, 5, 8, 16, 17, 31, 33, 49, 100};
    enum { N_OUT = 67, MOST = 100 };
    phi3_tensor w = random_tensor(dtype, N_OUT, n_columns, 0);
    phi3_matrix *matrix = NULL;
    assert_int_equal(phi3_backend_cpu.matrix_create(&w, 1, compute, NULL, &matrix, NULL), PHI3_OK);
    float *x = random_floats(MOST * n_columns);
    float *alone = test_malloc(MOST * N_OUT * sizeof *alone);
    float *together = test_malloc(MOST * N_OUT * sizeof *together);
    for (size_t r = 0; r < MOST; r++)
        run_linear(&phi3_backend_cpu, matrix, 1, x + r * n_columns, 1, alone + r * N_OUT);
    for (size_t r = 0; r < COUNT(rows); r++) {
        run_invariant(matrix, x, rows[r], together);
        assert_memory_equal(alone, together, rows[r] * N_OUT * sizeof *alone);
    }
    if (many_go_through_tiles(dtype, n_columns, compute)) { /* also among each other */
        run_linear(&phi3_backend_cpu, matrix, 1, x, MOST, alone);
        for (size_t r = 0; r < COUNT(rows); r++) {
            if (rows[r] < PHI3_TILES_MIN_ROWS)
                continue;
            run_linear(&phi3_backend_cpu, matrix, 2, x, rows[r], together);
            assert_memory_equal(alone, together, rows[r] * N_OUT * sizeof *alone);
        }
    }
    phi3_backend_cpu.matrix_free(matrix);
    test_free(x);
    test_free(alone);
    test_free(together);
    test_free((void *)w.data);
}

/* A row of a product is the same, to the bit, alone and among others: what a cache holds does not
 * depend on how it was filled. Few rows need not ask for it (see few_rows_do_not_matter). */
static void rows_do_not_matter(void **state)
{
    (void)state;
    if (is_under_qemu())
        skip();
    random_state = 7;
    const size_t columns[] = {1, 37, 64, 800, 1000}; /* of floats: whole vectors and parts */
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        size_t block = phi3_dtype_traits(all_dtypes[d])->block_size;
        for (int exact = 0; exact < 2; exact++) {
            phi3_compute compute = exact ? PHI3_COMPUTE_FLOAT32 : PHI3_COMPUTE_MIXED;
            for (size_t i = 0; block == 1 && i < COUNT(columns); i++)
                check_rows_do_not_matter(all_dtypes[d], columns[i], compute);
            if (block > 1)
                check_rows_do_not_matter(all_dtypes[d], block == 32 ? 32 * 27 : 768, compute);
        }
    }
}

static void check_few_rows(const phi3_backend *backend, phi3_dtype dtype, size_t n_columns,
                           phi3_compute compute)
{
    const size_t rows[] = {2, 3, 4, 7, 8};
    enum { N_OUT = 5, MOST = 8 };
    phi3_tensor w = random_tensor(dtype, N_OUT, n_columns, 0);
    phi3_matrix *matrix = NULL;
    assert_int_equal(backend->matrix_create(&w, 1, compute, NULL, &matrix, NULL), PHI3_OK);
    float *x = random_floats(MOST * n_columns), alone[MOST * N_OUT], together[MOST * N_OUT];
    float *x_there = to_device(backend, x, MOST * n_columns * sizeof *x);
    float *y_there = to_device(backend, NULL, sizeof alone);
    for (size_t r = 0; r < MOST; r++)
        run_linear(backend, matrix, 1, x_there + r * n_columns, 1, y_there + r * N_OUT);
    assert_int_equal(backend->download(alone, y_there, sizeof alone), PHI3_OK);
    for (size_t r = 0; r < COUNT(rows); r++) {
        run_linear(backend, matrix, 1, x_there, rows[r], y_there);
        assert_int_equal(backend->download(together, y_there, sizeof together), PHI3_OK);
        assert_memory_equal(alone, together, rows[r] * N_OUT * sizeof *alone);
    }
    backend->release(x_there);
    backend->release(y_there);
    backend->matrix_free(matrix);
    test_free(x);
    test_free((void *)w.data);
}

/* The same on every backend, for as many rows as decoding puts together. */
static void few_rows_do_not_matter(void **state)
{
    (void)state;
    random_state = 11;
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++)
        for (size_t d = 0; d < COUNT(all_dtypes); d++)
            for (int exact = 0; exact < 2; exact++) {
                size_t block = phi3_dtype_traits(all_dtypes[d])->block_size;
                check_few_rows(backends[b], all_dtypes[d], block == 1 ? 1000 : 5 * block,
                               exact ? PHI3_COMPUTE_FLOAT32 : PHI3_COMPUTE_MIXED);
            }
}

/* oneDNN and tiles add in another order than our other kernels: their rows differ by the rounding of
 * float32, and are the same from run to run. */
static void check_rows_through_onednn(size_t n_rows)
{
    enum { N_OUT = 150, N_COLUMNS = 320 };
    phi3_tensor w = random_tensor(PHI3_BF16, N_OUT, N_COLUMNS, 0);
    phi3_matrix *matrix = NULL;
    assert_int_equal(phi3_backend_cpu.matrix_create(&w, 1, PHI3_COMPUTE_MIXED, NULL, &matrix, NULL),
                     PHI3_OK);
    float *x = random_floats(n_rows * N_COLUMNS), *row = random_floats(N_COLUMNS);
    float *few = test_malloc(n_rows * N_OUT * sizeof *few);
    float *many = test_malloc(n_rows * N_OUT * sizeof *many);
    float *again = test_malloc(n_rows * N_OUT * sizeof *again);
    run_invariant(matrix, x, n_rows, few);
    run_linear(&phi3_backend_cpu, matrix, 2, x, n_rows, many);
    run_linear(&phi3_backend_cpu, matrix, 1, x, n_rows, again);
    assert_memory_equal(many, again, n_rows * N_OUT * sizeof *many);
    for (size_t o = 0; o < N_OUT; o++) {
        phi3_dequantize_row(PHI3_BF16, (const uint16_t *)w.data + o * N_COLUMNS, N_COLUMNS, row);
        for (size_t r = 0; r < n_rows; r++) {
            expectation e = expect(row, x + r * N_COLUMNS, N_COLUMNS);
            double off = fabs((double)many[r * N_OUT + o] - few[r * N_OUT + o]);
            assert_true(off <= tolerance(&e, PHI3_BF16, PHI3_COMPUTE_FLOAT32));
        }
    }
    phi3_backend_cpu.matrix_free(matrix);
    test_free(x);
    test_free(row);
    test_free(few);
    test_free(many);
    test_free(again);
    test_free((void *)w.data);
}

/* The fewest, a part of a panel of 64 and of 16 turned rows, and several blocks. */
static void rows_through_onednn(void **state)
{
    (void)state;
    static const size_t n_rows[] = {32, 93, 64, 530};
    random_state = 9;
    for (size_t i = 0; i < COUNT(n_rows); i++)
        check_rows_through_onednn(n_rows[i]);
}

/*
 * Weight by weight: the row of x that is 127 at one column, and so exact in 8 bits, gets 127 times
 * that column. Every code, scale and min of a packed panel is where it belongs. At most most_rows go
 * together.
 */
static void check_columns(phi3_dtype dtype, size_t n_out, size_t n_columns, size_t most_rows)
{
    phi3_tensor w = random_tensor(dtype, n_out, n_columns, 0);
    size_t row_bytes = phi3_dtype_row_bytes(dtype, n_columns);
    phi3_matrix *matrix = NULL;
    assert_int_equal(phi3_backend_cpu.matrix_create(&w, 1, PHI3_COMPUTE_MIXED, NULL, &matrix, NULL),
                     PHI3_OK);
    float *x = random_floats(n_columns * n_columns), *row = random_floats(n_columns);
    float *y = phi3_backend_cpu.allocate(n_columns * n_out * sizeof *y);
    memset(x, 0, n_columns * n_columns * sizeof *x);
    for (size_t i = 0; i < n_columns; i++)
        x[i * n_columns + i] = 127;
    for (size_t r = 0, count; r < n_columns; r += count) {
        count = n_columns - r < most_rows ? n_columns - r : most_rows;
        run_linear(&phi3_backend_cpu, matrix, 2, x + r * n_columns, count, y + r * n_out);
    }
    float rounding = 0; /* of weights to bfloat16 */
    if (most_rows >= PHI3_TILES_MIN_ROWS &&
        many_go_through_tiles(dtype, n_columns, PHI3_COMPUTE_MIXED))
        rounding = 1.f / 256;
    for (size_t o = 0; o < n_out; o++) {
        phi3_dequantize_row(dtype, (const char *)w.data + o * row_bytes, n_columns, row);
        float largest = 0;
        for (size_t i = 0; i < n_columns; i++)
            largest = fmaxf(largest, fabsf(row[i]));
        for (size_t i = 0; i < n_columns; i++)
            if (!(fabsf(y[i * n_out + o] - 127 * row[i]) <=
                  127 * (1e-6f * largest + rounding * fabsf(row[i]))))
                fail_msg("%s: row %zu, column %zu: %g, not %g", phi3_dtype_traits(dtype)->name, o,
                         i, y[i * n_out + o] / 127, row[i]);
    }
    phi3_backend_cpu.matrix_free(matrix);
    phi3_backend_cpu.release(y);
    test_free(x);
    test_free(row);
    test_free((void *)w.data);
}

static void columns_are_what_is_stored(void **state)
{
    (void)state;
    random_state = 8;
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        size_t block = phi3_dtype_traits(all_dtypes[d])->block_size;
        size_t n_columns = block == 32 ? 96 : 512;
        if (block == 1)
            continue;
        check_columns(all_dtypes[d], 67, n_columns, n_columns);
        if (many_go_through_tiles(all_dtypes[d], n_columns, PHI3_COMPUTE_MIXED))
            check_columns(all_dtypes[d], 67, n_columns, PHI3_TILES_MIN_ROWS - 1);
    }
    check_columns(PHI3_Q4_0, 2112, 512, 512); /* y so large that it is stored past the caches */
}

/* Activations of zero give zero, one that is not finite gives a row that is not. */
static void special_activations(void **state)
{
    (void)state;
    random_state = 5;
    enum { N_OUT = 9, N_COLUMNS = 256 };
    const size_t rows[] = {2, 40};
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        phi3_tensor w = random_tensor(all_dtypes[d], N_OUT, N_COLUMNS, 0);
        phi3_matrix *matrix = NULL;
        assert_int_equal(
            phi3_backend_cpu.matrix_create(&w, 1, PHI3_COMPUTE_MIXED, NULL, &matrix, NULL),
            PHI3_OK);
        for (size_t r = 0; r < COUNT(rows); r++) {
            float *x = random_floats(rows[r] * N_COLUMNS);
            float *y = test_malloc(rows[r] * N_OUT * sizeof *y);
            memset(x, 0, N_COLUMNS * sizeof *x);
            x[N_COLUMNS + 77] = NAN;
            run_linear(&phi3_backend_cpu, matrix, 1, x, rows[r], y);
            for (size_t o = 0; o < N_OUT; o++) {
                assert_true(y[o] == 0);
                assert_true(isnan(y[N_OUT + o]));
            }
            test_free(x);
            test_free(y);
        }
        phi3_backend_cpu.matrix_free(matrix);
        test_free((void *)w.data);
    }
}

static void embed_expands_rows(void **state)
{
    (void)state;
    random_state = 6;
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    enum { N_ROWS = 40, N_COLUMNS = 768, N_IDS = 20 };
    int32_t ids[N_IDS];
    for (size_t i = 0; i < N_IDS; i++)
        ids[i] = (int32_t)(random_bits() % N_ROWS);
    size_t bytes = N_IDS * N_COLUMNS * sizeof(float);
    float *out = test_malloc(bytes);
    float *row = test_malloc(N_COLUMNS * sizeof *row);
    for (size_t d = 0; d < COUNT(all_dtypes); d++) {
        phi3_tensor w = random_tensor(all_dtypes[d], N_ROWS, N_COLUMNS, 1);
        size_t row_bytes = phi3_dtype_row_bytes(w.dtype, N_COLUMNS);
        for (size_t b = 0; b < n_backends; b++) {
            phi3_matrix *table = NULL;
            assert_int_equal(
                backends[b]->matrix_create(&w, 1, PHI3_COMPUTE_MIXED, NULL, &table, NULL), PHI3_OK);
            phi3_exec exec =
                make_exec(backends[b], 2, backends[b]->matrix_scratch(table, N_IDS, 2));
            int32_t *ids_there = to_device(backends[b], ids, sizeof ids);
            float *out_there = to_device(backends[b], NULL, bytes);
            assert_int_equal(backends[b]->embed(&exec, table, ids_there, N_IDS, out_there),
                             PHI3_OK);
            from_device(backends[b], out_there, out, bytes);
            backends[b]->release(ids_there);
            for (size_t i = 0; i < N_IDS; i++) {
                phi3_dequantize_row(w.dtype, (const char *)w.data + (size_t)ids[i] * row_bytes,
                                    N_COLUMNS, row);
                assert_memory_equal(out + i * N_COLUMNS, row, N_COLUMNS * sizeof *row);
            }
            free_exec(backends[b], &exec);
            backends[b]->matrix_free(table);
        }
        test_free((uint8_t *)w.data - 1);
    }
    test_free(out);
    test_free(row);
}

static void bad_parts_are_refused(void **state)
{
    (void)state;
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    static const uint8_t data[4096];
    const phi3_tensor bad[][2] = {
        {{PHI3_F32, 2, 32, data}, {PHI3_F32, 2, 16, data}},   /* widths differ */
        {{PHI3_Q4_0, 2, 32, data}, {PHI3_Q8_0, 2, 48, data}}, /* half a block */
        {{PHI3_F32, 2, 32, data}, {(phi3_dtype)9, 2, 32, data}},
        {{PHI3_F32, 0, 32, data}, {PHI3_F32, 0, 32, data}},
        {{PHI3_F32, SIZE_MAX, 32, data}, {PHI3_F32, 2, 32, data}},
    };
    for (size_t b = 0; b < n_backends; b++) {
        for (size_t i = 0; i < COUNT(bad); i++) {
            phi3_matrix *matrix = NULL;
            phi3_error error = {.message = ""};
            assert_int_not_equal(
                backends[b]->matrix_create(bad[i], 2, PHI3_COMPUTE_MIXED, NULL, &matrix, &error),
                PHI3_OK);
            assert_null(matrix);
            assert_true(error.message[0] != '\0');
        }
    }
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_and_size), cmocka_unit_test(large_and_misaligned),
        cmocka_unit_test(widths_of_the_family),  cmocka_unit_test(mixed_parts),
        cmocka_unit_test(threads_do_not_matter), cmocka_unit_test(special_activations),
        cmocka_unit_test(embed_expands_rows),    cmocka_unit_test(bad_parts_are_refused),
        cmocka_unit_test(rows_do_not_matter),    cmocka_unit_test(few_rows_do_not_matter),
        cmocka_unit_test(rows_through_onednn),   cmocka_unit_test(columns_are_what_is_stored),
    };
    return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return run_on_every_isa(argv, all_tests);
}
