/*
 * A model in segments: it computes what it computes in one, its caches have pages on every backend,
 * and a segment that runs out of memory leaves everything as it was.
 *
 * Segments are cut into a loaded reference model here, where equal means equal to the last bit; maps
 * and limits, which place a model when it is loaded, are in test_devices.c.
 */
#include "core/cache.h"
#include "core/model.h"
#define TINY_SEED 5
#include "tiny_fixture.h"

/* A second backend that computes as the reference does, and counts its memory. */
static size_t allocations_left = SIZE_MAX, n_held;
static phi3_backend other;

static void *other_allocate(size_t size)
{
    if (allocations_left == 0)
        return NULL;
    if (allocations_left != SIZE_MAX)
        allocations_left--;
    void *memory = phi3_backend_reference.allocate(size);
    n_held += memory != NULL;
    return memory;
}

static void other_release(void *memory)
{
    n_held--;
    phi3_backend_reference.release(memory);
}

static phi3_segment segment_of(const phi3_backend *backend, size_t first, size_t end)
{
    phi3_segment segment = {backend, first, end - first, model->kv};
    segment.kv.n_layers = end - first;
    return segment;
}

/* A model whose layers from `first` to `end` are on the other backend. Norms and matrices may stay
 * where they are: both have the host's memory. */
static phi3_model *split(size_t first, size_t end)
{
    phi3_model *own = tiny_model_load(tiny_config, "reference");
    assert_non_null(own);
    other = phi3_backend_reference;
    other.name = "other";
    own->segments[0] = segment_of(&phi3_backend_reference, 0, first);
    own->segments[1] = segment_of(&other, first, end);
    own->segments[2] = segment_of(&phi3_backend_reference, end, TINY_LAYERS);
    own->n_segments = 3;
    return own;
}

/* From now on, the other backend's memory is counted. */
static void count_memory(void)
{
    other.allocate = other_allocate;
    other.release = other_release;
    allocations_left = SIZE_MAX;
    n_held = 0;
}

/* Frees what the model keeps idle: the other backend's, too. */
static void free_pools(phi3_model *own)
{
    phi3_workspace_pool_free(own, own->workspaces);
    phi3_page_pool_free(own, own->pages);
    own->workspaces = NULL;
    own->pages = NULL;
}

/* Before the weights are freed, which were never counted. */
static void free_split(phi3_model *own)
{
    free_pools(own);
    other = phi3_backend_reference;
    phi3_model_free(own);
}

static void logits_of(const phi3_model *which, size_t past, size_t count, float *logits)
{
    phi3_cache *cache;
    assert_int_equal(phi3_cache_create(which, &cache, &error), PHI3_OK);
    phi3_span before = {cache, ids, past, 0}, span = {cache, ids + past, count, count};
    if (past > 0)
        assert_int_equal(phi3_model_forward(which, &before, 1, NULL, NULL, &error), PHI3_OK);
    assert_int_equal(phi3_model_forward(which, &span, 1, NULL, logits, &error), PHI3_OK);
    phi3_cache_free(cache);
}

/* A chunk, several, a token, and a sequence over LongRoPE's boundary. */
static void test_every_cut_gives_the_same_logits(void **state)
{
    (void)state;
    static float expected[600 * TINY_VOCAB], got[600 * TINY_VOCAB];
    const size_t pasts[] = {0, 0, 30, 65}, counts[] = {20, 600, 1, 10};
    for (size_t first = 0; first <= TINY_LAYERS; first++) {
        for (size_t end = first; end <= TINY_LAYERS; end++) {
            phi3_model *own = split(first, end);
            for (int i = 0; i < 4; i++) {
                logits_of(model, pasts[i], counts[i], expected);
                logits_of(own, pasts[i], counts[i], got);
                assert_memory_equal(got, expected, counts[i] * TINY_VOCAB * sizeof *got);
            }
            free_split(own);
        }
    }
}

static void test_a_ragged_batch(void **state)
{
    (void)state;
    float expected[3 * TINY_VOCAB], got[3 * TINY_VOCAB];
    phi3_model *own = split(1, TINY_LAYERS);
    const phi3_model *both[] = {model, own};
    float *logits[] = {expected, got};
    for (int m = 0; m < 2; m++) {
        phi3_cache *caches[3];
        for (int i = 0; i < 3; i++)
            assert_int_equal(phi3_cache_create(both[m], &caches[i], &error), PHI3_OK);
        for (size_t step = 0; step < 3; step++) {
            const phi3_span spans[] = {{caches[0], ids + 40 * step, 40, 1},
                                       {caches[1], ids + step, 1, 1},
                                       {caches[2], ids + 7 * step, 7, 1}};
            assert_int_equal(phi3_model_forward(both[m], spans, 3, NULL, logits[m], &error),
                             PHI3_OK);
        }
        assert_int_equal(phi3_cache_bytes(caches[0]), 2 * phi3_kv_page_bytes(&model->kv));
        for (int i = 0; i < 3; i++)
            phi3_cache_free(caches[i]);
    }
    assert_memory_equal(got, expected, sizeof got);
    free_split(own);
}

/* A fork shares the pages of every segment and copies them when it writes. */
static void test_forks_and_cuts(void **state)
{
    (void)state;
    float expected[TINY_VOCAB], got[TINY_VOCAB], kept[TINY_VOCAB];
    phi3_model *own = split(1, TINY_LAYERS);
    count_memory();
    phi3_cache *cache, *fork;
    assert_int_equal(phi3_cache_create(own, &cache, &error), PHI3_OK);
    phi3_span span = {cache, ids, 200, 0};
    assert_int_equal(phi3_model_forward(own, &span, 1, NULL, NULL, &error), PHI3_OK);
    size_t held = n_held;
    assert_int_equal(phi3_cache_fork(cache, &fork, &error), PHI3_OK);
    assert_int_equal(n_held, held);

    assert_int_equal(phi3_cache_truncate(fork, 100, &error), PHI3_OK);
    phi3_span next = {fork, ids + 100, 1, 1};
    assert_int_equal(phi3_model_forward(own, &next, 1, NULL, got, &error), PHI3_OK);
    assert_int_equal(n_held, held + 1); /* the page of tokens 64 to 127 */
    logits_of(model, 100, 1, expected);
    assert_memory_equal(got, expected, sizeof got);

    phi3_span rest = {cache, ids + 200, 1, 1};
    assert_int_equal(phi3_model_forward(own, &rest, 1, NULL, kept, &error), PHI3_OK);
    logits_of(model, 200, 1, expected);
    assert_memory_equal(kept, expected, sizeof kept);
    phi3_cache_free(fork);
    phi3_cache_free(cache);
    free_pools(own);
    assert_int_equal(n_held, 0);
    free_split(own);
}

static void test_a_segment_without_memory(void **state)
{
    (void)state;
    float expected[TINY_VOCAB], got[TINY_VOCAB];
    phi3_model *own = split(0, 1);
    count_memory();
    phi3_cache *cache, *fork = NULL;
    assert_int_equal(phi3_cache_create(own, &cache, &error), PHI3_OK);
    phi3_span span = {cache, ids, 200, 0};
    size_t n_failures = 0;
    for (;; n_failures++) {
        allocations_left = n_failures;
        phi3_status status = phi3_model_forward(own, &span, 1, NULL, NULL, &error);
        if (status == PHI3_OK)
            break;
        assert_int_equal(status, PHI3_ERROR_OUT_OF_MEMORY);
        assert_int_equal(phi3_cache_bytes(cache), 0);
        forget_idle_pages(own);
    }
    assert_true(n_failures >= 5); /* four pages, activations */

    assert_int_equal(phi3_cache_fork(cache, &fork, &error), PHI3_OK);
    allocations_left = 0;
    phi3_span next = {fork, ids + 200, 1, 1};
    assert_int_equal(phi3_model_forward(own, &next, 1, NULL, got, &error),
                     PHI3_ERROR_OUT_OF_MEMORY); /* no page for the copy */
    allocations_left = SIZE_MAX;
    assert_int_equal(phi3_model_forward(own, &next, 1, NULL, got, &error), PHI3_OK);
    logits_of(model, 200, 1, expected);
    assert_memory_equal(got, expected, sizeof got);
    phi3_cache_free(fork);
    phi3_cache_free(cache);
    free_split(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut_gives_the_same_logits),
        cmocka_unit_test(test_a_ragged_batch),
        cmocka_unit_test(test_forks_and_cuts),
        cmocka_unit_test(test_a_segment_without_memory),
    };
    return cmocka_run_group_tests(tests, load_model, free_model);
}
