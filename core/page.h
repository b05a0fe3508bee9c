/*
 * page.h - pages of the KV cache, which forks share until one of them writes.
 *
 * A model keeps some that nobody uses for the next sequence: memory fresh from the system would be
 * cleared, and perhaps fetched from a host, while the sequence is computed.
 */
#ifndef PHI3_INTERNAL_PAGE_H
#define PHI3_INTERNAL_PAGE_H

#include <stdatomic.h>

#include "base/pool.h"
#include "phi3.h"

typedef struct phi3_page {
    phi3_idle idle; /* while it waits in the model's pool */
    atomic_size_t references;
    /* [n_segments] of the model, each phi3_kv_page_bytes of its backend's memory; NULL for a segment
     * without layers. */
    void *memory[];
} phi3_page;

/* For the pages of a model that wait for use. */
phi3_status phi3_page_pool_create(phi3_pool **pool, phi3_error *error);

/* Frees the pool and what is idle in it; no page may be in use. */
void phi3_page_pool_free(const phi3_model *model, phi3_pool *pool);

/* Takes an idle page of the model, or makes one; it has one reference, and anything in it. */
phi3_status phi3_page_acquire(const phi3_model *model, phi3_page **page, phi3_error *error);

/* Takes a reference away; a page without any is kept or freed. */
void phi3_page_release(const phi3_model *model, phi3_page *page);

phi3_status phi3_page_copy(const phi3_model *model, phi3_page *to, const phi3_page *from,
                           phi3_error *error);

#endif
