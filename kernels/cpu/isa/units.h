/*
 * units.h - what the float products multiply: units of 32 bits, one in each lane.
 *
 * A unit is one column in float32 or, in products of bfloat16, two neighbouring columns. A product
 * adds the units of a row lane by lane, and then the lanes by halves:
 *
 *     lane j of acc = units j, j + LANES, j + 2 LANES, ...      one after the other
 *     acc = acc[low half] + acc[high half]                      until one lane is left
 *
 * Whatever computes a product keeps to this order, so that its result is the same to the bit.
 */
#ifndef PHI3_ISA_UNITS_H
#define PHI3_ISA_UNITS_H

#include "kernels/formats.h"
#include "simd_narrow.h"

INLINE size_t columns_of_vector(bool bfloat16)
{
    return bfloat16 ? 2 * LANES : LANES;
}

INLINE size_t element_bytes(phi3_dtype dtype)
{
    return dtype == PHI3_F32 ? sizeof(float) : sizeof(uint16_t);
}

INLINE floats load_columns(phi3_dtype dtype, const char *from)
{
    if (dtype == PHI3_F32)
        return load(from);
    return dtype == PHI3_F16 ? load_float16(from) : load_bfloat16(from);
}

/* A vector of units from columns of any dtype; in bfloat16 they are rounded where need be. */
INLINE floats load_units(phi3_dtype dtype, bool bfloat16, const char *from)
{
    if (!bfloat16)
        return load_columns(dtype, from);
    if (dtype == PHI3_BF16)
        return load(from);
    return round_pairs(load_columns(dtype, from),
                       load_columns(dtype, from + LANES * element_bytes(dtype)));
}

/* The same of n_columns columns, which may be fewer than a vector has: zeros follow. */
INLINE floats load_units_up_to(phi3_dtype dtype, bool bfloat16, const char *from, size_t n_columns)
{
    if (n_columns >= columns_of_vector(bfloat16))
        return load_units(dtype, bfloat16, from);
    char padded[2 * VECTOR_BYTES] = {0};
    memcpy(padded, from, n_columns * element_bytes(dtype));
    return load_units(dtype, bfloat16, padded);
}

/* The unit at `from` in every lane. */
INLINE floats repeat_unit(const float *from)
{
    int32_t unit;
    memcpy(&unit, from, sizeof unit);
    return (floats)(unit - (ints){0});
}

INLINE floats multiply_add_units(bool bfloat16, floats a, floats b, floats sum)
{
#if defined(__AVX512BF16__)
    if (bfloat16)
        return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
    (void)bfloat16;
    return multiply_add(a, b, sum);
}

/* Lane numbers that go round: LANES of them from n on turn a vector by n. Tables, because gcc builds
 * such a vector lane by lane wherever it is used. */
#define LANE(i) ((i) % LANES)
static const int32_t turned_lanes[32] = {
    LANE(0),  LANE(1),  LANE(2),  LANE(3),  LANE(4),  LANE(5),  LANE(6),  LANE(7),
    LANE(8),  LANE(9),  LANE(10), LANE(11), LANE(12), LANE(13), LANE(14), LANE(15),
    LANE(16), LANE(17), LANE(18), LANE(19), LANE(20), LANE(21), LANE(22), LANE(23),
    LANE(24), LANE(25), LANE(26), LANE(27), LANE(28), LANE(29), LANE(30), LANE(31)};
#undef LANE

/* The lanes of two vectors in turn: of their low halves, then of their high halves. */
#define LANE(i) ((i) / 2 + (i) % 2 * LANES)
static const int32_t joined_lanes[32] = {
    LANE(0),  LANE(1),  LANE(2),  LANE(3),  LANE(4),  LANE(5),  LANE(6),  LANE(7),
    LANE(8),  LANE(9),  LANE(10), LANE(11), LANE(12), LANE(13), LANE(14), LANE(15),
    LANE(16), LANE(17), LANE(18), LANE(19), LANE(20), LANE(21), LANE(22), LANE(23),
    LANE(24), LANE(25), LANE(26), LANE(27), LANE(28), LANE(29), LANE(30), LANE(31)};
#undef LANE

INLINE ints load_lanes(const int32_t *from)
{
    ints lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

/* The sum over the lanes, by halves. */
INLINE float sum_units(floats sum)
{
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2)
        sum += __builtin_shuffle(sum, load_lanes(turned_lanes + half));
    return sum[0];
}

/* LANES rows of LANES lanes, turned. */
INLINE void transpose(floats rows[LANES])
{
    ints low = load_lanes(joined_lanes), high = load_lanes(joined_lanes + LANES);
    for (int step = 1; step < LANES; step *= 2) {
        floats next[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shuffle(rows[i], rows[i + LANES / 2], low);
            next[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + LANES / 2], high);
        }
        memcpy(rows, next, sizeof next);
    }
}

#endif
