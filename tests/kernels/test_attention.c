/*
 * test_attention.c - rope_append and attention of every backend and instruction set.
 *
 * The truth is computed in double from plain arrays of keys and values: no pages, no blocks.
 * Several sequences share a batch, as core/model.c packs them.
 */
#include "support.h"

enum { MAX_SPANS = 12 };

typedef struct sequence {
    size_t n_past;
    size_t n_rows;
} sequence;

typedef struct geometry {
    size_t n_heads, n_kv_heads, head_dim, rotary_dim, window;
    phi3_dtype dtype; /* of the cache */
    phi3_compute compute;
    sequence sequences[MAX_SPANS];
    size_t n_sequences;
} geometry;

/* One batch after some past, with its inputs and its truth. */
typedef struct batch {
    const phi3_backend *backend;
    geometry g;
    size_t n_rows, row_floats, n_layers, layer;
    float *qkv;                                  /* [n_rows][row_floats] */
    float *cosine, *sine;                        /* [n_rows][rotary_dim / 2] */
    double *keys[MAX_SPANS], *values[MAX_SPANS]; /* [positions][n_kv_heads][head_dim] as stored */
    void **pages[MAX_SPANS];                     /* in host memory ... */
    void **there[MAX_SPANS]; /* ... and in the backend's, which spans point to */
    size_t n_pages[MAX_SPANS];
    phi3_kv_span spans[MAX_SPANS];
    phi3_attention attention;
} batch;

/* ---- Building a batch ------------------------------------------------------------------------ */

/* Element i of a position: of the keys (value 0) or values (1) of one head. */
typedef struct element {
    const phi3_kv_layout *kv;
    char *run, *at;
    size_t index; /* of the position, in the run */
} element;

static double stored_element(element e)
{
    const phi3_kv_layout *kv = e.kv;
    const char *at = e.at;
    switch (kv->dtype) {
    case PHI3_F16:
        return phi3_load_f16(at);
    case PHI3_BF16:
        return phi3_load_bf16(at);
    case PHI3_I8:
        return (double)*(const int8_t *)at * phi3_kv_scales(kv, e.run)[e.index];
    default:
        return phi3_load_f32(at);
    }
}

static void store_element(element e, float value)
{
    const phi3_kv_layout *kv = e.kv;
    char *at = e.at;
    uint16_t half = kv->dtype == PHI3_F16 ? phi3_f16_from_f32(value) : phi3_bf16_from_f32(value);
    if (kv->dtype == PHI3_F32)
        memcpy(at, &value, sizeof value);
    else if (kv->dtype == PHI3_I8)
        *(int8_t *)at = (int8_t)lrintf(value / phi3_kv_scales(kv, e.run)[e.index]);
    else
        memcpy(at, &half, sizeof half);
}

static element find_element(const batch *b, size_t s, size_t value, size_t head, size_t position,
                            size_t i)
{
    const phi3_kv_layout *kv = &b->attention.kv;
    element e = {.kv = kv, .index = position % PHI3_PAGE_POSITIONS};
    e.run = phi3_kv_head(kv, b->pages[s][position / PHI3_PAGE_POSITIONS], b->layer, value, head);
    size_t place = phi3_kv_place(kv, value ? 1 : b->backend->key_lanes, e.index, i);
    e.at = e.run + place * phi3_kv_element_bytes(kv->dtype);
    return e;
}

/* Puts random keys and values of the past into pages and into the truth. */
static void fill_past(batch *b, size_t s)
{
    const geometry *g = &b->g;
    const phi3_kv_layout *kv = &b->attention.kv;
    for (size_t p = 0; p < g->sequences[s].n_past; p++) {
        for (size_t i = 0; i < 2 * g->n_kv_heads * g->head_dim; i++) {
            size_t value = i / (g->n_kv_heads * g->head_dim), d = i % g->head_dim;
            size_t head = i / g->head_dim % g->n_kv_heads;
            element e = find_element(b, s, value, head, p, d);
            if (kv->dtype == PHI3_I8 && d == 0)
                phi3_kv_scales(kv, e.run)[e.index] = (float)(1 + random_unit()) / 32;
            store_element(e, random_normal());
            (value ? b->values[s] : b->keys[s])[p * g->n_kv_heads * g->head_dim +
                                                i % (g->n_kv_heads * g->head_dim)] =
                stored_element(e);
        }
    }
}

static void add_sequence(batch *b, size_t s, size_t first_row)
{
    const geometry *g = &b->g;
    sequence q = g->sequences[s];
    size_t positions = q.n_past + q.n_rows, floats = g->n_kv_heads * g->head_dim;
    b->n_pages[s] = (positions + PHI3_PAGE_POSITIONS - 1) / PHI3_PAGE_POSITIONS;
    b->pages[s] = test_malloc(b->n_pages[s] * sizeof(void *));
    b->there[s] = test_malloc(b->n_pages[s] * sizeof(void *));
    size_t page_bytes = phi3_kv_page_bytes(&b->attention.kv);
    for (size_t p = 0; p < b->n_pages[s]; p++)
        b->pages[s][p] = memset(test_malloc(page_bytes), 0xff, page_bytes);
    b->keys[s] = test_malloc(positions * floats * sizeof(double));
    b->values[s] = test_malloc(positions * floats * sizeof(double));
    fill_past(b, s);
    for (size_t p = 0; p < b->n_pages[s]; p++)
        b->there[s][p] = to_device(b->backend, b->pages[s][p], page_bytes);
    b->spans[s] = (phi3_kv_span){b->there[s], q.n_past, first_row, q.n_rows};
}

/* Fetches what the backend has stored. */
static void download_pages(const batch *b)
{
    for (size_t s = 0; s < b->g.n_sequences; s++)
        for (size_t p = 0; p < b->n_pages[s]; p++)
            assert_int_equal(b->backend->download(b->pages[s][p], b->there[s][p],
                                                  phi3_kv_page_bytes(&b->attention.kv)),
                             PHI3_OK);
}

static batch make_batch(const phi3_backend *backend, geometry g)
{
    batch b = {.backend = backend, .g = g, .n_layers = 2, .layer = 1};
    assert_int_equal(PHI3_PAGE_POSITIONS % backend->key_lanes, 0);
    for (size_t s = 0; s < g.n_sequences; s++)
        b.n_rows += g.sequences[s].n_rows;
    b.row_floats = (g.n_heads + 2 * g.n_kv_heads) * g.head_dim;
    b.qkv = random_floats(b.n_rows * b.row_floats);
    b.cosine = random_floats(b.n_rows * g.rotary_dim / 2);
    b.sine = random_floats(b.n_rows * g.rotary_dim / 2);
    b.attention = (phi3_attention){.kv = {g.dtype, b.n_layers, g.n_kv_heads, g.head_dim},
                                   .layer = b.layer,
                                   .n_heads = g.n_heads,
                                   .rotary_dim = g.rotary_dim,
                                   .sliding_window = g.window,
                                   .compute = g.compute,
                                   .n_spans = g.n_sequences};
    size_t first_row = 0;
    for (size_t s = 0; s < g.n_sequences; s++) {
        add_sequence(&b, s, first_row);
        first_row += g.sequences[s].n_rows;
    }
    return b;
}

static void free_batch(batch *b)
{
    for (size_t s = 0; s < b->g.n_sequences; s++) {
        for (size_t p = 0; p < b->n_pages[s]; p++) {
            b->backend->release(b->there[s][p]);
            test_free(b->pages[s][p]);
        }
        test_free(b->pages[s]);
        test_free(b->there[s]);
        test_free(b->keys[s]);
        test_free(b->values[s]);
    }
    test_free(b->qkv);
    test_free(b->cosine);
    test_free(b->sine);
}

/* ---- The truth ------------------------------------------------------------------------------- */

/* Element i of a rotated head. */
static double rotated(const batch *b, size_t row, const float *head, size_t i)
{
    size_t half = b->g.rotary_dim / 2;
    const float *cosine = b->cosine + row * half, *sine = b->sine + row * half;
    if (i < half)
        return (double)head[i] * cosine[i] - (double)head[i + half] * sine[i];
    if (i < 2 * half)
        return (double)head[i] * cosine[i - half] + (double)head[i - half] * sine[i - half];
    return head[i];
}

/* Two products of numbers below 4, each rounded by 2^-24 of itself, and their sum. */
#define ROTATION_ERROR (4 * 16 * 0x1p-24)

/* The most that storing changes a number of a row whose largest magnitude is `largest`. */
static double storage_error(phi3_dtype dtype, double value, double largest)
{
    switch (dtype) {
    case PHI3_F16:
        return fabs(value) * 0x1p-11;
    case PHI3_BF16:
        return fabs(value) * 0x1p-8;
    case PHI3_I8:
        return largest / 127 * 0.5001;
    default:
        return 0;
    }
}

/* Checks that the op stored the batch's keys and values, then takes what it stored as the truth: a
 * rounding of the last bit in float16 must not count twice. */
static void check_stored(const batch *b, const float *before, size_t s)
{
    const geometry *g = &b->g;
    size_t n_floats = g->n_kv_heads * g->head_dim;
    double want[256];
    assert_true(g->head_dim <= COUNT(want));
    for (size_t r = 0; r < g->sequences[s].n_rows; r++) {
        size_t row = b->spans[s].first_row + r, p = g->sequences[s].n_past + r;
        for (size_t h = 0; h < 2 * g->n_kv_heads; h++) {
            size_t value = h / g->n_kv_heads, head = h % g->n_kv_heads;
            const float *from = before + row * b->row_floats + (g->n_heads + h) * g->head_dim;
            double largest = 0;
            for (size_t d = 0; d < g->head_dim; d++) {
                want[d] = value ? from[d] : rotated(b, row, from, d);
                largest = fmax(largest, fabs(want[d]));
            }
            for (size_t d = 0; d < g->head_dim; d++) {
                double got = stored_element(find_element(b, s, value, head, p, d));
                double allowed = storage_error(g->dtype, want[d], largest) + ROTATION_ERROR;
                assert_true(fabs(got - want[d]) <= allowed);
                (value ? b->values[s] : b->keys[s])[p * n_floats + head * g->head_dim + d] = got;
            }
        }
    }
}

/* softmax(q k / sqrt(head_dim)) v for one head of one row: out [head_dim]. */
static void true_attention(const batch *b, size_t s, size_t r, size_t head, const float *query,
                           double *out)
{
    const geometry *g = &b->g;
    size_t position = g->sequences[s].n_past + r;
    size_t kv_head = head / (g->n_heads / g->n_kv_heads);
    double total = 0;
    memset(out, 0, g->head_dim * sizeof *out);
    for (size_t j = 0; j <= position; j++) {
        if (g->window && position - j >= g->window)
            continue;
        const double *key = b->keys[s] + (j * g->n_kv_heads + kv_head) * g->head_dim;
        const double *value = b->values[s] + (j * g->n_kv_heads + kv_head) * g->head_dim;
        double dot = 0;
        for (size_t i = 0; i < g->head_dim; i++)
            dot += query[i] * key[i];
        double weight = exp(dot / sqrt((double)g->head_dim)); /* small enough in double */
        for (size_t i = 0; i < g->head_dim; i++)
            out[i] += weight * value[i];
        total += weight;
    }
    for (size_t i = 0; i < g->head_dim; i++)
        out[i] /= total;
}

/*
 * In float32, scores of some tens times 2^-24 give weights that are off by 1e-6 or so; values are
 * about 1. In bfloat16 numbers are rounded by 2^-9 of themselves: sums of head_dim random products
 * over sqrt(head_dim) are off by some 2^-8, once in many thousands by ten times that, and weights
 * with them.
 */
static double tolerance(const geometry *g)
{
    return g->compute == PHI3_COMPUTE_MIXED && g->dtype != PHI3_F32 ? 0.05 : 1e-5;
}

static void check_attention(const batch *b, const phi3_backend *backend, const float *out)
{
    const geometry *g = &b->g;
    double *want = test_malloc(g->head_dim * sizeof *want), squares = 0;
    for (size_t s = 0; s < g->n_sequences; s++) {
        for (size_t r = 0; r < g->sequences[s].n_rows; r++) {
            size_t row = b->spans[s].first_row + r;
            for (size_t h = 0; h < g->n_heads; h++) {
                true_attention(b, s, r, h, b->qkv + row * b->row_floats + h * g->head_dim, want);
                const float *got = out + (row * g->n_heads + h) * g->head_dim;
                for (size_t i = 0; i < g->head_dim; i++) {
                    squares += (got[i] - want[i]) * (got[i] - want[i]);
                    if (!(fabs(got[i] - want[i]) <= tolerance(g)))
                        fail_msg("%s: sequence %zu, row %zu, head %zu, element %zu: %g, not %g",
                                 backend->name, s, r, h, i, got[i], want[i]);
                }
            }
        }
    }
    assert_true(sqrt(squares / (double)(b->n_rows * g->n_heads * g->head_dim)) <=
                tolerance(g) / 10);
    test_free(want);
}

/* CUDA's emulator is hundreds of times slower than a core, too. */
static bool is_emulated(void)
{
    return getenv("EMULATOR_ORDER") || is_under_qemu();
}

/* ---- The tests ------------------------------------------------------------------------------- */

/* With batch_invariant a row's result is the same, to the bit, when it is computed alone. */
static void check_rows_alone(const batch *b, const phi3_backend *backend, phi3_exec *all)
{
    size_t out_floats = b->g.n_heads * b->g.head_dim;
    float *out = test_malloc(b->n_rows * out_floats * sizeof *out);
    float *alone = test_malloc(out_floats * sizeof *alone);
    all->batch_invariant = true;
    assert_int_equal(backend->attention(all, &b->attention, b->qkv, out), PHI3_OK);
    check_attention(b, backend, out);
    for (size_t s = 0; s < b->g.n_sequences; s++) {
        for (size_t r = 0; r < b->spans[s].n_rows; r++) {
            phi3_kv_span span = {b->there[s], b->spans[s].n_past + r, 0, 1};
            phi3_attention attention = b->attention;
            attention.spans = &span;
            attention.n_spans = 1;
            int n_threads = 1 + (int)(random_bits() % 3);
            phi3_exec exec =
                make_exec(backend, n_threads, backend->attention_scratch(&attention, 1, n_threads));
            exec.batch_invariant = true;
            size_t row = b->spans[s].first_row + r;
            begin_batch(backend, &exec, &attention, 1, NULL, NULL);
            assert_int_equal(
                backend->attention(&exec, &attention, b->qkv + row * b->row_floats, alone),
                PHI3_OK);
            assert_memory_equal(alone, out + row * out_floats, out_floats * sizeof *alone);
            free_exec(backend, &exec);
        }
    }
    test_free(alone);
    test_free(out);
}

/* No result depends on the number of threads. */
static void check_threads(const batch *b, const phi3_backend *backend, const float *out)
{
    size_t bytes = b->n_rows * b->g.n_heads * b->g.head_dim * sizeof(float);
    float *again = test_malloc(bytes);
    const int counts[] = {1, 2, 3, 16};
    for (size_t i = 0; i < COUNT(counts); i++) {
        phi3_exec exec = make_exec(backend, counts[i],
                                   backend->attention_scratch(&b->attention, b->n_rows, counts[i]));
        begin_batch(backend, &exec, &b->attention, b->n_rows, NULL, NULL);
        assert_int_equal(backend->attention(&exec, &b->attention, b->qkv, again), PHI3_OK);
        assert_memory_equal(again, out, bytes);
        free_exec(backend, &exec);
    }
    test_free(again);
}

/* A sequence's results are the same, to the bit, when it is computed alone. */
static void check_spans_alone(const batch *b, const phi3_backend *backend, const float *out)
{
    size_t out_floats = b->g.n_heads * b->g.head_dim;
    for (size_t s = 0; s < b->g.n_sequences; s++) {
        phi3_kv_span span = b->spans[s];
        size_t first_row = span.first_row, n_rows = span.n_rows;
        size_t bytes = n_rows * out_floats * sizeof(float);
        span.first_row = 0;
        phi3_attention attention = b->attention;
        attention.spans = &span;
        attention.n_spans = 1;
        phi3_exec exec = make_exec(backend, 1, backend->attention_scratch(&attention, n_rows, 1));
        begin_batch(backend, &exec, &attention, n_rows, NULL, NULL);
        float *qkv = to_device(backend, b->qkv + first_row * b->row_floats,
                               n_rows * b->row_floats * sizeof(float));
        float *alone = test_malloc(bytes), *there = to_device(backend, NULL, bytes);
        assert_int_equal(backend->attention(&exec, &attention, qkv, there), PHI3_OK);
        from_device(backend, there, alone, bytes);
        assert_memory_equal(alone, out + first_row * out_floats, bytes);
        backend->release(qkv);
        test_free(alone);
        free_exec(backend, &exec);
    }
}

static void check(const phi3_backend *backend, geometry g, int n_threads)
{
    batch b = make_batch(backend, g);
    b.attention.spans = b.spans;
    size_t bytes = b.n_rows * b.row_floats * sizeof(float);
    float *before = test_malloc(bytes);
    memcpy(before, b.qkv, bytes);

    phi3_exec exec = make_exec(backend, n_threads,
                               backend->attention_scratch(&b.attention, b.n_rows, n_threads));
    phi3_batch rows = begin_batch(backend, &exec, &b.attention, b.n_rows, b.cosine, b.sine);
    float *qkv = to_device(backend, b.qkv, bytes);
    assert_int_equal(backend->rope_append(&exec, &b.attention, rows.cosine, rows.sine, qkv),
                     PHI3_OK);
    assert_int_equal(backend->download(b.qkv, qkv, bytes), PHI3_OK);
    download_pages(&b);
    for (size_t s = 0; s < g.n_sequences; s++)
        check_stored(&b, before, s);
    for (size_t row = 0; row < b.n_rows; row++)
        for (size_t i = 0; i < g.n_heads * g.head_dim; i++) {
            const float *head = before + row * b.row_floats + i / g.head_dim * g.head_dim;
            double want = rotated(&b, row, head, i % g.head_dim);
            double got = b.qkv[row * b.row_floats + i];
            assert_true(fabs(got - want) <= ROTATION_ERROR);
        }

    size_t out_bytes = b.n_rows * g.n_heads * g.head_dim * sizeof(float);
    float *out = test_malloc(out_bytes), *out_there = to_device(backend, NULL, out_bytes);
    assert_int_equal(backend->attention(&exec, &b.attention, qkv, out_there), PHI3_OK);
    from_device(backend, out_there, out, out_bytes);
    backend->release(qkv);
    check_attention(&b, backend, out);
    check_spans_alone(&b, backend, out);
    if (backend == &phi3_backend_cpu && !is_under_qemu()) {
        check_rows_alone(&b, backend, &exec);
        check_threads(&b, backend, out);
    }

    test_free(out);
    test_free(before);
    free_exec(backend, &exec);
    free_batch(&b);
}

/* Whether a backend computes this otherwise when it must be exact: "cuda" does in long spans only. */
static bool has_modes(const phi3_backend *backend, const geometry *g)
{
    size_t longest = 0;
    for (size_t s = 0; s < g->n_sequences; s++)
        longest = g->sequences[s].n_rows > longest ? g->sequences[s].n_rows : longest;
    return backend == &phi3_backend_cpu || (backend != &phi3_backend_reference && longest > 16);
}

static void check_everywhere(geometry g)
{
    const phi3_dtype dtypes[] = {PHI3_F32, PHI3_F16, PHI3_BF16, PHI3_I8};
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++)
        for (size_t i = 0; i < 2 * COUNT(dtypes); i++) {
            g.dtype = dtypes[i / 2];
            g.compute = i % 2 ? PHI3_COMPUTE_FLOAT32 : PHI3_COMPUTE_MIXED;
            if (has_modes(backends[b], &g) || g.compute == PHI3_COMPUTE_MIXED)
                check(backends[b], g, 1 + (int)(random_bits() % 2));
        }
}

static void heads_and_dimensions(void **state)
{
    (void)state;
    random_state = 1;
    const size_t dims[] = {64, 80, 96, 128, 20, 33}, groups[] = {1, 3, 4};
    for (size_t d = 0; d < COUNT(dims); d++) {
        for (size_t i = 0; i < COUNT(groups); i++) {
            geometry g = {.n_heads = 2 * groups[i],
                          .n_kv_heads = 2,
                          .head_dim = dims[d],
                          .rotary_dim = i == 1 ? dims[d] / 4 * 3 / 2 * 2 : dims[d],
                          .sequences = {{5, 3}, {70, 1}},
                          .n_sequences = 2};
            check_everywhere(g);
        }
    }
}

static void page_boundaries(void **state)
{
    (void)state;
    random_state = 2;
    const size_t lengths[] = {0, 1, 62, 63, 64, 65, 127, 128};
    for (size_t a = 0; a < COUNT(lengths); a++) {
        for (size_t r = 1; r <= 3; r++) {
            geometry g = {.n_heads = 3,
                          .n_kv_heads = 1,
                          .head_dim = 64,
                          .rotary_dim = 64,
                          .sequences = {{lengths[a], r}},
                          .n_sequences = 1};
            check_everywhere(g);
        }
    }
}

/* Long prompts: more rows than a unit holds, across pages, next to others. */
static void prefill(void **state)
{
    (void)state;
    random_state = 3;
    const size_t dims[] = {96, 64, 128};
    for (size_t d = 0; d < COUNT(dims); d++) {
        geometry g = {.n_heads = is_emulated() ? 2 : 4,
                      .n_kv_heads = d == 1 ? 2 : 1,
                      .head_dim = dims[d],
                      .rotary_dim = dims[d],
                      .sequences = {{0, d == 0 ? 150 : 70}, {130, 1}, {60, 33}},
                      .n_sequences = 3};
        check_everywhere(g);
    }
    if (!is_emulated()) { /* a block of one query vector at the end of a long span */
        geometry g = {.n_heads = 2,
                      .n_kv_heads = 2,
                      .head_dim = 96,
                      .rotary_dim = 96,
                      .sequences = {{0, 33}, {100, 65}},
                      .n_sequences = 2};
        check_everywhere(g);
    }
    geometry g = {.n_heads = 40, /* more heads on a kv head than a unit has queries */
                  .n_kv_heads = 1,
                  .head_dim = 16,
                  .rotary_dim = 16,
                  .sequences = {{0, is_emulated() ? 9 : 150}, {is_emulated() ? 65 : 130, 1}},
                  .n_sequences = 2};
    check_everywhere(g);
}

static void sliding_windows(void **state)
{
    (void)state;
    random_state = 4;
    const size_t windows[] = {1, 5, 64, 100, 1000};
    for (size_t w = 0; w < COUNT(windows); w++) {
        bool is_short = is_emulated() && w % 2 == 0;
        geometry g = {.n_heads = is_emulated() ? 1 : 3,
                      .n_kv_heads = is_emulated() ? 1 : 3,
                      .head_dim = w % 2 ? 64 : 32,
                      .rotary_dim = 32,
                      .window = windows[w],
                      .sequences = {{200, 1}, {0, is_short ? 9 : 90}, {63, 2}, {150, 20}},
                      .n_sequences = is_short ? 3 : 4};
        check_everywhere(g);
    }
}

/* One new row after much: stretches of the past are computed apart, for some numbers of threads. */
static void long_pasts(void **state)
{
    (void)state;
    random_state = 6;
    const size_t windows[] = {0, 300, 600};
    for (size_t w = 0; w < COUNT(windows); w++) {
        geometry g = {.n_heads = 6,
                      .n_kv_heads = 2,
                      .head_dim = 64,
                      .rotary_dim = 64,
                      .window = windows[w],
                      .sequences = {{is_under_qemu() ? 610 : 1100, 1}, {255, 2}, {700, 5}},
                      .n_sequences = 3};
        check_everywhere(g);
    }
}

/* As many callers decode together, one of them further than the others. */
static void many_sequences(void **state)
{
    (void)state;
    random_state = 7;
    geometry g = {
        .n_heads = 4, .n_kv_heads = 4, .head_dim = 32, .rotary_dim = 32, .n_sequences = MAX_SPANS};
    for (size_t s = 0; s < MAX_SPANS; s++)
        g.sequences[s] = (sequence){s == 5 ? 900 : 11 * s, 1};
    check_everywhere(g);
}

/* So many rows that a device does not split their pasts, unlike those of one alone. */
static void many_rows(void **state)
{
    (void)state;
    random_state = 9;
    geometry g = {.n_heads = 12,
                  .n_kv_heads = 12,
                  .head_dim = 64,
                  .rotary_dim = 64,
                  .sequences = {{is_under_qemu() ? 70 : 600, 2},
                                {0, 16},
                                {5, 16},
                                {is_under_qemu() ? 60 : 250, 16},
                                {9, 16},
                                {11, 16},
                                {is_under_qemu() ? 64 : 300, 16}},
                  .n_sequences = 7};
    check_everywhere(g);
}

/* Scores that would overflow without the running maximum, and a maximum that comes last. */
static void large_scores(void **state)
{
    (void)state;
    random_state = 5;
    enum { POSITIONS = 130, DIM = 16 };
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++) {
        const phi3_backend *backend = backends[b];
        phi3_attention a = {.kv = {PHI3_F32, 1, 1, DIM}, .n_heads = 1, .n_spans = 1};
        void *pages[3];
        for (int p = 0; p < 3; p++)
            assert_non_null(pages[p] = backend->allocate(phi3_kv_page_bytes(&a.kv)));
        phi3_kv_span span = {pages, 0, 0, POSITIONS};
        a.spans = &span;
        size_t out_bytes = POSITIONS * DIM * sizeof(float);
        float *qkv = random_floats(POSITIONS * 3 * DIM), *out = test_malloc(out_bytes);
        for (size_t r = 0; r < POSITIONS; r++)
            for (size_t i = 0; i < DIM; i++) {
                qkv[(r * 3 + 0) * DIM + i] = 40;
                qkv[(r * 3 + 1) * DIM + i] = (float)r; /* each key scores 160 more than the last */
                qkv[(r * 3 + 2) * DIM + i] = (float)(r + i);
            }
        phi3_exec exec = make_exec(backend, 2, backend->attention_scratch(&a, POSITIONS, 2));
        begin_batch(backend, &exec, &a, POSITIONS, NULL, NULL);
        float *there = to_device(backend, qkv, 3 * out_bytes);
        float *out_there = to_device(backend, NULL, out_bytes);
        assert_int_equal(backend->rope_append(&exec, &a, NULL, NULL, there), PHI3_OK);
        assert_int_equal(backend->attention(&exec, &a, there, out_there), PHI3_OK);
        from_device(backend, out_there, out, out_bytes);
        backend->release(there);
        for (size_t r = 0; r < POSITIONS; r++)
            for (size_t i = 0; i < DIM; i++) /* the row's own value wins outright */
                assert_true(out[r * DIM + i] == (float)(r + i));
        free_exec(backend, &exec);
        test_free(qkv);
        test_free(out);
        for (int p = 0; p < 3; p++)
            backend->release(pages[p]);
    }
}

/* A NaN or an infinity shows in the row that sees it, and in no other sequence. */
static void not_numbers(void **state)
{
    (void)state;
    random_state = 8;
    enum { POSITIONS = 100, DIM = 32, BAD = 70 };
    const phi3_dtype dtypes[] = {PHI3_F32, PHI3_F16, PHI3_BF16, PHI3_I8};
    size_t n_backends;
    const phi3_backend *const *backends = test_backends(&n_backends);
    for (size_t b = 0; b < n_backends; b++) {
        for (size_t i = 0; i < 4 * COUNT(dtypes); i++) {
            geometry g = {.n_heads = 1,
                          .n_kv_heads = 1,
                          .head_dim = DIM,
                          .dtype = dtypes[i / 4],
                          .sequences = {{BAD, 1}, {0, BAD}, {BAD, POSITIONS - BAD}},
                          .n_sequences = 3};
            const phi3_backend *backend = backends[b];
            batch made = make_batch(backend, g);
            made.attention.spans = made.spans;
            made.qkv[3] = 1; /* so that an infinite key has the highest score, not the lowest */
            float *bad = made.qkv + (i % 2 ? 2 : 1) * DIM; /* the first row's key or value */
            bad[3] = i / 2 % 2 ? NAN : INFINITY;
            phi3_exec exec =
                make_exec(backend, 2, backend->attention_scratch(&made.attention, made.n_rows, 2));
            size_t out_bytes = made.n_rows * DIM * sizeof(float);
            float *out = test_malloc(out_bytes), *there = to_device(backend, NULL, out_bytes);
            float *qkv = to_device(backend, made.qkv, made.n_rows * made.row_floats * sizeof *qkv);
            begin_batch(backend, &exec, &made.attention, made.n_rows, NULL, NULL);
            backend->rope_append(&exec, &made.attention, NULL, NULL, qkv);
            backend->attention(&exec, &made.attention, qkv, there);
            from_device(backend, there, out, out_bytes);
            backend->release(qkv);
            size_t n_bad = 0;
            for (size_t j = 0; j < DIM; j++)
                n_bad += !isfinite(out[j]);
            assert_true(n_bad > 0);
            for (size_t j = DIM; j < made.n_rows * DIM; j++)
                assert_true(isfinite(out[j]));
            test_free(out);
            free_exec(backend, &exec);
            free_batch(&made);
        }
    }
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_and_dimensions),
        cmocka_unit_test(page_boundaries),
        cmocka_unit_test(prefill),
        cmocka_unit_test(sliding_windows),
        cmocka_unit_test(long_pasts),
        cmocka_unit_test(many_sequences),
        cmocka_unit_test(many_rows),
        cmocka_unit_test(large_scores),
        cmocka_unit_test(not_numbers),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return run_on_every_isa(argv, all_tests);
}
