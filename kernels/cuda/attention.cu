/*
 * attention.cu - rotation, the append to the cache, and attention over it.
 *
 * In: qkv [n_rows][(n_heads + 2 n_kv_heads) head_dim] and a plan of where the rows stand.
 *
 * Attention: a block has one query head of one row and one stretch of its positions, which its warps
 * take in tiles of 32. Each lane scores one position of the tile; then the lanes share out the
 * dimensions and add up the values, weighted. Softmax is online: what is summed so far is scaled
 * down when a higher score comes. With few rows each stretch is a block's, so that every
 * multiprocessor has work, and a second kernel merges them; with many rows a block takes all
 * stretches in turn. Both add up in the same order: a row's result does not depend on the others.
 */
#include "cache.h"

#include <math.h>

enum { MAX_PER_LANE = 8, MAX_HEAD_DIM = PHI3_WARP * MAX_PER_LANE };

static phi3_heads heads_of(const phi3_attention *attention)
{
    const phi3_kv_layout *kv = &attention->kv;
    phi3_heads h;
    h.n_heads = (int)attention->n_heads;
    h.n_kv_heads = (int)kv->n_kv_heads;
    h.head_dim = (int)kv->head_dim;
    h.rotary_dim = (int)(attention->rotary_dim / 2 * 2);
    h.window = (int)(attention->sliding_window < INT32_MAX ? attention->sliding_window : 0);
    h.run_bytes = phi3_kv_page_bytes(kv) / (kv->n_layers * 2 * kv->n_kv_heads);
    h.layer_runs = attention->layer * 2 * kv->n_kv_heads;
    return h;
}

/* Runs a kernel that is a template over the cache's format. */
#define LAUNCH_FOR_CACHE(dtype, kernel, grid, block, ...)                                \
    do {                                                                                 \
        if ((dtype) == PHI3_F32)                                                         \
            PHI3_LAUNCH(kernel<phi3_cache_f32>, grid, block, PHI3_STREAM, __VA_ARGS__);  \
        else if ((dtype) == PHI3_F16)                                                    \
            PHI3_LAUNCH(kernel<phi3_cache_f16>, grid, block, PHI3_STREAM, __VA_ARGS__);  \
        else if ((dtype) == PHI3_BF16)                                                   \
            PHI3_LAUNCH(kernel<phi3_cache_bf16>, grid, block, PHI3_STREAM, __VA_ARGS__); \
        else                                                                             \
            PHI3_LAUNCH(kernel<phi3_cache_i8>, grid, block, PHI3_STREAM, __VA_ARGS__);   \
    } while (0)

/* ---- Rotation and append -------------------------------------------------------------------------------- */

/* Stores a row that the lanes of a warp share. */
template <typename Cache>
static __device__ __forceinline__ void store_row(const phi3_heads &h, char *run, int slot,
                                                 const float *mine);

template <typename Cache>
static __device__ __forceinline__ void store_elements(const phi3_heads &h, char *run, int slot,
                                                      const float *mine, float inverse)
{
    int lane = threadIdx.x;
    for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
        Cache::store(run, (size_t)slot * h.head_dim + lane + k * PHI3_WARP, mine[k], inverse);
}

template <typename Cache>
static __device__ __forceinline__ void store_row(const phi3_heads &h, char *run, int slot,
                                                 const float *mine)
{
    store_elements<Cache>(h, run, slot, mine, 1);
}

template <>
__device__ __forceinline__ void store_row<phi3_cache_i8>(const phi3_heads &h, char *run, int slot,
                                                         const float *mine)
{
    float largest = 0;
    for (int k = 0; threadIdx.x + k * PHI3_WARP < (unsigned)h.head_dim; k++)
        largest = phi3_larger_magnitude(largest, mine[k]);
    largest = phi3_warp_largest(largest);
    float inverse = largest > 0 && phi3_is_finite(largest) ? 127 / largest : 0;
    store_elements<phi3_cache_i8>(h, run, slot, mine, inverse);
    if (threadIdx.x == 0)
        phi3_cache_i8::scales(run, h.head_dim)[slot] = largest / 127;
}

/* A warp has head blockIdx.y of row blockIdx.x: queries, then keys, then values. */
template <typename Cache>
static __global__ void __launch_bounds__(PHI3_WARP)
    rope_append(phi3_heads h, const phi3_row_place *rows, void *const *pages, const float *cosine,
                const float *sine, float *qkv)
{
    int row = blockIdx.x, head = blockIdx.y, lane = threadIdx.x, half = h.rotary_dim / 2;
    float *x = qkv + ((size_t)row * gridDim.y + head) * h.head_dim;
    bool turns = head < h.n_heads + h.n_kv_heads;
    float mine[MAX_PER_LANE];
    for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++) {
        int i = lane + k * PHI3_WARP;
        mine[k] = x[i];
        if (turns && i < h.rotary_dim) {
            size_t angle = (size_t)row * half + i % half;
            mine[k] = i < half ? x[i] * cosine[angle] - x[i + half] * sine[angle]
                               : x[i] * cosine[angle] + x[i - half] * sine[angle];
        }
    }
    __syncwarp(); /* everyone has read its pair */
    if (turns)
        for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
            x[lane + k * PHI3_WARP] = mine[k];
    if (head < h.n_heads)
        return;
    int kv_head = (head - h.n_heads) % h.n_kv_heads, value = turns ? 0 : 1;
    int position = rows[row].position;
    char *run = phi3_run_of(h, pages, rows[row].table, position, value, kv_head);
    store_row<Cache>(h, run, position % PHI3_PAGE_POSITIONS, mine);
}

phi3_status phi3_cuda_rope_append(const phi3_exec *exec, const phi3_attention *attention,
                                  const float *cosine, const float *sine, float *qkv)
{
    const phi3_plan &plan = *phi3_cuda_plan(exec);
    phi3_heads h = heads_of(attention);
    if (h.head_dim > MAX_HEAD_DIM)
        return PHI3_ERROR_UNSUPPORTED;
    dim3 grid((unsigned)plan.n_rows, (unsigned)(h.n_heads + 2 * h.n_kv_heads));
    const phi3_row_place *rows = plan.rows;
    void *const *pages = plan.pages;
    if (plan.n_rows > 0)
        LAUNCH_FOR_CACHE(attention->kv.dtype, rope_append, grid, dim3(PHI3_WARP), h, rows, pages,
                         cosine, sine, qkv);
    return phi3_cuda_launched();
}

/* ---- Attention ---------------------------------------------------------------------------------------- */

enum { N_WARPS = 4, THREADS = N_WARPS * PHI3_WARP };

/* A softmax on its way, over the positions seen so far: the sum of exp(score - highest), and the
 * values weighted by it, of which a lane has dimensions lane, lane + 32, ... */
typedef struct partial {
    float highest, total;
    float sum[MAX_PER_LANE];
} partial;

/* Brings a part's sums to a new highest score. */
static __device__ __forceinline__ float factor(float from, float to)
{
    return from == -INFINITY ? 0 : __expf(from - to);
}

static __device__ __forceinline__ void merge(const phi3_heads &h, partial *into,
                                             const partial &other)
{
    float highest = fmaxf(into->highest, other.highest);
    float mine = factor(into->highest, highest), its = factor(other.highest, highest);
    into->highest = highest;
    into->total = into->total * mine + other.total * its;
    int lane = threadIdx.x % PHI3_WARP;
    for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
        into->sum[k] = into->sum[k] * mine + other.sum[k] * its;
}

/* q . k / sqrt(head_dim) of one position. */
template <typename Cache>
static __device__ __forceinline__ float score(const phi3_heads &h, const float *query,
                                              const char *run, int slot)
{
    float sum = 0;
    for (int i = 0; i < h.head_dim; i++)
        sum += query[i] * Cache::load(run, (size_t)slot * h.head_dim + i);
    return sum * Cache::scale(run, h.head_dim, slot) * rsqrtf((float)h.head_dim);
}

/* Adds the positions [first, first + 32) below `end` to the partial softmax of a warp. */
template <typename Cache>
static __device__ __forceinline__ void add_tile(const phi3_heads &h, const float *query,
                                                void *const *pages, int table, int kv_head,
                                                int first, int end, partial *p)
{
    int lane = threadIdx.x % PHI3_WARP, position = first + lane;
    float s = -INFINITY;
    if (position < end)
        s = score<Cache>(h, query, phi3_run_of(h, pages, table, position, 0, kv_head),
                         position % PHI3_PAGE_POSITIONS);
    float highest = fmaxf(p->highest, phi3_warp_max(s));
    float down = factor(p->highest, highest), weight = factor(s, highest);
    p->highest = highest;
    p->total = p->total * down + phi3_warp_sum(weight);
    for (int k = 0; k < MAX_PER_LANE; k++)
        p->sum[k] *= down;
    int count = end - first < PHI3_WARP ? end - first : PHI3_WARP;
    for (int j = 0; j < count; j++) {
        int slot = (first + j) % PHI3_PAGE_POSITIONS;
        const char *run = phi3_run_of(h, pages, table, first + j, 1, kv_head);
        float w = __shfl_sync(0xffffffffu, weight, j) * Cache::scale(run, h.head_dim, slot);
        for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
            p->sum[k] += w * Cache::load(run, (size_t)slot * h.head_dim + lane + k * PHI3_WARP);
    }
}

static __device__ __forceinline__ void clear(partial *p)
{
    p->highest = -INFINITY, p->total = 0;
    for (int k = 0; k < MAX_PER_LANE; k++)
        p->sum[k] = 0;
}

/* What the warps of a block hand to warp 0. */
typedef struct handover {
    float *sums;    /* [N_WARPS][MAX_HEAD_DIM] shared */
    float *numbers; /* [N_WARPS][2] shared: highest, total */
} handover;

/* The warps' partials become warp 0's. All threads call it. */
static __device__ __forceinline__ void merge_warps(const phi3_heads &h, const handover &to,
                                                   partial *p)
{
    int lane = threadIdx.x % PHI3_WARP, warp = threadIdx.x / PHI3_WARP;
    __syncthreads(); /* warp 0 has read what came before */
    for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
        to.sums[warp * MAX_HEAD_DIM + lane + k * PHI3_WARP] = p->sum[k];
    if (lane == 0) {
        to.numbers[2 * warp] = p->highest;
        to.numbers[2 * warp + 1] = p->total;
    }
    __syncthreads();
    if (warp > 0)
        return;
    for (int w = 1; w < N_WARPS; w++) {
        partial other;
        other.highest = to.numbers[2 * w], other.total = to.numbers[2 * w + 1];
        for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
            other.sum[k] = to.sums[w * MAX_HEAD_DIM + lane + k * PHI3_WARP];
        merge(h, p, other);
    }
}

/* Positions of a stretch: 16 tiles, four for each warp. */
enum { STRETCH = 16 * PHI3_WARP };

/* One stretch of a row's positions: the result is warp 0's. */
template <typename Cache>
static __device__ __forceinline__ void
attend_stretch(const phi3_heads &h, const float *query, void *const *pages, int table, int kv_head,
               int first, int end, const handover &to, partial *p)
{
    int stretch_end = first + STRETCH < end ? first + STRETCH : end;
    clear(p);
    for (int at = first + threadIdx.x / PHI3_WARP * PHI3_WARP; at < stretch_end; at += THREADS)
        add_tile<Cache>(h, query, pages, table, kv_head, at, stretch_end, p);
    merge_warps(h, to, p);
}

/* Where a stretch's result waits for the second kernel: [head_dim] sums, then highest and total. */
static __device__ __forceinline__ float *stretch_at(const phi3_heads &h, float *stretches,
                                                    int n_stretches, int row, int head, int stretch)
{
    size_t index = ((size_t)row * h.n_heads + head) * n_stretches + stretch;
    return stretches + index * (h.head_dim + 2);
}

static __device__ __forceinline__ void write_partial(const phi3_heads &h, const partial &p,
                                                     float *to)
{
    int lane = threadIdx.x % PHI3_WARP;
    for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
        to[lane + k * PHI3_WARP] = p.sum[k];
    if (lane == 0)
        to[h.head_dim] = p.highest, to[h.head_dim + 1] = p.total;
}

static __device__ __forceinline__ void write_result(const phi3_heads &h, const partial &p,
                                                    float *to)
{
    int lane = threadIdx.x % PHI3_WARP;
    for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
        to[lane + k * PHI3_WARP] = p.sum[k] / p.total;
}

/* Row blockIdx.x, query head blockIdx.y; one stretch (blockIdx.z) into `stretches` or, when that is
 * NULL, all of them into `out`. */
template <typename Cache>
static __global__ void __launch_bounds__(THREADS)
    attend(phi3_heads h, const phi3_row_place *rows, void *const *pages, const float *qkv,
           float *stretches, float *out)
{
    PHI3_SHARED(float, query, MAX_HEAD_DIM);
    PHI3_SHARED(float, sums, (int)N_WARPS *MAX_HEAD_DIM);
    PHI3_SHARED(float, numbers, N_WARPS * 2);
    handover to = {sums, numbers};
    int row = blockIdx.x, head = blockIdx.y, table = rows[row].table;
    int end = rows[row].position + 1, begin = h.window > 0 && end > h.window ? end - h.window : 0;
    int kv_head = head / (h.n_heads / h.n_kv_heads);
    const float *from = qkv + ((size_t)row * (h.n_heads + 2 * h.n_kv_heads) + head) * h.head_dim;
    for (int i = threadIdx.x; i < h.head_dim; i += THREADS)
        query[i] = from[i];
    __syncthreads();

    bool is_writer = threadIdx.x < PHI3_WARP;
    partial p;
    if (stretches) {
        attend_stretch<Cache>(h, query, pages, table, kv_head, begin + blockIdx.z * STRETCH, end,
                              to, &p);
        if (is_writer)
            write_partial(h, p, stretch_at(h, stretches, gridDim.z, row, head, blockIdx.z));
        return;
    }
    partial all;
    clear(&all);
    for (int first = begin; first < end; first += STRETCH) {
        attend_stretch<Cache>(h, query, pages, table, kv_head, first, end, to, &p);
        if (is_writer)
            merge(h, &all, p);
    }
    if (is_writer)
        write_result(h, all, out + ((size_t)row * h.n_heads + head) * h.head_dim);
}

/* A warp merges the stretches of row blockIdx.x, head blockIdx.y; those beyond its end are empty. */
static __global__ void __launch_bounds__(PHI3_WARP)
    merge_stretches(phi3_heads h, float *stretches, int n_stretches, float *out)
{
    int lane = threadIdx.x;
    partial all;
    clear(&all);
    for (int s = 0; s < n_stretches; s++) {
        const float *from = stretch_at(h, stretches, n_stretches, blockIdx.x, blockIdx.y, s);
        partial other;
        other.highest = from[h.head_dim], other.total = from[h.head_dim + 1];
        if (other.total == 0)
            break;
        for (int k = 0; lane + k * PHI3_WARP < h.head_dim; k++)
            other.sum[k] = from[lane + k * PHI3_WARP];
        merge(h, &all, other);
    }
    write_result(h, all, out + ((size_t)blockIdx.x * h.n_heads + blockIdx.y) * h.head_dim);
}

/* With more rows than that, there are blocks enough without splitting. */
enum { FEW_ROWS = 16, MAX_STRETCHES = 131072 / STRETCH + 1 };

size_t phi3_cuda_attention_scratch(const phi3_attention *attention, size_t n_rows, int n_threads)
{
    (void)n_threads;
    if (n_rows > FEW_ROWS)
        return 0;
    return n_rows * attention->n_heads * MAX_STRETCHES * (attention->kv.head_dim + 2) *
           sizeof(float);
}

phi3_status phi3_cuda_attention(const phi3_exec *exec, const phi3_attention *attention,
                                const float *qkv, float *out)
{
    const phi3_plan &plan = *phi3_cuda_plan(exec);
    phi3_heads h = heads_of(attention);
    if (h.head_dim > MAX_HEAD_DIM)
        return PHI3_ERROR_UNSUPPORTED;
    int longest = h.window > 0 && h.window < plan.longest ? h.window : plan.longest;
    int n_stretches = (longest + STRETCH - 1) / STRETCH;
    bool split = plan.n_rows <= FEW_ROWS && n_stretches > 1 && n_stretches <= MAX_STRETCHES;
    const phi3_row_place *rows = plan.rows;
    void *const *pages = plan.pages;
    float *stretches = split ? static_cast<float *>(exec->scratch) : NULL;
    dim3 grid((unsigned)plan.n_rows, (unsigned)h.n_heads, split ? (unsigned)n_stretches : 1);
    if (plan.n_rows > 0)
        LAUNCH_FOR_CACHE(attention->kv.dtype, attend, grid, dim3(THREADS), h, rows, pages, qkv,
                         stretches, out);
    if (plan.n_rows > 0 && split)
        PHI3_LAUNCH(merge_stretches, dim3(grid.x, grid.y), dim3(PHI3_WARP), PHI3_STREAM, h,
                    stretches, n_stretches, out);
    return phi3_cuda_launched();
}
