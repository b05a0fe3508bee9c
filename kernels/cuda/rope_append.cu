/*
 * rope_append.cu - rotation of queries and keys, and the append of keys and values to the cache.
 *
 * In: qkv [n_rows][(n_heads + 2 n_kv_heads) head_dim], the rows' angles [n_rows][rotary_dim / 2], and
 * the plan of where the rows stand. Out: queries and keys of qkv rotated in place; keys and values in
 * the pages, in the cache's format.
 *
 * A warp has one head of one row; a lane has its dimensions lane, lane + 32, ...
 */
#include "cache.h"
#include "plan.h"

/* Stores the row that the lanes of a warp share, times `inverse`. */
template <typename Cache>
static __device__ __forceinline__ void store_elements(int head_dim, char *run, int slot,
                                                      const float *mine, float inverse)
{
    PHI3_UNROLL
    for (int k = 0; k < PHI3_HEAD_PER_LANE; k++) {
        int i = (int)threadIdx.x + k * PHI3_WARP;
        if (i < head_dim)
            Cache::store(run, (size_t)slot * head_dim + i, mine[k], inverse);
    }
}

template <typename Cache>
static __device__ __forceinline__ void store_row(int head_dim, char *run, int slot,
                                                 const float *mine)
{
    store_elements<Cache>(head_dim, run, slot, mine, 1);
}

/* Codes: the largest magnitude of the row becomes 127. */
template <>
__device__ __forceinline__ void store_row<phi3_cache_i8>(int head_dim, char *run, int slot,
                                                         const float *mine)
{
    float largest = 0;
    PHI3_UNROLL
    for (int k = 0; k < PHI3_HEAD_PER_LANE; k++)
        largest = phi3_larger_magnitude(largest, mine[k]);
    largest = phi3_warp_largest(largest);
    float inverse = largest > 0 && phi3_is_finite(largest) ? 127 / largest : 0;
    store_elements<phi3_cache_i8>(head_dim, run, slot, mine, inverse);
    if (threadIdx.x == 0)
        phi3_cache_i8::scales(run, head_dim)[slot] = largest / 127;
}

/* Dimension i of a head, rotated by the row's angles. */
static __device__ __forceinline__ float rotated(const float *x, int i, int n_pairs,
                                                const float *cosine, const float *sine)
{
    if (i < n_pairs)
        return x[i] * cosine[i] - x[i + n_pairs] * sine[i];
    return x[i] * cosine[i - n_pairs] + x[i - n_pairs] * sine[i - n_pairs];
}

/* Row blockIdx.x, head blockIdx.y: queries, then keys, then values. */
template <typename Cache>
static __global__ void __launch_bounds__(PHI3_WARP)
    rope_append(phi3_heads h, const phi3_row_place *rows, void *const *pages, const float *cosine,
                const float *sine, float *qkv)
{
    int row = blockIdx.x, head = blockIdx.y, lane = threadIdx.x, n_pairs = h.rotary_dim / 2;
    float *x = qkv + ((size_t)row * gridDim.y + head) * h.head_dim;
    bool turns = head < h.n_heads + h.n_kv_heads;
    float mine[PHI3_HEAD_PER_LANE];
    PHI3_UNROLL
    for (int k = 0; k < PHI3_HEAD_PER_LANE; k++) {
        int i = lane + k * PHI3_WARP;
        mine[k] = 0;
        if (i < h.head_dim)
            mine[k] = turns && i < 2 * n_pairs
                          ? rotated(x, i, n_pairs, cosine + (size_t)row * n_pairs,
                                    sine + (size_t)row * n_pairs)
                          : x[i];
    }
    __syncwarp(); /* everyone has read its pair */
    if (turns)
        store_elements<phi3_cache_f32>(h.head_dim, reinterpret_cast<char *>(x), 0, mine, 1);
    if (head < h.n_heads)
        return;
    phi3_row_place place = rows[row];
    void *page = pages[place.table + place.position / PHI3_PAGE_POSITIONS];
    char *run = phi3_run_in(h, page, turns ? 0 : 1, (head - h.n_heads) % h.n_kv_heads);
    store_row<Cache>(h.head_dim, run, place.position % PHI3_PAGE_POSITIONS, mine);
}

phi3_status phi3_cuda_rope_append(const phi3_exec *exec, const phi3_attention *attention,
                                  const float *cosine, const float *sine, float *qkv)
{
    const phi3_plan &plan = *phi3_cuda_plan(exec);
    phi3_heads h = phi3_heads_of(attention);
    if (h.head_dim > PHI3_MAX_HEAD_DIM)
        return PHI3_ERROR_UNSUPPORTED;
    if (plan.n_rows == 0)
        return PHI3_OK;
    dim3 grid((unsigned)plan.n_rows, (unsigned)(h.n_heads + 2 * h.n_kv_heads));
    const phi3_row_place *rows = plan.rows;
    void *const *pages = plan.pages;
    PHI3_FOR_CACHE(attention->kv.dtype,
                   PHI3_LAUNCH(rope_append<Cache>, grid, dim3(PHI3_WARP), PHI3_STREAM, h, rows,
                               pages, cosine, sine, qkv));
    return phi3_cuda_launched();
}
