/* plan.cu - the batch's places in the KV cache, copied to the device: see plan.h. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

static size_t pages_of(const phi3_kv_span *span)
{
    return (span->n_past + span->n_rows + PHI3_PAGE_POSITIONS - 1) / PHI3_PAGE_POSITIONS;
}

/* Writes the plan to host memory: the page tables, then the rows. */
static void fill(const phi3_attention *attention, void **pages, phi3_row_place *rows)
{
    int table = 0;
    for (size_t s = 0; s < attention->n_spans; s++) {
        const phi3_kv_span *span = &attention->spans[s];
        memcpy(pages + table, span->pages, pages_of(span) * sizeof *pages);
        for (size_t r = 0; r < span->n_rows; r++) {
            rows[span->first_row + r].position = (int)(span->n_past + r);
            rows[span->first_row + r].table = table;
        }
        table += (int)pages_of(span);
    }
}

phi3_status phi3_plan_create(const phi3_attention *attention, phi3_plan *plan)
{
    size_t n_pages = 0, n_rows = 0, longest = 0;
    for (size_t s = 0; s < attention->n_spans; s++) {
        const phi3_kv_span *span = &attention->spans[s];
        size_t length = span->n_past + span->n_rows, end = span->first_row + span->n_rows;
        n_pages += pages_of(span);
        n_rows = end > n_rows ? end : n_rows;
        longest = length > longest ? length : longest;
    }
    size_t table_bytes = n_pages * sizeof(void *), size = table_bytes + n_rows * sizeof *plan->rows;
    char *host = static_cast<char *>(malloc(size));
    if (host == NULL)
        return PHI3_ERROR_OUT_OF_MEMORY;
    fill(attention, reinterpret_cast<void **>(host),
         reinterpret_cast<phi3_row_place *>(host + table_bytes));

    void *memory = NULL;
    cudaError_t failed = cudaMallocAsync(&memory, size, PHI3_STREAM);
    if (failed == cudaSuccess) /* from pageable memory: read before the call returns */
        failed = cudaMemcpyAsync(memory, host, size, cudaMemcpyHostToDevice, PHI3_STREAM);
    free(host);
    plan->memory = memory;
    plan->pages = static_cast<void *const *>(memory);
    plan->rows =
        reinterpret_cast<const phi3_row_place *>(static_cast<char *>(memory) + table_bytes);
    plan->n_rows = (int)n_rows;
    plan->longest = (int)longest;
    if (failed == cudaSuccess)
        return PHI3_OK;
    phi3_plan_free(plan);
    return PHI3_ERROR_DEVICE;
}

void phi3_plan_free(phi3_plan *plan)
{
    if (plan->memory != NULL)
        cudaFreeAsync(plan->memory, PHI3_STREAM);
    plan->memory = NULL;
}
