/* Decoding allocates nothing for a token: a cache takes a page now and then, and that is all. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiny_model.h"

static phi3_model *model;
static phi3_error error;
static int32_t ids[TINY_POSITIONS];

/* Calls of the allocator by the whole program. The functions below stand before libc's. */
static size_t n_allocations;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *malloc(size_t size)
{
    __atomic_fetch_add(&n_allocations, 1, __ATOMIC_RELAXED);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    __atomic_fetch_add(&n_allocations, 1, __ATOMIC_RELAXED);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    __atomic_fetch_add(&n_allocations, 1, __ATOMIC_RELAXED);
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    __atomic_fetch_add(&n_allocations, 1, __ATOMIC_RELAXED);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    __atomic_fetch_add(&n_allocations, 1, __ATOMIC_RELAXED);
    *memory = __libc_memalign(alignment, size);
    return *memory == NULL ? 12 /* ENOMEM */ : 0;
}
#endif

static size_t allocations_of(phi3_cache *cache, const int32_t *tokens, size_t count, float *logits)
{
    size_t before = n_allocations;
    for (size_t i = 0; i < count; i++) {
        phi3_span span = {cache, tokens + i, 1, 1};
        if (phi3_model_forward(model, &span, 1, NULL, logits, &error) != PHI3_OK)
            return SIZE_MAX;
    }
    return n_allocations - before;
}

static void test_no_allocation_for_a_token(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* the allocator is the sanitizer's */
#endif
    float logits[TINY_VOCAB];
    phi3_cache *cache;
    assert_non_null(model = tiny_model_load(tiny_config, "cpu"));
    tiny_ids(3, ids, TINY_POSITIONS);
    assert_int_equal(phi3_cache_create(model, &cache, &error), PHI3_OK);
    /* beyond the boundary of LongRoPE, where everything is computed again */
    assert_true(allocations_of(cache, ids, 80, logits) > 0);
    assert_int_equal(allocations_of(cache, ids + 80, 40, logits), 0);
    size_t at_page = allocations_of(cache, ids + 120, 10, logits);
    assert_in_range(at_page, 1, 8); /* a page, its place in the tables, and longer tables */
    assert_int_equal(allocations_of(cache, ids + 130, 60, logits), 0);
    phi3_cache_free(cache);
    phi3_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_allocation_for_a_token),
    };
    return cmocka_run_group_tests_name("allocations", tests, NULL, NULL);
}
