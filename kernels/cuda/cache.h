/*
 * cache.h - elements of the KV cache, on the device.
 *
 * A format says how a row of head_dim elements is read and written; pages are laid out as
 * kernels/backend.h says.
 */
#ifndef PHI3_CUDA_CACHE_H
#define PHI3_CUDA_CACHE_H

#include "device.h"
#include "plan.h"

/* What kernels need to know of an attention: its numbers, by value. */
typedef struct phi3_heads {
    int n_heads, n_kv_heads, head_dim, rotary_dim, window;
    size_t run_bytes;  /* of one head's positions in a page */
    size_t layer_runs; /* runs of a page before this layer */
} phi3_heads;

/* The run of one head's keys (value 0) or values (value 1) that holds a position, and its number in
 * it. */
static __device__ __forceinline__ char *phi3_run_of(const phi3_heads &h, void *const *pages,
                                                    int table, int position, int value, int head)
{
    char *page = static_cast<char *>(pages[table + position / PHI3_PAGE_POSITIONS]);
    return page + (h.layer_runs + (size_t)value * h.n_kv_heads + head) * h.run_bytes;
}

struct phi3_cache_f32 {
    static __device__ __forceinline__ float scale(const char *, int, int)
    {
        return 1;
    }
    static __device__ __forceinline__ float load(const char *run, size_t at)
    {
        return reinterpret_cast<const float *>(run)[at];
    }
    static __device__ __forceinline__ void store(char *run, size_t at, float x, float)
    {
        reinterpret_cast<float *>(run)[at] = x;
    }
};

struct phi3_cache_f16 : phi3_cache_f32 {
    static __device__ __forceinline__ float load(const char *run, size_t at)
    {
        return phi3_half_to_float(reinterpret_cast<const uint16_t *>(run)[at]);
    }
    static __device__ __forceinline__ void store(char *run, size_t at, float x, float)
    {
        reinterpret_cast<uint16_t *>(run)[at] = phi3_float_to_half(x);
    }
};

struct phi3_cache_bf16 : phi3_cache_f32 {
    static __device__ __forceinline__ float load(const char *run, size_t at)
    {
        return phi3_bfloat16_to_float(reinterpret_cast<const uint16_t *>(run)[at]);
    }
    static __device__ __forceinline__ void store(char *run, size_t at, float x, float)
    {
        reinterpret_cast<uint16_t *>(run)[at] = phi3_float_to_bfloat16(x);
    }
};

/* Codes, and a scale for each position after those of all positions. */
struct phi3_cache_i8 {
    static __device__ __forceinline__ float *scales(char *run, int head_dim)
    {
        return reinterpret_cast<float *>(run + (size_t)PHI3_PAGE_POSITIONS * head_dim);
    }
    static __device__ __forceinline__ float scale(const char *run, int head_dim, int slot)
    {
        return scales(const_cast<char *>(run), head_dim)[slot];
    }
    static __device__ __forceinline__ float load(const char *run, size_t at)
    {
        return reinterpret_cast<const int8_t *>(run)[at];
    }
    static __device__ __forceinline__ void store(char *run, size_t at, float x, float inverse)
    {
        reinterpret_cast<int8_t *>(run)[at] = (int8_t)(inverse > 0 ? rintf(x * inverse) : 0);
    }
};

#endif
