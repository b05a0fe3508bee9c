/*
 * simd_bytes.h - vectors of bytes: the codes of quantised weights, and their products with bytes.
 */
#ifndef PHI3_SIMD_BYTES_H
#define PHI3_SIMD_BYTES_H

#include "simd.h"

/* ---- Codes of BLOCKS blocks ------------------------------------------------------------------ */

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
