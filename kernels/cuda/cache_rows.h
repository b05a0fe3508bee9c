/*
 * cache_rows.h - how lanes share a row of the cache.
 *
 * A group of LANES lanes has a position's row; each lane keeps PER_LANE elements of it. load: a
 * lane's elements as they are stored (`raw`); expand: as float32, [PER_LANE]; dimension: which one
 * element i of a lane is, and `has` whether there is one.
 */
#ifndef PHI3_CUDA_CACHE_ROWS_H
#define PHI3_CUDA_CACHE_ROWS_H

#include "cache.h"

/* In loads of 128 bits: LANES lanes take N_CHUNKS chunks each, every LANES-th. */
template <typename Format, int DIM, int LANES_> struct wide_rows {
    typedef Format Cache;
    static constexpr int LANES = LANES_, PER_LANE = DIM / LANES, MAX_DIM = DIM;
    static constexpr int N_CHUNKS = PER_LANE / Cache::PER_CHUNK;
    /* Rows that a lane has under way, of keys and of values: up to 32 registers each. */
    static constexpr int DEPTH = N_CHUNKS == 1 && PER_LANE <= 8 ? 8 : N_CHUNKS <= 2 ? 4 : 2;
    static_assert(N_CHUNKS * Cache::PER_CHUNK * LANES == DIM, "chunks share a row out");
    struct raw {
        uint4 chunks[N_CHUNKS];
    };
    static __device__ __forceinline__ int dimension(int lane, int i)
    {
        return (i / Cache::PER_CHUNK * LANES + lane) * Cache::PER_CHUNK + i % Cache::PER_CHUNK;
    }
    static __device__ __forceinline__ bool has(int, int)
    {
        return true;
    }
    static __device__ __forceinline__ int length(int)
    {
        return DIM;
    }
    static __device__ __forceinline__ raw load(const char *run, int slot, int lane, int)
    {
        raw r;
        const uint4 *row = reinterpret_cast<const uint4 *>(run + (size_t)slot * DIM * Cache::BYTES);
        PHI3_UNROLL
        for (int c = 0; c < N_CHUNKS; c++)
            r.chunks[c] = row[c * LANES + lane];
        return r;
    }
    static __device__ __forceinline__ void expand(const raw &r, float *x)
    {
        PHI3_UNROLL
        for (int c = 0; c < N_CHUNKS; c++)
            Cache::expand(r.chunks[c], x + c * Cache::PER_CHUNK);
    }
};

/* Of any length, element by element: a warp has the row. */
template <typename Format> struct any_rows {
    typedef Format Cache;
    static constexpr int LANES = PHI3_WARP, PER_LANE = PHI3_HEAD_PER_LANE;
    static constexpr int MAX_DIM = PHI3_MAX_HEAD_DIM, DEPTH = 2;
    struct raw {
        float x[PER_LANE];
    };
    static __device__ __forceinline__ int dimension(int lane, int i)
    {
        return lane + i * LANES;
    }
    static __device__ __forceinline__ bool has(int dimension, int head_dim)
    {
        return dimension < head_dim;
    }
    static __device__ __forceinline__ int length(int head_dim)
    {
        return head_dim;
    }
    static __device__ __forceinline__ raw load(const char *run, int slot, int lane, int head_dim)
    {
        raw r;
        PHI3_UNROLL
        for (int i = 0; i < PER_LANE; i++)
            r.x[i] = dimension(lane, i) < head_dim
                         ? Cache::load(run, (size_t)slot * head_dim + dimension(lane, i))
                         : 0;
        return r;
    }
    static __device__ __forceinline__ void expand(const raw &r, float *x)
    {
        PHI3_UNROLL
        for (int i = 0; i < PER_LANE; i++)
            x[i] = r.x[i];
    }
};

#endif
