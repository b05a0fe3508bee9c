/*
 * pieces.h - quantised weights as a lane reads them: 16 bytes of codes at a time.
 *
 * A piece is 16 bytes of a format's plane of codes, and what else its weights need: neighbouring
 * lanes read neighbouring pieces, so that a warp reads 512 bytes in one instruction. The codes are
 * those of one, two or four groups of 16 consecutive columns:
 *     weight of column c of group g = scale[g] * (code - ZERO) - min[g]
 * The formulas are those of kernels/blocks.h. A format is a struct with
 *     GROUPS       groups of a piece
 *     PIECES       pieces of a block
 *     SHARE        how many groups that follow each other are the columns of one scale
 *     ZERO, HAS_MIN
 *     stored       what a lane loads
 *     load         loads a piece: all that is read from device memory is read here
 *     column       the first column of a group, counted from the block's
 *     codes        columns 4 word..4 word + 3 of a group, as signed bytes
 *     scales       scale and min of every group
 */
#ifndef PHI3_CUDA_PIECES_H
#define PHI3_CUDA_PIECES_H

#include "device.h"
#include "planes.h"

enum { PHI3_GROUP = 16 };

/* ---- Reading ----------------------------------------------------------------------------------- */

typedef struct phi3_16_bytes {
    int words[4];
} phi3_16_bytes;

/* 16 bytes of a plane, at a multiple of 16. They are used once: nothing else leaves the L1 cache
 * for them. */
static __device__ __forceinline__ phi3_16_bytes phi3_load_once(const uint8_t *from)
{
    int4 loaded = phi3_load_past_l1(from);
    return {{loaded.x, loaded.y, loaded.z, loaded.w}};
}

/* Small fields, which lanes share: through the L1 cache. */
static __device__ __forceinline__ uint16_t phi3_load_u16(const uint8_t *from)
{
    return __ldg(reinterpret_cast<const unsigned short *>(from));
}

static __device__ __forceinline__ unsigned phi3_load_u32(const uint8_t *from)
{
    return __ldg(reinterpret_cast<const unsigned *>(from));
}

/* ---- Bits --------------------------------------------------------------------------------------- */

/* Bits `shift` and up of each byte, under the mask. */
static __device__ __forceinline__ int phi3_bits(int word, int shift, int mask)
{
    return (int)((unsigned)word >> shift) & mask;
}

/* Bit k of four to bit 4 of byte k. */
static __device__ __forceinline__ int phi3_spread_fifth_bits(unsigned four)
{
    return (int)((four * 0x00204081u & 0x01010101u) << 4); /* the products do not overlap */
}

/* Codes of four bits to the steps of IQ4. */
static __device__ __forceinline__ int phi3_iq4_steps(int codes)
{
    /* The steps as bytes: __byte_perm chooses by the low three bits, then bit 3 chooses the table:
     * -127 -104 -83 -65 -49 -35 -22 -10, and 1 13 25 38 53 69 89 113. */
    unsigned low = (unsigned)codes & 0x07070707u;
    low = (low | low >> 4) & 0x00ff00ffu;
    unsigned chosen = (low | low >> 8) & 0xffffu; /* four selectors of four bits */
    unsigned below = __byte_perm(0xbfad9881u, 0xf6eaddcfu, chosen);
    unsigned above = __byte_perm(0x26190d01u, 0x71594535u, chosen);
    unsigned is_above = ((unsigned)codes >> 3 & 0x01010101u) * 0xffu;
    return (int)((above & is_above) | (below & ~is_above));
}

static __device__ __forceinline__ float phi3_low_half(unsigned word)
{
    return phi3_half_to_float((uint16_t)word);
}

static __device__ __forceinline__ float phi3_high_half(unsigned word)
{
    return phi3_half_to_float((uint16_t)(word >> 16));
}

/* ---- Blocks of 32 ------------------------------------------------------------------------------- */

/* Two groups in a block, in the low and the high halves of 16 bytes; one scale. */
struct phi3_nibbles {
    enum { GROUPS = 2, PIECES = 1, SHARE = 2 };
    static __device__ __forceinline__ int column(int, int group)
    {
        return PHI3_GROUP * group;
    }
};

struct phi3_q4_0 : phi3_nibbles { /* planes: codes, d */
    enum { ZERO = 8, HAS_MIN = 0 };
    struct stored {
        phi3_16_bytes codes;
        uint16_t d;
    };
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int)
    {
        return {phi3_load_once(p.plane[0] + 16 * block), phi3_load_u16(p.plane[1] + 2 * block)};
    }
    static __device__ __forceinline__ int codes(const stored &s, int, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 4 * group, 0x0f0f0f0f);
    }
    static __device__ __forceinline__ void scales(const stored &s, int, float scale[2], float[2])
    {
        scale[0] = scale[1] = phi3_half_to_float(s.d);
    }
};

struct phi3_q4_1 : phi3_nibbles { /* codes, d, m */
    enum { ZERO = 0, HAS_MIN = 1 };
    struct stored {
        phi3_16_bytes codes;
        uint16_t d, m;
    };
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int)
    {
        return {phi3_load_once(p.plane[0] + 16 * block), phi3_load_u16(p.plane[1] + 2 * block),
                phi3_load_u16(p.plane[2] + 2 * block)};
    }
    static __device__ __forceinline__ int codes(const stored &s, int, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 4 * group, 0x0f0f0f0f);
    }
    static __device__ __forceinline__ void scales(const stored &s, int, float scale[2],
                                                  float min[2])
    {
        scale[0] = scale[1] = phi3_half_to_float(s.d);
        min[0] = min[1] = -phi3_half_to_float(s.m);
    }
};

struct phi3_q5_0 : phi3_nibbles { /* codes, d, high */
    enum { ZERO = 16, HAS_MIN = 0 };
    struct stored {
        phi3_16_bytes codes;
        unsigned high;
        uint16_t d;
    };
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int)
    {
        return {phi3_load_once(p.plane[0] + 16 * block), phi3_load_u32(p.plane[2] + 4 * block),
                phi3_load_u16(p.plane[1] + 2 * block)};
    }
    static __device__ __forceinline__ int codes(const stored &s, int, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 4 * group, 0x0f0f0f0f) |
               phi3_spread_fifth_bits(s.high >> (16 * group + 4 * word) & 15);
    }
    static __device__ __forceinline__ void scales(const stored &s, int, float scale[2], float[2])
    {
        scale[0] = scale[1] = phi3_half_to_float(s.d);
    }
};

struct phi3_q5_1 : phi3_nibbles { /* codes, d, m, high */
    enum { ZERO = 0, HAS_MIN = 1 };
    struct stored {
        phi3_16_bytes codes;
        unsigned high;
        uint16_t d, m;
    };
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int)
    {
        return {phi3_load_once(p.plane[0] + 16 * block), phi3_load_u32(p.plane[3] + 4 * block),
                phi3_load_u16(p.plane[1] + 2 * block), phi3_load_u16(p.plane[2] + 2 * block)};
    }
    static __device__ __forceinline__ int codes(const stored &s, int, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 4 * group, 0x0f0f0f0f) |
               phi3_spread_fifth_bits(s.high >> (16 * group + 4 * word) & 15);
    }
    static __device__ __forceinline__ void scales(const stored &s, int, float scale[2],
                                                  float min[2])
    {
        scale[0] = scale[1] = phi3_half_to_float(s.d);
        min[0] = min[1] = -phi3_half_to_float(s.m);
    }
};

struct phi3_q8_0 { /* codes, d */
    enum { GROUPS = 1, PIECES = 2, SHARE = 1, ZERO = 0, HAS_MIN = 0 };
    struct stored {
        phi3_16_bytes codes;
        uint16_t d;
    };
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int piece)
    {
        return {phi3_load_once(p.plane[0] + 32 * block + 16 * piece),
                phi3_load_u16(p.plane[1] + 2 * block)};
    }
    static __device__ __forceinline__ int column(int piece, int)
    {
        return PHI3_GROUP * piece;
    }
    static __device__ __forceinline__ int codes(const stored &s, int, int, int word)
    {
        return s.codes.words[word];
    }
    static __device__ __forceinline__ void scales(const stored &s, int, float scale[1], float[1])
    {
        scale[0] = phi3_half_to_float(s.d);
    }
};

struct phi3_iq4_nl : phi3_q4_0 { /* codes, d */
    enum { ZERO = 0 };
    static __device__ __forceinline__ int codes(const stored &s, int piece, int group, int word)
    {
        return phi3_iq4_steps(phi3_q4_0::codes(s, piece, group, word));
    }
};

/* ---- Blocks of 256 ------------------------------------------------------------------------------ */

/* Each run of 64 columns: 32 bytes, low halves, then high halves. Scales of 32 columns: a piece is
 * one half of two neighbours. */
struct phi3_q4_k { /* codes; d, dmin and scales */
    enum { GROUPS = 2, PIECES = 8, SHARE = 1, ZERO = 0, HAS_MIN = 1 };
    struct stored {
        phi3_16_bytes codes;
        phi3_16_bytes scales;
    };
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int piece)
    {
        return {phi3_load_once(p.plane[0] + 128 * block + 16 * piece),
                phi3_load_once(p.plane[1] + 16 * block)};
    }
    static __device__ __forceinline__ int column(int piece, int group)
    {
        return piece / 2 * 64 + group * 32 + piece % 2 * PHI3_GROUP;
    }
    static __device__ __forceinline__ int codes(const stored &s, int, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 4 * group, 0x0f0f0f0f);
    }
    /* Sub-blocks 2 j and 2 j + 1 of eight, j = piece / 2: see phi3_unpack_scales. */
    static __device__ __forceinline__ void unpack(const phi3_16_bytes &packed, int piece,
                                                  float scale[2], float min[2])
    {
        unsigned lows = (unsigned)packed.words[1], mins = (unsigned)packed.words[2];
        unsigned rest = (unsigned)packed.words[3];
        int shift = piece / 2 % 2 * 16;
        /* Of the last four, the low bits stand in the last word, the high bits above the first
         * four's six. No branch: lanes of a warp have all eight. */
        bool last = piece >= 4;
        unsigned mask = last ? 0x0f0f : 0x3f3f, above = last ? 0xc0c0 : 0;
        unsigned two_scales = /* in the low two bytes */
            ((last ? rest : lows) >> shift & mask) | (lows >> shift & above) >> 2;
        unsigned two_mins =
            ((last ? rest >> 4 : mins) >> shift & mask) | (mins >> shift & above) >> 2;
        float d = phi3_low_half((unsigned)packed.words[0]);
        float dmin = phi3_high_half((unsigned)packed.words[0]);
        scale[0] = d * (float)(two_scales & 63), scale[1] = d * (float)(two_scales >> 8);
        min[0] = dmin * (float)(two_mins & 63), min[1] = dmin * (float)(two_mins >> 8);
    }
    static __device__ __forceinline__ void scales(const stored &s, int piece, float scale[2],
                                                  float min[2])
    {
        unpack(s.scales, piece, scale, min);
    }
};

struct phi3_q5_k { /* codes; d, dmin and scales; high */
    enum { GROUPS = 2, PIECES = 8, SHARE = 1, ZERO = 0, HAS_MIN = 1 };
    struct stored {
        phi3_16_bytes codes;
        phi3_16_bytes high; /* bit k of byte j: the fifth bit of column 32 k + j */
        phi3_16_bytes scales;
    };
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int piece)
    {
        return {phi3_load_once(p.plane[0] + 128 * block + 16 * piece),
                phi3_load_once(p.plane[2] + 32 * block + piece % 2 * 16),
                phi3_load_once(p.plane[1] + 16 * block)};
    }
    static __device__ __forceinline__ int column(int piece, int group)
    {
        return phi3_q4_k::column(piece, group);
    }
    static __device__ __forceinline__ int codes(const stored &s, int piece, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 4 * group, 0x0f0f0f0f) |
               phi3_bits(s.high.words[word], piece / 2 * 2 + group, 0x01010101) << 4;
    }
    static __device__ __forceinline__ void scales(const stored &s, int piece, float scale[2],
                                                  float min[2])
    {
        phi3_q4_k::unpack(s.scales, piece, scale, min);
    }
};

/* Each run of 128 columns: 64 bytes, whose low halves are its first 64 columns. */
struct phi3_q6_k { /* codes, high, scales, d */
    enum { GROUPS = 2, PIECES = 8, SHARE = 1, ZERO = 32, HAS_MIN = 0 };
    struct stored {
        phi3_16_bytes codes;
        phi3_16_bytes high; /* each run: 32 bytes, bit pairs 0..3 for its quarters */
        int8_t scales[2];
        uint16_t d;
    };
    static __device__ __forceinline__ int column(int piece, int group)
    {
        return piece / 4 * 128 + group * 64 + piece % 4 * PHI3_GROUP;
    }
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int piece)
    {
        const signed char *scales = reinterpret_cast<const signed char *>(p.plane[2]) + 16 * block;
        return {phi3_load_once(p.plane[0] + 128 * block + 16 * piece),
                phi3_load_once(p.plane[1] + 64 * block + piece / 4 * 32 + piece % 2 * 16),
                {__ldg(scales + column(piece, 0) / PHI3_GROUP),
                 __ldg(scales + column(piece, 1) / PHI3_GROUP)},
                phi3_load_u16(p.plane[3] + 2 * block)};
    }
    static __device__ __forceinline__ int codes(const stored &s, int piece, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 4 * group, 0x0f0f0f0f) |
               phi3_bits(s.high.words[word], piece % 4 / 2 * 2 + 4 * group, 0x03030303) << 4;
    }
    static __device__ __forceinline__ void scales(const stored &s, int, float scale[2], float[2])
    {
        float d = phi3_half_to_float(s.d);
        scale[0] = d * (float)s.scales[0], scale[1] = d * (float)s.scales[1];
    }
};

/* Each run of 128 columns: 32 bytes, bit pairs 0..3 for its quarters. Scales of 16 columns. */
struct phi3_q2_k { /* codes, scales, d and dmin */
    enum { GROUPS = 4, PIECES = 4, SHARE = 1, ZERO = 0, HAS_MIN = 1 };
    struct stored {
        phi3_16_bytes codes;
        unsigned scales[2]; /* those of the run: of the groups of this piece, every second byte */
        unsigned d;
    };
    static __device__ __forceinline__ int column(int piece, int group)
    {
        return piece / 2 * 128 + group * 32 + piece % 2 * PHI3_GROUP;
    }
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int piece)
    {
        const uint8_t *scales = p.plane[1] + 16 * block + piece / 2 * 8;
        return {phi3_load_once(p.plane[0] + 64 * block + 16 * piece),
                {phi3_load_u32(scales), phi3_load_u32(scales + 4)},
                phi3_load_u32(p.plane[2] + 4 * block)};
    }
    static __device__ __forceinline__ int codes(const stored &s, int, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 2 * group, 0x03030303);
    }
    static __device__ __forceinline__ void scales(const stored &s, int piece, float scale[4],
                                                  float min[4])
    {
        float d = phi3_low_half(s.d), dmin = phi3_high_half(s.d);
        PHI3_UNROLL
        for (int g = 0; g < GROUPS; g++) {
            unsigned packed = s.scales[g / 2] >> (g % 2 * 16 + piece % 2 * 8);
            scale[g] = d * (float)(packed & 15);
            min[g] = dmin * (float)(packed >> 4 & 15);
        }
    }
};

struct phi3_q3_k { /* codes, high, scales, d */
    enum { GROUPS = 4, PIECES = 4, SHARE = 1, ZERO = 4, HAS_MIN = 0 };
    struct stored {
        phi3_16_bytes codes;
        phi3_16_bytes high; /* bit k of byte j: the third bit of column 32 k + j */
        unsigned scales[3]; /* low 4 bits of 16, then their high 2 bits */
        uint16_t d;
    };
    static __device__ __forceinline__ int column(int piece, int group)
    {
        return phi3_q2_k::column(piece, group);
    }
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int piece)
    {
        const uint8_t *scales = p.plane[2] + 12 * block;
        return {phi3_load_once(p.plane[0] + 64 * block + 16 * piece),
                phi3_load_once(p.plane[1] + 32 * block + piece % 2 * 16),
                {phi3_load_u32(scales), phi3_load_u32(scales + 4), phi3_load_u32(scales + 8)},
                phi3_load_u16(p.plane[3] + 2 * block)};
    }
    static __device__ __forceinline__ int codes(const stored &s, int piece, int group, int word)
    {
        return phi3_bits(s.codes.words[word], 2 * group, 0x03030303) |
               phi3_bits(s.high.words[word], piece / 2 * 4 + group, 0x01010101) << 2;
    }
    /* Scale 8 run + 2 g + half: its low bits are in byte 2 g + half, its high bits in byte
     * 2 (g % 2) + half of the last word. */
    static __device__ __forceinline__ void scales(const stored &s, int piece, float scale[4],
                                                  float[4])
    {
        int run = piece / 2, half = piece % 2;
        float d = phi3_half_to_float(s.d);
        PHI3_UNROLL
        for (int g = 0; g < GROUPS; g++) {
            int byte = g % 2 * 16 + half * 8;
            unsigned low = s.scales[g / 2] >> (byte + 4 * run) & 15;
            unsigned high = s.scales[2] >> (byte + 4 * run + g / 2 * 2) & 3;
            scale[g] = d * (float)((int)(low | high << 4) - 32);
        }
    }
};

struct phi3_iq4_xs { /* codes, low scales, high scales, d */
    enum { GROUPS = 2, PIECES = 8, SHARE = 2, ZERO = 0, HAS_MIN = 0 };
    struct stored {
        phi3_16_bytes codes;
        unsigned low;
        uint16_t high, d;
    };
    static __device__ __forceinline__ int column(int piece, int group)
    {
        return 32 * piece + PHI3_GROUP * group;
    }
    static __device__ __forceinline__ stored load(const phi3_planes &p, size_t block, int piece)
    {
        return {phi3_load_once(p.plane[0] + 128 * block + 16 * piece),
                phi3_load_u32(p.plane[1] + 4 * block), phi3_load_u16(p.plane[2] + 2 * block),
                phi3_load_u16(p.plane[3] + 2 * block)};
    }
    static __device__ __forceinline__ int codes(const stored &s, int, int group, int word)
    {
        return phi3_iq4_steps(phi3_bits(s.codes.words[word], 4 * group, 0x0f0f0f0f));
    }
    static __device__ __forceinline__ void scales(const stored &s, int piece, float scale[2],
                                                  float[2])
    {
        unsigned low = s.low >> (4 * piece) & 15, high = (unsigned)s.high >> (2 * piece) & 3;
        scale[0] = scale[1] = phi3_half_to_float(s.d) * (float)((int)(low | high << 4) - 32);
    }
};

/* ---- What all formats have ------------------------------------------------------------------------ */

template <typename Format> struct phi3_block_of {
    enum { COLUMNS = Format::PIECES * Format::GROUPS * PHI3_GROUP };
};

/* Four weights, rounded as the CPU rounds them: not contracted to fused multiply-adds. */
template <typename Format>
static __device__ __forceinline__ float4 phi3_expand_word(const typename Format::stored &s,
                                                          int piece, int group, int word)
{
    float scale[Format::GROUPS], min[Format::GROUPS], weights[4];
    Format::scales(s, piece, scale, min);
    int codes = Format::codes(s, piece, group, word);
    PHI3_UNROLL
    for (int k = 0; k < 4; k++) {
        weights[k] = __fmul_rn(scale[group], (float)((int8_t)(codes >> (8 * k)) - Format::ZERO));
        if (Format::HAS_MIN)
            weights[k] = __fsub_rn(weights[k], min[group]);
    }
    return {weights[0], weights[1], weights[2], weights[3]};
}

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
