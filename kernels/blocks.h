/*
 * blocks.h - the layouts of GGUF's quantised blocks.
 *
 * All members are bytes, so that a block may stand at any address and has no padding. `d`, `m` and
 * `dmin` are float16, little-endian. In a formula below u is the unsigned code of an element.
 *
 * Blocks of 32 put the codes of elements j and j + 16 into the low and the high half of codes[j].
 * Blocks of 256 ("K") have sub-blocks with scales of their own.
 */
#ifndef PHI3_BLOCKS_H
#define PHI3_BLOCKS_H

#include <stdint.h>

enum { PHI3_BLOCK = 32, PHI3_SUPER_BLOCK = 256 };

typedef struct phi3_block_q4_0 { /* d (u - 8) */
    uint8_t d[2];
    uint8_t codes[16];
} phi3_block_q4_0;

typedef struct phi3_block_q4_1 { /* d u + m */
    uint8_t d[2];
    uint8_t m[2];
    uint8_t codes[16];
} phi3_block_q4_1;

typedef struct phi3_block_q5_0 { /* d (u - 16); bit j of high is the fifth bit of element j */
    uint8_t d[2];
    uint8_t high[4];
    uint8_t codes[16];
} phi3_block_q5_0;

typedef struct phi3_block_q5_1 { /* d u + m */
    uint8_t d[2];
    uint8_t m[2];
    uint8_t high[4];
    uint8_t codes[16];
} phi3_block_q5_1;

typedef struct phi3_block_q8_0 { /* d q, q signed */
    uint8_t d[2];
    int8_t codes[32];
} phi3_block_q8_0;

typedef struct phi3_block_q2_k { /* d scale u - dmin min, per 16 elements */
    uint8_t scales[16];          /* scale in the low half, min in the high half */
    uint8_t codes[64];           /* each run of 128: 32 bytes, bit pairs 0..3 for its quarters */
    uint8_t d[2];
    uint8_t dmin[2];
} phi3_block_q2_k;

typedef struct phi3_block_q3_k { /* d (scale - 32) (u - 4), per 16 elements */
    uint8_t high[32];            /* bit k of high[j]: the third bit of element 32 k + j */
    uint8_t codes[64];           /* as in q2_k */
    uint8_t scales[12];          /* low 4 bits of 16 scales, then their high 2 bits */
    uint8_t d[2];
} phi3_block_q3_k;

typedef struct phi3_block_q4_k { /* d scale u - dmin min, per 32 elements */
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12]; /* 8 scales and 8 mins of 6 bits */
    uint8_t codes[128]; /* each run of 64: 32 bytes, low halves then high halves */
} phi3_block_q4_k;

typedef struct phi3_block_q5_k { /* as q4_k */
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t high[32]; /* bit k of high[j]: the fifth bit of element 32 k + j */
    uint8_t codes[128];
} phi3_block_q5_k;

typedef struct phi3_block_q6_k { /* d scale (u - 32), per 16 elements */
    uint8_t codes[128]; /* each run of 128: 64 bytes, low halves for its first 64 elements */
    uint8_t high[64];   /* each run of 128: 32 bytes, bit pairs 0..3 for its quarters */
    int8_t scales[16];
    uint8_t d[2];
} phi3_block_q6_k;

typedef struct phi3_block_iq4_nl { /* d values[u] */
    uint8_t d[2];
    uint8_t codes[16];
} phi3_block_iq4_nl;

typedef struct phi3_block_iq4_xs { /* d (scale - 32) values[u], per 32 elements */
    uint8_t d[2];
    uint8_t scales_high[2]; /* bits 4..5 of the 8 scales */
    uint8_t scales_low[4];  /* bits 0..3 */
    uint8_t codes[128];     /* 8 runs of 16 bytes */
} phi3_block_iq4_xs;

/* The non-linear steps of the IQ4 formats. */
extern const int8_t phi3_iq4_values[16];

/* Unpacks the 6-bit scales and mins of q4_k and q5_k. */
static inline void phi3_unpack_scales(const uint8_t packed[12], uint8_t scales[8], uint8_t mins[8])
{
    for (int j = 0; j < 4; j++) {
        scales[j] = packed[j] & 63;
        mins[j] = packed[j + 4] & 63;
        scales[j + 4] = (packed[j + 8] & 15) | (packed[j] >> 6) << 4;
        mins[j + 4] = packed[j + 8] >> 4 | (packed[j + 4] >> 6) << 4;
    }
}

#endif
