/* The KV cache: pages, forks that share them, truncation, and one user at a time. */

#include "core/cache.h"
#include "core/model.h"
#define TINY_SEED 2
#include "tiny_fixture.h"

static void feed(phi3_cache *cache, const int32_t *tokens, size_t count, float *logits)
{
    phi3_span span = {cache, tokens, count, logits != NULL};
    assert_int_equal(phi3_model_forward(model, &span, 1, NULL, logits, &error), PHI3_OK);
}

/* Feeds `next` to a cache and to a fresh one that has seen `past` first: both must answer the same. */
static void assert_remembers(phi3_cache *cache, const int32_t *past, size_t n_past, int32_t next)
{
    float got[TINY_VOCAB], expected[TINY_VOCAB];
    phi3_cache *fresh = new_cache();
    feed(fresh, past, n_past, NULL);
    feed(fresh, &next, 1, expected);
    feed(cache, &next, 1, got);
    assert_memory_equal(got, expected, sizeof got);
    phi3_cache_free(fresh);
}

static size_t n_pages(const phi3_cache *cache)
{
    return phi3_cache_bytes(cache) / (PHI3_PAGE_POSITIONS * phi3_model_kv_token_bytes(model));
}

static void test_grows_in_pages(void **state)
{
    (void)state;
    phi3_cache *cache = new_cache();
    size_t length;
    assert_int_equal(phi3_cache_bytes(cache), 0);
    feed(cache, ids, 1, NULL);
    assert_int_equal(n_pages(cache), 1);
    feed(cache, ids + 1, 63, NULL);
    assert_int_equal(n_pages(cache), 1);
    feed(cache, ids + 64, 1, NULL);
    assert_int_equal(n_pages(cache), 2);
    assert_memory_equal(phi3_cache_ids(cache, &length), ids, 65 * sizeof *ids);
    assert_int_equal(length, 65);
    phi3_cache_free(cache);
}

static void test_truncate_and_reset(void **state)
{
    (void)state;
    phi3_cache *cache = new_cache();
    size_t length;
    feed(cache, ids, 200, NULL);
    assert_int_equal(phi3_cache_truncate(cache, 300, &error), PHI3_OK);
    phi3_cache_ids(cache, &length);
    assert_int_equal(length, 200);
    assert_int_equal(phi3_cache_truncate(cache, 128, &error), PHI3_OK);
    assert_int_equal(n_pages(cache), 2);
    assert_remembers(cache, ids, 128, 7);
    assert_int_equal(phi3_cache_truncate(cache, 90, &error), PHI3_OK);
    assert_remembers(cache, ids, 90, 8);
    assert_int_equal(phi3_cache_reset(cache, &error), PHI3_OK);
    assert_int_equal(phi3_cache_bytes(cache), 0);
    feed(cache, ids, 10, NULL);
    assert_remembers(cache, ids, 10, 9);
    phi3_cache_free(cache);
}

static void test_fork_shares_until_one_writes(void **state)
{
    (void)state;
    phi3_cache *cache = new_cache(), *copy, *second;
    int32_t other[101];
    feed(cache, ids, 100, NULL);
    assert_int_equal(phi3_cache_fork(cache, &copy, &error), PHI3_OK);
    assert_int_equal(phi3_cache_fork(copy, &second, &error), PHI3_OK);
    assert_ptr_equal(cache->pages[0], copy->pages[0]);
    assert_ptr_equal(cache->pages[1], copy->pages[1]);

    assert_remembers(copy, ids, 100, 11);
    assert_ptr_equal(cache->pages[0], copy->pages[0]); /* a full page stays shared */
    assert_ptr_not_equal(cache->pages[1], copy->pages[1]);
    assert_remembers(cache, ids, 100, 12);
    memcpy(other, ids, sizeof ids[0] * 100);
    other[100] = 11;
    assert_remembers(copy, other, 101, 13);

    phi3_cache_free(cache); /* the others live on */
    assert_remembers(second, ids, 100, 14);
    assert_int_equal(phi3_cache_truncate(copy, 20, &error), PHI3_OK); /* into a shared page */
    assert_remembers(copy, ids, 20, 15);
    assert_int_equal(phi3_cache_truncate(second, 40, &error), PHI3_OK);
    assert_remembers(second, ids, 40, 16);
    phi3_cache_free(copy);
    phi3_cache_free(second);
}

static void test_fork_of_an_empty_cache(void **state)
{
    (void)state;
    phi3_cache *cache = new_cache(), *copy;
    assert_int_equal(phi3_cache_fork(cache, &copy, &error), PHI3_OK);
    feed(copy, ids, 3, NULL);
    assert_remembers(copy, ids, 3, 4);
    phi3_cache_free(cache);
    phi3_cache_free(copy);
}

/* Fills a page with bytes that are NaN in every dtype of floats. */
static void spoil(const phi3_page *page)
{
    static char bytes[1 << 20];
    for (size_t i = 0; i < model->n_segments; i++) {
        const phi3_segment *segment = &model->segments[i];
        if (page->memory[i] == NULL)
            continue;
        size_t size = phi3_kv_page_bytes(&segment->kv);
        assert_in_range(size, 1, sizeof bytes);
        memset(bytes, 0xff, size);
        assert_int_equal(segment->backend->upload(page->memory[i], bytes, size), PHI3_OK);
    }
}

static void test_freed_pages_are_used_again_whatever_is_in_them(void **state)
{
    (void)state;
    float expected[TINY_VOCAB], got[TINY_VOCAB];
    phi3_cache *cache = new_cache();
    feed(cache, ids, 100, expected);
    const phi3_page *pages[] = {cache->pages[0], cache->pages[1]};
    for (int i = 0; i < 2; i++)
        spoil(pages[i]);
    phi3_cache_free(cache);
    cache = new_cache();
    feed(cache, ids, 100, got);
    assert_memory_equal(got, expected, sizeof got);
    for (int i = 0; i < 2; i++)
        assert_true(cache->pages[i] == pages[0] || cache->pages[i] == pages[1]);
    phi3_cache_free(cache);
}

static void test_a_cache_in_use_is_busy(void **state)
{
    (void)state;
    phi3_cache *cache = new_cache(), *copy = NULL;
    phi3_span span = {cache, ids, 4, 0};
    assert_int_equal(phi3_cache_acquire(cache, &error), PHI3_OK);
    assert_int_equal(phi3_model_forward(model, &span, 1, NULL, NULL, &error), PHI3_ERROR_BUSY);
    assert_int_equal(phi3_cache_truncate(cache, 0, &error), PHI3_ERROR_BUSY);
    assert_int_equal(phi3_cache_reset(cache, &error), PHI3_ERROR_BUSY);
    assert_int_equal(phi3_cache_fork(cache, &copy, &error), PHI3_ERROR_BUSY);
    assert_null(copy);
    phi3_cache_release(cache);
    feed(cache, ids, 4, NULL);
    phi3_cache_free(cache);
    phi3_cache_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_in_pages),
        cmocka_unit_test(test_truncate_and_reset),
        cmocka_unit_test(test_fork_shares_until_one_writes),
        cmocka_unit_test(test_fork_of_an_empty_cache),
        cmocka_unit_test(test_freed_pages_are_used_again_whatever_is_in_them),
        cmocka_unit_test(test_a_cache_in_use_is_busy),
    };
    return cmocka_run_group_tests(tests, load_model, free_model);
}
