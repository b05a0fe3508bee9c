/* plan.cu - the batch, copied to the device: see plan.h. */
#include "plan.h"

#include <string.h>

/* ---- Numbers ------------------------------------------------------------------------------------------ */

static size_t pages_of(const phi3_kv_span *span)
{
    return (span->n_past + span->n_rows + PHI3_PAGE_POSITIONS - 1) / PHI3_PAGE_POSITIONS;
}

static size_t all_pages(const phi3_attention *attention)
{
    size_t n_pages = 0;
    for (size_t s = 0; s < attention->n_spans; s++)
        n_pages += pages_of(&attention->spans[s]);
    return n_pages;
}

int phi3_plan_longest(const phi3_attention *attention)
{
    size_t longest = 0, step = PHI3_PAGE_POSITIONS;
    for (size_t s = 0; s < attention->n_spans; s++) {
        const phi3_kv_span *span = &attention->spans[s];
        size_t length = span->n_past + span->n_rows;
        longest = length > longest ? length : longest;
    }
    while (8 * step < longest)
        step *= 2;
    return (int)((longest + step - 1) / step * step);
}

/* Whether a span's rows go to tensor cores: many of them, in 16-bit products, of a head_dim that
 * attend_tiles.cu is compiled for. */
static bool has_tiles(const phi3_attention *attention, const phi3_kv_span *span)
{
    size_t head_dim = attention->kv.head_dim;
    return attention->compute == PHI3_COMPUTE_MIXED && attention->kv.dtype != PHI3_F32 &&
           (head_dim == 64 || head_dim == 96 || head_dim == 128) &&
           span->n_rows >= PHI3_TILE_MIN_ROWS;
}

size_t phi3_plan_few(const phi3_attention *attention)
{
    size_t count = 0;
    for (size_t s = 0; s < attention->n_spans; s++)
        if (!has_tiles(attention, &attention->spans[s]))
            count += attention->spans[s].n_rows;
    return count;
}

/* ---- Memory ------------------------------------------------------------------------------------------- */

void phi3_plan_free(phi3_plan *plan)
{
    if (plan->uploaded != NULL)
        cudaEventDestroy(plan->uploaded);
    cudaFreeHost(plan->host);
    cudaFree(plan->device);
    *plan = {};
}

/* Has room for `size` bytes; more than that, so that a growing context seldom needs more. */
static phi3_status reserve(phi3_plan *plan, size_t size)
{
    if (size <= plan->size)
        return PHI3_OK;
    size += size / 2 + 4096;
    phi3_plan_free(plan);
    void *host = NULL, *device = NULL;
    cudaError_t failed = cudaEventCreateWithFlags(&plan->uploaded, cudaEventDisableTiming);
    if (failed == cudaSuccess)
        failed = cudaHostAlloc(&host, size, cudaHostAllocDefault);
    if (failed == cudaSuccess)
        failed = cudaMalloc(&device, size);
    plan->host = static_cast<char *>(host);
    plan->device = static_cast<char *>(device);
    plan->size = size;
    if (failed == cudaSuccess)
        return PHI3_OK;
    phi3_plan_free(plan);
    return phi3_cuda_status(failed);
}

/* ---- Filling ------------------------------------------------------------------------------------------ */

/* Where the next array goes. */
typedef struct place {
    phi3_plan *plan;
    size_t used;
} place;

/* Copies an array and returns its address on the device; NULL stays NULL. */
template <typename T> static const T *put(place *at, const T *from, size_t count)
{
    if (from == NULL)
        return NULL;
    char *device = at->plan->device + at->used;
    memcpy(at->plan->host + at->used, from, count * sizeof *from);
    at->used += (count * sizeof *from + 15) / 16 * 16;
    return reinterpret_cast<const T *>(device);
}

/* Room for an array that is written in place: its address on the host, and on the device. */
template <typename T> static T *make_room(place *at, size_t count, const T **device)
{
    T *host = reinterpret_cast<T *>(at->plan->host + at->used);
    *device = reinterpret_cast<const T *>(at->plan->device + at->used);
    at->used += (count * sizeof(T) + 15) / 16 * 16;
    return host;
}

static size_t most_tiles(size_t n_rows)
{
    return n_rows / PHI3_TILE_MIN_ROWS;
}

/* Writes the places of all rows and shares them out for attention; the page tables come last, as
 * they grow. */
static void put_places(place *at, const phi3_attention *attention, size_t n_rows)
{
    phi3_plan *plan = at->plan;
    const unsigned *arrivals;
    memset(make_room(at, PHI3_SPLIT_BLOCKS, &arrivals), 0, PHI3_SPLIT_BLOCKS * sizeof *arrivals);
    plan->arrivals = const_cast<unsigned *>(arrivals);
    phi3_row_place *rows = make_room(at, n_rows, &plan->rows);
    phi3_tile *tiles = make_room(at, most_tiles(n_rows), &plan->tiles);
    int *few = make_room(at, n_rows, &plan->few), table = 0;
    void **pages = make_room(at, all_pages(attention), &plan->pages);
    plan->n_tiles = plan->n_few = 0;
    for (size_t s = 0; s < attention->n_spans; s++) {
        const phi3_kv_span *span = &attention->spans[s];
        bool in_tiles = has_tiles(attention, span);
        memcpy(pages + table, span->pages, pages_of(span) * sizeof *pages);
        for (size_t r = 0; r < span->n_rows; r++) {
            int row = (int)(span->first_row + r), position = (int)(span->n_past + r);
            int left = (int)(span->n_rows - r);
            rows[row] = {position, table};
            if (!in_tiles)
                few[plan->n_few++] = row;
            else if (r % PHI3_TILE_ROWS == 0)
                tiles[plan->n_tiles++] = {
                    row, left < (int)PHI3_TILE_ROWS ? left : (int)PHI3_TILE_ROWS, position, table};
        }
        table += (int)pages_of(span);
    }
}

/* An upper bound of what the batch takes. */
static size_t size_of(const phi3_batch *batch)
{
    const size_t padding = 9 * 16;
    size_t row = sizeof(phi3_row_place) + sizeof(int) + sizeof *batch->ids +
                 batch->attention->rotary_dim / 2 * 2 * sizeof(float);
    return batch->n_rows * row + batch->n_logits * sizeof *batch->logit_rows +
           most_tiles(batch->n_rows) * sizeof(phi3_tile) + PHI3_SPLIT_BLOCKS * sizeof(unsigned) +
           all_pages(batch->attention) * sizeof(void *) + padding;
}

phi3_status phi3_plan_upload(phi3_plan *plan, phi3_batch *batch)
{
    size_t angles = batch->n_rows * (batch->attention->rotary_dim / 2);
    PHI3_TRY(reserve(plan, size_of(batch)));
    cudaError_t failed = cudaEventSynchronize(plan->uploaded);
    if (failed != cudaSuccess)
        return phi3_cuda_status(failed);
    place at = {plan, 0};
    batch->ids = put(&at, batch->ids, batch->n_rows);
    batch->logit_rows = put(&at, batch->logit_rows, batch->n_logits);
    batch->cosine = put(&at, batch->cosine, angles);
    batch->sine = put(&at, batch->sine, angles);
    put_places(&at, batch->attention, batch->n_rows);
    plan->n_rows = (int)batch->n_rows;
    plan->longest = phi3_plan_longest(batch->attention);
    failed =
        cudaMemcpyAsync(plan->device, plan->host, at.used, cudaMemcpyHostToDevice, PHI3_STREAM);
    if (failed == cudaSuccess)
        failed = cudaEventRecord(plan->uploaded, PHI3_STREAM);
    return phi3_cuda_status(failed);
}
