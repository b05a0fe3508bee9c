/*
 * cache.c - the KV cache of one sequence: its ids, and pages of keys and values.
 *
 * Pages are counted by reference, so that a fork costs no copy: whoever writes into a shared page
 * first takes a copy of its own. The model decides what is written; here is only where.
 */
#include "cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model.h"

/* ---- Who uses it ------------------------------------------------------------------------------ */

phi3_status phi3_cache_acquire(phi3_cache *cache, phi3_error *error)
{
    if (atomic_flag_test_and_set_explicit(&cache->busy, memory_order_acquire))
        return phi3_fail(error, PHI3_ERROR_BUSY, "the cache is in use by another thread");
    return PHI3_OK;
}

void phi3_cache_release(phi3_cache *cache)
{
    atomic_flag_clear_explicit(&cache->busy, memory_order_release);
}

/* ---- Pages ------------------------------------------------------------------------------------ */

static void put_page(phi3_cache *cache, size_t index, phi3_page *page)
{
    cache->pages[index] = page;
    for (size_t i = 0; i < cache->model->n_segments; i++)
        cache->tables[i][index] = page->memory[i];
}

/* Replaces a page that forks share by one of our own; `keep`: with the same contents. */
static phi3_status page_make_private(phi3_cache *cache, size_t index, bool keep, phi3_error *error)
{
    phi3_page *shared = cache->pages[index];
    if (atomic_load_explicit(&shared->references, memory_order_acquire) == 1)
        return PHI3_OK;
    phi3_page *page;
    PHI3_TRY(phi3_page_acquire(cache->model, &page, error));
    phi3_status status = keep ? phi3_page_copy(cache->model, page, shared, error) : PHI3_OK;
    if (status != PHI3_OK) {
        phi3_page_release(cache->model, page);
        return status;
    }
    put_page(cache, index, page);
    phi3_page_release(cache->model, shared);
    return PHI3_OK;
}

/* ---- Room ------------------------------------------------------------------------------------- */

/* Grows the arrays to `n_pages` entries; those that have grown when memory runs out may stay so. */
static phi3_status reserve_arrays(phi3_cache *cache, size_t n_pages, phi3_error *error)
{
    if (n_pages <= cache->page_capacity)
        return PHI3_OK;
    size_t capacity = n_pages < 2 * cache->page_capacity ? 2 * cache->page_capacity : n_pages;
    int32_t *ids = realloc(cache->ids, capacity * PHI3_PAGE_POSITIONS * sizeof *ids);
    if (ids != NULL)
        cache->ids = ids;
    phi3_page **pages = realloc(cache->pages, capacity * sizeof(*pages));
    if (pages != NULL)
        cache->pages = pages;
    bool grown = ids != NULL && pages != NULL;
    for (size_t i = 0; i < cache->model->n_segments; i++) {
        void **table = realloc(cache->tables[i], capacity * sizeof(*table));
        if (table != NULL)
            cache->tables[i] = table;
        grown = grown && table != NULL;
    }
    if (!grown)
        return phi3_fail_memory(error, "a longer sequence");
    cache->page_capacity = capacity;
    return PHI3_OK;
}

static size_t pages_for(size_t length)
{
    return (length + PHI3_PAGE_POSITIONS - 1) / PHI3_PAGE_POSITIONS;
}

phi3_status phi3_cache_reserve(phi3_cache *cache, size_t count, phi3_error *error)
{
    size_t n_pages = pages_for(cache->length + count);
    PHI3_TRY(reserve_arrays(cache, n_pages, error));

    size_t first = cache->n_computed / PHI3_PAGE_POSITIONS;
    for (size_t i = first; i < n_pages && i < cache->n_pages; i++) {
        bool keep = i * PHI3_PAGE_POSITIONS < cache->n_computed;
        PHI3_TRY(page_make_private(cache, i, keep, error));
    }
    while (cache->n_pages < n_pages) {
        phi3_page *page;
        phi3_status status = phi3_page_acquire(cache->model, &page, error);
        if (status != PHI3_OK) {
            phi3_cache_cut(cache, cache->length);
            return status;
        }
        put_page(cache, cache->n_pages++, page);
    }
    return PHI3_OK;
}

void phi3_cache_cut(phi3_cache *cache, size_t length)
{
    cache->planned_length = 0;
    if (length < cache->length)
        cache->length = length;
    if (cache->length < cache->n_computed)
        cache->n_computed = cache->length;
    while (cache->n_pages > pages_for(cache->length))
        phi3_page_release(cache->model, cache->pages[--cache->n_pages]);
}

/* ---- The public calls ------------------------------------------------------------------------- */

phi3_status phi3_cache_create(const phi3_model *model, phi3_cache **cache, phi3_error *error)
{
    phi3_cache *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a cache");
    made->model = model;
    made->tables = calloc(model->n_segments, sizeof(*made->tables));
    if (made->tables == NULL) {
        free(made);
        return phi3_fail_memory(error, "a cache");
    }
    made->factors = PHI3_FACTORS_SHORT;
    atomic_flag_clear(&made->busy);
    *cache = made;
    return PHI3_OK;
}

void phi3_cache_free(phi3_cache *cache)
{
    if (cache == NULL)
        return;
    phi3_cache_cut(cache, 0);
    free(cache->ids);
    free(cache->pages);
    for (size_t i = 0; i < cache->model->n_segments; i++)
        free(cache->tables[i]);
    free(cache->tables);
    free(cache);
}

/* Gives `copy`, which is empty, the contents of `cache`. */
static phi3_status share_contents(const phi3_cache *cache, phi3_cache *copy, phi3_error *error)
{
    PHI3_TRY(reserve_arrays(copy, cache->n_pages, error));
    for (size_t i = 0; i < cache->n_pages; i++) {
        atomic_fetch_add_explicit(&cache->pages[i]->references, 1, memory_order_relaxed);
        put_page(copy, i, cache->pages[i]);
    }
    if (cache->length > 0)
        memcpy(copy->ids, cache->ids, cache->length * sizeof *copy->ids);
    copy->n_pages = cache->n_pages;
    copy->length = cache->length;
    copy->n_computed = cache->n_computed;
    copy->factors = cache->factors;
    return PHI3_OK;
}

phi3_status phi3_cache_fork(const phi3_cache *cache, phi3_cache **copy, phi3_error *error)
{
    phi3_cache *source = (phi3_cache *)cache; /* only its busy flag changes */
    PHI3_TRY(phi3_cache_acquire(source, error));
    phi3_cache *made = NULL;
    phi3_status status = phi3_cache_create(source->model, &made, error);
    if (status == PHI3_OK)
        status = share_contents(source, made, error);
    phi3_cache_release(source);
    if (status != PHI3_OK) {
        phi3_cache_free(made);
        return status;
    }
    *copy = made;
    return PHI3_OK;
}

phi3_status phi3_cache_truncate(phi3_cache *cache, size_t length, phi3_error *error)
{
    PHI3_TRY(phi3_cache_acquire(cache, error));
    phi3_cache_cut(cache, length);
    phi3_cache_release(cache);
    return PHI3_OK;
}

phi3_status phi3_cache_reset(phi3_cache *cache, phi3_error *error)
{
    return phi3_cache_truncate(cache, 0, error);
}

const int32_t *phi3_cache_ids(const phi3_cache *cache, size_t *length)
{
    *length = cache->length;
    return cache->ids;
}

size_t phi3_cache_bytes(const phi3_cache *cache)
{
    return cache->n_pages * phi3_kv_page_bytes(&cache->model->kv);
}

size_t phi3_model_kv_token_bytes(const phi3_model *model)
{
    return phi3_kv_page_bytes(&model->kv) / PHI3_PAGE_POSITIONS;
}
