/*
 * attend_tiles.cu - attention of long spans by tensor cores, with an online softmax.
 *
 * In: qkv [n_rows][(n_heads + 2 n_kv_heads) head_dim], queries rotated; the cache (F16, BF16 or I8;
 * head_dim 64, 96 or 128); the plan's tiles. Out: those tiles' rows of out [n_rows][n_heads head_dim].
 *
 * A block has one query head of a tile of 64 rows; a warp has 16 of them. The cache comes page by
 * page through shared memory: 64 positions of keys, then of values. Queries, and the weights of
 * values, are rounded to the 16 bits that the product takes: float16 with a cache of that, else
 * bfloat16 (codes of 8 bits are exact in it); sums are float32. While a page's keys are multiplied
 * its values are copied, and then the keys of the next.
 *
 * A value that is not a number shows in all rows of the tiles that its position is in or before.
 */
#include "attention.h"
#include "mma.h"

#include <math.h>

static constexpr int N_WARPS = PHI3_TILE_ROWS / 16, THREADS = N_WARPS * PHI3_WARP;
static constexpr int PAGE = PHI3_PAGE_POSITIONS;

/* ---- Pages in shared memory ---------------------------------------------------------------------- */

/* A row in shared memory is 16 bytes longer than it need be: an odd number of those, so that the eight
 * rows that ldmatrix reads at once lie in different banks. */
template <int DIM> static constexpr int STRIDE = DIM + 8;

/* How a cache's elements are multiplied. */
template <typename Cache> struct operands {
    typedef phi3_bf16_product product;
};
template <> struct operands<phi3_cache_f16> {
    typedef phi3_f16_product product;
};

/* A page's run becomes `to` [PAGE][STRIDE<DIM>], zeros from row n_rows on, whatever the page holds
 * there. It is complete after phi3_copies_arrive and a barrier. */
template <int DIM>
static __device__ __forceinline__ void copy_run(uint16_t *to, const char *run, int n_rows)
{
    constexpr int PER_ROW = DIM / 8;
    PHI3_UNROLL
    for (int c = 0; c < PAGE * PER_ROW / THREADS; c++) {
        int at = c * THREADS + (int)threadIdx.x, row = at / PER_ROW;
        phi3_copy_async(to + row * STRIDE<DIM> + at % PER_ROW * 8, run + (size_t)at * 16,
                        row >= n_rows);
    }
}

/* The same of codes of 8 bits. */
template <int DIM>
static __device__ __forceinline__ void expand_run(uint16_t *to, const char *run, int n_rows)
{
    constexpr int PER_ROW = DIM / 16;
    PHI3_UNROLL
    for (int c = 0; c < PAGE * PER_ROW / THREADS; c++) {
        int at = c * THREADS + (int)threadIdx.x, row = at / PER_ROW;
        float x[16];
        uint4 zeros = {}, codes = row < n_rows ? reinterpret_cast<const uint4 *>(run)[at] : zeros;
        phi3_cache_i8::expand(codes, x);
        uint4 *chunks = reinterpret_cast<uint4 *>(to + row * STRIDE<DIM> + at % PER_ROW * 16);
        PHI3_UNROLL
        for (int half = 0; half < 2; half++) {
            const float *y = x + 8 * half;
            chunks[half] = {
                phi3_bf16_product::pack(y[0], y[1]), phi3_bf16_product::pack(y[2], y[3]),
                phi3_bf16_product::pack(y[4], y[5]), phi3_bf16_product::pack(y[6], y[7])};
        }
    }
}

/* Keys or values of a page, and their scales (codes only): [PAGE]. */
template <typename Cache, int DIM>
static __device__ __forceinline__ void fill(uint16_t *to, float *scales, const char *run,
                                            int n_rows)
{
    if constexpr (Cache::BYTES == 1) {
        expand_run<DIM>(to, run, n_rows);
        int row = (int)threadIdx.x;
        if (row < PAGE)
            scales[row] = row < n_rows ? Cache::scale(run, DIM, row) : 0;
    } else {
        copy_run<DIM>(to, run, n_rows);
    }
}

/* ---- A warp's part ------------------------------------------------------------------------------- */

/* A warp has rows 16 warp + g and + 8 of the tile, g = lane / 4: `half` 0 and 1 in what follows. Of a
 * matrix of its rows, a lane has columns 8 n + 2 t and + 1, t = lane % 4: element [n][2 half + i]. */
template <int DIM> struct rows {
    unsigned query[DIM / 16][4];       /* A, for each 16 dimensions */
    float highest[2], total[2];        /* of the softmax; the total is the lane's share */
    float sum[DIM / 8][4];             /* values, weighted */
    int position[2];                   /* of its two rows */
    int first_position, last_position; /* of the warp's rows */
};

template <typename Cache, int DIM>
static __device__ __forceinline__ void begin_rows(const phi3_heads &h, const phi3_tile &tile,
                                                  int head, const float *qkv, rows<DIM> *r)
{
    int lane = threadIdx.x % PHI3_WARP, first = (int)threadIdx.x / PHI3_WARP * 16;
    size_t row_floats = (size_t)(h.n_heads + 2 * h.n_kv_heads) * DIM;
    const float *from = qkv + tile.first_row * row_floats + (size_t)head * DIM + lane % 4 * 2;
    float scale = rsqrtf((float)DIM) * PHI3_LOG2_E;
    r->first_position = tile.position + first;
    r->last_position = tile.position + first + 15;
    PHI3_UNROLL
    for (int half = 0; half < 2; half++) {
        int row = first + lane / 4 + 8 * half;
        r->position[half] = tile.position + row;
        r->highest[half] = -INFINITY, r->total[half] = 0;
        PHI3_UNROLL
        for (int k = 0; k < DIM / 8; k++) {
            float2 x = {0, 0};
            if (row < tile.n_rows)
                x = *reinterpret_cast<const float2 *>(from + row * row_floats + 8 * k);
            r->query[k / 2][k % 2 * 2 + half] =
                operands<Cache>::product::pack(x.x * scale, x.y * scale);
        }
    }
    PHI3_UNROLL
    for (int n = 0; n < DIM / 8; n++)
        for (int i = 0; i < 4; i++)
            r->sum[n][i] = 0;
}

/* scores [PAGE / 8][4] = queries times keys [PAGE][STRIDE<DIM>], in shared memory. */
template <typename Cache, int DIM>
static __device__ __forceinline__ void multiply_keys(const rows<DIM> &r, const uint16_t *keys,
                                                     const float *scales, float (*scores)[4])
{
    int lane = threadIdx.x % PHI3_WARP;
    const uint16_t *row = keys + (lane / 16 * 8 + lane % 8) * STRIDE<DIM> + lane / 8 % 2 * 8;
    PHI3_UNROLL
    for (int n = 0; n < PAGE / 8; n++)
        for (int i = 0; i < 4; i++)
            scores[n][i] = 0;
    PHI3_UNROLL
    for (int k = 0; k < DIM / 16; k++) {
        PHI3_UNROLL
        for (int n = 0; n < PAGE / 8; n += 2) {
            unsigned b[4];
            phi3_load_matrices(b, row + n * 8 * STRIDE<DIM> + k * 16);
            operands<Cache>::product::add(scores[n], r.query[k], b);
            operands<Cache>::product::add(scores[n + 1], r.query[k], b + 2);
        }
    }
    if constexpr (Cache::BYTES == 1) {
        PHI3_UNROLL
        for (int n = 0; n < PAGE / 8; n++)
            for (int i = 0; i < 4; i++)
                scores[n][i] *= scales[8 * n + lane % 4 * 2 + i % 2];
    }
}

/* Takes out the positions that rows do not see; the page begins at `first`. */
template <int DIM>
static __device__ __forceinline__ void mask(const phi3_heads &h, const rows<DIM> &r, int first,
                                            float (*scores)[4])
{
    bool is_whole =
        first + PAGE - 1 <= r.first_position && first >= phi3_first_seen(h, r.last_position);
    if (is_whole)
        return;
    PHI3_UNROLL
    for (int n = 0; n < PAGE / 8; n++)
        for (int i = 0; i < 4; i++) {
            int position = first + 8 * n + (int)threadIdx.x % 4 * 2 + i % 2;
            if (position > r.position[i / 2] || position < phi3_first_seen(h, r.position[i / 2]))
                scores[n][i] = -INFINITY;
        }
}

/* Scores become weights, relative to the highest score so far. */
template <int DIM> static __device__ __forceinline__ void weigh(rows<DIM> *r, float (*scores)[4])
{
    PHI3_UNROLL
    for (int half = 0; half < 2; half++) {
        float highest = r->highest[half];
        PHI3_UNROLL
        for (int n = 0; n < PAGE / 8; n++)
            highest = fmaxf(highest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(PHI3_ALL_LANES, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(PHI3_ALL_LANES, highest, 2));
        float base = highest == -INFINITY ? 0 : highest; /* nothing seen yet: weights of 0 */
        float down = phi3_exp2(r->highest[half] - base);
        r->highest[half] = highest;
        float total = 0;
        PHI3_UNROLL
        for (int n = 0; n < PAGE / 8; n++)
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                scores[n][i] = phi3_exp2(scores[n][i] - base);
                total += scores[n][i];
            }
        r->total[half] = r->total[half] * down + total;
        PHI3_UNROLL
        for (int n = 0; n < DIM / 8; n++)
            r->sum[n][2 * half] *= down, r->sum[n][2 * half + 1] *= down;
    }
}

/* sum += weights times values [PAGE][STRIDE<DIM>]. */
template <typename Cache, int DIM>
static __device__ __forceinline__ void add_values(const float (*weights)[4], const uint16_t *values,
                                                  const float *scales, rows<DIM> *r)
{
    typedef typename operands<Cache>::product product;
    int lane = threadIdx.x % PHI3_WARP;
    const uint16_t *row = values + lane % 16 * STRIDE<DIM> + lane / 16 * 8;
    PHI3_UNROLL
    for (int k = 0; k < PAGE / 16; k++) {
        unsigned a[4];
        PHI3_UNROLL
        for (int j = 0; j < 4; j++) {
            int n = 2 * k + j / 2, half = j % 2;
            float low = weights[n][2 * half], high = weights[n][2 * half + 1];
            if constexpr (Cache::BYTES == 1) {
                low *= scales[8 * n + lane % 4 * 2];
                high *= scales[8 * n + lane % 4 * 2 + 1];
            }
            a[j] = product::pack(low, high);
        }
        PHI3_UNROLL
        for (int n = 0; n < DIM / 8; n += 2) {
            unsigned b[4];
            phi3_load_transposed(b, row + k * 16 * STRIDE<DIM> + n * 8);
            product::add(r->sum[n], a, b);
            product::add(r->sum[n + 1], a, b + 2);
        }
    }
}

template <int DIM>
static __device__ __forceinline__ void write_rows(const phi3_heads &h, const phi3_tile &tile,
                                                  int head, const rows<DIM> &r, float *out)
{
    int lane = threadIdx.x % PHI3_WARP;
    PHI3_UNROLL
    for (int half = 0; half < 2; half++) {
        float total = r.total[half];
        total += __shfl_xor_sync(PHI3_ALL_LANES, total, 1);
        total += __shfl_xor_sync(PHI3_ALL_LANES, total, 2);
        int row = r.position[half] - tile.position;
        if (row >= tile.n_rows)
            continue;
        float *to = out + ((size_t)(tile.first_row + row) * h.n_heads + head) * DIM + lane % 4 * 2;
        PHI3_UNROLL
        for (int n = 0; n < DIM / 8; n++)
            *reinterpret_cast<float2 *>(to + 8 * n) = {r.sum[n][2 * half] / total,
                                                       r.sum[n][2 * half + 1] / total};
    }
}

/* ---- The kernel ---------------------------------------------------------------------------------- */

/* Grid: tiles, the last first, as it sees most; query heads. */
template <typename Cache, int DIM>
static __global__ void __launch_bounds__(THREADS, DIM == 64 ? 3 : 2)
    attend_tiles(phi3_heads h, const phi3_tile *tiles, void *const *pages, const float *qkv,
                 float *out)
{
    PHI3_SHARED(uint16_t, keys, PAGE * STRIDE<DIM>);
    PHI3_SHARED(uint16_t, values, PAGE * STRIDE<DIM>);
    PHI3_SHARED(float, key_scales, PAGE);
    PHI3_SHARED(float, value_scales, PAGE);
    phi3_tile tile = tiles[gridDim.x - 1 - blockIdx.x];
    int head = blockIdx.y, kv_head = head / (h.n_heads / h.n_kv_heads);
    int end = tile.position + tile.n_rows;
    int page = phi3_first_seen(h, tile.position) / PAGE, last_page = (end - 1) / PAGE;
    pages += tile.table;
    rows<DIM> r;
    begin_rows<Cache, DIM>(h, tile, head, qkv, &r);
    fill<Cache, DIM>(keys, key_scales, phi3_run_in(h, pages[page], 0, kv_head), end - page * PAGE);
    for (; page <= last_page; page++) {
        phi3_copies_arrive();
        __syncthreads(); /* the keys are there, and everyone is done with the last values */
        fill<Cache, DIM>(values, value_scales, phi3_run_in(h, pages[page], 1, kv_head),
                         end - page * PAGE);
        int first = page * PAGE;
        bool sees = first <= r.last_position && first + PAGE > phi3_first_seen(h, r.first_position);
        float scores[PAGE / 8][4];
        if (sees)
            multiply_keys<Cache, DIM>(r, keys, key_scales, scores);
        phi3_copies_arrive();
        __syncthreads(); /* the values are there, and everyone is done with the keys */
        if (page < last_page)
            fill<Cache, DIM>(keys, key_scales, phi3_run_in(h, pages[page + 1], 0, kv_head),
                             end - (page + 1) * PAGE);
        if (sees) {
            mask(h, r, first, scores);
            weigh(&r, scores);
            add_values<Cache, DIM>(scores, values, value_scales, &r);
        }
    }
    write_rows(h, tile, head, r, out);
}

/* ---- Launches ------------------------------------------------------------------------------------ */

template <typename Cache, int DIM>
static void launch(const phi3_heads &h, const phi3_plan &plan, const float *qkv, float *out)
{
    dim3 grid((unsigned)plan.n_tiles, (unsigned)h.n_heads);
    const phi3_tile *tiles = plan.tiles;
    void *const *pages = plan.pages;
    auto kernel = attend_tiles<Cache, DIM>;
    PHI3_LAUNCH(kernel, grid, dim3(THREADS), PHI3_STREAM, h, tiles, pages, qkv, out);
}

template <typename Cache>
static void launch_dimensions(const phi3_heads &h, const phi3_plan &plan, const float *qkv,
                              float *out)
{
    if (h.head_dim == 64)
        launch<Cache, 64>(h, plan, qkv, out);
    else if (h.head_dim == 96)
        launch<Cache, 96>(h, plan, qkv, out);
    else
        launch<Cache, 128>(h, plan, qkv, out);
}

void phi3_attend_tiles(const phi3_heads &h, phi3_dtype dtype, const phi3_plan &plan,
                       const float *qkv, float *out)
{
    if (plan.n_tiles == 0)
        return;
    if (dtype == PHI3_F16)
        launch_dimensions<phi3_cache_f16>(h, plan, qkv, out);
    else if (dtype == PHI3_BF16)
        launch_dimensions<phi3_cache_bf16>(h, plan, qkv, out);
    else
        launch_dimensions<phi3_cache_i8>(h, plan, qkv, out);
}
