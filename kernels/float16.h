/*
 * float16.h - 16-bit floats and unaligned little-endian numbers in plain C.
 *
 * Every conversion to float32 is exact; those from float32 round to nearest, ties to even.
 */
#ifndef PHI3_FLOAT16_H
#define PHI3_FLOAT16_H

#include <stdint.h>
#include <string.h>

static inline uint16_t phi3_load_u16(const void *from)
{
    const uint8_t *byte = (const uint8_t *)from;
    return (uint16_t)(byte[0] | byte[1] << 8);
}

static inline uint32_t phi3_load_u32(const void *from)
{
    return phi3_load_u16(from) | (uint32_t)phi3_load_u16((const uint8_t *)from + 2) << 16;
}

static inline float phi3_float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t phi3_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float phi3_bf16_to_f32(uint16_t half)
{
    return phi3_float_from_bits((uint32_t)half << 16);
}

static inline uint16_t phi3_bf16_from_f32(float value)
{
    uint32_t bits = phi3_float_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000) /* NaN: keep it one when the low half goes */
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float phi3_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13; /* the exponent's bias is 112 too small */
    if (bits >= 0x0f800000)                          /* infinity and NaN */
        bits |= 0x7f800000;
    else
        bits = phi3_float_bits(phi3_float_from_bits(bits) * 0x1p112f);
    return phi3_float_from_bits(sign | bits);
}

static inline uint16_t phi3_f16_from_f32(float value)
{
    uint32_t bits = phi3_float_bits(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return sign | 0x7e00;
    if (bits >= 0x477ff000) /* what rounds to 65536 or more */
        return sign | 0x7c00;
    if (bits < 0x38800000) { /* subnormal: the addition aligns and rounds */
        float aligned = phi3_float_from_bits(bits) + 0.5f;
        return (uint16_t)(sign | (phi3_float_bits(aligned) - 0x3f000000));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000) >> 13);
}

/* The same, straight from memory at any alignment. */
static inline float phi3_load_f16(const void *from)
{
    return phi3_f16_to_f32(phi3_load_u16(from));
}

static inline float phi3_load_bf16(const void *from)
{
    return phi3_bf16_to_f32(phi3_load_u16(from));
}

static inline float phi3_load_f32(const void *from)
{
    return phi3_float_from_bits(phi3_load_u32(from));
}

#endif
