/*
 * simd_narrow.h - numbers of less than 32 bits, and the floats that they become: floats of 16 bits,
 * bytes, nibbles.
 */
#ifndef PHI3_SIMD_NARROW_H
#define PHI3_SIMD_NARROW_H

#include "kernels/float16.h"
#include "simd.h"

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

#endif
