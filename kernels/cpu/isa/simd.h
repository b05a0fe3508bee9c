/*
 * simd.h - the vector vocabulary of the kernels, defined once per instruction set.
 *
 * A kernel is written once, with the vectors and the functions below and with C's own operators on
 * vectors, and compiled for every level (see kernels/CMakeLists.txt). The width is 64 bytes with
 * AVX-512 and 32 elsewhere; without AVX the compiler splits it. Numbers of less than 32 bits are in
 * simd_narrow.h, bytes in simd_bytes.h.
 */
#ifndef PHI3_SIMD_H
#define PHI3_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#include <immintrin.h>
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 32
#endif

#define INLINE static inline __attribute__((always_inline, unused))

/* An array stands in memory from here on. A part of it is then loaded into lanes, which takes no port
 * of those that move lanes about and that products wait for; the compiler would shuffle registers. */
#define PUT_IN_MEMORY(array) __asm__("" : "+m"(array))

/* What comes after this in the program is not loaded before what comes ahead of it. */
#define NO_LOAD_EARLIER() __asm__ volatile("" : : : "memory")

enum {
    LANES = VECTOR_BYTES / 4,  /* floats in a vector */
    BLOCKS = VECTOR_BYTES / 32 /* blocks of 32 bytes in a vector */
};

typedef float floats __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t ints __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t uints __attribute__((vector_size(VECTOR_BYTES)));
typedef uint8_t bytes __attribute__((vector_size(VECTOR_BYTES)));
typedef int16_t shorts __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t unsigned_shorts __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t halves __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef float floats8 __attribute__((vector_size(32))); /* one number per block of a group */

/* ---- Loads and stores ------------------------------------------------------------------------ */

INLINE floats load(const void *from)
{
    floats v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store(float *to, floats v)
{
    memcpy(to, &v, sizeof v);
}

/* Whether rows of n_out sums, y_stride apart, can be stored past the caches. */
INLINE bool has_whole_lines(size_t n_out, const float *y, size_t y_stride)
{
    return n_out % 16 == 0 && (uintptr_t)y % 64 == 0 && y_stride % 16 == 0;
}

/* A store that leaves the caches alone; `to` at a multiple of a vector. Other threads see it after
 * fence_stores. */
INLINE void store_past_caches(float *to, floats v)
{
#if defined(__AVX512F__)
    _mm512_stream_ps(to, (__m512)v);
#elif defined(__AVX2__)
    _mm256_stream_ps(to, (__m256)v);
#else
    store(to, v);
#endif
}

INLINE void fence_stores(void)
{
#if defined(__AVX2__)
    _mm_sfence();
#endif
}

/* The first `count` lanes, zeros above; a whole vector when count is LANES or more. */
INLINE floats load_up_to(const float *from, size_t count)
{
    if (count >= LANES)
        return load(from);
    floats v = {0};
    memcpy(&v, from, count * sizeof *from);
    return v;
}

INLINE void store_up_to(float *to, floats v, size_t count)
{
    memcpy(to, &v, count < LANES ? count * sizeof *to : sizeof v);
}

INLINE bytes load_bytes(const void *from)
{
    bytes v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* Asks for what will be wanted soon: it comes into the cache of the first level, or of the second. */
INLINE void prefetch(const void *from, size_t size, bool first_level)
{
    for (size_t i = 0; i < size; i += 64) {
        if (first_level)
            __builtin_prefetch((const char *)from + i, 0, 3);
        else
            __builtin_prefetch((const char *)from + i, 0, 2);
    }
}

INLINE floats splat(float value)
{
    return value - (floats){0};
}

INLINE bytes splat_byte(uint8_t value)
{
    return value - (bytes){0};
}

/* 4 bytes, over and over. */
INLINE bytes splat_quad(const void *from)
{
    int32_t value;
    memcpy(&value, from, sizeof value);
    return (bytes)(value - (ints){0});
}

INLINE ints splat_int(int32_t value)
{
    return value - (ints){0};
}

/* ---- Floats ---------------------------------------------------------------------------------- */

/* a * b + c, fused where the level can. */
INLINE floats multiply_add(floats a, floats b, floats c)
{
#if defined(__AVX512F__)
    return (floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* The larger and the smaller; b where either is NaN. */
INLINE floats larger(floats a, floats b)
{
    ints mask = a > b;
    return (floats)((mask & (ints)a) | (~mask & (ints)b));
}

INLINE floats smaller(floats a, floats b)
{
    ints mask = a < b;
    return (floats)((mask & (ints)a) | (~mask & (ints)b));
}

INLINE float sum_lanes(floats v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__)
    __m128 four =
        _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    float sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
#endif
}

INLINE float largest_lane(floats v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#elif defined(__AVX2__)
    __m128 four =
        _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
    float largest = v[0];
    for (int i = 1; i < LANES; i++)
        largest = v[i] > largest ? v[i] : largest;
    return largest;
#endif
}

/* Of a comparison's result: whether it is false anywhere. */
INLINE bool has_zero_lane(ints mask)
{
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0xffff;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)mask) != -1;
#else
    int32_t all = mask[0];
    for (int i = 1; i < LANES; i++)
        all &= mask[i];
    return all == 0;
#endif
}

INLINE ints larger_ints(ints a, ints b)
{
    ints mask = a > b;
    return (mask & a) | (~mask & b);
}

INLINE int32_t largest_int_lane(ints v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_epi32((__m512i)v);
#elif defined(__AVX2__)
    __m128i four =
        _mm_max_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
#else
    int32_t largest = v[0];
    for (int i = 1; i < LANES; i++)
        largest = v[i] > largest ? v[i] : largest;
    return largest;
#endif
}

/* The lowest byte of every lane. */
INLINE void store_low_bytes(int8_t *to, ints v)
{
    typedef int8_t lane_bytes __attribute__((vector_size(LANES)));
    lane_bytes low = __builtin_convertvector(v, lane_bytes);
    memcpy(to, &low, sizeof low);
}

/* To the nearest integer, ties to even, for |v| < 2^22: the sum has no bits left for a fraction. */
INLINE ints round_to_ints(floats v)
{
    const float magic = 0x1.8p23f;
    return (ints)(v + magic) - 0x4b400000;
}

INLINE floats ints_to_floats(ints v)
{
    return __builtin_convertvector(v, floats);
}

/* e^v, within 2 units in the last place. Below -87.3 it is 1.2e-38 and above 88.3 it is 2.2e38;
 * NaN stays NaN. v = n ln 2 + r; 2^n comes from the exponent's bits, e^r from its series. */
INLINE floats exponential(floats v)
{
    v = larger(splat(-87.3f), smaller(splat(88.3f), v));
    ints n = round_to_ints(v * 1.44269504f);
    floats whole = ints_to_floats(n);
    floats r = multiply_add(whole, splat(-0.693359375f), v); /* ln 2 in two parts */
    r = multiply_add(whole, splat(2.12194440e-4f), r);
    floats p = splat(1.f / 5040);
    p = multiply_add(p, r, splat(1.f / 720));
    p = multiply_add(p, r, splat(1.f / 120));
    p = multiply_add(p, r, splat(1.f / 24));
    p = multiply_add(p, r, splat(1.f / 6));
    p = multiply_add(p, r, splat(0.5f));
    p = multiply_add(p, r * r, r) + 1.f;
    return p * (floats)((n + 127) << 23);
}

#endif
