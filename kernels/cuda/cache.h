/*
 * cache.h - the KV cache as kernels see it: what an attention is in numbers, where a position's row
 * stands, and the four formats of elements.
 *
 * A format says how a row of head_dim elements is read and written, one by one or in chunks of
 * 128 bits; pages are laid out as kernels/backend.h says.
 */
#ifndef PHI3_CUDA_CACHE_H
#define PHI3_CUDA_CACHE_H

#include "cuda.h"
#include "device.h"

/* Of the largest head_dim, what a lane has when a warp shares a row. */
enum { PHI3_HEAD_PER_LANE = 8, PHI3_MAX_HEAD_DIM = PHI3_WARP * PHI3_HEAD_PER_LANE };

/* What kernels need to know of an attention: its numbers, by value. */
typedef struct phi3_heads {
    int n_heads, n_kv_heads, head_dim, rotary_dim;
    int window;        /* 0: all positions are seen */
    size_t run_bytes;  /* of one head's positions in a page */
    size_t layer_runs; /* runs of a page before this layer */
} phi3_heads;

static inline phi3_heads phi3_heads_of(const phi3_attention *attention)
{
    const phi3_kv_layout *kv = &attention->kv;
    phi3_heads h;
    h.n_heads = (int)attention->n_heads;
    h.n_kv_heads = (int)kv->n_kv_heads;
    h.head_dim = (int)kv->head_dim;
    h.rotary_dim = (int)(attention->rotary_dim / 2 * 2);
    h.window = (int)(attention->sliding_window < INT32_MAX ? attention->sliding_window : 0);
    h.run_bytes = phi3_kv_run_bytes(kv);
    h.layer_runs = attention->layer * 2 * kv->n_kv_heads;
    return h;
}

#if defined(PHI3_CUDA_EMULATED)
#define PHI3_ASSUME_GLOBAL(pointer) ((void)(pointer))
#else /* an address that was read from memory: the compiler cannot know where it points */
#define PHI3_ASSUME_GLOBAL(pointer) __builtin_assume(__isGlobal(pointer))
#endif

/* The run of one head's keys (value 0) or values (value 1) in a page. */
static __device__ __forceinline__ char *phi3_run_in(const phi3_heads &h, void *page, int value,
                                                    int head)
{
    PHI3_ASSUME_GLOBAL(page);
    return static_cast<char *>(page) +
           (h.layer_runs + (size_t)value * h.n_kv_heads + head) * h.run_bytes;
}

/* The first position that a row at `position` sees. */
static __device__ __forceinline__ int phi3_first_seen(const phi3_heads &h, int position)
{
    return h.window > 0 && position >= h.window ? position - h.window + 1 : 0;
}

/* ---- Formats ------------------------------------------------------------------------------------- */

/* load: element `at` of a run as stored; scale: what a row's elements are to be multiplied by;
 * store: x * inverse of its scale, rounded; expand: the elements of a chunk of 128 bits. */
struct phi3_cache_f32 {
    static constexpr int BYTES = 4, PER_CHUNK = 4;
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
    static __device__ __forceinline__ void expand(const uint4 &chunk, float *x)
    {
        x[0] = __int_as_float((int)chunk.x), x[1] = __int_as_float((int)chunk.y);
        x[2] = __int_as_float((int)chunk.z), x[3] = __int_as_float((int)chunk.w);
    }
};

struct phi3_cache_f16 : phi3_cache_f32 {
    static constexpr int BYTES = 2, PER_CHUNK = 8;
    static __device__ __forceinline__ float load(const char *run, size_t at)
    {
        return phi3_half_to_float(reinterpret_cast<const uint16_t *>(run)[at]);
    }
    static __device__ __forceinline__ void store(char *run, size_t at, float x, float)
    {
        reinterpret_cast<uint16_t *>(run)[at] = phi3_float_to_half(x);
    }
    static __device__ __forceinline__ void expand_pair(unsigned pair, float *x)
    {
        x[0] = phi3_half_to_float((uint16_t)pair);
        x[1] = phi3_half_to_float((uint16_t)(pair >> 16));
    }
    static __device__ __forceinline__ void expand(const uint4 &chunk, float *x)
    {
        expand_pair(chunk.x, x), expand_pair(chunk.y, x + 2);
        expand_pair(chunk.z, x + 4), expand_pair(chunk.w, x + 6);
    }
};

struct phi3_cache_bf16 : phi3_cache_f32 {
    static constexpr int BYTES = 2, PER_CHUNK = 8;
    static __device__ __forceinline__ float load(const char *run, size_t at)
    {
        return phi3_bfloat16_to_float(reinterpret_cast<const uint16_t *>(run)[at]);
    }
    static __device__ __forceinline__ void store(char *run, size_t at, float x, float)
    {
        reinterpret_cast<uint16_t *>(run)[at] = phi3_float_to_bfloat16(x);
    }
    static __device__ __forceinline__ void expand_pair(unsigned pair, float *x)
    {
        x[0] = __int_as_float((int)(pair << 16));
        x[1] = __int_as_float((int)(pair & 0xffff0000u));
    }
    static __device__ __forceinline__ void expand(const uint4 &chunk, float *x)
    {
        expand_pair(chunk.x, x), expand_pair(chunk.y, x + 2);
        expand_pair(chunk.z, x + 4), expand_pair(chunk.w, x + 6);
    }
};

/* Codes, and a scale for each position after those of all positions. */
struct phi3_cache_i8 {
    static constexpr int BYTES = 1, PER_CHUNK = 16;
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
    static __device__ __forceinline__ void expand_four(unsigned four, float *x)
    {
        x[0] = (float)(int8_t)four, x[1] = (float)(int8_t)(four >> 8);
        x[2] = (float)(int8_t)(four >> 16), x[3] = (float)(int8_t)(four >> 24);
    }
    static __device__ __forceinline__ void expand(const uint4 &chunk, float *x)
    {
        expand_four(chunk.x, x), expand_four(chunk.y, x + 4);
        expand_four(chunk.z, x + 8), expand_four(chunk.w, x + 12);
    }
};

/* Runs `statement` with `Cache` as the format of a dtype. */
#define PHI3_FOR_CACHE(dtype, statement)   \
    do {                                   \
        switch (dtype) {                   \
        case PHI3_F16: {                   \
            typedef phi3_cache_f16 Cache;  \
            statement;                     \
        } break;                           \
        case PHI3_BF16: {                  \
            typedef phi3_cache_bf16 Cache; \
            statement;                     \
        } break;                           \
        case PHI3_I8: {                    \
            typedef phi3_cache_i8 Cache;   \
            statement;                     \
        } break;                           \
        default: {                         \
            typedef phi3_cache_f32 Cache;  \
            statement;                     \
        } break;                           \
        }                                  \
    } while (0)

#endif
