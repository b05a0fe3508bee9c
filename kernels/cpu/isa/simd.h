/*
 * simd.h - the vector vocabulary of the kernels, defined once per instruction set.
 *
 * A kernel is written once, with the vectors and the functions below and with C's own operators on
 * vectors, and compiled for every level (see kernels/CMakeLists.txt). The width is 64 bytes with
 * AVX-512 and 32 elsewhere; without AVX the compiler splits it.
 */
#ifndef PHI3_SIMD_H
#define PHI3_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/float16.h"

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

/* ---- 16-bit floats --------------------------------------------------------------------------- */

INLINE floats load_bfloat16(const void *from)
{
    halves v;
    memcpy(&v, from, sizeof v);
    return (floats)(__builtin_convertvector(v, uints) << 16);
}

INLINE void store_bfloat16(uint16_t *to, floats v)
{
    uints bits = (uints)v;
    uints rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uints nan = (uints)((bits & 0x7fffffff) > 0x7f800000);
    uints result = (nan & (bits >> 16 | 0x40)) | (~nan & rounded);
    halves packed = __builtin_convertvector(result, halves);
    memcpy(to, &packed, sizeof packed);
}

INLINE floats load_float16(const void *from)
{
#if defined(__AVX512F__)
    return (floats)_mm512_cvtph_ps(_mm256_loadu_si256(from));
#elif defined(__AVX2__)
    return (floats)_mm256_cvtph_ps(_mm_loadu_si128(from));
#else
    floats v;
    for (int i = 0; i < LANES; i++)
        v[i] = phi3_load_f16((const uint8_t *)from + 2 * i);
    return v;
#endif
}

INLINE void store_float16(void *to, floats v)
{
#if defined(__AVX512F__)
    _mm256_storeu_si256(to, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
    _mm_storeu_si128(to, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < LANES; i++) {
        uint16_t half = phi3_f16_from_f32(v[i]);
        memcpy((uint8_t *)to + 2 * i, &half, sizeof half);
    }
#endif
}

#if defined(__AVX512BF16__)
/* LANES numbers of a, then of b, rounded to bfloat16. */
INLINE floats round_pairs(floats a, floats b)
{
    return (floats)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
}

/* Pairs of a[i] and b[i], rounded. */
INLINE floats zip_pairs(floats a, floats b)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (floats)_mm512_permutexvar_epi16(order, (__m512i)round_pairs(a, b));
}
#else
/* No level without the instruction has pairs. */
INLINE floats round_pairs(floats a, floats b)
{
    (void)b;
    return a;
}

INLINE floats zip_pairs(floats a, floats b)
{
    (void)b;
    return a;
}
#endif

/* LANES signed bytes as floats. */
INLINE floats load_int8(const void *from)
{
#if defined(__AVX512F__)
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from)));
#elif defined(__AVX2__)
    return (floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from)));
#else
    floats v;
    for (int i = 0; i < LANES; i++)
        v[i] = ((const int8_t *)from)[i];
    return v;
#endif
}

/* One float16 number. */
INLINE float load_float16_number(const void *from)
{
#if defined(__AVX2__)
    return _cvtsh_ss(phi3_load_u16(from));
#else
    return phi3_load_f16(from);
#endif
}

/* Up to 8 of them, or up to 8 pairs, a stride apart; zeros behind. They come together in plain
 * registers: the ports that join vectors are the ones that the products wait for.     out [8 or 16] */
INLINE void load_float16_numbers(const uint8_t *from, size_t stride, bool pairs, size_t count,
                                 float *out)
{
#if defined(__AVX2__)
    uint64_t numbers[4] = {0};
    const size_t together = pairs ? 2 : 4;
    for (size_t i = 0; i < count; i++) {
        uint64_t number =
            pairs ? phi3_load_u32(from + i * stride) : phi3_load_u16(from + i * stride);
        numbers[i / together] |= number << (i % together * (64 / together));
    }
    for (size_t i = 0; i < 8 / together; i += 2) {
        __m128i packed = _mm_set_epi64x((long long)numbers[i + 1], (long long)numbers[i]);
        _mm256_storeu_ps(out + 4 * i, _mm256_cvtph_ps(packed));
    }
#else
    for (size_t i = 0; i < (pairs ? 16 : 8); i++) {
        size_t at = pairs ? i / 2 : i;
        out[i] = at < count ? phi3_load_f16(from + at * stride + (pairs ? i % 2 * 2 : 0)) : 0;
    }
#endif
}

/* 8 bytes, the first the lowest. */
INLINE uint64_t load_u64(const void *from)
{
    return phi3_load_u32(from) | (uint64_t)phi3_load_u32((const uint8_t *)from + 4) << 32;
}

/* 8 bytes as floats, the lowest first. */
INLINE floats8 unsigned_bytes_to_floats(uint64_t numbers)
{
#if defined(__AVX2__)
    return (floats8)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)numbers)));
#else
    floats8 v;
    for (int i = 0; i < 8; i++)
        v[i] = (float)(numbers >> (8 * i) & 255);
    return v;
#endif
}

INLINE floats8 signed_bytes_to_floats(const int8_t from[8])
{
#if defined(__AVX2__)
    return (floats8)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(from)));
#else
    return (floats8){from[0], from[1], from[2], from[3], from[4], from[5], from[6], from[7]};
#endif
}

/* LANES bytes, one in each lane. */
INLINE uints load_lane_bytes(const uint8_t *from)
{
#if defined(__AVX512F__)
    return (uints)_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)from));
#elif defined(__AVX2__)
    return (uints)_mm256_cvtepu8_epi32(_mm_loadu_si64(from));
#else
    uints v;
    for (int i = 0; i < LANES; i++)
        v[i] = from[i];
    return v;
#endif
}

/* LANES bytes as floats. */
INLINE floats lane_bytes_to_floats(const uint8_t *from)
{
    return ints_to_floats((ints)load_lane_bytes(from));
}

/* The low and the high halves of LANES bytes as floats. */
INLINE floats low_nibbles_to_floats(const uint8_t *from)
{
    uint8_t low[LANES];
    for (int i = 0; i < LANES; i++)
        low[i] = from[i] & 15;
    return lane_bytes_to_floats(low);
}

INLINE floats high_nibbles_to_floats(const uint8_t *from)
{
    uint8_t high[LANES];
    for (int i = 0; i < LANES; i++)
        high[i] = from[i] >> 4;
    return lane_bytes_to_floats(high);
}

INLINE void store8(float *to, floats8 v)
{
    memcpy(to, &v, sizeof v);
}

/* ---- Bytes: the codes of BLOCKS blocks ------------------------------------------------------- */

/* Shifts as if the bytes were whole words: the bits that cross into a neighbour are the caller's to
 * mask away. There are no shifts of bytes on x86. */
INLINE bytes shift_right(bytes v, int count)
{
    return (bytes)((uints)v >> (uint32_t)count);
}

INLINE bytes shift_left(bytes v, int count)
{
    return (bytes)((uints)v << (uint32_t)count);
}

/* The 32 codes in 16 bytes of a: low halves, then high halves; then those of b. */
INLINE bytes load_nibbles(const void *a, const void *b)
{
#if defined(__AVX512F__)
    __m512i v = _mm512_broadcast_i32x4(_mm_loadu_si128(a));
    v = _mm512_mask_broadcast_i32x4(v, 0xff00, _mm_loadu_si128(b));
    const __m512i shift = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    return (bytes)_mm512_srlv_epi32(v, shift) & 15;
#elif defined(__AVX2__)
    (void)b;
    __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128(a));
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    return (bytes)_mm256_srlv_epi32(v, shift) & 15;
#else
    (void)b;
    bytes v;
    memcpy(&v, a, 16);
    memcpy((uint8_t *)&v + 16, a, 16);
    for (int i = 16; i < 32; i++)
        v[i] >>= 4;
    return v & 15;
#endif
}

/* `value` in byte i where bit i of a (then of b) is set, else 0. */
INLINE bytes spread_bits(uint32_t a, uint32_t b, uint8_t value)
{
#if defined(__AVX512BW__)
    return (bytes)_mm512_maskz_set1_epi8(a | (uint64_t)b << 32, (char)value);
#elif defined(__AVX2__)
    (void)b;
    const __m256i byte_of =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const bytes bit_of = (bytes)_mm256_set1_epi64x((long long)0x8040201008040201);
    bytes bits = (bytes)_mm256_shuffle_epi8(_mm256_set1_epi32((int)a), byte_of) & bit_of;
    return (bytes)(bits == bit_of) & value;
#else
    (void)b;
    bytes v;
    for (int i = 0; i < 32; i++)
        v[i] = a >> i & 1 ? value : 0;
    return v;
#endif
}

/* Byte codes[i] of `table` [16], for codes below 16. */
INLINE bytes look_up(const void *table, bytes codes)
{
#if defined(__AVX512BW__)
    __m512i wide = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table));
    return (bytes)_mm512_shuffle_epi8(wide, (__m512i)codes);
#elif defined(__AVX2__)
    __m256i wide = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table));
    return (bytes)_mm256_shuffle_epi8(wide, (__m256i)codes);
#else
    bytes v;
    for (int i = 0; i < 32; i++)
        v[i] = ((const uint8_t *)table)[codes[i]];
    return v;
#endif
}

/* The codes (or bit pairs) number `step` of 32 bytes that hold several blocks: with vectors of two
 * blocks, blocks 2 step and 2 step + 1. Block k stands in the bits from k * width up. */
INLINE bytes load_planes(const void *from, int step, int width)
{
#if defined(__AVX512F__)
    __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256(from));
    int low = 2 * step * width, high = low + width;
    __m512i shift = _mm512_inserti64x4(_mm512_set1_epi32(low), _mm256_set1_epi32(high), 1);
    return (bytes)_mm512_srlv_epi32(v, shift) & (uint8_t)((1 << width) - 1);
#else
    return shift_right(load_bytes(from), step * width) & (uint8_t)((1 << width) - 1);
#endif
}

/* ---- Integer products ------------------------------------------------------------------------ */

#if defined(__AVX2__)
/* Lane i of 16 bits: codes[2i] x[2i] + codes[2i + 1] x[2i + 1]; codes unsigned, at most 127 so that
 * it cannot saturate, x signed. */
INLINE shorts dot_pairs(bytes codes, bytes x)
{
#if defined(__AVX512BW__)
    return (shorts)_mm512_maddubs_epi16((__m512i)codes, (__m512i)x);
#else
    return (shorts)_mm256_maddubs_epi16((__m256i)codes, (__m256i)x);
#endif
}

/* Lane i of 32 bits: pairs[2i] + pairs[2i + 1]. */
INLINE ints add_pairs(shorts pairs)
{
#if defined(__AVX512BW__)
    return (ints)_mm512_madd_epi16((__m512i)pairs, _mm512_set1_epi16(1));
#else
    return (ints)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi16(1));
#endif
}
#endif

/* Lane i: sum + codes[4i..4i+3] . x[4i..4i+3]; codes unsigned, up to 255; x signed. */
INLINE ints dot_codes(ints sum, bytes codes, bytes x)
{
#if defined(__AVX512VNNI__)
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, (__m512i)x);
#else
    /* Even and odd bytes apart: a product fits 16 bits, a sum of two need not. */
    shorts even = (shorts)codes & 255, odd = (shorts)((unsigned_shorts)codes >> 8);
    shorts x_even = (shorts)x << 8 >> 8, x_odd = (shorts)x >> 8;
#if defined(__AVX512BW__)
    sum += (ints)_mm512_madd_epi16((__m512i)even, (__m512i)x_even);
    return sum + (ints)_mm512_madd_epi16((__m512i)odd, (__m512i)x_odd);
#elif defined(__AVX2__)
    sum += (ints)_mm256_madd_epi16((__m256i)even, (__m256i)x_even);
    return sum + (ints)_mm256_madd_epi16((__m256i)odd, (__m256i)x_odd);
#else
    ints products[2] = {(ints)(even * x_even), (ints)(odd * x_odd)};
    for (int i = 0; i < 2; i++)
        sum += (products[i] << 16 >> 16) + (products[i] >> 16);
    return sum;
#endif
#endif
}

#endif
