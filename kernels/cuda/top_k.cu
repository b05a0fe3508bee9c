/*
 * top_k.cu - the highest logits of each row and their columns.
 *
 * In and out: device memory, shapes as in kernels/backend.h.
 *
 * A logit and its column make one key that sorts as wanted: the bits of the logit, turned so that they
 * sort as the numbers do, and below them the column, turned round. No two keys are equal, so the
 * result does not depend on any order of work. It is a tournament: a block keeps the k highest keys of
 * a tile, in the next round a tile is of what is left, until there is one tile to a row.
 */
#include "cuda.h"
#include "device.h"

enum { THREADS = 512, N_WARPS = THREADS / PHI3_WARP, TILE = 2048 };

static_assert(TILE >= 2 * PHI3_TOP_K_MAX, "every round must leave less");

typedef unsigned long long top_key; /* 0: nothing, below all logits */

/* Where a round's keys come from: the logits themselves, or what the last round has left. */
typedef struct key_source {
    const float *logits; /* [n_rows][count], or NULL */
    const top_key *keys; /* [n_rows][count], or NULL */
    int count;           /* in a row */
} key_source;

/* Where they go: on to another round, or out. */
typedef struct key_target {
    top_key *keys;       /* [n_rows][tiles][k], or NULL: this is the last round */
    const float *logits; /* [n_rows][n_columns] */
    int n_columns;
    float *values; /* [n_rows][k], or NULL */
    int *ids;      /* [n_rows][k] */
    int k;
} key_target;

/* NaN becomes the highest, -0 becomes 0. */
static __device__ __forceinline__ top_key key_of(float logit, int column)
{
    unsigned bits = (unsigned)__float_as_int(logit == 0 ? 0.f : logit);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    if (logit != logit)
        bits = 0xffffffffu;
    return (top_key)bits << 32 | ~(unsigned)column;
}

static __device__ __forceinline__ top_key key_at(const key_source &from, int i)
{
    if (i >= from.count)
        return 0;
    size_t at = (size_t)blockIdx.y * from.count + i;
    return from.logits ? key_of(from.logits[at], i) : from.keys[at];
}

/* Hands over the key of place `rank` of the tile blockIdx.x of the row blockIdx.y. */
static __device__ __forceinline__ void put(const key_target &to, int rank, top_key key)
{
    size_t row = blockIdx.y;
    if (to.keys) {
        to.keys[(row * gridDim.x + blockIdx.x) * to.k + rank] = key;
        return;
    }
    int column = key == 0 ? -1 : (int)~(unsigned)key;
    to.ids[row * to.k + rank] = column;
    if (to.values)
        to.values[row * to.k + rank] =
            column < 0 ? __int_as_float((int)0xff800000u) : to.logits[row * to.n_columns + column];
}

/* ---- One of each tile ------------------------------------------------------------------------------ */

static __device__ __forceinline__ top_key higher(top_key a, top_key b)
{
    return a > b ? a : b;
}

static __device__ __forceinline__ top_key warp_highest(top_key key)
{
    for (int bits = PHI3_WARP / 2; bits > 0; bits /= 2)
        key = higher(key, __shfl_xor_sync(0xffffffffu, key, bits));
    return key;
}

static __global__ void __launch_bounds__(THREADS) keep_highest(key_source from, key_target to)
{
    PHI3_SHARED(top_key, of_warps, N_WARPS);
    top_key highest = 0;
    PHI3_UNROLL
    for (int i = 0; i < TILE; i += THREADS)
        highest = higher(highest, key_at(from, blockIdx.x * TILE + i + threadIdx.x));
    highest = warp_highest(highest);
    if (threadIdx.x % PHI3_WARP == 0)
        of_warps[threadIdx.x / PHI3_WARP] = highest;
    __syncthreads();
    if (threadIdx.x >= PHI3_WARP)
        return;
    highest = warp_highest(threadIdx.x < N_WARPS ? of_warps[threadIdx.x] : 0);
    if (threadIdx.x == 0)
        put(to, 0, highest);
}

/* ---- Several of each tile -------------------------------------------------------------------------- */

/* Sorts a tile, the highest first: a bitonic network. */
static __device__ __forceinline__ void sort_tile(top_key *keys)
{
    for (int run = 2; run <= TILE; run *= 2) {
        for (int distance = run / 2; distance > 0; distance /= 2) {
            PHI3_UNROLL
            for (int pair = threadIdx.x; pair < TILE / 2; pair += THREADS) {
                int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
                top_key a = keys[low], b = keys[high];
                bool falls = (low & run) == 0;
                if ((a < b) == falls) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            __syncthreads();
        }
    }
}

static __global__ void __launch_bounds__(THREADS) keep_several(key_source from, key_target to)
{
    PHI3_SHARED(top_key, keys, TILE);
    for (int i = threadIdx.x; i < TILE; i += THREADS)
        keys[i] = key_at(from, blockIdx.x * TILE + i);
    __syncthreads();
    sort_tile(keys);
    for (int rank = threadIdx.x; rank < to.k; rank += THREADS)
        put(to, rank, keys[rank]);
}

/* ---- The op ---------------------------------------------------------------------------------------- */

static size_t tiles_of(size_t count)
{
    return count > 0 ? (count + TILE - 1) / TILE : 1;
}

/* The first round leaves most; the next one writes behind it. */
size_t phi3_cuda_top_k_scratch(size_t n_rows, size_t n_columns, size_t k)
{
    size_t first = tiles_of(n_columns) * k, second = tiles_of(first) * k;
    return n_rows * (first + second) * sizeof(top_key);
}

phi3_status phi3_cuda_top_k(const phi3_exec *exec, const float *logits, size_t n_rows,
                            size_t n_columns, size_t k, float *values, int32_t *ids)
{
    if (n_rows == 0)
        return PHI3_OK;
    top_key *room = static_cast<top_key *>(exec->scratch);
    top_key *rooms[2] = {room, room + n_rows * tiles_of(n_columns) * k};
    key_source from = {logits, NULL, (int)n_columns};
    for (int round = 0;; round++) {
        size_t n_tiles = tiles_of((size_t)from.count);
        key_target to = {
            n_tiles > 1 ? rooms[round % 2] : NULL, logits, (int)n_columns, values, ids, (int)k};
        dim3 grid((unsigned)n_tiles, (unsigned)n_rows);
        if (k == 1)
            PHI3_LAUNCH(keep_highest, grid, dim3(THREADS), PHI3_STREAM, from, to);
        else
            PHI3_LAUNCH(keep_several, grid, dim3(THREADS), PHI3_STREAM, from, to);
        if (n_tiles == 1)
            return phi3_cuda_launched();
        from = {NULL, to.keys, (int)(n_tiles * k)};
    }
}
