/* page.c - makes, shares, copies and takes back the pages of the KV cache. */
#include "page.h"

#include <stdlib.h>

#include "base/error.h"
#include "devices/device_memory.h"
#include "model.h"

enum { MAX_IDLE = PHI3_CHUNK_ROWS / PHI3_PAGE_POSITIONS /* what a chunk of one sequence fills */ };

/* ---- Making and freeing ----------------------------------------------------------------------- */

static void page_free(const phi3_model *model, phi3_page *page)
{
    for (size_t i = 0; i < model->n_segments; i++)
        if (page->memory[i] != NULL)
            model->segments[i].backend->release(page->memory[i]);
    free(page);
}

static phi3_status page_create(const phi3_model *model, phi3_page **page, phi3_error *error)
{
    phi3_page *made = calloc(1, sizeof *made + model->n_segments * sizeof made->memory[0]);
    if (made == NULL)
        return phi3_fail_memory(error, "a cache page");
    for (size_t i = 0; i < model->n_segments; i++) {
        const phi3_segment *segment = &model->segments[i];
        if (segment->n_layers == 0)
            continue;
        made->memory[i] = segment->backend->allocate(phi3_kv_page_bytes(&segment->kv));
        if (made->memory[i] == NULL) {
            page_free(model, made);
            return phi3_fail_backend_memory(segment->backend, "a cache page", error);
        }
    }
    *page = made;
    return PHI3_OK;
}

/* ---- The pool --------------------------------------------------------------------------------- */

phi3_status phi3_page_pool_create(phi3_pool **pool, phi3_error *error)
{
    return phi3_pool_create(MAX_IDLE, pool, error);
}

/* Of idle pages; NULL: there are none. */
static phi3_page *take_idle(phi3_pool *pool)
{
    return (phi3_page *)phi3_pool_take(pool);
}

void phi3_page_pool_free(const phi3_model *model, phi3_pool *pool)
{
    for (phi3_page *page; (page = take_idle(pool)) != NULL;)
        page_free(model, page);
    phi3_pool_free(pool);
}

/* ---- Use -------------------------------------------------------------------------------------- */

phi3_status phi3_page_acquire(const phi3_model *model, phi3_page **page, phi3_error *error)
{
    phi3_page *found = take_idle(model->pages);
    if (found == NULL)
        PHI3_TRY(page_create(model, &found, error));
    atomic_init(&found->references, 1);
    *page = found;
    return PHI3_OK;
}

void phi3_page_release(const phi3_model *model, phi3_page *page)
{
    if (atomic_fetch_sub_explicit(&page->references, 1, memory_order_acq_rel) == 1 &&
        !phi3_pool_put(model->pages, &page->idle))
        page_free(model, page);
}

/* Copies a segment's part of a page through host memory: backends have no copy of their own for
 * something so rare. */
static phi3_status part_copy(const phi3_segment *segment, void *to, const void *from,
                             phi3_error *error)
{
    size_t size = phi3_kv_page_bytes(&segment->kv);
    void *bytes = malloc(size);
    if (bytes == NULL)
        return phi3_fail_memory(error, "the copy of a cache page");
    phi3_status status = segment->backend->download(bytes, from, size);
    if (status == PHI3_OK)
        status = segment->backend->upload(to, bytes, size);
    free(bytes);
    if (status != PHI3_OK)
        return phi3_fail(error, status, "the copy of a cache page failed");
    return PHI3_OK;
}

phi3_status phi3_page_copy(const phi3_model *model, phi3_page *to, const phi3_page *from,
                           phi3_error *error)
{
    for (size_t i = 0; i < model->n_segments; i++)
        if (from->memory[i] != NULL)
            PHI3_TRY(part_copy(&model->segments[i], to->memory[i], from->memory[i], error));
    return PHI3_OK;
}
