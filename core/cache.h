/* cache.h - the inside of a KV cache: ids, pages, and who uses it now. */
#ifndef PHI3_INTERNAL_CACHE_H
#define PHI3_INTERNAL_CACHE_H

#include <stdatomic.h>

#include "page.h"
#include "rope.h"

/*
 * `ids` is what the sequence is; the pages hold keys and values of its first n_computed tokens. The
 * two differ only after an interrupt in the middle of a recompute (LongRoPE): the next forward then
 * goes on from n_computed.
 */
struct phi3_cache {
    const phi3_model *model;
    int32_t *ids; /* [page_capacity * PHI3_PAGE_POSITIONS], `length` of them valid */
    size_t length;
    size_t n_computed;         /* at most length */
    phi3_rope_factors factors; /* what the keys in the pages were rotated with */
    size_t planned_length;     /* what a prompt that comes in parts will have; LongRoPE's factors
                                  are those of the whole. 0: nothing is known */
    phi3_page **pages;         /* [n_pages] */
    void ***tables;            /* [n_segments][n_pages] pages[i]->memory[s]: what backends read */
    size_t n_pages;
    size_t page_capacity; /* entries in the arrays above */
    atomic_flag busy;
};

/* Takes a cache for the calling thread; PHI3_ERROR_BUSY when another has it. */
phi3_status phi3_cache_acquire(phi3_cache *cache, phi3_error *error);
void phi3_cache_release(phi3_cache *cache);

/* Makes room for `count` more tokens: space in `ids`, and pages for [n_computed, length + count) that
 * nobody else shares. On failure the contents are as before. The cache must be acquired. */
phi3_status phi3_cache_reserve(phi3_cache *cache, size_t count, phi3_error *error);

/* Cuts to `length` tokens and frees the pages beyond. The cache must be acquired. */
void phi3_cache_cut(phi3_cache *cache, size_t length);

#endif
