/*
 * units.h - 32 consecutive weights of a row, from the planes of each format.
 *
 * A unit is what a lane reads at a time: 32 codes of 8 bits in eight words, in the order of the
 * columns, and what turns them into weights:
 *     weight of column c = scale[c / 16] * (code - zero) - min[c / 16]
 * The formulas are those of kernels/blocks.h.
 */
#ifndef PHI3_CUDA_UNITS_H
#define PHI3_CUDA_UNITS_H

#include "device.h"
#include "planes.h"

enum { PHI3_UNIT = 32 };

typedef struct phi3_unit {
    int codes[8]; /* four columns in each; as signed bytes */
    float scale[2], min[2];
    int zero;
} phi3_unit;

/* 16 bytes of a field, whose plane keeps them aligned. */
static __device__ __forceinline__ void phi3_load16(const uint8_t *from, int words[4])
{
    int4 loaded = *reinterpret_cast<const int4 *>(from);
    words[0] = loaded.x, words[1] = loaded.y, words[2] = loaded.z, words[3] = loaded.w;
}

static __device__ __forceinline__ float phi3_load_half(const uint8_t *from)
{
    return phi3_half_to_float(*reinterpret_cast<const uint16_t *>(from));
}

/* The low halves of 16 bytes are columns 0..15, the high halves 16..31. */
static __device__ __forceinline__ void phi3_split_nibbles(const uint8_t *from, int codes[8])
{
    int words[4];
    phi3_load16(from, words);
    for (int i = 0; i < 4; i++) {
        codes[i] = words[i] & 0x0f0f0f0f;
        codes[i + 4] = words[i] >> 4 & 0x0f0f0f0f;
    }
}

/* Adds bit c of `bits` as bit 4 of the code of column c. */
static __device__ __forceinline__ void phi3_add_fifth_bits(unsigned bits, int codes[8])
{
    for (int i = 0; i < 8; i++) {
        unsigned four = bits >> (4 * i) & 15;
        /* Bit k to byte k: the products do not overlap. */
        codes[i] |= (int)((four * 0x00204081u & 0x01010101u) << 4);
    }
}

/* Codes of four bits to the steps of IQ4. */
static __device__ __forceinline__ void phi3_iq4_steps(int codes[8])
{
    const int8_t steps[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                              1,    13,   25,  38,  53,  69,  89,  113};
    for (int i = 0; i < 8; i++) {
        unsigned word = 0;
        for (int k = 0; k < 4; k++)
            word |= (unsigned)(uint8_t)steps[codes[i] >> (8 * k) & 15] << (8 * k);
        codes[i] = (int)word;
    }
}

/* ---- Blocks of 32: a unit is a block ---------------------------------------------------------------- */

struct phi3_q4_0 { /* planes: codes, d */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int)
    {
        phi3_unit u;
        phi3_split_nibbles(p.plane[0] + 16 * block, u.codes);
        u.scale[0] = u.scale[1] = phi3_load_half(p.plane[1] + 2 * block);
        u.min[0] = u.min[1] = 0, u.zero = 8;
        return u;
    }
};

struct phi3_q4_1 { /* codes, d, m */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int)
    {
        phi3_unit u;
        phi3_split_nibbles(p.plane[0] + 16 * block, u.codes);
        u.scale[0] = u.scale[1] = phi3_load_half(p.plane[1] + 2 * block);
        u.min[0] = u.min[1] = -phi3_load_half(p.plane[2] + 2 * block);
        u.zero = 0;
        return u;
    }
};

struct phi3_q5_0 { /* codes, d, high */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int)
    {
        phi3_unit u = phi3_q4_0::load(p, block, 0);
        phi3_add_fifth_bits(*reinterpret_cast<const unsigned *>(p.plane[2] + 4 * block), u.codes);
        u.zero = 16;
        return u;
    }
};

struct phi3_q5_1 { /* codes, d, m, high */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int)
    {
        phi3_unit u = phi3_q4_1::load(p, block, 0);
        phi3_add_fifth_bits(*reinterpret_cast<const unsigned *>(p.plane[3] + 4 * block), u.codes);
        return u;
    }
};

struct phi3_q8_0 { /* codes, d */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int)
    {
        phi3_unit u;
        phi3_load16(p.plane[0] + 32 * block, u.codes);
        phi3_load16(p.plane[0] + 32 * block + 16, u.codes + 4);
        u.scale[0] = u.scale[1] = phi3_load_half(p.plane[1] + 2 * block);
        u.min[0] = u.min[1] = 0, u.zero = 0;
        return u;
    }
};

struct phi3_iq4_nl { /* codes, d */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int)
    {
        phi3_unit u = phi3_q4_0::load(p, block, 0);
        phi3_iq4_steps(u.codes);
        u.zero = 0;
        return u;
    }
};

/* ---- Blocks of 256: eight units; `s` says which ------------------------------------------------------ */

/* Scale and min of sub-block s, packed in 12 bytes: see phi3_unpack_scales. */
static __device__ __forceinline__ void phi3_scale_and_min(const uint8_t *packed, int s, int *scale,
                                                          int *min)
{
    if (s < 4) {
        *scale = packed[s] & 63;
        *min = packed[s + 4] & 63;
    } else {
        *scale = (packed[s + 4] & 15) | (packed[s - 4] >> 6) << 4;
        *min = packed[s + 4] >> 4 | (packed[s] >> 6) << 4;
    }
}

/* 32 bytes whose bits from `shift` on, under the mask, are the codes. */
static __device__ __forceinline__ void phi3_shifted_codes(const uint8_t *from, int shift, int mask,
                                                          int codes[8])
{
    phi3_load16(from, codes);
    phi3_load16(from + 16, codes + 4);
    for (int i = 0; i < 8; i++)
        codes[i] = codes[i] >> shift & mask;
}

/* Adds bits of 32 more bytes: those from `shift` on, under the mask, as bits `to` and up. */
static __device__ __forceinline__ void phi3_add_bits(const uint8_t *from, int shift, int mask,
                                                     int to, int codes[8])
{
    int more[8];
    phi3_shifted_codes(from, shift, mask, more);
    for (int i = 0; i < 8; i++)
        codes[i] |= more[i] << to;
}

struct phi3_q2_k { /* codes, scales, d and dmin */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int s)
    {
        phi3_unit u;
        phi3_shifted_codes(p.plane[0] + 64 * block + s / 4 * 32, s % 4 * 2, 0x03030303, u.codes);
        float d = phi3_load_half(p.plane[2] + 4 * block);
        float dmin = phi3_load_half(p.plane[2] + 4 * block + 2);
        for (int half = 0; half < 2; half++) {
            int packed = p.plane[1][16 * block + 2 * s + half];
            u.scale[half] = d * (float)(packed & 15);
            u.min[half] = dmin * (float)(packed >> 4);
        }
        u.zero = 0;
        return u;
    }
};

struct phi3_q4_k { /* codes, scales, d and dmin */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int s)
    {
        phi3_unit u;
        int scale, min;
        phi3_shifted_codes(p.plane[0] + 128 * block + s / 2 * 32, s % 2 * 4, 0x0f0f0f0f, u.codes);
        phi3_scale_and_min(p.plane[1] + 12 * block, s, &scale, &min);
        u.scale[0] = u.scale[1] = phi3_load_half(p.plane[2] + 4 * block) * (float)scale;
        u.min[0] = u.min[1] = phi3_load_half(p.plane[2] + 4 * block + 2) * (float)min;
        u.zero = 0;
        return u;
    }
};

struct phi3_q5_k { /* codes, scales, d and dmin, high */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int s)
    {
        phi3_unit u = phi3_q4_k::load(p, block, s);
        phi3_add_bits(p.plane[3] + 32 * block, s, 0x01010101, 4, u.codes);
        return u;
    }
};

struct phi3_q6_k { /* codes, high, scales, d */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int s)
    {
        phi3_unit u;
        int run = s / 4, quarter = s % 4;
        phi3_shifted_codes(p.plane[0] + 128 * block + 64 * run + quarter % 2 * 32, quarter / 2 * 4,
                           0x0f0f0f0f, u.codes);
        phi3_add_bits(p.plane[1] + 64 * block + 32 * run, 2 * quarter, 0x03030303, 4, u.codes);
        const int8_t *scales = reinterpret_cast<const int8_t *>(p.plane[2]) + 16 * block + 2 * s;
        float d = phi3_load_half(p.plane[3] + 2 * block);
        u.scale[0] = d * (float)scales[0], u.scale[1] = d * (float)scales[1];
        u.min[0] = u.min[1] = 0, u.zero = 32;
        return u;
    }
};

struct phi3_q3_k { /* codes, high, scales, d */
    static __device__ __forceinline__ float scale_of(const uint8_t *scales, int s)
    {
        int low = scales[s % 8] >> (s / 8 * 4) & 15, high = scales[8 + s % 4] >> (s / 4 * 2) & 3;
        return (float)((low | high << 4) - 32);
    }

    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int s)
    {
        phi3_unit u;
        phi3_shifted_codes(p.plane[0] + 64 * block + s / 4 * 32, s % 4 * 2, 0x03030303, u.codes);
        phi3_add_bits(p.plane[1] + 32 * block, s, 0x01010101, 2, u.codes);
        const uint8_t *scales = p.plane[2] + 12 * block;
        float d = phi3_load_half(p.plane[3] + 2 * block);
        u.scale[0] = d * scale_of(scales, 2 * s), u.scale[1] = d * scale_of(scales, 2 * s + 1);
        u.min[0] = u.min[1] = 0, u.zero = 4;
        return u;
    }
};

struct phi3_iq4_xs { /* codes, low scales, high scales, d */
    static __device__ __forceinline__ phi3_unit load(const phi3_planes &p, size_t block, int s)
    {
        phi3_unit u;
        phi3_split_nibbles(p.plane[0] + 128 * block + 16 * s, u.codes);
        phi3_iq4_steps(u.codes);
        int low = p.plane[1][4 * block + s / 2] >> (s % 2 * 4) & 15;
        int high = *reinterpret_cast<const uint16_t *>(p.plane[2] + 2 * block) >> (2 * s) & 3;
        u.scale[0] = u.scale[1] =
            phi3_load_half(p.plane[3] + 2 * block) * (float)((low | high << 4) - 32);
        u.min[0] = u.min[1] = 0, u.zero = 0;
        return u;
    }
};

/* Calls X(dtype, format) for every quantised format. */
#define PHI3_FOR_EACH_FORMAT(X) \
    X(PHI3_Q4_0, phi3_q4_0)     \
    X(PHI3_Q4_1, phi3_q4_1)     \
    X(PHI3_Q5_0, phi3_q5_0)     \
    X(PHI3_Q5_1, phi3_q5_1)     \
    X(PHI3_Q8_0, phi3_q8_0)     \
    X(PHI3_IQ4_NL, phi3_iq4_nl) \
    X(PHI3_Q2_K, phi3_q2_k)     \
    X(PHI3_Q3_K, phi3_q3_k)     \
    X(PHI3_Q4_K, phi3_q4_k)     \
    X(PHI3_Q5_K, phi3_q5_k)     \
    X(PHI3_Q6_K, phi3_q6_k)     \
    X(PHI3_IQ4_XS, phi3_iq4_xs)

#endif
