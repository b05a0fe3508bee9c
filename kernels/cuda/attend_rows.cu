/*
 * attend_rows.cu - attention of single rows in float32: split-KV flash decoding.
 *
 * In: qkv [n_rows][(n_heads + 2 n_kv_heads) head_dim], queries rotated; the cache; the plan's `few`
 * rows. Out: those rows of out [n_rows][n_heads head_dim].
 *
 * A block has one row, up to QUERIES query heads that read the same key head, and one stretch of
 * positions. Lanes form groups: a group takes a position's row of the cache in loads of 128 bits, and
 * each lane keeps its share of it for all queries. A group has a softmax of its own (the highest
 * score so far, the sum of exp2(score - highest), the values weighted by it); they are merged at the
 * end of the stretch: first those of a warp, then the warps, then the stretches, by the block that
 * comes last. When there are blocks enough without that, a block takes its stretches in turn. Both
 * ways the same numbers are added in the same order: a row's result depends on nothing but its own
 * sequence.
 *
 * Everything that changes from one step of decoding to the next is read from the plan, in device
 * memory: a recorded launch stays right as long as there are as many rows and stretches enough.
 */
#include "attention.h"
#include "softmax.h"

static constexpr int N_WARPS = 4, THREADS = N_WARPS * PHI3_WARP;

/* ---- A stretch ----------------------------------------------------------------------------------- */

/* What a block works on. */
struct work {
    int begin, end; /* the positions that the row sees */
    void *const *pages;
    int kv_head;
};

/* A warp's step: the positions [first, first + DEPTH * N_GROUPS), all in one page. */
template <typename Rows, int QUERIES>
static __device__ __forceinline__ void add_step(const phi3_heads &h, const work &w, int first,
                                                const float (*query)[Rows::PER_LANE],
                                                softmax<Rows, QUERIES> *s)
{
    constexpr int N_GROUPS = PHI3_WARP / Rows::LANES;
    int lane = threadIdx.x % Rows::LANES, group = threadIdx.x % PHI3_WARP / Rows::LANES;
    void *page = w.pages[first / PHI3_PAGE_POSITIONS];
    const char *key_run = phi3_run_in(h, page, 0, w.kv_head);
    const char *value_run = phi3_run_in(h, page, 1, w.kv_head);
    typename Rows::raw keys[Rows::DEPTH], values[Rows::DEPTH];
    float key_scales[Rows::DEPTH], value_scales[Rows::DEPTH];
    bool counts[Rows::DEPTH];
    PHI3_UNROLL
    for (int r = 0; r < Rows::DEPTH; r++) {
        int position = first + r * N_GROUPS + group, slot = position % PHI3_PAGE_POSITIONS;
        counts[r] = position >= w.begin && position < w.end;
        keys[r] = values[r] = {};
        key_scales[r] = value_scales[r] = 1;
        if (counts[r]) {
            keys[r] = Rows::load(key_run, slot, lane, h.head_dim);
            values[r] = Rows::load(value_run, slot, lane, h.head_dim);
            key_scales[r] = Rows::Cache::scale(key_run, h.head_dim, slot);
            value_scales[r] = Rows::Cache::scale(value_run, h.head_dim, slot);
        }
    }
    float scores[QUERIES][Rows::DEPTH];
    score_rows<Rows, QUERIES>(keys, key_scales, counts, query, scores);
    add_rows<Rows, QUERIES>(values, value_scales, scores, s);
}

/* A warp's part of a stretch, which begins at `first`. */
template <typename Rows, int QUERIES>
static __device__ __forceinline__ void attend_stretch(const phi3_heads &h, const work &w, int first,
                                                      const float (*query)[Rows::PER_LANE],
                                                      softmax<Rows, QUERIES> *s)
{
    constexpr int STEP = Rows::DEPTH * PHI3_WARP / Rows::LANES;
    clear(s);
    int end = first + PHI3_STRETCH < w.end ? first + PHI3_STRETCH : w.end;
    for (int at = first + (int)threadIdx.x / PHI3_WARP * STEP; at < end; at += N_WARPS * STEP)
        if (at + STEP > w.begin)
            add_step<Rows, QUERIES>(h, w, at, query, s);
    merge_groups<Rows, QUERIES>(s);
}

/* ---- Merging ------------------------------------------------------------------------------------- */

/* What warps hand over. */
struct handover {
    float *sums;    /* [N_WARPS][QUERIES][MAX_DIM] shared */
    float *numbers; /* [N_WARPS][QUERIES][2] shared: highest, total */
};

template <typename Rows, int QUERIES>
static __device__ __forceinline__ void hand_over(const phi3_heads &h, const handover &to,
                                                 const softmax<Rows, QUERIES> &s)
{
    int in_warp = threadIdx.x % PHI3_WARP, warp = threadIdx.x / PHI3_WARP;
    if (in_warp >= Rows::LANES) /* other groups have the same */
        return;
    PHI3_UNROLL
    for (int q = 0; q < QUERIES; q++) {
        int at = warp * QUERIES + q;
        PHI3_UNROLL
        for (int i = 0; i < Rows::PER_LANE; i++) {
            int dimension = Rows::dimension(in_warp, i);
            if (Rows::has(dimension, h.head_dim))
                to.sums[at * Rows::MAX_DIM + dimension] = s.sum[q][i];
        }
        if (in_warp == 0)
            to.numbers[2 * at] = s.highest[q], to.numbers[2 * at + 1] = s.total[q];
    }
}

/* Joins element `at` of the block's [n_queries][head_dim] results, from all warps. */
template <typename Rows, int QUERIES>
static __device__ __forceinline__ void join_warps(const phi3_heads &h, const handover &from, int at,
                                                  int n_queries, element *result)
{
    int q = at / Rows::length(h.head_dim), dimension = at % Rows::length(h.head_dim);
    if (q >= n_queries)
        return;
    element all = {-INFINITY, 0, 0};
    PHI3_UNROLL
    for (int w = 0; w < N_WARPS; w++) {
        const float *numbers = from.numbers + 2 * (w * QUERIES + q);
        join(&all, numbers[0], numbers[1],
             from.sums[(w * QUERIES + q) * Rows::MAX_DIM + dimension]);
    }
    join(result, all.highest, all.total, all.sum);
}

/* Where the stretches of a block's queries wait for each other:
 * [n_queries][n_slots][head_dim + 2] sums, then highest and total. */
struct waiting {
    float *partials;
    int n_slots, head_dim;
    __device__ __forceinline__ float *at(int query, int slot) const
    {
        return partials + ((size_t)query * n_slots + slot) * (head_dim + 2);
    }
};

static __device__ __forceinline__ void leave(const waiting &to, int slot, int at, const element &e)
{
    float *partial = to.at(at / to.head_dim, slot);
    partial[at % to.head_dim] = e.sum;
    if (at % to.head_dim == 0)
        partial[to.head_dim] = e.highest, partial[to.head_dim + 1] = e.total;
}

/* What all blocks left, in the order of the stretches; not from this multiprocessor's own cache. */
static __device__ __forceinline__ element collect(const waiting &from, int count, int at)
{
    element all = {-INFINITY, 0, 0};
    for (int slot = 0; slot < count; slot++) {
        const float *partial = from.at(at / from.head_dim, slot);
        join(&all, __ldcg(partial + from.head_dim), __ldcg(partial + from.head_dim + 1),
             __ldcg(partial + at % from.head_dim));
    }
    return all;
}

/* Counts the blocks that have left their stretch; true in the one that comes last. */
static __device__ __forceinline__ bool comes_last(unsigned *arrivals, int count, bool *is_last)
{
    __threadfence(); /* what was left is seen before the count */
    __syncthreads();
    if (threadIdx.x == 0) /* the last one sets it back to 0 */
        *is_last = atomicInc(arrivals, (unsigned)count - 1) == (unsigned)count - 1;
    __syncthreads();
    __threadfence();
    return *is_last;
}

/* Leaves the block's stretch, elements threadIdx.x, + THREADS, ... of `count` with each thread. In the
 * block that comes last: returns true, and `result` is that of all stretches. */
template <int SHARE>
static __device__ __forceinline__ bool merge_stretches(const waiting &all, int n_stretches,
                                                       int count, unsigned *arrivals, bool *is_last,
                                                       element *result)
{
    PHI3_UNROLL
    for (int e = 0; e < SHARE; e++)
        if (e * THREADS + (int)threadIdx.x < count)
            leave(all, (int)blockIdx.z, e * THREADS + (int)threadIdx.x, result[e]);
    if (!comes_last(arrivals, n_stretches, is_last))
        return false;
    PHI3_UNROLL
    for (int e = 0; e < SHARE; e++)
        if (e * THREADS + (int)threadIdx.x < count)
            result[e] = collect(all, n_stretches, e * THREADS + (int)threadIdx.x);
    return true;
}

/* ---- The kernel ---------------------------------------------------------------------------------- */

/* Queries [n_queries] of a row from `first` on, scaled for exp2: a lane's share of them. Those that
 * are too many repeat the last. */
template <typename Rows, int QUERIES>
static __device__ __forceinline__ void load_queries(const phi3_heads &h, const float *first,
                                                    int n_queries, float (*query)[Rows::PER_LANE])
{
    int lane = threadIdx.x % Rows::LANES;
    float scale = rsqrtf((float)h.head_dim) * PHI3_LOG2_E;
    PHI3_UNROLL
    for (int q = 0; q < QUERIES; q++) {
        const float *from = first + (q < n_queries ? q : n_queries - 1) * h.head_dim;
        PHI3_UNROLL
        for (int i = 0; i < Rows::PER_LANE; i++) {
            int dimension = Rows::dimension(lane, i);
            query[q][i] = Rows::has(dimension, h.head_dim) ? from[dimension] * scale : 0;
        }
    }
}

/* Grid: the plan's few rows; key heads times the pieces of QUERIES that their query heads make;
 * stretches, with `partials`, or 1 without. A thread has elements threadIdx.x, + THREADS, ... of the
 * block's [n_queries][head_dim] results. */
template <typename Rows, int QUERIES>
static __global__ void __launch_bounds__(THREADS, QUERIES <= 24 / Rows::PER_LANE ? 3 : 2)
    attend_rows(phi3_heads h, const int *few, const phi3_row_place *rows, void *const *pages,
                unsigned *arrivals, const float *qkv, float *partials, float *out)
{
    constexpr int SHARE = (QUERIES * Rows::MAX_DIM + THREADS - 1) / THREADS;
    PHI3_SHARED(float, sums, N_WARPS *QUERIES *Rows::MAX_DIM);
    PHI3_SHARED(float, numbers, N_WARPS *QUERIES * 2);
    PHI3_SHARED(bool, last, 1);

    int row = few[blockIdx.x], position = rows[row].position;
    int pieces = (int)gridDim.y / h.n_kv_heads, group = h.n_heads / h.n_kv_heads;
    int skipped = (int)blockIdx.y % pieces * QUERIES;
    int n_queries = group - skipped < QUERIES ? group - skipped : QUERIES;
    work w = {phi3_first_seen(h, position), position + 1, pages + rows[row].table,
              (int)blockIdx.y / pieces};
    int stretch = w.begin / PHI3_STRETCH, stretch_end = position / PHI3_STRETCH + 1;
    int n_stretches = stretch_end - stretch;
    if (partials) {
        stretch += (int)blockIdx.z;
        if (stretch >= stretch_end)
            return;
        stretch_end = stretch + 1;
    }
    int first_query = w.kv_head * group + skipped;
    float query[QUERIES][Rows::PER_LANE];
    load_queries<Rows, QUERIES>(
        h, qkv + ((size_t)row * (h.n_heads + 2 * h.n_kv_heads) + first_query) * h.head_dim,
        n_queries, query);

    handover hands = {sums, numbers};
    element result[SHARE];
    PHI3_UNROLL
    for (int e = 0; e < SHARE; e++)
        result[e] = {-INFINITY, 0, 0};
    for (; stretch < stretch_end; stretch++) {
        softmax<Rows, QUERIES> s;
        attend_stretch<Rows, QUERIES>(h, w, stretch * PHI3_STRETCH, query, &s);
        __syncthreads(); /* everyone has read what came before */
        hand_over<Rows, QUERIES>(h, hands, s);
        __syncthreads();
        PHI3_UNROLL
        for (int e = 0; e < SHARE; e++)
            join_warps<Rows, QUERIES>(h, hands, e * THREADS + (int)threadIdx.x, n_queries,
                                      &result[e]);
    }

    int count = n_queries * Rows::length(h.head_dim);
    if (partials && n_stretches > 1) {
        size_t before = ((size_t)blockIdx.x * h.n_heads + first_query) * gridDim.z;
        waiting all = {partials + before * (h.head_dim + 2), (int)gridDim.z,
                       Rows::length(h.head_dim)};
        if (!merge_stretches<SHARE>(all, n_stretches, count,
                                    &arrivals[blockIdx.x * gridDim.y + blockIdx.y], last, result))
            return;
    }
    out += ((size_t)row * h.n_heads + first_query) * h.head_dim;
    PHI3_UNROLL
    for (int e = 0; e < SHARE; e++)
        if (e * THREADS + (int)threadIdx.x < count)
            out[e * THREADS + threadIdx.x] = result[e].sum / result[e].total;
}

/* ---- Launches ------------------------------------------------------------------------------------ */

/* Pieces of QUERIES query heads that read one key head. */
static int pieces_of(const phi3_heads &h, int queries)
{
    return (h.n_heads / h.n_kv_heads + queries - 1) / queries;
}

template <typename Rows, int QUERIES>
static void launch(const phi3_heads &h, const phi3_plan &plan, float *partials, const float *qkv,
                   float *out)
{
    dim3 grid((unsigned)plan.n_few, (unsigned)(h.n_kv_heads * pieces_of(h, QUERIES)),
              partials ? (unsigned)phi3_n_stretches(h, plan.longest) : 1);
    const int *few = plan.few;
    const phi3_row_place *rows = plan.rows;
    void *const *pages = plan.pages;
    unsigned *arrivals = plan.arrivals;
    auto kernel = attend_rows<Rows, QUERIES>;
    PHI3_LAUNCH(kernel, grid, dim3(THREADS), PHI3_STREAM, h, few, rows, pages, arrivals, qkv,
                partials, out);
}

/* As many queries at once as registers hold twice: queries and sums. */
template <typename Rows>
static void launch_queries(const phi3_heads &h, const phi3_plan &plan, float *partials,
                           const float *qkv, float *out)
{
    constexpr int MOST = Rows::PER_LANE <= 16 ? 4 : Rows::PER_LANE <= 24 ? 2 : 1;
    if (h.n_heads == h.n_kv_heads)
        launch<Rows, 1>(h, plan, partials, qkv, out);
    else
        launch<Rows, MOST>(h, plan, partials, qkv, out);
}

template <typename Cache>
static void launch_dimensions(const phi3_heads &h, const phi3_plan &plan, float *partials,
                              const float *qkv, float *out)
{
    constexpr int BYTES = Cache::BYTES;
    if (h.head_dim == 64) /* lanes for rows of 64, 96 and 128 elements: see cache_rows.h */
        launch_queries<wide_rows<Cache, 64, BYTES == 1 ? 4 : 8>>(h, plan, partials, qkv, out);
    else if (h.head_dim == 96)
        launch_queries<wide_rows<Cache, 96,
                                 BYTES == 1   ? 2
                                 : BYTES == 2 ? 4
                                              : 8>>(h, plan, partials, qkv, out);
    else if (h.head_dim == 128)
        launch_queries<wide_rows<Cache, 128, BYTES == 1 ? 8 : 16>>(h, plan, partials, qkv, out);
    else
        launch<any_rows<Cache>, 1>(h, plan, partials, qkv, out);
}

/* Whether stretches get blocks of their own: it decides nothing but the time. */
static bool is_split(const phi3_heads &h, size_t n_rows, int longest)
{
    return n_rows * (size_t)h.n_heads <= PHI3_SPLIT_BLOCKS && phi3_n_stretches(h, longest) > 1;
}

size_t phi3_attend_rows_scratch(const phi3_heads &h, size_t n_rows, int longest)
{
    if (!is_split(h, n_rows, longest))
        return 0;
    return n_rows * h.n_heads * phi3_n_stretches(h, longest) * (h.head_dim + 2) * sizeof(float);
}

void phi3_attend_rows(const phi3_heads &h, phi3_dtype dtype, const phi3_plan &plan, float *partials,
                      const float *qkv, float *out)
{
    if (plan.n_few == 0)
        return;
    if (!is_split(h, (size_t)plan.n_few, plan.longest))
        partials = NULL;
    PHI3_FOR_CACHE(dtype, launch_dimensions<Cache>(h, plan, partials, qkv, out));
}
