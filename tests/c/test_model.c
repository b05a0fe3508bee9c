/*
 * The forward: however a sequence reaches the model, it gets the logits that it gets alone, at once
 * and in a fresh cache; and whatever stops a forward leaves its caches as they were.
 *
 * The reference backend computes every row by itself, so equal means equal to the last bit.
 */
#include <math.h>
#include <sys/wait.h>

#include "core/cache.h"
#include "core/forward.h"
#include "core/model.h"
#define TINY_SEED 1
#include "tiny_fixture.h"

/* Feeds `count` ids to a cache; logits [n_logits][TINY_VOCAB]. */
static void feed(phi3_cache *cache, const int32_t *tokens, size_t count, size_t n_logits,
                 float *logits)
{
    phi3_span span = {cache, tokens, count, n_logits};
    assert_int_equal(phi3_model_forward(model, &span, 1, NULL, logits, &error), PHI3_OK);
}

/* The logits after the last of ids[0 .. count) from a fresh cache. */
static void expected_logits(const int32_t *tokens, size_t count, float *logits)
{
    phi3_cache *cache = new_cache();
    feed(cache, tokens, count, 1, logits);
    phi3_cache_free(cache);
}

static void assert_same(const float *a, const float *b)
{
    assert_memory_equal(a, b, TINY_VOCAB * sizeof(float));
}

/* ---- The same result by every road ------------------------------------------------------------ */

static void test_pieces_equal_the_whole(void **state)
{
    (void)state;
    enum { LENGTH = 600 };
    static float whole[LENGTH][TINY_VOCAB], pieces[LENGTH][TINY_VOCAB];
    phi3_cache *cache = new_cache();
    feed(cache, ids, LENGTH, LENGTH, *whole);
    assert_int_equal(phi3_cache_reset(cache, &error), PHI3_OK);
    const size_t sizes[] = {100, 1, 1, 62, 64, 65, 256, 51}; /* 100: long factors at once */
    size_t done = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        feed(cache, ids + done, sizes[i], sizes[i], pieces[done]);
        done += sizes[i];
    }
    assert_int_equal(done, LENGTH);
    assert_memory_equal(whole, pieces, sizeof whole);
    phi3_cache_free(cache);
}

static void test_ragged_batch_equals_single_sequences(void **state)
{
    (void)state;
    const size_t past[] = {0, 30, 0, 68, 128}, count[] = {5, 1, 500, 4, 33}; /* in two chunks */
    static float batch[5 * 2][TINY_VOCAB];
    phi3_span spans[5];
    size_t n_logits = 0;
    for (size_t i = 0; i < 5; i++) {
        spans[i] = (phi3_span){new_cache(), ids + past[i] + i, count[i], count[i] < 2 ? 1 : 2};
        n_logits += spans[i].n_logits;
        if (past[i] > 0)
            feed(spans[i].cache, ids + i, past[i], 0, NULL);
    }
    assert_int_equal(phi3_model_forward(model, spans, 5, NULL, *batch, &error), PHI3_OK);
    size_t row = 0;
    for (size_t i = 0; i < 5; i++) {
        float alone[TINY_VOCAB];
        row += spans[i].n_logits;
        expected_logits(ids + i, past[i] + count[i], alone);
        assert_same(batch[row - 1], alone);
        phi3_cache_free(spans[i].cache);
    }
    assert_int_equal(row, n_logits);
}

/* Rows that want candidates, or all logits, or candidates that a temperature has made equal. */
static void test_candidates_are_the_highest_logits(void **state)
{
    (void)state;
    enum { ROWS = 40, KINDS = 5 }; /* more than go through the head together */
    const size_t wanted[KINDS] = {0, 1, 5, TINY_VOCAB, 5};
    static float all[ROWS][TINY_VOCAB], given[ROWS][TINY_VOCAB];
    static phi3_candidates candidates[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        candidates[i].n_wanted = wanted[i % KINDS];
        candidates[i].temperature = i % KINDS == KINDS - 1 ? INFINITY : 0.5f;
        candidates[i].count = 77;
    }
    phi3_cache *cache = new_cache(), *other = new_cache();
    feed(cache, ids, ROWS + 30, ROWS, *all);
    phi3_span span = {other, ids, ROWS + 30, ROWS};
    assert_int_equal(
        phi3_model_forward_candidates(model, &span, 1, NULL, candidates, *given, &error), PHI3_OK);
    for (size_t i = 0; i < ROWS; i++) {
        const phi3_candidates *c = &candidates[i];
        bool is_tied = i % KINDS == KINDS - 1;
        assert_int_equal(c->count, is_tied ? 0 : c->n_wanted);
        for (size_t j = 0; j < c->count; j++) {
            size_t n_higher = 0;
            for (size_t id = 0; id < TINY_VOCAB; id++)
                n_higher += all[i][id] > all[i][c->ids[j]];
            assert_int_equal(n_higher, j);
            assert_true(c->n_wanted == 1 || c->values[j] == all[i][c->ids[j]]);
        }
        for (size_t id = 0; id < TINY_VOCAB; id++)
            assert_true(given[i][id] == (c->count == 0 ? all[i][id] : 0));
    }
    phi3_cache_free(cache);
    phi3_cache_free(other);
}

static void test_longrope_crossing_equals_a_fresh_cache(void **state)
{
    (void)state;
    float stepped[TINY_VOCAB], alone[TINY_VOCAB];
    phi3_cache *cache = new_cache();
    for (size_t length = 1; length <= TINY_ORIGINAL + 3; length++) { /* upwards, token by token */
        feed(cache, ids + length - 1, 1, 1, stepped);
        expected_logits(ids, length, alone);
        assert_same(stepped, alone);
    }
    assert_int_equal(phi3_cache_truncate(cache, 40, &error), PHI3_OK); /* and back */
    feed(cache, ids + 40, 3, 1, stepped);
    expected_logits(ids, 43, alone);
    assert_same(stepped, alone);
    phi3_cache_free(cache);
}

/* The two factor lists must differ, or the test above says nothing. */
static void test_factors_follow_the_total_length(void **state)
{
    (void)state;
    float many[2][TINY_VOCAB], few[TINY_VOCAB];
    phi3_cache *cache = new_cache();
    feed(cache, ids, TINY_ORIGINAL + 1, 2, *many);
    expected_logits(ids, TINY_ORIGINAL, few);
    assert_memory_not_equal(many[0], few, sizeof few);
    phi3_cache_free(cache);
}

static void test_cpu_backend_agrees(void **state)
{
    (void)state;
    phi3_model *cpu = tiny_model_load(tiny_config, "cpu");
    assert_non_null(cpu);
    float expected[TINY_VOCAB], logits[TINY_VOCAB];
    phi3_cache *cache;
    assert_int_equal(phi3_cache_create(cpu, &cache, &error), PHI3_OK);
    phi3_span span = {cache, ids, 300, 1};
    assert_int_equal(phi3_model_forward(cpu, &span, 1, NULL, logits, &error), PHI3_OK);
    expected_logits(ids, 300, expected);
    for (size_t i = 0; i < TINY_VOCAB; i++)
        assert_float_equal(logits[i], expected[i], 1e-3);
    phi3_cache_free(cache);
    phi3_model_free(cpu);
}

/* ---- What stops a forward --------------------------------------------------------------------- */

static bool count_down(void *user_data)
{
    size_t *left = user_data;
    return (*left)-- == 0;
}

/* Interrupts a forward at its first point, its second, and so on until none is left. */
static void interrupt_everywhere(size_t past, size_t count)
{
    float logits[TINY_VOCAB], expected[TINY_VOCAB];
    expected_logits(ids, past + count, expected);
    phi3_cache *cache = new_cache();
    if (past > 0)
        feed(cache, ids, past, 0, NULL);
    phi3_span span = {cache, ids + past, count, 1};
    size_t n_points = 0;
    for (;; n_points++) {
        size_t left = n_points, length;
        phi3_run_options options = {.interrupt = count_down, .interrupt_data = &left};
        phi3_status status = phi3_model_forward(model, &span, 1, &options, logits, &error);
        if (status == PHI3_OK)
            break;
        assert_int_equal(status, PHI3_ERROR_INTERRUPTED);
        assert_memory_equal(phi3_cache_ids(cache, &length), ids, past * sizeof *ids);
        assert_int_equal(length, past);
    }
    assert_true(n_points >= 10);
    assert_same(logits, expected);
    phi3_cache_free(cache);
}

static void test_interrupts_leave_the_cache_usable(void **state)
{
    (void)state;
    interrupt_everywhere(0, 5);
    interrupt_everywhere(40, 5);
    interrupt_everywhere(TINY_ORIGINAL - 2, 4); /* in the middle of a recompute */
    interrupt_everywhere(0, 600);               /* between chunks */
}

static void test_interrupted_recompute_then_shorter(void **state)
{
    (void)state;
    float logits[TINY_VOCAB], expected[TINY_VOCAB];
    phi3_cache *cache = new_cache();
    feed(cache, ids, TINY_ORIGINAL, 0, NULL);
    size_t left = 8;
    phi3_run_options options = {.interrupt = count_down, .interrupt_data = &left};
    phi3_span span = {cache, ids + TINY_ORIGINAL, 1, 1};
    assert_int_equal(phi3_model_forward(model, &span, 1, &options, logits, &error),
                     PHI3_ERROR_INTERRUPTED);
    assert_int_equal(phi3_cache_truncate(cache, 50, &error), PHI3_OK);
    feed(cache, ids + 50, 2, 1, logits);
    expected_logits(ids, 52, expected);
    assert_same(logits, expected);
    phi3_cache_free(cache);
}

static size_t allocations_left;

static void *scarce_allocate(size_t size)
{
    return allocations_left-- > 0 ? phi3_backend_reference.allocate(size) : NULL;
}

static void test_running_out_of_memory(void **state)
{
    (void)state;
    phi3_backend scarce = phi3_backend_reference;
    scarce.allocate = scarce_allocate;
    phi3_model *own = tiny_model_load(tiny_config, "reference");
    own->segments[0].backend = &scarce;
    float logits[TINY_VOCAB], expected[TINY_VOCAB];
    expected_logits(ids, 200, expected);
    phi3_cache *cache;
    assert_int_equal(phi3_cache_create(own, &cache, &error), PHI3_OK);
    phi3_span span = {cache, ids, 200, 1};
    size_t n_failures = 0;
    for (;; n_failures++) {
        allocations_left = n_failures;
        phi3_status status = phi3_model_forward(own, &span, 1, NULL, logits, &error);
        if (status == PHI3_OK)
            break;
        assert_int_equal(status, PHI3_ERROR_OUT_OF_MEMORY);
        assert_int_equal(cache->length, 0);
        assert_int_equal(phi3_cache_bytes(cache), 0);
        forget_idle_pages(own);
    }
    assert_true(n_failures >= 4);
    assert_same(logits, expected);
    phi3_cache_free(cache);
    phi3_model_free(own);
}

/* ---- Refusals --------------------------------------------------------------------------------- */

static void refuse(phi3_span *spans, size_t n_spans, float *logits, const char *part_of_message)
{
    assert_int_equal(phi3_model_forward(model, spans, n_spans, NULL, logits, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, part_of_message));
}

static void test_bad_spans_are_refused(void **state)
{
    (void)state;
    float logits[TINY_VOCAB];
    phi3_cache *cache = new_cache();
    int32_t outside[] = {3, TINY_VOCAB}, negative[] = {-1};
    phi3_span good = {cache, ids, 4, 1}, twice[] = {good, good};
    refuse(&(phi3_span){NULL, ids, 4, 1}, 1, logits, "cache");
    refuse(&(phi3_span){cache, ids, 0, 0}, 1, logits, "0 ids");
    refuse(&(phi3_span){cache, ids, 2, 3}, 1, logits, "3 logits");
    refuse(&(phi3_span){cache, outside, 2, 1}, 1, logits, "96 is not in the vocabulary");
    refuse(&(phi3_span){cache, negative, 1, 1}, 1, logits, "-1 is not in the vocabulary");
    refuse(&good, 1, NULL, "no room");
    refuse(twice, 2, logits, "same cache");
    feed(cache, ids, TINY_POSITIONS, 0, NULL);
    refuse(&good, 1, logits, "longer than the 700 that this model takes (max_position_embeddings)");
    phi3_cache_free(cache);
}

static void test_a_forked_child_is_refused(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        phi3_cache *cache = NULL;
        phi3_span span = {.ids = ids, .count = 1};
        bool right = phi3_cache_create(model, &cache, &error) == PHI3_OK;
        span.cache = cache;
        right =
            right && phi3_model_forward(model, &span, 1, NULL, NULL, &error) == PHI3_ERROR_FORKED;
        right =
            right && tiny_model_open(tiny_config, "reference", &model, &error) == PHI3_ERROR_FORKED;
        _exit(right ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_bad_options_are_refused(void **state)
{
    (void)state;
    phi3_model *none = NULL;
    const phi3_model_options bad[] = {{.compute_dtype = "int3"},
                                      {.kv_cache_dtype = "int3"},
                                      {.device = "abacus"},
                                      {.n_threads = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(phi3_model_load("/", &bad[i], &none, &error), PHI3_ERROR_INVALID_ARGUMENT);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_equal_the_whole),
        cmocka_unit_test(test_ragged_batch_equals_single_sequences),
        cmocka_unit_test(test_candidates_are_the_highest_logits),
        cmocka_unit_test(test_longrope_crossing_equals_a_fresh_cache),
        cmocka_unit_test(test_factors_follow_the_total_length),
        cmocka_unit_test(test_cpu_backend_agrees),
        cmocka_unit_test(test_interrupts_leave_the_cache_usable),
        cmocka_unit_test(test_interrupted_recompute_then_shorter),
        cmocka_unit_test(test_running_out_of_memory),
        cmocka_unit_test(test_bad_spans_are_refused),
        cmocka_unit_test(test_a_forked_child_is_refused),
        cmocka_unit_test(test_bad_options_are_refused),
    };
    return cmocka_run_group_tests(tests, load_model, free_model);
}
